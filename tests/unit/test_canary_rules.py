"""What becomes of a canary: looks, differences between devices, and which way it goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from edge_sdk.dna.schema import HOUR_MS
from genome_server.canary.counts import Counts, compared
from genome_server.canary.rules import (
    ERROR,
    FIRST_LOOK_MS,
    Action,
    Bounds,
    Heard,
    Seen,
    Tally,
    difference,
    error_of,
    figures,
    judge,
    looks_due,
)

DAY = 24 * HOUR_MS


def side(rates: list[float], decisions: int = 1_000, **fields: int) -> list[Tally]:
    return [
        Tally(decisions, round(rate * decisions), fields.get("shown", decisions), 0)
        for rate in rates
    ]


def seen(
    ours: list[Tally], others: list[Tally], *, by_value: bool = False, alike: float | None = None
) -> Seen:
    """Both sides, of devices that refuse nothing; what succeeded is alike unless it is said."""
    if alike is None:
        alike = sum(one.successes for one in (*ours, *others))
    return Seen(ours, others, Heard(len(ours), len(others), len(ours), 0), alike, by_value)


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
    both = ([Tally(100, one, 100, 0) for one in side] for side in (ours, others))
    found = difference(seen(*both), "successes", 0.05)
    assert found is not None
    rates = [np.array(one) / 100 for one in (ours, others)]
    assume(all(len(set(one)) > 1 for one in (ours, others)))  # the oracle's own limit
    welch = stats.ttest_ind(*rates, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), abs=1e-9)


def test_sides_without_spread_differ_exactly() -> None:
    found = difference(seen(side([0.25] * 3), side([0.5] * 4)), "successes", 0.05)
    assert found == pytest.approx((0.25, 0.5, -0.25, -0.25))


def test_devices_that_decided_nothing_count_for_nothing() -> None:
    idle = Tally(0, 0, 0, 0)
    ours, others = side([0.1, 0.2]), side([0.1, 0.3])
    one = difference(seen(ours, others), "successes", 0.05)
    same = difference(seen([*ours, idle], [idle, *others]), "successes", 0.05)
    assert one == same
    assert difference(seen([idle, *side([0.1])], others), "shown", 0.05) is None


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
    both = seen(side(ours), side([0.100, 0.099, 0.101, 0.1, 0.1, 0.1]))
    verdict = judge(both, Bounds(), look=looks_due(elapsed), elapsed_ms=elapsed)
    assert verdict.action is action
    assert why in verdict.why


def test_what_is_broken_goes_back_whatever_succeeds() -> None:
    good = side([0.1] * 6)
    failing = [one._replace(unscored=500) for one in good]
    empty = [one._replace(shown=300) for one in good]
    for ours, why in ((failing, "the model fails in 50.0%"), (empty, "nothing is shown in 70.0%")):
        verdict = judge(seen(ours, good), Bounds(), look=1, elapsed_ms=FIRST_LOOK_MS)
        assert verdict.action is Action.ROLL_BACK
        assert why in verdict.why
        back = judge(seen(good, ours), Bounds(), look=1, elapsed_ms=2 * DAY)
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
    both = Seen((), (), Heard(covered, 10, covered, refused, usual))
    verdict = judge(both, Bounds(), look=1, elapsed_ms=FIRST_LOOK_MS)
    assert (verdict.action is Action.ROLL_BACK) is back


@pytest.mark.parametrize(
    ("rate", "worth", "action", "why"),
    [
        (0.10, 1.0, Action.ROLL_BACK, "a decision of it earns 0.1, of others 0.2 (-0.1"),
        (0.05, 4.0, Action.PROMOTE, "5.00% of its decisions succeed, 10.00% of others"),
        (0.20, 0.5, Action.ROLL_BACK, "20.00% of its decisions succeed, 10.00% of others"),
        (0.10, -1.0, Action.ROLL_BACK, "a decision of it earns -0.1, of others 0.2 (-0.3"),
        (0.10, 2.0, Action.PROMOTE, "it is not worse by more than 10%: a decision of it earns 0.2"),
    ],
)
def test_where_worths_differ_it_is_judged_by_what_decisions_earn(
    rate: float, worth: float, action: Action, why: str
) -> None:
    ours = [one._replace(value=one.successes * worth) for one in side([rate] * 6)]
    others = [one._replace(value=one.successes * 2.0) for one in side([0.1] * 6)]
    both = seen(ours, others, by_value=True)
    verdict = judge(both, Bounds(), look=looks_due(2 * DAY), elapsed_ms=2 * DAY)
    assert verdict.action is action, verdict.why
    assert why in verdict.why


def test_what_others_lose_is_no_excuse_to_lose_more() -> None:
    ours = [one._replace(value=-2 * one.successes) for one in side([0.1] * 6)]
    others = [one._replace(value=-one.successes) for one in side([0.1] * 6)]
    for both, action in ((seen(ours, others), Action.ROLL_BACK), (seen(others, ours), Action.WAIT)):
        by_value = both._replace(by_value=True)
        assert judge(by_value, Bounds(), look=1, elapsed_ms=FIRST_LOOK_MS).action is action


def test_few_that_are_worth_much_tell_little() -> None:
    ours = [one._replace(value=0.1 * n) for n, one in enumerate(side([0.1] * 6))]
    others = [one._replace(value=100.0 + n) for n, one in enumerate(side([0.1] * 6))]
    both = seen(ours, others, by_value=True, alike=4.7)
    verdict = judge(both, Bounds(), look=1, elapsed_ms=FIRST_LOOK_MS)
    assert verdict.why == (
        "what succeeded tells as much as 4 successes of one worth so far: 30 are needed"
    )
    enough = judge(both._replace(alike=30.0), Bounds(), look=1, elapsed_ms=FIRST_LOOK_MS)
    assert enough.action is Action.ROLL_BACK


def test_where_nobody_is_left_it_says_so() -> None:
    good = side([0.1] * 6)
    for heard, why in (
        (Heard(0, 6, 0, 0), "no device of the channel is meant to have it"),
        (Heard(6, 0, 6, 0), "the channel has no other device to compare it with"),
    ):
        both = seen(good, good)._replace(heard=heard)
        verdict = judge(both, Bounds(), look=1, elapsed_ms=2 * DAY)
        assert verdict.action is Action.WAIT
        assert verdict.why.startswith(why)
    lost = seen([], good)._replace(heard=Heard(6, 6, 6, 0), left_out=1_200)
    why = judge(lost, Bounds(), look=1, elapsed_ms=2 * DAY).why
    assert why.endswith("needed; 1,200 decisions name offers that their releases do not have")


def test_figures_are_plain_sums_also_of_nothing() -> None:
    tallies = [Tally(10, 1, 9, 1, 0.5, 2.5), Tally(2.5, 0, 2.5, 0)]
    said = figures(seen(tallies, []))
    assert said["canary"] == {
        "devices": 2, "decisions": 12.5, "successes": 1, "value": 2.5, "shown": 11.5,
        "unscored": 1, "value_by_decision": 0.2,
    }  # fmt: skip
    assert said["others"]["value_by_decision"] is None
    assert (said["judged_by"], said["covered"], said["refused"]) == ("successes", 2, 0)


SPREAD = {0.5: 0.4, 2.0: 0.3, 5.0: 0.2, 20.0: 0.1}
"""How often what is worth how much is taken: three fifths of all value in a tenth of it."""


def played(
    rng: np.random.Generator,
    factor: float,
    worths: dict[float, float] | None = None,
    worth: float = 1.0,
) -> Action:
    """What comes of a canary that succeeds `factor` times as often, each success being worth
    `worth` times as much, on devices that differ in how often and in what is taken there, and were
    known for a week."""
    worths = worths or {1.0: 1.0}
    chances = np.clip(rng.beta(4, 40, 40), 0.001, 1.0)
    pace = rng.integers(5, 60, 40)
    mixes = rng.dirichlet(np.array([*worths.values()]) * 30, 40)
    of = {str(n): n < 10 for n in range(40)}
    past, since = Counts(), Counts()

    def go_on(counts: Counts, hours: float, *, canary: bool) -> None:
        for n, (device, ours) in enumerate(of.items()):
            ours &= canary
            decisions = int(rng.poisson(pace[n] * hours))
            went_well = rng.binomial(decisions, chances[n] * (factor if ours else 1.0))
            counts.of[device][0] += decisions
            counts.of[device][2] += decisions
            counts.of[device][1] += went_well
            counts.successes.add(1, went_well)
            taken = rng.multinomial(went_well, mixes[n])
            for each, times in zip(worths, taken.tolist(), strict=True):
                value = each * (worth if ours else 1.0)
                counts.of[device][4] += times * value
                counts.earned.add(value, times)
                counts.worths[str(value)].add(value)

    go_on(past, 24 * 7, canary=False)
    for look in range(1, 12):
        go_on(since, 0.25 * 2 ** max(look - 2, 0), canary=True)
        elapsed = FIRST_LOOK_MS * 2 ** (look - 1)
        both = compared(past, since, of, Heard(10, 30, 10, 0))
        verdict = judge(both, Bounds(), look=look, elapsed_ms=elapsed)
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


def test_of_worths_that_differ_much_it_is_so_too() -> None:
    rng = np.random.default_rng(4)
    same = [played(rng, 1.0, SPREAD) for _ in range(200)]
    assert same.count(Action.ROLL_BACK) <= 10
    half = [played(rng, 1.0, SPREAD, worth=0.5) for _ in range(100)]
    assert half.count(Action.ROLL_BACK) >= 80
    assert half.count(Action.PROMOTE) == 0
    dearer = [played(rng, 0.7, SPREAD, worth=2.0) for _ in range(100)]
    assert dearer.count(Action.ROLL_BACK) == 0
    assert dearer.count(Action.PROMOTE) >= 70
