"""What a world takes from real data: people, moments, kinds of offers, and how they were answered.

The answers are not replayed: boosted trees are fitted on them, and what these say of every kind of
offer in every moment is the part of the truth that everybody shares. Trees, because neither we nor
those whom we are measured against are of that family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Boosted trees as fitted on real answers. One thread and fixed seeds: the same to the bit.
_TREES: Final = {
    "objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 40,
    "feature_fraction": 0.7, "seed": 1, "deterministic": True, "force_row_wise": True,
    "num_threads": 1, "verbosity": -1,
}  # fmt: skip
_ROUNDS: Final = 300


@dataclass(frozen=True, eq=False)
class Covariates:
    """n real moments of m people, and k kinds of offers.

    `people` holds the profile markers of each person; `person` int64[n] whose a moment is, `hour`
    int64[n] its hour of the day (0 to 23), `context` what goes on in it, as free attributes, and
    `place` where. `kinds` are the DNA of each kind of offer; `logit` float64[n, k] the log odds
    that somebody takes an offer of that kind there, before `said_not_done` is added: by how much
    less is done than people say.
    """

    name: str
    place: str
    people: tuple[tuple[str, ...], ...]
    person: Ints
    hour: Ints
    context: tuple[Mapping[str, str], ...]
    kinds: tuple[tuple[str, ...], ...]
    logit: Floats
    said_not_done: float = 0.0

    def rows_of(self) -> list[Ints]:
        """The moments of each person, in the order of the people."""
        order = np.argsort(self.person, kind="stable")
        counts = np.bincount(self.person, minlength=len(self.people))
        return np.split(order, np.cumsum(counts)[:-1])


def numbered(columns: Sequence[Sequence[Any]]) -> Floats:
    """Columns of words as numbers, float64[rows, columns]: of each its place among its own."""
    out = np.empty((len(columns[0]), len(columns)))
    for at, column in enumerate(columns):
        number = {value: i for i, value in enumerate(sorted(set(column), key=str))}
        out[:, at] = [number[value] for value in column]
    return out


def fitted_logits(
    known: Floats, label: Floats, asked: Callable[[int], Floats], kinds: int
) -> Floats:
    """Log odds by boosted trees, float64[n, kinds].

    They are fitted on `known` float64[rows, columns] and `label` float64[rows]; `asked(kind)` gives
    all n moments as they would be with an offer of that kind, float64[n, columns].
    """
    import lightgbm

    trees = lightgbm.train(_TREES, lightgbm.Dataset(known, label), _ROUNDS)
    said = [trees.predict(asked(kind), raw_score=True, num_threads=1) for kind in range(kinds)]
    return np.stack([np.asarray(one, np.float64) for one in said], axis=1)
