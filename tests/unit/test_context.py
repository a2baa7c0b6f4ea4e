"""A context that exists is right, and keeps no coordinates."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import struct
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import h3.api.basic_int as h3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.attributes import attribute_marker
from edge_sdk.context import Context, region_of
from edge_sdk.errors import InvalidContext

LAT, LNG = 40.758896, -73.985130
CELL = h3.latlng_to_cell(LAT, LNG, 11)
EVENING = datetime(2026, 6, 27, 19, 30, tzinfo=timezone(timedelta(hours=2)))


def test_a_full_context() -> None:
    context = Context(
        lat=LAT,
        lng=LNG,
        place="Hotel",
        activity="Flight search",
        time=EVENING,
        channel="kiosk",
        basket=["P-1", "P-2"],
        stage="before",
        attributes={"weather": "sunny", "kids": True, "temperature": 80.0, "with": ["dog", "cat"]},
    )
    assert context.cell == CELL
    assert (context.place, context.activity, context.stage) == ("hotel", "flight-search", "before")
    assert context.basket == ("P-1", "P-2")
    assert [name for name, _ in context.markers()] == [
        "place:hotel", "activity:flight-search", "channel:kiosk", "stage:before", "weather:sunny",
        "kids:true", "temperature:80", "with:dog", "with:cat",
        "daypart:evening", "weekday:saturday", "weekend:yes",
    ]  # fmt: skip
    assert all(salience == 1.0 for _, salience in context.markers())


def test_nothing_said_is_nothing_there() -> None:
    context = Context()
    assert context.declared == ()
    assert context.cell is None
    assert context.region == ""
    assert repr(context) == "Context()"


def test_coordinates_are_nowhere() -> None:
    context = Context(lat=LAT, lng=LNG, place="hotel")
    assert not hasattr(context, "__dict__")
    held = [getattr(context, f.name) for f in dataclasses.fields(context)]
    assert LAT not in held
    assert LNG not in held
    for needle in ("40.75", "73.98"):
        assert needle not in repr(context)
        assert needle not in str(context)
    packed = pickle.dumps(context)
    for number in (LAT, LNG):
        for form in ("<d", ">d", "<f", ">f"):
            assert struct.pack(form, number) not in packed
        assert repr(number).encode() not in packed


def test_the_repr_shows_the_region_and_not_the_cell() -> None:
    context = Context(cell=CELL)
    assert h3.int_to_str(CELL) not in repr(context)
    assert h3.int_to_str(h3.cell_to_parent(CELL, 5)) in repr(context)
    coarse = h3.cell_to_parent(CELL, 3)
    assert region_of(coarse) == h3.int_to_str(coarse)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lat": 90.5, "lng": 0.0}, ["lat", "-90 to 90"]),
        ({"lat": 0.0, "lng": -181}, ["lng", "-180 to 180"]),
        ({"lat": float("nan"), "lng": 0.0}, ["lat"]),
        ({"lat": "40", "lng": 0.0}, ["lat"]),
        ({"lat": True, "lng": 0.0}, ["lat"]),
        ({"lat": 1.0}, ["lat and lng belong together"]),
        ({"lat": 1.0, "lng": 1.0, "cell": CELL}, ["not both"]),
        ({"cell": "zz"}, ["cell='zz'", "H3 cell"]),
        ({"cell": 17}, ["cell=17", "H3 cell"]),
        ({"cell": 1.5}, ["cell=<float>"]),
        ({"place": ""}, ["place=''", "hotel"]),
        ({"place": 7}, ["place=7"]),
        ({"activity": "x" * 121}, ["activity="]),
        ({"channel": "a\nb\x00"}, ["channel="]),
        ({"stage": "later"}, ["stage='later'", "before, during, after"]),
        ({"time": "noon"}, ["time='noon'", "datetime"]),
        ({"basket": "P-1"}, ["basket='P-1'", "list of product ids"]),
        ({"basket": [1]}, ["basket=1"]),
        ({"basket": ["p"] * 257}, ["257", "256"]),
        ({"attributes": ["weather"]}, ["attributes=", "mapping"]),
        ({"attributes": {"weather": None}}, ["attributes['weather']=None"]),
        ({"attributes": {"weather": float("inf")}}, ["attributes['weather']"]),
        ({"attributes": {"weather": b"sunny"}}, ["attributes['weather']=<bytes>"]),
        ({"attributes": {"9th": "x"}}, ["attributes['9th']", "lower-case letters"]),
        ({"attributes": {"place": "bar"}}, ["place="]),
        ({"attributes": {"Day_part": "x", "daypart": "y"}}, ["time="]),
        ({"attributes": {"Lat": 40.7}}, ["only the cell"]),
        ({"attributes": {3: "x"}}, ["names are text"]),
        ({"attributes": {"a": ["x"] * 17}}, ["at most 16"]),
        ({"attributes": {f"a{n}": "x" for n in range(65)}}, ["65", "64"]),
    ],
)
def test_what_cannot_be_is_refused_with_field_value_and_what_is_allowed(
    given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InvalidContext) as caught:
        Context(**given)
    for word in words:
        assert word in str(caught.value)


def test_errors_repeat_no_coordinates() -> None:
    with pytest.raises(InvalidContext) as caught:
        Context(lat=LAT, lng=-73.985130 * 10)
    assert "73" not in str(caught.value)
    assert "40" not in str(caught.value)


def test_a_context_does_not_change() -> None:
    attributes = {"weather": "sunny"}
    context = Context(attributes=attributes)
    attributes["weather"] = "rain"
    assert context.attributes["weather"] == "sunny"
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.place = "bar"  # type: ignore[misc]
    with pytest.raises(TypeError):
        context.attributes["weather"] = "rain"  # type: ignore[index]


def test_copies_and_changed_copies() -> None:
    context = Context(cell=CELL, place="hotel", time=EVENING, attributes={"with": ["dog"]})
    for again in (pickle.loads(pickle.dumps(context)), copy.deepcopy(context), copy.copy(context)):
        assert again == context
        assert hash(again) == hash(context)
        assert again.declared == context.declared
    moved = dataclasses.replace(context, place="bar")
    assert moved.declared == ("place:bar", "with:dog")
    assert moved.cell == CELL
    assert moved != context


def test_a_prefix_is_no_mistake() -> None:
    assert Context(place="place:hotel") == Context(place="Hotel")


def test_cells_of_any_resolution_as_text_or_number() -> None:
    for res in range(16):
        cell = h3.latlng_to_cell(LAT, LNG, res)
        assert Context(cell=cell) == Context(cell=h3.int_to_str(cell))


def test_local_time_of_an_aware_time_is_its_own() -> None:
    moment = Context(time=EVENING).local_time(0)
    assert (moment.weekday, moment.hour) == (6, 19)
    assert moment.ms == EVENING.timestamp() * 1000


def test_a_naive_time_is_local_and_none_is_now() -> None:
    naive = datetime(2026, 3, 4, 23, 15)  # noqa: DTZ001 that is the point
    moment = Context(time=naive).local_time(0)
    assert (moment.weekday, moment.hour) == (3, 23)
    assert moment.ms == naive.timestamp() * 1000
    now = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
    local = now.astimezone()
    moment = Context().local_time(int(now.timestamp() * 1000))
    assert (moment.weekday, moment.hour) == (local.isoweekday(), local.hour)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_times_keep_their_milliseconds(time: datetime) -> None:
    aware = time.replace(tzinfo=UTC)
    ms = Context(time=aware).local_time(0).ms
    assert abs(ms / 1000 - aware.timestamp()) < 0.001


def test_attribute_markers_are_the_same_for_text_and_numbers() -> None:
    assert attribute_marker("Age_group", "26 to 30") == "age-group:26-to-30"
    assert attribute_marker("temperature", 80) == attribute_marker("temperature", "80")
    assert attribute_marker("temperature", 80.0) == "temperature:80"
    assert attribute_marker("kids", True) == attribute_marker("kids", "true")


def test_the_hour_follows_this_machines_zone_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seven = Context()
    at_ms = 1_760_000_400_000  # 2025-10-09 09:00 UTC, a Thursday
    seen = {}
    try:
        for zone in ("UTC0", "EST5", "XYZ-14:30"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            seen[zone] = seven.local_time(at_ms + 1), seven.local_time(at_ms - 1)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert seen == {
        "UTC0": ((at_ms + 1, 4, 9), (at_ms - 1, 4, 8)),
        "EST5": ((at_ms + 1, 4, 4), (at_ms - 1, 4, 3)),
        "XYZ-14:30": ((at_ms + 1, 4, 23), (at_ms - 1, 4, 23)),
    }
