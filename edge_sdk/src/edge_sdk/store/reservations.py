"""What the processes of one store tell each other of caps at once: claims, in a file beside it.

Rules
-----
1. Who takes something that is limited reads what the others have taken, looks whether there is
   still one, and writes down that it took it: in one turn (`_posix.Turns`), which ends with its
   process. So no two processes of a store ever take the last one.
2. The file is memory that processes share, not a record: SQLite keeps what happened. It is not
   fsynced. What stands in both counts once, by its claim.
3. A process that was killed before it wrote what it had taken has taken it: others go on counting
   it for as long as the file holds it. What it only held lapses.
4. The file is begun anew when it has grown: with what is held, and with what was taken so lately
   that it may not be in SQLite yet. A process that still reads the old file reads it to its end;
   one that missed a whole file reads SQLite again.

Format: records, each a CRC-32 and a length (6 bytes, little-endian) and a body: a type, two int64
and six fields with uint16 lengths. The first record names the file, the one before it and the boot.
A record that is not whole was being written by somebody who was killed, or is damaged: the file is
begun anew without it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from edge_sdk import _posix
from edge_sdk.clock import since_boot_ms
from edge_sdk.engine.cap_holds import Hold
from edge_sdk.engine.cap_rules import VIEW, CapRow

_NAME: Final = "claims"
_TURN: Final = "claims"
_HEAD: Final = struct.Struct("<IH")
_BODY: Final = struct.Struct("<cqq6H")
_FILE, _TAKEN, _HELD = b"F", b"T", b"H"
_ERASE_S: Final = 5.0
_GROWN_BYTES: Final = 1 << 20
#: What was taken is in SQLite by then, or its process is gone.
_SETTLED_MS: Final = 600_000


class Record(NamedTuple):
    """One record. `at_ms` is Unix milliseconds, `elapsed` milliseconds of the clock by which holds
    lapse: when something was taken, or when what is held lapses."""

    type: bytes
    at_ms: int
    elapsed: int
    claim: bytes
    subject: bytes
    offer: str = ""
    kind: str = ""
    campaign: str = ""
    group: str = ""

    @classmethod
    def taken(cls, row: CapRow, elapsed: int) -> Record:
        """What says that something counts."""
        subject, offer, kind, at_ms, claim, campaign, group, _ = row
        return cls(_TAKEN, at_ms, elapsed, claim, subject, offer, kind, campaign, group)

    @classmethod
    def held(cls, row: CapRow, lapse: int) -> Record:
        """What says that a view is held until then."""
        return cls.taken(row, lapse)._replace(type=_HELD)

    def row(self) -> CapRow | None:
        """What counts; None: it is not of that kind."""
        if self.type != _TAKEN:
            return None
        return CapRow(
            self.subject, self.offer, self.kind, self.at_ms, self.claim, self.campaign, self.group
        )

    def hold(self) -> Hold | None:
        """What is held; None: it is not of that kind."""
        if self.type != _HELD:
            return None
        return Hold(self.claim, self.subject, self.offer, self.elapsed, self.campaign, self.group)

    def pack(self) -> bytes:
        """As it is written."""
        texts = (self.offer, self.kind, self.campaign, self.group)
        fields = (self.claim, self.subject, *(text.encode() for text in texts))
        body = _BODY.pack(self.type, self.at_ms, self.elapsed, *map(len, fields)) + b"".join(fields)
        return _HEAD.pack(zlib.crc32(body), len(body)) + body


def unpack(data: bytes) -> Iterator[tuple[Record, int]]:
    """The records that are whole, each with where it ends."""
    at = 0
    while at + _HEAD.size <= len(data):
        crc, length = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        if len(body) < max(length, _BODY.size) or zlib.crc32(body) != crc:
            return
        kind, at_ms, elapsed, *lengths = _BODY.unpack_from(body)
        fields, start = [], _BODY.size
        for size in lengths:
            fields.append(body[start : start + size])
            start += size
        claim, subject, *texts = fields
        yield Record(kind, at_ms, elapsed, claim, subject, *(t.decode() for t in texts)), at


class ClaimFile:
    """The file of claims of one store. For one thread at a time, but for `news`.

    Everything but `news` and `close` is for whoever has the turn. Raises OSError when made, and
    where the disk takes nothing.
    """

    def __init__(self, store: Path, boot_id: bytes, elapsed: Callable[[], int]) -> None:
        self.store = store
        self._path = store / _NAME
        self._boot_id = boot_id
        self._elapsed = elapsed
        self.turns = _posix.Turns(store / "locks" / _TURN)
        self._descriptor = -1
        self._offset = self._began = 0
        self._name = b""

    def news(self) -> bool:
        """Whether there is something that was not read yet. Takes no turn."""
        found = os.fstat(self._descriptor)
        return found.st_size != self._offset or not found.st_nlink

    def open(self) -> list[Record]:
        """Open the file, made where it is missing; what is in it. One of an earlier boot, or that
        is no such file, is begun anew."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._offset, self._name = 0, b""
        found = self._read()
        if not self._name or found[0].subject != self._boot_id:
            taken = [r._replace(elapsed=self._elapsed()) for r in found if r.type == _TAKEN]
            self._begin_anew(taken)
            return taken
        return found[1:]

    def read(self) -> tuple[list[Record], bool]:
        """What was written since, and whether something was missed in between."""
        found = self._read()
        missed = not self._offset
        if missed and self._is_current():  # damaged from its first byte on
            self._begin_anew([])
        while not self._is_current():
            before = self._name
            self._close_file()
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._offset, self._name = 0, b""
            more = self._read()
            if not self._name:
                self._begin_anew([])
                missed = True
            else:
                missed = missed or more[0].offer.encode() != before
            found += more[1:]
        return found, missed

    def append(self, records: Iterable[Record]) -> None:
        """Write records; what was there before must have been read."""
        data = b"".join(record.pack() for record in records)
        written = os.pwrite(self._descriptor, data, self._offset)
        if written != len(data):
            os.ftruncate(self._descriptor, self._offset)
            raise OSError(f"only {written} of {len(data)} bytes could be written")
        self._offset += written
        if self._offset - self._began > _GROWN_BYTES:
            self._begin_anew(self._kept())

    def forget(self, subjects: Iterable[bytes]) -> None:
        """Begin the file anew without what these subjects did or hold."""
        gone = frozenset(subjects)
        self._begin_anew([record for record in self._kept() if record.subject not in gone])

    def subjects(self) -> set[bytes]:
        """Who took or holds anything, as far as the file tells."""
        return {record.subject for record in self._kept()}

    def close(self) -> None:
        """Close the files."""
        self._close_file()
        self.turns.close()

    def _close_file(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _read(self) -> list[Record]:
        """The records from here to the end, the file's own first; without what is not whole."""
        size = os.fstat(self._descriptor).st_size
        if size < self._offset:  # not by one of us: what is left is read again
            self._offset = 0
        data = os.pread(self._descriptor, size - self._offset, self._offset)
        found: list[Record] = []
        end = 0
        with contextlib.suppress(UnicodeDecodeError):
            for record, end in unpack(data):  # noqa: B007
                found.append(record)
        if not self._offset and (not found or found[0].type != _FILE):
            return []  # no such file yet
        if not self._offset:
            self._name, self._began = found[0].claim, found[0].at_ms
        self._offset += end
        if self._offset < size and self._is_current():
            # Others may have read what was damaged since: they must see that it is another file.
            self._begin_anew(self._kept())
        return found

    def _is_current(self) -> bool:
        """Whether nobody has begun the file anew since it was opened."""
        return bool(os.fstat(self._descriptor).st_nlink)

    def _kept(self) -> list[Record]:
        """What a new file begins with."""
        size = os.fstat(self._descriptor).st_size
        now = self._elapsed()
        whole = [record for record, _ in unpack(os.pread(self._descriptor, size, 0))]
        seen = {record.claim for record in whole if record.type == _TAKEN and record.kind == VIEW}
        return [
            record
            for record in whole
            if (record.type == _TAKEN and record.elapsed > now - _SETTLED_MS)
            or (record.type == _HELD and record.elapsed > now and record.claim not in seen)
        ]

    def _begin_anew(self, kept: Iterable[Record]) -> None:
        content = b"".join(record.pack() for record in kept)
        name = os.urandom(8).hex().encode()
        first = Record(_FILE, 0, 0, name, self._boot_id, self._name.decode())
        began = len(first.pack()) + len(content)
        draft = self._path.with_name(f".{_NAME}.{name.decode()}")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            data = first._replace(at_ms=began).pack() + content
            if os.pwrite(descriptor, data, 0) != len(data):
                raise OSError("the file of claims could not be written")
            draft.replace(self._path)
        except BaseException:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        self._close_file()
        self._descriptor, self._name = descriptor, name
        self._offset = self._began = began


def erase(store: Path, subjects: bytes) -> None:
    """Leave nothing of these subjects, of 16 bytes each, in the file of a store. Raises OSError."""
    if not (store / _NAME).exists():
        return
    file = ClaimFile(store, _posix.boot_id(), since_boot_ms)
    try:
        if not file.turns.take(_ERASE_S):
            raise OSError("the file of claims is not given free")
        try:
            file.open()
            file.forget(subjects[at : at + 16] for at in range(0, len(subjects), 16))
        finally:
            file.turns.give()
    finally:
        file.close()
