"""How far a weighted mean may be off: intervals that hold with few clicks and heavy weights.

Theory of operation. An estimate is a mean of contributions, one by person (`z`), because decisions
of one person resemble each other.

- *Empirical likelihood* (Owen 1988, 1990). Of all ways to weigh the persons, those are believed
  under which what was seen is not too unlikely; the interval is what their means span. It leans to
  the side on which the contributions have their tail, as those of rare clicks do, where a symmetric
  interval misses on one side. With clicks and no weights it is the likelihood interval of a share.
- *Degrees of freedom.* Few persons with large weights decide how well the variance is known. The
  quantile is Student's, with the degrees of freedom that the weights leave (Satterthwaite 1946):
  (sum of v^2)^2 / sum of v^4 over the persons' weights v. Rewards play no part in it.
- *What was not seen.* Of rare clicks those with the largest weights are most likely missing, and
  then the mean and its variance are both too small: the interval would be short and beside the
  truth. The weights are known without clicks. So the variance is at least what it would be if
  squared residuals had nothing to do with the weights: sum of v^2 times their mean. By how much
  that is more is how much the likelihood is widened.

The last two were chosen by `make drill ONLY=estimates`, which is where to look for what they hold.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from genome_server.offpolicy.logged import Floats, Ints

_STEPS: Final = 60
_CLOSE: Final = 1e-10
_LOWEST: Final = -600.0
_LEAST_FREEDOM: Final = 2.0


def by_person(person: Ints, values: Floats) -> Floats:
    """Sums float64[persons] of values float64[n]; `person` int64[n] counts from 0."""
    return np.asarray(np.bincount(person, values), np.float64)


def freedom(leverage: Floats) -> float:
    """The degrees of freedom that persons' weights leave, float64[persons], at least 2."""
    squares = leverage**2
    total = float((squares**2).sum())
    return max(_LEAST_FREEDOM, float(squares.sum()) ** 2 / total - 1.0) if total else _LEAST_FREEDOM


def widening(leverage: Floats, residual: Floats) -> float:
    """At least 1: by how much the variance is larger if residuals do not depend on the weights.

    Both are float64[anything], alike: v and e of the parts v * e of an estimate.
    """
    size = np.abs(leverage)
    seen = float((size**2 * residual**2).sum())
    if not seen:
        return 1.0
    usual = float((size * residual**2).sum() / size.sum())
    return max(1.0, float((size**2).sum()) * usual / seen)


def likely_means(z: Floats, bound: float) -> tuple[float, float]:
    """The least and the greatest mean of a distribution on z under which the likelihood ratio
    statistic of what was seen is at most `bound` (> 0).

    Needs two values that differ (ValueError).
    """
    if not np.ptp(z) > 0:
        raise ValueError("contributions that are all alike tell of no interval")
    return -_greatest(-z, bound), _greatest(z, bound)


def _greatest(z: Floats, bound: float) -> float:
    # The extreme weights are proportional to 1 / (s - z) for an s above all z. The statistic falls
    # with s, and its logarithm is close to a line in log(s - max z): looked for by regula falsi.
    number, top, scale = len(z), float(z.max()), float(z.std())
    below = (top - z) / scale

    def excess(x: float) -> float:
        distance = math.exp(x) + below
        inverse = float((1.0 / distance).mean())
        statistic = 2.0 * (float(np.log(distance).sum()) + number * math.log(inverse))
        return math.log(max(statistic, 1e-300) / bound)

    low = high = 0.5 * math.log(number / bound)
    at_low = at_high = excess(low)
    while at_low <= 0:
        low -= 1.0
        if low < _LOWEST:
            return top  # nearly everything is believed
        at_low = excess(low)
    while at_high >= 0:
        high += 1.0
        at_high = excess(high)
    moved = 0  # which end did last: the other one's value is halved where it stays (Illinois)
    for _ in range(_STEPS):
        x = (low * at_high - high * at_low) / (at_high - at_low)
        at = excess(x)
        if abs(at) < _CLOSE or high - low < _CLOSE:
            break
        if at > 0:
            low, at_low = x, at
            at_high *= 0.5 if moved > 0 else 1.0
            moved = 1
        else:
            high, at_high = x, at
            at_low *= 0.5 if moved < 0 else 1.0
            moved = -1
    share = 1.0 / (math.exp(x) + below)
    return float((share * z).sum() / share.sum())


def student(confidence: float, freedom: float) -> float:
    """The two-sided quantile of Student's t; `confidence` lies between 0 and 1."""
    from scipy.special import stdtrit  # a tenth of a second that most commands do without

    return float(stdtrit(freedom, (1.0 + confidence) / 2))
