"""Keep a device's store current and its outbox empty, in the background.

Two daemon threads over one connection: one follows the sync stream (`streaming`), one sends what
happened (`reporting`). Each fails, waits and tries again on its own, so that a release that cannot
be had never keeps a redemption from being reported. Nothing here decides what to believe or what
to send; that is for `trust`, `sync` and `reporting`.

Only one process of a device should run this: who that is, is decided by the caller.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.clock import LATEST_MS, DeviceClock
from edge_sdk.errors import EdgeError, RefusedError, TrustError, UnreachableError, UsageError
from edge_sdk.plugins import Identified
from edge_sdk.slices import in_slices
from edge_sdk.sync.actions import Held
from edge_sdk.sync.enrolment import Enrolled, enrol, identify, open_link
from edge_sdk.sync.holding import holding
from edge_sdk.sync.keys import ServerClock
from edge_sdk.sync.link_state import LinkMonitor, LinkState
from edge_sdk.sync.pace import Backoff
from edge_sdk.sync.pulse import Pulse
from edge_sdk.sync.reporting import ReportPump
from edge_sdk.sync.streaming import Events, SyncSession
from edge_sdk.sync.transport import CREDENTIAL_REASONS, REPORT, Link
from genome_edge.v1 import report_pb2

if TYPE_CHECKING:
    from edge_sdk.config import Config
    from edge_sdk.outbox.queue import Outbox
    from edge_sdk.store.device import DeviceStore, Identity

__all__ = [
    "Enrolled",
    "Identified",
    "LinkState",
    "SyncOutcome",
    "Updater",
    "enrol",
    "identify",
]

log = logging.getLogger("edge_sdk.sync.updater")

# The server's time is written down when it moved by more than this, and else this often.
_DRIFT_MS = 500
_CONTACT_MS = 5_000
# Who syncs once comes back so often at most where that may get further.
_TIMES = 3
# Whoever kicks in a loop (a flush) must not hammer a server that is down or says no.
_LEAST_REST_S = 0.1
# While the outbox is empty the pump looks this often for what other processes have put into it;
# its own process wakes it.
_LOOK_S = 0.05


@dataclass(frozen=True)
class SyncOutcome:
    """What one `sync_once` brought: the release now active, rows now held, events sent."""

    release: int
    genomes: int
    reported: int


class Updater:
    """Keeps a store current and an outbox empty, in two daemon threads.

    `on_change` is called from a background thread after a release or genomes were committed to
    the store or the state of the connection changed; it must not block. `state` never blocks.
    """

    def __init__(
        self,
        store: DeviceStore,
        outbox: Outbox,
        config: Config,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._config = config
        self._on_change = on_change
        #: For proofs, which the server believes only near its own time, whoever says that.
        self._clock = ServerClock(store.server_offset_ms())
        #: What is believed, and whether that takes a signature.
        self._time = DeviceClock(*store.clocks)
        self._time.hear(*store.time_known())
        self._signed = True
        self._pulse = Pulse(store, outbox)
        self._lock = threading.Lock()
        self._monitor = LinkMonitor(on_change)
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._kicked = threading.Event()
        self._session: SyncSession | None = None
        self._link: Link | None = None
        self._want_full = False
        # Whether anything was committed on this stream.
        self._took = False

    @property
    def state(self) -> LinkState:
        """The connection as it is now."""
        return self._monitor.state

    def start(self) -> None:
        """Start the threads; returns at once. Does nothing where the store is not enrolled."""
        with self._lock:
            if self._threads or self._store.identity() is None:
                return
            self._stop.clear()
            self._threads = [
                threading.Thread(target=self._follow, name="genome-edge-sync", daemon=True),
                threading.Thread(target=self._report, name="genome-edge-report", daemon=True),
            ]
            for thread in self._threads:
                thread.start()

    def kick(self) -> None:
        """Send what is in the outbox now instead of at the next look; never blocks."""
        self._kicked.set()

    def stop(self, timeout: float) -> bool:
        """Stop the threads; True where they ended within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads, self._threads = self._threads, []
            self._stop.set()
            session, link = self._session, self._link
        self._kicked.set()
        if session is not None:
            session.cancel()
        # A call that hangs gets half of the time to end by itself.
        _join(threads, deadline - timeout / 2)
        if link is not None:
            link.close()
        ended = _join(threads, deadline)
        with self._lock:
            self._link = None
        self._monitor.change(connected=False)
        return ended

    def sync_once(self, timeout: float) -> SyncOutcome:
        """Bring the store up to date and send the outbox in this thread, then return.

        Raises UsageError where the store is not enrolled or the threads run, UnreachableError,
        RefusedError, StoreError, or TrustError where what the server offers is not to be believed;
        what was committed before stays.
        """
        deadline = time.monotonic() + timeout
        if self._threads:
            raise UsageError("this device is being synced by the running threads already")
        link = self._open_link()
        try:
            self._sync_until(link, deadline)
            reported = self._report_until(link, deadline)
        finally:
            link.close()
        if self._monitor.state.last_nack:
            reason, _, detail = self._monitor.state.last_nack.partition(": ")
            raise TrustError(detail, reason)
        active = self._store.active_release()
        return SyncOutcome(active.version if active else 0, self._store.genome_count(), reported)

    # The thread that follows the stream ---------------------------------------------------------

    def _follow(self) -> None:
        backoff = Backoff(self._config.reconnect_min_s, self._config.reconnect_max_s)
        while not self._stop.is_set():
            began = time.monotonic()
            asked_s = 0.0
            self._took = False
            try:
                with in_slices():  # who decides meanwhile goes first
                    asked_s = self._run_session(self._shared_link())
                self._monitor.went("sync", None)
            except RefusedError as error:
                self._monitor.went("sync", error)
                if error.reason in CREDENTIAL_REASONS:
                    asked_s = self._config.reconnect_max_s
            except EdgeError as error:
                if self._stop.is_set():
                    break
                self._monitor.went("sync", error)
                if isinstance(error, UnreachableError):
                    asked_s = error.retry_after_s or 0.0
            except Exception as error:  # a thread that dies leaves a device behind for ever
                log.exception("syncing failed in an unforeseen way")
                self._monitor.went("sync", EdgeError(f"{type(error).__name__}: {error}"))
            self._monitor.change(connected=False)
            lasted_s = time.monotonic() - began
            self._stop.wait(backoff.after_stream(lasted_s, self._took, asked_s))

    def _run_session(self, link: Link, once: bool = False) -> float:
        """Follow one stream; a clock that is wrong is corrected and the stream opened again."""
        try:
            return self._new_session(link).run(once)
        except RefusedError as error:
            if not link.heed_clock(error):
                raise
            self._told(link.clock.now_ms())
        return self._new_session(link).run(once)

    def _new_session(self, link: Link) -> SyncSession:
        session = SyncSession(
            link,
            self._held(),
            self._store,
            self._pulse,
            self._config,
            Events(
                connected=self._connected,
                committed=self._committed,
                now_ms=self._time.now_ms,
                heard=self._heard,
                log=self._outbox.heed,
                refused=self._refused,
                verified=self._verified,
                diverged=self._diverged,
                changed=self._on_change,
            ),
        )
        with self._lock:
            self._session = session
        if self._stop.is_set():
            session.cancel()
        return session

    def _held(self) -> Held:
        held = holding(
            self._store, wants_genomes=self._config.wants_genomes, all_rows=self._want_full
        )
        self._signed = bool(held.standing.root.timestamp_keys)
        return held

    # The thread that reports --------------------------------------------------------------------

    def _report(self) -> None:
        pump: ReportPump | None = None
        backoff = Backoff(self._config.reconnect_min_s, self._config.reconnect_max_s)
        while not self._stop.is_set():
            wait: float | None
            try:
                pump = pump or self._pump(self._shared_link(), backoff)
                wait = pump.step()
                if wait is not None:
                    self._monitor.went("report", pump.cause)
            except EdgeError as error:
                if self._stop.is_set():
                    break
                self._monitor.went("report", error)
                wait = backoff.after_failure()
            except Exception as error:  # as above: nobody would ever send anything again
                log.exception("reporting failed in an unforeseen way")
                self._monitor.went("report", EdgeError(f"{type(error).__name__}: {error}"))
                wait = backoff.after_failure()
            if wait is None:
                self._outbox.wait(_LOOK_S)
            elif wait > 0:
                self._rest(wait)

    def _rest(self, wait_s: float) -> None:
        """Wait before the next attempt; a kick shortens it, but not to nothing."""
        began = time.monotonic()
        self._kicked.wait(wait_s)
        self._kicked.clear()
        self._stop.wait(min(wait_s, _LEAST_REST_S) - (time.monotonic() - began))

    def _pump(self, link: Link, backoff: Backoff) -> ReportPump:
        timeout_s = self._config.call_timeout_s

        def send(request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
            response = link.call(REPORT, request, timeout_s)
            self._told(response.server_time_ms)
            return response

        return ReportPump(self._outbox, send, backoff, self._config.reconnect_max_s)

    # Once, in the caller's thread ---------------------------------------------------------------

    def _sync_until(self, link: Link, deadline: float) -> None:
        timer: threading.Timer | None = None
        self._monitor.change(last_nack="", cause=None)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            session = self._session
            if session is not None:
                session.cancel()

        timer = threading.Timer(max(0.0, deadline - time.monotonic()), give_up)
        timer.daemon = True
        timer.start()
        try:
            for _ in range(_TIMES):
                self._run_session(link, once=True)
                if self._session is None or not self._session.unfinished:
                    break
        except UnreachableError as error:
            if late.is_set():
                raise UnreachableError("the device was not up to date in time") from error
            raise
        finally:
            timer.cancel()
            self._monitor.change(connected=False)

    def _report_until(self, link: Link, deadline: float) -> int:
        backoff = Backoff(self._config.reconnect_min_s, self._config.reconnect_max_s)
        pump = self._pump(link, backoff)
        while (wait := pump.step()) is not None:
            if isinstance(pump.cause, RefusedError) and pump.cause.reason in CREDENTIAL_REASONS:
                raise pump.cause
            if time.monotonic() + wait > deadline:
                raise pump.cause or UnreachableError("the outbox was not empty in time")
            time.sleep(wait)
        return pump.taken

    # What both threads share --------------------------------------------------------------------

    def _identity(self) -> Identity:
        identity = self._store.identity()
        if identity is None:
            raise UsageError("this store belongs to no device yet: run `genome-edge enrol`")
        return identity

    def _open_link(self) -> Link:
        return open_link(self._store, self._config, self._identity(), self._clock)

    def _shared_link(self) -> Link:
        with self._lock:
            if self._link is None:
                self._link = self._open_link()
            return self._link

    def _connected(self) -> None:
        self._monitor.went("sync", None)
        self._monitor.change(connected=True)
        self._kicked.set()  # what could not be sent before can be now

    def _committed(self) -> None:
        self._took = True
        self._want_full = False
        self._on_change()

    def _told(self, server_time_ms: int) -> None:
        """The server said what time it is, without a signature."""
        if not self._signed:
            self._heard(server_time_ms)

    def _heard(self, server_time_ms: int) -> None:
        if not 0 < server_time_ms <= LATEST_MS:
            return
        self._clock.hear(server_time_ms)
        moved = abs(server_time_ms - self._time.now_ms()) > _DRIFT_MS
        # It costs a write to disk, and a busy device hears the server many times a second.
        if moved or server_time_ms - self._monitor.state.last_contact_ms > _CONTACT_MS:
            self._store.heard_server(server_time_ms)
            self._time.hear(*self._store.time_known())
            self._monitor.change(last_contact_ms=server_time_ms)

    def _refused(self, why: str) -> None:
        if why and why != self._monitor.state.last_nack:
            log.warning("what the server sent was refused: %s", why)
        self._monitor.change(last_nack=why)

    def _verified(self, version: int, digest: bytes) -> None:
        self._store.raise_highest_seen(version, digest)

    def _diverged(self) -> None:
        self._want_full = True


def _join(threads: list[threading.Thread], deadline: float) -> bool:
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
