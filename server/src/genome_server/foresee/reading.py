"""The log as foreseeing sees it: who did what, when, to what, over which channel.

A thin shell round the log: doings are read as everywhere (`genome_server.doings`), imprints by the
build's own rules, and subjects that are linked are one person. Of a log with very many customers
the events of some are read, drawn by subject, which is random; whoever is asked about is always
among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from edge_sdk.outbox.frames import FrameKind
from genome_server.doings.categories import CATEGORY, Categories, strongest
from genome_server.doings.reading import DONE, doings
from genome_server.genomes.events import Dna, EventReader, Imprint, LinkSaid
from genome_server.learning.persons import Persons
from genome_server.log.reader import LoggedFrame

MOST_PEOPLE: Final = 20_000
"""Customers whose events are read; of more, so many are drawn."""
MOST_EVENTS: Final = 1_000_000
"""Events that are kept in memory, about; of a longer log fewer customers are drawn."""

READ: Final = frozenset({*DONE, FrameKind.LINK})
"""Kinds of frames that are looked at."""

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
    """What the log says: events in its order, and which subjects are one person.

    `share` of the subjects were read, and who was asked about.
    """

    events: list[Happened] = field(default_factory=list)
    persons: Persons = field(default_factory=Persons)
    share: float = 1.0


def drawn(subject: bytes, share: float) -> bool:
    """Whether a subject is among a share of all: subjects are random, and so is who that is."""
    return int.from_bytes(subject[:4], "big") < round(share * _ALL)


def read_story(
    frames: Iterable[LoggedFrame],
    reader: EventReader,
    product_dna: Callable[[str], Dna | None],
    offer_dna: Callable[[str], Dna | None],
    *,
    namespace: str = CATEGORY,
    share: float = 1.0,
    always: Collection[bytes] = (),
) -> Story:
    """Read the log once. `namespace` is that of the markers that are an event's category.

    `share` of the subjects are read, and those of `always`. What a customer only had to look at
    (a decision) is nothing that they did.
    """
    story = Story(share=share)
    categories = Categories(product_dna, offer_dna, namespace)

    def whose(subject: bytes) -> bool:
        return drawn(subject, share) or subject in always

    def without_links() -> Iterator[LoggedFrame]:
        for frame in frames:
            if frame.kind == FrameKind.LINK:
                effect = reader.read(frame)
                if isinstance(effect, LinkSaid):
                    story.persons.hear(effect)
            elif frame.kind in DONE:
                yield frame

    for doing in doings(without_links(), whose):
        # What leaves no trace in a genome (a purchase of nothing known) was done all the same.
        effect = reader.read(doing.frame)
        votes: tuple[tuple[str, int, int], ...] = ()
        if isinstance(effect, Imprint):
            votes = tuple((vote.marker, vote.half_life, vote.vote) for vote in effect.votes)
        said = doing.said
        channel = strongest([(name, 256) for name in said.context_markers], "channel")
        story.events.append(
            Happened(
                doing.frame.subject, doing.at_ms, said.kind, categories.of(said), channel, votes
            )
        )
    return story
