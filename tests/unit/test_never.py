"""The check for offers that can never be shown against trying every moment there is."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import time_markers
from edge_sdk.engine.offer_check import check_offer
from edge_sdk.engine.offers import offer_from_document
from genome_edge.v1 import release_pb2

QUARTER = timedelta(minutes=15)
# Clocks on earth, to the quarter of an hour.
OFFSETS = [timedelta(minutes=15 * n) for n in range(-12 * 4, 14 * 4 + 1)]
MARKERS = [
    "daypart:evening", "daypart:night", "weekday:sunday", "weekday:wednesday", "weekend:yes",
    "stage:before", "stage:after", "channel:kiosk", "channel:app", "claim:a", "claim:b",
]  # fmt: skip
# In Berlin clocks go forward on the first and back on the second of these Sundays.
STARTS = [
    datetime(2027, 3, 28, 0, tzinfo=UTC),
    datetime(2027, 10, 30, 23, 15, tzinfo=UTC),
    datetime(2028, 2, 28, 22, 45, tzinfo=UTC),
    datetime(2027, 6, 2, 12, tzinfo=UTC),
]
ZONES = ["", "", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"]


@st.composite
def targetings(draw: st.DrawFn, quarters: int) -> release_pb2.Targeting:
    """What an offer asks for, in windows of up to so many quarters of an hour."""
    found = release_pb2.Targeting(zone=draw(st.sampled_from(ZONES)))
    markers = st.lists(st.sampled_from(MARKERS), max_size=3, unique=True)
    for names, chosen in (
        (found.all_of, markers),
        (found.any_of, markers),
        (found.none_of, markers),
    ):
        if draw(st.booleans()):
            names.extend(draw(chosen))
    if draw(st.booleans()):
        found.days.extend(draw(st.lists(st.integers(1, 7), max_size=2, unique=True)))
    if draw(st.booleans()):
        found.hours.extend(draw(st.lists(st.integers(0, 23), max_size=2, unique=True)))
    if draw(st.booleans()):
        found.channels.extend(draw(st.lists(st.sampled_from(["kiosk", "app"]), max_size=1)))
    start = draw(st.sampled_from(STARTS)) + QUARTER * draw(st.integers(0, 8))
    for _ in range(draw(st.integers(1, 2))):
        end = start + QUARTER * draw(st.integers(1, quarters))
        found.windows.add(from_ms=ms(start), until_ms=ms(end))
        start = end + QUARTER * draw(st.integers(1, 400))
    return found


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def clocks(targeting: release_pb2.Targeting) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Every weekday and hour that `days` and `hours` could speak of, with the moment's markers."""
    for window in targeting.windows:
        at = datetime.fromtimestamp(window.from_ms / 1000, UTC)
        while ms(at) < window.until_ms:
            for offset in OFFSETS:
                own = at + offset
                meant = at.astimezone(zoneinfo.ZoneInfo(targeting.zone)) if targeting.zone else own
                markers = time_markers(own.isoweekday(), own.hour)
                yield meant.isoweekday(), meant.hour, markers
            at += QUARTER


def possible(targeting: release_pb2.Targeting) -> bool:
    """Whether some moment passes, tried one by one."""
    free = {m for m in (*targeting.all_of, *targeting.any_of) if m.startswith("claim:")}
    said = free - set(targeting.none_of)
    for (day, hour, time), stage, channel in product(
        set(clocks(targeting)), (None, "stage:before", "stage:after"), ("", "kiosk", "app")
    ):
        names = {
            *said,
            *time,
            *((stage,) if stage else ()),
            *((f"channel:{channel}",) if channel else ()),
        }
        if (
            (not targeting.days or day in targeting.days)
            and (not targeting.hours or hour in targeting.hours)
            and (not targeting.channels or channel in targeting.channels)
            and names.issuperset(targeting.all_of)
            and (not targeting.any_of or not names.isdisjoint(targeting.any_of))
            and names.isdisjoint(targeting.none_of)
        ):
            return True
    return False


def is_refused_rightly(targeting: release_pb2.Targeting) -> None:
    found = check_offer(release_pb2.OfferSpec(id="o", targeting=targeting))
    event("refused" if found else "taken")
    assert bool(found) == (not possible(targeting)), found


@settings(max_examples=250, deadline=None)
@given(targetings(quarters=14))
def test_an_offer_is_refused_where_no_moment_passes_and_nowhere_else(
    targeting: release_pb2.Targeting,
) -> None:
    is_refused_rightly(targeting)


@settings(max_examples=30, deadline=None)
@given(targetings(quarters=900))  # more than nine days
def test_so_it_is_where_the_same_hours_come_again(targeting: release_pb2.Targeting) -> None:
    is_refused_rightly(targeting)


def problems(now: str | None = None, **doc: Any) -> list[str]:
    now_ms = None if now is None else ms(datetime.fromisoformat(now))
    return check_offer(offer_from_document({"id": "o", **doc}), now_ms=now_ms)


