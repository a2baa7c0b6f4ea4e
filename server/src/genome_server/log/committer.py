"""The one writer of the log: many appends, one transaction.

Theory of operation. Callers check a batch's framing on their own thread and put
it in a queue. One committer thread takes everything that waits there, writes it
in a single transaction, and resolves the callers' futures after the commit, when
the bytes are on disk. While one transaction is being fsynced the next one
gathers: under load the group grows by itself and no timer is needed.

A batch that overlaps what is here is a repetition where every overlapping frame
is equal, byte for byte; the rest of it is then appended. Where a frame differs,
the epoch has forked (a disk was cloned or restored) and nothing of it is taken.

Several processes may hold a committer on one log (an import beside the server):
SQLite serialises their transactions, and marks and offsets are read inside them.
"""

from __future__ import annotations

import hashlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, Protocol

from genome_server.log import schema
from genome_server.log.framing import (
    EVICTED,
    TOMBSTONE,
    Batch,
    BatchRefusedError,
    CheckedBatch,
    RefusalReason,
    check_batch,
    iter_marks,
)

_GROUP_BATCHES = 1_024
_GROUP_BYTES = 64 * 1024 * 1024


class Appended(NamedTuple):
    """How far a lane is on disk here, and how far it is safe in the replica too."""

    received_through: int
    safe_through: int


class Replica(Protocol):
    """A second place that keeps the log, where one is configured."""

    def through(self, device: str, epoch: bytes, lane: int) -> int:
        """Return the sequence up to which the lane is safe there."""


class LogClosedError(Exception):
    """The committer was closed before the batch was written."""


class Committer:
    """Appends batches durably. Thread-safe; close it to stop its thread.

    `on_commit` is called on the committer's thread after each transaction that
    added events, with the offset behind the last of them; it must not block.
    """

    def __init__(
        self,
        path: Path,
        *,
        replica: Replica | None = None,
        on_commit: Callable[[int], None] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._connection = schema.open_for_writing(path)
        self.incarnation = schema.incarnation(self._connection)
        self._replica = replica
        self._on_commit = on_commit
        self._now_ms = now_ms
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-committer", daemon=True)
        self._thread.start()

    def append_batch(
        self,
        device: str,
        epoch: bytes,
        lane: int,
        first: int,
        last: int,
        frames: bytes,
        digest: bytes,
    ) -> Appended:
        """Append one batch and wait until it is on disk.

        Raises BatchRefusedError (nothing was taken), LogClosedError, or sqlite3.Error where
        the disk failed (nothing is acknowledged).
        """
        return self.submit(Batch(device, epoch, lane, first, last, frames, digest)).result()

    def submit(self, batch: Batch) -> Future[Appended]:
        """Check a batch now and hand it to the committer; the future resolves when it is durable.

        Raises BatchRefusedError for what can be seen without the log; the future raises
        what append_batch does.
        """
        pending = _Pending(check_batch(batch), Future())
        with self._gate:
            if self._closed:
                raise LogClosedError("the log is closed")
            self._queue.put(pending)
        return pending.future

    def close(self) -> None:
        """Write what waits, stop the thread and close the file."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def __enter__(self) -> Committer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            group, more = self._gather()
            if group:
                self._commit(group)
            if not more:
                return

    def _gather(self) -> tuple[list[_Pending], bool]:
        """Take what waits, at least one; False when the end was reached."""
        first = self._queue.get()
        if first is None:
            return [], False
        group, size = [first], len(first.checked.batch.frames)
        while len(group) < _GROUP_BATCHES and size < _GROUP_BYTES:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return group, False
            group.append(following)
            size += len(following.checked.batch.frames)
        return group, True

    def _commit(self, group: list[_Pending]) -> None:
        outcomes: list[int | BatchRefusedError] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                transaction = _Transaction(self._connection, self._now_ms())
                outcomes.extend(transaction.append(pending.checked) for pending in group)
                transaction.write_marks()
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        except Exception as error:  # noqa: BLE001  whatever failed, nobody is told "durable"
            for pending in group:
                pending.future.set_exception(error)
            return
        if self._on_commit is not None and transaction.added:
            self._on_commit(transaction.end)
        for pending, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BatchRefusedError):
                pending.future.set_exception(outcome)
            else:
                pending.future.set_result(self._marks(pending.checked.batch, outcome))

    def _marks(self, batch: Batch, through: int) -> Appended:
        if self._replica is None:
            return Appended(through, through)
        safe = self._replica.through(batch.device, batch.epoch, batch.lane)
        return Appended(through, min(through, safe))


class _Pending(NamedTuple):
    checked: CheckedBatch
    future: Future[Appended]


class _Transaction:
    """The state of one transaction: where the log ends, and the marks that moved."""

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._through: dict[tuple[str, bytes, int], int] = {}
        self._moved: set[tuple[str, bytes, int]] = set()
        self.end = schema.end_offset(connection)
        self.added = False

    def append(self, checked: CheckedBatch) -> int | BatchRefusedError:
        """Append one batch; return how far its lane now is, or why it was not taken."""
        batch = checked.batch
        key = (batch.device, batch.epoch, batch.lane)
        through = self._read_through(key)
        due = through + 1
        if batch.first > due and not checked.covers(due, batch.first - 1):
            return BatchRefusedError(
                RefusalReason.SEQUENCE_GAP,
                f"sequence {due} is due, the batch starts at {batch.first}",
                expected=due,
            )
        if batch.first == due or batch.first > due:
            self._insert(batch, due, batch.frames, batch.digest, checked.count)
        else:
            differing = self._differing(batch, through)
            if differing is not None:
                return BatchRefusedError(
                    RefusalReason.FORKED_EPOCH,
                    f"sequence {differing} of this epoch is here with another content",
                    sequence=differing,
                )
            if batch.last <= through:
                return through
            self._insert_tail(batch, due)
        self._through[key] = batch.last
        self._moved.add(key)
        return batch.last

    def write_marks(self) -> None:
        """Write the marks that moved; part of the same transaction."""
        self._connection.executemany(
            "INSERT INTO lanes VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET through = excluded.through",
            [(*key, self._through[key]) for key in self._moved],
        )

    def _read_through(self, key: tuple[str, bytes, int]) -> int:
        known = self._through.get(key)
        if known is None:
            row = self._connection.execute(
                "SELECT through FROM lanes WHERE device = ? AND epoch = ? AND lane = ?", key
            ).fetchone()
            known = self._through[key] = 0 if row is None else int(row[0])
        return known

    def _insert(self, batch: Batch, first: int, frames: bytes, digest: bytes, count: int) -> None:
        self._connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                frames,
            ),
        )
        self.end += count
        self.added = True

    def _insert_tail(self, batch: Batch, due: int) -> None:
        start, count = 0, 0
        for mark in iter_marks(batch.frames):
            if mark.sequence < due:
                start = mark.end
            else:
                count += 1
        tail = batch.frames[start:]
        self._insert(batch, due, tail, hashlib.sha256(tail).digest(), count)

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
            if mark.kind == EVICTED:
                continue  # given up on the device after it had arrived here: nothing is lost
            kind, frame = here.get(mark.sequence, (EVICTED, b""))
            if kind == TOMBSTONE:
                continue  # erased here: what it was cannot be compared any more
            if frame != batch.frames[mark.start : mark.end]:
                return mark.sequence
        return None

    def _overlapping(self, batch: Batch) -> list[tuple[int, int, bytes, bytes]]:
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
