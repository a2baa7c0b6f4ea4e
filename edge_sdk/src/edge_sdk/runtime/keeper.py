"""The thread behind a client: opens the store, loads what is in it, and keeps both current.

Theory of operation. Opening a client starts this thread and returns. The thread opens the store,
takes over the last good release (or the app's bundle), warms the model, and then looks several
times a second whether any process has changed the store. Now and then it tries to become the
process that syncs.

The deciding threads read the `Room` and never wait for this thread: what happens before the store
is open is kept in memory and written when it is. A store that cannot be used is tried again and
again; until then the client decides from the bundle, if there is one, and what must be durable is
refused.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sdk.condition import warnings_of
from edge_sdk.config import Config
from edge_sdk.decision import Unknown
from edge_sdk.errors import (
    EdgeError,
    FormatError,
    StoreCorrupt,
    StoreError,
    TrustError,
    UsageError,
)
from edge_sdk.outbox.entries import LOST, Entry
from edge_sdk.runtime import loading
from edge_sdk.runtime.room import Room
from edge_sdk.store.device import DeviceFacts, DeviceStore
from edge_sdk.store.open_store import OpenStore
from edge_sdk.values import dataclass

if TYPE_CHECKING:
    from edge_sdk.outbox.writer import Writer

log = logging.getLogger("edge_sdk")

_REOPEN_S: Final = 5.0
# How long the first decision has the processor for itself.
_AFTER_READY_S: Final = 0.02
_HOUSEKEEPING_S: Final = 60.0
_NAMES: Final = 1_000


@dataclass(frozen=True)
class Origin:
    """Where a client's data come from."""

    path: Path
    server: str | None = None
    bundle: Path | bytes | None = field(default=None, repr=False)


