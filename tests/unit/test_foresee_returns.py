"""Whether somebody comes at all: hazards by hand, and made-up customers whose chances are known."""

from __future__ import annotations

import numpy as np
import pytest

from genome_server.foresee import comes, returns
from genome_server.foresee.pauses import EDGES
from genome_server.foresee.returns import DAY, WEEK, Returns, Visits
from genome_server.learning.metrics import calibration_error
from tests.bench import foresee_returns
from tests.bench.foresee_sets import Cuts


def visits(*rows: tuple[int, int], people: int = 0) -> Visits:
    who, hour = np.array(rows, np.int64).reshape(-1, 2).T
    return Visits.of(who, hour, people or int(who.max(initial=0)) + 1)


def world(people: int, days: int, seed: int, *, gone: bool = True) -> Visits:
    """Customers who come at rates of their own, by chance; half of them stop for good one day."""
    rng = np.random.default_rng(seed)
    rows = []
    for who in range(people):
        rate = rng.gamma(2.0, 1 / 2.0) / 96
        end = rng.uniform(0, 2 * days * 24) if gone else days * 24
        hour = rng.exponential(1 / rate)
        while hour < min(end, days * 24):
            rows.append((who, 400_000 + int(hour)))
            hour += rng.exponential(1 / rate)
    return visits(*rows, people=people)


FLAT = Returns(EDGES / 100.0, prior=2.0, half_life=1e12, stay=0)


# By hand -----------------------------------------------------------------------------------------


def test_what_happens_in_one_hour_is_one_visit() -> None:
    found = visits((1, 5), (0, 9), (1, 5), (0, 3))
    assert list(zip(found.who.tolist(), found.hour.tolist(), strict=True)) == [
        (0, 3), (0, 9), (1, 5),
    ]  # fmt: skip
    last, following = found.at(5)
    assert (last.tolist(), following.tolist()) == ([3, 5], [9, -1])
    last, following = found.at(2)
    assert (last.tolist(), following.tolist()) == ([-1, -1], [3, 5])


def test_a_chance_is_that_of_the_rate_narrowed_by_the_own_past() -> None:
    """Everybody comes once in 100 hours; two pauses of 50 hours, and 20 hours away."""
    own = visits((0, 0), (0, 50), (0, 100))
    known = 2 + 2 * 0.505
    assert FLAT.within(own, 120, 24)[0] == pytest.approx(
        1 - ((known + 0.2) / (known + 0.2 + 0.24)) ** 4
    )
    assert FLAT.over(own, 120)[0] == pytest.approx(1 - (known / (known + 0.2)) ** 4)
    # Of whom nothing is known but that they were there.
    assert FLAT.within(visits((0, 0)), 0, 24)[0] == pytest.approx(1 - (2 / 2.24) ** 2)


def test_who_came_often_comes_sooner_and_who_stays_away_ever_later() -> None:
    often, seldom = visits(*((0, at) for at in range(0, 600, 20))), visits((0, 0), (0, 580))
    assert FLAT.within(often, 590, DAY)[0] > 3 * FLAT.within(seldom, 590, DAY)[0]
    chances = [FLAT.within(often, 580 + away, DAY)[0] for away in (0, 100, 1_000, 5_000)]
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < 0.2 * chances[0]
    over = [FLAT.over(often, 580 + away)[0] for away in (0, 20, 100, 1_000)]
    assert over == sorted(over)
    assert over[0] == 0
    assert over[-1] > 0.99


def test_what_lies_long_ago_counts_less() -> None:
    fading = Returns(FLAT.summed, 2.0, half_life=100, stay=0)
    own = visits((0, 0), (0, 10), (0, 20), (0, 500))
    ended, spent, away = fading.came(own, 600)
    weights = 2.0 ** ((np.array([10, 20, 500]) - 600) / 100)
    assert ended[0] == pytest.approx(weights.sum())
    assert spent[0] == pytest.approx(weights @ np.array([0.105, 0.105, 4.805]))
    assert away.tolist() == [100]


def test_a_stay_says_nothing_of_how_often_somebody_comes() -> None:
    stays = Returns(FLAT.summed, 2.0, half_life=1e12, stay=12)
    busy = visits((0, 0), *((0, at) for at in range(500, 510)))
    calm = visits((0, 0), (0, 500), (0, 509))
    assert stays.within(busy, 600, DAY)[0] == pytest.approx(stays.within(calm, 600, DAY)[0])
    assert FLAT.within(busy, 600, DAY)[0] > 1.5 * FLAT.within(calm, 600, DAY)[0]
    # A pause as long as a stay ends after it, and is time spent after it.
    ended, spent, _ = stays.came(visits((0, 0), (0, 12)), 20)
    assert ended[0] == pytest.approx(1)
    assert spent[0] == pytest.approx(0.005)
    # Within the stay everybody is alike: 3 of the 24 hours are left of it.
    own = visits((0, 0))
    still = np.exp(-0.03) * (2 / 2.21) ** 2
    assert stays.within(own, 9, DAY)[0] == pytest.approx(1 - still)


