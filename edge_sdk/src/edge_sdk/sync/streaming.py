"""One sync stream, from Hello to its end: carries out what the machine of `sync` asks for.

A release is tried beside the stream, in a thread of its own: a model that hangs takes its time, and
stops go on coming meanwhile. Whoever works with the machine holds `_turn`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from edge_sdk.errors import DiskFull, EdgeError, StoreError, TrustError, UnreachableError
from edge_sdk.slices import in_slices
from edge_sdk.sync import actions
from edge_sdk.sync.actions import (
    Action,
    ApplyGenomes,
    HeardLog,
    HeardTime,
    Held,
    InstallRelease,
    Leave,
    PutTrust,
    RememberVersion,
    Send,
)
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.pace import Silence
from edge_sdk.sync.pulse import FIRST_S, Due, Pulse
from edge_sdk.sync.transport import Link, SyncCall
from edge_sdk.sync.trust import Refusal
from genome_edge.v1 import sync_pb2

if TYPE_CHECKING:
    from edge_sdk.config import Config
    from edge_sdk.store.device import DeviceStore

# A stream that we leave gets this long to take our last message, while it says no more than this.
_FAREWELL_S = 2.0
_FAREWELL_BYTES = 32 << 20
# Other processes are told this often that assets have arrived while more are on their way.
_TELL_S = 1.0
# Who syncs once takes silence of this length, outside a transaction, for the end of the news.
_QUIET_S = 3.0


@dataclass(frozen=True)
class Events:
    """Whom to tell. All are called from the thread that runs the session; none may block.

    `refused` gets what is refused (empty: nothing), `heard` the server's time where it is to be
    believed, `log` the incarnation of its log; `now_ms` says what time it is.
    """

    connected: Callable[[], None]
    committed: Callable[[], None]
    refused: Callable[[str], None]
    now_ms: Callable[[], int]
    heard: Callable[[int], None]
    log: Callable[[bytes], None]
    verified: Callable[[int, bytes], None]
    diverged: Callable[[], None]
    changed: Callable[[], None]


class _Went(NamedTuple):
    """How what can fail went; without a refusal the transaction is complete."""

    refusal: str = ""
    detail: str = ""
    stay: bool = False


class SyncSession:
    """One stream. `run` it in one thread; `cancel` it from any."""

    def __init__(
        self,
        link: Link,
        held: Held,
        store: DeviceStore,
        pulse: Pulse,
        config: Config,
        events: Events,
    ) -> None:
        self._link = link
        self._store = store
        self._pulse = pulse
        self._config = config
        self._events = events
        self._machine = SyncMachine(held)
        self._active = held.active.version if held.active is not None else 0
        # What is to be said; "news": how this device is; None: nothing more.
        self._outgoing: queue.SimpleQueue[sync_pb2.SyncRequest | str | None] = queue.SimpleQueue()
        self._untold = 0.0
        # What was refused for want of room.
        self._short: actions.MakeRoom | None = None
        #: Whether the stream was left only to say anew what is held.
        self.unfinished = False
        self._silence = Silence(config.stream_silence_s, time.monotonic())
        self._busy = False
        self._silent = False
        self._once = False
        self._leaving: Leave | None = None
        self._turn = threading.RLock()
        self._trial: threading.Thread | None = None
        self._broken: Exception | None = None
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
            if self._trial is not None:  # the next stream says what came of it
                self._trial.join()
            if self._broken is not None:
                raise self._broken
        return self._leaving.retry_after_s if self._leaving is not None else 0.0

    def _follow(self, call: SyncCall) -> None:
        connected, unheard = False, 0
        for message in call:
            self._busy = True
            if not connected:
                connected = True
                self._events.connected()
            if self._leaving is None:
                with self._turn:
                    self._perform(self._machine.receive(message, self._events.now_ms()))
            else:
                unheard += message.ByteSize()
                if unheard > _FAREWELL_BYTES:
                    return
            self._silence.heard(time.monotonic())
            self._busy = False

    def _leave(self, leave: Leave) -> None:
        """Half-close, so that the last answer arrives; the server ends the stream, or we do."""
        self._leaving = leave
        if self._once:
            self._outgoing.put("last")
        self._outgoing.put(None)
        timer = threading.Timer(_FAREWELL_S, self.cancel)
        timer.daemon = True
        timer.start()

    def _requests(self) -> Iterator[sync_pb2.SyncRequest]:
        """What the device says: runs in gRPC's thread, and keeps time for the stream."""
        yield self._machine.hello()
        due = Due(time.monotonic(), FIRST_S if self._once else self._config.heartbeat_s)
        while True:
            message: sync_pb2.SyncRequest | str | None = ""
            with contextlib.suppress(queue.Empty):
                message = self._outgoing.get(timeout=due.wait(time.monotonic()))
            if message is None:
                return
            if isinstance(message, sync_pb2.SyncRequest):
                yield message
                continue
            if message == "last":  # what it holds now: people look for it on the server
                beat = self._pulse.heartbeat(self._machine)
                beat.outbox_age_ms = 0  # what waits is sent right after this
                yield sync_pb2.SyncRequest(heartbeat=beat)
                continue
            if self._is_over():
                return
            if message or self._pulse.look():
                due.hurry()
            if due.beat(time.monotonic()):
                beat = self._pulse.heartbeat(self._machine)
                yield sync_pb2.SyncRequest(heartbeat=beat)
                self._notice(beat.active_release)

    def _notice(self, active: int) -> None:
        """Where another process went back to an earlier release, or there is room now for what was
        refused, everything is said anew."""
        if not self._machine.at_rest or self._busy:
            return
        if active < self._active or (self._short is not None and self._fits(self._short)):
            self._leave(Leave(0.0))

    def _fits(self, refused: actions.MakeRoom) -> bool:
        try:
            self._store.make_room(refused.wanted, refused.size)
        except StoreError:
            return False
        return True

    def _is_over(self) -> bool:
        """Whether nothing was heard for so long that the stream is dead, or the news at an end."""
        now = time.monotonic()
        if self._busy or (self._trial is not None and self._trial.is_alive()):
            return False
        if self._silence.too_long(now):
            self._silent = True
            self.cancel()
            return True
        if self._once and self._machine.at_rest and self._silence.lasts(now) > _QUIET_S:
            self._leave(Leave(0.0))
        return False

    def _perform(self, actions: Sequence[Action]) -> None:
        """Carry actions out, and what follows from them."""
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            match action:
                case Send(message):
                    self._outgoing.put(message)
                    if message.HasField("nack"):
                        self._events.refused(self._machine.last_nack)
                        self._outgoing.put("news")
                case Leave(retry_after_s):
                    self.unfinished = not retry_after_s
                    self._leave(action)
                case HeardTime(server_time_ms, idle):
                    self._events.heard(server_time_ms)
                    if idle:  # all of it was offered on this stream
                        self._events.refused(self._machine.last_nack)
                    if idle and self._once:
                        self._leave(Leave(0.0))
                case HeardLog(incarnation):
                    self._events.log(incarnation)
                case PutTrust(root, timestamp, stop_list):
                    self._store.put_trust(root, timestamp, stop_list)
                    self._outgoing.put("news")
                    self._events.changed()
                case RememberVersion(version, digest):
                    self._events.verified(version, digest)
                case InstallRelease():  # the last of its transaction
                    self._trial = threading.Thread(
                        target=self._try, args=(action,), name="genome-edge-trial", daemon=True
                    )
                    self._trial.start()
                case _:
                    follow_ups = self._settle(action, self._attempt(action))
                    if follow_ups and not self._machine.is_open:
                        todo.clear()  # the transaction is over
                    todo.extend(follow_ups)

    def _try(self, action: actions.Attempt) -> None:
        """Do what may take long, beside the stream."""
        try:
            with in_slices():
                went = self._attempt(action)
            with self._turn:
                self._perform(self._settle(action, went))
                self._silence.heard(time.monotonic())
        except Exception as error:  # noqa: BLE001  raised where the stream is followed
            self._broken = error
            self.cancel()

    def _attempt(self, action: actions.Attempt) -> _Went | None:
        """Do what can fail; None: there is more to do."""
        try:
            return _Went() if self._do(action) else None
        except TrustError as error:
            return _Went(error.reason, str(error))
        except DiskFull as error:
            # What cannot fit must not keep this device from what needs no room, like a stop.
            self._short = action if isinstance(action, actions.MakeRoom) else None
            return _Went(Refusal.DISK_FULL, str(error), self._short is not None)
        except StoreError as error:
            return _Went(Refusal.STORE, str(error))
        except (EdgeError, ValueError) as error:
            return _Went(Refusal.ROWS, str(error))

    def _settle(self, action: actions.Attempt, went: _Went | None) -> list[Action]:
        """Tell the machine how it went; what follows."""
        if went is None:
            return []
        if went.refusal:
            return self._machine.settle(action.nonce, went.refusal, went.detail, stay=went.stay)
        answer = self._machine.settle(action.nonce)
        self._events.refused(self._machine.last_nack)
        self._events.committed()
        self._outgoing.put("news")
        return answer

    def _do(self, action: actions.Attempt) -> bool:
        """Whether the transaction is complete now."""
        store = self._store
        match action:
            case actions.MakeRoom(_, wanted, size):
                store.make_room(wanted, size)
            case actions.StagePart(_, part, content):
                store.stage_part(part.sha256, content)
                self._tell(part.asset)
            case actions.AppendBytes(_, sha256, offset, data):
                store.append_partial(sha256, offset, data)
            case actions.FinishPart(_, part):
                try:
                    store.finish_partial(part.sha256, part=True)
                except ValueError as error:
                    raise TrustError(f"part {part.name!r}: {error}", Refusal.DIGEST) from error
                self._tell(part.asset)
            case actions.InstallRelease(_, signed, manifest):
                from edge_sdk.sync.installing import install

                install(store, signed, manifest)
                # Not what is active by now: it may have failed already.
                self._active = manifest.version
                return True
            case actions.AssetsArrived():
                store.assets_arrived()
                return True
            case ApplyGenomes():
                self._apply(action)
                return True
        return False

    def _tell(self, asset: bool) -> None:
        """Offers that wait for an asset need not wait for all of them."""
        if asset and time.monotonic() > self._untold + _TELL_S:
            self._untold = time.monotonic()
            self._store.assets_arrived()
            self._events.changed()

    def _apply(self, action: ApplyGenomes) -> None:
        try:
            self._store.commit_genomes(
                full=action.full,
                lineage=action.lineage,
                content=action.content,
                blocks=action.blocks,
                patches=action.patches,
                deletes=action.deletes,
                lookup_key=action.lookup_key,
                lookups=action.lookups,
                cursor=action.cursor,
                included=action.included,
                total_rows=action.total_rows,
                row_sum=action.row_sum,
                counted=action.counted,
            )
        except TrustError:
            # Rows went astray somewhere: only all of them anew can put that right.
            self._events.diverged()
            raise
