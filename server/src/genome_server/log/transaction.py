"""What happens to the log inside one transaction. The committer begins and ends it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from genome_server.log import schema
from genome_server.log.framing import (
    EVICTED,
    FRAME_HEADER,
    TOMBSTONE,
    Batch,
    BatchRefusedError,
    CheckedBatch,
    RefusalReason,
    iter_marks,
    kind_bits,
)

#: The device under which the server logs what it decided itself; its epoch is the
#: log's incarnation, its lane 0, and its sequences are given inside the transaction.
SERVER = "server"
_SERVER_LANE = 0
_PURGE = 64

# Rows in one statement. Each step of a statement gives the interpreter away, and a busy event
# loop hands it back late: a group of reports must not wait for that time and again.
_AT_ONCE: Final = (64, 16, 4, 1)
_MOST_LANES: Final = 100_000

_Lane = tuple[str, bytes, int]


class OwnEvent(NamedTuple):
    """An event of the server's own: 16-byte subject, frame kind, Unix ms, serialised Event."""

    subject: bytes
    kind: int
    time_ms: int
    body: bytes


class Kept(NamedTuple):
    """A small fact that lives beside the log until `expires_ms`, made durable with an event.

    `subject` says whom it is about, so that an erasure finds it.
    """

    key: bytes
    value: bytes
    subject: bytes
    expires_ms: int


