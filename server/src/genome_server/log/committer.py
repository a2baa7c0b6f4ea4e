"""The one writer of the log: many appends, one transaction.

Theory of operation. Callers check a batch's framing on their own thread and put
it in a queue. One committer thread takes everything that waits there, writes it
in a single transaction, and resolves the callers' futures after the commit, when
the bytes are on disk. While one transaction is being fsynced the next one
gathers. Where several callers came together last time, the thread lets the next
group gather for a moment on a fast disk, too: a commit costs more than a batch.
A caller who is alone never waits for that.

A batch that overlaps what is here is a repetition where every overlapping frame
is equal, byte for byte; the rest of it is then appended. Where a frame differs,
the epoch has forked (a disk was cloned or restored) and nothing of it is taken.

Several processes may hold a committer on one log (an import beside the server):
SQLite serialises their transactions, and marks and offsets are read inside them.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from genome_server.log import schema
from genome_server.log.framing import Batch, BatchRefusedError, check_batch
from genome_server.log.transaction import Kept, Lanes, OwnEvent, Transaction

_GROUP_ITEMS = 1_024
#: From the end of a commit to the next group's, where callers come in groups.
_GATHER_S = 0.002
_GROUP_BYTES = 64 * 1024 * 1024


class Appended(NamedTuple):
    """How far a lane is on disk here, and how far it is safe in the replica too."""

    received_through: int
    safe_through: int


class Replica(Protocol):
    """A second place that keeps the log, where one is configured."""

    def through(self, device: str, epoch: bytes, lane: int) -> int | None:
        """Return the sequence up to which the lane is safe there; None: nobody waits for that."""


class LogClosedError(Exception):
    """The committer was closed before the batch was written."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """One piece of work: what to do inside the transaction, and what to say after it."""

    work: Callable[[Transaction], Any]
    size: int
    future: Future[Any]
    conclude: Callable[[Any], Any]


class Committer:
    """Appends to the log durably. Thread-safe; close it to stop its thread.

    `replica` is given the log's incarnation. `on_commit` is called on the committer's thread
    after each transaction that added events, with the offset behind the last of them; it must
    not block.
    """

    def __init__(
        self,
        path: Path,
        *,
        replica: Callable[[bytes], Replica] | None = None,
        on_commit: Callable[[int], None] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._connection = schema.open_for_writing(path)
        self.incarnation = schema.incarnation(self._connection)
        self._replica = replica(self.incarnation) if replica is not None else None
        self._on_commit = on_commit
        self._now_ms = now_ms
        self._lanes = Lanes()
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

        Raises BatchRefusedError (nothing was taken), LogClosedError, or sqlite3.Error
        where the disk failed (nothing is acknowledged).
        """
        return self.submit(Batch(device, epoch, lane, first, last, frames, digest)).result()

    def submit(self, batch: Batch) -> Future[Appended]:
        """Check a batch now and hand it over; the future resolves when it is durable.

        Raises BatchRefusedError for what can be seen without the log; the future raises
        what append_batch does.
        """
        checked = check_batch(batch)
        return self._enqueue(
            lambda transaction: transaction.append(checked),
            len(batch.frames),
            lambda through: self._marks(batch, through),
        )

    def record(
        self,
        events: Sequence[OwnEvent],
        keep: Sequence[Kept] = (),
        once: bytes | None = None,
    ) -> Future[bytes | None]:
        """Append events of the server's own, with facts to keep; durable when it resolves.

        With `once`, a key among `keep`: where it is kept already, nothing is appended
        and the future gives the value kept first. Otherwise it gives None.
        """
        size = sum(len(event.body) for event in events)
        return self._enqueue(
            lambda transaction: transaction.record(events, keep, once),
            size,
            lambda earlier: earlier,
        )

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

    def _enqueue(
        self, work: Callable[[Transaction], Any], size: int, conclude: Callable[[Any], Any]
    ) -> Future[Any]:
        pending = _Pending(work, size, Future(), conclude)
        with self._gate:
            if self._closed:
                raise LogClosedError("the log is closed")
            self._queue.put(pending)
        return pending.future

    def _run(self) -> None:
        together, ended = False, 0.0
        while True:
            group, more = self._gather(ended + _GATHER_S if together else 0.0)
            if group:
                self._commit(group)
                together, ended = len(group) > 1, time.monotonic()
            if not more:
                return

    def _gather(self, until: float) -> tuple[list[_Pending], bool]:
        """Take what waits, at least one, not before `until`; False when the end was reached."""
        first = self._queue.get()
        if first is None:
            return [], False
        if (pause := until - time.monotonic()) > 0:
            time.sleep(pause)
        group, size = [first], first.size
        while len(group) < _GROUP_ITEMS and size < _GROUP_BYTES:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return group, False
            group.append(following)
            size += following.size
        return group, True

    def _commit(self, gathered: list[_Pending]) -> None:
        # A caller may have gone away while it waited; from here on it is too late for that.
        group = [pending for pending in gathered if pending.future.set_running_or_notify_cancel()]
        outcomes: list[Any] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            transaction = Transaction(
                self._connection, self.incarnation, self._now_ms(), self._lanes
            )
            for pending in group:
                try:
                    outcomes.append(pending.work(transaction))
                except BatchRefusedError as refusal:  # nothing was written for it
                    outcomes.append(refusal)
            transaction.write()
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  whatever failed, nobody is told "durable"
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._lanes.forget()
            for pending in group:
                pending.future.set_exception(error)
            return
        for pending, outcome in zip(group, outcomes, strict=True):
            _resolve(pending, outcome)
        if self._on_commit is not None and transaction.added:
            self._on_commit(transaction.end)

    def _marks(self, batch: Batch, through: int) -> Appended:
        if self._replica is None:
            return Appended(through, through)
        safe = self._replica.through(batch.device, batch.epoch, batch.lane)
        return Appended(through, through if safe is None else min(through, safe))


def _resolve(pending: _Pending, outcome: Any) -> None:
    if isinstance(outcome, BatchRefusedError):
        pending.future.set_exception(outcome)
        return
    try:
        pending.future.set_result(pending.conclude(outcome))
    except Exception as error:  # noqa: BLE001  the replica's trouble is the caller's to hear of
        pending.future.set_exception(error)
