"""For testing your own app: the real engine, without server, files, threads or randomness.

    from edge_sdk.testing import FakeEdge

    edge = FakeEdge([{"id": "taxi", "near": ["hotel"], "content": {"title": "A taxi"}}])
    assert edge.decide(Context(place="hotel"), "lobby").offer.id == "taxi"

What is faked is everything around the engine: `FakeEdge` is an `EdgeClient` whose store is memory
and whose server is not there. Eligibility, consent, caps, exploration, imprints, redemptions and
errors are the real ones. There is no model file; offers are scored by the DNA that they share with
the moment and the customer (`edge_sdk.engine.fake_release.SharedDna`).

To test what a device does with the world, there are a `SimulatedServer`, which `serve` puts behind
a real socket, and a `SimulatedClock`, `SimulatedNetwork` and `SimulatedDisk`: all follow from a
seed, and go wrong as a test says.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_sdk.arguments import is_text, shown
from edge_sdk.client import EdgeClient
from edge_sdk.clock import DeviceClock
from edge_sdk.config import Config
from edge_sdk.context import Context, unix_ms
from edge_sdk.decision import Decision, Reason, Slot, Unknown
from edge_sdk.dna.markers import nearest_name
from edge_sdk.engine.cap_views import Blocked
from edge_sdk.engine.choosing import offer_at
from edge_sdk.engine.decide import HOUR_MS, decide
from edge_sdk.engine.fake_release import any_placement, release_from_documents
from edge_sdk.engine.policy import splitmix64
from edge_sdk.engine.record import Record
from edge_sdk.engine.release import Release
from edge_sdk.engine.withheld import Terms
from edge_sdk.errors import FormatError, StoreError, UsageError
from edge_sdk.outbox.entries import DUPLICATE, WRITTEN, Entry
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.runtime.desk import Desk
from edge_sdk.runtime.keeper import Keeper, Origin
from edge_sdk.runtime.live import Live, Visitor
from edge_sdk.runtime.room import Room
from edge_sdk.simulated.customers import genome_of, genomes_of
from edge_sdk.simulated.server import SimulatedServer
from edge_sdk.simulated.serving import SimulatedHouse, serve
from edge_sdk.simulated.world import SimulatedClock, SimulatedDisk, SimulatedNetwork
from edge_sdk.store.state import put_caps
from edge_sdk.store.tables import migrate
from genome_edge.v1 import event_pb2

__all__ = [
    "FakeEdge",
    "Report",
    "SimulatedClock",
    "SimulatedDisk",
    "SimulatedHouse",
    "SimulatedNetwork",
    "SimulatedServer",
    "serve",
]


@dataclass(frozen=True)
class Report:
    """One outcome as it would have been reported. `value` is 0.0 where none was given."""

    kind: str
    offer: str
    decision: str
    slot: int
    placement: str
    value: float
    event_id: str


class FakeEdge(EdgeClient):
    """An EdgeClient for tests: the real engine, everything else in memory.

    `offers` are import documents (dicts: id, content, dna, value, near, all_of …) and so are
    `placements`; without any, every placement name is known, shows up to 64 slots and chooses
    greedily. `products` maps product ids to DNA. `customers` maps the app's ids to
    `{"genome": {"brand:acme": 2.0}, "consent": ["personalisation"]}`; without it every id is that
    of a customer who has agreed to nothing yet. `markers` are further markers that the release
    knows. The same `seed` gives the same decisions, ids included. `clock` returns an aware
    datetime; contexts without a time get its local time. Raises UsageError.

    Beyond the methods of EdgeClient: `reports` holds what was reported, `events` every event in
    the form of the wire; `force` makes decisions come out as a test needs them; `publish` swaps
    the offers.
    """

    def __init__(
        self,
        offers: Iterable[Mapping[str, Any]],
        *,
        seed: int = 0,
        clock: Callable[[], datetime] | None = None,
        placements: Iterable[Mapping[str, Any]] | None = None,
        products: Mapping[str, object] | None = None,
        customers: Mapping[str, Mapping[str, Any]] | None = None,
        markers: Iterable[str] = (),
    ) -> None:
        self._config = Config()
        self._lock = threading.Lock()
        self._closed = False
        self._forked = False
        self._placements = None if placements is None else list(placements)
        self._products = dict(products or {})
        self._customers = customers
        self._markers = list(markers)
        told = DeviceClock()
        if clock is not None:
            told = DeviceClock(lambda: unix_ms(clock().astimezone()), None)
        room = Room(self._config, told)
        self._memory = _MemoryKeeper(room, self._config)
        self._keeper = self._memory
        self._fake_desk = _FakeDesk(room, self._memory, seed, clock, self._placements is None)
        self._desk = self._fake_desk
        self._end = weakref.finalize(self, _end, self._memory, None, os.getpid())
        self._adopt(offers, version=1)

    @property
    def reports(self) -> list[Report]:
        """Every outcome reported so far, redemptions included, each once."""
        return self._memory.reports

    @property
    def events(self) -> list[event_pb2.Event]:
        """Everything that would have been sent, in order: decisions, outcomes, interactions …"""
        return self._memory.events

    def force(self, offer_id: str | None) -> None:
        """Show this offer in slot 0 of every decision from now on; None ends it.

        The reason says FORCED. Raises UsageError for an offer that is not there.
        """
        release = self._release
        if offer_id is not None and not is_text(offer_id):
            raise UsageError(f"offer_id must be the id of an offer, not {shown(offer_id)}")
        if offer_id is not None and offer_id not in release.catalogue.row_of:
            near = nearest_name(offer_id, release.catalogue.ids)
            hint = f"; did you mean {near!r}?" if near else ""
            raise UsageError(f"there is no offer {offer_id!r}{hint}")
        self._fake_desk.forced = offer_id

    def publish(self, offers: Iterable[Mapping[str, Any]]) -> None:
        """Decide from these offers from now on, as after a sync; callbacks are called."""
        self._adopt(offers, version=self._release.version + 1)
        self._fake_desk.forced = None
        for callback in list(self._keeper.callbacks.values()):
            callback()

    @property
    def _release(self) -> Release:
        release = self._desk.room.live.release
        assert release is not None, "adopted when this was made"
        return release

    def _adopt(self, offers: Iterable[Mapping[str, Any]], version: int) -> None:
        genomes = {name: genome_of(name, of) for name, of in (self._customers or {}).items()}
        try:
            release = release_from_documents(
                offers,
                self._placements or (),
                products=self._products,
                markers=[*self._markers, *(name for dna in genomes.values() for name in dna)],
                version=version,
            )
        except FormatError as error:
            raise UsageError(str(error)) from error
        now_hour = self._desk.room.clock.now_ms() // HOUR_MS
        self._desk.room.adopt(release, genomes_of(release, genomes, self._customers, now_hour))


class _FakeDesk(Desk):
    """A desk whose draws follow from one seed, and whose choice a test may force."""

    def __init__(
        self,
        room: Room,
        keeper: Keeper,
        seed: int,
        clock: Callable[[], datetime] | None,
        anywhere: bool,
    ) -> None:
        super().__init__(room, keeper)
        self.forced: str | None = None
        self._seed = splitmix64(seed % (1 << 64))
        self._clock = clock
        self._anywhere = anywhere
        self._lock = threading.Lock()

    def choose(
        self,
        live: Live,
        visitor: Visitor,
        context: Context,
        placement: str,
        slots: int,
        now_ms: int,
        blocked: Blocked,
        again: Record | None,
    ) -> tuple[Decision, Record]:
        """Ask the engine, with the next seed, id and time of the test."""
        release = live.release
        assert release is not None, "a FakeEdge always has one"
        if self._clock is not None and isinstance(context, Context) and context.time is None:
            context = context.at(self._clock())
        if self._anywhere and isinstance(placement, str) and placement not in release.placements:
            release.placements[placement] = any_placement(placement)
        seed = again.inputs.seed if again is not None else self._next_seed()
        name = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=16).digest()
        decision, record = decide(
            release,
            context,
            placement,
            slots,
            genome=visitor.genome,
            consents=visitor.consents,
            blocked=blocked.offers,
            why_blocked=blocked.why,
            rooms=blocked.rooms,
            seed=seed,
            terms=Terms(withholding=live.withholding),
            now_ms=now_ms,
            decision_id=name,
            subject=visitor.subject,
        )
        if self.forced is None:
            return decision, record
        slot = Slot(offer_at(release, release.catalogue.row_of[self.forced]), Reason.FORCED)
        others = tuple(s for s in decision.slots if s.offer is None or s.offer.id != self.forced)
        filled = (slot, *others)[: len(decision.slots)]
        return (
            replace(decision, slots=filled, reason=Reason.FORCED),
            record._replace(slots=filled, instead=()),
        )

    def _next_seed(self) -> int:
        with self._lock:
            self._seed = splitmix64(self._seed)
            return self._seed


class _MemoryKeeper(Keeper):
    """Keeps a client's room without a thread and a store: what happens is kept in lists."""

    def __init__(self, room: Room, config: Config) -> None:
        super().__init__(Origin(Path()), room, config)
        self.reports: list[Report] = []
        self.events: list[event_pb2.Event] = []
        self._seen: set[bytes] = set()
        self._writing = threading.Lock()
        # The real tables, so that the real guard decides on redemptions.
        self._tables = sqlite3.connect(":memory:", check_same_thread=False)
        migrate(self._tables, 0)
        self.ready.set()

    def put(self, entry: Entry) -> None:
        """Take an event."""
        self._take(entry)

    def put_durably(self, entry: Entry, timeout: float) -> str:  # noqa: ARG002 never waits
        """Take an event."""
        return self._take(entry)

    def when_open(self, timeout: float) -> Any:  # noqa: ARG002 never waits
        """There is no store. Raises StoreError."""
        raise StoreError("a FakeEdge has no store")

    def tell(self, unknown: Unknown) -> None:
        """Say in the log that a name is not known, at once."""
        super().tell(unknown)
        self._tell()

    def close(self, timeout: float) -> bool:  # noqa: ARG002 never waits
        """Nothing is left to write."""
        with self._writing:
            self._tables.close()
        return True

    def _take(self, entry: Entry) -> str:
        with self._writing:
            outcome = self._write(entry)
        if entry.settled is not None:
            entry.settled(outcome)
        return outcome

    def _write(self, entry: Entry) -> str:
        if entry.event_id and entry.event_id in self._seen:
            return DUPLICATE
        if entry.guard is not None:
            why = entry.guard(self._tables)
            if why != WRITTEN:
                return why
        self._seen.add(entry.event_id)
        put_caps(self._tables, [(row, 0) for row in entry.caps])
        event = event_pb2.Event.FromString(entry.bodies()[0])
        self.events.append(event)
        if entry.kind is FrameKind.OUTCOME:
            self.reports.append(_report(event.outcome))
        return WRITTEN


def _report(outcome: event_pb2.Outcome) -> Report:
    return Report(
        kind=outcome.kind,
        offer=outcome.offer,
        decision=outcome.decision_id.hex(),
        slot=outcome.slot,
        placement=outcome.placement,
        value=outcome.value_micros / 1_000_000,
        event_id=outcome.event_id,
    )


def _end(keeper: Keeper, temporary: Path | None, owner: int) -> None:  # noqa: ARG001 the client's
    keeper.close(0.0)
