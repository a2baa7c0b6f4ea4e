"""Segments and best genomes on real customers: do they stay, and do they say who will be valuable?

Segments of a grocer's households: agreement (adjusted Rand index) of two cuts of the same people,
1 for the same and 0 for chance. `seeds`: k-means from different random starts on the same genomes.
`order`: ours, the customers in another order. `week_anew` and `week`: ours, a week of shopping
later, begun from nothing and from the last segments. `week_held`: the last segments, not moved at
all, which is how much the customers themselves have moved.

Best genomes, by spend: genomes as of three quarters of the time, made of half of the customers;
how well closeness tells of the other half who will be of the top tenth by spend afterwards (AUC),
beside what spend until then tells. There is no cost in either set.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from examples.datasets import DataSetMissing, find
from genome_server.compare.best import best_of, closeness
from genome_server.compare.matrix import (
    Floats,
    Matrix,
    carriers_of,
    matrix_of,
    pack,
    rarity_of,
    raw_weights,
    weigh,
)
from genome_server.compare.segments import assign, cluster
from genome_server.learning.metrics import auc
from tests.bench import journey
from tests.bench.figures import Figures
from tests.bench.neighbours import starbucks

SEED = 3
COUNT = 8
_WEEK_H = 7 * 24
_STARTS = 6

Array = npt.NDArray[Any]


def run(figures: Figures) -> None:
    """Whether segments stay, and whether closeness foretells spend."""
    for part in (_segments, _households, _members):
        try:
            part(figures)
        except DataSetMissing as missing:
            print(f"  left out: {missing}")


def adjusted_rand(one: Array, other: Array) -> float:
    """How far two cuts agree, over those who are in both."""
    both = (one >= 0) & (other >= 0)
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one[both], other[both]), 1)
    together, a, b = (
        float((c * (c - 1) / 2).sum()) for c in (table, table.sum(axis=1), table.sum(axis=0))
    )
    people = float(both.sum())
    expected = a * b / (people * (people - 1) / 2)
    return (together - expected) / ((a + b) / 2 - expected)


class Grocer:
    """Genomes of a real grocer's households as of an hour."""

    def __init__(self) -> None:
        self.lines = journey.read_lines()
        self.people = int(self.lines.household.max()) + 1
        self.last = int(self.lines.hours.max())

    def columns(self, hour: int) -> tuple[Array, Array, Array]:
        """Starts, markers and strengths."""
        lines, size = self.lines, len(self.lines.names)
        kept = np.flatnonzero(lines.hours <= hour)
        line = np.repeat(kept, lines.markers.shape[1])
        marker = lines.markers[kept].ravel()
        line, marker = line[marker >= 0], marker[marker >= 0]
        faded = np.exp2((lines.hours[line] - hour) / lines.half_lives[marker])
        return summed(lines.household[line], marker, lines.weights[line] * faded, self.people, size)

    def rows(self, hour: int) -> Matrix:
        """Rows of length 1."""
        return rows_of(self.columns(hour), self.people, len(self.lines.names))[0]


def summed(
    who: Array, marker: Array, strength: Array, people: int, size: int
) -> tuple[Array, Array, Array]:
    """Columns, where a marker of a customer comes several times."""
    key, at = np.unique(who * size + marker, return_inverse=True)
    return pack(*np.divmod(key, size), np.bincount(at, strength).astype(float), people, 64)


def rows_of(columns: tuple[Array, Array, Array], people: int, size: int) -> tuple[Matrix, Matrix]:
    """The rows of length 1, and before they were divided."""
    starts, markers, strengths = columns
    rarity = rarity_of(people, carriers_of(markers, size))
    return (
        matrix_of(starts, markers, weigh(starts, markers, strengths, rarity), size),
        matrix_of(starts, markers, raw_weights(markers, strengths, rarity), size),
    )


def _segments(figures: Figures) -> None:
    grocer = Grocer()
    before, after = grocer.rows(grocer.last - _WEEK_H), grocer.rows(grocer.last)
    rng = np.random.default_rng(SEED)
    full = np.flatnonzero(np.diff(before.indptr))
    by_chance = []
    for _ in range(_STARTS):
        start = before[rng.choice(full, COUNT, replace=False)].toarray().astype(float)
        by_chance.append(cluster(before, COUNT, start=start).labels)
    seeds = [adjusted_rand(one, other) for one, other in combinations(by_chance, 2)]
    first = cluster(before, COUNT)
    order = rng.permutation(before.shape[0])
    cuts: dict[str, Callable[[], tuple[Array, Array]]] = {
        "order": lambda: (cluster(before[order], COUNT).labels, first.labels[order]),
        "week_anew": lambda: (cluster(after, COUNT).labels, first.labels),
        "week": lambda: (
            cluster(after, COUNT, start=first.directions).labels,
            first.labels,
        ),
        "week_held": lambda: (assign(after, first.directions), first.labels),
    }
    figures.add("segments.journey.people", len(full), "households")
    figures.add("segments.journey.seeds_ari", float(np.mean(seeds)), "ARI")
    for name, cut in cuts.items():
        figures.add(f"segments.journey.{name}_ari", adjusted_rand(*cut()), "ARI")


def _households(figures: Figures) -> None:
    grocer = Grocer()
    lines, cut = grocer.lines, grocer.last * 3 // 4
    # What was paid, whole units of money, as the weight of a line says it.
    paid = np.exp2((lines.weights - 2.0) * 4) - 1.0
    earlier = lines.hours <= cut
    spend = [
        np.bincount(lines.household[when], paid[when], grocer.people).astype(float)
        for when in (earlier, ~earlier)
    ]
    _foretold(figures, "journey", grocer.columns(cut), len(lines.names), *spend)


def _members(figures: Figures) -> None:
    events = pq.read_table(find("starbucks_rewards") / "transcript.parquet").to_pylist()
    cut = max(one["time"] for one in events) * 3 // 4
    who, size, marker, strength, names = starbucks(0, cut)
    number = {name: i for i, name in enumerate(names)}
    spend = [np.zeros(len(number)), np.zeros(len(number))]
    for one in events:
        if one["event"] == "transaction":
            spend[one["time"] >= cut][number[one["person"]]] += one["amount"]
    columns = summed(who, marker, strength, len(number), size)
    _foretold(figures, "starbucks", columns, size, *spend)


def _foretold(
    figures: Figures,
    name: str,
    columns: tuple[Array, Array, Array],
    size: int,
    spend: Floats,
    later: Floats,
) -> None:
    people = len(columns[0]) - 1
    weights, raw = rows_of(columns, people, size)
    half = np.random.default_rng(SEED).permutation(people) % 2 == 0
    best = best_of(weights, raw, np.flatnonzero(half & (spend > 0)), spend)
    assert best is not None
    near = closeness(weights, best)
    others = np.flatnonzero(~half & (np.diff(columns[0]) > 0))
    top = later[others] >= np.quantile(later[others], 0.9)
    figures.add(f"best.{name}.people", len(others), "customers")
    figures.add(f"best.{name}.markers", len(best.markers), "markers")
    for what, score in (("closeness", near), ("past_spend", spend)):
        found = auc(top.astype(float), score[others])
        assert found is not None
        figures.add(f"best.{name}.{what}_auc", found, "AUC")
