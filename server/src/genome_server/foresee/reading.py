"""The log as foreseeing sees it: who did what, when, to what, over which channel.

A thin shell round the log: imprints are read by the build's own rules, ids that come twice count
once, and subjects that are linked are one person. Of a log with very many customers the events of
some are read, drawn by subject, which is random; whoever is asked about is always among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY
from edge_sdk.dna.markers import split
from edge_sdk.errors import InvalidMarker
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.genomes.events import (
    Dna,
    EventReader,
    Imprint,
    LinkSaid,
    interaction_key,
    outcome_key,
    time_of,
)
from genome_server.learning.persons import Persons
from genome_server.log.reader import LoggedFrame

MOST_PEOPLE: Final = 20_000
"""Customers whose events are read; of more, so many are drawn."""
MOST_EVENTS: Final = 1_000_000
"""Events that are kept in memory, about; of a longer log fewer customers are drawn."""

_ALL: Final = 1 << 32


class Happened(NamedTuple):
    """One event of a person: when (Unix ms), what was done, in which category, over which channel.

    `votes` are what it imprinted: (marker, half-life in hours, vote in q24).
    """

    subject: bytes
    at_ms: int
    kind: str
    category: str | None
    channel: str | None
    votes: tuple[tuple[str, int, int], ...]


@dataclass
class Story:
    """What the log says: events in its order, and which subjects are one person."""

    events: list[Happened] = field(default_factory=list)
    persons: Persons = field(default_factory=Persons)


def read_story(
    frames: Iterable[LoggedFrame],
    reader: EventReader,
    product_dna: Callable[[str], Dna | None],
    offer_dna: Callable[[str], Dna | None],
    *,
    namespace: str = "category",
    share: float = 1.0,
    always: Collection[bytes] = (),
) -> Story:
    """Read the log once. `namespace` is that of the markers that are an event's category.

    `share` of the subjects are read, and those of `always`. What a customer only had to look at
    (a decision) is nothing that they did.
    """
    story = Story()
    seen: set[bytes] = set()
    categories: dict[tuple[str, str], str | None] = {}
    below = round(share * _ALL)

    def category_of(what: str, name: str) -> str | None:
        key = what, name
        if key not in categories:
            dna = product_dna(name) if what == "product" else offer_dna(name)
            categories[key] = strongest(dna or (), namespace)
        return categories[key]

    for frame in frames:
        if frame.kind == FrameKind.LINK:
            effect = reader.read(frame)
            if isinstance(effect, LinkSaid):
                story.persons.hear(effect)
            continue
        if frame.kind not in (FrameKind.INTERACTION, FrameKind.OUTCOME) or frame.subject == NOBODY:
            continue
        if int.from_bytes(frame.subject[:4], "big") >= below and frame.subject not in always:
            continue
        effect = reader.read(frame)
        event = event_pb2.Event()
        if not isinstance(effect, Imprint):
            # What leaves no trace in a genome (a purchase of nothing known) was done all the same.
            votes: tuple[tuple[str, int, int], ...] = ()
            try:
                event.ParseFromString(frame.body)
            except DecodeError:
                continue
        else:
            votes = tuple((vote.marker, vote.half_life, vote.vote) for vote in effect.votes)
            event.ParseFromString(frame.body)
        found = _happened(event, frame, votes, category_of, namespace)
        if found is None:
            continue
        key, happened = found
        if key is not None:
            if key in seen:
                continue
            seen.add(key)
        story.events.append(happened)
    return story


def _happened(
    event: event_pb2.Event,
    frame: LoggedFrame,
    votes: tuple[tuple[str, int, int], ...],
    category_of: Callable[[str, str], str | None],
    namespace: str,
) -> tuple[bytes | None, Happened] | None:
    """The id under which an event counts once, and the event; None for what is nobody's doing."""
    at_ms = time_of(event, frame)
    which = event.WhichOneof("payload")
    if which == "interaction":
        said = event.interaction
        if said.dna:
            dna = [(item.marker, item.salience_q8) for item in said.dna]
            category = strongest(dna, namespace)
        elif said.product:
            category = category_of("product", said.product)
        else:
            category = category_of("offer", said.offer) if said.offer else None
        channel = strongest([(name, 256) for name in said.context_markers], "channel")
        key = interaction_key(said.interaction_id) if said.interaction_id else None
        return key, Happened(frame.subject, at_ms, said.kind, category, channel, votes)
    if which == "outcome":
        outcome = event.outcome
        category = category_of("offer", outcome.offer) if outcome.offer else None
        key = outcome_key(outcome.kind, outcome.event_id) if outcome.event_id else None
        return key, Happened(frame.subject, at_ms, outcome.kind, category, None, votes)
    return None


def strongest(dna: Dna, namespace: str) -> str | None:
    """The value of the most salient marker of a namespace; of equal ones the first by name."""
    found = []
    for name, salience in dna:
        try:
            where, value = split(name)
        except InvalidMarker:
            continue
        if where == namespace:
            found.append((-salience, value))
    return min(found)[1] if found else None
