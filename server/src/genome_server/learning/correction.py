"""Probabilities put right: log odds × a factor + a shift, found on people not learned from.

What is taught says too little that is near 0 or 1, by as much for everybody. Towers end in log
odds that are linear in their last weights, so a correction becomes a part of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.towers import Towers

Reals = NDArray[np.float64]

# Log odds are told apart down to a twentieth of how rare the rarer end is, and at least to this.
_LEAST = 0.01
_OF_THE_RARE = 0.05
_NEVER = 1e-6

# As many examples' worth of belief that there is nothing to put right.
_PULL = 5.0
_STEPS = 12


@dataclass(frozen=True)
class Correction:
    """What becomes of log odds."""

    factor: float = 1.0
    shift: float = 0.0
    # Nearer to 0 or 1 than this all are the same.
    least: float = _LEAST

    @classmethod
    def of(cls, expected: Reals, label: Reals, weight: Reals) -> Correction:
        """Return the one by which probabilities fit best; all (n,).

        A logistic regression on the log odds by Newton's steps, with a pull towards none.
        """
        least = least_of(label, weight)
        inputs = np.stack([log_odds(expected, least), np.ones(len(expected))], axis=1)
        none = np.array([1.0, 0.0])
        found = none
        for _ in range(_STEPS):
            chance = 1 / (1 + np.exp(-inputs @ found))
            slope = inputs.T @ (weight * (chance - label)) + _PULL * (found - none)
            bend = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs
            found = found - np.linalg.solve(bend + _PULL * np.eye(2), slope)
        return cls(float(found[0]), float(found[1]), least)

    def chance(self, expected: Reals) -> Reals:
        """Return probabilities put right, (n,)."""
        right: Reals = 1 / (
            1 + np.exp(-(self.factor * log_odds(expected, self.least) + self.shift))
        )
        return right

    def towers(self, towers: Towers) -> Towers:
        """Return towers that say what these say, put right."""
        d = towers.shape.dimension
        factor, offers = np.float32(self.factor), towers.offer_table.copy()
        offers[..., d] *= factor
        bias = towers.output_bias * factor
        bias[..., d] += np.float32(self.shift)
        weight = towers.output_weight * factor
        return replace(towers, output_weight=weight, output_bias=bias, offer_table=offers)


def least_of(label: Reals, weight: Reals) -> float:
    """Return how near to 0 or 1 probabilities of such examples may be told apart: where one end is
    rare, nearer."""
    share = float(np.average(label, weights=weight)) if weight.sum() > 0 else 0.5
    return max(min(_LEAST, _OF_THE_RARE * min(share, 1 - share)), _NEVER)


def log_odds(chance: Reals, least: float) -> Reals:
    """Return the log odds of probabilities, which are kept `least` away from 0 and 1."""
    safe = np.clip(chance, least, 1 - least)
    return np.log(safe / (1 - safe))
