"""Whether there is any moment at all at which an offer could be shown.

A moment has one hour of the week, one channel and at most one stage; its other markers are
independent of each other. So an offer is possible where what it asks of these can be so at once, at
a time at which it is valid. All of that is finite: the 168 hours of a week, as bits; the channels
and stages that it names; and of its windows eight days for each offset of its zone, since what time
asks for comes again every week.

- Where the offer names no zone, its days and hours and the markers of time (`daypart:`, `weekday:`,
  `weekend:`) speak of one clock, which is 12 hours behind UTC to 14 hours ahead.
- Where it names one, days and hours speak of the zone's clocks and the markers of the moment's own.
- Markers of time, channel and stage are taken as the moment's. (A genome can hold them too, from
  DNA that was imprinted; what only such a genome could fulfil is refused all the same.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from edge_sdk.dna.markers import STAGES, nearest_name, time_markers
from edge_sdk.engine.gates import ALL_HOURS, hours_mask
from edge_sdk.engine.zones import HOUR_MS, HOURS_OF_WEEK, Zone, hour_of_week, zone_table
from genome_edge.v1 import release_pb2

_TIME: Final = frozenset({"daypart", "weekday", "weekend"})
_CHANNEL: Final = "channel"
_STAGE: Final = "stage"
_STAGES: Final = frozenset(f"{_STAGE}:{name}" for name in STAGES)
# How far the clocks on earth are from UTC.
_BEHIND_MS: Final = 12 * HOUR_MS
_AHEAD_MS: Final = 14 * HOUR_MS
# A week and a day: every whole hour of the week is in it.
_WEEK_MS: Final = 8 * 24 * HOUR_MS
# After so long the same offsets come again.
_SEASONS_MS: Final = 2 * 366 * 24 * HOUR_MS

_HOURS_OF: Final[dict[str, int]] = {}
for _hour in range(HOURS_OF_WEEK):
    for _name in time_markers(_hour // 24 + 1, _hour % 24):
        _HOURS_OF[_name] = _HOURS_OF.get(_name, 0) | 1 << _hour

Windows = Sequence[tuple[int, int]]


class _Left(NamedTuple):
    """What of a moment is still possible: hours of the week by its own clock, channel, stage."""

    hours: int
    channel: str | None = None
    stage: str | None = None


def impossible(targeting: release_pb2.Targeting, windows: Windows) -> Iterator[str]:
    """Why there is no such moment, as "field: sentence"; nothing where there is one.

    `windows` are from when until when the offer is valid, Unix milliseconds, none of them empty.
    Its days and hours exist and so does its zone.
    """
    on_clock = hours_mask(tuple(targeting.days), tuple(targeting.hours))
    excluded = set(targeting.none_of)
    left = _Left(ALL_HOURS if targeting.zone else on_clock)
    left = left._replace(hours=left.hours & ~_hours_with(excluded))
    if not left.hours:
        yield "none_of: rules out every hour that it is for"
        return
    if targeting.channels and excluded.issuperset(map("channel:{}".format, targeting.channels)):
        yield "none_of: rules out every one of its channels"
        return
    for position, marker in enumerate(targeting.all_of):
        then, problem = _with(left, marker, targeting)
        if then is None:
            yield f"all_of[{position}]: {problem}"
            return
        left = then
    if targeting.any_of:
        met = [_with(left, m, targeting)[0] for m in targeting.any_of if m not in excluded]
        possible = [then for then in met if then is not None]
        if not possible:
            yield "any_of: none of it can be so together with the rest of what it asks for"
            return
        left = left._replace(hours=_either(then.hours for then in possible))
    if not _ever(windows, targeting.zone, on_clock, left.hours):
        field = "windows" if targeting.windows else "valid"
        yield f"{field}: none of the days and hours that it is for lies within"


def _with(left: _Left, marker: str, targeting: release_pb2.Targeting) -> tuple[_Left | None, str]:
    """What is possible with a marker; None, and why, where nothing is."""
    namespace, _, value = marker.partition(":")
    if namespace in _TIME:
        if marker not in _HOURS_OF:
            return None, f"no moment is {marker!r}{_hint(marker, _HOURS_OF)}"
        hours = left.hours & _HOURS_OF[marker]
        return (
            (left._replace(hours=hours), "")
            if hours
            else (
                None,
                f"it is never {marker!r} at the hours that the rest of its rules leave",
            )
        )
    if namespace == _STAGE:
        if marker not in _STAGES:
            return None, f"no moment is {marker!r}{_hint(marker, _STAGES)}"
        if left.stage not in (None, value):
            return None, f"a moment has one stage, and {left.stage!r} is asked for too"
        return left._replace(stage=value), ""
    if namespace == _CHANNEL:
        if targeting.channels and value not in targeting.channels:
            return None, f"{marker!r} is none of its channels ({', '.join(targeting.channels)})"
        if left.channel not in (None, value):
            return None, f"a moment has one channel, and {left.channel!r} is asked for too"
        return left._replace(channel=value), ""
    return left, ""


def _ever(windows: Windows, zone: str, in_zone: int, own: int) -> bool:
    """Whether the clocks of `zone` (empty: none) show one of the hours `in_zone` at some moment of
    the windows, and a clock on earth one of the hours `own` at the same moment."""
    for begins, ends in windows:
        if not zone:
            if _shown(own, begins, ends):
                return True
            continue
        seasons = min(ends, begins + _SEASONS_MS)
        clocks = Zone.from_proto(zone_table(zone, begins, seasons))
        for first, last, offset in clocks.spans(begins, seasons):
            if _in_span(first, min(last, first + _WEEK_MS), offset, in_zone, own):
                return True
    return False


def _in_span(first: int, last: int, offset: int, in_zone: int, own: int) -> bool:
    """The same for a time of one offset; milliseconds."""
    at = (first + offset) // HOUR_MS * HOUR_MS - offset  # as the hour begins on these clocks
    while at < last:
        if in_zone >> hour_of_week(at + offset) & 1 and _shown(
            own, max(at, first), min(at + HOUR_MS, last)
        ):
            return True
        at += HOUR_MS
    return False


def _shown(hours: int, begins: int, ends: int) -> bool:
    """Whether some clock on earth shows one of these hours of the week within a time."""
    first = (begins - _BEHIND_MS) // HOUR_MS
    last = (min(ends, begins + _WEEK_MS) - 1 + _AHEAD_MS) // HOUR_MS
    return any(hours >> hour_of_week(at * HOUR_MS) & 1 for at in range(first, last + 1))


def _hours_with(markers: Iterable[str]) -> int:
    """The hours that have one of these markers."""
    return _either(_HOURS_OF.get(marker, 0) for marker in markers)


def _either(masks: Iterable[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def _hint(marker: str, known: Iterable[str]) -> str:
    near = nearest_name(marker, known)
    return f"; did you mean {near!r}?" if near else ""
