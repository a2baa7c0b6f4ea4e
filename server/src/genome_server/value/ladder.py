"""Which depth of discount is enough, for whom. Free of I/O.

Rules.
- A showing of a rung is worth the chance that it succeeds times what a success leaves. The depth
  that is enough is the shallowest of those that are worth the most.
- What is measured weighs a showing by what it stands for: one over the chance with which it was
  chosen there. So it does not matter that a policy showed deep discounts to whom it held for hard
  to win. What was always shown, or never, teaches nothing of the others.
- The showings of one person are alike. Intervals are Wilson's, with as many independent showings
  as the persons' weights come to (Kish).
- For whom: by the rung that the model takes to be enough in a moment. What is said of those groups
  is measured, not believed; and which moments the model may have learned from is said beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from genome_server.lift.estimates import Limits, difference
from genome_server.value.pricing import Rung

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NORMAL: Final = 1.959964
OTHERS: Final = "(others)"
LEAST_PERSONS: Final = 20
"""Fewer persons are told apart by no interval: their chance is not told."""


@dataclass(frozen=True, eq=False)
class Showings:
    """n showings of rungs. `rung` int64[n] is the place in the ladder, `success` float64[n] 0 or 1,
    `weight` float64[n] what each stands for, `person` int64[n]. `chance` float64[n, rungs] is what
    the model believes of every rung in that moment; None without a model."""

    rung: Ints
    success: Floats
    weight: Floats
    person: Ints
    chance: Floats | None = None

    def __len__(self) -> int:
        """How many showings there are."""
        return len(self.rung)


@dataclass(frozen=True)
class Figure:
    """What was measured of a rung: the chance of a success, and the margin by showing, each with
    its 95 % interval; None where fewer than LEAST_PERSONS saw it."""

    showings: int
    persons: int
    successes: int
    chance: tuple[float, float, float] | None
    margin: tuple[float, float, float] | None


@dataclass(frozen=True)
class Group:
    """Moments in which the model takes rung `enough` to be enough. `believed` is the chance that it
    gives each rung in them, in the mean; `measured` what became of the showings there."""

    enough: str
    moments: int
    persons: int
    believed: tuple[float, ...]
    measured: tuple[Figure, ...]


@dataclass(frozen=True)
class Segment:
    """Moments of customers with a marker, or with none of its namespace (`name` None; OTHERS: with
    one that fewer than LEAST_PERSONS have), and what was measured in them.

    `most` is the rung that left the most by showing, None where fewer than two have a figure;
    `sure`: surely more than each other one (Newcombe).
    """

    name: str | None
    moments: int
    persons: int
    measured: tuple[Figure, ...]
    most: str | None
    sure: bool


@dataclass(frozen=True)
class Ladder:
    """Rungs, the shallowest first, what was measured of each, and for whom which is enough."""

    name: str
    rungs: tuple[Rung, ...]
    measured: tuple[Figure, ...]
    groups: tuple[Group, ...]
    falling: float | None
    """The share of moments in which the model gives a deeper rung a smaller chance."""
    segments: tuple[Segment, ...] = ()


def enough(chance: Floats, rungs: Sequence[Rung]) -> Ints:
    """The rung that is enough, int64[n], by chances float64[n, rungs]."""
    worth = chance * np.array([rung.worth for rung in rungs])
    return np.asarray(worth.argmax(axis=1), np.int64)  # of equals the first, which is shallowest


def told(
    name: str,
    rungs: Sequence[Rung],
    showings: Showings,
    segments: Sequence[str | None] | None = None,
) -> Ladder:
    """What is to be said of a ladder; `segments` names that of each showing."""
    groups: list[Group] = []
    falling = None
    if showings.chance is not None and len(showings):
        best = enough(showings.chance, rungs)
        falling = float((np.diff(showings.chance, axis=1) < 0).any(axis=1).mean())
        for place, rung in enumerate(rungs):
            inside = best == place
            if inside.any():
                believed = showings.chance[inside].mean(axis=0)
                groups.append(
                    Group(
                        rung.offer,
                        int(inside.sum()),
                        len(np.unique(showings.person[inside])),
                        tuple(believed.tolist()),
                        _measure(rungs, showings, inside),
                    )
                )
    everywhere = np.ones(len(showings), bool)
    measured = _measure(rungs, showings, everywhere)
    return Ladder(
        name, tuple(rungs), measured, tuple(groups), falling, _by(rungs, showings, segments or ())
    )


def _by(
    rungs: Sequence[Rung], showings: Showings, segments: Sequence[str | None]
) -> tuple[Segment, ...]:
    """The segments, the largest first."""
    found = []
    people = Counter(name for name, _ in set(zip(segments, showings.person.tolist(), strict=False)))
    told_of = [OTHERS if people[name] < LEAST_PERSONS else name for name in segments]
    labels = np.array(told_of, object)
    for name in set(told_of):
        inside = np.asarray(labels == name, bool)
        measured = _measure(rungs, showings, inside)
        left = [
            (Limits(*figure.margin), rung)
            for figure, rung in zip(measured, rungs, strict=True)
            if figure.margin is not None
        ]
        best = max(left, key=lambda one: one[0].mean, default=None)
        most, sure = None, False
        if best is not None and len(left) > 1:
            most = best[1].offer
            sure = all(
                difference(best[0], one).low > 0 for one, rung in left if rung is not best[1]
            )
        persons = len(np.unique(showings.person[inside]))
        found.append(Segment(name, int(inside.sum()), persons, measured, most, sure))
    return tuple(sorted(found, key=lambda one: (-one.moments, one.name or "")))


def _measure(rungs: Sequence[Rung], showings: Showings, inside: Flags) -> tuple[Figure, ...]:
    found = []
    for place, rung in enumerate(rungs):
        rows = np.flatnonzero(inside & (showings.rung == place))
        persons, where = np.unique(showings.person[rows], return_inverse=True)
        successes = int(showings.success[rows].sum())
        chance = margin = None
        if len(persons) >= LEAST_PERSONS:
            weight = showings.weight[rows]
            by_person = np.bincount(where, weights=weight)
            alike = float(by_person.sum() ** 2 / (by_person**2).sum())
            rate = float((weight * showings.success[rows]).sum() / weight.sum())
            chance = (rate, *wilson(rate, alike))
            ends = sorted(one * rung.worth for one in chance[1:])
            margin = (rate * rung.worth, ends[0], ends[1])
        found.append(Figure(len(rows), len(persons), successes, chance, margin))
    return tuple(found)


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Limits of a share that `n` independent trials gave."""
    square = NORMAL**2
    middle = (rate + square / (2 * n)) / (1 + square / n)
    half = NORMAL / (1 + square / n) * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)
