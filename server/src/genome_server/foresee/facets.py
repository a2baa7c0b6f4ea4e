"""What is foretold of a customer, one column at a time, over everybody who was read. Free of I/O.

Rules.
- Action and category are those of the next event; channel, part of the day and weekday are those of
  the next visit; the pause is that after the last visit.
- The crowd are events of ids that agreed to learning; the asked customer's own are all of theirs
  that may be told of them.
- Weights are fitted on the newest fifth of what happened; of that at most some thousand cases are
  looked at, evenly spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from genome_server.foresee import pauses
from genome_server.foresee.columns import NOTHING, Events, Ints, codes, events_of
from genome_server.foresee.model import Forecaster, Meet, fit
from genome_server.foresee.moments import visits_of
from genome_server.foresee.reading import Happened

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_MOST_CASES: Final = 4_000
_MOST_NAMES: Final = 400
_MOST_STATES: Final = 64
REST: Final = "(others)"
"""What all symbols beyond the 400 most frequent ones of a column are counted as."""


@dataclass(frozen=True, eq=False)
class Columns:
    """n - 1 events in order of time, and a last row that is no event: the asked customer, now.

    `who` int64[n] numbers persons, whose root subjects are `roots`; `at_ms` int64[n] is Unix time
    and `hour` int64[n] local hours since 1970; `events` are None in the last row. `crowd` bool[n]:
    of an id that agreed to learning; `drawn` bool[n]: read whoever is asked about. `asked` is the
    number of who is asked about.
    """

    who: Ints
    at_ms: Ints
    hour: Ints
    events: list[Happened | None]
    crowd: Mask
    drawn: Mask
    asked: int
    roots: list[bytes]

    @property
    def own(self) -> Mask:
        """The asked customer's rows, bool[n], the last one included."""
        mine: Mask = self.who == self.asked
        return mine

    def of(self, get: Callable[[Happened], str | None]) -> list[str | None]:
        """A fact of every event; None of the one that is none."""
        return [None if event is None else get(event) for event in self.events]

    @property
    def visits(self) -> Ints:
        """The rows at which visits end, int64[visits + 1], ascending; the last one is no visit."""
        return np.append(self.visits_with(None), len(self.who) - 1)

    def visits_with(self, kind: str | None) -> Ints:
        """The rows at which visits end, ascending: as far as something of a kind was done in them
        (None: anything)."""
        rows = np.arange(len(self.who) - 1)
        if kind is not None:
            did = [event is not None and event.kind == kind for event in self.events[:-1]]
            rows = np.flatnonzero(np.array(did, bool))
        found: Ints = rows[visits_of(self.who[rows], self.hour[rows])]
        return found


