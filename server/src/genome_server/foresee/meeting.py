"""How well a genome meets a category: its markers against those of the category's DNA.

The DNA of a category is the mean of what is in it. A marker that nearly all categories share says
little, so each counts by its rarity. What is said is a cosine: 0 nothing in common, 1 the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def category_dna(
    things: Iterable[tuple[str, Sequence[tuple[str, int]]]],
) -> dict[str, dict[str, float]]:
    """Category → marker → mean salience, of (category, DNA with saliences in 1/256)."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    counts: dict[str, int] = defaultdict(int)
    for category, dna in things:
        counts[category] += 1
        for marker, salience_q8 in dna:
            sums[category][marker] += salience_q8 / 256
    return {
        category: {marker: total / counts[category] for marker, total in sorted(markers.items())}
        for category, markers in sorted(sums.items())
    }


class Meeting:
    """The DNA of all categories, ready to be met. Immutable."""

    def __init__(self, dna: Mapping[str, Mapping[str, float]], categories: Sequence[str]) -> None:
        self._columns: dict[str, int] = {}
        shared: dict[str, int] = defaultdict(int)
        for category in categories:
            for marker in dna.get(category, {}):
                self._columns.setdefault(marker, len(self._columns))
                shared[marker] += 1
        table = np.zeros((len(categories), len(self._columns)))
        for row, category in enumerate(categories):
            for marker, salience in dna.get(category, {}).items():
                rarity = np.log((1 + len(categories)) / shared[marker])
                table[row, self._columns[marker]] = salience * rarity
        norm = np.linalg.norm(table, axis=1, keepdims=True)
        self._table = np.divide(table, norm, out=np.zeros_like(table), where=norm > 0)

    def __len__(self) -> int:
        return len(self._table)

    def meets(self, markers: Iterable[tuple[str, float]]) -> Floats:
        """How well these markers (name, weight) meet each category, float64[categories]."""
        columns, weights = [], []
        total = 0.0
        for name, weight in markers:
            total += weight * weight
            column = self._columns.get(name)
            if column is not None:
                columns.append(column)
                weights.append(weight)
        if not columns:
            return np.zeros(len(self._table))
        found: Floats = self._table[:, columns] @ np.array(weights) / np.sqrt(total)
        return found
