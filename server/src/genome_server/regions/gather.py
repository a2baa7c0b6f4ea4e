"""Reading genomes and whereabouts out of a tenant: the shell round `genome_server.regions`.

Whose genome counts. What is said of regions is a statistic: of a person the subjects count that
agreed to learning, and have a place where they agreed to location, too (`genomes.consents`). Linked
subjects are one person.

Where somebody is: see `genome_server.regions.places`. Nothing finer than regions of resolution 5 is
in the log, and no coordinates are anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_sdk.dna.schema import HOUR_MS
from genome_server.compare.matrix import Genomes, chosen
from genome_server.compare.reading import read_genomes
from genome_server.derived.renew import insights_of
from genome_server.doings.reading import PLACED, doings, frames_of
from genome_server.genomes.consents import tells_home
from genome_server.regions.cells import Ints, resolutions
from genome_server.regions.crowd import UNIT, Crowd, Whereabouts, home_first
from genome_server.regions.places import Seen, homes, placed
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.log import LogReader
    from genome_server.store.protocol import Store

Where = Literal["home", "seen"]


@dataclass
class Counted:
    """How many people were looked at and why some have no say."""

    genomes: int = 0
    """Subjects that have a genome."""
    people: int = 0
    """People who count."""
    no_learning: int = 0
    """People who did not agree to learning."""
    no_location: int = 0
    """People who count, did not agree to location, and so have no place."""
    no_place: int = 0
    """People who count and agreed to location, of whom no place is known."""
    by_home: int = 0
    """People whose place is their home."""
    by_log: int = 0
    """People whose place is where they were seen."""
    coarse: Counter[int] = field(default_factory=Counter)
    """People by the finest resolution in which a place of theirs is known."""


class _People:
    """Who counts, numbered, out of genomes."""

    def __init__(self, genomes: Genomes) -> None:
        self._genomes = genomes
        self.rows = genomes.agreed(CONSENT_LEARNING)
        self._number = np.full(len(genomes), -1, np.int64)
        self._number[self.rows] = np.arange(len(self.rows))
        agreed = (genomes.consents[self.rows] & CONSENT_LOCATION) != 0
        self.located = np.flatnonzero(agreed)
        """The numbers of those of whom a place may be known."""

    def placed(self, subject: bytes) -> bool:
        """Whether a place may be known by this subject."""
        return placed(self._genomes, subject) is not None

    def numbered(self, where: Whereabouts) -> Whereabouts:
        """Where they are, by their numbers instead of the rows of genomes."""
        return Whereabouts(self._number[where.person], where.cell, where.share)

    def columns(self) -> tuple[Ints, Ints, Ints]:
        """Person, marker and strength in 1/1024 of everybody who counts."""
        starts, places = chosen(self._genomes.starts, self.rows)
        person = np.repeat(np.arange(len(self.rows), dtype=np.int64), np.diff(starts))
        strength = self._genomes.strengths[places].astype(np.float64)
        unit = np.rint(strength * UNIT).astype(np.int64)
        return person, self._genomes.markers[places].astype(np.int64), unit


def gather(
    store: Store,
    log: LogReader | None,
    *,
    now_ms: int,
    days: int,
    where: Where = "home",
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Crowd, Counted]:
    """The crowd of a tenant, and who is in it.

    Genomes are faded to `now_ms` (Unix); of the log the last so many `days` count. `where` says
    whether a home that is known counts first, or only where somebody was seen. `progress` hears how
    many events were read. Raises Refused before the first build.
    """
    with store.snapshot():
        vocabulary = store.vocabulary()
        names = vocabulary.markers
        genomes = read_genomes(store, hour=now_ms // HOUR_MS)
        people = _People(genomes)
        counted = Counted(genomes=genomes.taken, people=len(people.rows))
        counted.no_learning = genomes.persons - counted.people
        columns = people.columns()
        lived = homes(store.customers(), genomes, insights_of(store))
    seen = Seen(genomes, now_ms - days * DAY_MS)
    if log is not None:
        frames = frames_of(log, PLACED, heard=progress)
        # On a day in a region is there, however often it is said.
        for doing in doings(frames, people.placed, once=lambda _: False):
            seen.take(doing)
    lived = people.numbered(lived if where == "home" else _NOWHERE)
    places = home_first(lived, people.numbered(seen.whereabouts()))
    _count(counted, people, lived, places)
    # A home is a place, not a taste.
    taste = np.array([not tells_home(name) for name in names], bool)
    person, marker, strength = (column[taste[columns[1]]] for column in columns)
    return Crowd(counted.people, names, person, marker, strength, places), counted


_NOWHERE: Final = Whereabouts(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


def _count(counted: Counted, people: _People, lived: Whereabouts, where: Whereabouts) -> None:
    counted.by_home = lived.people
    counted.by_log = where.people - lived.people
    allowed = len(people.located)
    counted.no_location = counted.people - allowed
    counted.no_place = allowed - where.people
    finest = np.zeros(counted.people, np.int64)
    np.maximum.at(finest, where.person, resolutions(where.cell))
    placed = np.unique(where.person)
    counted.coarse = Counter(finest[placed].tolist())
