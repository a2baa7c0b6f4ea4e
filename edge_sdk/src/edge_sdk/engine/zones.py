"""Local time in named zones, without a database of zones on the device.

A release carries one table for each zone that its offers name: from when on each offset holds. The
first offset holds before the table, too, and the last one after it. `zone_table` makes such a table
out of Python's `zoneinfo`, where a release is made; nothing else here needs one.

An hour of the week is (weekday - 1) * 24 + hour, 0 on Monday at midnight. Where clocks go forward
one may be missing, where they go back one comes twice: as people read their clocks.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from itertools import pairwise
from typing import Final

from edge_sdk.dna.markers import nearest_name
from edge_sdk.errors import FormatError, UsageError
from edge_sdk.messages import release_pb2

HOUR_MS: Final = 3_600_000
HOURS_OF_WEEK: Final = 168
FOREVER_MS: Final = (1 << 62) - 1
_EPOCH_HOUR: Final = 72  # 1970-01-01 was a Thursday
_MAX_OFFSET_S: Final = 24 * 3600
# Since 1970 no zone has kept an offset for less than six days, nor will one by what is known.
_STEP_S: Final = 5 * 24 * 3600
_FIRST_S: Final = 86_400
_NO_ZONES: Final = frozenset({"Factory", "localtime", "posix", "posixrules", "right"})
_LAST_S: Final = 253_370_764_800  # the year 9999, where datetime ends


class Zone:
    """One zone's local time. Immutable; thread-safe. Times are Unix milliseconds.

    `changes` are the moments from which on each of `offsets_ms` holds, ascending.
    """

    __slots__ = ("changes", "name", "offsets_ms")

    def __init__(self, name: str, changes: Iterable[int], offsets_ms: Iterable[int]) -> None:
        self.name = name
        self.changes = tuple(changes)
        self.offsets_ms = tuple(offsets_ms)

    @classmethod
    def from_proto(cls, table: release_pb2.TimeZone) -> Zone:
        """Read a table of a release. Raises FormatError where it is not what it should be."""
        if not table.name or not table.from_ms or len(table.from_ms) != len(table.offsets_s):
            raise FormatError(f"the table of time zone {table.name!r} is not whole")
        if any(later <= earlier for earlier, later in pairwise(table.from_ms)):
            raise FormatError(f"the table of time zone {table.name!r} does not ascend")
        if any(abs(offset) >= _MAX_OFFSET_S for offset in table.offsets_s):
            raise FormatError(f"time zone {table.name!r} is a day or more away from UTC")
        return cls(table.name, table.from_ms, (offset * 1000 for offset in table.offsets_s))

    def offset_ms(self, ms: int) -> int:
        """How far local time is ahead of UTC."""
        return self.offsets_ms[max(bisect_right(self.changes, ms) - 1, 0)]

    def hour_of_week(self, ms: int) -> int:
        """The local hour of the week, 0 to 167."""
        return hour_of_week(ms + self.offset_ms(ms))

    def hour_bounds(self, ms: int) -> tuple[int, int]:
        """From when until when it is the same hour on the same clock as at `ms`."""
        at = max(bisect_right(self.changes, ms) - 1, 0)
        offset = self.offsets_ms[at]
        begins = (ms + offset) // HOUR_MS * HOUR_MS - offset
        ends = begins + HOUR_MS
        if at:  # the first offset holds before the table, too
            begins = max(begins, self.changes[at])
        if at + 1 < len(self.changes):
            ends = min(ends, self.changes[at + 1])
        return begins, ends

    def spans(self, from_ms: int, until_ms: int) -> Iterator[tuple[int, int, int]]:
        """The times of one offset within a time, ascending: from, until, offset, milliseconds."""
        at = max(bisect_right(self.changes, from_ms) - 1, 0)
        while from_ms < until_ms:
            ends = self.changes[at + 1] if at + 1 < len(self.changes) else until_ms
            yield from_ms, min(ends, until_ms), self.offsets_ms[at]
            from_ms, at = ends, at + 1


UTC_ZONE: Final = Zone("UTC", (0,), (0,))


def hour_of_week(local_ms: int) -> int:
    """The hour of the week of a local time, given as if it were UTC."""
    return (local_ms // HOUR_MS + _EPOCH_HOUR) % HOURS_OF_WEEK


def zones_of(tables: Iterable[release_pb2.TimeZone]) -> dict[str, Zone]:
    """The zones of a release by name. Raises FormatError."""
    return {table.name: Zone.from_proto(table) for table in tables}


def zone_table(name: str, from_ms: int, until_ms: int) -> release_pb2.TimeZone:
    """The offsets of a zone (IANA) from one time until another, as a release carries them.

    Needs a database of zones: the machine's or the package tzdata. Raises UsageError for a zone
    that it does not have.
    """
    first = min(max(from_ms // 1000, _FIRST_S), _LAST_S)
    last = min(max(-(-until_ms // 1000), first), _LAST_S)
    changes, offsets = _changes(name, first, last)
    return release_pb2.TimeZone(
        name=name, from_ms=[change * 1000 for change in changes], offsets_s=offsets
    )


def tables_for(
    offers: Iterable[release_pb2.OfferSpec], from_ms: int, until_ms: int
) -> list[release_pb2.TimeZone]:
    """A table of each zone that offers name, by name. Raises UsageError like `zone_table`."""
    names = {offer.targeting.zone for offer in offers if offer.targeting.zone}
    return [zone_table(name, from_ms, until_ms) for name in sorted(names)]


def known_zone(name: str) -> tzinfo:
    """A zone of this machine's database. Raises UsageError that names the nearest."""
    from zoneinfo import ZoneInfo, available_timezones  # where releases are made, never on devices

    # Not what a machine calls its own, nor the tables that count leap seconds.
    if name.partition("/")[0] not in _NO_ZONES:
        with contextlib.suppress(KeyError, ValueError, OSError):
            return ZoneInfo(name)
    near = nearest_name(name, sorted(available_timezones() - _NO_ZONES))
    hint = f"; did you mean {near!r}?" if near else ", such as Europe/Berlin"
    raise UsageError(f"{name!r} is no time zone{hint}")


@lru_cache(maxsize=256)
def zone_trouble(name: str) -> str:
    """Why a zone is none of this machine's database; empty: it is one, or there is no name."""
    try:
        if name:
            known_zone(name)
    except UsageError as error:
        return str(error)
    return ""


@lru_cache(maxsize=1024)
def _changes(name: str, first: int, last: int) -> tuple[list[int], list[int]]:
    """When the offset of a zone changes from `first` to `last`, and the offsets, in seconds."""
    zone = known_zone(name)

    def offset(at: int) -> int:
        found = datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset()
        return round(found.total_seconds()) if found is not None else 0

    changes, offsets = [first], [offset(first)]
    earlier = first
    while earlier < last:
        later = min(earlier + _STEP_S, last)
        if offset(later) != offsets[-1]:
            low, high = earlier, later
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
            changes.append(high)
            offsets.append(offset(high))
            later = high
        earlier = later
    return changes, offsets
