"""Routines: where a customer is at home, at work, on a journey, and what they usually do now.

Learned on the device from the cells and places of a customer's moments, with their consent to
LOCATION, and used as markers of later moments:

- `routine:home`, `routine:work`: the cell is one in which they spend their nights, or their working
  hours, on several days.
- `routine:travelling`: this region is not one in which they usually are.
- `routine:usual`: they are where they usually are at this time ("Tuesday evening").
- `routine:usual-bar`: a bar is what they usually are at about now; its salience is how likely.

What is kept of somebody, in memory: hours by cell (resolution 9, at most 64 cells), days by region
(resolution 5), and habits over kinds of place and over cells of resolution 7. All of it fades by
half in sixty days. Of the cells nothing leaves memory; the names above do, as markers. `derived` is
what may outlive the process: kinds of place and regions, by which a routine goes on; home and work
are then learned again.

No input or output here, and no lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edge_sdk.context import REGION_RESOLUTION, LocalTime
from edge_sdk.engine.cells import parent, resolution
from edge_sdk.engine.habits import ALL_SYMBOLS, Habit, When, likely, weight_at

HOME: Final = "routine:home"
WORK: Final = "routine:work"
TRAVELLING: Final = "routine:travelling"
USUAL: Final = "routine:usual"

STAY_RESOLUTION: Final = 9
MOVE_RESOLUTION: Final = 7
_PLACE: Final = "place:"
# The kind of where no place is known, so that a bar a month is not all that somebody does.
_NOWHERE: Final = ""
# A marker is made of it, which has an end.
_LONGEST_KIND: Final = 100
_MAX_CELLS: Final = 64
_MAX_REGIONS: Final = 64
# Away for longer than this, what came before has nothing to do with what comes.
_VISIT_DAYS: Final = 8 / 24
# The same again within this is the same visit.
_SAME_DAYS: Final = 0.25 / 24
# Days on which something must have been so before it is a routine.
_LEAST_DAYS: Final = 3
_LEAST_HISTORY_DAYS: Final = 7
# Of the strongest cell's hours; a home may lie on the edge of a cell.
_SHARE_OF_STRONGEST: Final = 0.5
# Of the days on which somebody was seen: less is no region of theirs.
_SHARE_OF_DAYS: Final = 0.1
_LEAST_LIKELY: Final = 0.25
# Hours of a working day, and of the night, local time.
_AT_WORK: Final = range(9, 17)
_AT_HOME: Final = frozenset({20, 21, 22, 23, 0, 1, 2, 3, 4, 5, 6})
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

Markers = tuple[tuple[str, float], ...]


class _Stays:
    """Hours that somebody spent in cells, and on how many days. Of the newest day one is told."""

    def __init__(self) -> None:
        self._hours: dict[int, float] = {}
        self._days: dict[int, tuple[int, int]] = {}

    def note(self, cell: int, when: When) -> None:
        """Somebody was in a cell during an hour."""
        today = int(when.days)
        self._hours[cell] = self._hours.get(cell, 0.0) + weight_at(when.days)
        days, newest = self._days.get(cell, (0, -1))
        self._days[cell] = (days + (newest != today), today)
        if len(self._hours) > _MAX_CELLS:
            weakest = min(self._hours, key=self._hours.__getitem__)
            del self._hours[weakest], self._days[weakest]

    def among_strongest(self, cell: int) -> bool:
        """Whether a cell is one of those with most hours, on enough days."""
        hours = self._hours.get(cell, 0.0)
        if not hours or self._days[cell][0] < _LEAST_DAYS:
            return False
        return hours >= _SHARE_OF_STRONGEST * max(self._hours.values())


class Routine:
    """The routine of one customer. For one thread."""

    def __init__(self) -> None:
        self._nights = _Stays()
        self._work = _Stays()
        # Region → days on which somebody was there, what is older counting less; and the newest.
        self._regions: dict[int, float] = {}
        self._today: tuple[int, frozenset[int]] = (-1, frozenset())
        self._days = 0
        self.kinds: Habit[str] = Habit()
        self.cells: Habit[int] = Habit()
        self._last_kind: tuple[str, float] | None = None
        self._last_cell: tuple[int, float] | None = None
        self._hour: tuple[object, ...] = ()

    # Learning -----------------------------------------------------------------------------------

    def note(self, cell: int, kinds: Sequence[str], when: When, everybody: Everybody) -> None:
        """A moment of the customer: a cell of any resolution, and the kinds of place that it is
        at ("bar"), the likeliest first; empty: none that is known."""
        moved = parent(cell, MOVE_RESOLUTION) if resolution(cell) >= MOVE_RESOLUTION else None
        stay = parent(cell, STAY_RESOLUTION) if resolution(cell) >= STAY_RESOLUTION else None
        hour = (int(when.days), when.hour, stay)
        if hour != self._hour:
            self._hour = hour
            self._note_stay(cell, stay, when)
        if moved is not None:
            if not _stays(self._last_cell, moved, when):
                self.cells.note(moved, when, None)
            self._last_cell = moved, when.days
        known = bool(kinds) and len(kinds[0]) <= _LONGEST_KIND
        kind = kinds[0] if known else _NOWHERE
        if not _stays(self._last_kind, kind, when):
            before = _before(self._last_kind, when)
            self.kinds.note(kind, when, before)
            everybody.kinds.note(kind, when, before)
        self._last_kind = kind, when.days

    def _note_stay(self, cell: int, stay: int | None, when: When) -> None:
        if stay is not None and when.hour in _AT_HOME:
            self._nights.note(stay, when)
        elif stay is not None and when.hour in _AT_WORK and not when.weekend:
            self._work.note(stay, when)
        region = _region(cell)
        today = int(when.days)
        if self._today[0] != today:
            self._today = (today, frozenset())
            self._days += 1
        if region is None or region in self._today[1]:
            return
        self._today = (today, self._today[1] | {region})
        self._regions[region] = self._regions.get(region, 0.0) + weight_at(when.days)
        if len(self._regions) > _MAX_REGIONS:
            del self._regions[min(self._regions, key=self._regions.__getitem__)]

    # What outlives the process ------------------------------------------------------------------

    @property
    def days(self) -> int:
        """On how many days the customer was seen."""
        return self._days

    def derived(self) -> dict[str, Any]:
        """What is coarse or derived, in lists and numbers: no cell finer than a region."""
        regions = {f"{cell:x}": float(f"{w:.4g}") for cell, w in self._regions.items()}
        return {"days": self._days, "regions": regions, "kinds": self.kinds.plain()}

    def resume(self, said: Mapping[str, Any], everybody: Everybody) -> None:
        """Go on from what `derived` said. Raises ValueError, TypeError or KeyError for what is
        none, and then nothing is changed."""
        days, kinds = int(said["days"]), Habit.from_plain(said["kinds"])
        regions = {int(cell, 16): float(weight) for cell, weight in said["regions"].items()}
        self._days += days
        for cell, weight in regions.items():
            self._regions[cell] = self._regions.get(cell, 0.0) + weight
        self.kinds.more(kinds)
        everybody.kinds.more(kinds)

    # Asking -------------------------------------------------------------------------------------

    def markers(self, cell: int, kinds: Sequence[str], when: When, everybody: Everybody) -> Markers:
        """What a routine says of a moment: markers, each with its salience."""
        found: list[tuple[str, float]] = []
        stay = parent(cell, STAY_RESOLUTION) if resolution(cell) >= STAY_RESOLUTION else None
        home = stay is not None and self._nights.among_strongest(stay)
        if home:
            found.append((HOME, 1.0))
        elif stay is not None and self._work.among_strongest(stay):
            found.append((WORK, 1.0))
        if self._is_away(_region(cell)):
            found.append((TRAVELLING, 1.0))
        usual = self.usual_kinds(when, everybody)
        if self._is_usual(cell, when) or any(kind in kinds[:1] for kind, _ in usual):
            found.append((USUAL, 1.0))
        found += [(_usually(kind), chance) for kind, chance in usual]
        return tuple(found)

    def likely_kinds(self, when: When, everybody: Everybody) -> list[tuple[str, float]]:
        """Which kind of place comes next, with its probability, the likeliest first."""
        return likely(self.kinds, everybody.kinds, when, _before(self._last_kind, when))

    def usual_kinds(self, when: When, everybody: Everybody) -> list[tuple[str, float]]:
        """The kinds of place that somebody usually is at now, in eighths of certainty."""
        if self._days < _LEAST_DAYS:
            return []
        return [
            (kind, round(chance * 8) / 8)
            for kind, chance in self.likely_kinds(when, everybody)[:4]
            if kind != _NOWHERE
            and chance >= _LEAST_LIKELY
            and self.kinds.sightings(kind, when.days) >= _LEAST_DAYS
        ]

    def _is_usual(self, cell: int, when: When) -> bool:
        if resolution(cell) < MOVE_RESOLUTION or self._days < _LEAST_DAYS:
            return False
        moved = parent(cell, MOVE_RESOLUTION)
        if self.cells.sightings(moved, when.days) < _LEAST_DAYS:
            return False
        return dict(likely(self.cells, None, when, None)).get(moved, 0.0) >= _LEAST_LIKELY

    def _is_away(self, region: int | None) -> bool:
        if region is None or self._days < _LEAST_HISTORY_DAYS:
            return False
        whole = sum(self._regions.values())
        return self._regions.get(region, 0.0) < _SHARE_OF_DAYS * whole


class Everybody:
    """The habits of all customers of a device together. For one thread."""

    def __init__(self) -> None:
        self.kinds: Habit[str] = Habit(ALL_SYMBOLS)

    def forget(self, routine: Routine) -> None:
        """Take out what a customer has put in."""
        self.kinds.less(routine.kinds)


def when_of(local: LocalTime) -> When:
    """A moment as habits see it: the local day is the one of that weekday within three days."""
    day = local.ms // _DAY_MS
    day += (local.weekday - _weekday(day) + 3) % 7 - 3
    return When(day + local.hour / 24 + local.ms % _HOUR_MS / _DAY_MS, local.weekday, local.hour)


def _weekday(day: int) -> int:
    return (day + 3) % 7 + 1  # the first day of 1970 was a Thursday


def kinds_of(places: Iterable[tuple[str, float]]) -> tuple[str, ...]:
    """The kinds of place of markers with saliences, the likeliest first."""
    ordered = sorted(places, key=lambda one: (-one[1], one[0]))
    return tuple(name.removeprefix(_PLACE) for name, _ in ordered if name.startswith(_PLACE))


def _stays(last: tuple[Any, float] | None, symbol: Any, when: When) -> bool:
    """Whether somebody is still where they were, or at the same kind of place."""
    return last is not None and last[0] == symbol and 0 <= when.days - last[1] < _SAME_DAYS


def _before(last: tuple[Any, float] | None, when: When) -> Any:
    """What came before, unless it was too long ago."""
    return last[0] if last is not None and 0 <= when.days - last[1] < _VISIT_DAYS else None


def _region(cell: int) -> int | None:
    return parent(cell, REGION_RESOLUTION) if resolution(cell) >= REGION_RESOLUTION else None


def _usually(kind: str) -> str:
    return f"{USUAL}-{kind}"
