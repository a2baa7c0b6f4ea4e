"""Reads the content that `edge_sdk.dna.columns.encode` makes; it may be anything.

Every size is checked before room is made for it, and one block is in memory at a time.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final

import numpy as np

from edge_sdk.dna.columns import (
    CELLS,
    HEAD,
    LEAST,
    LENGTH,
    MAGIC,
    MOST,
    Array,
    Columns,
    Sizes,
    rank_bytes,
    zstandard,
)
from edge_sdk.dna.genome import SUBJECT_BYTES
from edge_sdk.errors import FormatError

MAX_ROWS: Final = 20_000_000
MAX_BYTES: Final = 4 << 30
_WINDOW_LOG: Final = 23

Bytes = bytes | memoryview | mmap.mmap


class Content:
    """Reads a content that may be anything. Every method raises `FormatError`.

    `data` is bytes or a mapped file. Take `rows()` first, to its end, then `lookups()`.
    """

    def __init__(
        self, data: Bytes, *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._data = memoryview(data)
        self._at = HEAD.size
        if len(self._data) < HEAD.size:
            raise FormatError("genome content is cut")
        magic, n, m, k, self._others, distinct = HEAD.unpack_from(self._data)
        if magic != MAGIC:
            raise FormatError("this is no genome content")
        # What comes of it: 32 bytes and at most 5 for each marker, 48 for each lookup.
        if max(n, k, self._others) > max_rows or 32 * n + 5 * m + 48 * k > max_bytes:
            raise FormatError(f"genome content of {n} rows, {m} markers, {k} lookups is too large")
        if distinct > min(m, CELLS):
            raise FormatError(f"genome content with {distinct} distinct markers among {m}")
        self._table = _numbers(self._frame(4 * distinct), 4)
        if len(np.unique(self._table)) != distinct:
            raise FormatError("genome content names a marker twice")
        usual = np.frombuffer(self._frame(distinct), np.uint8)
        self._width = rank_bytes(distinct)
        largest = int(self._table.max(initial=0))
        self._packed: type[np.unsignedinteger[Any]] = np.uint32 if largest < 1 << 24 else np.uint64
        self._shifted = self._table.astype(self._packed) << np.array(8, self._packed) | usual
        self.sizes = Sizes(n, m, k, largest >= 1 << 16)

    def rows(self) -> Iterator[Columns]:
        """The rows in blocks, ascending by subject; `starts` count from each block's own."""
        rows, markers = self.sizes.rows, self.sizes.markers
        last = -1
        while rows:
            block = self._rows(rows, markers)
            first = int(block.high[0]) << 64 | int(block.low[0])
            if first <= last:
                raise FormatError("subjects of genome content do not ascend")
            last = int(block.high[-1]) << 64 | int(block.low[-1])
            rows -= len(block)
            markers -= len(block.indices)
            yield block
        if markers:
            raise FormatError("genome content has fewer markers than it says")

    def _rows(self, most: int, most_markers: int) -> Columns:
        n = self._count(most)
        counts = _numbers(self._frame(4 * n), 4).astype(np.int64)
        longest, m = int(counts.max()), int(counts.sum())
        if m > most_markers or longest > min(CELLS // max(n, LEAST), len(self._table)):
            raise FormatError("a block of genome content has too many markers")
        high, low = self._subjects(n)
        consents = _numbers(self._frame(4 * n), 4)
        hours = _numbers(self._frame(4 * n), 4).view(np.int32)
        least = np.frombuffer(self._frame(n), np.uint8)
        codes = np.frombuffer(self._frame(m), np.uint8)
        deltas = np.zeros((m, 2 if self._width <= 2 else 4), np.uint8)
        for plane in range(self._width):
            deltas[:, plane] = np.frombuffer(self._frame(m), np.uint8)
        starts = np.zeros(n + 1, np.uint64)
        np.cumsum(counts, out=starts[1:])
        ranks = deltas.view(f"<u{deltas.shape[1]}").ravel()
        indices, codes = self._markers(counts, ranks, codes, least)
        return Columns(high, low, consents, hours, starts, indices, codes)

    def _markers(
        self, counts: Array, deltas: Array, codes: Array, least: Array
    ) -> tuple[Array, Array]:
        """Indices and codes row by row, out of what stands position by position."""
        longest = int(counts.max())
        inside = np.arange(longest)[:, None] < counts
        ranks = _spread(deltas, inside, np.uint32 if self._width <= 2 else np.uint64)
        if (ranks[1:][inside[1:]] == 0).any():
            raise FormatError("a row of genome content names a marker twice")
        for place in range(1, longest):  # three times as fast as cumsum along this axis
            ranks[place] += ranks[place - 1]
        if len(deltas) and int(ranks.max()) >= len(self._table):
            raise FormatError("a row of genome content names a marker beyond those listed")
        # Index and code in one number, so that one sort puts both in order; fill comes last.
        packed = self._shifted[ranks]
        low = packed.view(np.uint8)[:, :: packed.itemsize]
        low += _spread(codes, inside, np.uint8)
        low += least
        packed[~inside] = np.iinfo(self._packed).max
        turned = np.ascontiguousarray(packed.T)
        turned.sort(axis=1)
        flat = turned[np.arange(longest) < counts[:, None]]
        return (
            (flat >> 8).astype(np.uint32 if self.sizes.wide else np.uint16),
            flat.astype(np.uint8),
        )

    def lookups(self, high: Array, low: Array) -> Iterator[tuple[Array, Array, Array, Array]]:
        """Blocks of (hash_high, hash_low, owner_high, owner_low), ascending by hash.

        `high` and `low` are the subjects of all rows.
        """
        subjects = (high, low)
        others = np.frombuffer(self._frame(SUBJECT_BYTES * self._others), ">u8").reshape(-1, 2)
        last, left = -1, self.sizes.lookups
        while left:
            k = self._count(left)
            first, second = self._subjects(k)
            if int(first[0]) << 64 | int(second[0]) <= last:
                raise FormatError("lookups of genome content do not ascend")
            last = int(first[-1]) << 64 | int(second[-1])
            at = _numbers(self._frame(4 * k), 4).astype(np.int64)
            if int(at.max()) >= len(high) + len(others):
                raise FormatError("a lookup of genome content names nobody")
            held = at < len(high)
            owners = np.empty((2, k), np.uint64)
            for half in (0, 1):
                owners[half, held] = subjects[half][at[held]]
                owners[half, ~held] = others[at[~held] - len(high), half]
            left -= k
            yield first, second, owners[0], owners[1]
        if self._at != len(self._data):
            raise FormatError("genome content goes on behind its end")

    def _subjects(self, n: int) -> tuple[Array, Array]:
        """First and last halves of subjects or hashes, which ascend."""
        high = np.cumsum(_numbers(self._frame(8 * n), 8), dtype=np.uint64)
        low = np.frombuffer(self._frame(8 * n), "<u8").astype(np.uint64)
        over = high[1:] > high[:-1]
        if not (over | (high[1:] == high[:-1]) & (low[1:] > low[:-1])).all():
            raise FormatError("subjects of genome content do not ascend")
        return high, low

    def _count(self, most: int) -> int:
        count = int(LENGTH.unpack(self._take(LENGTH.size))[0])
        if not min(most, LEAST) <= count <= min(most, MOST):
            raise FormatError(f"a block of genome content has {count} rows")
        return count

    def _frame(self, size: int) -> bytes:
        """A frame's data, which must be of this size."""
        packed = self._take(LENGTH.unpack(self._take(LENGTH.size))[0])
        zstd = zstandard()
        reader = zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
        )
        try:
            data: bytes = reader.decompress(packed, max_length=size + 1)
        except zstd.ZstdError as error:
            raise FormatError(f"genome content is damaged: {error}") from error
        if len(data) != size or not reader.eof or reader.unused_data:
            raise FormatError("a stream of genome content has another size than it should")
        return data

    def _take(self, size: int) -> memoryview:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise FormatError("genome content is cut")
        self._at += size
        return taken


