"""Boosted trees that say what strangers want, each of persons whom they never saw.

Rules.
- Persons are drawn into a few parts. Trees are grown once without each part, and speak of it.
- All of that is done twice: once with everybody, and once without those who are held back
  (`blind`), so that the length of a training can be found by people of whom nobody knows anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.boosting import Boosted, Boosting, axes_of, boost
from genome_server.learning.forest import Bools, Reals

_PARTS = 4
_AXES = 8


@dataclass(frozen=True)
class Strangers:
    """The trees by (blind, part), the part of each person, and the offers along a few axes."""

    trees: Mapping[tuple[bool, int], Boosted]
    part: NDArray[np.int64]  # (persons,)
    axes: Reals  # (offers, axes)

    @classmethod
    def of(
        cls,
        query: Bools,
        offers: Bools,
        offer: NDArray[np.int32],
        person: NDArray[np.int32],
        out: Bools,
        label: Reals,
        weight: Reals,
        boosting: Boosting,
        seed: int,
        *,
        persons: int,
    ) -> Strangers:
        """Grow on examples: what is asked of each as a stranger `query` (n, asked), its offer (n,)
        as a row of `offers` (m, d), its person (n,) below `persons`, and who is held `out` (n,)."""
        part = np.random.default_rng([seed, 39]).integers(0, _PARTS, persons)
        axes = axes_of(offers, _AXES)
        trees = {}
        for blind in (False, True):
            for one in range(_PARTS):
                own = np.flatnonzero((part[person] != one) & ~(out & blind))
                trees[blind, one] = boost(
                    query[own],
                    axes[offer[own]],
                    label[own],
                    weight[own],
                    np.random.default_rng([seed, 39, one]),
                    boosting,
                )
        return cls(trees, part, axes)

    def say(
        self, query: Bools, offer: NDArray[np.int32], person: NDArray[np.int32], *, blind: bool
    ) -> Reals:
        """Return what is expected of strangers by trees that did not see them: log odds, (n,)."""
        said = np.zeros(len(query))
        for one in range(_PARTS):
            some = np.flatnonzero(self.part[person] == one)
            said[some] = self.trees[blind, one].say(query[some], self.axes[offer[some]])
        return said
