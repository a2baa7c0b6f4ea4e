"""Tables of zones against zoneinfo, also where clocks jump, and on leap days."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_sdk.engine.zones import (
    HOUR_MS,
    UTC_ZONE,
    Zone,
    hour_of_week,
    known_zone,
    tables_for,
    zone_table,
    zones_of,
)
from edge_sdk.errors import FormatError, UsageError
from genome_edge.v1 import release_pb2

# Clocks that jump by an hour, by half of one, over a whole day, twice around Ramadan, at midnight.
NAMES = [
    "Africa/Casablanca",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "UTC",
]
FIRST = int(datetime(1971, 1, 1, tzinfo=UTC).timestamp() * 1000)
LAST = int(datetime(2099, 12, 31, tzinfo=UTC).timestamp() * 1000)
ZONES = {name: Zone.from_proto(zone_table(name, FIRST, LAST)) for name in NAMES}
LEAP_DAY = int(datetime(2028, 2, 29, 10, 59, 59, 999_000, tzinfo=UTC).timestamp() * 1000)


def local(name: str, ms: int) -> datetime:
    """The clock of a zone, from zoneinfo."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return at.astimezone(zoneinfo.ZoneInfo(name))


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a moment, as often as not where its clocks jump."""
    name = draw(st.sampled_from(NAMES))
    anywhere = st.integers(FIRST, LAST)
    around = st.builds(
        lambda change, apart: change + apart,
        st.sampled_from(ZONES[name].changes),
        st.integers(-3 * HOUR_MS, 3 * HOUR_MS) | st.integers(-1, 1),
    )
    return name, min(max(draw(anywhere | around), FIRST), LAST)


@settings(max_examples=1000, deadline=None)
@given(moments())
@example(("Europe/Berlin", LEAP_DAY))
@example(("Pacific/Apia", int(datetime(2011, 12, 30, 10, tzinfo=UTC).timestamp() * 1000)))
def test_a_table_says_what_zoneinfo_says(at: tuple[str, int]) -> None:
    name, ms = at
    zone, clock = ZONES[name], local(*at)
    offset = clock.utcoffset()
    assert offset is not None
    assert zone.offset_ms(ms) == offset.total_seconds() * 1000
    assert zone.hour_of_week(ms) == (clock.isoweekday() - 1) * 24 + clock.hour
    begins, ends = zone.hour_bounds(ms)
    assert begins <= ms < ends <= begins + HOUR_MS
    for inside in (begins, ends - 1):
        if FIRST <= inside <= LAST:
            seen = local(name, inside)
            assert (seen.date(), seen.hour) == (clock.date(), clock.hour)
            assert seen.utcoffset() == offset
    for outside in (begins - 1, ends):
        if FIRST <= outside <= LAST:
            seen = local(name, outside)
            assert (seen.date(), seen.hour, seen.utcoffset()) != (clock.date(), clock.hour, offset)


@settings(max_examples=200, deadline=None)
@given(moments(), st.integers(1, 400 * 24 * HOUR_MS))
def test_spans_are_the_time_cut_where_the_offset_changes(at: tuple[str, int], length: int) -> None:
    name, begins = at
    ends = min(begins + length, LAST)
    spans = list(ZONES[name].spans(begins, ends))
    assert [*(span[0] for span in spans), ends] == [begins, *(span[1] for span in spans)]
    for first, last, offset in spans:
        for ms in (first, (first + last) // 2, last - 1):
            assert ZONES[name].offset_ms(ms) == offset


def test_an_hour_that_is_missing_and_one_that_comes_twice() -> None:
    berlin = ZONES["Europe/Berlin"]
    spring = int(datetime(2027, 3, 28, 0, 30, tzinfo=UTC).timestamp() * 1000)
    autumn = int(datetime(2027, 10, 31, 0, 30, tzinfo=UTC).timestamp() * 1000)
    sunday = 6 * 24
    seen = [berlin.hour_of_week(spring + n * HOUR_MS) - sunday for n in range(3)]
    assert seen == [1, 3, 4]
    seen = [berlin.hour_of_week(autumn + n * HOUR_MS) - sunday for n in range(3)]
    assert seen == [2, 2, 3]


def test_no_zone_keeps_an_offset_for_so_short_a_time_that_a_table_misses_it() -> None:
    """As many changes as a search hour by hour finds."""
    for name in [*sorted(zoneinfo.available_timezones())[::60], *NAMES]:
        zone = zoneinfo.ZoneInfo(name)
        start = datetime(2026, 1, 1, tzinfo=UTC)
        hours = [(start + timedelta(hours=n)).astimezone(zone).utcoffset() for n in range(8784)]
        changes = sum(one != other for one, other in pairwise(hours))
        end = start + timedelta(hours=8784 - 1)
        table = zone_table(name, int(start.timestamp() * 1000), int(end.timestamp() * 1000))
        assert len(table.from_ms) == 1 + changes, name


def test_a_table_holds_before_and_after_itself() -> None:
    zone = Zone("X", (1000 * HOUR_MS, 2000 * HOUR_MS), (HOUR_MS, 2 * HOUR_MS))
    assert zone.offset_ms(0) == HOUR_MS
    assert zone.offset_ms(10**15) == 2 * HOUR_MS
    assert list(zone.spans(0, 3000 * HOUR_MS)) == [
        (0, 2000 * HOUR_MS, HOUR_MS),
        (2000 * HOUR_MS, 3000 * HOUR_MS, 2 * HOUR_MS),
    ]
    assert UTC_ZONE.hour_of_week(0) == hour_of_week(0) == 3 * 24
    assert zone.hour_bounds(1000 * HOUR_MS) == (1000 * HOUR_MS, 1001 * HOUR_MS)


@pytest.mark.parametrize(
    "table",
    [
        release_pb2.TimeZone(name="", from_ms=[0], offsets_s=[0]),
        release_pb2.TimeZone(name="X"),
        release_pb2.TimeZone(name="X", from_ms=[0, 1], offsets_s=[0]),
        release_pb2.TimeZone(name="X", from_ms=[1, 1], offsets_s=[0, 0]),
        release_pb2.TimeZone(name="X", from_ms=[0], offsets_s=[86_400]),
    ],
)
def test_tables_that_make_no_sense(table: release_pb2.TimeZone) -> None:
    with pytest.raises(FormatError):
        zones_of([table])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Europe/Berln",
        "../etc/passwd",
        "/etc/passwd",
        "Europe",
        "localtime",
        "right/Europe/Berlin",
    ],
)
def test_zones_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        known_zone(name)


def test_one_table_for_each_zone_that_offers_name() -> None:
    offers = [release_pb2.OfferSpec() for _ in range(4)]
    for offer, name in zip(offers, ("Europe/Berlin", "UTC", "Europe/Berlin", ""), strict=True):
        offer.targeting.zone = name
    tables = tables_for(offers, FIRST, FIRST + 1)
    assert [table.name for table in tables] == ["Europe/Berlin", "UTC"]
