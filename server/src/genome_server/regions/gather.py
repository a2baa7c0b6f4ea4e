"""Reading genomes and whereabouts out of a tenant: the shell round `genome_server.regions`.

Whose genome counts. What is said of regions is a statistic: of a person the subjects count that
agreed to learning, and have a place where they agreed to location, too (`genomes.consents`). Linked
subjects are one person.

Where somebody is. A marker `home:<cell>` of the customer's profile, of any resolution; else the
home that a build derived (`insight:home-<cell>`); else, or where only that is asked for, the
regions in which they did something or were decided for, as the log has them: cells of resolution 5
or coarser, one vote for each day. Nothing finer is in the log, and no coordinates are anywhere.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from google.protobuf.message import DecodeError

from edge_sdk.dna.markers import split
from edge_sdk.dna.schema import HOUR_MS
from edge_sdk.engine.cells import parse_cell
from edge_sdk.errors import UsageError
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.compare.matrix import Genomes, chosen
from genome_server.compare.reading import read_genomes
from genome_server.genomes.consents import tells_home
from genome_server.genomes.events import time_of
from genome_server.regions.cells import Cells, Ints
from genome_server.regions.crowd import UNIT, Crowd, Whereabouts, home_first, whereabouts
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION

if TYPE_CHECKING:
    from genome_server.log import LogReader
    from genome_server.store.protocol import Store

HOME: Final = "home"
"""The namespace of the marker that says in which cell somebody lives."""
DERIVED_HOME: Final = "insight:home-"
"""How the marker begins that says so where a build derived it."""
Where = Literal["home", "seen"]
_DAY_MS: Final = 86_400_000
_TELLING: Final = frozenset({FrameKind.INTERACTION, FrameKind.DECISION})


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

    def of(self, subject: bytes) -> int | None:
        """The person whose place may be known by this subject."""
        row = self._genomes.row_learnt(subject)
        if row is None or not self._genomes.located(subject, row):
            return None
        return int(self._number[row])

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
        told = _homes(store, people)
    cells = np.array([_home_of(name) for name in names], np.uint64)
    homes = home_first(told, _derived(people, columns[0], cells[columns[1]]))
    if where == "seen":
        homes = whereabouts(*_NOWHERE)
    seen = _seen(log, people, now_ms - days * _DAY_MS, progress)
    places = home_first(homes, seen)
    _count(counted, people, homes, places)
    # A home is a place, not a taste.
    taste = np.array([not tells_home(name) for name in names], bool)
    person, marker, strength = (column[taste[columns[1]]] for column in columns)
    return Crowd(counted.people, names, person, marker, strength, places), counted


_NOWHERE: Final = (np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0))


def _home_of(name: str) -> int:
    """The cell of a marker that says where somebody lives; 0 for any other, or where it is none."""
    if name.startswith(DERIVED_HOME):
        return _cell(name.removeprefix(DERIVED_HOME)) or 0
    namespace, value = split(name)
    return (_cell(value) or 0) if namespace == HOME else 0


def _derived(people: _People, person: Ints, cell: Cells) -> Whereabouts:
    """The homes (0: none) in the genomes of those who agreed to location."""
    kept = (cell != 0) & np.isin(person, people.located)
    return whereabouts(person[kept], cell[kept], np.ones(int(kept.sum())))


def _homes(store: Store, people: _People) -> Whereabouts:
    person, cell, weight = [], [], []
    for customer in store.customers():
        number = people.of(customer.subject)
        if number is None:
            continue
        for name, q8 in customer.markers:
            if found := _home_of(name):
                person.append(number)
                cell.append(found)
                weight.append(float(q8))
    return whereabouts(
        np.array(person, np.int64), np.array(cell, np.uint64), np.array(weight, np.float64)
    )


def _seen(
    log: LogReader | None, people: _People, since_ms: int, progress: Callable[[int], None]
) -> Whereabouts:
    person, cell, day = array("q"), array("Q"), array("q")
    cells: dict[str, int | None] = {}
    for batch in log.batches() if log is not None else ():
        for frame in batch.frames(_TELLING):
            number = people.of(frame.subject)
            if number is None:
                continue
            try:
                event = event_pb2.Event.FromString(frame.body)
            except DecodeError:
                continue  # a build counts and reports it
            said = event.interaction if frame.kind == FrameKind.INTERACTION else event.decision
            region = said.region
            if not region or (at_ms := time_of(event, frame)) < since_ms:
                continue
            if region not in cells:
                cells[region] = _cell(region)
            if (found := cells[region]) is not None:
                person.append(number)
                cell.append(found)
                day.append(at_ms // _DAY_MS)
        progress(batch.count)
    return _by_days(
        np.frombuffer(person, np.int64) if person else np.zeros(0, np.int64),
        np.frombuffer(cell, np.uint64) if cell else np.zeros(0, np.uint64),
        np.frombuffer(day, np.int64) if day else np.zeros(0, np.int64),
    )


def _by_days(person: Ints, cell: Cells, day: Ints) -> Whereabouts:
    """One vote for each day on which somebody was in a cell."""
    order = np.lexsort((day, cell, person))
    person, cell, day = person[order], cell[order], day[order]
    fresh = np.ones(len(person), bool)
    fresh[1:] = (
        (person[1:] != person[:-1]) | (cell[1:] != cell[:-1]) | (day[1:] != day[:-1])
    )  # fmt: skip
    return whereabouts(person[fresh], cell[fresh], np.ones(int(fresh.sum())))


def _cell(text: str) -> int | None:
    try:
        return parse_cell(text)
    except UsageError:
        return None


def _count(counted: Counted, people: _People, homes: Whereabouts, where: Whereabouts) -> None:
    counted.by_home = homes.people
    counted.by_log = where.people - homes.people
    allowed = len(people.located)
    counted.no_location = counted.people - allowed
    counted.no_place = allowed - where.people
    finest = np.zeros(counted.people, np.int64)
    np.maximum.at(finest, where.person, (where.cell >> np.uint64(52) & np.uint64(15)).astype(int))
    placed = np.unique(where.person)
    counted.coarse = Counter(finest[placed].tolist())
