"""What an offer asks of the moment beyond area and markers: when, on which channel, how large.

Rules
-----
- An offer is valid from `valid_from_ms` until just before `valid_until_ms` (0: for ever). Where it
  has `windows`, these rule instead, and a moment between two of them is BETWEEN.
- `days` and `hours` are those of the moment's own clock, or of the clocks of `zone` where the offer
  names one, whatever the moment's offset.
- A size fits where the offer or the placement names none, or both name the same one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_sdk.decision import Reason
from edge_sdk.engine.zones import FOREVER_MS, HOURS_OF_WEEK, Zone
from edge_sdk.errors import FormatError
from edge_sdk.messages import release_pb2

if TYPE_CHECKING:
    from edge_sdk.engine.catalogue import Where

TIME_REASONS: Final = (
    Reason.NOT_STARTED,
    Reason.BETWEEN,
    Reason.ENDED,
    Reason.DAY,
    Reason.HOUR,
)
ALL_HOURS: Final = (1 << HOURS_OF_WEEK) - 1
_NONE: Final[frozenset[str]] = frozenset()


class Gate(NamedTuple):
    """What an offer asks of the moment beyond area and markers; equal ones are one.

    `hours` has bit (weekday - 1) * 24 + hour for each hour of the week, on the clocks of `zone`;
    empty: on the moment's own.
    """

    hours: int
    zone: str
    channels: frozenset[str]
    placements: frozenset[str]
    sizes: frozenset[str]
    places: frozenset[str]
    supported: bool

    @classmethod
    def of(cls, offer: release_pb2.OfferSpec, features: Collection[str]) -> Gate:
        """The gate of an offer, for an SDK that has `features`."""
        targeting = offer.targeting
        hours = ALL_HOURS
        if targeting.days or targeting.hours:
            hours = hours_mask(tuple(targeting.days), tuple(targeting.hours))
        return cls(
            hours,
            targeting.zone if hours != ALL_HOURS else "",
            _set(targeting.channels),
            _set(targeting.placements),
            _set(offer.sizes),
            _set(targeting.near_places),
            not offer.required_features or set(offer.required_features).issubset(features),
        )

    def open(self, where: Where, bits: Mapping[str, int], fitting: frozenset[str]) -> bool:
        """Whether the moment passes. `bits` has the bit of its hour of the week by zone (its own:
        ""), `fitting` the sizes of its placement."""
        return (
            self.supported
            and bool(self.hours & bits[self.zone])
            and (not self.channels or where.channel in self.channels)
            and (not self.placements or where.placement in self.placements)
            and (not self.sizes or not fitting or not self.sizes.isdisjoint(fitting))
            and (not self.places or not self.places.isdisjoint(where.places))
        )


class Periods(NamedTuple):
    """When an offer is valid, where that is more than one time: ascending and apart."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, targeting: release_pb2.Targeting) -> Periods:
        """Read them. Raises FormatError where they overlap, are empty or do not ascend."""
        made = cls(*zip(*((w.from_ms, w.until_ms) for w in targeting.windows), strict=True))
        if any(start >= end for start, end in zip(*made, strict=True)) or any(
            until > start for until, start in zip(made.ends, made.starts[1:], strict=False)
        ):
            raise FormatError("windows are empty or not in order")
        return made

    def edges(self, ms: int) -> tuple[int, int]:
        """The start and the end that are nearest: of the window that holds `ms`; in a gap the end
        of the one before and the start of the one after."""
        at = bisect_right(self.starts, ms) - 1
        if at < 0:
            return self.starts[0], self.ends[0]
        if ms < self.ends[at] or at + 1 == len(self.starts):
            return self.starts[at], self.ends[at]
        return self.starts[at + 1], self.ends[at]


class _Clock(NamedTuple):
    """The classes of the hour of the week in each zone, and from when until when that is so."""

    from_ms: int
    until_ms: int
    classes: tuple[int, ...]


class ZoneHours:
    """What of the time in other zones offers can tell apart. Thread-safe."""

    def __init__(self, gates: Iterable[Gate], zones: Mapping[str, Zone]) -> None:
        masks: dict[str, set[int]] = {"": set()}
        for gate in gates:
            masks.setdefault(gate.zone, set()).add(gate.hours)
        #: By the moment's own hour of the week.
        self.own = _hour_classes(masks.pop(""))
        self._zones = [(zones[name], _hour_classes(some)) for name, some in masks.items()]
        self._clock = _Clock(0, 0, ()) if self._zones else _Clock(-FOREVER_MS, FOREVER_MS, ())

    def classes(self, ms: int) -> tuple[int, ...]:
        """The class of the hour of the week in each zone: equal where no offer can tell."""
        clock = self._clock
        if not clock.from_ms <= ms < clock.until_ms:
            bounds = [zone.hour_bounds(ms) for zone, _ in self._zones]
            clock = self._clock = _Clock(
                max((begins for begins, _ in bounds), default=-FOREVER_MS),
                min((ends for _, ends in bounds), default=FOREVER_MS),
                tuple(classes[zone.hour_of_week(ms)] for zone, classes in self._zones),
            )
        return clock.classes

    def bits(self, where: Where) -> dict[str, int]:
        """The bit of the hour of the week of a moment, by zone; its own under ""."""
        bits = {zone.name: 1 << zone.hour_of_week(where.ms) for zone, _ in self._zones}
        bits[""] = 1 << (where.weekday - 1) * 24 + where.hour
        return bits


def untimely(
    targeting: release_pb2.Targeting, where: Where, zones: Mapping[str, Zone]
) -> list[Reason]:
    """Why an offer as it is written is not for this time; empty where it is.

    `zones` are those of its release by name.
    """
    weekday, hour = where.weekday, where.hour
    if targeting.zone:
        local = zones[targeting.zone].hour_of_week(where.ms)
        weekday, hour = local // 24 + 1, local % 24
    valid = [(w.from_ms, w.until_ms) for w in targeting.windows]
    valid = valid or [(targeting.valid_from_ms, targeting.valid_until_ms or FOREVER_MS)]
    between = any(until <= where.ms < start for (_, until), (start, _) in pairwise(valid))
    broken = {
        Reason.NOT_STARTED: where.ms < valid[0][0],
        Reason.BETWEEN: between,
        Reason.ENDED: where.ms >= valid[-1][1],
        Reason.DAY: bool(targeting.days) and weekday not in targeting.days,
        Reason.HOUR: bool(targeting.hours) and hour not in targeting.hours,
    }
    return [reason for reason, is_broken in broken.items() if is_broken]


def fits(offer: release_pb2.OfferSpec, fitting: Collection[str]) -> bool:
    """Whether an offer has a size that fits a placement that has these; none is any."""
    return not offer.sizes or not fitting or not set(offer.sizes).isdisjoint(fitting)


@lru_cache(maxsize=1024)
def hours_mask(days: tuple[int, ...], hours: tuple[int, ...]) -> int:
    """The hours of the week as bits; days and hours that do not exist are none of them."""
    return sum(
        1 << (day - 1) * 24 + hour
        for day in range(1, 8)
        for hour in range(24)
        if (not days or day in days) and (not hours or hour in hours)
    )


def _set(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names) if names else _NONE


def _hour_classes(masks: Collection[int]) -> list[int]:
    """Numbers the hours of the week: equal where no offer can tell them apart."""
    classes: dict[tuple[bool, ...], int] = {}
    ordered = sorted(masks)
    return [
        classes.setdefault(tuple(bool(mask >> hour & 1) for mask in ordered), len(classes))
        for hour in range(HOURS_OF_WEEK)
    ]