class Keeper:
    """Keeps one client's room. `start` it once; `close` it, or `abandon` it in a forked child."""

    def __init__(self, origin: Origin, room: Room, config: Config) -> None:
        self._origin = origin
        self._room = room
        self._config = config
        #: None until the store is open, and where it cannot be.
        self.open: OpenStore | None = None
        self.trouble: EdgeError | None = None
        self.bundle_trouble: EdgeError | None = None
        self._not_enrolled: EdgeError | None = None
        self._syncs = False
        self.ready = threading.Event()
        #: Nothing will bring a release: the bundle is of no use and there is no server to ask.
        self.hopeless = False
        #: Held while libraries are loaded or the store is opened; a fork waits for it.
        self.gate = threading.Lock()
        self._tried = threading.Event()
        self._early: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        # Who takes events; None until those that came before were handed over, in their order.
        self._writer: Writer | None = None
        self._handing = threading.Lock()
        self._missed = itertools.count()  # each value is taken once, whatever the thread
        self._unknown: queue.SimpleQueue[Unknown] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.callbacks: dict[object, Callable[[], None]] = {}
        self._bundle = origin.bundle
        self._next_open = self._next_house = self._next_election = 0.0
        self._thread = threading.Thread(target=self._run, name="genome-edge-keeper", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    # From the app's threads ---------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Take an event. Never blocks, never fails."""
        writer = self._writer
        if writer is not None:
            writer.put(entry)
        elif self._early.qsize() < self._config.inbox_max_events // 2:
            self._early.put(entry)
        else:
            next(self._missed)
            if entry.settled is not None:
                entry.settled(LOST)

    def put_durably(self, entry: Entry, timeout: float) -> str:
        """Take an event and wait until it is on disk. Raises StoreError."""
        began = time.monotonic()
        open_ = self.when_open(timeout)
        return open_.writer.put_durably(entry, max(0.1, timeout - (time.monotonic() - began)))

    def when_open(self, timeout: float) -> OpenStore:
        """The open store; waits for it where the client was opened just now. Raises StoreError."""
        if not self._closing.is_set():
            self._tried.wait(timeout)
        open_ = self.open
        if open_ is None:
            trouble = self.trouble
            if isinstance(trouble, StoreError):
                raise trouble
            raise StoreError(f"the store {self._origin.path} is not open: {trouble}")
        self._drain(open_, begin=True)  # who flushes now means what came before, too
        return open_

    def tell(self, unknown: Unknown) -> None:
        """Say in the log that a name is not known. Never blocks."""
        if self._unknown.qsize() < _NAMES:
            self._unknown.put(unknown)

    def poke(self) -> None:
        """Look at the store now. Never blocks."""
        self._wake.set()

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after the release or the genomes have changed; returns what ends it."""
        key = object()
        self.callbacks[key] = callback

        def unsubscribe() -> None:
            self.callbacks.pop(key, None)

        return unsubscribe

    def early(self) -> int:
        """How many events came before the store was open and wait for it."""
        return self._early.qsize()

    def waiting(self) -> int:
        """How many events are in memory only."""
        open_ = self.open
        writer = open_.begun if open_ is not None else None
        return self.early() + (writer.waiting() if writer is not None else 0)

    @property
    def wrong(self) -> EdgeError | None:
        """What keeps this device from what it has; None: nothing."""
        open_ = self.open
        if self.trouble is not None or open_ is None:
            return self.trouble or self.bundle_trouble
        writing = open_.begun.trouble if open_.begun is not None else None
        return writing or open_.cause or open_.store.incident or self.bundle_trouble

    @property
    def cause(self) -> EdgeError | None:
        """What is wrong here, else with the server; None: nothing."""
        wrong, open_ = self.wrong, self.open
        if wrong is not None or open_ is None:
            return wrong
        if open_.updater is None:
            return self._not_enrolled
        state = open_.updater.state
        if state.cause is None and state.last_nack:
            reason, _, detail = state.last_nack.partition(": ")
            return TrustError(detail, reason)
        return state.cause

    def warnings(self, now_ms: int) -> tuple[str, ...]:
        """What will go wrong where nothing is done."""
        room, live, open_ = self._room, self._room.live, self.open
        standing = open_.standing if open_ is not None else None
        root = standing.root if standing is not None else None
        return warnings_of(
            now_ms,
            fresh=live.fresh_span,
            root=(root.created_ms, root.expires_ms) if root is not None else None,
            heard_ms=room.contact_ms or None,
            off_ms=room.clock.off_ms(),
        )

    def close(self, timeout: float) -> bool:
        """Write what there is and stop; whether everything was written in time."""
        self._closing.set()
        self._wake.set()
        deadline = time.monotonic() + timeout
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._tell()
        open_, self.open = self.open, None
        if open_ is None:
            return self._early.empty()
        try:
            self._drain(open_)
        except StoreError as error:  # no writer can begin: the store is closed all the same
            self.note(error)
        self._writer = None
        written = open_.close(max(0.1, deadline - time.monotonic()))
        return written and self._early.empty()

    def abandon(self) -> list[object]:
        """In a forked child: give up what is the parent's. What is returned must live for ever."""
        open_, self.open = self.open, None
        self._writer = None
        self._closing.set()
        if open_ is not None:
            open_.abandon()
        return [self, open_]

    # The thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            was_ready = self.ready.is_set()
            try:
                with self.gate:
                    changed = self._turn(time.monotonic())
                if changed:
                    self._call_back()
                if self._room.live.release is not None:
                    self.ready.set()
                else:
                    no_bundle = self.bundle_trouble is not None
                    self.hopeless = no_bundle and self.open is not None and not self._syncs
                self._tell()
            except EdgeError as error:
                self.note(error)
            except Exception as error:
                # Whatever it is: a client whose keeper is gone never learns anything new.
                log.exception("keeping the store current failed in an unforeseen way")
                self.note(EdgeError(f"{type(error).__name__}: {error}"))
            begun = self.ready.is_set() and not was_ready
            self._wake.wait(_AFTER_READY_S if begun else self._config.watch_s)

    def _turn(self, now: float) -> bool:
        """Everything that is due; whether decisions change. Raises EdgeError."""
        changed = False
        if self.open is None and now >= self._next_open:
            self._next_open = now + _REOPEN_S
            changed = self._open()
        open_ = self.open
        if open_ is None:
            return changed
        changed |= self._look(open_)
        if self._room.live.release is not None and not self.ready.is_set():
            self.ready.set()
            return changed  # the first decision before everything that it does not need
        if self._writer is None:
            try:
                self._drain(open_, begin=True)
            except StoreError as error:  # what is new is taken over all the same
                self.note(error)
                return changed
        self.trouble = None
        loading.prepare()
        if now >= self._next_election:
            self._next_election = now + self._config.election_s
            self._elect(open_)
        if now >= self._next_house:
            self._next_house = now + _HOUSEKEEPING_S
            open_.keep_house(self._room)
        return changed

    def note(self, error: EdgeError) -> None:
        """Remember what is wrong, and say so in the log when it is news."""
        if str(error) != str(self.trouble):
            log.warning("%s", error)
        self.trouble = error

    def _open(self) -> bool:
        if self._room.live.release is not None:  # inherited in a fork
            loading.warm(self._room.live.release)
        try:
            store = DeviceStore.open(self._origin.path)
            open_ = OpenStore(store, self._room, self._config, self.poke)
            store.facts = self._facts
            self.trouble = None
            self.open = open_
        except StoreError as error:
            self.note(error)
            return self._use_bundle(None)
        finally:
            self._tried.set()
        return False

    def _look(self, open_: OpenStore) -> bool:
        changed = open_.look(self._room)
        if self._writer is not None:
            self._drain(open_)
        return self._use_bundle(open_) or changed

    def _elect(self, open_: OpenStore) -> None:
        try:
            enrolled = open_.elect(self._origin.server)
        except StoreCorrupt as error:  # the identity: everything else goes on without it
            self._not_enrolled = error
            return
        self._not_enrolled = None
        self._syncs = enrolled
        if self._origin.server is not None and not enrolled:
            self._not_enrolled = UsageError(
                f"{self._origin.path} belongs to no device yet: run `genome-edge enrol`"
            )

    def _call_back(self) -> None:
        for callback in list(self.callbacks.values()):
            try:
                callback()
            except Exception:
                log.exception("a callback of on_change failed")

    def _drain(self, open_: OpenStore, *, begin: bool = False) -> None:
        """Hand over what came before there was a writer; with `begin` there is one from now on."""
        if self._early.empty() and (self._writer is not None or not begin):
            return
        writer = open_.writer  # first: it may not begin, and what was missed stays counted
        with self._handing:
            missed, self._missed = next(self._missed), itertools.count()
            writer.inbox.missed(missed)
            with contextlib.suppress(queue.Empty):
                while True:
                    writer.put(self._early.get_nowait())
            self._writer = writer

    def _facts(self) -> DeviceFacts:
        room = self._room
        tier = room.tier(room.clock.now_ms()).value
        wrong = self.wrong
        return DeviceFacts(tier, room.counts.take(), str(wrong) if wrong is not None else "")

    # The bundle ---------------------------------------------------------------------------------

    def _use_bundle(self, open_: OpenStore | None) -> bool:
        """Decide from the bundle where the store has nothing as new; whether we do now."""
        bundle, self._bundle = self._bundle, None
        if bundle is None:
            return False
        try:
            data = loading.read_bundle(bundle)
            current = self._room.live.release
            if current is not None and current.version >= loading.version_of(data):
                return False
            self._install_bundle(data, open_)
        except (TrustError, FormatError) as error:
            log.warning("the bundle cannot be used: %s", error)
            self.bundle_trouble = error
            return False
        return True

    def _install_bundle(self, data: bytes, open_: OpenStore | None) -> None:
        bundle, release = loading.open_bundle(data, open_.store if open_ is not None else None)
        release = self._room.fitted(release)
        loading.warm(release)
        if open_ is not None and open_.hold_sync():
            try:
                loading.keep_bundle(open_.store, bundle, release.manifest)
                release.assets = loading.assets_of(open_.store, release.manifest)
            except StoreError as error:
                self.note(error)
            finally:
                open_.release_sync()
        if self._room.live.release is None:
            in_force = self._room.live.in_force._replace(held=loading.with_files(release))
            self._room.adopt(release, loading.view_of(bundle, release.manifest), in_force)
        if open_ is not None:
            open_.look(self._room)

    # Names --------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Say which names were not known. Here, because finding the nearest takes milliseconds."""
        while True:
            try:
                unknown = self._unknown.get_nowait()
            except queue.Empty:
                return
            release = self._room.live.release
            if unknown.kind == "customer":  # an app's own id of a person belongs in no log
                log.warning("a customer is not known on this device")
            elif release is not None:
                log.warning("%s", release.nearest(unknown.kind, unknown.name))
