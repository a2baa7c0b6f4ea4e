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

# As many examples' worth of belief that there is nothing to put right.
_PULL = 5.0
_STEPS = 12


@dataclass(frozen=True)
class Correction:
    """What becomes of log odds."""

    factor: float = 1.0
    shift: float = 0.0

    @classmethod
    def of(cls, expected: Reals, label: Reals, weight: Reals) -> Correction:
        """Return the one by which probabilities fit best; all (n,).

        A logistic regression on the log odds by Newton's steps, with a pull towards none.
        """
        inputs = np.stack([log_odds(expected), np.ones(len(expected))], axis=1)
        none = np.array([1.0, 0.0])
        found = none
        for _ in range(_STEPS):
            chance = 1 / (1 + np.exp(-inputs @ found))
            slope = inputs.T @ (weight * (chance - label)) + _PULL * (found - none)
            bend = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs
            found = found - np.linalg.solve(bend + _PULL * np.eye(2), slope)
        return cls(float(found[0]), float(found[1]))

    def chance(self, expected: Reals) -> Reals:
        """Return probabilities put right, (n,)."""
        right: Reals = 1 / (1 + np.exp(-(self.factor * log_odds(expected) + self.shift)))
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


def log_odds(chance: Reals) -> Reals:
    """Return the log odds of probabilities, which are kept away from 0 and 1."""
    safe = np.clip(chance, 0.01, 0.99)
    return np.log(safe / (1 - safe))
