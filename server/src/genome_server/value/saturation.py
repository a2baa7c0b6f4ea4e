"""What showing again brings: by how often it was shown before, and by how long ago. Free of I/O.

Rules.
- A showing is known by the person, what was shown, and how it ended. How often before, and how long
  ago: to this person, of the same offer, in the `within_ms` before.
- Who is shown something for the fifth time is who did not take it four times. So chances fall with
  the number even where nobody tires; that table is a description, and says so.
- Pauses are compared between showings with the same number before them (every number counts as in
  all of them together): among people who were as hard to win. Even so it was not by lot when
  somebody came again.
- A pause is recommended where showing again at once succeeds surely less than after the longest
  pause that is known: the shortest one that is not surely worse than that. Both by intervals of
  the difference (Newcombe), of persons, not of showings (Kish).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.schema import HOUR_MS
from genome_server.lift.estimates import Limits, difference
from genome_server.value.ladder import LEAST_PERSONS, wilson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TIMES: Final = (0, 1, 2, 3, 4, 7)
"""Where numbers of showings before begin to be told together; the last is open."""
PAUSES_H: Final = (0, 1, 4, 12, 24, 72, 168)
"""Hours since the last showing at which another pause begins; the last is open."""


@dataclass(frozen=True, eq=False)
class Seen:
    """n showings: `person`, `offer` and `time_ms` int64[n], `success` float64[n], `weight`
    float64[n] what each stands for."""

    person: Ints
    offer: Ints
    time_ms: Ints
    success: Floats
    weight: Floats


@dataclass(frozen=True)
class Row:
    """Showings that begin at `least` times before, or hours since the last. `chance` with its 95 %
    interval is None where fewer than LEAST_PERSONS are behind it."""

    least: int
    showings: int
    persons: int
    chance: tuple[float, float, float] | None


@dataclass(frozen=True)
class Saturation:
    """What is to be said. `pause_h`: the hours that are recommended; 0 where showing again at once
    is not surely worse; None where it cannot be told."""

    times: tuple[Row, ...]
    pauses: tuple[Row, ...]
    pause_h: int | None


def told(seen: Seen, within_ms: int) -> Saturation:
    """What is to be said of showings, given in any order."""
    before, since = history(seen, within_ms)
    number = np.searchsorted(TIMES, before, side="right") - 1
    again = before > 0
    times = tuple(_row(least, seen, [number == place], [1.0]) for place, least in enumerate(TIMES))
    pause = np.searchsorted(np.array(PAUSES_H) * HOUR_MS, since, side="right") - 1
    # Every number of showings before weighs as in all that were shown again.
    classes = [place for place in range(1, len(TIMES)) if (number == place).any()]
    shares = [float(seen.weight[number == place].sum()) for place in classes]
    pauses = tuple(
        _row(
            least,
            seen,
            [again & (pause == place) & (number == one) for one in classes],
            shares,
        )
        for place, least in enumerate(PAUSES_H)
    )
    return Saturation(times, pauses, _recommended(pauses))


def history(seen: Seen, within_ms: int) -> tuple[Ints, Ints]:
    """Of each showing how many came before it within the time, and milliseconds since the last of
    them (0 without one): int64[n] each. Of two at one moment neither is before the other."""
    before, since = np.zeros(len(seen.person), np.int64), np.zeros(len(seen.person), np.int64)
    order = np.lexsort((seen.time_ms, seen.offer, seen.person))
    person, offer = seen.person[order], seen.offer[order]
    starts = np.flatnonzero(
        np.concatenate([[True], (np.diff(person) != 0) | (np.diff(offer) != 0)])
    )
    for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = order[begin:end]
        at = seen.time_ms[rows]
        first = np.searchsorted(at, at - within_ms, side="left")
        last = np.searchsorted(at, at, side="left")
        before[rows] = last - first
        some = last > first
        since[rows[some]] = at[some] - at[last[some] - 1]
    return before, since


def _row(least: int, seen: Seen, parts: list[npt.NDArray[np.bool_]], shares: list[float]) -> Row:
    """Parts together, each with its share of all; a part that nobody saw has none."""
    together = np.logical_or.reduce(parts) if parts else np.zeros(len(seen.person), bool)
    rows = np.flatnonzero(together)
    persons, where = np.unique(seen.person[rows], return_inverse=True)
    if len(persons) < LEAST_PERSONS:
        return Row(least, len(rows), len(persons), None)
    weight = np.zeros(len(seen.person))
    for part, share in zip(parts, shares, strict=True):
        total = float(seen.weight[part].sum())
        if total > 0:
            weight[part] = seen.weight[part] * share / total
    mine = weight[rows]
    by_person = np.bincount(where, weights=mine)
    alike = float(by_person.sum() ** 2 / (by_person**2).sum())
    rate = float((mine * seen.success[rows]).sum() / mine.sum())
    return Row(least, len(rows), len(persons), (rate, *wilson(rate, alike)))


def _recommended(pauses: tuple[Row, ...]) -> int | None:
    known = [(row.least, Limits(*row.chance)) for row in pauses if row.chance is not None]
    if len(known) < 2:
        return None
    longest = known[-1][1]
    for least, limits in known:
        if difference(limits, longest).high >= 0:
            return least
    return known[-1][0]
