"""How many more people it takes, and when they will have come. Free of I/O.

Theory. With a true difference d, the interval that holds at every look excludes 0 at n persons with
a chance of `POWER` or more once (reach(n) + 0.84) * sqrt(spread / n) <= |d|. `spread` is the
variance of the estimate times the persons, as it is so far. The day follows from who is still under
way, whose windows end on known days, and then from how many came on a day lately.

What is seen is no good guess of what is true: who asks when the difference that happens to be seen
will be sure gets a day that is too early as often as too late, and most often where it was luck.
So a day is given for an effect that is stated, and one, marked as such, for what is seen.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from genome_server.lift.estimates import ERROR, normal, reach
from genome_server.lift.rules import Flags, Floats, Ints
from genome_server.times import DAY_MS

POWER: Final = 0.8
MOST_DAYS: Final = 5 * 365
"""Later than this is never."""
_MOST_PERSONS: Final = 10**12
_LATELY: Final = 4
_LEAST_DAYS: Final = 7


class Due(NamedTuple):
    """When a difference can be told: with so many persons, `more` than have had their time, on the
    day `at_ms` (Unix; None: never, at the rate at which they come). `effect` is the difference as
    a share of the held out, `difference` the same in absolute terms."""

    effect: float
    difference: float
    persons: int
    more: int
    at_ms: int | None


def persons_needed(spread: float, difference: float, error: float = ERROR) -> int | None:
    """How many persons it takes to tell a difference by intervals that may err with this chance;
    None where it is 0 or too small."""
    if not difference:
        return None
    extra = normal(2 * (1 - POWER))

    def enough(persons: int) -> bool:
        z = reach(persons, error) + extra
        return bool(z * z * spread <= difference * difference * persons)

    high = 1
    while not enough(high):
        high *= 2
        if high > _MOST_PERSONS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def spread_of_shares(overall: float, effect: float, held: Flags, stratum: Ints) -> float:
    """The spread if the shown do it by `effect` more often (as a share) and all together as often
    as `overall`. More exact than what the few held out say of themselves."""
    base = base_of(overall, effect, held)
    shown = min(base * (1 + effect), 1.0)
    return _spread(shown * (1 - shown), base * (1 - base), held, stratum)


def base_of(overall: float, effect: float, held: Flags) -> float:
    """What the held out have, if all together have `overall` and the shown have `effect` more."""
    return overall / (1 + effect * float((~held).mean()))


def _spread(shown: float, out: float, held: Flags, stratum: Ints) -> float:
    total = 0.0
    for number in np.unique(stratum).tolist():
        inside = stratum == number
        each = (int((inside & ~held).sum()), int((inside & held).sum()))
        weight = float(inside.mean())
        total += weight**2 * (shown / max(each[0], 1) + out / max(each[1], 1))
    return total * len(held)


def spread_of_amounts(amount: Floats, effect: float, held: Flags, stratum: Ints) -> float:
    """The spread of amounts if the shown spend by `effect` more: all amounts tell of it."""
    share = float((~held).mean())
    variance = float(amount.var()) / (1 + effect * share) ** 2
    return _spread(variance * (1 + effect) ** 2, variance, held, stratum)


def per_day(at_ms: Ints, as_of_ms: int) -> float:
    """How many persons entered on a day lately: in the last quarter of the time, or week.

    `at_ms` int64[n], ascending: when each entered.
    """
    if not len(at_ms):
        return 0.0
    since = max(as_of_ms - int(at_ms[0]), 1)
    span = min(max(since // _LATELY, _LEAST_DAYS * DAY_MS), since)
    return float((at_ms >= as_of_ms - span).sum()) * DAY_MS / span


def due(
    effect: float,
    difference: float,
    spread: float,
    at_ms: Ints,
    window_ms: int,
    as_of_ms: int,
    error: float = ERROR,
) -> Due | None:
    """When a difference can be told; None where there is none to be told.

    `at_ms` int64[n], ascending: when all persons entered, those still under way included.
    """
    needed = persons_needed(spread, difference, error)
    if needed is None:
        return None
    over = int((at_ms + window_ms <= as_of_ms).sum())
    more = max(needed - over, 0)
    if not more:
        return Due(effect, difference, needed, 0, as_of_ms)
    if needed <= len(at_ms):
        return Due(effect, difference, needed, more, int(at_ms[needed - 1]) + window_ms)
    rate = per_day(at_ms, as_of_ms)
    days = (needed - len(at_ms)) / rate if rate else float("inf")
    if days > MOST_DAYS:
        return Due(effect, difference, needed, more, None)
    return Due(effect, difference, needed, more, as_of_ms + round(days * DAY_MS) + window_ms)