class Lanes:
    """How far lanes are, as one connection knows it: good while nobody else writes."""

    def __init__(self) -> None:
        self._version = -1
        self._through: dict[_Lane, int] = {}

    def begin(self, connection: sqlite3.Connection) -> dict[_Lane, int]:
        """What is known inside the transaction that has just begun; it may be added to."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._through) > _MOST_LANES:
            self._version, self._through = version, {}
        return self._through

    def forget(self) -> None:
        """The transaction was rolled back."""
        self._version, self._through = -1, {}


class Transaction:
    """The state of one transaction: where the log ends, and the marks that moved.

    What is appended waits until `write`, or until it has to be looked at.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        incarnation: bytes,
        now_ms: int,
        lanes: Lanes | None = None,
    ) -> None:
        self._connection = connection
        self._incarnation = incarnation
        self._now_ms = now_ms
        self._through = lanes.begin(connection) if lanes is not None else {}
        self._moved: set[_Lane] = set()
        self._waiting: list[tuple[object, ...]] = []
        self.end = schema.end_offset(connection)
        self.added = False

    def append(self, checked: CheckedBatch) -> int:
        """Append one batch; return how far its lane now is. Raises BatchRefusedError."""
        batch = checked.batch
        if batch.known not in (b"", self._incarnation):
            raise BatchRefusedError(
                RefusalReason.LOG_CHANGED,
                "this is another log than the device knows",
                incarnation=self._incarnation.hex(),
            )
        key = (batch.device, batch.epoch, batch.lane)
        through = self._read_through(key)
        due = through + 1
        if batch.first > due and not checked.covers(due, batch.first - 1):
            raise BatchRefusedError(
                RefusalReason.SEQUENCE_GAP,
                f"sequence {due} is due, the batch starts at {batch.first}",
                expected=due,
            )
        if batch.first >= due:
            self._insert(batch, due, batch.frames, batch.digest, checked.count, checked.kinds)
        else:
            differing = self._differing(batch, through)
            if differing is not None:
                raise BatchRefusedError(
                    RefusalReason.FORKED_EPOCH,
                    f"sequence {differing} of this epoch is here with another content",
                    sequence=differing,
                )
            if batch.last <= through:
                return through
            self._insert_tail(batch, due)
        self._move(key, batch.last)
        return batch.last

    def record(
        self, events: Sequence[OwnEvent], keep: Sequence[Kept], once: bytes | None
    ) -> bytes | None:
        """Append events of the server's own and keep facts with them.

        Where `once` is kept already nothing happens and its value is returned.
        """
        if once is not None:
            earlier = schema.kept(self._connection, once, self._now_ms)
            if earlier is not None:
                return earlier[0]
        if events:
            key = (SERVER, self._incarnation, _SERVER_LANE)
            first = self._read_through(key) + 1
            frames = b"".join(
                FRAME_HEADER.pack(len(e.body), first + i, e.subject, e.kind, e.time_ms) + e.body
                for i, e in enumerate(events)
            )
            digest = hashlib.sha256(frames).digest()
            last = first + len(events) - 1
            batch = Batch(*key, first, last, frames, digest)
            kinds = kind_bits({event.kind for event in events})
            self._insert(batch, first, frames, digest, len(events), kinds)
            self._move(key, last)
        self._connection.execute(
            "DELETE FROM kept WHERE key IN (SELECT key FROM kept WHERE expires_ms <= ? LIMIT ?)",
            (self._now_ms, _PURGE),
        )
        self._insert_many("INSERT OR REPLACE INTO kept VALUES {rows}", keep)
        return None

    def write(self) -> None:
        """Write what waits and the marks that moved."""
        self._write_batches()
        self._insert_many(
            "INSERT INTO lanes VALUES {rows} ON CONFLICT DO UPDATE SET through = excluded.through",
            [(*key, self._through[key]) for key in self._moved],
        )
        self._moved.clear()

    def _write_batches(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._insert_many(f"INSERT INTO batches ({schema.BATCH_COLUMNS}) VALUES {{rows}}", waiting)

    def _insert_many(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        for part in _parts(rows):
            marks = ", ".join([f"({', '.join('?' * len(part[0]))})"] * len(part))
            values = [value for row in part for value in row]
            self._connection.execute(statement.replace("{rows}", marks), values)

    def _move(self, key: _Lane, through: int) -> None:
        self._through[key] = through
        self._moved.add(key)

    def _read_through(self, key: _Lane) -> int:
        known = self._through.get(key)
        if known is None:
            row = self._connection.execute(
                "SELECT through FROM lanes WHERE device = ? AND epoch = ? AND lane = ?", key
            ).fetchone()
            known = self._through[key] = 0 if row is None else int(row[0])
        return known

    def _insert(
        self, batch: Batch, first: int, frames: bytes, digest: bytes, count: int, kinds: int
    ) -> None:
        self._waiting.append(
            (
                self.end,
                batch.device,
                batch.epoch,
                batch.lane,
                first,
                batch.last,
                count,
                digest,
                self._now_ms,
                kinds,
                frames,
            )
        )
        self.end += count
        self.added = True

    def _insert_tail(self, batch: Batch, due: int) -> None:
        start, count = 0, 0
        kinds: set[int] = set()
        for mark in iter_marks(batch.frames):
            if mark.sequence < due:
                start = mark.end
            else:
                count += 1
                kinds.add(mark.kind)
        tail = batch.frames[start:]
        self._insert(batch, due, tail, hashlib.sha256(tail).digest(), count, kind_bits(kinds))

    def _differing(self, batch: Batch, through: int) -> int | None:
        """Return the first sequence that the log holds with another content, if any."""
        rows = self._overlapping(batch)
        if len(rows) == 1 and rows[0][:3] == (batch.first, batch.last, batch.digest):
            return None  # the same batch again: by far the most usual overlap
        here: dict[int, tuple[int, bytes]] = {}
        for _, _, _, frames in rows:
            for mark in iter_marks(frames):
                here[mark.sequence] = (mark.kind, frames[mark.start : mark.end])
        for mark in iter_marks(batch.frames):
            if mark.sequence > through:
                break
            if mark.kind in (EVICTED, TOMBSTONE):
                continue  # given up on the device after it had arrived here: nothing is lost
            kind, frame = here.get(mark.sequence, (EVICTED, b""))
            if kind == TOMBSTONE:
                continue  # erased here: what it was cannot be compared any more
            if frame != batch.frames[mark.start : mark.end]:
                return mark.sequence
        return None

    def _overlapping(self, batch: Batch) -> list[tuple[int, int, bytes, bytes]]:
        self._write_batches()
        rows = []
        for row in self._connection.execute(
            "SELECT first, last, digest, frames FROM batches"
            " WHERE device = ? AND epoch = ? AND lane = ? AND first <= ? ORDER BY first DESC",
            (batch.device, batch.epoch, batch.lane, batch.last),
        ):
            if row[1] < batch.first:
                break
            rows.append(row)
        return rows


def _parts(rows: Sequence[tuple[object, ...]]) -> Iterator[Sequence[tuple[object, ...]]]:
    """Rows in parts of few different sizes: the statements for them are kept prepared."""
    at = 0
    for size in _AT_ONCE:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size