def decode(data: Bytes, *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> Columns:
    """All of a content at once. Raises `FormatError`."""
    content = Content(data, max_rows=max_rows, max_bytes=max_bytes)
    empty = Columns.of([])
    blocks = [*content.rows()]
    joined = {
        field.name: np.concatenate([getattr(block, field.name) for block in blocks or [empty]])
        for field in fields(Columns)
    }
    counts = [np.diff(block.starts) for block in blocks]
    starts = np.zeros(content.sizes.rows + 1, np.uint64)
    np.cumsum(np.concatenate([np.zeros(0, np.uint64), *counts]), out=starts[1:])
    lookups = [*content.lookups(joined["high"], joined["low"])]
    names = ("hash_high", "hash_low", "owner_high", "owner_low")
    joined |= {
        name: np.concatenate([np.zeros(0, np.uint64), *(block[i] for block in lookups)])
        for i, name in enumerate(names)
    }
    return Columns(**(joined | {"starts": starts}))


def _spread(values: Array, inside: Array, kind: type[np.unsignedinteger[Any]]) -> Array:
    """Values where there is one of them, 0 elsewhere."""
    if len(values) == inside.size:
        return values.reshape(inside.shape).astype(kind)
    filled: Array = np.zeros(inside.shape, kind)
    filled[inside] = values
    return filled


def _numbers(data: bytes, size: int) -> Array:
    """The numbers of `_planes`, unsigned."""
    planes = np.frombuffer(data, np.uint8).reshape(size, -1)
    numbers: Array = np.ascontiguousarray(planes.T).view(f"<u{size}").ravel()
    return numbers
