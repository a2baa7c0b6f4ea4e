"""What many imprints add to genomes, in columns: one sum for each subject and marker.

Sums are taken of the upper and the lower half of contributions and held at STATE_MAX, as in
`aggregate`: adding with a ceiling is associative, so a state that takes a sum becomes what it
would have become event by event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.imprint import STATE_MAX, grow
from edge_sdk.dna.markers import Vocabulary
from genome_server.genomes.reading import Dose, Told

_Ints = npt.NDArray[np.int64]

_HALF_BITS: Final = 32
_HALF_MASK: Final = (1 << _HALF_BITS) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """What n subjects gain: at which newest hour, and the markers from `starts[i]` on."""

    subjects: list[bytes]
    newest: list[int]
    starts: list[int]  # n + 1
    indices: list[int]
    sums: list[int]

    def __iter__(self) -> Iterator[tuple[bytes, int, Iterator[tuple[int, int]]]]:
        """(subject, newest hour, (index, contribution) of each marker), by subject."""
        bounds = pairwise(self.starts)
        for subject, hour, (begin, end) in zip(self.subjects, self.newest, bounds, strict=True):
            markers = zip(self.indices[begin:end], self.sums[begin:end], strict=True)
            yield subject, hour, markers


def gains(
    told: Told, counted: npt.NDArray[np.bool_] | None, vocabulary: Vocabulary, landmark_hour: int
) -> Gains:
    """Add up the imprints that count (None: all of them). Raises LandmarkExhausted."""
    subjects, hours, dose = told.subjects, told.hours, told.dose
    if counted is not None:
        subjects, hours, dose = subjects[counted], hours[counted], dose[counted]
    order = np.argsort(subjects, kind="stable")
    subjects = subjects[order]
    fresh = np.flatnonzero(_differs(subjects))
    who = np.repeat(np.arange(len(fresh)), np.diff(fresh, append=len(order)))
    size, index, contribution = _exploded(told.doses, vocabulary, landmark_hour)
    own = dose[order]
    counts = size[own]
    starts = np.cumsum(size) - size
    ends = np.cumsum(counts)
    place = np.arange(int(ends[-1]) if len(ends) else 0)
    place += np.repeat(starts[own] - ends + counts, counts)
    keys = np.repeat(who, counts) << _HALF_BITS | index[place]
    by_marker = np.argsort(keys, kind="stable")
    keys = keys[by_marker]
    first = np.flatnonzero(_differs(keys))
    sums = _held(contribution[place[by_marker]], first)
    keys = keys[first]
    bounds = np.searchsorted(keys >> _HALF_BITS, np.arange(len(fresh) + 1))
    return Gains(
        [subject.tobytes() for subject in subjects[fresh]],
        np.maximum.reduceat(hours[order], fresh).tolist() if len(fresh) else [],
        bounds.tolist(),
        (keys & _HALF_MASK).tolist(),
        sums.tolist(),
    )


def _differs(ordered: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where something stands that differs from what stands before it."""
    differs = np.ones(len(ordered), bool)
    differs[1:] = ordered[1:] != ordered[:-1]
    return differs


def _exploded(
    doses: list[Dose], vocabulary: Vocabulary, landmark_hour: int
) -> tuple[_Ints, _Ints, _Ints]:
    """How many markers each dose has, and the index and contribution of all, dose by dose."""
    sizes: list[int] = []
    indices: list[int] = []
    contributions: list[int] = []
    for votes, hour in doses:
        before = len(indices)
        for name, half_life, vote in votes:
            index = vocabulary.index(name)
            if index is not None:
                indices.append(index)
                grown = grow(vote, hour - landmark_hour, half_life)
                contributions.append(min(grown, STATE_MAX))
        sizes.append(len(indices) - before)
    return (
        np.array(sizes, np.int64),
        np.array(indices, np.int64),
        np.array(contributions, np.int64),
    )


def _held(contributions: _Ints, first: _Ints) -> _Ints:
    """The sum of each group that begins at `first`, held at STATE_MAX."""
    if not len(first):
        return contributions
    low = np.add.reduceat(contributions & _HALF_MASK, first)
    high = np.add.reduceat(contributions >> _HALF_BITS, first) + (low >> _HALF_BITS)
    fits = high <= STATE_MAX >> _HALF_BITS
    sums: _Ints = np.where(fits, (high << _HALF_BITS) | (low & _HALF_MASK), STATE_MAX)
    return sums
