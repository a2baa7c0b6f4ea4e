"""Genome rows of a whole audience as columns: their row sums, and the content that carries them.

Theory of the content. What compresses is what is alike, so each column is a stream of its own, and
numbers are split into their bytes. Subjects ascend: the differences of their first halves begin
with zeros. Of markers the common ones are common to many: each row names them by rank, the most
frequent first, as differences; the first differences of all rows stand together, then the second
ones, and so on, because the k-th differences are alike. Codes are what is left of them after the
row's least one and what is usual for the marker. Zstandard does the rest, mostly by entropy coding.

    magic 8 | rows n u64 | markers m u64 | lookups k u64 | others x u64 | distinct markers u32 |
    frames: markers by rank, what is usual | blocks of rows | frame: others | blocks of lookups

A block of rows is their number u32 and one frame for each stream; a frame is its length u32 and a
Zstandard frame whose own size follows from the numbers before it. So nothing is taken on trust:
every size is known before room is made for it, and one block is in memory at a time.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.genome import SUBJECT_BYTES, Row

Array = npt.NDArray[Any]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_SUM_MASK: Final = (1 << 64) - 1
_SUMMED: Final = 1 << 10
MAGIC: Final = b"GECOLS1\n"
HEAD: Final = struct.Struct("<8sQQQQI")
LENGTH: Final = struct.Struct("<I")
_LEVEL: Final = 6
_FULL: Final = np.uint64((1 << 64) - 1)
#: Rows or lookups of a block: at most, and at least unless it is the last.
MOST: Final = 1 << 16
LEAST: Final = 1 << 10
#: Markers of a block when all its rows are filled up to the longest: its streams are 4 MiB or less.
CELLS: Final = 1 << 22


def _none() -> Array:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows, markers and lookups there are."""

    rows: int
    markers: int
    lookups: int
    wide: bool  # marker indices need 32 bits


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

    def rows(self) -> Iterator[Row]:
        """The rows, ascending by subject."""
        subjects = self.high.astype(">u8").tobytes(), self.low.astype(">u8").tobytes()
        starts = self.starts.tolist()
        for at, (begin, end) in enumerate(pairwise(starts)):
            yield Row(
                b"".join(half[8 * at : 8 * at + 8] for half in subjects),
                int(self.consents[at]),
                int(self.as_of_hours[at]),
                self.indices[begin:end].astype(np.uint32),
                self.codes[begin:end],
            )

    @property
    def lookups(self) -> tuple[Array, Array, Array, Array]:
        """The columns of hashes and their subjects."""
        return self.hash_high, self.hash_low, self.owner_high, self.owner_low

    @property
    def sizes(self) -> Sizes:
        """How much there is of everything."""
        wide = self.indices.itemsize > 2
        return Sizes(len(self), len(self.indices), len(self.hash_high), wide)

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


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser, modulo 2^64."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def row_sums(columns: Columns) -> npt.NDArray[np.uint64]:
    """What each row adds to the sum of all, uint64[n] (docs/wire.md, section Row sums)."""
    sums = np.empty(len(columns), np.uint64)
    for begin in range(0, len(columns), _SUMMED):  # a few at a time stay in the processor's cache
        sums[begin : begin + _SUMMED] = _row_sums(columns, slice(begin, begin + _SUMMED))
    return sums


def _row_sums(columns: Columns, rows: slice) -> npt.NDArray[np.uint64]:
    key = _mix(_mix(columns.high[rows] + _STEP) ^ columns.low[rows])
    hours = columns.as_of_hours[rows].astype(np.uint32).astype(np.uint64)
    head = _mix(key ^ (hours << np.uint64(32) | columns.consents[rows].astype(np.uint64)))
    starts = columns.starts[rows.start : rows.stop + 1].astype(np.int64)
    markers = slice(int(starts[0]), int(starts[-1]))
    said = columns.indices[markers].astype(np.uint64) << np.uint64(8) | columns.codes[markers]
    terms = np.zeros(len(said) + 1, np.uint64)
    np.cumsum(_mix(np.repeat(key + _STEP, np.diff(starts)) ^ said), out=terms[1:])
    starts -= starts[0]
    summed: npt.NDArray[np.uint64] = head + terms[starts[1:]] - terms[starts[:-1]]
    return summed


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


