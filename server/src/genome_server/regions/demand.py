"""What is wanted where: the definition of demand. Free of I/O.

Definition. A thing has DNA: markers m with salience. w(m) is a marker's share of the saliences of
those markers that any located genome has. A person's affinity to the thing is the sum over its
markers of w(m) · g(m) / G(m): g(m) is how strong the marker is in the person's genome (up to ten
times the median of those who have it), G(m) what all located genomes have of it. A person is
spread over the places where they are, so

    demand(region) = Σ over markers  w(m) · (strength of m in the region) / (strength of m in all).

In words: of all that is felt for *lavender*, 12 % lives here, and lavender is a third of this soap.
Each marker counts by where it lives and not by how common it is; the demand of all regions, with
what is withheld, is 1. Strengths are added up as whole numbers (`genome_server.regions.crowd`);
the few divisions are floats, because a share is a ratio and nothing is compared to the bit.

Only regions with at least `least` people who share a marker with the thing are shown
(`genome_server.regions.privacy`), and of a region only the markers that so many people there have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from genome_server.regions.cells import Bools, Cells, Floats, Ints, parents
from genome_server.regions.crowd import Crowd, Spread
from genome_server.regions.privacy import Grouping, group

LEAST: Final = 10
"""How many people a region must have to be shown."""
DOUBT: Final = 20
"""So many people are believed half where their marker lives; docs/genomes-regions.md says why."""
OTHER: Final = "(other markers)"
"""Stands for the markers that too few people of a region have."""

Dna = Sequence[tuple[str, int]]
"""Markers with their salience in 1/256."""


class Spots(NamedTuple):
    """Where in the regions people are: columns of n cells.

    `region` int64[n] is a row of the demand, `cell` uint64[n] a region of the crowd as a whole, and
    `people` float64[n] how many are there, in 1/256: of everybody, whatever they want.
    """

    region: Ints
    cell: Cells
    people: Floats


@dataclass(frozen=True, eq=False)
class Demand:
    """Where a thing is wanted: columns of n regions.

    `share` float64[n] is of all demand that has a place and, with `withheld`, adds up to 1.
    `crowd` float64[n] is the region's share of all located people, for comparison. `parts`
    float64[n, m] says how `share` comes about by the markers of `weights` (their weights add up to
    1); nan where too few people of a region have a marker. `heard` float64[m] is how far a marker
    is believed, n / (n + 20) of the n people who have it: few say little about where it lives.
    `felt` float64[n] is `share` as far as that. `withheld_people` is 0 or at least the
    threshold, unless nothing is shown at all. `located` is how many people have a place, and
    `carried` int64[m] how many of them have each marker: once in each region where they are.
    """

    weights: Mapping[str, float]
    cell: Cells
    partial: Bools
    people: Ints
    share: Floats
    crowd: Floats
    parts: Floats
    heard: Floats
    felt: Floats
    spots: Spots
    withheld: float
    withheld_people: int
    located: int
    carried: Ints
    ignored: tuple[str, ...] = field(default=())
    """Markers of the thing that no located genome has."""


class Survey:
    """Asks one crowd, region by region, at a resolution (3 to 15) and a threshold of people."""

    def __init__(self, crowd: Crowd, resolution: int, least: int = LEAST) -> None:
        self._crowd, self._resolution, self._least = crowd, resolution, least
        self._everybody = everybody = _at(crowd.everybody, resolution)
        self._groups = group(everybody.person, everybody.cell, resolution, least)
        sums = np.zeros(len(self._groups.cell), np.int64)
        np.add.at(sums, np.searchsorted(self._groups.cell, everybody.cell), everybody.amount)
        self._sums = sums
        """How much of the crowd is in each of the cells of `_groups`."""

    def demand(self, dna: Dna) -> Demand:
        """Where a thing of this DNA is wanted.

        Without a single shared marker there is nothing to show: no regions, `withheld` 0.
        """
        crowd = self._crowd
        known = [(name, q8) for name, q8 in dna if crowd.total(name)]
        ignored = tuple(name for name, _ in dna if not crowd.total(name))
        whole = sum(q8 for _, q8 in known)
        weights = {name: q8 / whole for name, q8 in known}
        spreads = [_at(crowd.spread(name), self._resolution) for name in weights]
        heard = np.array([_heard(crowd.holders(name)) for name in weights], np.float64)
        return self._demand(weights, heard, spreads, ignored)

    def everybody(self) -> Demand:
        """Where the located people are, as if all wanted the same."""
        return self._demand({"": 1.0}, np.ones(1), [self._everybody], ())

    def _demand(
        self,
        weights: Mapping[str, float],
        heard: Floats,
        spreads: Sequence[Spread],
        ignored: tuple[str, ...],
    ) -> Demand:
        found = group(
            _joined([one.person for one in spreads], np.int64),
            _joined([one.cell for one in spreads], np.uint64),
            self._resolution,
            self._least,
        )
        regions, markers = len(found.key), len(weights)
        parts = np.zeros((regions, markers))
        holders = np.zeros((regions, markers), np.int64)
        carried = np.zeros(markers, np.int64)
        lost = []
        for at, (weight, spread) in enumerate(zip(weights.values(), spreads, strict=True)):
            which = found.of(spread.cell)
            total = int(spread.amount.sum())
            sums = np.zeros(regions + 1, np.int64)
            np.add.at(sums, which, spread.amount)  # the last one is what is withheld
            parts[:, at] = weight * (sums[:-1] / total)
            lost.append(weight * (int(sums[-1]) / total))
            holders[:, at] = _people(spread.person, which, regions)
            carried[at] = holders[:, at].sum() + len(np.unique(spread.person[which < 0]))
        share = np.array([math.fsum(row) for row in parts.tolist()], np.float64)
        felt = parts @ heard
        _hide(parts, holders, self._least)
        spots = self._spots(found)
        crowd = np.bincount(spots.region, spots.people, regions)
        return Demand(
            weights=weights,
            cell=found.key,
            partial=found.partial,
            people=found.people,
            share=share,
            crowd=crowd / max(int(self._sums.sum()), 1),
            parts=parts,
            heard=heard,
            felt=felt,
            spots=spots,
            withheld=math.fsum(lost),
            withheld_people=found.withheld,
            located=int(self._groups.people.sum()) + self._groups.withheld,
            carried=carried,
            ignored=ignored,
        )

    def _spots(self, found: Grouping) -> Spots:
        shown = found.group >= 0
        cell, region = found.cell[shown], found.group[shown]
        mine = np.searchsorted(self._groups.cell, cell)
        at = self._groups.group[mine]
        known = self._groups.key if len(self._groups.key) else np.zeros(1, np.uint64)
        # Of cells in which too few people are at all, no more is said than of the region.
        spot = np.where(at >= 0, known[at], found.key[region])
        return Spots(region, spot, self._sums[mine].astype(np.float64))


def _at(spread: Spread, resolution: int) -> Spread:
    return spread._replace(cell=parents(spread.cell, resolution))


def _joined(columns: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(columns) if columns else np.zeros(0, dtype)


def _people(person: Ints, which: Ints, regions: int) -> Ints:
    """How many different people are in each region."""
    shown = which >= 0
    pairs = np.unique(which[shown] << 40 | person[shown])
    return np.bincount(pairs >> 40, minlength=regions).astype(np.int64)


def _heard(holders: int) -> float:
    return holders / (holders + DOUBT)


def _hide(parts: Floats, holders: Ints, least: int) -> None:
    """Forget the part of each marker that too few people of a region have.

    What is missing is what is hidden: so that it tells of no few either, the next rarest go too.
    """
    for region, counts in enumerate(holders.tolist()):
        few = [at for at, count in enumerate(counts) if 0 < count < least]
        if not few:
            continue
        hidden = sum(counts[at] for at in few)
        for count, at in sorted((count, at) for at, count in enumerate(counts) if count >= least):
            if len(few) > 1 and hidden >= least:
                break
            few.append(at)
            hidden += count
        parts[region, few] = np.nan
