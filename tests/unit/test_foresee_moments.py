"""Moments: an hour's doings are one visit, and time that has passed rules moments out."""

from __future__ import annotations

import numpy as np
import pytest

from genome_server.foresee import pauses
from genome_server.foresee.moments import moments_of, since_then, states_of, visits_of

MONDAY_NOON = 490_000 - 490_000 % 168 + 4 * 24 + 12
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def test_hours_have_the_names_that_contexts_give_them() -> None:
    hours = np.array([MONDAY_NOON, MONDAY_NOON + 24 * 5 + 8])
    assert moments_of(hours) == [("midday", "monday"), ("evening", "saturday")]
    assert states_of(hours) == ["monday midday", "saturday evening"]


def test_what_happens_in_one_hour_is_one_visit_whose_last_event_counts() -> None:
    who = np.array([0, 1, 0, 0, 1, 0])
    hour = np.array([5, 5, 5, 6, 9, 9])
    assert visits_of(who, hour).tolist() == [1, 2, 3, 4, 5]
    none = np.zeros(0, np.int64)
    assert visits_of(none, none).tolist() == []


def away(hours: int, pause: dict[int, float]) -> list[float] | None:
    """Chances of the weekdays after a visit on Monday at noon, so many hours ago."""
    foretold = np.zeros(pauses.CLASSES)
    for length, share in pause.items():
        foretold[pauses.class_of(np.array([length]))] += share
    start = np.array([0.0, 0.6, 0.0, 0.4, 0.0, 0.0, 0.0])
    found = since_then(start, DAYS, foretold, MONDAY_NOON, hours)
    return None if found is None else found.tolist()


def test_days_on_which_a_pause_would_have_ended_are_ruled_out() -> None:
    both = {24: 0.6, 72: 0.4}  # come on Tuesday, or else on Thursday
    assert away(0, both) == pytest.approx([0, 0.6, 0, 0.4, 0, 0, 0])
    assert away(30, both) == pytest.approx([0, 0, 0, 1.0, 0, 0, 0])
    assert away(100, both) is None
    # Half of who comes on a Tuesday comes a week later.
    later = {24: 0.3, 192: 0.3, 72: 0.4}
    found = away(30, later)
    assert found is not None
    assert found[3] == pytest.approx(0.4 / 0.7)
    assert found[1] == pytest.approx(0.3 / 0.7)
