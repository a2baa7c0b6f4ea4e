"""Intervals of means: against likelihoods worked out in another way, and tables of Student's t."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from genome_server.offpolicy import intervals
from tests.drills.estimates_worlds import Regime, World

Array = npt.NDArray[Any]
CHI2 = 3.841458820694124


def statistic(z: Array, mean: float) -> float:
    """Owen's -2 log R(mean), by his dual: lambda so that sum (z - mean) / (1 + lambda ...) = 0."""
    away = z - mean
    low, high = (-1.0 + 1e-12) / away.max(), (-1.0 + 1e-12) / away.min()
    for _ in range(200):
        middle = (low + high) / 2
        if (away / (1.0 + middle * away)).sum() > 0:
            low = middle
        else:
            high = middle
    return float(2.0 * np.log1p(low * away).sum())


@pytest.mark.parametrize("seed", range(8))
def test_the_ends_are_where_the_likelihood_falls_to_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = np.exp(rng.normal(0.0, 0.3 * seed + 0.1, 20 + 60 * seed)) * rng.choice([-1, 1, 3])
    bound = [0.5, CHI2, 20.0][seed % 3]
    low, high = intervals.likely_means(z, bound)
    assert z.min() < low < z.mean() < high < z.max()
    assert statistic(z, low) == pytest.approx(bound, rel=1e-5)
    assert statistic(z, high) == pytest.approx(bound, rel=1e-5)


@pytest.mark.parametrize(("clicks", "number"), [(1, 50), (3, 4000), (12, 30), (49, 50)])
def test_of_clicks_it_is_the_likelihood_interval_of_a_share(clicks: int, number: int) -> None:
    z = np.zeros(number)
    z[:clicks] = 1.0
    low, high = intervals.likely_means(z, CHI2)

    def deviance(p: float) -> float:
        seen = clicks / number
        rest = (number - clicks) * math.log((1 - seen) / (1 - p)) if clicks < number else 0.0
        return 2.0 * (clicks * math.log(seen / p) + rest)

    assert deviance(low) == pytest.approx(CHI2, rel=1e-6)
    assert deviance(high) == pytest.approx(CHI2, rel=1e-6)
    assert low < clicks / number < high


def test_it_moves_and_grows_with_its_units() -> None:
    z = np.random.default_rng(1).exponential(size=300)
    low, high = intervals.likely_means(z, CHI2)
    there = intervals.likely_means(-7.0 + 1e-6 * z, CHI2)
    assert there == pytest.approx((-7.0 + 1e-6 * low, -7.0 + 1e-6 * high), abs=1e-13)


def test_a_bound_beyond_all_reason_is_the_range() -> None:
    z = np.array([0.0] * 999 + [1.0])
    low, high = intervals.likely_means(z, 1e5)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(1.0, abs=1e-12)


def test_what_is_all_alike_tells_of_no_interval() -> None:
    with pytest.raises(ValueError, match="alike"):
        intervals.likely_means(np.ones(5), CHI2)


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    # Tables of Student's t, two-sided.
    [
        (0.95, 2, 4.302653),
        (0.95, 3, 3.182446),
        (0.95, 5, 2.570582),
        (0.95, 30, 2.042272),
        (0.95, 1e9, 1.959964),
        (0.90, 10, 1.812461),
        (0.99, 4, 4.604095),
        (0.99, 60, 2.660283),
        (0.80, 7, 1.414924),
        (0.999, 20, 3.849516),
    ],
)
def test_students_t_is_that_of_the_tables(
    confidence: float, freedom: float, quantile: float
) -> None:
    assert intervals.student(confidence, freedom) == pytest.approx(quantile, rel=2e-5)


def test_degrees_of_freedom_are_those_of_who_matters() -> None:
    assert intervals.freedom(np.ones(100)) == pytest.approx(99.0)
    few = np.concatenate([np.ones(10), np.full(10_000, 1e-6)])
    assert intervals.freedom(few) == pytest.approx(9.0, abs=1e-3)
    assert intervals.freedom(np.array([1.0, 0.0])) == 2.0
    assert intervals.freedom(np.zeros(3)) == 2.0


def test_clicks_that_large_weights_lack_widen() -> None:
    weight = np.repeat([1.0, 30.0], [9_900, 100])
    lucky = np.zeros(10_000)
    lucky[:100] = 1.0  # one in a hundred clicks, and none of those that weigh much
    assert intervals.widening(weight, lucky) == pytest.approx(99_900 / 12_900)
    spread = np.zeros(10_000)
    spread[::100] = 1.0
    assert intervals.widening(weight, spread) == pytest.approx(1.0, abs=0.05)
    unlucky = np.zeros(10_000)
    unlucky[-20:] = 1.0
    assert intervals.widening(weight, unlucky) == 1.0
    assert intervals.widening(weight, np.zeros(10_000)) == 1.0
    assert intervals.widening(-weight, lucky) == intervals.widening(weight, lucky)


@pytest.mark.parametrize("slots", [1, 3])
def test_the_worlds_of_the_drill_earn_what_they_say(slots: int) -> None:
    regime = Regime("", 0.3, strong=True, persons=20_000, offers=5, slots=slots)
    world = World(regime, np.random.default_rng(9))
    log = world.draw(np.random.default_rng(10)).logged
    sums = np.bincount(log.person, log.stands_for * log.reward.sum(1))
    times = np.bincount(log.person, log.stands_for)
    mean = sums.sum() / times.sum()
    error = math.sqrt(float(((sums - mean * times) ** 2).sum())) / times.sum()
    assert abs(mean - world.truth_of_log) < 4 * error
    assert abs(world.truth - world.truth_of_log) > 4 * error, "the policies do not differ"
