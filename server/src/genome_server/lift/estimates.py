"""How much more the shown did than the held out, and between which bounds. Free of I/O.

Theory of operation. Each group has a mean with limits: of shares Wilson's, of amounts those of
empirical likelihood, which lean to the side on which the few who buy much lie. From the limits of
two means follow those of their difference and of their ratio (Newcombe 1998; Donner and Zou 2012,
"MOVER"), and the two never contradict each other: the ratio's exclude 1 exactly where the
difference's exclude 0. Where people were drawn in several placements with different shares, each
group's mean is over the same mixture of placements, and limits add up the same way.

There are two sets of limits, each of 95 %.

- *planned* holds for one look, on a day that was chosen before anything was seen.
- *always* holds at every look together, however often somebody looks and stops when it pleases:
  an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, with the
  normal mixture of Robbins). Persons are taken in the order in which they entered; instead of 1.96
  standard errors it reaches `reach(persons)`, about 3.0 to 3.9, and it needs 2.4 to 4 times as many
  people. It is as narrow as it can be near `TUNED` persons, a number that was fixed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from genome_server.lift.rules import Flags, Floats, Ints
from genome_server.offpolicy.intervals import likely_means

ERROR: Final = 0.05
TUNED: Final = 2_000
"""At so many persons `reach` is as good as it can be."""
LEAST_PAYERS: Final = 10
"""Persons of either group with an amount, from which limits of amounts are given."""
_RHO2: Final = (-2 * math.log(ERROR) + math.log(-2 * math.log(ERROR)) + 1) / TUNED
_MOST_REACH: Final = 30.0


class Limits(NamedTuple):
    """A mean, and its limits."""

    mean: float
    low: float
    high: float


LimitsOf = Callable[[Floats, float], Limits | None]
"""The mean of values, with limits that many standard errors away; None where there are none."""


class Interval(NamedTuple):
    """Limits of a difference or a ratio."""

    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """Shown against held out, of shares or of amounts per person.

    `difference` is shown minus held out, with its `planned` and `always` intervals. `lift` is the
    difference as a share of the held out, with its own; None where the held out have none.
    `spread` is the variance of the difference times the persons.
    """

    shown: float
    held: float
    planned: Interval
    always: Interval
    lift_planned: Interval | None
    lift_always: Interval | None
    spread: float

    @property
    def difference(self) -> float:
        """Shown minus held out."""
        return self.shown - self.held

    @property
    def lift(self) -> float | None:
        """The difference as a share of the held out; None where they have none."""
        return self.difference / self.held if self.held > 0 else None

    @property
    def sure(self) -> bool:
        """Whether the interval that always holds lies on one side of zero."""
        return self.always.low > 0 or self.always.high < 0


def normal(error: float = ERROR) -> float:
    """How many standard errors an interval reaches that errs with this chance, on both sides."""
    from scipy.special import ndtri  # a tenth of a second that most commands do without

    return float(ndtri(1.0 - error / 2))


def reach(persons: int, error: float = ERROR) -> float:
    """How many standard errors an interval must reach to hold at every look, at so many persons."""
    if persons < 1:
        return _MOST_REACH
    time = persons * _RHO2
    square = (1.0 + 1.0 / time) * (math.log1p(time) - 2.0 * math.log(error))
    return min(math.sqrt(square), _MOST_REACH)


def contrast_shares(
    did: Flags, held: Flags, stratum: Ints, error: float = ERROR
) -> Contrast | None:
    """Of the persons of either group, the share that did something.

    `did`, `held` are bool[n], `stratum` int64[n]. None where a stratum has nobody in a group.
    """
    return _contrast(did.astype(np.float64), held, stratum, error, _wilson)


def contrast_amounts(
    amount: Floats, held: Flags, stratum: Ints, error: float = ERROR
) -> Contrast | None:
    """The amount per person, float64[n]. None where fewer than LEAST_PAYERS of a group have any."""
    return _contrast(amount, held, stratum, error, _likely)


def difference(one: Limits, other: Limits) -> Interval:
    """Limits of the first mean less the second."""
    between = one.mean - other.mean
    return Interval(
        between - math.hypot(one.mean - one.low, other.high - other.mean),
        between + math.hypot(one.high - one.mean, other.mean - other.low),
    )


def ratio(one: Limits, other: Limits) -> Interval | None:
    """Limits of the first mean as a part of the second; None where that is not above 0."""
    if other.mean <= 0 or one.mean < 0:
        return None
    product = one.mean * other.mean
    # Roots of (m1 - r m2)^2 = (m1 - l1)^2 + r^2 (u2 - m2)^2, and the other way round.
    inner = max(one.low, 0.0) * (2 * one.mean - max(one.low, 0.0))
    outer = other.high * (2 * other.mean - other.high)
    low = inner / (product + math.sqrt(max(product**2 - inner * outer, 0.0))) if inner else 0.0
    high = math.inf
    if other.low > 0:
        inner = other.low * (2 * other.mean - other.low)
        outer = one.high * (2 * one.mean - one.high)
        high = (product + math.sqrt(max(product**2 - inner * outer, 0.0))) / inner
    return Interval(low, high)


class _Group(NamedTuple):
    """The values of one group in one stratum, and the stratum's share of all persons."""

    values: Floats
    weight: float


