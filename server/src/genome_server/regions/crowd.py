"""Genomes and whereabouts of many people, in columns. Free of I/O.

Rules.
- Strengths are whole numbers of 1/1024, faded to one common hour. Sums of them are exact, so they
  do not depend on the order of customers, and what is shown and what is withheld add up to the
  last unit.
- Nobody is louder than ten: a strength counts up to ten times the median of those who have the
  marker, so that no region is one person's, and no reseller orders for a town.
- A person's whereabouts are shares of 256 over cells, by largest remainder: what somebody wants is
  wanted where they are, in these shares, and once in all.
- A home that is known counts before where somebody was seen.
- People of whom no place is known are counted and want nothing anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from genome_server.regions.cells import Cells, Floats, Ints

WHOLE: Final = 256
"""The shares of a person's whereabouts add up to this."""
UNIT: Final = 1024
"""A strength of 1.0."""
LOUDEST: Final = 10
"""Nobody's marker counts for more than so many times the (upper) median of all who have it."""
# Of one marker of one person: 2^32 units × 256 × two million people still fit into 63 bits.
_MOST_UNITS: Final = 1 << 32


@dataclass(frozen=True, eq=False)
class Whereabouts:
    """Where people are: person int64[n] ascending, cell uint64[n], share int64[n] in 1/256.

    Cells may be of different resolutions; the shares of a person add up to 256.
    """

    person: Ints
    cell: Cells
    share: Ints

    @property
    def people(self) -> int:
        """How many people have any."""
        return int(np.count_nonzero(np.diff(self.person, prepend=-1)))


class Spread(NamedTuple):
    """Strengths of one marker where their people are: three columns of n rows each."""

    person: Ints
    cell: Cells
    amount: Ints
    """Strength in 1/1024 × share in 1/256."""


class Crowd:
    """Genomes of numbered people and where these are. Immutable.

    `names` are the markers by index; `person`, `marker` and `strength` (in 1/1024) are columns of
    n rows, each (person, marker) once. `people` says how many there are, located or not.
    """

    def __init__(
        self,
        people: int,
        names: Sequence[str],
        person: Ints,
        marker: Ints,
        strength: Ints,
        where: Whereabouts,
    ) -> None:
        self.people = people
        self.where = where
        self._index = {name: i for i, name in enumerate(names)}
        self.names = tuple(names)
        counts = np.bincount(where.person, minlength=people)
        located = (counts[person] > 0) & (strength > 0)
        person, marker, strength = person[located], marker[located], strength[located]
        order = np.lexsort((strength, marker))
        begins = np.searchsorted(marker[order], np.arange(len(names) + 1))
        strength = np.minimum(strength, _most(strength[order], begins)[marker])
        order = np.lexsort((person, marker))
        self._person, self._strength, self._begins = person[order], strength[order], begins
        self._counts = counts
        self._first = np.cumsum(counts) - counts

    def holders(self, name: str) -> int:
        """How many located people have a marker."""
        i = self._index.get(name)
        return 0 if i is None else int(self._begins[i + 1] - self._begins[i])

    def total(self, name: str) -> int:
        """All strength of a marker, in 1/1024 × 1/256, of those whose place is known."""
        i = self._index.get(name)
        if i is None:
            return 0
        return WHOLE * int(self._strength[self._begins[i] : self._begins[i + 1]].sum())

    def spread(self, name: str) -> Spread:
        """The strengths of one marker, each spread over the cells in which its person is."""
        i = self._index.get(name)
        begin, end = (0, 0) if i is None else self._begins[i : i + 2].tolist()
        person, strength = self._person[begin:end], self._strength[begin:end]
        counts = self._counts[person]
        rows = np.repeat(self._first[person] - (np.cumsum(counts) - counts), counts)
        rows = rows + np.arange(len(rows))
        where = self.where
        amount = np.repeat(strength, counts) * where.share[rows]
        return Spread(np.repeat(person, counts), where.cell[rows], amount)

    @cached_property
    def everybody(self) -> Spread:
        """All located people where they are, each of strength 1 in all."""
        where = self.where
        return Spread(where.person, where.cell, where.share)


def _most(ascending: Ints, begins: Ints) -> Ints:
    """Of each marker the most that one person's strength counts, from strengths by marker."""
    middle = np.minimum((begins[:-1] + begins[1:]) // 2, max(len(ascending) - 1, 0))
    median = ascending[middle] if len(ascending) else np.zeros(len(begins) - 1, np.int64)
    return np.asarray(np.minimum(LOUDEST * median, _MOST_UNITS))


def whereabouts(person: Ints, cell: Cells, weight: Floats) -> Whereabouts:
    """Shares of 256 from evidence: person int64[n], cell uint64[n], weight float64[n] above 0.

    Of equal remainders the smaller cell gets the unit. A cell that gets none is left out.
    """
    if not len(person):
        nothing = np.zeros(0, np.int64)
        return Whereabouts(nothing, np.zeros(0, np.uint64), nothing)
    order = np.lexsort((cell, person))
    person, cell, weight = person[order], cell[order], weight[order]
    fresh = np.ones(len(person), bool)
    fresh[1:] = (person[1:] != person[:-1]) | (cell[1:] != cell[:-1])
    weight = np.add.reduceat(weight, np.flatnonzero(fresh))
    person, cell = person[fresh], cell[fresh]
    starts = np.flatnonzero(np.diff(person, prepend=-1))
    sizes = np.diff(starts, append=len(person))
    quota = weight * WHOLE / np.repeat(np.add.reduceat(weight, starts), sizes)
    share = np.floor(quota).astype(np.int64)
    missing = np.repeat(WHOLE - np.add.reduceat(share, starts), sizes)
    # By person, the greatest remainder first; then the smaller cell.
    ranked = np.lexsort((cell, -(quota - share), person))
    rank = np.arange(len(person)) - np.repeat(starts, sizes)
    share[ranked] += rank < missing[ranked]
    kept = share > 0
    return Whereabouts(person[kept], cell[kept], share[kept])


def home_first(home: Whereabouts, seen: Whereabouts) -> Whereabouts:
    """Where people live, and of those whose home is not known where they were seen."""
    others = ~np.isin(seen.person, home.person)
    person = np.concatenate((home.person, seen.person[others]))
    cell = np.concatenate((home.cell, seen.cell[others]))
    share = np.concatenate((home.share, seen.share[others]))
    order = np.lexsort((cell, person))
    return Whereabouts(person[order], cell[order], share[order])
