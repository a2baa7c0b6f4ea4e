"""What somebody usually does, learned where they agreed, and never where they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import h3.api.basic_int as h3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.context import LocalTime
from edge_sdk.engine.cells import parent
from edge_sdk.engine.habits import ALL_SYMBOLS, OWN_SYMBOLS, Habit, When, likely
from edge_sdk.engine.routines import (
    HOME,
    TRAVELLING,
    USUAL,
    WORK,
    Everybody,
    Routine,
    kinds_of,
    when_of,
)

HOUSE = h3.latlng_to_cell(48.2082, 16.3738, 11)
OFFICE = h3.latlng_to_cell(48.2300, 16.4120, 11)
CLUB = h3.latlng_to_cell(48.1900, 16.3300, 11)
AWAY = h3.latlng_to_cell(47.0707, 15.4395, 11)
MONDAY = datetime(2026, 6, 1, tzinfo=UTC)


def at(days: int, hour: int) -> When:
    moment = MONDAY + timedelta(days=days, hours=hour)
    return when_of(LocalTime(int(moment.timestamp() * 1000), moment.isoweekday(), moment.hour))


class Life:
    """Somebody who sleeps in one cell, works in another, and is in a bar every Tuesday evening."""

    def __init__(self) -> None:
        self.routine, self.everybody = Routine(), Everybody()

    def be(self, cell: int, when: When, *kinds: str) -> None:
        self.routine.note(cell, kinds, when, self.everybody)

    def live(self, days: range) -> Life:
        for day in days:
            self.be(HOUSE, at(day, 5))
            if day % 7 < 5:
                for hour in (9, 11, 14):
                    self.be(OFFICE, at(day, hour))
            if day % 7 == 1:
                self.be(CLUB, at(day, 19), "bar")
            self.be(HOUSE, at(day, 22))
        return self

    def says(self, cell: int, when: When, *kinds: str) -> dict[str, float]:
        return dict(self.routine.markers(cell, kinds, when, self.everybody))


def test_home_and_work_take_some_days() -> None:
    assert Life().live(range(2)).says(HOUSE, at(2, 22)) == {}
    life = Life().live(range(3))
    assert HOME in life.says(HOUSE, at(3, 12))
    assert WORK in life.says(OFFICE, at(3, 12))
    assert WORK not in life.says(HOUSE, at(3, 12))
    assert HOME not in life.says(OFFICE, at(3, 12))
    assert not {HOME, WORK} & set(life.says(CLUB, at(3, 12)))
    assert not {HOME, WORK} & set(life.says(parent(HOUSE, 8), at(3, 12))), "too coarse to say"
    assert life.says(parent(HOUSE, 2), at(3, 12)) == {}


def test_a_night_in_a_row_is_one_night() -> None:
    life = Life()
    for hour in (20, 21, 22, 23):
        for _ in range(10):
            life.be(HOUSE, at(0, hour))
    assert HOME not in life.says(HOUSE, at(1, 22))


def test_who_moves_has_another_home() -> None:
    life = Life().live(range(30))
    for day in range(30, 300):
        life.be(CLUB, at(day, 22))
    assert HOME in life.says(CLUB, at(300, 22))
    assert HOME not in life.says(HOUSE, at(300, 22))


def test_travelling() -> None:
    assert TRAVELLING not in Life().live(range(6)).says(AWAY, at(6, 12)), "too little is known"
    life = Life().live(range(28))
    assert TRAVELLING not in life.says(HOUSE, at(28, 12))
    assert TRAVELLING in life.says(AWAY, at(28, 12))
    for day in range(28, 31):
        life.be(AWAY, at(day, 12))
    assert TRAVELLING not in life.says(AWAY, at(31, 12)), "a tenth of the days: they live here too"


def test_the_usual_tuesday_evening() -> None:
    life = Life().live(range(7 * 5))
    tuesday, thursday = 7 * 5 + 1, 7 * 5 + 3
    there = life.says(CLUB, at(tuesday, 19), "bar")
    assert {USUAL, f"{USUAL}-bar"} <= set(there)
    elsewhere = life.says(AWAY, at(tuesday, 19))
    assert 0.25 <= elsewhere[f"{USUAL}-bar"] <= 1.0
    assert elsewhere[f"{USUAL}-bar"] * 8 % 1 == 0
    assert USUAL not in elsewhere
    assert f"{USUAL}-bar" not in life.says(CLUB, at(thursday, 5), "bar")
    assert USUAL in life.says(HOUSE, at(thursday, 22))
    assert USUAL not in life.says(CLUB, at(thursday, 5))


def test_twice_is_no_routine() -> None:
    life = Life().live(range(9))
    assert f"{USUAL}-bar" not in life.says(CLUB, at(15, 19), "bar")


def test_who_stays_comes_once() -> None:
    habit_of = Life()
    for minutes in range(0, 120, 5):
        when = at(0, 12)._replace(days=at(0, 12).days + minutes / 1440)
        habit_of.be(CLUB, when, "bar")
    assert habit_of.routine.kinds.sightings("bar", at(0, 12).days) == pytest.approx(1.0)


def test_what_makes_no_marker_is_left_out() -> None:
    life = Life()
    for day in range(9):
        life.be(CLUB, at(day, 19), "b" * 101)
    assert life.says(CLUB, at(9, 19), "b" * 101) == {USUAL: 1.0}


def test_what_comes_after() -> None:
    life = Life().live(range(35))
    tuesday = 35 + 1
    life.be(CLUB, at(tuesday, 19), "bar")
    found = life.routine.likely_kinds(at(tuesday, 22), life.everybody)
    assert found[0][0] == "", "no kind of place is known at home"
    assert found[0][1] > 0.5
    assert sum(chance for _, chance in found) <= 1.0 + 1e-9
    assert Routine().likely_kinds(at(0, 0), Everybody()) == []


moments = st.builds(
    When,
    st.floats(15_000, 25_000),
    st.integers(1, 7),
    st.integers(0, 23),
)
sightings = st.lists(
    st.tuples(st.sampled_from("abcde"), moments, st.sampled_from(["a", "b", None])), max_size=20
)


@given(sightings, moments, st.sampled_from(["a", None]))
def test_likely_is_a_distribution(
    seen: list[tuple[str, When, str | None]], when: When, before: str | None
) -> None:
    habit: Habit[str] = Habit()
    for symbol, then, last in seen:
        habit.note(symbol, then, last)
    found = likely(habit, habit, when, before)
    chances = [chance for _, chance in found]
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance <= 1 + 1e-9 for chance in chances) or not seen
    assert sum(chances) == pytest.approx(1.0) if seen else not found
    assert {symbol for symbol, _ in found} == {symbol for symbol, _, _ in seen}


@given(sightings, sightings)
def test_taking_out_leaves_what_the_others_put_in(
    mine: list[tuple[str, When, str | None]], theirs: list[tuple[str, When, str | None]]
) -> None:
    own, left, everybody = Habit[str](), Habit[str](), Habit[str](ALL_SYMBOLS)
    for symbol, when, before in mine:
        own.note(symbol, when, before)
        everybody.note(symbol, when, before)
    for symbol, when, before in theirs:
        left.note(symbol, when, before)
        everybody.note(symbol, when, before)
    everybody.less(own)
    for context, known in left._seen.items():
        for symbol, weight in known.items():
            found = everybody._seen.get(context, {}).get(symbol, 0.0)
            assert found == pytest.approx(
                weight, rel=1e-6, abs=1e-9 * sum(own._seen.get(context, {}).values())
            )
    if not theirs:
        assert everybody._seen == {}


def test_what_it_keeps_is_bounded() -> None:
    habit: Habit[int] = Habit()
    for number in range(3_000):
        habit.note(number, at(0, number % 24), number - 1)
    assert len(habit._seen) <= 1024
    assert max(len(known) for known in habit._seen.values()) <= OWN_SYMBOLS
    life = Life()
    cells = list(h3.grid_disk(h3.cell_to_parent(HOUSE, 9), 6))
    for number, cell in enumerate(cells):
        life.be(cell, at(number, 22))
        life.be(cell, at(number, 10))
    for number, region in enumerate(h3.grid_disk(parent(HOUSE, 5), 6)):
        life.be(region, at(200 + number, 22))
    assert len(life.routine._nights._hours) == len(life.routine._nights._days) == 64
    assert len(life.routine._regions) == 64


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
    st.integers(-12 * 4, 14 * 4),
)
def test_the_local_day(naive: datetime, quarters: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=15 * quarters)))
    ms = int(moment.timestamp() * 1000)
    when = when_of(LocalTime(ms, moment.isoweekday(), moment.hour))
    assert int(when.days) == (moment.date() - datetime(1970, 1, 1).date()).days  # noqa: DTZ001
    assert 0 <= when.days % 1 * 24 - moment.hour + 1e-6 < 1.00001
    assert (when.weekend, when.part) == (moment.isoweekday() > 5, (moment.hour - 2) % 24 // 4)


def test_kinds_of_places() -> None:
    assert kinds_of([("place:bar", 0.5), ("place:hotel", 0.9), ("place:airport", 0.5)]) == (
        "hotel", "airport", "bar",
    )  # fmt: skip
