"""The client: what an app holds.

Rules
-----
- Opening never blocks and never needs a network. It decides from the last good release in the
  store, else from the app's `bundle`, else it says NO_RELEASE until a sync has brought one.
- `decide` raises nothing but the caller's own mistakes, takes no lock that syncing or writing
  holds, and always answers; only with `durable` it waits for the disk, and says where that failed.
- Safe to use from any number of threads, and in forked children without their help: a child gets
  connections, lanes and threads of its own when it first uses the client.
- Several clients, in one process or many, may share a store; one of them syncs.

Where the store is: the `store` argument, else $GENOME_EDGE_STORE, else (with a `bundle` and no
server) a temporary directory that is deleted on `close`, because such a client has nobody to tell
and nothing to keep; else the user's data directory.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from edge_sdk import _posix
from edge_sdk.arguments import seconds, shown
from edge_sdk.config import Config
from edge_sdk.context import Context
from edge_sdk.decision import Decision, Tier, Unknown
from edge_sdk.dna.genome import NOBODY
from edge_sdk.errors import ClientClosed, EdgeError, StoreError, UsageError
from edge_sdk.lazy import later
from edge_sdk.numbers import Purpose, purpose_of
from edge_sdk.outbox import recording
from edge_sdk.plugins import Plugins
from edge_sdk.runtime import opening, rehearsal
from edge_sdk.runtime.desk import Desk
from edge_sdk.runtime.keeper import Keeper

if TYPE_CHECKING:
    import shutil

    from edge_sdk import explanation as explanations
    from edge_sdk import session as sessions
    from edge_sdk import status as states
    from edge_sdk.outbox import redeeming
    from edge_sdk.runtime import looking_back
else:
    shutil = later("shutil")
    explanations = later("edge_sdk.explanation")
    sessions = later("edge_sdk.session")
    states = later("edge_sdk.status")
    redeeming = later("edge_sdk.outbox.redeeming")
    looking_back = later("edge_sdk.runtime.looking_back")

_HOUR_MS: Final = 3_600_000
_AT_EXIT_S: Final = 2.0
_FORK_WAIT_S: Final = 5.0
# A disk that takes longer than this is in trouble.
_WRITE_S: Final = 1.0
# What a child inherits and must neither use nor close; kept so that nothing ever closes it.
_abandoned: list[object] = []


class EdgeClient:
    """Decides, and takes down what followed. Close it when done, or use it in a `with`.

    `store` is a directory, `server` the address of the server where it is not the one of enrolment,
    `bundle` a release that came with the app (path or bytes), `plugins` what the app puts in place
    of our clock, places, scorer, explorer or identifier. Raises UsageError for arguments or
    environment variables that make no sense, and nothing else: what goes wrong later is found in
    `status.cause`.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        server: str | None = None,
        *,
        config: Config | None = None,
        bundle: str | os.PathLike[str] | bytes | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._config = opening.configured(config)
        room = opening.room(self._config, plugins)
        self._origin, temporary = opening.opening(store, server, bundle)
        self._lock = threading.Lock()
        self._closed = False
        self._forked = False
        self._keeper = Keeper(self._origin, room, self._config)
        self._desk = Desk(room, self._keeper)
        self._end = weakref.finalize(self, _end, self._keeper, temporary, os.getpid())
        _posix.tell_about_forks(self)
        self._keeper.start()

    # State --------------------------------------------------------------------------------------

    @property
    def status(self) -> states.Status:
        """How the device is now. Never raises."""
        desk = self._desk
        room, keeper = desk.room, desk.keeper
        live, open_ = room.live, keeper.open
        now_ms = room.clock.now_ms()
        tier = room.tier(now_ms, live)
        cause, device, last_sync, connected = keeper.cause, "", None, False
        counters: dict[str, int] = {}
        outbox = keeper.waiting()
        if open_ is not None:
            try:
                outbox = keeper.early() + open_.outbox.unsent()
                identity = open_.store.identity()
                device = identity.device_id if identity is not None else ""
                last_sync = open_.store.last_contact_ms()
                counters = open_.store.losses()
            except EdgeError as error:
                cause = cause or error
            connected = open_.updater is not None and open_.updater.state.connected
        if live.release is None:
            state = states.State.EMPTY if keeper.wrong is None else states.State.ERROR
        else:
            state = states.State.READY if tier is Tier.FRESH else states.State.STALE
        return states.Status(
            state=state,
            tier=tier,
            cause=cause,
            release=live.release.version if live.release is not None else 0,
            genomes=live.genomes.count,
            outbox=outbox,
            reasons=room.counts.all(),
            device=device,
            last_sync_ms=last_sync,
            connected=connected,
            fresh_until_ms=live.fresh_until_ms,
            stop_list=live.in_force.stop_list_version,
            counters=counters,
            warnings=keeper.warnings(now_ms),
        )

    def wait_ready(self, timeout: float) -> bool:
        """Wait until there is a release and the first decision pays no hidden cost.

        False where that takes longer than `timeout` seconds, and at once where nothing will bring
        a release; `status.cause` says why. Call it in the thread that will decide.
        """
        desk = self._current()
        keeper = desk.keeper
        deadline = time.monotonic() + seconds("timeout", timeout)
        while not keeper.ready.wait(max(0.0, min(0.05, deadline - time.monotonic()))):
            if keeper.hopeless or time.monotonic() >= deadline:
                return False
        rehearsal.rehearse_here(desk.room)
        return True

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after the release or the genomes have changed; returns what ends that.

        It is called in a background thread and must not block.
        """
        desk = self._current()
        if not callable(callback):
            raise UsageError(f"callback must be callable, not {type(callback).__name__}")
        return desk.keeper.on_change(callback)

    # Deciding -----------------------------------------------------------------------------------

    def decide(
        self,
        context: Context,
        placement: str,
        slots: int = 1,
        *,
        customer: str | None = None,
        durable: bool = False,
    ) -> Decision:
        """Choose offers for a moment.

        `customer` is the app's own id where the device's audience came with a lookup, else a
        subject of 32 hex characters; None for nobody. With `durable` the decision, and what it
        counts for caps, is on disk when this returns. Raises UsageError, and with `durable`
        StoreError: then show nothing, for nothing was written and nothing counts.
        """
        desk = self._current()
        visitor = desk.room.customers.visitor(desk.room.live, customer)
        return desk.decide(visitor, context, placement, slots, durable=durable)

    def explain(
        self, decision: Decision | str, *, offers: Collection[str] | None = None
    ) -> explanations.Explanation:
        """Why a decision (or the id of one, of any process of this device) came out as it did.

        `offers` names those whose losing is asked about; None: all. Raises UsageError
        (UnknownDecision for one that the device does not keep any more) and EdgeError where its
        release is gone.
        """
        return looking_back.explain(self._current(), decision, offers)

    def session(self, customer: str | None = None) -> sessions.Session:
        """A visit: one person before one screen, wiped at its end."""
        self._current()
        return sessions.Session(self._current, self._config, customer)

    def genome(self, customer: str) -> dict[str, float] | None:
        """What a decision would read of a customer now: strengths by marker, the strongest first.

        None where nothing is known, or nothing may be read.
        """
        desk = self._current()
        genome = desk.room.customers.visitor(desk.room.live, customer).genome
        if genome is None:
            return None
        return dict(genome.strengths(desk.room.clock.now_ms() // _HOUR_MS))

    # What followed ------------------------------------------------------------------------------

    def report(
        self,
        decision: Decision | str,
        kind: str,
        *,
        slot: int = 0,
        value: float | None = None,
        event_id: str | None = None,
        durable: bool = False,
    ) -> str:
        """Say what followed a decision (or the id of one, of any process of this device).

        `kind` is one of the DNA schema: view, click, dismiss … `value` is in the tenant's currency
        unit. The same `event_id` said twice is one event. With `durable` the event is on disk when
        this returns. Returns the event's id. Raises UsageError (UnknownDecision for what is not an
        id), and with `durable` StoreError.
        """
        return self._current().report(
            decision, kind, slot=slot, value=value, event_id=event_id, durable=durable
        )

    def redeem(self, decision: Decision | str, *, slot: int = 0) -> redeeming.Redemption:
        """Redeem what a decision offered: granted, on disk, and sent before everything else; or
        refused with a reason. Raises UsageError and StoreError."""
        return self._current().redeem(decision, slot)

    def imprint(
        self,
        customer: str | None,
        kind: str,
        *,
        product: str | None = None,
        dna: Mapping[str, float] | Sequence[str] | None = None,
        interaction_id: str | None = None,
        **facts: Any,
    ) -> str:
        """Say what a customer did: the next decision already knows.

        It is about a `product`, an `offer` or explicit `dna`. Other facts: `amount`, `currency`,
        `quantity`, `tender`, `dwell_ms`, `context`. The same `interaction_id` said twice is one
        interaction. Returns that id. Raises UsageError.
        """
        desk = self._current()
        subject = desk.room.customers.subject_of(desk.room.live, customer)
        if subject is None:
            desk.note_unknown(Unknown("customer", customer or "", None))
        return desk.imprint(
            subject or NOBODY,
            kind,
            product=product,
            dna=dna,
            interaction_id=interaction_id,
            facts=facts,
        )

    def set_consent(self, customer: str, purpose: Purpose | str, granted: bool) -> None:
        """Say that a customer agreed or withdrew: in force here at once, on disk when this returns.

        Raises UsageError, also for a customer whom this device does not know (it would be lost);
        StoreError where the disk does not take it. A withdrawal is in force here even then.
        """
        desk = self._current()
        bit = purpose_of(purpose)
        if not isinstance(granted, bool):  # "no" would be true
            raise UsageError(f"granted must be True or False, not {shown(granted)}")
        subject = desk.room.customers.subject_of(desk.room.live, customer)
        if subject is None or subject == NOBODY:
            raise UsageError("this customer is not known on this device, so nobody can agree")
        local = desk.room.local
        entry = recording.consent(bit, granted, subject, desk.room.clock.stamp())
        if not granted:
            local.consent(subject, bit, False)
        with desk.consenting:  # memory and disk must come to the same of two that cross
            if not granted:
                local.consent(subject, bit, False)
                desk.room.past.forget((subject,))
            desk.keeper.put_durably(entry, self._config.durable_timeout_s)
            if granted:
                local.consent(subject, bit, True)
            local.consent_settled(subject, bit)

    # The end ------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> int:
        """Write and send what there is, waiting at most `timeout` seconds for the server.

        Writing is waited for in any case, though not for long. Returns how many events the server
        has not received yet.
        """
        desk = self._current()
        timeout = seconds("timeout", timeout)
        deadline = time.monotonic() + timeout
        try:
            open_ = desk.keeper.when_open(max(timeout, _WRITE_S))
            open_.writer.flush(max(deadline - time.monotonic(), _WRITE_S))
            while True:
                unsent = open_.outbox.unsent()
                if unsent == 0 or time.monotonic() >= deadline:
                    return unsent
                if open_.updater is not None:
                    open_.updater.kick()
                time.sleep(min(0.02, max(0.0, deadline - time.monotonic())))
        except StoreError:
            return desk.keeper.waiting()

    def close(self, timeout: float = 5.0) -> None:
        """Write what there is and stop, within about `timeout` seconds. Harmless to repeat."""
        timeout = seconds("timeout", timeout)
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if not self._forked:
            self._keeper.close(timeout)
        self._end()

    def __enter__(self) -> EdgeClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Forks --------------------------------------------------------------------------------------

    def _current(self) -> Desk:
        if self._closed:
            raise ClientClosed("this client was closed")
        if self._forked:
            self._start_anew()
        return self._desk

    def _start_anew(self) -> None:
        with self._lock:
            if not self._forked:
                return
            self._end.detach()
            room = self._desk.room.forked()
            callbacks = self._keeper.callbacks
            self._keeper = Keeper(self._origin, room, self._config)
            self._keeper.callbacks.update(callbacks)
            self._desk = Desk(room, self._keeper)
            self._end = weakref.finalize(self, _end, self._keeper, None, os.getpid())
            _posix.at_child_exit(self._end)
            self._keeper.start()
            self._forked = False

    def before_fork(self) -> None:
        """Called by the interpreter before a fork: let no library be half loaded in the child."""
        # A forked child that has not used the client yet has nothing of its own at work.
        self._gated = not self._forked and self._keeper.gate.acquire(timeout=_FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Called by the interpreter after a fork."""
        if self._gated:
            self._gated = False
            self._keeper.gate.release()

    def after_fork_in_child(self) -> None:
        """Called by the interpreter in a new child: leave the parent's things alone."""
        self._lock = threading.Lock()
        if not self._forked:
            _abandoned.extend(self._keeper.abandon())
            self._forked = True


def _end(keeper: Keeper, temporary: Path | None, owner: int) -> None:
    """What has to be done when a client was not closed, or was."""
    if os.getpid() != owner:
        return
    keeper.close(_AT_EXIT_S)
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
