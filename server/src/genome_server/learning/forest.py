"""A forest of decision trees on markers: the teacher of the towers, see `teacher`.

Rules.
- A tree asks about columns that are true or false, so a split is one count: how many of a
  node's examples have the column, and how many of them ended well.
- Each tree sees some of the persons. What it says of the others owes nothing to them.
- Trees grow level by level, all nodes of a level at once, until a leaf would be smaller than
  `leaf` examples or all in it ended the same way.
- Same columns, same seed: same trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Counts = NDArray[Any]

_MAX_DEPTH = 40


@dataclass(frozen=True)
class Growth:
    """How trees grow: found on public data, see the decision record 0037."""

    leaf: int = 8
    # Of the columns, those that a node may ask about.
    share: float = 0.3


@dataclass(frozen=True)
class Tree:
    """Nodes by number; 0 is the root. A leaf asks about column -1."""

    column: Ints
    no: Ints  # the node to go to where the column is false
    yes: Ints
    value: Reals  # share of successes

    def say(self, columns: Bools) -> Reals:
        """Return the share of successes in the leaf of each row, (n,)."""
        node = np.zeros(len(columns), np.int64)
        rows = np.arange(len(columns))
        while len(rows):
            asked = self.column[node[rows]]
            rows, asked = rows[asked >= 0], asked[asked >= 0]
            at = node[rows]
            node[rows] = np.where(columns[rows, asked], self.yes[at], self.no[at])
        return self.value[node]


def grow(
    columns: Bools, label: Reals, weight: Reals, rng: np.random.Generator, growth: Growth
) -> Tree:
    """Return one tree for n rows of c columns; `label` and `weight` are (n,)."""
    row, column = np.nonzero(columns)
    width = columns.shape[1]
    good = weight * label
    node = np.zeros(len(label), np.int64)  # of this level; -1: in a leaf above
    parts: list[tuple[Ints, Ints, Ints, Reals]] = []
    first, alive = 0, 1
    for depth in range(_MAX_DEPTH + 1):
        inside = node >= 0
        all_ = np.bincount(node[inside], weight[inside], alive)
        all_good = np.bincount(node[inside], good[inside], alive)
        # Only what may part is counted: deep down most nodes are leaves.
        may = (all_ >= 2 * growth.leaf) & (all_good > 0) & (all_good < all_) & (depth < _MAX_DEPTH)
        number = np.where(may, np.cumsum(may) - 1, -1)
        place = np.where(inside, number[node], -1)
        kept = place[row] >= 0
        row, column = row[kept], column[kept]
        many = int(may.sum())
        cell = place[row] * width + column
        has = np.bincount(cell, weight[row], many * width).reshape(many, width)
        has_good = np.bincount(cell, good[row], many * width).reshape(many, width)
        asked = rng.random((many, width), np.float32) < growth.share
        best = np.full(alive, -1)
        best[may] = _best(all_[may], all_good[may], has, has_good, asked, growth.leaf)
        splits = best >= 0
        below = first + alive
        yes = np.full(alive, -1)
        yes[splits] = below + 2 * np.arange(int(splits.sum())) + 1
        value = all_good / np.maximum(all_, 1e-12)
        parts.append((best, np.where(splits, yes - 1, -1), yes, value))
        if not splits.any():
            break
        moved = inside & splits[node]
        answer = columns[np.arange(len(node)), np.maximum(best[node], 0)]
        node = np.where(moved, yes[node] - below - ~answer, -1)
        first, alive = below, 2 * int(splits.sum())
    return Tree(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _best(
    all_: Counts, all_good: Counts, has: Counts, has_good: Counts, asked: Bools, leaf: int
) -> Ints:
    """Return the column by which each node parts best, -1 where none does; (nodes,).

    By Gini: of p successes among n, the impurity is n - p²/n and what is left of it.
    """
    if not len(all_):
        return np.zeros(0, np.int64)
    lacks, lacks_good = all_[:, None] - has, all_good[:, None] - has_good
    allowed = asked & (has >= leaf) & (lacks >= leaf)
    gain = np.where(
        allowed,
        has_good**2 / np.maximum(has, 1e-12) + lacks_good**2 / np.maximum(lacks, 1e-12),
        -np.inf,
    )
    best = gain.argmax(1)
    found = gain[np.arange(len(best)), best]
    better = found > all_good**2 / np.maximum(all_, 1e-12) + 1e-9
    return np.where(better, best, -1)
