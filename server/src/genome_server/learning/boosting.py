"""Boosted trees whose leaves are vectors: what people want of offers, one small step at a time.

Rules.
- A tree asks about the person and the moment alone. A leaf is a vector; its product with what an
  offer is like, its `axes`, is added to the log odds. So one tree speaks of all offers at once.
- All nodes of a level ask the same question: a tree is a few questions and a table of answers.
- Each tree is a step of Newton's on what the trees before left unexplained, on some of the examples
  and some of the questions, and is believed only a little.
- Same columns, same chance: same trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.forest import Bools, Ints, Reals

_LEAST_GAIN = 1e-3
# No share of successes is taken for smaller, or its opposite.
_NEVER = 1e-6


@dataclass(frozen=True)
class Boosting:
    """How trees are boosted: found on public data, see the decision record 0044."""

    rounds: int = 200
    depth: int = 4
    rate: float = 0.05
    # Examples' worth of belief, along each axis, that a leaf says nothing.
    pull: float = 10.0
    leaf: int = 15
    # Of the columns and of the examples, those that a tree sees.
    columns: float = 0.3
    examples: float = 0.5


class _Tree(NamedTuple):
    """The columns that its levels ask about, and a vector for each row of answers (2^levels, a)."""

    columns: tuple[int, ...]
    leaves: Reals


@dataclass(frozen=True)
class Boosted:
    """Log odds that trees add up to, from those of everybody."""

    prior: float
    trees: tuple[_Tree, ...]

    def say(self, columns: Bools, axes: Reals) -> Reals:
        """Return log odds, (n,); columns (n, c), axes (n, a) of the offers."""
        total = np.zeros(axes.shape)
        for tree in self.trees:
            total += tree.leaves[_leaf(columns, tree.columns)]
        said: Reals = (total * axes).sum(1) + self.prior
        return said


def axes_of(offers: Bools, most: int) -> Reals:
    """Return a constant and the directions in which offers (m, d) differ most, (m, 1 … most)."""
    if not len(offers):
        return np.ones((0, 1))
    centred = offers - offers.mean(0)
    turned, size, _ = np.linalg.svd(centred, full_matrices=False)
    many = min(most - 1, int((size > 1e-4 * max(size.max(initial=0.0), 1e-12)).sum()))
    return np.concatenate(
        [np.ones((len(offers), 1)), turned[:, :many] * np.sqrt(len(offers))], axis=1
    )


def boost(
    columns: Bools,
    axes: Reals,
    label: Reals,
    weight: Reals,
    rng: np.random.Generator,
    boosting: Boosting,
) -> Boosted:
    """Return trees for n examples of c columns and a axes; `label` and `weight` are (n,)."""
    share = float(np.average(label, weights=weight)) if weight.sum() > 0 else 0.5
    share = min(max(share, _NEVER), 1 - _NEVER)
    prior = float(np.log(share / (1 - share)))
    said = np.full(len(label), prior)
    numbers = columns.astype(np.float32)
    trees: list[_Tree] = []
    for _ in range(boosting.rounds):
        rows = np.flatnonzero(rng.random(len(label)) < boosting.examples)
        asked = np.flatnonzero(rng.random(columns.shape[1]) < boosting.columns)
        chance = 1 / (1 + np.exp(-said[rows]))
        slope = weight[rows] * (label[rows] - chance)
        bend = weight[rows] * chance * (1 - chance)
        tree = _grow(
            numbers[np.ix_(rows, asked)], asked, axes[rows], slope, bend, weight[rows], boosting
        )
        if tree is not None:
            trees.append(tree)
            said += (tree.leaves[_leaf(columns, tree.columns)] * axes).sum(1)
    return Boosted(prior, tuple(trees))


def _grow(
    numbers: NDArray[np.float32],
    asked: Ints,
    axes: Reals,
    slope: Reals,
    bend: Reals,
    weight: Reals,
    boosting: Boosting,
) -> _Tree | None:
    """Return one tree for n examples; `numbers` (n, k) are the columns `asked`; None: no split."""
    a, pull = axes.shape[1], boosting.pull
    parts = np.concatenate(
        [slope[:, None] * axes, bend[:, None] * axes**2, weight[:, None]], axis=1
    ).astype(np.float32)

    def worth(sums: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (
            sums[..., :a] ** 2 / (sums[..., a : 2 * a] + np.float32(pull))
        ).sum(-1)
        return found

    node = np.zeros(len(numbers), np.int64)
    chosen: list[int] = []
    for level in range(boosting.depth):
        gain = np.zeros(len(asked), np.float32)
        order = np.argsort(node, kind="stable")
        ends = np.searchsorted(node[order], np.arange(2**level + 1))
        for begin, end in pairwise(ends):
            some = order[begin:end]
            all_ = parts[some].sum(0)
            yes = numbers[some].T @ parts[some]
            no = all_ - yes
            better = worth(yes) + worth(no) - worth(all_)
            small = np.minimum(yes[:, -1], no[:, -1]) < boosting.leaf
            gain += np.where(small, 0, np.maximum(better, 0))
        best = int(gain.argmax()) if len(gain) else 0
        if not len(gain) or gain[best] <= _LEAST_GAIN:
            break
        chosen.append(int(asked[best]))
        node = 2 * node + (numbers[:, best] > 0)
    if not chosen:
        return None
    leaves = np.zeros((2 ** len(chosen), a))
    for number in np.unique(node):
        some = np.flatnonzero(node == number)
        inside = axes[some]
        curve = (inside * bend[some, None]).T @ inside + pull * np.eye(a)
        leaves[number] = boosting.rate * np.linalg.solve(curve, inside.T @ slope[some])
    return _Tree(tuple(chosen), leaves)


def _leaf(columns: Bools, asked: tuple[int, ...]) -> Ints:
    """Return the number of each row's leaf, (n,): its answers as binary digits."""
    node = np.zeros(len(columns), np.int64)
    for column in asked:
        node = 2 * node + columns[:, column]
    return node
