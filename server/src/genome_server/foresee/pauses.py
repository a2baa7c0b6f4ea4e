"""How long until a customer comes again: a pause is a symbol like any other.

Theory. Pauses have daily and weekly humps that no smooth law has, and of one customer there are
few. So a pause is counted in classes, whose width grows with its length, and what is foretold is a
distribution over the classes: the customer's own pauses lean on those of the crowd, as opinions on
categories do. The median and the interval are read off it; within a class all hours are alike. Who
has been away for a while already has the part that lies ahead, made whole.

It speaks of customers who come again: of who never will it says nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from genome_server.foresee.columns import NOTHING, Array, Events, Ints

Floats = npt.NDArray[np.float64]

NEVER: Final = np.iinfo(np.int64).max
# Below this share of pauses that last longer, what is left is but what was mixed in.
_HARDLY_ANY: Final = 0.01
_LONGEST: Final = 24 * 366 * 3
#: Where classes begin, in hours: hour by hour for a day, wider and wider after that.
EDGES: Final[Ints] = np.unique(
    np.concatenate(
        [
            np.arange(25),
            np.arange(26, 72, 2),
            np.arange(72, 240, 6),
            np.arange(240, 1440, 24),
            np.geomspace(1440, _LONGEST, 16).round().astype(np.int64),
        ]
    )
)
CLASSES: Final = len(EDGES) - 1


class Span(NamedTuple):
    """Hours: `low` and `high` enclose the middle 80 %, `median` halves it."""

    low: float
    median: float
    high: float


def class_of(hours: Ints) -> Ints:
    """The class of each pause, int64[n]."""
    found: Ints = np.clip(np.searchsorted(EDGES, hours, side="right") - 1, 0, CLASSES - 1)
    return found


def pauses_of(events: Events, state: Ints, own: Array | None = None) -> tuple[Events, Ints]:
    """The pause after each event, as a symbol; and its hours, int64[n], -1: it has not ended.

    `state` int64[n] is what an event leaves behind. `own` bool[n] says which events end a pause
    (None: all); those of one occasion do not follow each other.
    """
    n = len(events)
    ends = np.ones(n, bool) if own is None else np.asarray(own, bool)
    following = np.full(n, -1)
    starts = events.starts()
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        at = begin + np.flatnonzero(ends[begin:end])
        if not len(at):
            continue
        place = np.searchsorted(events.occasion[at], events.occasion[begin:end], side="right")
        there = place < len(at)
        following[begin:end][there] = at[place[there]]
    ended = following >= 0
    until = events.hour[np.maximum(following, 0)]
    hours = np.where(ended, until - events.hour, -1)
    return (
        replace(
            events,
            symbol=np.where(ended, class_of(hours), NOTHING),
            known=np.where(ended, until, NEVER),
            before=state,
            earlier=events.before,
            symbols=CLASSES,
        ),
        hours,
    )


def ahead(chances: Floats, elapsed: Ints) -> Floats:
    """Chances of pauses of which so many hours have passed already, float64[n, CLASSES].

    Where hardly any lasts that long nothing is known: the row is zeros.
    """
    width = (EDGES[1:] - EDGES[:-1]).astype(float)
    rest = chances * np.clip((EDGES[1:] - elapsed[:, None]) / width, 0.0, 1.0)
    total = rest.sum(axis=1, keepdims=True)
    made_whole: Floats = np.divide(rest, total, out=np.zeros_like(rest), where=total > _HARDLY_ANY)
    return made_whole


def quantile(chances: Floats, share: float, elapsed: Ints | None = None) -> Floats:
    """Hours of pause (elapsed ones included) after which `share` have come, float64[n]."""
    summed = np.cumsum(chances, axis=1)
    at = np.minimum((summed < share).sum(axis=1), CLASSES - 1)
    rows = np.arange(len(chances))
    below = summed[rows, at] - chances[rows, at]
    inside = np.clip((share - below) / np.maximum(chances[rows, at], 1e-12), 0.0, 1.0)
    # Hours are whole: a class of one hour is that hour.
    first = EDGES[at].astype(float)
    last = np.maximum(EDGES[at + 1] - 1, EDGES[at]).astype(float)
    if elapsed is not None:
        first = np.minimum(np.maximum(first, elapsed), last)
    found: Floats = first + inside * (last - first)
    return found


def within(chances: Floats, elapsed: int, hours: int) -> float:
    """The chance that it ends within so many hours from now; float64[CLASSES] of `ahead`."""
    first = np.maximum(EDGES[:-1], elapsed)
    width = np.maximum(EDGES[1:] - first, 1e-9)
    inside = np.clip((elapsed + hours - first) / width, 0.0, 1.0)
    return float((chances * inside).sum())


def span(chances: Floats, elapsed: int = 0) -> Span:
    """The median and the middle 80 % of one distribution, float64[CLASSES]."""
    one, passed = chances[None], np.array([elapsed])
    low, median, high = (float(quantile(one, share, passed)[0]) for share in (0.1, 0.5, 0.9))
    return Span(low, median, high)