MONDAY = {"from": "2026-06-01T10:00:00+02:00", "until": "2026-06-01T11:00:00+02:00"}


@pytest.mark.parametrize(
    ("doc", "problem"),
    [
        ({"all_of": ["daypart:evening"], "hours": ["8-9"]}, "all_of[0]: it is never 'daypart:ev"),
        ({"all_of": ["a:b", "weekday:monday"], "days": ["sat"]}, "all_of[1]: it is never"),
        ({"all_of": ["weekend:yes", "weekday:monday"]}, "all_of[1]: it is never"),
        ({"all_of": ["stage:before", "stage:after"]}, "all_of[1]: a moment has one stage"),
        ({"all_of": ["channel:app", "channel:web"]}, "all_of[1]: a moment has one channel"),
        ({"all_of": ["channel:app"], "channels": ["kiosk"]}, "all_of[0]: 'channel:app' is none of"),
        ({"all_of": ["daypart:evning"]}, "did you mean 'daypart:evening'"),
        ({"all_of": ["stage:late"]}, "all_of[0]: no moment is 'stage:late'"),
        ({"none_of": ["channel:kiosk"], "channels": ["kiosk"]}, "none_of: rules out every one of"),
        ({"none_of": ["daypart:morning"], "hours": ["8-9"]}, "none_of: rules out every hour"),
        ({"none_of": ["weekend:yes"], "days": ["sat", "sun"]}, "none_of: rules out every hour"),
        ({"any_of": ["stage:after"], "all_of": ["stage:before"]}, "any_of: none of it can be so"),
        ({"any_of": ["daypart:night", "channel:tv"], "hours": [12], "channels": ["app"]}, "any_of"),
        ({"valid": MONDAY, "days": ["sat"]}, "valid: none of the days and hours"),
        ({"valid": MONDAY, "days": ["tue"]}, "valid: none of the"),
        ({"valid": MONDAY, "days": ["sun"], "zone": "Pacific/Kiritimati"}, "valid: none of the"),
        ({"valid": MONDAY, "hours": [11], "zone": "Europe/Berlin"}, "valid: none of the"),
        (
            {"valid": MONDAY, "zone": "Europe/Berlin", "all_of": ["weekday:wednesday"]},
            "valid: none of the",
        ),
        (  # the hour that is left out when clocks go forward
            {
                "valid": {"from": "2027-03-22T00:00:00Z", "until": "2027-03-28T22:00:00Z"},
                "days": ["sun"], "hours": [2], "zone": "Europe/Berlin",
            },
            "valid: none of the",
        ),
        (
            {"windows": [MONDAY, {"from": "2026-06-08T10:00Z", "until": "2026-06-08T11:00Z"}],
             "days": ["fri"]},
            "windows: none of the",
        ),
    ],
)  # fmt: skip
def test_what_can_never_be_so_is_named(doc: dict[str, Any], problem: str) -> None:
    found = problems(**doc)
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    "doc",
    [
        {"all_of": ["daypart:evening"], "hours": ["8-9", 18]},
        {"all_of": ["daypart:evening"], "hours": ["8-9"], "zone": "Asia/Tokyo"},  # seen from abroad
        {"valid": {**MONDAY, "until": "2026-06-01T12:15+02:00"}, "days": ["tue"]},  # in Kiritimati
        {"valid": MONDAY, "days": ["sun"]},  # where it is Sunday still
        {"valid": MONDAY, "days": ["mon"], "hours": [10], "zone": "Europe/Berlin"},
        {"any_of": ["stage:after", "claim:a"], "all_of": ["stage:before"]},
        {"none_of": ["channel:kiosk"], "channels": ["kiosk", "app"]},
        {"all_of": ["language:de", "language:en"]},  # of books in the basket
        {"hours": [2], "days": ["sun"], "zone": "Europe/Berlin"},
        {
            "valid": {"from": "2027-03-21T00:00Z"},
            "days": ["sun"], "hours": [2], "zone": "Europe/Berlin",
        },
    ],
)  # fmt: skip
def test_what_can_be_so_is_taken(doc: dict[str, Any]) -> None:
    assert problems(**doc) == []


def test_what_is_left_of_an_offer_may_be_nothing() -> None:
    doc: dict[str, Any] = {
        "valid": {"until": "2026-06-06T00:00:00+02:00"},
        "zone": "Europe/Berlin",
        "days": ["fri"],
    }
    assert problems("2026-06-05T23:59:00+02:00", **doc) == []
    doc["days"] = ["thu"]
    assert problems(**doc) == []
    assert "valid: none of the" in problems("2026-06-05T00:00:00+02:00", **doc)[0]
    assert problems("2026-06-06T00:00:00+02:00", **doc) == ["valid.until: is over"]
