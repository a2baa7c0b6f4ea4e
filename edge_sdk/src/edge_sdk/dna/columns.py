"""Genome rows of a whole audience as columns, and their row sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.genome import Row

Array = npt.NDArray[Any]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_SUM_MASK: Final = (1 << 64) - 1


def _none() -> Array:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """n rows with m markers in all, ascending by subject, and k lookups, ascending by hash.

    A subject is its first and its last 8 bytes as big-endian numbers, and so is a hash. The
    markers of row i are those from `starts[i]` to `starts[i + 1]`, ascending by index.
    """

    high: Array  # uint64[n]
    low: Array  # uint64[n]
    consents: Array  # uint32[n]
    as_of_hours: Array  # int32[n]
    starts: Array  # uint64[n + 1]
    indices: Array  # uint16[m] or uint32[m]
    codes: Array  # uint8[m]
    hash_high: Array = field(default_factory=_none)  # uint64[k]
    hash_low: Array = field(default_factory=_none)  # uint64[k]
    owner_high: Array = field(default_factory=_none)  # uint64[k], the subject of each hash
    owner_low: Array = field(default_factory=_none)  # uint64[k]

    def __len__(self) -> int:
        return len(self.high)

    @classmethod
    def of(cls, rows: Iterable[Row], pairs: Iterable[tuple[bytes, bytes]] = ()) -> Columns:
        """Columns of rows and (hash, subject) pairs in any order; of equals the last counts."""
        unique = {row.subject: row for row in rows}
        ordered = [unique[subject] for subject in sorted(unique)]
        subjects = halves(b"".join(row.subject for row in ordered))
        starts = np.zeros(len(ordered) + 1, np.uint64)
        np.cumsum([len(row.indices) for row in ordered], out=starts[1:])
        indices = np.concatenate([np.zeros(0, np.uint32), *(row.indices for row in ordered)])
        lookups = sorted(dict(pairs).items())
        hashes = halves(b"".join(hash_ for hash_, _ in lookups))
        owners = halves(b"".join(subject for _, subject in lookups))
        return cls(
            high=subjects[0],
            low=subjects[1],
            consents=np.array([row.consents for row in ordered], np.uint32),
            as_of_hours=np.array([row.as_of_hour for row in ordered], np.int32),
            starts=starts,
            indices=narrowed(indices),
            codes=np.concatenate([np.zeros(0, np.uint8), *(row.codes for row in ordered)]),
            hash_high=hashes[0],
            hash_low=hashes[1],
            owner_high=owners[0],
            owner_low=owners[1],
        )


def halves(subjects: bytes) -> tuple[Array, Array]:
    """The first and the last 8 bytes of each 16 as numbers, uint64[n] both."""
    both = np.frombuffer(subjects, ">u8").astype(np.uint64).reshape(-1, 2)
    return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def narrowed(indices: Array) -> Array:
    """Indices in 16 bits where they fit, else in 32."""
    fits = not len(indices) or int(indices.max()) < 1 << 16
    narrow: Array = indices.astype(np.uint16 if fits else np.uint32, copy=False)
    return narrow


def _mix(x: Array) -> Array:
    """SplitMix64's finaliser, modulo 2^64."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def row_sums(columns: Columns) -> npt.NDArray[np.uint64]:
    """What each row adds to the sum of all, uint64[n] (docs/wire.md, section Row sums)."""
    key = _mix(_mix(columns.high + _STEP) ^ columns.low)
    hours = columns.as_of_hours.astype(np.uint32).astype(np.uint64)
    head = _mix(key ^ (hours << np.uint64(32) | columns.consents.astype(np.uint64)))
    starts = columns.starts.astype(np.int64)
    said = columns.indices.astype(np.uint64) << np.uint64(8) | columns.codes
    terms = np.zeros(len(said) + 1, np.uint64)
    np.cumsum(_mix(np.repeat(key + _STEP, np.diff(starts)) ^ said), out=terms[1:])
    sums: npt.NDArray[np.uint64] = head + terms[starts[1:]] - terms[starts[:-1]]
    return sums


def row_sum_of(row: Row) -> int:
    """The row sum of one row."""
    high, low = halves(row.subject)
    one = Columns(
        high,
        low,
        np.array([row.consents], np.uint32),
        np.array([row.as_of_hour], np.int32),
        np.array([0, len(row.indices)], np.uint64),
        row.indices,
        row.codes,
    )
    return int(row_sums(one)[0])


def total(sums: Array) -> int:
    """Row sums added up, modulo 2^64."""
    return int(sums.sum(dtype=np.uint64)) & _SUM_MASK
