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
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk._posix import sync_directory
from edge_sdk.dna.genome import SUBJECT_BYTES, Row
from edge_sdk.errors import StoreCorrupt
from genome_edge.v1 import dna_pb2

_MAGIC: Final = b"GESNAP1\n"
_HEAD: Final = struct.Struct("<8sII")
_ALIGN: Final = 64
_MAX_HEADER: Final = 1 << 16
_TYPES: Final = {
    "high": ("<u8",),
    "low": ("<u8",),
    "consents": ("<u4",),
    "as_of_hours": ("<i4",),
    "starts": ("<u8",),
    "indices": ("<u2", "<u4"),
    "codes": ("|u1",),
}

_Columns = dict[str, npt.NDArray[Any]]


def write_snapshot(path: Path, lineage: dna_pb2.Lineage, rows: Iterable[Row]) -> int:
    """Write the rows to `path`, all or nothing; returns how many.

    The order does not matter; of rows with one subject the last one counts.
    Raises `OSError` where the disk refuses.
    """
    columns = _columns(rows)
    head, sections, size = _layout(lineage, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(head)
            for offset, data in sections:
                file.seek(offset)
                file.write(data)
            file.truncate(size)  # also where the last sections are empty
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return len(columns["high"])


def _columns(rows: Iterable[Row]) -> _Columns:
    unique = {row.subject: row for row in rows}
    ordered = [unique[subject] for subject in sorted(unique)]
    subjects = np.frombuffer(b"".join(row.subject for row in ordered), dtype=">u8").reshape(-1, 2)
    starts = np.zeros(len(ordered) + 1, dtype="<u8")
    np.cumsum([len(row.indices) for row in ordered], out=starts[1:])
    empty = np.zeros(0, dtype=np.uint32)
    indices = np.concatenate([empty, *(row.indices for row in ordered)])
    narrow = not len(indices) or int(indices.max()) < 1 << 16
    return {
        "high": subjects[:, 0].astype("<u8"),
        "low": subjects[:, 1].astype("<u8"),
        "consents": np.array([row.consents for row in ordered], dtype="<u4"),
        "as_of_hours": np.array([row.as_of_hour for row in ordered], dtype="<i4"),
        "starts": starts,
        "indices": indices.astype("<u2" if narrow else "<u4"),
        "codes": np.concatenate([empty.astype(np.uint8), *(row.codes for row in ordered)]),
    }


def _layout(
    lineage: dna_pb2.Lineage, columns: _Columns
) -> tuple[bytes, list[tuple[int, bytes]], int]:
    """The head of the file, the bytes of each section with their offset, the file's length."""
    # Offsets in the header count from its end, so that they do not change its length.
    relative, entries, contents = 0, {}, []
    for name, column in columns.items():
        content = column.tobytes()
        entries[name] = {
            "type": column.dtype.str,
            "offset": relative,
            "length": len(content),
            "crc": zlib.crc32(content),
        }
        contents.append((relative, content))
        relative += _aligned(len(content))
    document = {
        "rows": len(columns["high"]),
        "lineage": lineage.SerializeToString(deterministic=True).hex(),
        "sections": entries,
    }
    header = json.dumps(document, separators=(",", ":")).encode()
    base = _aligned(_HEAD.size + len(header))
    head = _HEAD.pack(_MAGIC, len(header), zlib.crc32(header)) + header
    return head, [(base + offset, content) for offset, content in contents], base + relative


def _aligned(length: int) -> int:
    return -(-length // _ALIGN) * _ALIGN


class Snapshot:
    """An open snapshot. Safe to read from any number of threads and processes.

    Rows that were handed out keep the mapping alive; there is nothing to close.
    """

    def __init__(self, path: Path, lineage: dna_pb2.Lineage, columns: _Columns) -> None:
        self.path = path
        self.lineage = lineage
        self._high = columns["high"]
        self._low = columns["low"]
        self._consents = columns["consents"]
        self._as_of = columns["as_of_hours"]
        self._starts = columns["starts"]
        self._indices = columns["indices"]
        self._codes = columns["codes"]

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Snapshot:
        """Map a snapshot. Raises `StoreCorrupt` where it is not what was written.

        `verify=False` trusts the sections' checksums (a gigabyte takes about a
        second to sum) and still checks the header and every section's place.
        """
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise StoreCorrupt(f"{path}: cannot be read: {error}") from error
        try:
            return cls._read(path, data, verify)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorrupt(f"{path}: its header makes no sense: {error}") from error

    @classmethod
    def _read(cls, path: Path, data: mmap.mmap, verify: bool) -> Snapshot:
        if len(data) < _HEAD.size:
            raise StoreCorrupt(f"{path}: cut after {len(data)} bytes")
        magic, length, crc = _HEAD.unpack_from(data)
        header = data[_HEAD.size : _HEAD.size + length] if length <= _MAX_HEADER else b""
        if magic != _MAGIC or len(header) != length or zlib.crc32(header) != crc:
            raise StoreCorrupt(f"{path}: not a genome snapshot, or its header is damaged")
        document = json.loads(header)
        base = _aligned(_HEAD.size + length)
        columns: _Columns = {}
        for name, types in _TYPES.items():
            entry = document["sections"][name]
            offset, size = base + entry["offset"], entry["length"]
            if entry["type"] not in types or offset + size > len(data):
                raise StoreCorrupt(f"{path}: section {name} is cut or of unknown type")
            content = memoryview(data)[offset : offset + size]
            if verify and zlib.crc32(content) != entry["crc"]:
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
        return None if at is None else int(self._consents[at])

    def _find(self, subject: bytes) -> int | None:
        if len(subject) != SUBJECT_BYTES:
            return None
        high = int.from_bytes(subject[:8], "big")
        low = int.from_bytes(subject[8:], "big")
        at = int(self._high.searchsorted(np.uint64(high)))
        while at < len(self._high) and int(self._high[at]) == high:
            if int(self._low[at]) == low:
                return at
            at += 1
        return None

    def _row(self, at: int, subject: bytes) -> Row:
        begin, end = int(self._starts[at]), int(self._starts[at + 1])
        return Row(
            subject=subject,
            consents=int(self._consents[at]),
            as_of_hour=int(self._as_of[at]),
            indices=self._indices[begin:end].astype(np.uint32),
            codes=self._codes[begin:end],
        )

    def __iter__(self) -> Iterator[Row]:
        for at in range(len(self)):
            high, low = int(self._high[at]), int(self._low[at])
            yield self._row(at, high.to_bytes(8, "big") + low.to_bytes(8, "big"))

    def __len__(self) -> int:
        return len(self._high)

    def __contains__(self, subject: object) -> bool:
        return isinstance(subject, bytes) and self.lookup(subject) is not None
