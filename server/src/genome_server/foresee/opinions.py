"""What comes next, in the opinion of the crowd, of the customer's own past, and of the genome.

Rules.
- The crowd is counted up to an hour, from what was known by then; a customer's own past up to the
  occasion that is asked about.
- Every opinion is a distribution over all symbols. One that knows little leans on the one that it
  refines: the crowd after this state on the crowd, the own habit at this hour on the own habit.
- The own past fades by half-lives; only the newest events of a customer are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from genome_server.foresee.columns import HOURS_OF_WEEK, NOTHING, RECENCIES, Array, Events, Ints

Floats = npt.NDArray[np.float64]

CROWD: Final = ("popular", "lately", "after", "after_two")
OWN: Final = ("own_slow", "own_fast", "own_after")
TIMED: Final = ("hour", "own_hour")

SLOW_HOURS: Final = 120 * 24
FAST_HOURS: Final = 14 * 24
_LATELY_HOURS: Final = 30 * 24
# Cases that an opinion gives to the one it leans on.
_LEAN: Final = 2.0
_LEAN_CROWD: Final = 10.0
_OWN_EVENTS: Final = 2_000
_ROWS_AT_ONCE: Final = 256
_HISTORY: Final = np.array([1, 3, 8, 32, 128])
"""Own events from which on a customer is in the next group."""
GROUPS: Final = (len(_HISTORY) + 1) * RECENCIES


class Asked(NamedTuple):
    """Opinions on some events: their rows, float64[n, opinions, symbols], and groups int64[n]."""

    rows: Ints
    opinions: Floats
    group: Ints


@dataclass(frozen=True, eq=False)
class Crowd:
    """What everybody does, as counted up to an hour.

    `popular` and `lately` float64[symbols] sum to 1; `hour` float64[168, symbols]; `after`
    float64[(states + 1) * RECENCIES, symbols]; `pairs` the pairs of states that were seen,
    ascending, and `after_two` float64[pairs, symbols] what followed them. Rows sum to 1.
    """

    symbols: int
    states: int
    timed: bool
    events: int
    popular: Floats
    lately: Floats
    hour: Floats
    after: Floats
    pairs: Ints
    after_two: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """The opinions, in the order in which `opinions` gives them."""
        return (*CROWD, *OWN, *TIMED) if self.timed else (*CROWD, *OWN)

    def after_key(self, events: Events) -> Ints:
        """The row of `after` for each event; what came before a first event is a state, too."""
        recency = events.recency if self.timed else np.zeros(len(events), np.int64)
        before = np.where(events.before == NOTHING, self.states, events.before)
        return before * RECENCIES + recency

    def pair_key(self, events: Events) -> Ints:
        """The number of the last two states of each event."""
        known = np.stack([events.earlier, events.before]) + 1
        found: Ints = known[0] * (self.states + 1) + known[1]
        return found


def count_crowd(events: Events, until: int, *, timed: bool) -> Crowd:
    """What everybody did and others knew by the hour `until`.

    `timed`: the hour of what is asked about is known, and how long ago the last event was.
    """
    told = events.take((events.symbol != NOTHING) & (events.known <= until))
    symbols, states = events.symbols, events.states
    flat = np.full(symbols, 1.0 / max(symbols, 1))
    popular = _leaning(np.bincount(told.symbol, minlength=symbols), flat, 1.0)
    fading = np.exp2((told.known - until) / _LATELY_HOURS)
    lately = np.bincount(told.symbol, fading, minlength=symbols)
    crowd = Crowd(
        symbols, states, timed, len(told), popular, _leaning(lately, popular, _LEAN_CROWD),
        hour=np.zeros((0, symbols)), after=np.zeros((0, symbols)),
        pairs=np.zeros(0, np.int64), after_two=np.zeros((0, symbols)),
    )  # fmt: skip
    key = crowd.after_key(told)
    counts = _table(key, told.symbol, (states + 1) * RECENCIES, symbols)
    by_state = counts.reshape(states + 1, RECENCIES, symbols).sum(axis=1)
    leaned = _leaning(by_state, popular, _LEAN_CROWD)
    after = _leaning(counts, np.repeat(leaned, RECENCIES, axis=0), _LEAN_CROWD)
    pairs, at = np.unique(crowd.pair_key(told), return_inverse=True)
    base = leaned[(pairs % (states + 1)) - 1]
    after_two = _leaning(_table(at, told.symbol, len(pairs), symbols), base, _LEAN_CROWD)
    hour = np.zeros((0, symbols))
    if timed:
        by_hour = _table(told.slot, told.symbol, HOURS_OF_WEEK, symbols)
        hour = _leaning(alike_hours() @ by_hour, popular, _LEAN_CROWD)
    return Crowd(
        symbols, states, timed, len(told), popular, crowd.lately, hour, after, pairs, after_two
    )


def ask(events: Events, crowd: Crowd, wanted: npt.NDArray[np.bool_]) -> Iterator[Asked]:
    """The opinions on the wanted events, some rows of one customer at a time.

    `wanted` bool[n]; of a customer only who has wanted events is looked at.
    """
    keys = _Keys(
        after=crowd.after_key(events),
        two=_places(crowd.pairs, crowd.pair_key(events)),
        slot=events.slot,
        recency=events.recency if crowd.timed else np.zeros(len(events), np.int64),
        alike=alike_hours(),
    )
    starts = events.starts()
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        rows = begin + np.flatnonzero(wanted[begin:end])
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[first : first + _ROWS_AT_ONCE]
            yield _own(events, crowd, begin, some, keys)


class _Keys(NamedTuple):
    """Of each event, where it stands in what the crowd says; and how alike two hours are."""

    after: Ints
    two: Ints
    slot: Ints
    recency: Ints
    alike: Floats


def _own(events: Events, crowd: Crowd, begin: int, rows: Ints, keys: _Keys) -> Asked:
    """The opinions on some rows of the customer whose events begin there."""
    low = max(begin, int(rows[0]) - _OWN_EVENTS)
    past = np.arange(low, int(rows[-1]))
    past = past[events.symbol[past] != NOTHING]
    earlier = events.occasion[past] < events.occasion[rows][:, None]
    earlier &= events.known[past] <= events.hour[rows][:, None]
    age = np.maximum(events.hour[rows][:, None] - events.hour[past], 0)
    one_hot = np.zeros((len(past), crowd.symbols))
    one_hot[np.arange(len(past)), events.symbol[past]] = 1.0
    slow = earlier * np.exp2(-age / SLOW_HOURS)
    popular = np.broadcast_to(crowd.lately, (len(rows), crowd.symbols))
    opinions = np.empty((len(rows), len(crowd.names), crowd.symbols))
    opinions[:, 0] = crowd.popular
    opinions[:, 1] = crowd.lately
    opinions[:, 2] = crowd.after[keys.after[rows]]
    pair = keys.two[rows]
    known = pair >= 0
    opinions[:, 3] = opinions[:, 2]
    opinions[known, 3] = crowd.after_two[pair[known]]
    own = opinions[:, 4] = _leaning(slow @ one_hot, popular, _LEAN)
    fast = earlier * np.exp2(-age / FAST_HOURS)
    opinions[:, 5] = _leaning(fast @ one_hot, own, _LEAN)
    same = events.before[past] == events.before[rows][:, None]
    opinions[:, 6] = _leaning((slow * same) @ one_hot, own, _LEAN)
    if crowd.timed:
        slot = keys.slot
        opinions[:, 7] = crowd.hour[slot[rows]]
        near = keys.alike[slot[rows]][:, slot[past]]
        opinions[:, 8] = _leaning((slow * near) @ one_hot, own, _LEAN)
    history = np.searchsorted(_HISTORY, earlier.sum(axis=1), side="right")
    return Asked(rows, opinions, history * RECENCIES + keys.recency[rows])


def _leaning(counts: Array, base: Floats, cases: float) -> Floats:
    """Counts as chances, float64[..., symbols], with some cases of `base` mixed in."""
    leaned = counts + cases * base
    chances: Floats = leaned / leaned.sum(axis=-1, keepdims=True)
    return chances


def _table(key: Ints, symbol: Ints, keys: int, symbols: int) -> Floats:
    counted = np.bincount(key * symbols + symbol, minlength=keys * symbols)
    table: Floats = counted.reshape(keys, symbols).astype(float)
    return table


def _places(ascending: Ints, wanted: Ints) -> Ints:
    """Where each wanted number stands among the ascending ones; -1: nowhere."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[at] == wanted, at, -1)


def alike_hours() -> Floats:
    """How alike two hours of the week are, float64[168, 168]: the time, and the kind of day."""
    hour, day = np.arange(HOURS_OF_WEEK) % 24, np.arange(HOURS_OF_WEEK) // 24
    apart = np.abs(hour[:, None] - hour)
    apart = np.minimum(apart, 24 - apart)
    free = day >= 5
    day_alike = np.where(day[:, None] == day, 1.0, np.where(free[:, None] == free, 0.6, 0.15))
    alike: Floats = np.exp(-0.5 * (apart / 1.5) ** 2) * day_alike
    return alike
