"""Foreseeing: nothing looks ahead, chances are chances, and a planted truth is found again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from genome_server.foresee import pauses
from genome_server.foresee.columns import NOTHING, Events, codes, events_of
from genome_server.foresee.meeting import Meeting, category_dna
from genome_server.foresee.mixture import (
    EXPONENTS,
    Mixture,
    fit_powers,
    fit_sureness,
    fit_weights,
    pooled,
    sharpen,
)
from genome_server.foresee.model import fit, fit_tilt, tilted
from genome_server.foresee.opinions import GROUPS, ask, count_crowd

Ints = NDArray[np.int64]
SYMBOLS = 4


def made(seed: int = 0, people: int = 12, each: int = 40) -> Events:
    """Customers with a habit each, who do in the morning what they do, and else anything."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each)
    hour = 400_000 + np.sort(rng.integers(0, 24 * 300, (people, each)), axis=1).ravel()
    habit = (who + (hour % 24 >= 12)) % SYMBOLS
    symbol = np.where(rng.random(len(who)) < 0.8, habit, rng.integers(0, SYMBOLS, len(who)))
    return events_of(who, hour, symbol, symbol, SYMBOLS, SYMBOLS)


def everything(events: Events, until: int, *, timed: bool = True) -> NDArray[np.float64]:
    crowd = count_crowd(events, until, timed=timed)
    found = list(ask(events, crowd, np.ones(len(events), bool)))
    assert [row for one in found for row in one.rows.tolist()] == list(range(len(events)))
    assert all(0 <= group < GROUPS for one in found for group in one.group.tolist())
    return np.concatenate([one.opinions for one in found])


def test_events_stand_by_customer_and_time_and_know_what_came_before() -> None:
    who = np.array([2, 1, 2, 2, 1])
    hour = np.array([7, 5, 3, 3, 9])
    what = np.array([0, 1, 2, 3, 0])
    found = events_of(who, hour, what, what, 4, 4)
    assert found.who.tolist() == [1, 1, 2, 2, 2]
    assert found.symbol.tolist() == [1, 0, 2, 3, 0]
    assert found.before.tolist() == [NOTHING, 1, NOTHING, 2, 3]
    assert found.earlier.tolist() == [NOTHING, NOTHING, NOTHING, NOTHING, 2]
    assert found.since.tolist() == [0, 4, 0, 0, 4]


def test_lines_of_one_basket_know_nothing_of_each_other() -> None:
    who, hour = np.zeros(5, np.int64), np.array([1, 1, 1, 4, 4])
    what, basket = np.array([0, 1, 2, 3, 0]), np.array([5, 5, 5, 2, 2])
    found = events_of(who, hour, what, what, 4, 4, basket)
    assert found.before.tolist() == [NOTHING] * 3 + [2, 2]
    assert found.since.tolist() == [0, 0, 0, 3, 3]
    assert len(set(found.occasion.tolist())) == 2
    opinions = everything(found, 0)
    np.testing.assert_array_equal(opinions[3], opinions[4])
    np.testing.assert_array_equal(opinions[0], opinions[2])


def test_hours_of_the_week_begin_on_monday_at_midnight() -> None:
    # 2026-01-05 was a Monday.
    monday = int(np.datetime64("2026-01-05T00", "h").astype(int))
    hours = np.array([monday, monday + 30, monday + 167])
    found = events_of(np.zeros(3, int), hours, np.zeros(3, int), np.zeros(3, int), 1, 1)
    assert found.slot.tolist() == [0, 30, 167]


@pytest.mark.parametrize("timed", [True, False])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 24 * 300))
def test_no_opinion_looks_ahead(timed: bool, seed: int, cut: int) -> None:
    events = made(seed, people=4, each=25)
    until = 400_000 + cut
    past = events.hour <= until
    # Whatever came later might have been something else.
    other = replace(events, symbol=np.where(past, events.symbol, (events.symbol + 1) % SYMBOLS))
    first = np.flatnonzero(past)
    one, two = everything(events, until, timed=timed), everything(other, until, timed=timed)
    np.testing.assert_array_equal(one[first], two[first])
    assert np.all(one >= 0)
    np.testing.assert_allclose(one.sum(axis=2), 1.0, atol=1e-9)
    # And the first event after it is not told by itself.
    after = [
        int(row)
        for begin, end in pairwise(events.starts().tolist())
        for row in begin + np.flatnonzero(~past[begin:end])[:1]
    ]
    np.testing.assert_array_equal(one[after], two[after])


