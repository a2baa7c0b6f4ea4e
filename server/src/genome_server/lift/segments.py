"""For whom it brings how much: the difference by segment. Free of I/O.

Rules.
- A segment is what profiles state: the strongest marker of a namespace. Not what customers did
  since, which showing changes. Where somebody lives is no segment.
- Segments with fewer than `LEAST_PEOPLE` in either group are told together, as "(others)", and so
  are those without any marker, as "(none)"; where even these are too few, nothing is told of them.
- Who looks at many segments finds one that stands out. So all their intervals hold together
  (Bonferroni), and at every look. `guess` is what to expect of a segment: its own difference drawn
  towards that of all, the more the less it is known (DerSimonian and Laird 1986). `differ` is the
  chance of such differences between segments if there were none (Cochran's Q).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from genome_server.compare.segments import LEAST_PEOPLE
from genome_server.lift.estimates import ERROR, Contrast, contrast_shares
from genome_server.lift.rules import Flags, Ints

OTHERS: Final = "(others)"
NONE: Final = "(none)"


class Segment(NamedTuple):
    """A segment: the persons of either group, the contrast of its shares, and what to expect."""

    name: str
    shown: int
    held: int
    contrast: Contrast
    guess: float


@dataclass(frozen=True)
class Segments:
    """All segments, the largest first, and the chance of such differences if all were alike."""

    namespace: str
    segments: tuple[Segment, ...]
    differ: float | None


def by_segment(
    namespace: str, names: Sequence[str | None], did: Flags, held: Flags, stratum: Ints
) -> Segments:
    """The segments of n persons: `names` are the values of their markers, None for none."""
    labels = np.array([NONE if name is None else name for name in names], object)
    small = [
        name
        for name in set(labels.tolist())
        if min(int((held[labels == name] == group).sum()) for group in (False, True)) < LEAST_PEOPLE
    ]
    labels[np.isin(labels, small)] = OTHERS
    found: list[tuple[str, Flags]] = [(name, labels == name) for name in sorted(set(labels))]
    found = [
        (name, inside)
        for name, inside in found
        if min(int((held[inside] == group).sum()) for group in (False, True)) >= LEAST_PEOPLE
    ]
    error = ERROR / max(len(found), 1)
    told = [
        (name, inside, contrast)
        for name, inside in found
        if (contrast := contrast_shares(did[inside], held[inside], stratum[inside], error))
    ]
    guesses, differ = _drawn_together([(one, int(inside.sum())) for _, inside, one in told])
    segments = [
        Segment(name, int((~held[inside]).sum()), int(held[inside].sum()), contrast, guess)
        for (name, inside, contrast), guess in zip(told, guesses, strict=True)
    ]
    segments.sort(key=lambda one: (one.name in (OTHERS, NONE), -one.shown - one.held, one.name))
    return Segments(namespace, tuple(segments), differ)


def _drawn_together(found: Sequence[tuple[Contrast, int]]) -> tuple[list[float], float | None]:
    """What to expect of each, and the chance of such differences."""
    seen = np.array([one.difference for one, _ in found])
    variance = np.array([one.spread / count for one, count in found])
    if len(found) < 2 or not (variance > 0).all():
        return seen.tolist(), None
    from scipy.special import chdtrc

    weight = 1.0 / variance
    mean = float((weight * seen).sum() / weight.sum())
    q = float((weight * (seen - mean) ** 2).sum())
    between = (q - (len(seen) - 1)) / float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(between, 0.0)
    if between > 0:
        weight = 1.0 / (variance + between)
        mean = float((weight * seen).sum() / weight.sum())
    kept = between / (between + variance)
    guesses = [float(value) for value in mean + kept * (seen - mean)]
    chance = float(chdtrc(len(seen) - 1, q))
    return guesses, chance if math.isfinite(chance) else None
