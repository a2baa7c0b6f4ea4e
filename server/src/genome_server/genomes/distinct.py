"""Which markers tell customers apart, and so stay in a row that has no place for all. Free of I/O.

Theory. What is strongest in a genome is often what everybody has: the grocery department, a
national brand. It takes the places of what is told of few. So `dna count` counts over what
customers did how many interactions imprint each marker, and rows of devices keep those that rank
highest by

    log2(1 + strength) · min(6, log2(interactions / interactions with the marker))

that is `DnaSchema.distinct`, in 1/32. A marker on one interaction in 64, or fewer, counts fully;
so does one that was not counted, such as a fact of a profile. Counted are interactions of those who
agreed to learning, for a count is a statistic.

Counts change with every interaction, and rows must not: a table stays until somebody counts again,
and is part of the schema of an epoch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.imprint import ilog2_q8
from edge_sdk.dna.schema import MOST_DISTINCT, ONE_Q24

FEWEST: Final = 1_000
"""Fewer interactions say nothing of what is rare."""
FEWEST_PEOPLE: Final = 20
"""What fewer people do is theirs, and no statistic: counts go out with every release."""
_PER_DOUBLING: Final = 32
_ONE_LOG2_Q8: Final = ilog2_q8(ONE_Q24)
_ONE, _EIGHT, _LOW = np.uint64(ONE_Q24), np.uint64(8), np.uint64(255)
_Ints = npt.NDArray[np.int64]


class Counted(NamedTuple):
    """How many interactions of how many people; how many imprint each marker, int64 by index."""

    interactions: int
    people: int
    markers: _Ints


def table(counted: Counted) -> bytes:
    """`DnaSchema.distinct` of what was counted, of at least one interaction."""
    every = ilog2_q8(counted.interactions)
    weights = (
        max(every - ilog2_q8(count), 0) * _PER_DOUBLING >> 8 if count else MOST_DISTINCT
        for count in counted.markers.tolist()
    )
    return bytes(min(weight, MOST_DISTINCT) for weight in weights)


def weights_of(distinct: bytes, size: int) -> _Ints | None:
    """The weight of each of `size` markers, int64[size]; None where the strongest stay."""
    return _weights(distinct, size) if distinct else None


@lru_cache(maxsize=2)
def _weights(distinct: bytes, size: int) -> _Ints:
    found = np.full(size, MOST_DISTINCT, np.int64)
    known = np.frombuffer(distinct, np.uint8)[:size]
    found[: len(known)] = known
    found.setflags(write=False)
    return found


def ranks(strengths: _Ints, markers: _Ints, weights: _Ints | None) -> _Ints:
    """What `imprint.rank` says of each entry, int64; strengths in q24, not negative."""
    if weights is None:
        return strengths
    return (_log2_q8(strengths.astype(np.uint64) + _ONE) - _ONE_LOG2_Q8) * weights[markers]


def _log2_q8(values: npt.NDArray[np.uint64]) -> _Ints:
    """`ilog2_q8` of integers from 2^8 on."""
    bits = (np.frexp(values.astype(np.float64))[1] - 1).astype(np.uint64)
    # The float may have been rounded up to the next power of two.
    bits -= (values >> bits) == 0
    fraction = (values >> (bits - _EIGHT)) & _LOW
    return ((bits << _EIGHT) | fraction).astype(np.int64)
