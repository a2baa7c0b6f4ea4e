"""Genome rows of a whole audience in one immutable, memory-mapped file.

Theory. A device looks up one customer among up to millions, in microseconds,
from several processes that share the pages. So the file is columns as numpy
reads them: subjects as two ascending 64-bit columns (searched), consents,
hours, where each row's markers start, and the markers of all rows behind one
another. Nothing is decoded but the row that is asked for.

    magic 8 | header length u32 | crc of header u32 | header | sections

The header names every section with its type, offset, length and CRC-32;
sections start at multiples of 64 bytes. A file is written beside its place,
flushed, renamed and its directory flushed: it is whole or it is not there. It
is never changed afterwards: what comes later is kept as patches elsewhere.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from edge_sdk._posix import sync_directory
from edge_sdk.dna.columns import Columns, Sizes, row_sums, total
from edge_sdk.dna.genome import SUBJECT_BYTES, Row
from edge_sdk.errors import FormatError, StoreCorrupt
from edge_sdk.store.files import crc_of
from genome_edge.v1 import dna_pb2

_MAGIC: Final = b"GESNAP1\n"
_HEAD: Final = struct.Struct("<8sII")
_INDEX: Final = np.dtype(np.uint32)
_HALVES: Final = struct.Struct(">QQ")
_ALIGN: Final = 64
_MAX_HEADER: Final = 1 << 16
_BLOCK_ROWS: Final = 1 << 16
_TYPES: Final = {
    "high": ("<u8",),
    "low": ("<u8",),
    "consents": ("<u4",),
    "as_of_hours": ("<i4",),
    "starts": ("<u4", "<u8"),
    "indices": ("<u2", "<u4"),
    "codes": ("|u1",),
}

_OF_MARKERS: Final = frozenset({"indices", "codes"})
_LARGEST_CRC: Final = (1 << 32) - 1
_SUM_MASK: Final = (1 << 64) - 1

_Arrays = dict[str, npt.NDArray[Any]]


def write_snapshot(path: Path, lineage: dna_pb2.Lineage, rows: Iterable[Row]) -> int:
    """Write the rows to `path`, all or nothing; returns how many.

    The order does not matter; of rows with one subject the last one counts.
    Raises `OSError` where the disk refuses.
    """
    columns = Columns.of(rows)
    write_columns(path, lineage, columns.sizes, [columns])
    return len(columns)


def write_columns(
    path: Path, lineage: dna_pb2.Lineage, sizes: Sizes, blocks: Iterable[Columns]
) -> int:
    """Write rows that come in blocks, ascending by subject, as many as `sizes` says.

    All or nothing. Returns the sum of their row sums. Raises what `blocks` raises, and `OSError`.
    """
    types = {name: known[-1] for name, known in _TYPES.items()}
    types["indices"] = "<u4" if sizes.wide else "<u2"
    types["starts"] = "<u8" if sizes.markers >> 32 else "<u4"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            summed = _write(file, lineage, sizes, types, blocks)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return summed


def _write(
    file: BinaryIO,
    lineage: dna_pb2.Lineage,
    sizes: Sizes,
    types: dict[str, str],
    blocks: Iterable[Columns],
) -> int:
    """Write all sections side by side, then the header over the room that was left for it."""
    relative = 0
    entries: dict[str, dict[str, Any]] = {}
    for name, type_ in types.items():
        count = {"starts": sizes.rows + 1}.get(name, sizes.rows)
        count = sizes.markers if name in _OF_MARKERS else count
        length = count * np.dtype(type_).itemsize
        # Offsets in the header count from its end, so that they do not change its length.
        entries[name] = {"type": type_, "offset": relative, "length": length, "crc": _LARGEST_CRC}
        relative += _aligned(length)
    document = {
        "rows": sizes.rows,
        "lineage": lineage.SerializeToString(deterministic=True).hex(),
        "sections": entries,
    }
    room = len(_json(document))
    base = _aligned(_HEAD.size + room)
    place = {name: base + entry["offset"] for name, entry in entries.items()}
    sums = dict.fromkeys(entries, 0)

    def put(name: str, column: npt.NDArray[Any]) -> None:
        data = np.ascontiguousarray(column, types[name]).view(np.uint8).data
        file.seek(place[name])
        file.write(data)
        place[name] += len(data)
        sums[name] = zlib.crc32(data, sums[name])

    markers = row_sum = 0
    put("starts", np.zeros(1, np.uint64))
    for block in blocks:
        put("starts", block.starts[1:] + np.uint64(markers))
        for name in types:
            if name != "starts":
                put(name, getattr(block, name))
        markers += len(block.indices)
        row_sum += total(row_sums(block))
    for name, entry in entries.items():
        if place[name] != base + entry["offset"] + entry["length"]:
            raise FormatError(f"the rows have more or less {name} than they should")
        entry["crc"] = sums[name]
    header = _json(document).ljust(room)
    file.truncate(base + relative)  # also where the last sections are empty
    file.seek(0)
    file.write(_HEAD.pack(_MAGIC, len(header), zlib.crc32(header)) + header)
    return row_sum & _SUM_MASK


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _aligned(length: int) -> int:
    return -(-length // _ALIGN) * _ALIGN


class Snapshot:
    """An open snapshot. Safe to read from any number of threads and processes.

    Rows that were handed out keep the mapping alive; there is nothing to close.
    """

    def __init__(self, path: Path, lineage: dna_pb2.Lineage, columns: _Arrays) -> None:
        self.path = path
        self.lineage = lineage
        self._columns = columns
        self._search = columns["high"].searchsorted
        self._indices = columns["indices"]
        self._codes = columns["codes"]
        # Single numbers are read twice as fast through memory views.
        self._high = columns["high"].data
        self._low = columns["low"].data
        self._consents = columns["consents"].data
        self._as_of = columns["as_of_hours"].data
        self._starts = columns["starts"].data

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Snapshot:
        """Map a snapshot. Raises `StoreCorrupt` where it is not what was written.

        `verify=False` trusts the sections' checksums (a gigabyte takes about a
        second to sum) and still checks the header and every section's place.
        """
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                # A row is one place: what lies around it would only take memory.
                data.madvise(mmap.MADV_RANDOM)
                return cls._read(path, data, file if verify else None)
        except OSError as error:
            raise StoreCorrupt(f"{path}: cannot be read: {error}") from error
        except (ValueError, KeyError, TypeError) as error:  # also of an empty file
            raise StoreCorrupt(f"{path}: its header makes no sense: {error}") from error

    @classmethod
    def _read(cls, path: Path, data: mmap.mmap, file: BinaryIO | None) -> Snapshot:
        if len(data) < _HEAD.size:
            raise StoreCorrupt(f"{path}: cut after {len(data)} bytes")
        magic, length, crc = _HEAD.unpack_from(data)
        header = data[_HEAD.size : _HEAD.size + length] if length <= _MAX_HEADER else b""
        if magic != _MAGIC or len(header) != length or zlib.crc32(header) != crc:
            raise StoreCorrupt(f"{path}: not a genome snapshot, or its header is damaged")
        document = json.loads(header)
        base = _aligned(_HEAD.size + length)
        columns: _Arrays = {}
        for name, types in _TYPES.items():
            entry = document["sections"][name]
            offset, size = base + entry["offset"], entry["length"]
            if entry["type"] not in types or offset + size > len(data):
                raise StoreCorrupt(f"{path}: section {name} is cut or of unknown type")
            content = memoryview(data)[offset : offset + size]
            if file is not None and crc_of(file, offset, size) != entry["crc"]:
                raise StoreCorrupt(f"{path}: section {name} is damaged")
            columns[name] = np.frombuffer(content, dtype=entry["type"])
        n = document["rows"]
        lengths = [len(columns[name]) for name in ("high", "low", "consents", "as_of_hours")]
        markers = int(columns["starts"][-1])
        if (
            lengths != [n] * 4
            or len(columns["starts"]) != n + 1
            or len(columns["indices"]) != markers
            or len(columns["codes"]) != markers
        ):
            raise StoreCorrupt(f"{path}: its columns do not fit together")
        lineage = dna_pb2.Lineage.FromString(bytes.fromhex(document["lineage"]))
        return cls(path, lineage, columns)

    def lookup(self, subject: bytes) -> Row | None:
        """The row of a subject (16 bytes), or None."""
        at = self._find(subject)
        return None if at is None else self._row(at, subject)

    def consents(self, subject: bytes) -> int | None:
        """The consent bits of a subject, without a look at its strengths; None without a row."""
        at = self._find(subject)
        return None if at is None else self._consents[at]

    def subject_of(self, prefix: bytes) -> bytes | None:
        """The only subject that begins with these 8 bytes; None where there is none."""
        high = np.uint64(int.from_bytes(prefix, "big"))
        first, end = (int(self._search(high, side)) for side in ("left", "right"))
        return prefix + self._low[first].to_bytes(8, "big") if end == first + 1 else None

    @property
    def sizes(self) -> Sizes:
        """How many rows and markers there are."""
        return Sizes(len(self), len(self._codes), 0, self._indices.itemsize > 2)

    def markers_of(self, subject: bytes) -> int | None:
        """How many markers the row of a subject has; None without a row."""
        at = self._find(subject)
        return None if at is None else self._starts[at + 1] - self._starts[at]

    def _find(self, subject: bytes) -> int | None:
        if len(subject) != SUBJECT_BYTES:
            return None
        high, low = _HALVES.unpack(subject)
        at, n = int(self._search(np.uint64(high))), len(self._high)
        while at < n and self._high[at] == high:
            if self._low[at] == low:
                return at
            at += 1
        return None

    def _row(self, at: int, subject: bytes) -> Row:
        begin, end = self._starts[at], self._starts[at + 1]
        return Row(
            subject,
            self._consents[at],
            self._as_of[at],
            self._indices[begin:end].astype(_INDEX),
            self._codes[begin:end],
        )

    def blocks(self) -> Iterator[Columns]:
        """All rows, some at a time, ascending by subject; `starts` count from each block's own."""
        starts = self._columns["starts"].astype(np.uint64)
        for begin in range(0, len(self), _BLOCK_ROWS):
            rows = slice(begin, begin + _BLOCK_ROWS)
            own = starts[begin : begin + _BLOCK_ROWS + 1]
            markers = slice(int(own[0]), int(own[-1]))
            held = {name: column[rows] for name, column in self._columns.items()}
            held |= {name: self._columns[name][markers] for name in _OF_MARKERS}
            yield Columns(**(held | {"starts": own - own[0]}))

    def __iter__(self) -> Iterator[Row]:
        for at in range(len(self)):
            yield self._row(at, _HALVES.pack(self._high[at], self._low[at]))

    def __len__(self) -> int:
        return len(self._high)

    def __contains__(self, subject: object) -> bool:
        return isinstance(subject, bytes) and self.lookup(subject) is not None
