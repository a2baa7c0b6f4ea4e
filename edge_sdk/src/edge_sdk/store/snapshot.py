"""Genome rows of a whole audience in one immutable file that all processes share.

Theory. A device looks up one customer among up to millions, in microseconds,
from several processes that share the pages. So the file is columns as numpy
reads them: subjects as two ascending 64-bit columns (searched), consents,
hours, where each row's markers start, and the markers of all rows behind one
another, each an index and a code. Nothing is decoded but the row that is asked
for. The columns are mapped. The markers are read: what is mapped and touched,
with all that the system maps around it, counts as memory of the process, and of
two million customers they are nine tenths.

    magic 8 | header length u32 | crc of header u32 | header | sections

The header names every section with its type, offset, length and CRC-32;
sections start at multiples of 64 bytes. A file is written beside its place,
flushed, renamed and its directory flushed: it is whole or it is not there. It
is never changed afterwards: what comes later is kept as patches elsewhere.
SDKs before 0.2 wrote indices and codes as two sections.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import struct
import weakref
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_sdk._posix import sync_directory
from edge_sdk.dna.genome import SUBJECT_BYTES, Row
from edge_sdk.errors import FormatError, StoreCorrupt
from edge_sdk.lazy import later
from edge_sdk.messages import dna_pb2, lineage_of
from edge_sdk.store.files import crc_of

if TYPE_CHECKING:
    from edge_sdk.dna import columns
    from edge_sdk.dna.columns import Columns, Sizes
else:
    columns = later("edge_sdk.dna.columns")

log = logging.getLogger(__name__)

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
}
_OLD_TYPES: Final = {"indices": ("<u2", "<u4"), "codes": ("|u1",)}
_MARKERS: Final = {
    name: np.dtype([("index", name), ("code", "|u1")]) for name in _OLD_TYPES["indices"]
}
_PER_ROW: Final = ("high", "low", "consents", "as_of_hours")
_LARGEST_CRC: Final = (1 << 32) - 1
_SUM_MASK: Final = (1 << 64) - 1

_Arrays = dict[str, npt.NDArray[Any]]


def write_columns(
    path: Path, lineage: dna_pb2.Lineage, sizes: Sizes, blocks: Iterable[Columns]
) -> int:
    """Write rows that come in blocks, ascending by subject, as many as `sizes` says.

    All or nothing. Returns the sum of their row sums. Raises what `blocks` raises, and `OSError`.
    """
    types = {name: known[-1] for name, known in _TYPES.items()}
    types["markers"] = "<u4" if sizes.wide else "<u2"
    types["starts"] = "<u8" if sizes.markers >> 32 else "<u4"
    path.parent.mkdir(parents=True, exist_ok=True)
    import tempfile  # only where a file is written

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
        count = {"starts": sizes.rows + 1, "markers": sizes.markers}.get(name, sizes.rows)
        length = count * (np.dtype(type_).itemsize + (name == "markers"))
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
        data = np.ascontiguousarray(column).view(np.uint8).data
        file.seek(place[name])
        file.write(data)
        place[name] += len(data)
        sums[name] = zlib.crc32(data, sums[name])

    markers = row_sum = 0
    put("starts", np.zeros(1, types["starts"]))
    for block in blocks:
        put("starts", (block.starts[1:] + np.uint64(markers)).astype(types["starts"]))
        for name in _PER_ROW:
            put(name, getattr(block, name).astype(types[name], copy=False))
        pairs = np.empty(len(block.indices), _MARKERS[types["markers"]])
        pairs["index"], pairs["code"] = block.indices, block.codes
        put("markers", pairs)
        markers += len(block.indices)
        row_sum += columns.total(columns.row_sums(block))
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


class _ReadMarkers(Protocol):
    """Indices and codes from one place among all markers to another."""

    wide: bool

    def __call__(self, begin: int, end: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]: ...


class _Together:
    """Markers that are read from the file. OSError where it does not give them any more."""

    def __init__(self, file: BinaryIO, offset: int, marker: np.dtype[Any]) -> None:
        self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._offset, self._marker, self._size = offset, marker, marker.itemsize
        self.wide = marker["index"].itemsize > 2

    def __call__(self, begin: int, end: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        size = self._size
        data = os.pread(self._file, (end - begin) * size, self._offset + begin * size)
        pairs = np.frombuffer(data, self._marker)
        if len(pairs) != end - begin:
            raise OSError("a genome snapshot ended while it was read")
        return pairs["index"], pairs["code"]


class _Apart:
    """Markers that are mapped, as before 0.2."""

    def __init__(self, indices: npt.NDArray[Any], codes: npt.NDArray[Any]) -> None:
        self._indices, self._codes = indices, codes
        self.wide = indices.itemsize > 2

    def __call__(self, begin: int, end: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return self._indices[begin:end], self._codes[begin:end]


class Snapshot:
    """An open snapshot. Safe to read from any number of threads and processes.

    There is nothing to close.
    """

    def __init__(
        self, path: Path, lineage: dna_pb2.Lineage, columns: _Arrays, read: _ReadMarkers
    ) -> None:
        self.path = path
        self.lineage = lineage
        self._columns = columns
        self._read_markers = read
        # Single numbers are read and searched twice as fast through memory views.
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
                return cls._read(path, data, file, verify)
        except OSError as error:
            raise StoreCorrupt(f"{path}: cannot be read: {error}") from error
        except (ValueError, KeyError, TypeError) as error:  # also of an empty file
            raise StoreCorrupt(f"{path}: its header makes no sense: {error}") from error

    @classmethod
    def _read(cls, path: Path, data: mmap.mmap, file: BinaryIO, verify: bool) -> Snapshot:
        if len(data) < _HEAD.size:
            raise StoreCorrupt(f"{path}: cut after {len(data)} bytes")
        magic, length, crc = _HEAD.unpack_from(data)
        header = data[_HEAD.size : _HEAD.size + length] if length <= _MAX_HEADER else b""
        if magic != _MAGIC or len(header) != length or zlib.crc32(header) != crc:
            raise StoreCorrupt(f"{path}: not a genome snapshot, or its header is damaged")
        document = json.loads(header)
        base = _aligned(_HEAD.size + length)

        def section(name: str, types: Collection[str]) -> tuple[str, int, int]:
            entry = document["sections"][name]
            type_, offset, size = entry["type"], base + entry["offset"], entry["length"]
            if type_ not in types or offset + size > len(data):
                raise StoreCorrupt(f"{path}: section {name} is cut or of unknown type")
            if verify and crc_of(file, offset, size) != entry["crc"]:
                raise StoreCorrupt(f"{path}: section {name} is damaged")
            return type_, offset, size

        columns: _Arrays = {}
        for name, types in _TYPES.items():
            type_, offset, size = section(name, types)
            columns[name] = np.frombuffer(memoryview(data)[offset : offset + size], type_)
        n, markers = document["rows"], int(columns["starts"][-1])
        lengths = [len(columns[name]) for name in _PER_ROW]
        read: _ReadMarkers
        if "markers" in document["sections"]:
            type_, offset, size = section("markers", _MARKERS)
            found = [size // _MARKERS[type_].itemsize]
            read = _Together(file, offset, _MARKERS[type_])
        else:
            places = [section(name, types) for name, types in _OLD_TYPES.items()]
            old = [np.frombuffer(memoryview(data)[at : at + size], t) for t, at, size in places]
            found = [len(column) for column in old]
            read = _Apart(*old)
        if lengths != [n] * 4 or len(columns["starts"]) != n + 1 or set(found) != {markers}:
            raise StoreCorrupt(f"{path}: its columns do not fit together")
        lineage = lineage_of(bytes.fromhex(document["lineage"]))
        return cls(path, lineage, columns, read)

    def lookup(self, subject: bytes) -> Row | None:
        """The row of a subject (16 bytes), or None; also where the disk does not give it."""
        at = self._find(subject)
        if at is None:
            return None
        try:
            return self._row(at, subject)
        except OSError as error:
            log.warning("%s: %s", self.path, error)
            return None

    def consents(self, subject: bytes) -> int | None:
        """The consent bits of a subject, without a look at its strengths; None without a row."""
        at = self._find(subject)
        return None if at is None else self._consents[at]

    def subject_of(self, prefix: bytes) -> bytes | None:
        """The only subject that begins with these 8 bytes; None where there is none."""
        high = int.from_bytes(prefix, "big")
        first, end = bisect_left(self._high, high), bisect_right(self._high, high)
        return prefix + self._low[first].to_bytes(8, "big") if end == first + 1 else None

    @property
    def sizes(self) -> Sizes:
        """How many rows and markers there are."""
        return columns.Sizes(len(self), self._starts[len(self)], 0, self._read_markers.wide)

    def markers_of(self, subject: bytes) -> int | None:
        """How many markers the row of a subject has; None without a row."""
        at = self._find(subject)
        return None if at is None else self._starts[at + 1] - self._starts[at]

    def _find(self, subject: bytes) -> int | None:
        if len(subject) != SUBJECT_BYTES:
            return None
        high, low = _HALVES.unpack(subject)
        at, n = bisect_left(self._high, high), len(self._high)
        while at < n and self._high[at] == high:
            if self._low[at] == low:
                return at
            at += 1
        return None

    def _row(self, at: int, subject: bytes) -> Row:
        indices, codes = self._read_markers(self._starts[at], self._starts[at + 1])
        return Row(subject, self._consents[at], self._as_of[at], indices.astype(_INDEX), codes)

    def blocks(self) -> Iterator[Columns]:
        """All rows, some at a time, ascending by subject; `starts` count from each block's own."""
        starts = self._columns["starts"].astype(np.uint64)
        for begin in range(0, len(self), _BLOCK_ROWS):
            rows = slice(begin, begin + _BLOCK_ROWS)
            own = starts[begin : begin + _BLOCK_ROWS + 1]
            indices, codes = self._read_markers(int(own[0]), int(own[-1]))
            held = {name: self._columns[name][rows] for name in _PER_ROW}
            yield columns.Columns(**held, starts=own - own[0], indices=indices, codes=codes)

    def __iter__(self) -> Iterator[Row]:
        for at in range(len(self)):
            yield self._row(at, _HALVES.pack(self._high[at], self._low[at]))

    def __len__(self) -> int:
        return len(self._high)

    def __contains__(self, subject: object) -> bool:
        return isinstance(subject, bytes) and self.lookup(subject) is not None
