"""Intervals, the balance of groups, and when there will be enough: against known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genome_server.lift.balance import UNFAIR, balance
from genome_server.lift.estimates import (
    LEAST_PAYERS,
    TUNED,
    Contrast,
    Limits,
    contrast_amounts,
    contrast_shares,
    difference,
    normal,
    ratio,
    reach,
)
from genome_server.lift.needs import (
    POWER,
    base_of,
    due,
    per_day,
    persons_needed,
    spread_of_amounts,
    spread_of_shares,
)
from genome_server.times import DAY_MS


def shares(shown: tuple[int, int], held: tuple[int, int]) -> Contrast:
    """Successes and persons of each group."""
    did = np.repeat(
        [True, False, True, False], [shown[0], shown[1] - shown[0], held[0], held[1] - held[0]]
    )
    group = np.repeat([False, True], [shown[1], held[1]])
    found = contrast_shares(did, group, np.zeros(len(did), np.int64))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("shown", "held", "low", "high"),
    [
        # Newcombe 1998, table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_shares_is_newcombes(
    shown: tuple[int, int], held: tuple[int, int], low: float, high: float
) -> None:
    found = shares(shown, held).planned
    assert tuple(found) == pytest.approx((low, high), abs=6e-5)


def test_the_ratio_excludes_one_where_the_difference_excludes_zero() -> None:
    chance = np.random.default_rng(1)
    seen = set()
    for _ in range(2_000):
        means = chance.uniform(0.01, 1.0, 2)
        one, other = (
            Limits(
                mean, max(mean - chance.uniform(0, 1.2 * mean), 0), mean + chance.uniform(0, 1.5)
            )
            for mean in means.tolist()
        )
        of, as_part = difference(one, other), ratio(one, other)
        assert as_part is not None
        assert (of.low > 0) == (as_part.low > 1)
        assert (of.high < 0) == (as_part.high < 1)
        assert as_part.low <= one.mean / other.mean <= as_part.high
        # They are roots: at such a ratio the scaled difference just reaches zero.
        for r, end in ((as_part.low, 0), (as_part.high, 1)):
            if 0 < r < math.inf:
                scaled = difference(one, Limits(*(r * value for value in other)))
                assert scaled[end] == pytest.approx(0, abs=1e-9)
        seen.add((of.low > 0, of.high < 0, math.isinf(as_part.high)))
    assert len(seen) > 3
    assert ratio(Limits(1, 0, 2), Limits(0, 0, 1)) is None


def test_what_holds_at_every_look_reaches_further() -> None:
    assert normal() == pytest.approx(1.959964, abs=1e-6)
    assert reach(TUNED) == pytest.approx(3.03, abs=0.01)
    assert 3.0 < min(reach(n) for n in range(100, 100_000, 100)) < reach(TUNED) + 0.1
    assert reach(3_000_000) < 4.0
    assert reach(50) > 4.5, "few persons tell little"
    assert reach(1) == reach(0) == 30.0
    widths = [reach(n) / math.sqrt(n) for n in range(10, 100_000, 10)]
    assert widths == sorted(widths, reverse=True), "more customers never make it wider"
    # The mixture is a martingale: at its bound the odds against chance are 1 / 0.05, at any time.
    rho2 = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05)) + 1) / TUNED
    for n in (500, 2_000, 50_000):
        s = reach(n) * math.sqrt(n)
        odds = math.exp(rho2 * s * s / (2 * (1 + n * rho2))) / math.sqrt(1 + n * rho2)
        assert odds == pytest.approx(20, rel=1e-9)


def test_placements_with_other_shares_do_not_mix() -> None:
    """Who comes to the second buys more and is held out more often: that is no effect."""
    counts = {
        (0, False): (900, 90),
        (0, True): (100, 10),
        (1, False): (500, 250),
        (1, True): (500, 250),
    }
    did = np.concatenate([np.arange(n) < k for n, k in counts.values()])
    held = np.concatenate([np.full(n, key[1]) for key, (n, _) in counts.items()])
    stratum = np.concatenate([np.full(n, key[0]) for key, (n, _) in counts.items()])
    found = contrast_shares(did, held, stratum)
    assert found is not None
    assert found.difference == pytest.approx(0)
    assert found.shown == pytest.approx(found.held)
    assert abs(found.planned.low + found.planned.high) < 0.01
    mixed = contrast_shares(did, held, np.zeros_like(stratum))
    assert mixed is not None
    assert mixed.planned.high < 0, "which would have said that showing does harm"


def test_amounts_lean_to_the_side_of_those_who_buy_much() -> None:
    chance = np.random.default_rng(2)
    amount = np.where(chance.random(1_000) < 0.1, np.exp(chance.normal(2, 1.2, 1_000)), 0.0)
    held = np.arange(1_000) % 2 == 0
    zeros = np.zeros(1_000, np.int64)
    found = contrast_amounts(amount, held, zeros)
    assert found is not None
    assert found.difference == pytest.approx(amount[~held].mean() - amount[held].mean())
    assert found.always.low < found.planned.low < found.difference < found.planned.high
    wide = contrast_amounts(amount * 100, held, zeros)
    assert wide is not None
    assert wide.planned.low == pytest.approx(100 * found.planned.low, rel=1e-6)
    few = np.where(np.cumsum((amount > 0) & held) < LEAST_PAYERS, amount, 0.0)
    assert contrast_amounts(few, held, zeros) is None
    assert contrast_shares(amount > 0, np.zeros(1_000, bool), zeros) is None, "nobody is held out"


def test_groups_that_are_not_as_large_as_they_should_be_are_found() -> None:
    assert balance("p", 1_000, 200, 0.2).chance == 1.0
    assert balance("p", 1_000, 230, 0.2).fair
    assert not balance("p", 1_000, 280, 0.2).fair
    assert not balance("p", 100_000, 20_900, 0.2).fair
    assert not balance("p", 1_000, 0, 0.05).fair
    assert balance("p", 20, 0, 0.05).fair
    assert balance("p", 0, 0, 0.5).chance == 1.0
    # Where one group is lost whole, few persons tell; where little is, no fewer than before.
    assert balance("p", 21, 21, 0.625).fair
    assert not balance("p", 22, 22, 0.625).fair
    assert not balance("p", 1_000_000, 201_850, 0.2).fair
    # Looked at with every person, a fair draw is called unfair in fewer than one of a thousand.
    chance = np.random.default_rng(3)
    alarms = 0
    for _ in range(300):
        held = np.cumsum(chance.random(400) < 0.2)
        alarms += any(not balance("p", n + 1, int(held[n]), 0.2).fair for n in range(0, 400, 20))
    assert alarms <= 2
    assert UNFAIR == 0.001


def test_a_fair_draw_is_called_unfair_at_some_look_with_no_more_than_the_promised_chance() -> None:
    """Worked out: of all ways in which 200 draws can go, a look after each."""
    for share in (0.05, 0.375, 0.5):
        alive, alarm = {0: 1.0}, 0.0
        for persons in range(1, 201):
            after: dict[int, float] = {}
            for held, weight in alive.items():
                for more, part in ((1, share), (0, 1 - share)):
                    after[held + more] = after.get(held + more, 0.0) + weight * part
            found = {held: balance("p", persons, held, share).fair for held in after}
            alarm += sum(weight for held, weight in after.items() if not found[held])
            alive = {held: weight for held, weight in after.items() if found[held]}
        assert 0 < alarm <= UNFAIR


def test_how_many_it_takes_is_what_the_interval_needs() -> None:
    spread = 0.8
    needed = persons_needed(spread, 0.1)
    assert needed is not None
    z = normal(2 * (1 - POWER))
    assert z == pytest.approx(0.8416, abs=1e-4)
    for persons, enough in ((needed, True), (needed - 1, False)):
        assert ((reach(persons) + z) * math.sqrt(spread / persons) <= 0.1) == enough
    assert persons_needed(spread, -0.1) == needed
    assert persons_needed(spread, 0.0) is None
    assert persons_needed(spread, 1e-9) is None
    assert persons_needed(0.0, 0.1) == 1


def test_the_spread_is_that_of_the_estimate() -> None:
    held = np.arange(10_000) < 2_000
    stratum = np.zeros(10_000, np.int64)
    base = base_of(0.116, 0.2, held)
    assert base == pytest.approx(0.1)
    spread = spread_of_shares(0.116, 0.2, held, stratum)
    assert spread == pytest.approx(10_000 * (0.12 * 0.88 / 8_000 + 0.1 * 0.9 / 2_000))
    amount = np.where(np.arange(10_000) % 10 == 0, 10.0, 0.0)
    spread = spread_of_amounts(amount, 0.0, held, stratum)
    assert spread == pytest.approx(10_000 * 9.0 * (1 / 8_000 + 1 / 2_000))


def test_the_day_follows_from_who_is_under_way_and_who_came_lately() -> None:
    window, now = 7 * DAY_MS, 40 * DAY_MS
    at_ms = np.arange(0, 40 * DAY_MS, DAY_MS // 10)  # ten a day
    assert per_day(at_ms, now) == pytest.approx(10)
    assert per_day(np.arange(0, 20 * DAY_MS, DAY_MS), now) == 0.0, "nobody came lately"

    def wanted(
        persons: int, times: np.ndarray[tuple[int], np.dtype[np.int64]] = at_ms
    ) -> tuple[int, int | None]:
        # The difference that takes just so many.
        low, high = 1e-6, 10.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if (persons_needed(1.0, middle) or 0) > persons else (low, middle)
            )
        found = due(0.1, high, 1.0, times, window, now)
        assert found is not None
        return found.more, found.at_ms

    assert wanted(300) == (0, now)
    more, when = wanted(391)
    assert more == 391 - 331
    assert when == int(at_ms[390]) + window, "they are under way"
    more, when = wanted(500)
    assert more == 500 - 331
    assert when == now + 10 * DAY_MS + window, "a hundred more, at ten a day"
    assert wanted(500, at_ms[:200])[1] is None, "never, when nobody comes any more"
    assert wanted(100_000)[1] is None, "in 27 years"
    assert due(0.0, 0.0, 1.0, at_ms, window, now) is None
