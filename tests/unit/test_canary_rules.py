"""What becomes of a canary: looks, differences between devices, and which way it goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from edge_sdk.dna.schema import HOUR_MS
from genome_server.canary.rules import (
    ERROR,
    FIRST_LOOK_MS,
    Action,
    Bounds,
    Seen,
    Tally,
    difference,
    error_of,
    judge,
    looks_due,
)

DAY = 24 * HOUR_MS


def side(rates: list[float], decisions: int = 1_000, **fields: int) -> list[Tally]:
    return [
        Tally(decisions, round(rate * decisions), fields.get("shown", decisions), 0)
        for rate in rates
    ]


def test_looks_come_at_doubling_times_and_err_little_together() -> None:
    assert looks_due(FIRST_LOOK_MS - 1) == 0
    due = [looks_due(FIRST_LOOK_MS * 2**n) for n in range(12)]
    assert due == list(range(1, 13))
    assert looks_due(FIRST_LOOK_MS * 4 - 1) == 2
    assert [looks_due(ms, 2_000) for ms in (1_999, 2_000, 3_999, 4_000)] == [0, 1, 1, 2]
    assert sum(error_of(look) for look in range(1, 10_000)) <= ERROR


@given(
    st.lists(st.integers(0, 100), min_size=2, max_size=12),
    st.lists(st.integers(0, 100), min_size=2, max_size=12),
)
def test_with_equal_numbers_it_is_welchs_interval(ours: list[int], others: list[int]) -> None:
    seen = Seen(
        [Tally(100, one, 100, 0) for one in ours], [Tally(100, one, 100, 0) for one in others], 0, 0
    )
    found = difference(seen, "successes", 0.05)
    assert found is not None
    rates = [np.array(one) / 100 for one in (ours, others)]
    assume(all(len(set(one)) > 1 for one in (ours, others)))  # the oracle's own limit
    welch = stats.ttest_ind(*rates, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), abs=1e-9)


def test_sides_without_spread_differ_exactly() -> None:
    found = difference(Seen(side([0.25] * 3), side([0.5] * 4), 0, 0), "successes", 0.05)
    assert found == pytest.approx((0.25, 0.5, -0.25, -0.25))


def test_devices_that_decided_nothing_count_for_nothing() -> None:
    idle = Tally(0, 0, 0, 0)
    one = difference(Seen(side([0.1, 0.2]), side([0.1, 0.3]), 0, 0), "successes", 0.05)
    same = difference(
        Seen([*side([0.1, 0.2]), idle], [idle, *side([0.1, 0.3])], 0, 0), "successes", 0.05
    )
    assert one == same
    assert difference(Seen([idle, *side([0.1])], side([0.1, 0.3]), 0, 0), "shown", 0.05) is None


@pytest.mark.parametrize(
    ("ours", "elapsed", "action", "why"),
    [
        ([0.100, 0.101, 0.100, 0.099, 0.1, 0.1], 2 * DAY, Action.PROMOTE, "not worse by more than"),
        ([0.100, 0.101, 0.100, 0.099, 0.1, 0.1], HOUR_MS, Action.WAIT, "24 hours are not over"),
        ([0.03, 0.04, 0.03, 0.02, 0.03, 0.03], HOUR_MS, Action.ROLL_BACK, "it is worse: 3.00%"),
        ([0.02, 0.18, 0.02, 0.18, 0.02, 0.18], 2 * DAY, Action.WAIT, "cannot be told yet"),
        ([0.1, 0.1, 0.1, 0.1], 2 * DAY, Action.WAIT, "4 devices have decided from it and 6"),
    ],
)
def test_which_way_it_goes(ours: list[float], elapsed: int, action: Action, why: str) -> None:
    seen = Seen(side(ours), side([0.100, 0.099, 0.101, 0.1, 0.1, 0.1]), 6, 0)
    verdict = judge(seen, Bounds(), look=looks_due(elapsed), elapsed_ms=elapsed)
    assert verdict.action is action
    assert why in verdict.why


def test_what_is_broken_goes_back_whatever_succeeds() -> None:
    good = side([0.1] * 6)
    failing = [one._replace(unscored=500) for one in good]
    empty = [one._replace(shown=300) for one in good]
    for ours, why in ((failing, "the model fails in 50.0%"), (empty, "nothing is shown in 70.0%")):
        verdict = judge(Seen(ours, good, 6, 0), Bounds(), look=1, elapsed_ms=FIRST_LOOK_MS)
        assert verdict.action is Action.ROLL_BACK
        assert why in verdict.why
        back = judge(Seen(good, ours, 6, 0), Bounds(), look=1, elapsed_ms=2 * DAY)
        assert back.action is not Action.ROLL_BACK


@pytest.mark.parametrize(
    ("refused", "covered", "usual", "back"),
    [
        (0, 5, 0.0, False),
        (1, 1, 0.0, False),
        (2, 5, 0.0, True),
        (2, 100, 0.0, False),
        (5, 10, 0.5, False),  # others have refused as much, of something else
        (8, 10, 0.5, True),
    ],
)
def test_what_devices_refuse_goes_back(
    refused: int, covered: int, usual: float, back: bool
) -> None:
    seen = Seen((), (), covered, refused, usual)
    verdict = judge(seen, Bounds(), look=1, elapsed_ms=FIRST_LOOK_MS)
    assert (verdict.action is Action.ROLL_BACK) is back


def played(rng: np.random.Generator, factor: float) -> Action:
    """What comes of a canary that succeeds `factor` times as often, on devices that differ and
    were known for a week."""
    devices = np.clip(rng.beta(4, 40, 40), 0.001, 1.0)
    pace = rng.integers(5, 60, 40)
    mine = np.arange(40) < 10
    chance = np.where(mine, devices * factor, devices)
    before = rng.poisson(pace * 24 * 7)
    past = rng.binomial(before, devices)
    rate = past.sum() / before.sum()
    expected = (past + 10) / (before + 10 / rate)
    done = np.zeros(40, int)
    went_well = np.zeros(40, int)
    for look in range(1, 12):
        more = rng.poisson(pace * 0.25 * 2 ** max(look - 2, 0))
        done, went_well = done + more, went_well + rng.binomial(more, chance)
        tallies = [
            Tally(int(n), int(k), int(n), 0, float(n * one))
            for n, k, one in zip(done, went_well, expected, strict=True)
        ]
        elapsed = FIRST_LOOK_MS * 2 ** (look - 1)
        seen = Seen(tallies[:10], tallies[10:], 10, 0)
        verdict = judge(seen, Bounds(), look=look, elapsed_ms=elapsed)
        if verdict.action is not Action.WAIT:
            return verdict.action
    return Action.WAIT


def test_one_that_is_no_worse_is_rarely_taken_back_and_one_that_is_half_as_good_mostly() -> None:
    rng = np.random.default_rng(3)
    same = [played(rng, 1.0) for _ in range(200)]
    assert same.count(Action.ROLL_BACK) <= 10
    assert same.count(Action.PROMOTE) >= 100
    half = [played(rng, 0.5) for _ in range(200)]
    assert half.count(Action.ROLL_BACK) >= 180
    assert half.count(Action.PROMOTE) == 0
