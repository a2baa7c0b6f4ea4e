"""What foreseeing must beat, and how sure a difference is. Free of I/O.

Rules.
- All know the same: what everybody does is counted up to an hour, what a customer did up to the
  occasion that is asked about, and only what others knew by then.
- *Popularity* is what most customers do, *frequency* what this customer did most often (the
  popularity as one more count), *markov* what most often follows what they did last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from genome_server.foresee.columns import NOTHING, Array, Events, Ints

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_DRAWS: Final = 1_000


def plain(
    events: Events, crowd_until: int, wanted: Mask
) -> Iterator[tuple[int, dict[str, Floats]]]:
    """What must be beaten: (row, name → distribution float64[symbols]) of each wanted event.

    Popularity and what follows what are counted up to an hour, the customer's own plainly up to
    the occasion; each has the popularity as one more count. `wanted` is bool[n].
    """
    told = (events.symbol != NOTHING) & (events.known <= crowd_until)
    counted = np.bincount(events.symbol[told], minlength=events.symbols) + 1.0 / events.symbols
    popular: Floats = counted / counted.sum()
    follows = np.zeros((events.states + 1, events.symbols))
    before = np.where(events.before == NOTHING, events.states, events.before)
    np.add.at(follows, (before[told], events.symbol[told]), 1.0)
    follows += popular
    follows /= follows.sum(axis=1, keepdims=True)
    starts = events.starts()
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if not wanted[begin:end].any():
            continue
        counts = popular.copy()
        waiting: list[int] = []
        for row in range(begin, end):
            still = []
            for one in waiting:
                seen = events.occasion[one] < events.occasion[row]
                if seen and events.known[one] <= events.hour[row]:
                    counts[events.symbol[one]] += 1.0
                else:
                    still.append(one)
            waiting = still
            if wanted[row]:
                yield (
                    row,
                    {
                        "popularity": popular,
                        "frequency": counts / counts.sum(),
                        "markov": follows[before[row]],
                    },
                )
            if events.symbol[row] != NOTHING:
                waiting.append(row)


def plain_pauses(events: Events, hours: Ints, until: int, rows: Ints) -> dict[str, Floats]:
    """Medians in hours, float64[rows]: of all pauses, of the own ones, of those after a state.

    `events` and `hours` int64[n] (-1: not ended) are those of `pauses_of`; pauses of everybody are
    those that had ended by the hour `until`, of which there is at least one.
    """
    told = (hours >= 0) & (events.known <= until)
    everybody = float(np.median(hours[told]))
    after = np.full(events.states + 1, everybody)
    for state in np.unique(events.before[told]).tolist():
        after[state] = np.median(hours[told & (events.before == state)])
    own = np.full(len(rows), everybody)
    starts = events.starts()
    begins = starts[np.searchsorted(starts, rows, side="right") - 1]
    for i, (begin, row) in enumerate(zip(begins.tolist(), rows.tolist(), strict=True)):
        past = slice(begin, row)
        seen = (hours[past] >= 0) & (events.known[past] <= events.hour[row])
        seen &= events.occasion[past] < events.occasion[row]
        if seen.any():
            own[i] = np.median(hours[past][seen])
    return {
        "popularity": np.full(len(rows), everybody),
        "frequency": own,
        "markov": after[events.before[rows]],
    }


def interval(difference: Array, who: Ints, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a mean over cases, by drawing persons with replacement 1,000 times.

    `difference` is float64[cases], `who` int64[cases] whose each case is; at least one case.
    """
    _, person = np.unique(who, return_inverse=True)
    sums = np.bincount(person, difference)
    counts = np.bincount(person).astype(float)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_DRAWS):
        times = np.bincount(rng.integers(0, len(sums), len(sums)), minlength=len(sums))
        drawn.append((sums @ times) / (counts @ times))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