def _contrast(
    values: Floats, held: Flags, stratum: Ints, error: float, limits: LimitsOf
) -> Contrast | None:
    groups = _groups(values, held, stratum)
    if groups is None:
        return None
    persons, spread = len(values), 0.0
    for group in groups:
        for part in group:
            spread += part.weight**2 * float(part.values.var()) / len(part.values)
    found = []
    for z in (normal(error), max(reach(persons, error), normal(error))):
        both = [_combined(group, z, limits) for group in groups]
        if both[0] is None or both[1] is None:
            return None
        found.append((both[0], both[1]))
    (shown, out), always = found
    return Contrast(
        shown=shown.mean,
        held=out.mean,
        planned=difference(shown, out),
        always=difference(*always),
        lift_planned=_less_one(ratio(shown, out)),
        lift_always=_less_one(ratio(*always)),
        spread=spread * persons,
    )


def _groups(
    values: Floats, held: Flags, stratum: Ints
) -> tuple[Sequence[_Group], Sequence[_Group]] | None:
    """The shown and the held out, by stratum."""
    shown, out = [], []
    for number in np.unique(stratum).tolist():
        inside = stratum == number
        weight = float(inside.mean())
        shown.append(_Group(values[inside & ~held], weight))
        out.append(_Group(values[inside & held], weight))
    if not shown or not all(len(part.values) for part in (*shown, *out)):
        return None
    return shown, out


def _combined(group: Sequence[_Group], z: float, limits: LimitsOf) -> Limits | None:
    parts = [(part.weight, limits(part.values, z)) for part in group]
    if any(one is None for _, one in parts):
        return None
    known = [(weight, one) for weight, one in parts if one is not None]
    mean = sum(weight * one.mean for weight, one in known)
    low = math.sqrt(sum((weight * (one.mean - one.low)) ** 2 for weight, one in known))
    high = math.sqrt(sum((weight * (one.high - one.mean)) ** 2 for weight, one in known))
    return Limits(mean, mean - low, mean + high)


def _wilson(values: Floats, z: float) -> Limits:
    n, share = len(values), float(values.mean())
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Limits(share, max(middle - half, 0.0), min(middle + half, 1.0))


def _likely(values: Floats, z: float) -> Limits | None:
    payers = int(np.count_nonzero(values))
    if payers < LEAST_PAYERS or not np.ptp(values) > 0:
        return None
    # How well the variance is known (Satterthwaite): badly where a few large amounts make it.
    squares = (values - values.mean()) ** 2
    tails = float((squares**2).mean() / squares.mean() ** 2) - 1.0
    freedom = payers - 1.0
    if tails > 0:
        freedom = max(2.0, min(freedom, 2.0 * len(values) / tails))
    low, high = likely_means(values, _student(z, freedom) ** 2)
    return Limits(float(values.mean()), low, high)


def _student(z: float, freedom: float) -> float:
    """The quantile of Student's t that is as likely to be exceeded as this normal one."""
    from scipy.special import ndtr, stdtrit

    tail = float(ndtr(-z))
    return float(-stdtrit(freedom, tail)) if tail > 0 else _MOST_REACH


def _less_one(interval: Interval | None) -> Interval | None:
    return None if interval is None else Interval(interval.low - 1.0, interval.high - 1.0)