# Learned -----------------------------------------------------------------------------------------


def test_rates_count_pauses_that_have_not_ended() -> None:
    """A thousand came back after 30 hours; of nine thousand nothing has been heard for 200."""
    rows = [(who, 0) for who in range(10_000)] + [(who, 30) for who in range(1_000)]
    found = returns._rates(returns._Pauses.of(visits(*rows), 200, 1e12), 1e9, 1e12, 0)
    assert found is not None
    # Of ten thousand that lasted until then one in ten; those that came were spread over it.
    assert np.diff(found.expected([30, 32]))[0] == pytest.approx(0.1, rel=0.12)
    assert found.expected(200) == pytest.approx(0.1, rel=0.12)


def test_nobody_who_came_twice_teaches_nothing() -> None:
    for made in (visits((0, 0), (1, 5), (2, 900)), visits(people=0)):
        assert returns.fit(made, 1_000) is None
        assert comes.fit(made, 1_000) is None


def test_of_one_pause_there_is_something_to_say() -> None:
    found = comes.fit(visits((0, 0), (0, 90), (1, 80)), 100)
    assert found is not None
    assert 0 < found.within(visits((0, 95)), 100, DAY)[0] < 1


def test_nothing_looks_ahead() -> None:
    all_told = world(60, 60, 3)
    until = 400_000 + 40 * 24
    past = all_told.hour <= until
    known = Visits(all_told.who[past], all_told.hour[past], all_told.people)
    one, other = comes.fit(all_told, until), comes.fit(known, until)
    assert one is not None
    assert other is not None
    for within in (DAY, WEEK):
        np.testing.assert_array_equal(
            one.within(all_told, until, within), other.within(known, until, within)
        )
    np.testing.assert_array_equal(one.over(all_told, until), other.over(known, until))


def test_chances_are_what_happens_also_of_who_never_comes_again() -> None:
    made = world(600, 160, 1)
    cuts = Cuts(400_000 + 96 * 24, 400_000 + 128 * 24, 400_000 + 160 * 24)
    told, came, _ = foresee_returns.judge(made, cuts, DAY)
    assert calibration_error(came.astype(float), told["ours"]) < 0.03
    losses = {name: returns.log_losses(each, came).mean() for name, each in told.items()}
    assert all(losses["ours"] < losses[name] - 0.005 for name in foresee_returns.PLAIN)


def test_an_opinion_that_tells_more_is_heard() -> None:
    """Who stops for good is told by how long they have been away."""
    made = world(250, 160, 2)
    found = comes.fit(made, 400_000 + 128 * 24)
    assert found is not None
    assert found.weights[WEEK][1] > 0.05
    lasting = comes.fit(world(250, 160, 2, gone=False), 400_000 + 128 * 24)
    assert lasting is not None
    assert lasting.weights[WEEK][0] > 0.8
    assert abs(lasting.weights[WEEK][1]) < found.weights[WEEK][1]


def test_many_customers_are_spread_for_the_settings() -> None:
    found = visits(*((who, 10 * who) for who in range(10))).spread(4)
    assert found.people == 4
    assert found.hour.tolist() == [0, 30, 60, 90]
    assert found.who.tolist() == [0, 1, 2, 3]
    assert visits((0, 1)).spread(4).people == 1


# What must be beaten -----------------------------------------------------------------------------


def test_the_plain_ones_by_hand() -> None:
    made = visits((0, 0), (0, 10), (0, 40), (1, 0), (1, 100))
    gaps = comes.own_gaps(made, 40, comes.crowd_gap(made, 40))
    # Everybody's gaps by then: 10 and 30.
    np.testing.assert_allclose(gaps, [(10 + 30 + 20) / 3, 20])
    before = comes.came_before(made, 20, 44, 24)
    # Asked at 20 alone: nobody knows more than a day before the end.
    assert before.share == 0.5
    np.testing.assert_allclose(
        before.by_recency(np.array([10, 20, 40])), [(1 + 0.5) / 3] * 2 + [0.5]
    )
    assert returns.moments(20, 30, 24) == []
