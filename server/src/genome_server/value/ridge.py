"""A line through what is known, held back as much as leaving one out says. Free of I/O.

Theory. Ridge regression with one column that is not held back. With the singular values of the
other columns every strength of holding back costs a product of a matrix and a vector, and what the
fit would say of a row that it had not seen follows from the fit (PRESS). So the strength is chosen
by what it does for rows that are left out; one of them is to hold back everything, which leaves a
constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STRENGTHS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, np.inf)
"""Tried, as parts of the mean square of the singular values. The last one holds back everything."""


@dataclass(frozen=True, eq=False)
class Line:
    """`constant` + columns · `slope`, float64[d]; `left_out` float64[n] are the targets' parts that
    a fit without each row would have missed. `strength` is the one that was chosen."""

    constant: float
    slope: Floats
    left_out: Floats
    strength: float

    def __call__(self, columns: Floats) -> Floats:
        """The values for columns float64[n, d]."""
        return np.asarray(self.constant + columns @ self.slope)


def fit(base: Floats, columns: Floats, target: Floats) -> Line:
    """The line target ≈ constant · base + columns · slope.

    `base` float64[n] is not held back (ones, or the root of weights by which all is multiplied),
    `columns` are float64[n, d], `target` float64[n].
    """
    unit = base / np.linalg.norm(base)
    rest = target - unit * (unit @ target)
    own = columns - np.outer(unit, unit @ columns)
    left, size, right = np.linalg.svd(own, full_matrices=False)
    kept = size > 1e-9 * max(float(size.max(initial=0.0)), 1e-300)
    left, size, right = left[:, kept], size[kept], right[kept]
    along, lever = left.T @ rest, left**2
    unheld = unit**2
    best: tuple[float, Floats, Floats, float] | None = None
    mean_square = float((size**2).mean()) if len(size) else 0.0
    for strength in STRENGTHS if len(size) else STRENGTHS[-1:]:
        if np.isinf(strength):
            share = np.zeros(len(size))
        else:
            share = size**2 / (size**2 + strength * mean_square)
        missed = rest - left @ (share * along)
        missed /= np.maximum(1.0 - unheld - lever @ share, 1e-9)
        error = float(missed @ missed)
        if best is None or error <= best[0]:
            slope = right.T @ (share / size * along) if len(size) else np.zeros(columns.shape[1])
            best = (error, slope, missed, float(strength))
    assert best is not None  # there is at least one strength
    _, slope, missed, strength = best
    constant = float(unit @ (target - columns @ slope)) / float(np.linalg.norm(base))
    return Line(constant, slope, missed, strength)