def test_the_own_past_by_hand() -> None:
    who, hour = np.zeros(3, np.int64), np.array([0, 120 * 24, 240 * 24]) + 400_000
    what = np.array([0, 1, 1])
    events = events_of(who, hour, what, what, 2, 2)
    crowd = count_crowd(events, 0, timed=False)
    opinions = everything(events, 0, timed=False)
    # One quarter of symbol 0 and one half of symbol 1 are left, on 2 cases of the crowd.
    expected = (np.array([0.25, 0.5]) + 2 * crowd.lately) / 2.75
    np.testing.assert_allclose(opinions[2, crowd.names.index("own_slow")], expected)


def test_the_crowd_counts_what_was_known_by_then() -> None:
    events = made()
    until = int(np.median(events.hour))
    crowd = count_crowd(events, until, timed=True)
    told = events.symbol[events.hour <= until]
    assert crowd.events == len(told)
    counts = np.bincount(told, minlength=SYMBOLS) + 1 / SYMBOLS
    np.testing.assert_allclose(crowd.popular, counts / counts.sum())
    late = replace(events, known=np.full(len(events), pauses.NEVER))
    assert count_crowd(late, until, timed=True).events == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 60))
def test_weights_and_sureness_are_shares_and_never_worse_than_equal_ones(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    opinions = rng.dirichlet(np.ones(5), (n, 3))
    happened, group = rng.integers(0, 5, n), np.zeros(n, np.int64)
    likely = opinions[np.arange(n), :, happened]
    weights = fit_weights(likely, group, 2)
    assert np.all(weights >= 0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_array_equal(weights, fit_weights(likely, group, 2))
    mixed = Mixture(weights).blend(opinions, group)
    if n:
        of_all = likely @ weights[0]
        assert np.log(of_all).sum() >= np.log(likely.mean(axis=1)).sum() - 1e-6
    sureness = fit_sureness(mixed, happened, group, 2)
    powers = fit_powers(opinions, mixed, happened)
    said = Mixture(weights, powers, sureness).blend(opinions, group)
    np.testing.assert_allclose(said.sum(axis=1), 1.0)
    assert np.all(said > 0)


def test_the_better_opinion_gets_the_weight_by_group() -> None:
    rng = np.random.default_rng(1)
    happened = rng.integers(0, 3, 600)
    group = np.repeat([0, 1], 300)
    sure = np.full((600, 3), 0.05)
    sure[np.arange(600), happened] = 0.9
    flat = np.full((600, 3), 1 / 3)
    # In group 0 the first opinion knows, in group 1 the second.
    first = np.where(group[:, None] == 0, sure, flat)
    second = np.where(group[:, None] == 1, sure, flat)
    opinions = np.stack([first, second], axis=1)
    weights = fit_weights(opinions[np.arange(600), :, happened], group, 3)
    assert weights[0, 0] > 0.9
    assert weights[1, 1] > 0.9
    np.testing.assert_allclose(weights[2], weights[2][::-1], atol=0.1)  # no case: those of all


def test_sharpening_keeps_the_order_and_the_pool_of_nothing_is_the_mixture() -> None:
    chances = np.random.default_rng(2).dirichlet(np.ones(6), 20)
    for exponent in EXPONENTS:
        sharp = sharpen(chances, exponent)
        np.testing.assert_array_equal(np.argsort(sharp), np.argsort(chances))
        np.testing.assert_allclose(sharp.sum(axis=1), 1.0)
    logs = np.log(np.stack([chances[::-1], chances], axis=1))
    np.testing.assert_allclose(pooled(logs, np.array([0.0, 1.0])), chances)


def test_powers_find_those_that_the_truth_was_made_with() -> None:
    rng = np.random.default_rng(3)
    opinions = rng.dirichlet(np.ones(4), (6000, 2))
    mixed = opinions.mean(axis=1)
    logs = np.log(np.maximum(np.concatenate([opinions, mixed[:, None]], axis=1), 1e-6))
    truth = pooled(logs, np.array([1.2, 0.5, 0.0]))
    happened = (truth.cumsum(axis=1) > rng.random((6000, 1))).argmax(axis=1)
    powers = fit_powers(opinions, mixed, happened)
    said = pooled(logs, powers)
    gap = (truth * (np.log(truth) - np.log(said))).sum(axis=1).mean()
    assert 0 <= gap < 0.002


def test_a_planted_habit_is_found_and_chances_are_what_happens() -> None:
    events = made(seed=5, people=60, each=80)
    cut = np.quantile(events.hour, [0.6, 0.8]).astype(int).tolist()
    forecaster = fit(events, *cut, timed=True)
    wanted = events.hour > cut[1]
    rows, chances = forecaster.foretell(events, wanted)
    right = chances.argmax(axis=1) == events.symbol[rows]
    assert right.mean() > 0.8  # 0.85 is all that there is to know
    assert abs(chances.max(axis=1).mean() - right.mean()) < 0.05
    again = fit(events, *cut, timed=True).foretell(events, wanted)[1]
    np.testing.assert_array_equal(again, chances)
    nobody = forecaster.foretell(events, np.zeros(len(events), bool))
    assert nobody[0].tolist() == []
    assert nobody[1].shape == (0, SYMBOLS)


def test_a_genome_that_tells_is_heard_and_one_that_does_not_is_not() -> None:
    rng = np.random.default_rng(4)
    popular, happened = np.full(3, 1 / 3), rng.integers(0, 3, 400)
    tells = np.eye(3)[happened]
    assert fit_tilt(popular, tells, happened) > 1.0
    assert fit_tilt(popular, rng.random((400, 3)), happened) <= 0.5
    np.testing.assert_allclose(tilted(popular, np.zeros((2, 3)), 4.0), 1 / 3)


def test_meeting_is_a_cosine_in_which_rare_markers_count() -> None:
    dna = category_dna(
        [
            ("ice", [("brand:polar", 256), ("claim:cold", 128)]),
            ("ice", [("brand:polar", 256)]),
            ("tea", [("brand:leaf", 256), ("label:own", 256)]),
            ("rum", [("label:own", 256)]),
        ]
    )
    assert dna["ice"] == {"brand:polar": 1.0, "claim:cold": 0.25}
    meeting = Meeting(dna, ["ice", "tea", "rum", "new"])
    same = meeting.meets([("label:own", 3.0)])
    assert same[2] == pytest.approx(1.0)
    assert 0 < same[1] < 0.6  # the tea's brand is rarer than that it is of the house
    assert same[[0, 3]].tolist() == [0, 0]
    assert meeting.meets([("brand:unknown", 1.0)]).tolist() == [0, 0, 0, 0]
    assert meeting.meets([]).tolist() == [0, 0, 0, 0]


def test_codes_are_in_the_order_of_the_alphabet() -> None:
    numbers, names = codes(["b", None, "a", "b"])
    assert names == ["a", "b"]
    assert numbers.tolist() == [1, NOTHING, 0, 1]


# -- pauses


def test_a_pause_lasts_until_the_next_own_event() -> None:
    who, hour = np.array([0, 0, 0, 0, 1]), np.array([10, 12, 12, 60, 5])
    what = np.array([0, 1, 0, 0, 0])
    events = events_of(who, hour, what, what, 2, 2)
    found, hours = pauses.pauses_of(events, what, own=np.array([True, False, True, True, True]))
    assert hours.tolist() == [2, 0, 48, -1, -1]
    assert found.symbol[3:].tolist() == [NOTHING, NOTHING]
    assert found.known.tolist() == [12, 12, 60, pauses.NEVER, pauses.NEVER]
    assert found.before.tolist() == what.tolist()


def test_events_of_one_occasion_end_no_pause_of_each_other() -> None:
    who, hour = np.zeros(4, np.int64), np.array([0, 0, 5, 5])
    what = np.zeros(4, np.int64)
    events = events_of(who, hour, what, what, 1, 1, np.array([0, 0, 1, 1]))
    assert pauses.pauses_of(events, what)[1].tolist() == [5, 5, -1, -1]


@settings(max_examples=100, deadline=None)
@given(hours=st.integers(0, 24 * 366 * 2))
def test_every_pause_has_its_class_and_a_sure_one_is_said_as_it_is(hours: int) -> None:
    at = int(pauses.class_of(np.array([hours]))[0])
    assert pauses.EDGES[at] <= hours < pauses.EDGES[at + 1]
    chances = np.zeros(pauses.CLASSES)
    chances[at] = 1.0
    low, median, high = pauses.span(chances)
    assert pauses.EDGES[at] <= low <= median <= high < pauses.EDGES[at + 1]


def test_who_has_been_away_for_a_while_has_the_rest_ahead() -> None:
    chances = np.zeros((1, pauses.CLASSES))
    chances[0, pauses.class_of(np.array([2, 10, 100]))] = [0.5, 0.3, 0.2]
    left = pauses.ahead(chances, np.array([5]))
    assert left[0, pauses.class_of(np.array([2, 10, 100]))].tolist() == pytest.approx([0, 0.6, 0.4])
    assert pauses.span(left[0], 5).median == pytest.approx(10)
    assert pauses.within(left[0], 5, 24) == pytest.approx(0.6)
    assert pauses.within(left[0], 5, 10_000) == pytest.approx(1.0)
    assert not pauses.ahead(chances, np.array([10_000])).any()


def test_quantiles_of_pauses_are_those_of_the_pauses() -> None:
    rng = np.random.default_rng(0)
    hours = rng.geometric(1 / 30, 4000)
    chances = np.bincount(pauses.class_of(hours), minlength=pauses.CLASSES) / 4000
    for share in (0.1, 0.5, 0.9):
        found = pauses.quantile(chances[None], share)[0]
        assert found == pytest.approx(np.quantile(hours, share), rel=0.1, abs=1)
