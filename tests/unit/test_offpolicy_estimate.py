"""Estimates of other policies: exact on small problems that are summed over all that can happen.

The log of a small problem has every context and slate once, and each stands for as many decisions
as its probability says. What an estimate gives on it is its expectation.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genome_server.offpolicy.direct import cell_means
from genome_server.offpolicy.estimate import Answer, compare, evaluate
from genome_server.offpolicy.logged import Logged, Policy, Slate, weights
from genome_server.offpolicy.needs import NOTHING, Needs

Array = npt.NDArray[Any]
OFFERS, SLOTS, CONTEXTS = 3, 2, 2
SLATES = list(permutations(range(OFFERS), SLOTS))
ROWS = [(x, slate) for x in range(CONTEXTS) for slate in SLATES]
seeds = st.integers(0, 2**32 - 1)


class Small:
    """A random problem: preferences of two policies, rewards by all of a slate, and a model."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.context = self.rng.dirichlet(np.ones(CONTEXTS))
        self.log = self.rng.uniform(0.1, 1.0, (CONTEXTS, OFFERS))
        self.target = self.rng.uniform(0.0, 1.0, (CONTEXTS, OFFERS))
        self.noise = self.rng.uniform(-1.0, 1.0, (CONTEXTS, OFFERS, OFFERS))

    @staticmethod
    def step(like: Array, x: int, slate: tuple[int, ...], k: int) -> float:
        """The chance of slot k's offer among what the slots before left."""
        left = [a for a in range(OFFERS) if a not in slate[:k]]
        return float(like[x, slate[k]] / sum(like[x, a] for a in left))

    def joint(self, like: Array, x: int, slate: tuple[int, ...]) -> float:
        return self.step(like, x, slate, 0) * self.step(like, x, slate, 1)

    def marginal(self, like: Array, x: int, offer: int, k: int) -> float:
        return sum(self.joint(like, x, slate) for slate in SLATES if slate[k] == offer)

    def value(self, reward: Array, like: Array) -> float:
        """The truth: reward float64[rows, slots] summed over all that can happen."""
        terms = [
            self.context[x] * self.joint(like, x, slate) * reward[row].sum()
            for row, (x, slate) in enumerate(ROWS)
        ]
        return float(sum(terms))

    def logged(self, reward: Array, *, marginal: bool = False) -> Logged:
        often = [self.context[x] * self.joint(self.log, x, slate) for x, slate in ROWS]
        chance = self.chances(self.log, marginal=marginal)
        return Logged(reward, chance, np.arange(len(ROWS)), np.array(often))

    def chances(self, like: Array, *, marginal: bool = False) -> Array:
        if marginal:
            return np.array(
                [[self.marginal(like, x, slate[k], k) for k in range(SLOTS)] for x, slate in ROWS]
            )
        return np.array([[self.step(like, x, slate, k) for k in range(SLOTS)] for x, slate in ROWS])


