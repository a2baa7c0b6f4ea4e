"""At what time of day and on which day a customer comes again. Free of I/O.

Rules.
- What happens within one hour of the clock is one visit: that a basket has twenty lines says
  nothing about when the next one is.
- The state that a visit leaves behind is its weekday and part of the day.
- A moment is foretold as right after the last visit. Of who has been away since, the pauses that
  would have ended already are ruled out (Bayes: the chance of a moment times the chance that a
  pause that ends at such a moment lasts as long as this one has).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import time_markers
from genome_server.foresee.columns import HOURS_OF_WEEK, Ints, slot_of
from genome_server.foresee.pauses import EDGES

Floats = npt.NDArray[np.float64]

_WIDTH: Final = EDGES[1:] - EDGES[:-1]


@lru_cache(maxsize=HOURS_OF_WEEK)
def _names(slot: int) -> tuple[str, str]:
    found = dict(one.split(":", 1) for one in time_markers(slot // 24 + 1, slot % 24))
    return found["daypart"], found["weekday"]


def moments_of(hours: Ints) -> list[tuple[str, str]]:
    """The part of the day and the weekday of local hours since 1970, int64[n]."""
    return [_names(slot) for slot in slot_of(hours).tolist()]


def states_of(hours: Ints) -> list[str]:
    """The state that visits in these local hours, int64[n], leave behind."""
    return [f"{weekday} {part}" for part, weekday in moments_of(hours)]


def visits_of(who: Ints, hour: Ints) -> Ints:
    """The rows at which visits end, ascending: the last one of each customer and hour.

    `who` and `hour` are int64[n], in the order of time.
    """
    keys = who * (1 << 40) + hour
    _, from_end = np.unique(keys[::-1], return_index=True)
    found: Ints = np.sort(len(keys) - 1 - from_end)
    return found


def since_then(
    chances: Floats, names: Sequence[str], pause: Floats, last: int, elapsed: int
) -> Floats | None:
    """Chances of a moment, float64[symbols], of who has been away for `elapsed` hours.

    `chances` are those right after the visit in the local hour `last`, of the symbols `names`
    (parts of the day, or weekdays); `pause` float64[CLASSES] how long the pause was foretold to be.
    None where none of what was foretold lasts as long.
    """
    number = {name: i for i, name in enumerate(names)}
    lasts = np.arange(EDGES[-1])
    every = moments_of((last + np.arange(HOURS_OF_WEEK)).astype(np.int64))
    at = np.array(
        [next((number[name] for name in both if name in number), -1) for both in every], np.int64
    )[lasts % HOURS_OF_WEEK]
    each = np.repeat(pause / _WIDTH, _WIDTH)
    known = at >= 0
    whole = np.bincount(at[known], each[known], minlength=len(names))
    still = known & (lasts >= elapsed)
    left = np.bincount(at[still], each[still], minlength=len(names))
    found: Floats = chances * np.divide(left, whole, out=np.zeros(len(names)), where=whole > 0)
    total = found.sum()
    return found / total if total > 0 else None
