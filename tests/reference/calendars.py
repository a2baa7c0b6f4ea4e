"""Local time, and the hours, days, weeks and months that caps count in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from genome_edge.v1 import release_pb2

HOUR_MS = 3_600_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR, DAY, WEEK, MONTH = (
    release_pb2.Cap.CALENDAR_HOUR,
    release_pb2.Cap.CALENDAR_DAY,
    release_pb2.Cap.CALENDAR_WEEK,
    release_pb2.Cap.CALENDAR_MONTH,
)
_SHORTER_MS: dict[int, int] = {
    HOUR: HOUR_MS // 4, DAY: HOUR_MS, WEEK: 24 * HOUR_MS, MONTH: 24 * HOUR_MS
}  # fmt: skip


def local(ms: int, zone: str = "") -> datetime:
    """The wall clock of a zone (none: UTC) at a moment, in Unix milliseconds."""
    return (EPOCH + timedelta(milliseconds=ms)).astimezone(ZoneInfo(zone or "UTC"))


def period_of(ms: int, calendar: int, zone: str) -> object:
    """What tells the calendar's periods apart: equal for two moments of the same one."""
    at = local(ms, zone)
    if calendar == HOUR:
        # Where the clock is put back an hour of the day comes twice: these are two hours.
        return at.date(), at.hour, at.utcoffset()
    if calendar == DAY:
        return at.date()
    if calendar == WEEK:
        return at.date() - timedelta(days=at.isoweekday() - 1)
    return at.year, at.month


def period(ms: int, calendar: int, zone: str) -> tuple[int, int]:
    """The first moment of the calendar's period that `ms` is in, and that of the next one."""
    now = period_of(ms, calendar, zone)
    return _edge(ms, -1, now, calendar, zone) + 1, _edge(ms, 1, now, calendar, zone)


def _edge(ms: int, step: int, now: object, calendar: int, zone: str) -> int:
    """The nearest moment before (or after) that is in another period: in steps that are shorter
    than any period, then ever finer ones."""
    grain = _SHORTER_MS[calendar]
    while period_of(ms + step * grain, calendar, zone) == now:
        ms += step * grain
    while grain > 1:
        grain = (grain + 1) // 2
        if period_of(ms + step * grain, calendar, zone) == now:
            ms += step * grain
    return ms + step