def value_of(answer: Answer, name: str) -> float:
    return answer.estimates[name].value


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_joint_weights_are_right_whatever_a_reward_depends_on(seed: int) -> None:
    small = Small(seed)
    reward = small.rng.uniform(0.0, 1.0, (len(ROWS), SLOTS))  # by the whole slate
    predicted = small.rng.uniform(-1.0, 1.0, (len(ROWS), SLOTS))
    expected = np.array(
        [
            sum(
                small.joint(small.target, x, slate) * predicted[row]
                for row, (y, slate) in enumerate(ROWS)
                if y == x
            )
            for x, _ in ROWS
        ]
    )
    policy = Policy(small.chances(small.target), predicted, expected)
    answer = evaluate(small.logged(reward), policy, slate=Slate.JOINT, needs=NOTHING)
    truth = small.value(reward, small.target)
    for name in ("ips", "snips", "dr"):
        assert value_of(answer, name) == pytest.approx(truth, abs=1e-12)
    assert value_of(answer, "dm") == pytest.approx(small.value(predicted, small.target), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_cumulative_weights_are_right_where_a_reward_depends_on_what_came_before(
    seed: int,
) -> None:
    small = Small(seed)
    first = small.rng.uniform(0.0, 1.0, (CONTEXTS, OFFERS))
    second = small.rng.uniform(0.0, 1.0, (CONTEXTS, OFFERS, OFFERS))
    reward = np.array([[first[x, a], second[x, a, b]] for x, (a, b) in ROWS])
    # What is to come: any numbers, and their means over the policy's next draw.
    to_come = small.rng.uniform(-1.0, 1.0, (CONTEXTS, OFFERS))

    def mean_to_come(x: int) -> float:
        chances = [small.step(small.target, x, (a, (a + 1) % OFFERS), 0) for a in range(OFFERS)]
        return float(np.array(chances) @ to_come[x])

    def mean_after(x: int, a: int) -> float:
        others = [b for b in range(OFFERS) if b != a]
        chances = [small.step(small.target, x, (a, b), 1) for b in others]
        return float(np.array(chances) @ small.noise[x, a, others])

    predicted = np.array([[to_come[x, a], small.noise[x, a, b]] for x, (a, b) in ROWS])
    expected = np.array([[mean_to_come(x), mean_after(x, a)] for x, (a, _) in ROWS])
    policy = Policy(small.chances(small.target), predicted, expected)
    answer = evaluate(small.logged(reward), policy, needs=NOTHING)
    truth = small.value(reward, small.target)
    for name in ("ips", "snips", "dr"):
        assert value_of(answer, name) == pytest.approx(truth, abs=1e-12)
    assert value_of(answer, "dm") == pytest.approx(
        sum(small.context[x] * mean_to_come(x) for x in range(CONTEXTS)), abs=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_independent_weights_are_right_where_a_slot_is_for_itself(seed: int) -> None:
    small = Small(seed)
    own = small.rng.uniform(0.0, 1.0, (SLOTS, CONTEXTS, OFFERS))
    model = small.rng.uniform(-1.0, 1.0, (SLOTS, CONTEXTS, OFFERS))

    def of(table: Array) -> Array:
        return np.array([[table[k, x, slate[k]] for k in range(SLOTS)] for x, slate in ROWS])

    expected = np.array(
        [
            [
                sum(small.marginal(small.target, x, a, k) * model[k, x, a] for a in range(OFFERS))
                for k in range(SLOTS)
            ]
            for x, _ in ROWS
        ]
    )
    policy = Policy(small.chances(small.target, marginal=True), of(model), expected)
    answer = evaluate(
        small.logged(of(own), marginal=True), policy, slate=Slate.INDEPENDENT, needs=NOTHING
    )
    truth = small.value(of(own), small.target)
    for name in ("ips", "snips", "dr"):
        assert value_of(answer, name) == pytest.approx(truth, abs=1e-12)


def test_where_slots_interact_the_wrong_weights_are_wrong() -> None:
    """What docs/offpolicy.md warns of: an example of each."""
    small = Small(3)
    after_two = np.array([[0.0, float(a == 2)] for _, (a, _) in ROWS])  # by the slot before
    before_two = np.array([[float(b == 2), 0.0] for _, (_, b) in ROWS])  # by the slot behind
    policy = Policy(small.chances(small.target))

    def off(reward: Array, slate: Slate) -> float:
        answer = evaluate(small.logged(reward), policy, slate=slate, needs=NOTHING)
        return abs(value_of(answer, "ips") - small.value(reward, small.target))

    assert off(after_two, Slate.INDEPENDENT) > 0.01
    assert off(after_two, Slate.CUMULATIVE) < 1e-12
    assert off(before_two, Slate.CUMULATIVE) > 0.01
    assert off(before_two, Slate.JOINT) < 1e-12


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_difference_is_that_of_the_two_values(seed: int) -> None:
    small = Small(seed)
    reward = small.rng.uniform(0.0, 1.0, (len(ROWS), SLOTS))
    logged = small.logged(reward)
    model = small.rng.uniform(size=(2, len(ROWS), SLOTS))
    ours = Policy(small.chances(small.target), *model)
    theirs = Policy(small.chances(small.log), *model)
    both = compare(logged, ours, theirs, needs=NOTHING)
    for name in ("ips", "snips", "dm", "dr"):
        single = [value_of(evaluate(logged, p, needs=NOTHING), name) for p in (ours, theirs)]
        assert value_of(both, name) == pytest.approx(single[0] - single[1], abs=1e-12)


def clicks(
    persons: int, each: int, rate: float, seed: int = 1, spread: float = 0.3
) -> tuple[Logged, Policy]:
    """A log of two offers, of which the policy shows the other one more."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(persons), each)
    shown = rng.random(len(person)) < 0.5
    reward = (rng.random(len(person)) < rate).astype(float)[:, None]
    chance = np.full((len(person), 1), 0.5)
    target = np.where(shown, 0.5 + spread, 0.5 - spread)[:, None]
    return Logged(reward, chance, person, np.ones(len(person))), Policy(target)


def test_decisions_of_one_person_are_not_many_persons() -> None:
    logged, policy = clicks(300, 1, 0.2)
    often = Logged(
        np.repeat(logged.reward, 4, axis=0),
        np.repeat(logged.chance, 4, axis=0),
        np.repeat(logged.person, 4),
        np.ones(1200),
    )
    again = Policy(np.repeat(policy.chance, 4, axis=0))
    once = evaluate(logged, policy).estimates["snips"]
    same = evaluate(often, again).estimates["snips"]
    assert (same.value, same.low, same.high) == pytest.approx((once.value, once.low, once.high))
    strangers = Logged(often.reward, often.chance, np.arange(1200), often.stands_for)
    sure = evaluate(strangers, again).estimates["snips"]
    assert sure.high - sure.low < 0.6 * (same.high - same.low)


def test_a_decision_that_stands_for_three_counts_as_three_of_that_person() -> None:
    logged, policy = clicks(200, 1, 0.3)
    thinned = Logged(
        logged.reward, logged.chance, logged.person, np.where(logged.person % 2, 3.0, 1.0)
    )
    rows = np.repeat(np.arange(200), np.where(logged.person % 2, 3, 1))
    whole = Logged(
        logged.reward[rows], logged.chance[rows], logged.person[rows], np.ones(len(rows))
    )
    few, many = evaluate(thinned, policy), evaluate(whole, Policy(policy.chance[rows]))
    for name in ("ips", "snips"):
        one, other = few.estimates[name], many.estimates[name]
        assert one.value == pytest.approx(other.value)
        assert one.low == pytest.approx(other.low, rel=0.05)
        assert one.high == pytest.approx(other.high, rel=0.05)


def test_below_a_threshold_there_is_no_number() -> None:
    few = evaluate(*clicks(40, 5, 0.3))
    assert not few.concludes
    assert few.estimates == {}
    assert few.not_worse(1.0) is None
    (lack,) = few.lacks
    assert lack.there < 50 == lack.needed
    assert "persons" in str(lack)
    assert "50" in str(lack)
    rare = evaluate(*clicks(400, 1, 0.02))
    assert [lack.what for lack in rare.lacks] == ["effective number of answers"]
    assert evaluate(*clicks(400, 1, 0.2)).concludes
    assert not evaluate(*clicks(400, 1, 0.2), needs=Needs(persons=1e6)).concludes


def test_the_answers_that_are_rare_count_whichever_they_are() -> None:
    logged, policy = clicks(400, 1, 0.02)
    turned = Logged(1.0 - logged.reward, logged.chance, logged.person, logged.stands_for)
    one, other = evaluate(logged, policy), evaluate(turned, policy)
    assert one.overlaps[0].effective_answers == pytest.approx(other.overlaps[0].effective_answers)
    assert not other.concludes


def test_rewards_that_are_all_alike_are_not_certainty() -> None:
    logged, policy = clicks(400, 1, 0.0)
    answer = evaluate(logged, policy, needs=NOTHING)
    assert not answer.concludes
    assert answer.estimates == {}


def test_a_policy_that_shows_what_was_never_shown_is_refused() -> None:
    rng = np.random.default_rng(5)
    logged, _ = clicks(2_000, 1, 0.2)
    # Half of what it shows is a third offer, of which there is no decision.
    policy = Policy(np.where(rng.random(2_000) < 0.5, 0.3, 0.2)[:, None])
    answer = evaluate(logged, policy)
    assert answer.overlaps[0].mean_weight == pytest.approx(0.5, abs=0.05)
    assert any("mean weight" in str(lack) for lack in answer.lacks)


def test_chances_that_are_not_those_drawn_by_are_refused() -> None:
    logged, policy = clicks(2_000, 1, 0.2)
    wrong = Logged(logged.reward, logged.chance / 2, logged.person, logged.stands_for)
    assert any("mean weight" in str(lack) for lack in evaluate(wrong, policy).lacks)


def test_a_policy_is_not_worse_than_itself_and_a_worse_one_is() -> None:
    logged, _ = clicks(4_000, 1, 0.0)
    rng = np.random.default_rng(2)
    shown = rng.random(4_000) < 0.5
    earned = (rng.random(4_000) < np.where(shown, 0.3, 0.1)).astype(float)[:, None]
    logged = Logged(earned, logged.chance, logged.person, logged.stands_for)
    good = Policy(np.where(shown, 0.9, 0.1)[:, None])
    bad = Policy(np.where(shown, 0.1, 0.9)[:, None])
    same = compare(logged, good, good)
    assert (same.estimates["snips"].low, same.estimates["snips"].high) == (0.0, 0.0)
    assert same.not_worse(0.0, "snips") is True
    worse = compare(logged, bad, good)
    assert worse.estimates["snips"].high < 0
    assert worse.not_worse(0.05, "snips") is False
    assert worse.not_worse(0.5, "snips") is True
    assert compare(logged, good, bad).not_worse(0.0, "snips") is True
    with pytest.raises(ValueError, match="margin"):
        worse.not_worse(-0.1, "snips")
    with pytest.raises(KeyError):
        worse.not_worse(0.1)  # there is no model
    with pytest.raises(ValueError, match="model alone"):
        worse.not_worse(0.1, "dm")


def test_a_difference_is_surer_than_two_values() -> None:
    logged, policy = clicks(3_000, 2, 0.2, spread=0.05)
    itself = Policy(logged.chance)
    gain = compare(logged, policy, itself).estimates["snips"]
    alone = evaluate(logged, policy).estimates["snips"]
    assert gain.high - gain.low < 0.3 * (alone.high - alone.low)


def test_more_confidence_is_a_wider_interval() -> None:
    logged, policy = clicks(400, 1, 0.2)
    wide = [
        evaluate(logged, policy, confidence=c).estimates["dr" if policy.predicted else "snips"]
        for c in (0.8, 0.95, 0.99)
    ]
    lows, highs = [e.low for e in wide], [e.high for e in wide]
    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)
    with pytest.raises(ValueError, match="confidence"):
        evaluate(logged, policy, confidence=1.0)


def test_columns_that_cannot_be_are_the_callers_mistake() -> None:
    one = np.ones((2, 1))
    who, alone = np.arange(2), np.ones(2)
    for reward, chance, person, stands_for in [
        (np.ones(2), one, who, alone),
        (np.ones((0, 1)), np.ones((0, 1)), np.arange(0), np.ones(0)),
        (one, np.ones((2, 2)), who, alone),
        (one, one, np.arange(3), np.ones(3)),
        (one, one, who, np.ones(3)),
        (one * np.nan, one, who, alone),
        (one, one * 0.0, who, alone),
        (one, one * 1.5, who, alone),
        (one, one, who, alone * 0.0),
        (one, one, who, alone * np.inf),
    ]:
        with pytest.raises(ValueError, match=r"."):
            Logged(reward, chance, person, stands_for)
    for chance, predicted, expected in [
        (one * 2.0, None, None),
        (one * np.nan, None, None),
        (one, one, None),
        (one, one, np.ones((2, 2))),
        (one, one, one * np.inf),
    ]:
        with pytest.raises(ValueError, match=r"."):
            Policy(chance, predicted, expected)
    with pytest.raises(ValueError, match="other decisions"):
        weights(Logged(one, one, who, alone), Policy(np.ones((3, 1))), Slate.JOINT)


def test_a_plain_model_is_told_of_nobody_by_themselves() -> None:
    rng = np.random.default_rng(4)
    cell, person = rng.integers(0, 6, 900), rng.integers(0, 100, 900)
    reward = (rng.random(900) < 0.3).astype(float)
    found = cell_means(cell, reward, person, np.ones(900), cells=6)
    assert found.mean.shape == (5, 6)
    for one in range(100):
        assert len(set(found.fold[person == one].tolist())) <= 1
    # Another outcome of fold 2 changes what the others are told, and not what fold 2 is.
    changed = cell_means(
        cell, np.where(found.fold == 2, 1.0, reward), person, np.ones(900), cells=6
    )
    assert (changed.mean[2] == found.mean[2]).all()
    assert (changed.mean[0] > found.mean[0]).all()
    others = found.fold != 0
    seen = others & (cell == 3)
    overall = reward[others].mean()
    assert found.mean[0, 3] == pytest.approx(
        (reward[seen].sum() + 1.0) / (seen.sum() + 1.0 / overall)
    )
    with pytest.raises(ValueError, match="persons"):
        cell_means(cell, reward, np.zeros(900, np.int64), np.ones(900), cells=6)
