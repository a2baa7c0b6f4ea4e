"""What showing again brings: numbers, pauses, and what must not be taken for either."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.dna.schema import HOUR_MS
from genome_server.value.saturation import PAUSES_H, TIMES, Seen, history, told

DAY = 24 * HOUR_MS
ALL = 30 * DAY


def seen(rows: list[tuple[int, int, int, float]]) -> Seen:
    """Of (person, offer, hour, success)."""
    person, offer, hour, success = np.array(rows, float).T
    return Seen(
        person.astype(np.int64),
        offer.astype(np.int64),
        (hour * HOUR_MS).astype(np.int64),
        success,
        np.ones(len(rows)),
    )


def test_what_came_before_is_of_the_same_person_and_offer_within_the_time() -> None:
    rows = [(1, 0, 48, 0.0), (1, 0, 0, 0.0), (1, 1, 47, 0.0), (2, 0, 47, 0.0), (1, 0, 50, 0.0)]
    before, since = history(seen([*rows, (1, 0, 50, 0.0)]), 49 * HOUR_MS)
    assert before.tolist() == [1, 0, 0, 0, 1, 1]  # two at once are not before each other
    assert (since // HOUR_MS).tolist() == [48, 0, 0, 0, 2, 2]


def tiring(factor: float, *, people: int = 1_500, frail: bool = False) -> Seen:
    """Everybody comes six times, after an hour or after two days by lot; sooner than after a day
    the chance is `factor` of what it was. `frail`: people differ, and who took it never comes
    again, as with `stop_after`."""
    rng = np.random.default_rng(6)
    rows = []
    for person in range(people):
        chance = float(rng.choice([0.05, 0.6])) if frail else 0.4
        hour = 0
        for visit in range(6):
            pause = int(rng.choice([1, 48]))
            hour += pause
            tired = visit > 0 and pause < 24
            took = bool(rng.random() < chance * (factor if tired else 1.0))
            rows.append((person, 0, hour, float(took)))
            if took and frail:
                break
    return seen(rows)


def test_a_pause_is_found_where_showing_again_at_once_tires() -> None:
    found = told(tiring(0.5), ALL)
    at_once, later = (found.pauses[PAUSES_H.index(h)].chance for h in (1, 24))
    assert at_once is not None
    assert later is not None
    assert at_once[1] < 0.2 < at_once[2]
    assert later[1] < 0.4 < later[2]
    assert found.pause_h == 24
    assert found.times[0].chance is not None
    assert found.times[0].chance[0] == pytest.approx(0.4, abs=0.04)
    assert sum(row.showings for row in found.times) == 9_000
    assert sum(row.showings for row in found.pauses) == 9_000 - 1_500


def test_who_did_not_take_it_is_not_taken_for_tired() -> None:
    found = told(tiring(1.0, frail=True), ALL)
    first, third = found.times[0].chance, found.times[2].chance
    assert first is not None
    assert third is not None
    assert third[2] < first[1]  # it falls, and nobody tires
    assert found.pause_h == 1  # the shortest there is does as well
    assert told(tiring(0.4, frail=True), ALL).pause_h == 24


def test_pauses_are_compared_at_the_same_number_of_showings() -> None:
    rng = np.random.default_rng(7)
    rows = []
    for person in range(2_000):  # who tires of the number comes sooner and sooner
        hour = 0
        for visit in range(6):
            late = rng.random() < (0.8 if visit < 2 else 0.1)
            hour += 48 if late else 1
            rows.append((person, 0, hour, float(rng.random() < (0.5 if visit < 2 else 0.1))))
    one = seen(rows)
    _, since = history(one, ALL)
    soon = (since > 0) & (since < DAY)
    assert one.success[soon].mean() < one.success[since >= DAY].mean() - 0.1
    found = told(one, ALL)
    assert found.pause_h == 1
    assert found.times[-2].chance is not None
    assert found.times[-2].chance[2] < 0.2


def test_few_people_are_no_figure() -> None:
    found = told(seen([(1, 0, hour, 0.0) for hour in range(100)]), ALL)
    assert all(row.chance is None for row in (*found.times, *found.pauses))
    assert found.times[len(TIMES) - 1].showings == 93
    assert found.pause_h is None
