"""What happened, in columns: the input of everything that foresees. Free of I/O.

One symbol is foretold at a time: a category, a kind, a channel, a part of the day, the length of a
pause. A customer's events stand together and in their order; those of one occasion (the lines of a
basket) know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

NOTHING: Final = -1
"""No symbol: nothing is foretold of such an event, and nothing counted."""

HOURS_OF_WEEK: Final = 168
# 1970 began on a Thursday; weeks begin on Monday.
_EPOCH_OFFSET: Final = 72
# Hours since what came before up to which it was just now, or in the same stay.
_RECENT: Final = np.array([0, 8, 48])
RECENCIES: Final = len(_RECENT) + 1


@dataclass(frozen=True, eq=False)
class Events:
    """n events, ascending by customer and, within one, in order of time; all columns int64[n].

    `who` is a customer's number, from 0; `hour` local hours since 1970; `symbol` what happened, 0
    to `symbols` - 1, or NOTHING; `before` and `earlier` the states that came last and second last,
    0 to `states` - 1, or NOTHING; `since` hours since the last one (0 at the first); `occasion` a
    number that events of one occasion share, ascending; `known` the local hour since 1970 from
    which on others know the symbol.
    """

    who: Ints
    hour: Ints
    symbol: Ints
    before: Ints
    earlier: Ints
    since: Ints
    occasion: Ints
    known: Ints
    symbols: int
    states: int

    def __len__(self) -> int:
        return len(self.who)

    @property
    def slot(self) -> Ints:
        """The hour of the week, int64[n]: 0 (Monday, midnight) to 167."""
        return slot_of(self.hour)

    @property
    def recency(self) -> Ints:
        """How long ago the last one was, int64[n]: 0 (in the same hour) to RECENCIES - 1."""
        return np.searchsorted(_RECENT, self.since)

    def starts(self) -> Ints:
        """The row at which each customer's events begin, and the end: int64[customers + 1]."""
        return np.concatenate([np.flatnonzero(np.diff(self.who, prepend=-1)), [len(self)]])

    def take(self, rows: Array) -> Events:
        """Some of the events: bool[n], or int64[some], rows that ascend.

        What came before each of them stays what it was, also where that is not among them.
        """
        names = ("who", "hour", "symbol", "before", "earlier", "since", "occasion", "known")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def slot_of(hour: Ints) -> Ints:
    """The hour of the week of local hours since 1970, int64[n]: 0 (Monday, midnight) to 167."""
    return (hour + _EPOCH_OFFSET) % HOURS_OF_WEEK


def events_of(
    who: Ints,
    hour: Ints,
    symbol: Ints,
    state: Ints,
    symbols: int,
    states: int,
    occasion: Ints | None = None,
) -> Events:
    """Put events in the order of their customers; within one, that of time, then as given.

    All columns are int64[n]: `who` numbers from 0, `hour` local hours since 1970, `symbol` 0 to
    `symbols` - 1 or NOTHING, `state` (0 to `states` - 1, or NOTHING) what an event leaves behind
    for the next one, often its symbol. Where `occasion` is None each event is one of its own. What
    came before an occasion is the last state of the occasion before it. Row i of the answer is row
    `np.lexsort((np.arange(n), hour, who))[i]` of what was given.
    """
    order = np.lexsort((np.arange(len(who)), hour, who))
    who, hour, symbol, state = (column[order] for column in (who, hour, symbol, state))
    own = np.arange(len(who)) if occasion is None else occasion[order]
    first = np.ones(len(who), bool)
    first[1:] = (own[1:] != own[:-1]) | (who[1:] != who[:-1])
    number = np.cumsum(first) - 1
    begins = np.flatnonzero(first)
    ends = np.append(begins[1:], len(who)) - 1
    last = np.full(len(begins) + 2, NOTHING)
    last[2:] = state[ends]
    owner = np.full(len(begins) + 2, NOTHING)
    owner[2:] = who[begins] if len(begins) else owner[2:]
    at = np.zeros(len(begins) + 1, np.int64)
    at[1:] = hour[begins]
    one = np.where(owner[number + 1] == who, last[number + 1], NOTHING)
    two = np.where(owner[number] == who, last[number], NOTHING)
    alone = owner[number + 1] != who
    since = np.where(alone, 0, hour[begins][number] - at[number])
    return Events(who, hour, symbol, one, two, since, number, hour, symbols, states)


def codes(values: Sequence[str | None]) -> tuple[Ints, list[str]]:
    """Number n names in the order of the alphabet: int64[n] (None is NOTHING), and the names."""
    names = sorted({value for value in values if value is not None})
    numbers = {name: i for i, name in enumerate(names)}
    found = [NOTHING if value is None else numbers[value] for value in values]
    return np.array(found, np.int64), names
