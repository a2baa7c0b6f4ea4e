"""What somebody usually does, learned where they agreed, and never where they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import Context, Decision, EdgeClient, Purpose
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
from edge_sdk.runtime.known_routines import KnownRoutines
from edge_sdk.testing import FakeEdge
from tests.unit.device_client import FAST
from tests.unit.device_town import customer, filled

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
    found = life.routine.likely_cells(at(tuesday, 22), life.everybody)
    assert found[0][0] == parent(HOUSE, 7)
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


# On a device -------------------------------------------------------------------------------------

OFFERS: list[dict[str, Any]] = [
    {"id": "breakfast", "all_of": [HOME], "priority": 2},
    {"id": "umbrella", "all_of": [TRAVELLING], "priority": 1},
    {"id": "any"},
]
BOTH = {"consent": ["personalisation", "location"]}


class Device:
    """A fake device with somebody who lives around it."""

    def __init__(self, **customers: Any) -> None:
        self.now = MONDAY
        self.edge = FakeEdge(OFFERS, clock=lambda: self.now, customers=customers or {"ann": BOTH})

    def ask(self, cell: int, day: int, hour: int, who: str | None = "ann") -> Decision:
        self.now = MONDAY + timedelta(days=day, hours=hour)
        return self.edge.decide(Context(cell=cell), "screen", customer=who)

    def shown(self, cell: int, day: int, hour: int, who: str | None = "ann") -> str:
        offer = self.ask(cell, day, hour, who).offer
        return offer.id if offer is not None else ""

    def nights(self, days: range, who: str | None = "ann") -> None:
        for day in days:
            self.ask(HOUSE, day, 22, who)


def test_offers_for_who_is_at_home() -> None:
    device = Device()
    device.nights(range(3))
    assert device.shown(HOUSE, 3, 7) == "breakfast"
    assert device.shown(CLUB, 3, 8) == "any"
    device.nights(range(4, 9))
    assert device.shown(AWAY, 9, 12) == "umbrella"


def test_without_both_consents_there_is_no_routine() -> None:
    device = Device(
        ann=BOTH, bob={"consent": ["location"]}, eve={"consent": ["personalisation"]}, joe={}
    )
    for who in ("bob", "eve", "joe", None):
        device.nights(range(5), who)
        assert device.shown(HOUSE, 5, 22, who) == "any"
        if who is None:
            continue
        device.edge.set_consent(who, Purpose.LOCATION, True)
        device.edge.set_consent(who, Purpose.PERSONALISATION, True)
        assert device.shown(HOUSE, 5, 23, who) == "any", "what was before was not looked at"
        device.nights(range(6, 9), who)
        assert device.shown(HOUSE, 9, 22, who) == "breakfast"


@pytest.mark.parametrize("purpose", [Purpose.LOCATION, Purpose.PERSONALISATION])
def test_who_withdraws_is_forgotten_at_once(purpose: Purpose) -> None:
    device = Device()
    device.nights(range(4))
    past = device.edge._desk.room.past
    device.edge.set_consent("ann", purpose, False)
    assert past._routines is not None
    assert past._routines.whose() == []
    assert past._routines._everybody.cells._seen == {}
    assert device.shown(HOUSE, 4, 22) == "any"
    device.edge.set_consent("ann", purpose, True)
    assert device.shown(HOUSE, 5, 22) == "any"


def test_who_is_no_longer_there_is_forgotten() -> None:
    device = Device()
    device.nights(range(4))
    room = device.edge._desk.room
    (subject,) = room.past._routines.whose()  # type: ignore[union-attr]
    room.adopt(genomes=room.live.genomes)
    assert room.past._routines.whose() == [subject]  # type: ignore[union-attr]
    gone: dict[bytes, bytes | int] = dict.fromkeys(room.live.genomes.patches, 1)
    room.adopt(genomes=type(room.live.genomes)(lineage=room.live.genomes.lineage, patches=gone))
    assert room.past._routines.whose() == []  # type: ignore[union-attr]
    assert room.past._moments.whose() == []


def test_a_routine_is_no_name_that_an_app_has_to_know() -> None:
    device = Device()
    device.nights(range(8))
    decision = device.ask(AWAY, 9, 12)
    assert decision.unknown == ()
    markers = device.edge.events[-1].decision.context_markers
    assert TRAVELLING in markers


def test_customers_are_bounded_and_the_oldest_goes() -> None:
    device = Device()
    release, known = device.edge._release, KnownRoutines(keep=3)
    for number in range(5):
        moment = Context(cell=HOUSE, place="bar", time=MONDAY)
        known.markers(bytes([number]) * 16, moment, release, 0)
    assert known.whose() == [bytes([n]) * 16 for n in (2, 3, 4)]
    assert known._everybody.kinds.sightings("bar", at(0, 0).days) == pytest.approx(3.0)
    assert known.markers(b"x" * 16, Context(place="bar"), release, 0) == ()


def test_threads_learn_of_one_moment_once() -> None:
    device = Device()
    release, known = device.edge._release, KnownRoutines()
    ready = threading.Barrier(8)

    def come() -> None:
        ready.wait()
        for hour in range(24):
            moment = Context(cell=HOUSE, place="bar", time=MONDAY + timedelta(hours=hour))
            known.markers(b"a" * 16, moment, release, 0)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known.whose() == [b"a" * 16]


def files_in(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes()


def test_no_cell_of_a_routine_is_on_disk(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        edge.set_consent(customer(0), "location", True)
        for day in range(10):
            for cell, hour in ((HOUSE, 22), (OFFICE, 10), (CLUB, 19)):
                moment = MONDAY + timedelta(days=day, hours=hour)
                edge.decide(Context(cell=cell, time=moment), "lobby", customer=customer(0))
        decision = edge.decide(
            Context(cell=HOUSE, time=MONDAY + timedelta(days=10, hours=22)),
            "lobby",
            customer=customer(0),
        )
        edge.flush(1)
        record = edge.explain(decision.id).decision
        assert record.id == decision.id
    kept = b"".join(files_in(tmp_path / "store"))
    assert HOME.encode() in kept, "the marker is in the record"
    for cell in (HOUSE, OFFICE, CLUB):
        for res in range(6, 12):
            there = parent(cell, res)
            assert f"{there:x}".encode() not in kept
            assert there.to_bytes(8, "little") not in kept
            assert there.to_bytes(8, "big") not in kept
