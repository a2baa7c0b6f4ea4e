"""A log in memory, and the sources of examples around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, NamespaceRule
from edge_sdk.engine.offers import placement_from_document
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.genomes.events import Dna
from genome_server.learning.dataset import Counts, load_examples
from genome_server.learning.examples import Examples
from genome_server.learning.survey import Person, Sources, survey
from genome_server.log.reader import LoggedFrame

HOUR = 3_600_000
LANDMARK = 490_000
START_MS = LANDMARK * HOUR
SCHEMA = DnaSchema(
    epoch=1,
    landmark_hour=LANDMARK,
    namespaces=(NamespaceRule("age", 0, ONE_Q24), NamespaceRule("service", 48)),
    kinds=(
        KindRule("view", ONE_Q24 // 4),
        KindRule("redeem", 2 * ONE_Q24, label=1),
        KindRule("dismiss", ONE_Q24, marker_prefix="not-", label=-1),
    ),
    default_half_life_hours=240,
)
OFFERS: Mapping[str, Dna] = {
    "taxi": [("service:taxi", 256)],
    "spa": [("service:spa", 256), ("calm:yes", 128)],
    "bare": [],
}
PLACEMENTS = {
    "screen": placement_from_document({"id": "screen", "outcome_window_hours": 24}),
    "feed": placement_from_document({"id": "feed", "shown": "view", "outcome_window_hours": 24}),
}
WORDS = (
    "age:30", "age:60", "service:taxi", "service:spa", "calm:yes",
    "not-service:taxi", "not-service:spa", "not-calm:yes", "activity:flight", "brand:acme",
)  # fmt: skip
VOCABULARY = Vocabulary(bytes(16), WORDS)
AGREED = Person((), True)


def who(number: int) -> bytes:
    return bytes([number]) * 16


def at(hours: float) -> int:
    """Hours after the landmark, in Unix milliseconds."""
    return START_MS + round(hours * HOUR)


def decision_id(number: int) -> bytes:
    return number.to_bytes(16)


@dataclass
class Log:
    """Frames in the order in which they were logged."""

    frames: list[LoggedFrame] = field(default_factory=list)
    persons: dict[bytes, Person] = field(default_factory=dict)

    def add(self, subject: bytes, kind: FrameKind, hours: float, **payload: Any) -> None:
        time_ms = at(hours)
        event = event_pb2.Event(
            time=event_pb2.EventTime(wall_ms=time_ms, offset_known=True), **payload
        )
        number = len(self.frames)
        body = event.SerializeToString()
        self.frames.append(
            LoggedFrame(
                number, "till", bytes(16), 0, number + 1, subject, kind, time_ms, time_ms, body
            )
        )

    def did(self, subject: bytes, hours: float, kind: str, *context: str, **facts: Any) -> None:
        said = event_pb2.Interaction(kind=kind, context_markers=context, **facts)
        self.add(subject, FrameKind.INTERACTION, hours, interaction=said)

    def decided(
        self,
        number: int,
        hours: float,
        *offers: str,
        subject: bytes = NOBODY,
        placement: str = "screen",
        propensity: float = 0.5,
        context: Sequence[str] = (),
        genome_used: bool = True,
        saliences_q8: Sequence[int] = (),
    ) -> None:
        record = event_pb2.DecisionRecord(
            decision_id=decision_id(number),
            placement=placement,
            context_markers=context,
            context_saliences_q8=saliences_q8,
            genome_used=genome_used,
            slots=[event_pb2.SlotRecord(offer=o, propensity=propensity) for o in offers],
        )
        self.add(subject, FrameKind.DECISION, hours, decision=record)

    def followed(
        self,
        number: int,
        hours: float,
        kind: str,
        slot: int = 0,
        subject: bytes = NOBODY,
        **facts: Any,
    ) -> None:
        said = event_pb2.Outcome(decision_id=decision_id(number), slot=slot, kind=kind, **facts)
        self.add(subject, FrameKind.OUTCOME, hours, outcome=said)

    def linked(self, one: bytes, other: bytes, hours: float, linked: bool = True) -> None:
        said = event_pb2.SubjectLink(other_subject=other, linked=linked)
        self.add(one, FrameKind.LINK, hours, link=said)

    def agreed(self, *subjects: bytes) -> None:
        for subject in subjects:
            self.persons[subject] = AGREED

    def sources(self) -> Sources:
        def replay() -> Iterator[LoggedFrame]:
            return iter(self.frames)

        return Sources(
            frames=replay,
            person=lambda subject: self.persons.get(subject, Person()),
            product_dna={"soap": [("brand:acme", 256)]}.get,
            offers=OFFERS,
            placements=PLACEMENTS,
            schema=SCHEMA,
        )

    def examples(
        self, now_hours: float = 10_000, vocabulary: Vocabulary = VOCABULARY
    ) -> tuple[Examples, Counts]:
        sources = self.sources()
        return load_examples(sources, survey(sources), vocabulary, now_ms=at(now_hours))


def query(examples: Examples, row: int) -> dict[str, tuple[float, float]]:
    """Warm and cold weight of each marker of an example, by name."""
    here = slice(examples.start[row], examples.start[row + 1])
    return {
        WORDS[index]: (round(float(warm), 3), round(float(cold), 3))
        for index, warm, cold in zip(
            examples.index[here], examples.warm[here], examples.cold[here], strict=True
        )
    }
