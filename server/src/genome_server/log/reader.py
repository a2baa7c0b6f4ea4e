"""Reading the log by offset.

An offset counts events from 0. Batches are the unit of storage and of progress:
a consumer that remembers `batch.next_offset` never sees a batch twice or in part.

    reader = LogReader(path)
    for batch in reader.batches(start=offset, max_events=20_000):
        for frame in batch.frames():
            ...
        offset = batch.next_offset
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from genome_server.log import schema
from genome_server.log.framing import FRAME_HEADER, kind_bits
from genome_server.log.schema import LogFormatError

_LENGTH = struct.Struct("<I")
# Batches per query, so that no read transaction stays open between two of them.
_PAGE = 64
_TYPES = (int, str, bytes, int, int, int, int, bytes, int, int, bytes)


class LoggedFrame(NamedTuple):
    """One event as it lies in the log; `body` is a serialised genome_edge.v1.Event."""

    offset: int
    device: str
    epoch: bytes
    lane: int
    sequence: int
    subject: bytes
    kind: int
    time_ms: int
    received_ms: int
    body: bytes


@dataclass(frozen=True, slots=True)
class LogBatch:
    """One row of the log: the events `offset` … `next_offset` − 1 of one lane.

    `first` … `last` are the sequences accounted for, declared holes included. `kinds` are bits
    (`framing.kind_bits`) of what its frames can be.
    """

    offset: int
    device: str
    epoch: bytes
    lane: int
    first: int
    last: int
    count: int
    digest: bytes
    received_ms: int
    kinds: int
    raw: bytes

    @property
    def next_offset(self) -> int:
        """Where the batch behind this one starts."""
        return self.offset + self.count

    def holds(self, kinds: Iterable[int]) -> bool:
        """Say whether a frame of one of these kinds can be among its frames."""
        return self.kinds & kind_bits(kinds) != 0

    def frames(self, kinds: Collection[int] | None = None) -> Iterator[LoggedFrame]:
        """Yield its frames in order; with `kinds`, only those of these kinds.

        Raises LogFormatError where a frame is cut off; not looked for where none is wanted.
        """
        if kinds is not None and not self.holds(kinds):
            return
        raw, size, unpack = self.raw, FRAME_HEADER.size, FRAME_HEADER.unpack_from
        position, end, offset = 0, len(self.raw), self.offset
        while position < end:
            if position + size > end:
                raise self._damaged(offset)
            length, sequence, subject, kind, time_ms = unpack(raw, position)
            body = position + size
            position = body + length
            if position > end:
                raise self._damaged(offset)
            if kinds is None or kind in kinds:
                yield LoggedFrame(
                    offset,
                    self.device,
                    self.epoch,
                    self.lane,
                    sequence,
                    subject,
                    kind,
                    time_ms,
                    self.received_ms,
                    raw[body:position],
                )
            offset += 1

    def places(self) -> list[int]:
        """Where in `raw` its frames begin, in order. Raises LogFormatError like `frames`."""
        raw, size, unpack = self.raw, FRAME_HEADER.size, _LENGTH.unpack_from
        position, last = 0, len(self.raw) - size
        found = []
        while position <= last:
            found.append(position)
            position += size + unpack(raw, position)[0]
        if position != len(raw):
            raise self._damaged(self.offset + max(len(found) - (position > len(raw)), 0))
        return found

    def _damaged(self, offset: int) -> LogFormatError:
        return LogFormatError(
            f"the log is damaged: the event at offset {offset} is cut off; see: genome-server log "
            "verify, and restore a backup"
        )


class LogReader:
    """Reads the log at `path`. Thread-safe; any number beside any number of writers.

    Raises FileNotFoundError where there is no log yet.
    """

    def __init__(self, path: Path) -> None:
        self._connection = schema.open_for_reading(path)
        self._columns = schema.columns(self._connection)
        self._lock = threading.Lock()
        self.incarnation = schema.incarnation(self._connection)

    def end(self) -> int:
        """Return the offset behind the last event."""
        with self._lock:
            return schema.end_offset(self._connection)

    def start_of_last(self, count: int) -> int:
        """Return the offset at which the last `count` batches begin; 0 where there are fewer."""
        row = self._one(
            "SELECT offset FROM batches ORDER BY offset DESC LIMIT 1 OFFSET ?", (count - 1,)
        )
        return 0 if row is None else row[0]

    def batches(
        self,
        start: int = 0,
        *,
        stop: int | None = None,
        max_events: int | None = None,
        kinds: Collection[int] | None = None,
    ) -> Iterator[LogBatch]:
        """Yield the batches that begin at or after `start` and before `stop`, in order.

        With `max_events`, ends with the batch that reaches that number. With `kinds`, the frames
        of a batch that holds none of them are left where they are: its `raw` is empty. `start`
        must be 0 or a batch's `next_offset`; ValueError where it lies inside one.
        """
        self._check_start(start)
        seen = 0
        while True:
            page = self._page(start, stop, kinds)
            if not page:
                return
            for batch in page:
                yield batch
                seen += batch.count
                if max_events is not None and seen >= max_events:
                    return
            start = page[-1].next_offset

    def frames(
        self, start: int = 0, *, stop: int | None = None, kinds: Collection[int] | None = None
    ) -> Iterator[LoggedFrame]:
        """Yield the frames of `batches(start, stop=stop)`, in order, of the given kinds."""
        for batch in self.batches(start, stop=stop, kinds=kinds):
            yield from batch.frames(kinds)

    def through(self, device: str, epoch: bytes, lane: int) -> int:
        """Return the sequence up to and including which a lane is here; 0 for an unknown one."""
        row = self._one(
            "SELECT through FROM lanes WHERE device = ? AND epoch = ? AND lane = ?",
            (device, epoch, lane),
        )
        return 0 if row is None else int(row[0])

    def lanes(self) -> list[tuple[str, bytes, int, int]]:
        """Return every (device, epoch, lane, through)."""
        with self._lock:
            return self._connection.execute(
                "SELECT device, epoch, lane, through FROM lanes ORDER BY 1, 2, 3"
            ).fetchall()

    def device_lanes(self, device: str) -> list[tuple[bytes, int, int]]:
        """Return the (epoch, lane, through) of one device."""
        with self._lock:
            return self._connection.execute(
                "SELECT epoch, lane, through FROM lanes WHERE device = ? ORDER BY 1, 2", (device,)
            ).fetchall()

    def device_batches(
        self, device: str, epoch: bytes, lane: int, *, after: int = 0
    ) -> Iterator[LogBatch]:
        """Yield the batches of one lane that begin after a sequence, in order."""
        first = after
        while True:
            with self._lock:
                rows = self._connection.execute(
                    f"SELECT {self._columns} FROM batches WHERE device = ? AND epoch = ?"
                    " AND lane = ? AND first > ? ORDER BY first LIMIT ?",
                    (device, epoch, lane, first, _PAGE),
                ).fetchall()
            if not rows:
                return
            for row in rows:
                yield _batch(row)
            first = rows[-1][4]

    def kept(self, key: bytes, now_ms: int) -> tuple[bytes, bytes] | None:
        """Return the (value, subject) kept under a key, or None where there is none any more."""
        with self._lock:
            return schema.kept(self._connection, key, now_ms)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_start(self, start: int) -> None:
        row = self._one(
            "SELECT offset, count FROM batches WHERE offset < ? ORDER BY offset DESC LIMIT 1",
            (start,),
        )
        if row is not None and row[0] + row[1] > start:
            raise ValueError(f"offset {start} lies inside the batch at {row[0]}")

    def _page(self, start: int, stop: int | None, kinds: Collection[int] | None) -> list[LogBatch]:
        columns = self._columns if kinds is None else schema.only(self._columns, kind_bits(kinds))
        with self._lock:
            rows = self._connection.execute(
                f"SELECT {columns} FROM batches WHERE offset >= ? AND offset < ?"
                " ORDER BY offset LIMIT ?",
                (start, 2**63 - 1 if stop is None else stop, _PAGE),
            ).fetchall()
        return [_batch(row) for row in rows]

    def _one(self, sql: str, parameters: tuple[object, ...]) -> tuple[int, ...] | None:
        with self._lock:
            row: tuple[int, ...] | None = self._connection.execute(sql, parameters).fetchone()
        return row


def _batch(row: tuple[object, ...]) -> LogBatch:
    """A row as a batch. Raises LogFormatError where damage left another kind of value in it."""
    if tuple(map(type, row)) != _TYPES:
        raise LogFormatError(
            f"the log is damaged: the batch at offset {row[0]!r} is no batch; see: genome-server "
            "log verify, and restore a backup"
        )
    return LogBatch(*row)  # type: ignore[arg-type]
