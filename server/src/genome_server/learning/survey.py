"""What one reading of the log tells that is not of a single person, and how events are read.

Outcomes wait here for their decisions: an outcome may be reported by another device than
the decision was, and by one that did not know the customer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from edge_sdk.dna.schema import DnaSchema
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2, release_pb2
from genome_server.genomes.events import Dna, EventReader, LinkSaid, time_of
from genome_server.learning.credit import CreditRules
from genome_server.learning.delays import Delays
from genome_server.learning.outcomes import Outcomes
from genome_server.learning.persons import Persons
from genome_server.learning.thinned import Thinned
from genome_server.log.reader import LoggedFrame

# A marker of a moment gets an index of its own once so many examples have it; rarer
# ones (a session number that slipped in) would fill the vocabulary and teach nothing.
MIN_MARKER_COUNT = 3


@dataclass(frozen=True)
class Person:
    """A subject's profile, (marker, salience_q8), and whether they agreed to LEARNING."""

    markers: Sequence[tuple[str, int]] = ()
    may_learn: bool = False


@dataclass(frozen=True)
class Sources:
    """Where examples come from. `frames` gives the whole log anew at each call.

    `credit` says what becomes of purchases without a decision's id, `goals` by placement which
    kinds are a success there, where it says.
    """

    frames: Callable[[], Iterable[LoggedFrame]]
    person: Callable[[bytes], Person]
    product_dna: Callable[[str], Dna | None]
    offers: Mapping[str, Dna]
    placements: Mapping[str, release_pb2.PlacementSpec]
    schema: DnaSchema
    credit: CreditRules = field(default_factory=CreditRules)
    goals: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass
class Survey:
    """What one reading of the log told: everything that is not of a single person."""

    events: int = 0
    # Outcomes and interactions that are a success or a refusal.
    answers: int = 0
    outcomes: Outcomes = field(default_factory=Outcomes)
    persons: Persons = field(default_factory=Persons)
    thinned: Thinned = field(default_factory=Thinned)
    delays: Delays = field(default_factory=Delays)
    markers: Counter[str] = field(default_factory=Counter)

    def frequent_markers(self) -> list[str]:
        """Return the markers of moments that deserve an index, the most frequent first."""
        often = [(n, name) for name, n in self.markers.items() if n >= MIN_MARKER_COUNT]
        return [name for n, name in sorted(often, key=lambda pair: (-pair[0], pair[1]))]


def survey(sources: Sources, on_events: Callable[[int], None] | None = None) -> Survey:
    """Read the log once for outcomes, links and the markers of moments."""
    found = Survey()
    reader = event_reader(sources)
    for frame in sources.frames():
        found.events += 1
        if on_events is not None and found.events % 1000 == 0:
            on_events(1000)
        if frame.kind == FrameKind.LINK:
            said = reader.read(frame)
            if isinstance(said, LinkSaid):
                found.persons.hear(said)
            continue
        event, at_ms = read_event(frame)
        if event is None:
            continue
        found.answers += is_answer(event, sources.schema)
        if event.HasField("outcome"):
            outcome = event.outcome
            if sources.schema.has_kind(outcome.kind):
                label = sources.schema.kind(outcome.kind).label
                found.outcomes.add(outcome.decision_id, outcome.slot, label, at_ms, outcome.kind)
                found.delays.heard(
                    outcome.decision_id, label, at_ms, frame.received_ms, outcome.kind
                )
        elif event.HasField("evicted"):
            found.thinned.add(frame, event.evicted)
        elif event.HasField("decision"):
            record = event.decision
            found.markers.update(record.context_markers)
            if any(slot.offer for slot in record.slots):
                found.delays.decided(record.decision_id, record.placement, at_ms, frame.received_ms)
        elif event.HasField("interaction") and label_of(event.interaction, sources.schema):
            found.markers.update(event.interaction.context_markers)
    return found


def event_reader(sources: Sources) -> EventReader:
    """Return what reads imprints and links, by the rules of the build."""
    return EventReader(sources.schema, sources.product_dna, sources.offers.get)


def read_event(frame: LoggedFrame) -> tuple[event_pb2.Event | None, int]:
    """Return the event of a frame and its time in Unix milliseconds; None for what is unreadable.

    The time is the one by which genomes are built.
    """
    try:
        event = event_pb2.Event.FromString(frame.body)
    except DecodeError:
        return None, 0
    return event, time_of(event, frame)


def is_answer(event: event_pb2.Event, schema: DnaSchema) -> bool:
    """Whether an event says that an offer was taken or refused."""
    if event.HasField("outcome"):
        kind = event.outcome.kind
        return schema.has_kind(kind) and schema.kind(kind).label != 0
    return event.HasField("interaction") and label_of(event.interaction, schema) != 0


def label_of(said: event_pb2.Interaction, schema: DnaSchema) -> int:
    """Return +1 or -1 for an answer to an offer, 0 for every other interaction."""
    if not said.offer or not schema.has_kind(said.kind):
        return 0
    return schema.kind(said.kind).label