def encode(columns: Columns) -> bytes:
    """The content of a whole audience, whose rows have at most 4096 markers."""
    indices = narrowed(columns.indices)
    if indices.itemsize > 2:  # count those that there are, and not up to the largest
        values = np.unique(indices)
        indices = np.searchsorted(values, indices)
    else:
        values = np.arange(1 << 16)
    frequency = np.bincount(indices, minlength=1)
    order = np.argsort(-frequency, kind="stable")[: np.count_nonzero(frequency)]
    ranks = np.zeros(len(frequency), np.uint64)
    ranks[order] = np.arange(len(order), dtype=np.uint64)
    owners, others = _owners(columns)
    n, k = len(columns), len(columns.hash_high)
    out = [
        HEAD.pack(MAGIC, n, len(columns.indices), k, len(others) // SUBJECT_BYTES, len(order)),
        _frame(_planes(values[order].astype("<u4"))),
    ]
    starts = columns.starts.astype(np.int64)
    some = slice(0, int(starts[min(n, MOST)]))
    usual = _usual(np.diff(starts[: MOST + 1]), ranks[indices[some]], columns.codes[some])
    usual = np.pad(usual, (0, len(order) - len(usual)))
    out.append(_frame(usual.tobytes()))
    begin = 0
    while begin < n:
        size = min(MOST, n - begin)
        counts = np.diff(starts[begin : begin + size + 1])
        while size > LEAST and size * int(counts[:size].max()) > CELLS:
            size = max(size // 2, LEAST)
        end = begin + size
        own = ranks[indices[int(starts[begin]) : int(starts[end])]]
        out += _row_block(columns, starts, own, usual, begin, end)
        begin = end
    out.append(_frame(others))
    for begin in range(0, k, MOST):
        end = min(begin + MOST, k)
        out.append(LENGTH.pack(end - begin))
        out.append(_frame(_ascending(columns.hash_high[begin:end])))
        out.append(_frame(columns.hash_low[begin:end].astype("<u8").tobytes()))
        out.append(_frame(_planes(owners[begin:end])))
    return b"".join(out)


def _usual(counts: Array, ranks: Array, codes: Array) -> Array:
    """By rank: how much more than the least code of its row the code of a marker is on average."""
    filled, inside = _grid(counts)
    filled.fill(_FULL)
    filled[inside] = codes
    excess = (filled - filled.min(axis=1, initial=_FULL)[:, None])[inside]
    found = np.bincount(ranks.astype(np.int64))
    means = np.bincount(ranks.astype(np.int64), excess) / np.maximum(found, 1)
    usual: Array = np.rint(means).astype(np.uint8)
    return usual


def _row_block(
    columns: Columns, starts: Array, ranks: Array, usual: Array, begin: int, end: int
) -> Iterator[bytes]:
    counts = np.diff(starts[begin : end + 1])
    own = slice(int(starts[begin]), int(starts[end]))
    filled, inside = _grid(counts)
    # Codes travel with their ranks while these are put in order; what fills up comes last.
    filled.fill(_FULL)
    filled[inside] = ranks << np.uint64(8) | columns.codes[own]
    filled.sort(axis=1)
    codes = filled.astype(np.uint8)  # what fills up is 255
    least = codes.min(axis=1, initial=255)
    ranked = filled >> np.uint64(8)
    deltas = ranked.copy()
    deltas[:, 1:] -= ranked[:, :-1]
    turned = inside.T
    codes = (codes - least[:, None]).T[turned] - usual[ranked.T[turned]]
    yield LENGTH.pack(end - begin)
    yield _frame(_planes(counts.astype("<u4")))
    yield _frame(_ascending(columns.high[begin:end]))
    yield _frame(columns.low[begin:end].astype("<u8").tobytes())
    yield _frame(_planes(columns.consents[begin:end].astype("<u4")))
    yield _frame(_planes(columns.as_of_hours[begin:end].astype("<i4")))
    yield _frame(least.tobytes())
    yield _frame(codes.tobytes())
    planes = _planes(deltas.T[turned].astype("<u4"))
    for plane in range(rank_bytes(len(usual))):
        size = own.stop - own.start
        yield _frame(planes[plane * size : (plane + 1) * size])


def _grid(counts: Array) -> tuple[Array, Array]:
    """Room for rows side by side, uint64[rows, longest], and which of it they fill, bool."""
    longest = int(counts.max(initial=0))
    inside = np.arange(longest) < counts[:, None]
    return np.empty(inside.shape, np.uint64), inside


def _owners(columns: Columns) -> tuple[Array, bytes]:
    """For each lookup the position of its subject among the rows, then among others; the others."""
    n = len(columns)
    rows = joined_subjects(columns.high, columns.low)
    wanted = joined_subjects(columns.owner_high, columns.owner_low)
    at = np.searchsorted(rows, wanted)
    strange = np.ones(len(wanted), bool) if not n else rows[np.minimum(at, n - 1)] != wanted
    others, positions = np.unique(wanted[strange], return_inverse=True)
    at[strange] = n + positions
    return at.astype("<u4"), others.tobytes()


def joined_subjects(high: Array, low: Array) -> Array:
    """Subjects, or hashes, as numpy compares bytes: void[n] of 16 bytes each."""
    both = np.empty((len(high), 2), ">u8")
    both[:, 0], both[:, 1] = high, low
    return both.view(f"V{SUBJECT_BYTES}").ravel()


def _planes(numbers: Array) -> bytes:
    """All first bytes, all second bytes, and so on, of little-endian numbers."""
    size = numbers.dtype.itemsize
    return numbers.view(np.uint8).reshape(-1, size).T.tobytes()


def _ascending(numbers: Array) -> bytes:
    """Planes of the differences of ascending numbers."""
    return _planes(np.diff(numbers, prepend=np.uint64(0)).astype("<u8"))


def _frame(data: bytes) -> bytes:
    packed: bytes = zstandard().compress(data, _LEVEL)
    return LENGTH.pack(len(packed)) + packed


def rank_bytes(distinct: int) -> int:
    """Bytes of a difference of ranks."""
    return max(1, (max(distinct - 1, 0).bit_length() + 7) // 8)


def zstandard() -> Any:
    """The module of Zstandard, imported when it is needed."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
