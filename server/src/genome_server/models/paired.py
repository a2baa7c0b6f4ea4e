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

from genome_server.learning.metrics import auc, calibration_error, log_loss
from genome_server.learning.towers import Floats

_RESAMPLES: Final = 200
_BINS: Final = 15

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A figure of both models, and B's less A's with its 95 % interval (None: not defined)."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None


def paired(
    label: Floats, a: Floats, b: Floats, person: NDArray[np.int32], seed: int = 0
) -> dict[str, Figure]:
    """Return AUC, log loss and calibration error of two models on n examples.

    `label` is 0 or 1, `a` and `b` are probabilities, all float32 (n,) with n > 0.
    """
    _, group = np.unique(person, return_inverse=True)
    persons = int(group.max()) + 1
    measures = {name: (make(label, a), make(label, b)) for name, make in _MEASURES.items()}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(0, persons, persons), minlength=persons)
        weight = times[group].astype(np.float64)
        for name, (one, other) in measures.items():
            found, against = one(weight), other(weight)
            if found is not None and against is not None:
                drawn[name].append(against - found)
    plain = {
        "auc": (auc(label, a), auc(label, b)),
        "log_loss": (log_loss(label, a), log_loss(label, b)),
        "calibration_error": (calibration_error(label, a), calibration_error(label, b)),
    }
    return {name: _figure(*plain[name], drawn[name]) for name in plain}


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
    """The calibration error for any weights, in bins that hold as many of all examples each."""

    def __init__(self, label: Floats, score: Floats) -> None:
        order = np.argsort(score, kind="stable")
        self._bin = np.zeros(len(score), np.int64)
        for number, part in enumerate(np.array_split(order, _BINS)):
            self._bin[part] = number
        self._off = label.astype(np.float64) - score

    def __call__(self, weight: Weights) -> float | None:
        off = np.bincount(self._bin, weight * self._off, _BINS)
        return float(np.abs(off).sum() / weight.sum())


_MEASURES: Final[dict[str, Callable[[Floats, Floats], Callable[[Weights], float | None]]]] = {
    "auc": _Auc,
    "log_loss": _LogLoss,
    "calibration_error": _Calibration,
}
