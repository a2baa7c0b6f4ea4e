"""Where things go wrong on a globe, and when they do in a calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import h3.api.basic_int as h3
from hypothesis import strategies as st

from edge_sdk.engine.zones import zone_table
from genome_edge.v1 import release_pb2

#: Latitude and longitude: pentagons (of resolution 2, whose children are further ones), the poles,
#: both sides of the antimeridian, where Greenwich meets the equator, and a town.
PENTAGONS = [h3.cell_to_latlng(cell) for cell in sorted(h3.get_pentagons(2))]
SPOTS = [
    *PENTAGONS[:5],
    (90.0, 0.0),
    (-90.0, 0.0),
    (89.99, 140.0),
    (-17.0, 180.0),
    (-17.0, -179.999),
    (66.0, 179.999),
    (0.0, 0.0),
    (48.2, 16.37),
]
#: From half an hour that the clock is moved by, to two hours; at midnight; in Ramadan; and none.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Beirut",
    "America/Havana",
    "America/Nuuk",
    "Antarctica/Troll",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "UTC",
]
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@cache
def turns(zone: str) -> tuple[datetime, ...]:
    """The moments at which the offset of a zone changes, to the minute, between FIRST and LAST."""
    there = ZoneInfo(zone)
    found = []
    at = FIRST
    while at < LAST:
        later = at + timedelta(days=1)
        if at.astimezone(there).utcoffset() != later.astimezone(there).utcoffset():
            minutes = [at + timedelta(minutes=m) for m in range(24 * 60 + 1)]
            offset = at.astimezone(there).utcoffset()
            found.append(next(m for m in minutes if m.astimezone(there).utcoffset() != offset))
        at = later
    return tuple(found)


@cache
def table(zone: str) -> release_pb2.TimeZone:
    """The zone as a part carries it."""
    return zone_table(zone, millis(FIRST), millis(LAST))


def millis(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


#: The turn of years with and without a leap day, leap days, and the ends of months.
EDGES = [
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime(2027, 2, 28, 23, tzinfo=UTC),
    datetime(2028, 2, 29, 12, tzinfo=UTC),
    datetime(2028, 12, 31, 23, tzinfo=UTC),
]


@st.composite
def _turning_points(draw: st.DrawFn) -> datetime:
    """Where calendars and clocks turn."""
    if draw(st.booleans()):
        return draw(st.sampled_from(EDGES))
    return draw(st.sampled_from(turns(draw(st.sampled_from(ZONES))) or tuple(EDGES)))


# Most of what is drawn for one example lies together, or nothing would ever be eligible.
_NOW = st.shared(_turning_points(), key="now")
_HERE = st.shared(st.sampled_from(SPOTS), key="here")


@st.composite
def moments(draw: st.DrawFn) -> datetime:
    """A moment in UTC, close to where calendars and clocks turn."""
    near = draw(st.one_of(_NOW, _NOW, _turning_points()))
    hours = draw(st.sampled_from([0, 0, 0, -1, 1, -24, 24, 5, 7 * 24]))
    away = draw(st.sampled_from([0, 0, -1, 1, 30 * 60_000, -30 * 60_000]))
    return near + hours * HOUR + timedelta(milliseconds=away)


@st.composite
def cells(draw: st.DrawFn, finest: int = 15) -> int:
    """A cell at or beside one of the spots, of any resolution up to `finest`."""
    return _cell(
        draw(st.one_of(_HERE, _HERE, st.sampled_from(SPOTS))),
        draw(st.integers(0, finest)),
        draw(st.sampled_from([0, 0, 0, 1, 4])),
    )


@cache
def _cell(spot: tuple[float, float], resolution: int, neighbour: int) -> int:
    home: int = h3.latlng_to_cell(*spot, resolution)
    around = sorted(h3.grid_disk(home, 1))
    return home if neighbour == 0 else int(around[neighbour % len(around)])


@st.composite
def areas(draw: st.DrawFn) -> list[str]:
    """Some cells of mixed resolutions, as an offer names them; now and then with their parents, or
    a whole hexagon with all that lies in it."""
    found = draw(st.lists(cells(9), min_size=1, max_size=4))
    if draw(st.integers(0, 5)) == 0:
        found.append(h3.cell_to_parent(found[0], max(0, h3.get_resolution(found[0]) - 2)))
    if draw(st.integers(0, 5)) == 0:
        found += h3.cell_to_children(found[0])
    return [h3.int_to_str(cell) for cell in dict.fromkeys(found)]
