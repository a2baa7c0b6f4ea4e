"""How alike two persons are, and why. Free of I/O; the definition is in `matrix`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from genome_server.compare.matrix import Floats, weigh


class Shared(NamedTuple):
    """A marker that both have: what it adds to the similarity, and the strengths of each."""

    marker: int
    contribution: float
    strength: float
    other_strength: float


class Missing(NamedTuple):
    """A marker that the other lacks: its share of this genome (0 to 1), and its strength."""

    marker: int
    share: float
    strength: float


@dataclass(frozen=True)
class Comparison:
    """Two genomes beside each other; each list has the strongest first.

    The contributions of `shared` add up to `similarity` (0 to 1). The squares of a genome's weights
    add up to 1: `share` of a missing marker is its square.
    """

    similarity: float
    distance: float
    shared: list[Shared]
    only_first: list[Missing]
    only_second: list[Missing]


class One(NamedTuple):
    """One person's markers, int32 and ascending, and strengths, float32."""

    markers: npt.NDArray[np.int32]
    strengths: npt.NDArray[np.float32]


def compare(first: One, second: One, rarity: Floats) -> Comparison:
    """Compare two genomes as of one hour; `rarity`, float64[markers], is that of every marker.

    A genome without markers is like none: similarity 0, distance 1. Raises IndexError for a marker
    that has no rarity.
    """
    a, b = _weights(first, rarity), _weights(second, rarity)
    _, at_a, at_b = np.intersect1d(
        first.markers, second.markers, assume_unique=True, return_indices=True
    )
    products = a[at_a].astype(np.float64) * b[at_b]
    shared = [
        Shared(int(first.markers[i]), float(p), float(first.strengths[i]), float(s))
        for i, s, p in zip(at_a, second.strengths[at_b], products, strict=True)
    ]
    shared.sort(key=lambda one: (-one.contribution, one.marker))
    similarity = min(float(products.sum()), 1.0)
    return Comparison(
        similarity=similarity,
        distance=distance_of(similarity),
        shared=shared,
        only_first=_missing(first, a, at_a),
        only_second=_missing(second, b, at_b),
    )


def distance_of(similarity: float) -> float:
    """The angle that belongs to a similarity (0 to 1), in right angles."""
    return math.acos(min(max(similarity, 0.0), 1.0)) * 2 / math.pi


def _weights(one: One, rarity: Floats) -> npt.NDArray[np.float32]:
    return weigh(np.array([0, len(one.markers)]), one.markers, one.strengths, rarity)


def _missing(
    one: One, weights: npt.NDArray[np.float32], shared: npt.NDArray[np.intp]
) -> list[Missing]:
    alone = np.ones(len(one.markers), bool)
    alone[shared] = False
    found = [
        Missing(int(one.markers[i]), float(weights[i]) ** 2, float(one.strengths[i]))
        for i in np.flatnonzero(alone)
    ]
    found.sort(key=lambda missing: (-missing.share, missing.marker))
    return found
