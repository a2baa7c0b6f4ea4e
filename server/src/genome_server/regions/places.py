"""Where people are: the one definition, for demand and stock and for the best of a region.

Somebody is at the first of these that is known, by ids that agreed to learning and to location:

1. the home that the profile states: markers `home:<cell>`, of any resolution;
2. the home region that a build derives, by evenings and nights;
3. where they were seen: the regions of what they did and of what was decided for them, one vote for
   each day in a region.

Who is in several regions is in each by a share; where one place is asked for, it is the one with
the greatest share. Free of I/O: customers and doings are handed in. Persons are rows of genomes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_sdk.engine.cells import ancestors, parse_cell, resolution
from edge_sdk.errors import UsageError
from genome_server.genomes.consents import STATED_HOME
from genome_server.regions.cells import Cells, Ints, parents
from genome_server.regions.crowd import Whereabouts, home_first, whereabouts
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.compare.matrix import Genomes
    from genome_server.derived import Insights
    from genome_server.doings.reading import Doing
    from genome_server.store.rows import CustomerRow

RESOLUTION: Final = 5
"""How fine the one region is that somebody is put into."""


def homes(
    customers: Iterable[CustomerRow], genomes: Genomes, insights: Insights | None
) -> Whereabouts:
    """Where those live of whom it is known. `insights` is what the last build derived."""
    person, cell, weight = [], [], []
    ids: dict[int, list[CustomerRow]] = {}
    for customer in customers:
        row = placed(genomes, customer.subject)
        if row is None:
            continue
        if insights is not None and customer.insight:
            ids.setdefault(row, []).append(customer)
        for name, q8 in customer.markers:
            if not name.startswith(STATED_HOME):
                continue
            found = cell_of(name.removeprefix(STATED_HOME))
            if found is not None:
                person.append(row)
                cell.append(found)
                weight.append(float(q8))
    stated = _columns(person, cell, weight)
    if insights is None:
        return stated
    derived = [
        (row, found)
        for row, known in ids.items()
        if (found := cell_of(insights.home(known))) is not None
    ]
    return home_first(
        stated,
        _columns([row for row, _ in derived], [at for _, at in derived], [1.0] * len(derived)),
    )


class Seen:
    """Takes doings one by one; where people were seen is asked at the end.

    What was before `since_ms` (Unix) does not count.
    """

    def __init__(self, genomes: Genomes, since_ms: int = 0) -> None:
        self._genomes = genomes
        self._since_ms = since_ms
        self._cells: dict[str, int | None] = {}
        self._person, self._cell, self._day = array("q"), array("Q"), array("q")

    def take(self, doing: Doing) -> None:
        """Take a doing, or a decision."""
        region = doing.said.region
        if not region or doing.at_ms < self._since_ms:
            return
        row = placed(self._genomes, doing.frame.subject)
        if row is None:
            return
        if region not in self._cells:
            self._cells[region] = cell_of(region)
        if (cell := self._cells[region]) is not None:
            self._person.append(row)
            self._cell.append(cell)
            self._day.append(doing.at_ms // DAY_MS)

    def whereabouts(self) -> Whereabouts:
        """What was taken comes to."""
        columns = np.array(self._person), np.array(self._cell, np.uint64), np.array(self._day)
        person, cell, day = columns
        order = np.lexsort((day, cell, person))
        person, cell, day = person[order], cell[order], day[order]
        fresh = np.ones(len(person), bool)
        fresh[1:] = (
            (person[1:] != person[:-1]) | (cell[1:] != cell[:-1]) | (day[1:] != day[:-1])
        )  # fmt: skip
        return whereabouts(person[fresh], cell[fresh], np.ones(int(fresh.sum())))


def placed(genomes: Genomes, subject: bytes) -> int | None:
    """The row of the person whose place may be known by this subject."""
    row = genomes.row_learnt(subject)
    return row if row is not None and genomes.located(subject, row) else None


def main_regions(where: Whereabouts, people: int) -> list[str]:
    """The one region of each of so many, no finer than `RESOLUTION`; "" where none is known.

    Of equal shares it is the one whose name comes first.
    """
    regions = [""] * people
    coarse = whereabouts(
        where.person, parents(where.cell, RESOLUTION), where.share.astype(np.float64)
    )
    order = np.lexsort((coarse.cell, -coarse.share, coarse.person))
    person: Ints = coarse.person[order]
    cell: Cells = coarse.cell[order]
    first = np.flatnonzero(np.diff(person, prepend=-1))
    for one, at in zip(person[first].tolist(), cell[first].tolist(), strict=True):
        regions[one] = f"{at:x}"
    return regions


def lies_in(region: str, cell: int) -> bool:
    """Whether a region lies in a cell of its own or a coarser resolution."""
    lineage = ancestors(parse_cell(region))
    return resolution(cell) < len(lineage) and lineage[resolution(cell)] == cell


def cell_of(text: str) -> int | None:
    """The cell that is named; None where it is none."""
    try:
        return parse_cell(text)
    except UsageError:
        return None


def _columns(person: list[int], cell: list[int], weight: list[float]) -> Whereabouts:
    return whereabouts(
        np.array(person, np.int64), np.array(cell, np.uint64), np.array(weight, np.float64)
    )
