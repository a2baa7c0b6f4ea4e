"""How good probabilities are: order (AUC), calibration, and how sure we are of either.

`weight` says how much each example counts, (n,), above 0; None: all alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BINS = 15
_RESAMPLES = 200

Values = NDArray[np.floating]


def auc(label: Values, score: Values, weight: Values | None = None) -> float | None:
    """Chance that a success scores above a failure, ties counting half.

    None where there is only one of the two.
    """
    return _weighted_auc(label, score, _weights(label, weight))


def auc_interval(
    label: Values,
    score: Values,
    person: NDArray[np.integer],
    seed: int = 0,
    weight: Values | None = None,
) -> tuple[float, float] | None:
    """95 % interval of the AUC, by drawing persons with replacement 200 times.

    Persons and not examples are drawn: answers of one person resemble each other.
    None where the AUC is not defined.
    """
    if auc(label, score) is None:
        return None
    rng = np.random.default_rng(seed)
    each = _weights(label, weight)
    _, group = np.unique(person, return_inverse=True)
    count = int(group.max()) + 1
    drawn = []
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        value = _weighted_auc(label, score, each * times[group])
        if value is not None:
            drawn.append(value)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def calibration_error(label: Values, score: Values, weight: Values | None = None) -> float:
    """Mean distance between what is said and what happens, over 15 bins of equal size (ECE)."""
    if not len(label):
        return 0.0
    order = np.argsort(score, kind="stable")
    if weight is None:
        bins = [part for part in np.array_split(order, _BINS) if len(part)]
    else:
        # In the bin of its middle: one that weighs more than a bin is in one bin all the same.
        ends = np.cumsum(weight[order], dtype=np.float64)
        middle = (ends - weight[order] / 2) / ends[-1]
        number = np.minimum((middle * _BINS).astype(np.int64), _BINS - 1)
        bins = np.split(order, np.flatnonzero(np.diff(number)) + 1)
    each = _weights(label, weight)
    apart = (abs(float((each * (label - score))[part].sum())) for part in bins)
    return sum(apart) / float(each.sum())


def log_loss(label: Values, score: Values, weight: Values | None = None) -> float:
    """Mean negative log likelihood in nats."""
    if not len(label):
        return 0.0
    safe = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
    said = np.where(label > 0, np.log(safe), np.log1p(-safe))
    return float(-np.average(said, weights=weight))


def _weights(label: Values, weight: Values | None) -> NDArray[np.float64]:
    return np.ones(len(label)) if weight is None else weight.astype(np.float64)


def _weighted_auc(label: Values, score: Values, weight: NDArray[np.float64]) -> float | None:
    values, at = np.unique(score, return_inverse=True)
    good = np.bincount(at, weights=weight * (label > 0), minlength=len(values))
    bad = np.bincount(at, weights=weight * (label <= 0), minlength=len(values))
    if not good.sum() or not bad.sum():
        return None
    below = np.cumsum(bad) - bad
    return float((good * (below + bad / 2)).sum() / (good.sum() * bad.sum()))
