"""A plain model of rewards for DM and DR, where there is no better one. Free of I/O.

It knows the mean reward of each cell (an offer in a slot, say), which leans on the mean of all
cells as if that had been seen in as many decisions as earn 1 on average. What it says of a person
it has not learned from that person: the persons are dealt into folds, and each fold is told what
the others teach. A model that had seen the very rewards that it is to predict would leave DR too
sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from genome_server.offpolicy.logged import Floats, Ints

FOLDS: Final = 5


@dataclass(frozen=True)
class CellMeans:
    """`fold` int64[n] of each decision, and what each fold is told: float64[folds, cells]."""

    fold: Ints
    mean: Floats


def cell_means(
    cell: Ints,
    reward: Floats,
    person: Ints,
    stands_for: Floats,
    *,
    cells: int,
    folds: int = FOLDS,
    seed: int = 0,
) -> CellMeans:
    """The means of n decisions' rewards by cell (0 ... cells - 1), for each fold from the others.

    All are of shape (n,), as in `Logged`. Raises ValueError for fewer persons than folds.
    """
    _, number = np.unique(person, return_inverse=True)
    persons = int(number.max(initial=-1)) + 1
    if persons < folds:
        raise ValueError(f"{folds} folds need as many persons: {persons}")
    of_person = np.random.default_rng(seed).permutation(persons) % folds
    fold = np.asarray(of_person[number.reshape(-1)], np.int64)
    means = np.empty((folds, cells))
    for at in range(folds):
        others = fold != at
        times = np.bincount(cell[others], stands_for[others], minlength=cells)
        earned = np.bincount(cell[others], (stands_for * reward)[others], minlength=cells)
        overall = float(earned.sum() / times.sum())
        leaning = 1.0 / abs(overall) if overall else 1.0
        means[at] = (earned + leaning * overall) / (times + leaning)
    return CellMeans(fold, means)