@dataclass(frozen=True, eq=False)
class Facet:
    """One column: n rows by customer and time.

    `names` are the symbols of `events`; `crowd`, `own`, `drawn` bool[n] as in `Columns`. `timed`:
    the hour of what is asked about is known. `meet` and `own_meet` take rows of `events`: the
    genome before what the crowd did, by what the crowd did; and before what the asked one did.
    """

    events: Events
    names: list[str]
    crowd: Mask
    own: Mask
    drawn: Mask
    timed: bool = False
    meet: Meet | None = None
    own_meet: Meet | None = None

    def fitted(self, until: int, among: Mask | None = None) -> Forecaster:
        """Learn from what the crowd did up to a local hour since 1970.

        `among` bool[n] narrows whose.
        """
        rows = np.flatnonzero(self.crowd if among is None else self.crowd & among)
        events = self.events.take(rows)
        told = (events.hour <= until) & (events.known <= until)
        hours = np.sort(events.hour[events.hour <= until])
        start = int(hours[round(0.8 * len(hours)) - 1]) if len(hours) else until
        newest = np.flatnonzero(told & (events.hour > start) & (events.symbol != NOTHING))
        sample = np.zeros(len(events), bool)
        sample[newest[:: max(1, len(newest) // _MOST_CASES)]] = True
        return fit(events, start, until, timed=self.timed, meet=_at(self.meet, rows), sample=sample)

    def told(self, forecaster: Forecaster, row: int) -> Floats:
        """The chances of the asked customer's row, float64[symbols], from their own past."""
        rows = np.flatnonzero(self.own)
        found: Floats = self._asked(forecaster, self.events.take(rows), rows == row, rows)[0]
        return found

    def told_of_any(self, forecaster: Forecaster) -> Floats:
        """The same of the asked customer's last row, as if what came last were not known.

        It is the mean of what would be said after each of their newest rows, 64 at most.
        """
        rows = np.flatnonzero(self.own)
        past = rows[:-1][-_MOST_STATES:]
        wanted = np.arange(len(rows) - 1 + max(len(past), 1)) >= len(rows) - 1
        rows = np.append(rows, np.repeat(rows[-1], len(wanted) - len(rows)))
        events = self.events.take(rows)
        if len(past):
            before, earlier = events.before.copy(), events.earlier.copy()
            before[wanted], earlier[wanted] = self.events.before[past], self.events.earlier[past]
            events = replace(events, before=before, earlier=earlier)
        found: Floats = self._asked(forecaster, events, wanted, rows).mean(axis=0)
        return found

    def _asked(self, forecaster: Forecaster, events: Events, wanted: Mask, rows: Ints) -> Floats:
        return forecaster.foretell(events, wanted, _at(self.own_meet, rows))[1]


def _at(meet: Meet | None, rows: Ints) -> Meet | None:
    return None if meet is None else lambda some: meet(rows[some])


def facet(
    columns: Columns,
    what: Sequence[str | None],
    state: Sequence[str | None],
    *,
    rows: Ints | None = None,
    meet: Meet | None = None,
    own_meet: Meet | None = None,
) -> Facet:
    """A column of `what` happened in some rows of the columns (None: all), ascending.

    `what` and `state` have one entry for each of these rows; `meet` and `own_meet` take rows of the
    columns.
    """
    some = np.arange(len(columns.who)) if rows is None else rows
    symbol, names = codes(frequent(what))
    after, states = codes(frequent(state))
    who, hour = columns.who[some], columns.hour[some]
    order = some[np.lexsort((np.arange(len(some)), hour, who))]
    return Facet(
        events_of(who, hour, symbol, after, len(names), len(states)), names,
        columns.crowd[order], columns.own[order], columns.drawn[order],
        meet=_at(meet, order), own_meet=_at(own_meet, order),
    )  # fmt: skip


def pause_facet(
    columns: Columns, state: Sequence[str | None], until: str | None = None
) -> tuple[Facet, Ints]:
    """The pauses after visits, and their hours int64[visits], -1: not ended.

    `state` has one entry for each row of the columns: what that event leaves behind. `until`: of
    visits in which something of that kind was done, and until the next such visit.
    """
    last = columns.visits_with(until)
    after, states = codes(frequent([state[row] for row in last.tolist()]))
    who, hour = columns.who[last], columns.hour[last]
    order = np.lexsort((np.arange(len(last)), hour, who))
    visits = events_of(who, hour, after, after, len(states), len(states))
    events, hours = pauses.pauses_of(visits, after[order])
    rows = last[order]
    names = [str(edge) for edge in pauses.EDGES[:-1].tolist()]
    found = Facet(
        events, names, columns.crowd[rows], columns.own[rows], columns.drawn[rows], timed=True
    )
    return found, hours


def frequent(values: Sequence[str | None]) -> list[str | None]:
    """The values, of which the rarest are one: tables of what follows what grow with the square."""
    counts = Counter(value for value in values if value is not None)
    if len(counts) <= _MOST_NAMES:
        return list(values)
    ranked = sorted(counts, key=lambda name: (name == REST, -counts[name], name))
    kept = set(ranked[: _MOST_NAMES - 1])
    return [value if value is None or value in kept else REST for value in values]
