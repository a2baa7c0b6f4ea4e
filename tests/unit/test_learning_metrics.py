from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genome_server.learning.metrics import auc, auc_interval, calibration_error, log_loss

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)


@given(PAIRS)
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[bool, int]]) -> None:
    good = [score for label, score in pairs if label]
    bad = [score for label, score in pairs if not label]
    found = auc(np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs], float))
    if not good or not bad:
        assert found is None
        return
    won = sum((g > b) + (g == b) / 2 for g in good for b in bad)
    assert found == pytest.approx(won / (len(good) * len(bad)))


def test_an_interval_over_persons_is_wider_than_over_examples() -> None:
    rng = np.random.default_rng(0)
    # Ten persons, each of one opinion: a hundred examples that are worth ten.
    person = np.repeat(np.arange(10), 10)
    label = np.repeat(rng.permutation([0.0, 1.0] * 5), 10)
    score = np.repeat(rng.random(10), 10) + label * 0.5
    by_person = auc_interval(label, score, person)
    by_example = auc_interval(label, score, np.arange(100))
    assert by_person is not None
    assert by_example is not None
    assert by_person[0] <= (auc(label, score) or 0) <= by_person[1]
    assert by_person[1] - by_person[0] > 1.5 * (by_example[1] - by_example[0])
    assert auc_interval(np.ones(3), np.ones(3), np.arange(3)) is None


def test_calibration_error_sees_what_auc_does_not() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(20_000)
    label = (rng.random(20_000) < truth).astype(float)
    assert calibration_error(label, truth) < 0.02
    assert calibration_error(label, truth / 2) == pytest.approx(0.25, abs=0.02)
    assert auc(label, truth) == auc(label, truth / 2)
    assert calibration_error(np.zeros(0), np.zeros(0)) == 0


def test_log_loss() -> None:
    assert log_loss(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(np.log(2))
    assert log_loss(np.array([1.0]), np.array([0.0])) < 20


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 4)), min_size=1))
def test_a_weight_is_so_many_examples(rows: list[tuple[bool, int, int]]) -> None:
    label, tenths, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    score, times = tenths / 10, weight.astype(int)
    again = np.repeat(label, times), np.repeat(score, times)
    assert auc(label, score, weight) == pytest.approx(auc(*again))
    assert log_loss(label, score, weight) == pytest.approx(log_loss(*again))
    # Alike weights are none, but for where bins of unequal size stand.
    alike = np.full(15 * len(label), 2.5)
    many = np.tile(label, 15), np.tile(score, 15)
    assert calibration_error(*many, alike) == pytest.approx(calibration_error(*many))


def test_bins_of_weighted_examples_hold_alike_much() -> None:
    # One that stands for 15 fills a bin; beside it 14 bins of 15 examples each.
    score = np.append(np.repeat(np.arange(14) / 20, 15), 0.9)
    label = np.append(np.tile([1.0] + [0.0] * 14, 14), 0.0)
    weight = np.append(np.ones(210), 15.0)
    expected = (sum(abs(1 / 15 - at / 20) for at in range(14)) + 0.9) / 15
    assert calibration_error(label, score, weight) == pytest.approx(expected)
    assert calibration_error(label[-1:], score[-1:], weight[-1:]) == pytest.approx(0.9)


def test_an_interval_draws_persons_with_what_they_stand_for() -> None:
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 60).astype(float), rng.random(60)
    person, times = np.arange(60) // 3, rng.integers(1, 4, 60)
    labels, scores, persons = (np.repeat(column, times) for column in (label, score, person))
    found = auc_interval(label, score, person, 3, times.astype(float))
    assert found == pytest.approx(auc_interval(labels, scores, persons, 3))
    assert found != pytest.approx(auc_interval(label, score, person, 3))
