"""What is learned of decisions that may still be answered is true on average."""

from __future__ import annotations

import numpy as np
import pytest

from genome_server.learning.delays import Curve, Delays, Look
from tests.unit._learning import Log, at, decision_id

HOUR = 3_600_000
WINDOW = 24 * HOUR


def test_a_curve_of_what_nothing_cuts_off_is_the_share_of_delays() -> None:
    delays = [1, 2, 2, 5]
    curve = Curve.of(delays * 500, [10] * 2000)
    assert [curve.at(age) for age in (0, 1, 2, 4, 5, 9)] == pytest.approx(
        [0, 0.25, 0.75, 0.75, 1, 1], abs=1e-3
    )


def test_a_curve_of_nothing_says_that_all_was_heard() -> None:
    assert Curve.of([], []).at(0) == 1


def test_delays_that_are_too_long_to_be_seen_yet_are_missed() -> None:
    rng = np.random.default_rng(7)
    delays, ages = rng.exponential(10.0, 40_000), rng.uniform(0, 40.0, 40_000)
    seen = delays <= ages
    curve = Curve.of((delays[seen] * 1000).astype(int).tolist(), (ages[seen] * 1000).tolist())
    for age in (2.0, 5.0, 10.0, 20.0):
        truth = (1 - np.exp(-age / 10)) / (1 - np.exp(-40 / 10))
        assert curve.at(int(age * 1000)) == pytest.approx(truth, abs=0.02)
        naive = float((delays[seen] <= age).mean())
        assert naive > truth + 0.02


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_young_decisions_are_worth_on_average_what_they_turn_out_to_be(share: float) -> None:
    """Successes come after hours, half of the refusals at once; reports wait for a line."""
    rng = np.random.default_rng([11, round(share * 10)])
    n, now = 40_000, 36 * HOUR
    decided = rng.integers(0, now, n)
    takes = rng.random(n) < share
    refuses = ~takes & (rng.random(n) < 0.5)
    delay = np.where(takes, rng.exponential(3 * HOUR, n), 60_000).astype(np.int64)
    line = rng.exponential(4 * HOUR, n).astype(np.int64)
    arrives = decided + line
    heard = np.where(delay <= line, arrives, decided + delay + rng.integers(0, 4 * HOUR, n))
    delays = Delays()
    for number in range(n):
        one, at_ms = decision_id(number), int(decided[number])
        if arrives[number] > now:
            continue
        delays.decided(one, "screen", at_ms, int(arrives[number]))
        if (takes[number] or refuses[number]) and heard[number] <= now:
            label = 1 if takes[number] else -1
            said_ms = at_ms + int(delay[number])
            delays.heard(one, label, said_ms, int(heard[number]))
    look = delays.looks({"screen": WINDOW}, now)["screen"]
    assert look.share == pytest.approx(share, abs=0.02)
    young = np.flatnonzero((arrives <= now) & (now - decided < 8 * HOUR))
    known = heard[young] <= now
    success = takes[young] & known
    weight = [
        1.0 if good else look.weight(int(now - decided[i]), refused=bool(refuses[i] and k))
        for i, good, k in zip(young.tolist(), success.tolist(), known.tolist(), strict=True)
    ]
    found = success.sum() / sum(weight)
    assert found == pytest.approx(share, abs=0.1 * share + 0.01)
    answered = success.sum() / (success.sum() + (refuses[young] & known).sum())
    assert answered > found + 0.015  # what was answered so far looks better than it is


def test_a_success_after_the_window_is_none() -> None:
    delays = Delays()
    delays.decided(decision_id(1), "screen", 0, 1)
    delays.heard(decision_id(1), 1, WINDOW + 1, WINDOW + 2)
    assert delays.looks({"screen": WINDOW}, 10 * WINDOW) == {}
    delays.heard(decision_id(1), 1, WINDOW, WINDOW + 1)
    delays.decided(decision_id(2), "other", 0, 1)
    assert set(delays.looks({"screen": WINDOW, "other": WINDOW}, 10 * WINDOW)) == {"screen"}


def test_of_a_long_log_a_sample_is_kept() -> None:
    delays = Delays(most=100)
    for number in range(10_000):
        one = decision_id(number * 0x9E3779B97F4A7C15 % 2**64)
        delays.heard(one, 1, number + 5, number + 7)  # before the decision, as logs may have it
        delays.decided(one, "screen", number, number + 1)
    assert 25 <= len(delays._decided) <= 100
    assert set(delays._heard) == set(delays._decided)
    assert delays.looks({"screen": WINDOW}, 20_000)["screen"].share == 1


def test_silence_weighs_less_than_a_refusal_while_it_may_be_broken() -> None:
    curve, at_once = Curve.of([HOUR, 2 * HOUR] * 50, [9 * HOUR] * 100), Curve.of([], [])
    look = Look(curve, at_once, share=0.4, refused=0.2)
    half = look.chance(HOUR)
    assert half == pytest.approx(0.5, abs=0.01)
    assert look.weight(HOUR, refused=True) == half
    assert look.weight(HOUR, refused=False) == pytest.approx(half * 0.4 / (0.8 - 0.4 * half))
    assert look.weight(0, refused=False) == 0
    assert look.weight(2 * HOUR, refused=False) == look.weight(2 * HOUR, refused=True) == 1


def test_open_decisions_are_examples_of_less_weight() -> None:
    log = Log()
    for number in range(40):  # long ago: successes after one or after five hours
        log.decided(number, 10, "taxi")
        if number % 2:
            log.followed(number, 11 if number % 4 == 1 else 15, "redeem", offer="taxi")
    for number in (100, 101, 102):  # two hours before now
        log.decided(number, 98, "spa")
    log.decided(103, 99.9, "spa")
    log.followed(100, 99, "redeem", offer="spa")
    log.followed(101, 98.1, "dismiss", offer="spa")
    examples, counts = log.examples(100)
    young = examples.time_ms >= at(98)
    assert (counts.decisions, counts.early, counts.still_open) == (43, 3, 1)
    assert examples.label[young].tolist() == [1, 0, 0]
    success, refusal, silence = examples.stands_for[young].tolist()
    assert success == 1
    assert 0.4 < refusal < 0.6
    assert 0.5 * refusal < silence < 0.9 * refusal
    assert examples.stands_for[~young].tolist() == [1] * 40
