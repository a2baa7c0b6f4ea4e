"""Two models' answers to the same examples: figures of each, and how sure their difference is.

Persons are drawn with replacement, as in `learning.metrics`: answers of one person resemble each
other. Both models are measured on the same draws, so that what makes a draw easy cancels out. No
input or output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.towers import Floats

_RESAMPLES: Final = 200
_BINS: Final = 15

Weights = NDArray[np.float64]
_Measure = Callable[[Weights], float | None]


@dataclass(frozen=True)
class Figure:
    """A figure of both models, and B's less A's with its 95 % interval (None: not defined)."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None


def paired(
    label: Floats,
    a: Floats,
    b: Floats,
    person: NDArray[np.int32],
    stands_for: Floats,
    seed: int = 0,
) -> dict[str, Figure]:
    """Return AUC, log loss and calibration error of two models on n examples.

    `label` is 0 or 1, `a` and `b` are probabilities, `stands_for` says for how many examples each
    stands (1 where a device kept all), all float32 (n,) with n > 0.
    """
    _, group = np.unique(person, return_inverse=True)
    persons = int(group.max()) + 1
    each = stands_for.astype(np.float64)
    measures: dict[str, tuple[_Measure, _Measure]] = {
        "auc": (_Auc(label, a), _Auc(label, b)),
        "log_loss": (_LogLoss(label, a), _LogLoss(label, b)),
        "calibration_error": (_Calibration(label, a, each), _Calibration(label, b, each)),
    }
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(0, persons, persons), minlength=persons)
        weight = times[group] * each
        for name, (one, other) in measures.items():
            found, against = one(weight), other(weight)
            if found is not None and against is not None:
                drawn[name].append(against - found)
    return {
        name: _figure(one(each), other(each), drawn[name])
        for name, (one, other) in measures.items()
    }


def _figure(a: float | None, b: float | None, drawn: list[float]) -> Figure:
    if a is None or b is None or not drawn:
        return Figure(a, b, None, None, None)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(a, b, b - a, float(low), float(high))


class _Auc:
    """The AUC for any weights of the examples; the order is worked out once."""

    def __init__(self, label: Floats, score: Floats) -> None:
        values, self._at = np.unique(score, return_inverse=True)
        self._good, self._number = label > 0, len(values)

    def __call__(self, weight: Weights) -> float | None:
        good = np.bincount(self._at, weight * self._good, self._number)
        bad = np.bincount(self._at, weight * ~self._good, self._number)
        if not good.sum() or not bad.sum():
            return None
        below = np.cumsum(bad) - bad
        return float((good * (below + bad / 2)).sum() / (good.sum() * bad.sum()))


class _LogLoss:
    """The log loss for any weights."""

    def __init__(self, label: Floats, score: Floats) -> None:
        safe = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
        self._loss = -np.where(label > 0, np.log(safe), np.log1p(-safe))

    def __call__(self, weight: Weights) -> float | None:
        return float((self._loss * weight).sum() / weight.sum())


class _Calibration:
    """The calibration error for any weights, in bins for which as many of all examples stand."""

    def __init__(self, label: Floats, score: Floats, stands_for: Weights) -> None:
        order = np.argsort(score, kind="stable")
        ends = np.cumsum(stands_for[order])
        middle = (ends - stands_for[order] / 2) / ends[-1]
        self._bin = np.zeros(len(score), np.int64)
        self._bin[order] = np.minimum((middle * _BINS).astype(np.int64), _BINS - 1)
        self._off = label.astype(np.float64) - score

    def __call__(self, weight: Weights) -> float | None:
        off = np.bincount(self._bin, weight * self._off, _BINS)
        return float(np.abs(off).sum() / weight.sum())
