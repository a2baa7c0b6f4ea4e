"""One sync stream, from Hello to its end: carries out what the machine of `sync` asks for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.errors import DiskFull, EdgeError, StoreError, TrustError, UnreachableError
from edge_sdk.sync.actions import (
    Action,
    ApplyGenomes,
    HeardTime,
    Held,
    InstallRelease,
    Leave,
    RememberVersion,
    Send,
    StagePart,
)
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.pace import Silence
from edge_sdk.sync.transport import Link, SyncCall
from edge_sdk.sync.trust import Refusal
from genome_edge.v1 import sync_pb2

if TYPE_CHECKING:
    from edge_sdk.config import Config
    from edge_sdk.outbox.queue import Outbox
    from edge_sdk.store.device import DeviceStore

# How soon after Hello the device says how it is, so that a person who looks sees it.
_FIRST_HEARTBEAT_S = 1.0
# A stream that we leave gets this long to take our last message.
_FAREWELL_S = 2.0
# Who syncs once takes silence of this length, outside a transaction, for the end of the news.
_QUIET_S = 3.0


@dataclass(frozen=True)
class Events:
    """Whom to tell. All are called from the thread that runs the session; none may block.

    `committed` gets what is still refused (empty: nothing), `nacked` what was refused now.
    """

    connected: Callable[[], None]
    committed: Callable[[str], None]
    heard: Callable[[int], None]
    nacked: Callable[[str], None]
    verified: Callable[[int, bytes], None]
    diverged: Callable[[], None]


class SyncSession:
    """One stream. `run` it in one thread; `cancel` it from any."""

    def __init__(
        self,
        link: Link,
        held: Held,
        store: DeviceStore,
        outbox: Outbox,
        config: Config,
        events: Events,
    ) -> None:
        self._link = link
        self._store = store
        self._outbox = outbox
        self._config = config
        self._events = events
        self._machine = SyncMachine(held)
        self._outgoing: queue.SimpleQueue[sync_pb2.SyncRequest | None] = queue.SimpleQueue()
        self._silence = Silence(config.stream_silence_s, time.monotonic())
        self._busy = False
        self._silent = False
        self._once = False
        self._leaving: Leave | None = None
        self._cancelled = threading.Event()
        self._call: SyncCall | None = None

    def cancel(self) -> None:
        """End the stream; `run` raises UnreachableError or returns."""
        self._cancelled.set()
        call = self._call
        if call is not None:
            call.cancel()

    def run(self, once: bool = False) -> float:
        """Open the stream and follow it to its end.

        With `once` the session ends when the server has nothing more to send for now. Returns the
        seconds that the server asks the device to stay away. Raises RefusedError,
        UnreachableError, and StoreError where the store cannot be read.
        """
        self._once = once
        self._call = call = self._link.open_sync(self._requests())
        if self._cancelled.is_set():
            call.cancel()
        try:
            self._follow(call)
        except UnreachableError as error:
            if self._silent:
                raise UnreachableError(
                    f"{self._link.address.text} said nothing for "
                    f"{self._config.stream_silence_s:g} s"
                ) from error
            if self._leaving is None:
                raise
        finally:
            self._outgoing.put(None)
            call.cancel()
        return self._leaving.retry_after_s if self._leaving is not None else 0.0

    def _follow(self, call: SyncCall) -> None:
        connected = False
        for message in call:
            self._busy = True
            if not connected:
                connected = True
                self._events.connected()
            if self._leaving is None:
                actions = self._machine.receive(message, self._link.clock.now_ms())
                self._perform(actions)
            self._silence.heard(time.monotonic())
            self._busy = False

    def _leave(self, leave: Leave) -> None:
        """Half-close, so that the last answer arrives; the server ends the stream, or we do."""
        self._leaving = leave
        self._outgoing.put(None)
        timer = threading.Timer(_FAREWELL_S, self.cancel)
        timer.daemon = True
        timer.start()

    def _requests(self) -> Iterator[sync_pb2.SyncRequest]:
        """What the device says: runs in gRPC's thread, and keeps time for the stream."""
        yield self._machine.hello()
        beat_at = time.monotonic() + min(_FIRST_HEARTBEAT_S, self._config.heartbeat_s)
        while True:
            try:
                message = self._outgoing.get(timeout=max(0.0, beat_at - time.monotonic()))
            except queue.Empty:
                if self._is_over():
                    return
                yield self._heartbeat()
                beat_at = time.monotonic() + (
                    _FIRST_HEARTBEAT_S if self._once else self._config.heartbeat_s
                )
                continue
            if message is None:
                return
            yield message

    def _is_over(self) -> bool:
        """Whether nothing was heard for so long that the stream is dead, or the news at an end."""
        now = time.monotonic()
        if self._busy:
            return False
        if self._silence.too_long(now):
            self._silent = True
            self.cancel()
            return True
        if self._once and self._machine.at_rest and self._silence.lasts(now) > _QUIET_S:
            self._leave(Leave(0.0))
            return True
        return False

    def _heartbeat(self) -> sync_pb2.SyncRequest:
        try:
            facts = self._store.facts()
            active = self._store.active_release()
            unsent = self._outbox.unsent()
        except EdgeError:
            return sync_pb2.SyncRequest(heartbeat=sync_pb2.DeviceHeartbeat(tier="error"))
        return sync_pb2.SyncRequest(
            heartbeat=sync_pb2.DeviceHeartbeat(
                active_release=active.version if active else 0,
                tier=facts.tier,
                outbox_events=unsent,
                last_nack=self._machine.last_nack,
                reasons=facts.reasons,
            )
        )

    def _perform(self, actions: Sequence[Action]) -> None:
        """Carry actions out, and what follows from them."""
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            match action:
                case Send(message):
                    self._outgoing.put(message)
                    if message.HasField("nack"):
                        self._events.nacked(self._machine.last_nack)
                case Leave():
                    self._leave(action)
                case HeardTime(server_time_ms, idle):
                    self._events.heard(server_time_ms)
                    if idle and self._once:
                        self._leave(Leave(0.0))
                case RememberVersion(version, digest):
                    self._events.verified(version, digest)
                case StagePart() | InstallRelease() | ApplyGenomes():
                    follow_ups = self._attempt(action)
                    if follow_ups and isinstance(action, StagePart):
                        todo.clear()  # the transaction is over
                    todo.extend(follow_ups)

    def _attempt(self, action: StagePart | InstallRelease | ApplyGenomes) -> list[Action]:
        """Do what can fail, and tell the machine how it went."""
        try:
            if isinstance(action, StagePart):
                self._store.stage_part(action.part.sha256, action.content)
                return []
            if isinstance(action, InstallRelease):
                self._install(action)
            else:
                self._apply(action)
        except TrustError as error:
            return self._machine.settle(action.nonce, error.reason, str(error))
        except DiskFull as error:
            return self._machine.settle(action.nonce, Refusal.DISK_FULL, str(error))
        except StoreError as error:
            return self._machine.settle(action.nonce, Refusal.STORE, str(error))
        except (EdgeError, ValueError) as error:
            return self._machine.settle(action.nonce, Refusal.ROWS, str(error))
        answer = self._machine.settle(action.nonce)
        self._events.committed(self._machine.last_nack)
        return answer

    def _install(self, action: InstallRelease) -> None:
        from edge_sdk.sync.installing import install

        install(self._store, action.signed, action.manifest)

    def _apply(self, action: ApplyGenomes) -> None:
        held = self._store.commit_genomes(
            full=action.full,
            lineage=action.lineage,
            blocks=action.blocks,
            deletes=action.deletes,
            lookup_key=action.lookup_key,
            lookups=action.lookups,
            cursor=action.cursor,
            included=action.included,
        )
        # Rows went missing somewhere: only all of them anew can put that right.
        if held != action.total_rows and not action.full:
            self._events.diverged()
            raise TrustError(
                f"{held} rows are held after this; the server counts {action.total_rows}",
                Refusal.ROWS,
            )
