"""What a logged event does to genomes. Free of I/O; build and live read events here alone.

Rules.
- Time. The hour of an imprint is that of the device's wall clock, corrected by
  what the device knew of the server's clock, and never later than five minutes
  after the event was received. It depends on nothing but the log, so that a
  rebuild finds the same hour.
- An interaction imprints its explicit DNA, else its product's, else its
  offer's; an outcome imprints the DNA of the offer that it names. Where the
  schema says so of its kind, an interaction imprints its tender and what it says
  of the moment beside that, and weighs more the longer it took.
- An interaction id, and an outcome's event id under its kind, count once: the
  first in the log.
- Consent and links are said per subject: the latest word counts, and of two at
  one moment the more careful one (withdrawn, not linked).
- What cannot be read is passed over, counted by reason, and never stops the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY, SUBJECT_BYTES
from edge_sdk.dna.imprint import beside, event_weight, explode, hour_of, vote
from edge_sdk.dna.schema import MAX_DOUBLINGS, DnaSchema
from edge_sdk.errors import InvalidMarker, LandmarkExhausted
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.genomes.bodies import DWELL, MOMENT, TENDER
from genome_server.log.reader import LoggedFrame

FUTURE_MS: Final = 5 * 60 * 1000
"""How far ahead of its receipt an event may claim to be."""

_MAX_PURPOSE: Final = 30
_TENDER: Final = "tender"
MOST_GIVEN: Final = 50_000
"""Different (product or offer, kind, amount) whose votes are remembered; then it begins anew."""
READ: Final = frozenset(
    {FrameKind.INTERACTION, FrameKind.OUTCOME, FrameKind.CONSENT, FrameKind.LINK}
)
"""Kinds that may change a genome."""

Dna = Sequence[tuple[str, int]]
"""Markers with their salience in 1/256."""


class Skip(StrEnum):
    """Why an event left no trace in any genome."""

    UNREADABLE = "unreadable"
    NOBODY = "nobody"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_PRODUCT = "unknown_product"
    UNKNOWN_OFFER = "unknown_offer"
    NO_DNA = "no_dna"


class MarkerVote(NamedTuple):
    """What one event gives to one marker; the vote is in 2^24 fixed point."""

    marker: str
    half_life: int
    vote: int


Exploded = tuple[tuple[str, int, int], ...]
Given = tuple[int, tuple[MarkerVote, ...]]
"""The shortest half-life among some votes (0: none), and the votes."""


class Imprint(NamedTuple):
    """Votes of one event at an hour since the Unix epoch; `once` is its 16-byte id, if any.

    Events that do the same share one tuple of votes.
    """

    subject: bytes
    hour: int
    votes: tuple[MarkerVote, ...]
    once: bytes | None


@dataclass(frozen=True, slots=True)
class ConsentSaid:
    """A customer agreed or withdrew at `time_ms`."""

    subject: bytes
    purpose: int
    granted: bool
    time_ms: int


@dataclass(frozen=True, slots=True)
class LinkSaid:
    """Two subjects are one person since `time_ms`, or are no longer."""

    subject: bytes
    other: bytes
    linked: bool
    time_ms: int


Effect = Imprint | ConsentSaid | LinkSaid | Skip


def event_ms(time: event_pb2.EventTime, received_ms: int) -> int:
    """The one time of an event, in Unix milliseconds, from its clocks and its receipt."""
    wall = time.wall_ms + (time.server_offset_ms if time.offset_known else 0)
    return _bounded(wall, received_ms)


def time_of(event: event_pb2.Event, frame: LoggedFrame) -> int:
    """The one time of an event of the log, in Unix milliseconds."""
    if event.HasField("time"):
        return event_ms(event.time, frame.received_ms)
    return _bounded(frame.time_ms, frame.received_ms)


def _bounded(at_ms: int, received_ms: int) -> int:
    """Neither before 1970 nor long after its receipt."""
    latest = received_ms + FUTURE_MS
    if 0 <= at_ms <= latest:
        return at_ms
    return max(0, min(at_ms, latest))


def interaction_key(interaction_id: str) -> bytes:
    """The 16 bytes under which an interaction id is remembered."""
    return hashlib.blake2b(interaction_id.encode(), digest_size=16).digest()


def outcome_key(kind: str, event_id: str) -> bytes:
    """The 16 bytes under which the id of an outcome of a kind is remembered."""
    return interaction_key(f"outcome\0{kind}\0{event_id}")


class EventReader:
    """Turns frames of the log into effects on genomes.

    `product_dna` and `offer_dna` give the DNA behind an id, or None where the id
    is not known; they are asked once for each id.
    """

    def __init__(
        self,
        schema: DnaSchema,
        product_dna: Callable[[str], Dna | None],
        offer_dna: Callable[[str], Dna | None],
    ) -> None:
        self._schema = schema
        self._sources = {"product": product_dna, "offer": offer_dna}
        self._exploded: dict[tuple[str, str, str], Exploded | None] = {}
        self._given: dict[tuple[str, str, str, int], Given] = {}

    def read(self, frame: LoggedFrame) -> Effect | None:
        """What the event does; None for kinds that have nothing to do with genomes.

        Raises LandmarkExhausted where it lies too far after the landmark.
        """
        if frame.kind not in READ:
            return None
        try:
            event = event_pb2.Event.FromString(frame.body)
        except DecodeError:
            return Skip.UNREADABLE
        payload = event.WhichOneof("payload")
        at_ms = time_of(event, frame)
        if frame.subject == NOBODY:
            return Skip.NOBODY
        if payload == "interaction":
            return self._interaction(frame.subject, at_ms, event.interaction)
        if payload == "outcome":
            return self._outcome(frame.subject, at_ms, event.outcome)
        if payload == "consent" and 1 <= event.consent.purpose <= _MAX_PURPOSE:
            said = event.consent
            return ConsentSaid(frame.subject, said.purpose, said.granted, at_ms)
        if payload == "link" and len(event.link.other_subject) == SUBJECT_BYTES:
            other = event.link.other_subject
            if other == NOBODY or other == frame.subject:
                return Skip.NOBODY
            return LinkSaid(frame.subject, other, event.link.linked, at_ms)
        return Skip.UNREADABLE

    def _interaction(
        self, subject: bytes, at_ms: int, said: event_pb2.Interaction
    ) -> Imprint | Skip:
        name = said.interaction_id
        once = interaction_key(name) if name else None
        if said.dna or self._more(said):
            return self._in_full(subject, at_ms, said, once)
        given = self.interaction(said.kind, said.product, said.offer, said.amount_micros)
        return given if isinstance(given, Skip) else self._imprint(subject, at_ms, given, once)

    def _outcome(self, subject: bytes, at_ms: int, said: event_pb2.Outcome) -> Imprint | Skip:
        once = outcome_key(said.kind, said.event_id) if said.event_id else None
        given = self.outcome(said.kind, said.offer, said.value_micros)
        return given if isinstance(given, Skip) else self._imprint(subject, at_ms, given, once)

    def interaction(
        self, kind: str, product: str, offer: str, amount_micros: int, more: Exploded = ()
    ) -> Given | Skip:
        """What an interaction gives that names no DNA itself; `more` goes beside it."""
        if more:
            found = self.thing(kind, product, offer, outcome=False, more=more)
            if isinstance(found, Skip):
                return found
            return _give(found, event_weight(self._schema, kind, amount_micros))
        if product:
            return self._named(("product", product, kind, amount_micros), Skip.UNKNOWN_PRODUCT)
        if offer:
            return self._named(("offer", offer, kind, amount_micros), Skip.UNKNOWN_OFFER)
        return Skip.NO_DNA if self._schema.has_kind(kind) else Skip.UNKNOWN_KIND

    def outcome(self, kind: str, offer: str, value_micros: int) -> Given | Skip:
        """What an outcome gives."""
        if not self._schema.has_kind(kind):
            return Skip.UNKNOWN_KIND
        if not offer:
            return Skip.UNKNOWN_OFFER
        return self._named(("offer", offer, kind, value_micros), Skip.UNKNOWN_OFFER)

    def thing(
        self, kind: str, product: str, offer: str, *, outcome: bool, more: Exploded = ()
    ) -> Exploded | Skip:
        """What an interaction or an outcome imprints, without its weight; `more` goes beside it."""
        if not self._schema.has_kind(kind):
            return Skip.UNKNOWN_KIND
        if product and not outcome:
            found, unknown = self._behind("product", product, kind), Skip.UNKNOWN_PRODUCT
        elif offer:
            found, unknown = self._behind("offer", offer, kind), Skip.UNKNOWN_OFFER
        elif outcome:
            return Skip.UNKNOWN_OFFER
        else:
            return more or Skip.NO_DNA
        if not found:
            return unknown if found is None else Skip.NO_DNA
        return _together(found, more)

    def beside(self, kind: str, tender: str, moment: Sequence[str]) -> Exploded | Skip:
        """What an interaction of a known kind imprints beside its DNA."""
        try:
            return tuple(explode(self._schema, kind, beside(self._schema, kind, tender, moment)))
        except InvalidMarker:
            return Skip.UNREADABLE

    def knows(self, kind: str) -> bool:
        """Whether the schema has this kind."""
        return self._schema.has_kind(kind)

    @property
    def counted(self) -> frozenset[int]:
        """Numbers of fields of an interaction that count beside kind, thing and amount."""
        fields: set[int] = set()
        for rule in self._schema.kinds:
            fields |= {TENDER if name == _TENDER else MOMENT for name in rule.beside}
            fields |= {DWELL} if rule.dwell_weight_q24 else set()
        return frozenset(fields)

    def _more(self, said: event_pb2.Interaction) -> bool:
        """Whether more than kind, thing and amount may count."""
        if not self._schema.has_kind(said.kind):
            return False
        rule = self._schema.kind(said.kind)
        paid = bool(said.tender) and _TENDER in rule.beside
        moment = bool(said.context_markers) and any(name != _TENDER for name in rule.beside)
        return paid or moment or (rule.dwell_weight_q24 > 0 and said.dwell_ms > 0)

    def _in_full(
        self, subject: bytes, at_ms: int, said: event_pb2.Interaction, once: bytes | None
    ) -> Imprint | Skip:
        """What an interaction does that names its DNA itself, or of which more counts."""
        if not self._schema.has_kind(said.kind):
            return Skip.UNKNOWN_KIND
        more = self.beside(said.kind, said.tender, said.context_markers)
        if isinstance(more, Skip):
            return more
        if said.dna:
            try:
                dna = [(item.marker, item.salience_q8) for item in said.dna]
                found = _together(explode(self._schema, said.kind, dna), more)
            except InvalidMarker:
                return Skip.UNREADABLE
        else:
            thing = self.thing(said.kind, said.product, said.offer, outcome=False, more=more)
            if isinstance(thing, Skip):
                return thing
            found = thing
        weight = event_weight(self._schema, said.kind, said.amount_micros, said.dwell_ms)
        given = _give(found, weight)
        return self._imprint(subject, at_ms, given, once)

    def _named(self, key: tuple[str, str, str, int], unknown: Skip) -> Given | Skip:
        """What happened to a product or offer gives: (which, its id, kind, amount in micros)."""
        given = self._given.get(key)
        if given is None:
            source, name, kind, amount_micros = key
            if not self._schema.has_kind(kind):
                return Skip.UNKNOWN_KIND
            exploded = self._behind(source, name, kind)
            if exploded is None:
                return unknown
            if len(self._given) >= MOST_GIVEN:
                self._given.clear()
            weight = event_weight(self._schema, kind, amount_micros)
            given = self._given[key] = _give(exploded, weight)
        return given if given[1] else Skip.NO_DNA

    def _behind(self, source: str, name: str, kind: str) -> Exploded | None:
        """(marker, salience, half-life) that a kind imprints of a product or offer."""
        key = (source, name, kind)
        if key not in self._exploded:
            if len(self._exploded) >= MOST_GIVEN:
                self._exploded.clear()  # of ids that nobody knows there is no end
            dna = self._sources[source](name)
            found = None if dna is None else tuple(explode(self._schema, kind, dna))
            self._exploded[key] = found
        return self._exploded[key]

    def _imprint(
        self, subject: bytes, at_ms: int, given: Given, once: bytes | None
    ) -> Imprint | Skip:
        if not given[1]:
            return Skip.NO_DNA
        hour = hour_of(at_ms)
        self.check(given, hour)
        return Imprint(subject, hour, given[1], once)

    def check(self, given: Given, hour: int) -> None:
        """Raise LandmarkExhausted where this hour lies too far after the landmark for these."""
        shortest, votes = given
        since = hour - self._schema.landmark_hour
        if shortest and since // shortest > MAX_DOUBLINGS:
            marker = next(v.marker for v in votes if v.half_life == shortest)
            raise LandmarkExhausted(
                f"an event lies {since} hours after the landmark, more than "
                f"{MAX_DOUBLINGS} half-lives of {marker}"
            )


def _together(found: Iterable[tuple[str, int, int]], more: Exploded) -> Exploded:
    """A thing's markers and what goes beside them; of a marker in both the thing's stays."""
    dna = tuple(found)
    if not more:
        return dna
    known = {marker for marker, _, _ in dna}
    return (*dna, *(one for one in more if one[0] not in known))


def _give(exploded: Exploded, weight: int) -> Given:
    """The votes of one event of this weight, and the shortest half-life among them (0: none)."""
    votes = tuple(MarkerVote(m, half_life, vote(weight, s)) for m, s, half_life in exploded)
    return min((v.half_life for v in votes if v.half_life), default=0), votes
