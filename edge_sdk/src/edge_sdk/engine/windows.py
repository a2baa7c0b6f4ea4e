"""The hours, days, weeks and months in which caps count. No input or output here.

Rules.
- A day begins at the first moment of its date in its zone; a week with its Monday; a month with its
  first day. So the day on which clocks are put back is 25 hours long, and where they go forward at
  midnight a day begins at one.
- An hour is one of the clock's: where clocks are put back the same hour comes twice and is two.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Final

from edge_sdk.engine.zones import HOUR_MS, Zone
from edge_sdk.numbers import Cap

_DAY_MS: Final = 24 * HOUR_MS
_WEEK_MS: Final = 7 * _DAY_MS
# The Unix epoch was a Thursday.
_MONDAY_MS: Final = 4 * _DAY_MS
_HOUR: Final = Cap.CALENDAR_HOUR
_DAY: Final = Cap.CALENDAR_DAY
_WEEK: Final = Cap.CALENDAR_WEEK
_MONTH: Final = Cap.CALENDAR_MONTH
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Clocks are never further from UTC, and never moved by more.
_FURTHEST_MS: Final = 2 * _DAY_MS
_LATEST_MS: Final = 253_370_764_800_000
#: The longest that each period can be: what happened longer ago is not in it.
LONGEST_MS: Final = {
    _HOUR: 2 * HOUR_MS,
    _DAY: 2 * _DAY_MS,
    _WEEK: 8 * _DAY_MS,
    _MONTH: 32 * _DAY_MS,
}


def period(calendar: int, ms: int, zone: Zone) -> tuple[int, int]:
    """The hour, day, week or month that a moment lies in: from when until when, Unix milliseconds.

    `calendar` is one of Cap.Calendar but for CALENDAR_UNSPECIFIED.
    """
    ms = min(max(ms, 0), _LATEST_MS)
    if calendar == _HOUR:
        return zone.hour_bounds(ms)
    begin = _began(calendar, ms + zone.offset_ms(ms))
    end = _next(calendar, begin)
    until = _first(end, zone)
    if until <= ms:  # clocks were put back from that day into this one: it is that day still
        begin, end = end, _next(calendar, end)
        until = _first(end, zone)
    return _first(begin, zone), until


def _began(calendar: int, local_ms: int) -> int:
    """When the period of a local time began, in local time."""
    if calendar == _DAY:
        return local_ms // _DAY_MS * _DAY_MS
    if calendar == _WEEK:
        return (local_ms - _MONDAY_MS) // _WEEK_MS * _WEEK_MS + _MONDAY_MS
    at = _EPOCH + timedelta(milliseconds=local_ms)
    return _ms(datetime(at.year, at.month, 1, tzinfo=UTC))


def _next(calendar: int, local_ms: int) -> int:
    """When the period after the one that began then begins, in local time."""
    if calendar == _DAY:
        return local_ms + _DAY_MS
    if calendar == _WEEK:
        return local_ms + _WEEK_MS
    at = _EPOCH + timedelta(milliseconds=local_ms)
    return _ms(datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC))


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _first(local_ms: int, zone: Zone) -> int:
    """The first moment at which clocks show this time or a later one."""
    begins = max(bisect_right(zone.changes, local_ms - _FURTHEST_MS) - 1, 0)
    for at in range(begins, len(zone.changes)):
        moment = local_ms - zone.offsets_ms[at]
        if at > begins:
            moment = max(moment, zone.changes[at])
        if at + 1 == len(zone.changes) or moment < zone.changes[at + 1]:
            return moment
    raise AssertionError("the last offset of a zone holds for ever")
