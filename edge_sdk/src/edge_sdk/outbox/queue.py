"""The outbox: a durable, ordered queue of what happened, in lanes.

The writing half is `writer`; the rules are in `lanes`. This is the half that the report pump of
the syncing process uses: it sees what is committed, of the lanes of every process.

A batch that was handed out is written down first. From then on its segments are not touched, so
that it is byte for byte the same when it is sent again, after whatever happened in between.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import field

from edge_sdk.clock import wall_ms
from edge_sdk.config import Config
from edge_sdk.outbox import lanes
from edge_sdk.outbox.lanes import Limits, Segment
from edge_sdk.store.database import translate
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.files import write_file
from edge_sdk.store.lane_rows import Lane, lane_row, lane_rows, put_lane
from edge_sdk.store.meta import count_loss, get_meta, set_meta
from edge_sdk.store.rows import read_rows, sealed
from edge_sdk.store.segments import oldest_row, put_rest, read_segments, write_segment
from edge_sdk.values import dataclass


@dataclass(frozen=True)
class Batch:
    """One batch as it goes into a ReportRequest. The same bytes every time until it is acked.

    `epoch` and `lane` are what the server knows; `held` is the number of the lane in the store, and
    `incarnation` the log that is known (empty: none yet).
    """

    epoch: bytes
    lane: int
    first_sequence: int
    last_sequence: int
    frames: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    held: int
    incarnation: bytes

    @staticmethod
    def of(row: Lane, last: int, frames: bytes, incarnation: bytes) -> Batch:
        """What follows on the part of a lane that was received, to sequence `last`."""
        digest = hashlib.sha256(frames).digest()
        first = row.received + 1
        return Batch(row.epoch, row.address, first, last, frames, digest, row.lane, incarnation)


class Outbox:
    """What the report pump uses. Thread-safe; for the syncing process."""

    def __init__(self, store: DeviceStore, config: Config | None = None) -> None:
        config = config or Config()
        self._store = store
        self._limits = Limits(config.batch_events, config.batch_bytes)
        self._committed = threading.Event()
        #: How many events of this process are not on disk yet; set by the writer.
        self.in_memory: Callable[[], int] = int

    def next_batch(self) -> Batch | None:
        """The next batch to send (priority 0 first), at most 500 events and 256 KiB; None: none.

        Until it is acked, rewound or set aside the same lane gives the same batch again. Raises
        StoreError.
        """
        with self._store.read() as connection:
            if _waiting_lane(connection) is None:
                return None
        with self._store.write() as connection:
            waiting = _waiting_lane(connection)
            if waiting is None:
                return None
            lane, received = waiting.lane, waiting.received
            extent = _handed_out(connection, lane, received)
            if extent is None:
                segments = read_segments(connection, lane, received + 1)
                extent = lanes.cut(segments, received, self._limits)
                assert extent is not None  # every sequence below `next` lies in a segment
                connection.execute(
                    "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", sealed(lane, *extent)
                )
            first, last = extent
            frames = lanes.assemble(read_segments(connection, lane, first, last), first, last)
            known = get_meta(connection, "incarnation") or b""
        return Batch.of(waiting, last, frames, known)

    def ack(
        self, batch: Batch, received_through: int, safe_through: int, incarnation: bytes = b""
    ) -> None:
        """Take the server's answer: send on after `received_through`, delete to `safe_through`.

        Where the log's incarnation has changed, a server was restored: everything that is not safe
        is sent again. Raises StoreError.
        """
        with self._store.write() as connection:
            row = _lane_of(connection, batch)
            if row is None:
                return
            _heed(connection, incarnation)
            connection.execute(
                "UPDATE lanes SET received = max(received, min(?, next - 1)),"
                " safe = max(min(safe, received), min(?, next - 1)) WHERE lane = ?",
                (received_through, safe_through, batch.held),
            )
            _settle(connection, batch.held)
            if safe_through > row.safe and not row.has_ended:
                _ask_again(connection)

    def heed(self, incarnation: bytes) -> None:
        """The server's log is this one: where another one was known, a server was restored, and
        everything that is not safe is sent again. Raises StoreError."""
        with self._store.read() as connection:
            if not incarnation or get_meta(connection, "incarnation") in (None, incarnation):
                return
        with self._store.write() as connection:
            _heed(connection, incarnation)
        self.notify()

    def rewind(self, batch: Batch, received_through: int) -> None:
        """Send a lane again from `received_through` + 1: the server holds less (or more) of it.

        What is no longer here is declared as given up. Raises StoreError.
        """
        with self._store.write() as connection:
            row = _lane_of(connection, batch)
            if row is None:
                return
            through = min(received_through, batch.last_sequence, row.next - 1)
            connection.execute(
                "UPDATE lanes SET received = ?, safe = min(safe, ?) WHERE lane = ?",
                (through, through, row.lane),
            )
            connection.execute("DELETE FROM batches WHERE lane = ?", (row.lane,))
            oldest = connection.execute(
                "SELECT min(first) FROM outbox WHERE lane = ? AND last > ?", (row.lane, through)
            ).fetchone()[0]
            held_from = row.next if oldest is None else oldest
            if held_from > through + 1:
                gone = Segment(through + 1, held_from - 1, wall_ms(), b"", lanes.NO_LONGER_HELD)
                write_segment(connection, row.lane, gone)
                count_loss(connection, gone.reason, held_from - 1 - through)
        self.notify()

    def forked(self, batch: Batch, differing: int) -> None:
        """After FORKED_EPOCH: under the sequence `differing` the server holds something else.

        What lies below it is there, and stays in a lane that has ended until it is safe; from there
        on the lane goes under a new epoch. Copies of this disk that have the same to send under the
        same numbers come to the same epoch, so that it arrives once. Raises StoreError.
        """
        with self._store.write() as connection:
            row = _lane_of(connection, batch)
            if row is None:
                return
            # Nothing is said about what was not sent.
            sent = min(batch.last_sequence, row.next - 1)
            received = max(row.received, min(differing - 1, sent))
            held = list(read_segments(connection, row.lane, 1, received))
            waiting = list(read_segments(connection, row.lane, received + 1))
            epoch = _epoch_after(row, received, waiting)
            for table in ("outbox", "batches"):
                connection.execute(f"DELETE FROM {table} WHERE lane = ?", (row.lane,))
            behind = [rest for s in held if (rest := lanes.until(s, received)) is not None]
            if behind:
                (lowest,) = connection.execute("SELECT min(lane) FROM lanes").fetchone()
                ended = row._replace(lane=min(lowest, 0) - 1, next=received + 1, received=received)
                put_lane(connection, ended)
                for segment in behind:
                    write_segment(connection, ended.lane, segment)
            for segment in waiting:
                write_segment(connection, row.lane, lanes.shift(segment, received))
            left = row.next - received
            if row.has_ended and left == 1:
                connection.execute("DELETE FROM lanes WHERE lane = ?", (row.lane,))
            else:
                put_lane(connection, row._replace(next=left, received=0, safe=0, epoch=epoch))
            set_meta(connection, epoch=epoch)  # the copies must not meet in the lanes to come
            for table in ("pending", "consents"):
                connection.execute(
                    f"UPDATE {table} SET epoch = ?, sequence = sequence - ?"
                    " WHERE epoch = ? AND lane = ? AND sequence > ?",
                    (epoch, received, row.epoch, row.address, received),
                )
        self.notify()

    def set_aside(self, batch: Batch, reason: str) -> None:
        """After a refusal for good (BAD_FRAME, TOO_LARGE): keep the batch in `rejected/` and
        declare its events as given up, so that the lane goes on. Raises StoreError."""
        name = f"{batch.epoch.hex()}-{batch.lane}-{batch.first_sequence}-{reason.lower()}.frames"
        path = self._store.path / "rejected" / name
        try:
            write_file(path, batch.frames)
        except OSError as error:
            raise translate(error, path) from error
        first, last = batch.first_sequence, batch.last_sequence
        with self._store.write() as connection:
            if _lane_of(connection, batch) is None:
                return
            connection.execute("DELETE FROM batches WHERE lane = ?", (batch.held,))
            for segment in list(read_segments(connection, batch.held, first, last)):
                rest = lanes.give_up(
                    segment,
                    lambda mark: first <= mark.sequence <= last,
                    lanes.REJECTED,
                    wall_ms(),
                )
                put_rest(connection, batch.held, segment, rest)
        self.notify()

    def age_ms(self) -> int:
        """How long ago the oldest event was written that the server has not received; 0: none."""
        with self._store.read() as connection:
            oldest = connection.execute(
                "SELECT min(o.at_ms) FROM lanes l CROSS JOIN outbox o ON o.lane = l.lane"
                # What is there and not safe yet is not looked at.
                " AND o.first >= coalesce((SELECT max(first) FROM outbox"
                " WHERE lane = l.lane AND first <= l.received + 1), 0) WHERE o.last > l.received"
            ).fetchone()[0]
        return 0 if oldest is None else max(0, wall_ms() - int(oldest))

    def unsent(self) -> int:
        """How many events the server has not yet received, those still in memory included.

        What a commit takes to disk meanwhile may count twice, and never not at all. Raises
        StoreError.
        """
        in_memory = self.in_memory()  # first: events go from memory to disk
        with self._store.read() as connection:
            return in_memory + sum(row.unsent for row in lane_rows(connection))

    def wait(self, timeout: float) -> bool:
        """Wait until something was committed since the last call; True where something was."""
        if not self._committed.wait(timeout):
            return False
        self._committed.clear()
        return True

    def notify(self) -> None:
        """Wake who waits: there may be something to send."""
        self._committed.set()


def _epoch_after(row: Lane, received: int, waiting: list[Segment]) -> bytes:
    """The epoch for what waits behind `received`: named by the numbers that it gives, and by the
    first event; random where nothing waits."""
    frames = b"".join(segment.frames for segment in waiting)
    # The first segment may hold what was received, too: where, is not the same on every copy.
    mark = next((m for m in lanes.marks(frames) if m.sequence > received), None)
    if mark is None:
        return os.urandom(16)
    digest = hashlib.sha256(b"genome-edge/epoch/v2\n" + row.epoch)
    digest.update(b"%d %d\n" % (row.address, received) + frames[mark.start : mark.end])
    return digest.digest()[:16]


def _lane_of(connection: sqlite3.Connection, batch: Batch) -> Lane | None:
    """The lane of a batch; None: what is said about the batch comes too late, its epoch ended."""
    row = lane_row(connection, batch.held)
    return row if row is not None and row.epoch == batch.epoch else None


def _heed(connection: sqlite3.Connection, incarnation: bytes) -> None:
    known = get_meta(connection, "incarnation")
    if not incarnation or known == incarnation:
        return
    set_meta(connection, incarnation=incarnation)
    if known is not None:
        connection.execute("UPDATE lanes SET received = safe")
        connection.execute("DELETE FROM batches")


def _ask_again(connection: sqlite3.Connection) -> None:
    """More is safe at the server than before: send the last event of each lane that has ended once
    more, which is harmless. The answer says whether what the lane holds is safe by now, too."""
    connection.execute(
        "UPDATE lanes SET received = next - 2"
        " WHERE lane < 0 AND received = next - 1 AND safe < received"
    )


def _waiting_lane(connection: sqlite3.Connection) -> Lane | None:
    """The lane to send from: priority first, then the oldest event."""
    # Every row is read, and so checked: a mark that is too high must not hide its lane.
    waiting = [row for row in lane_rows(connection) if row.unsent > 0]

    def order(row: Lane) -> tuple[int, int]:
        return row.priority, oldest_row(connection, row.lane, row.received)

    return min(waiting, key=order, default=None)


def _handed_out(connection: sqlite3.Connection, lane: int, received: int) -> tuple[int, int] | None:
    found = read_rows(connection, "batches", "WHERE lane = ? AND first = ?", lane, received + 1)
    return next(((first, last) for _, first, last in found), None)


def _settle(connection: sqlite3.Connection, lane: int) -> None:
    """Drop what the marks of a lane make superfluous."""
    connection.execute(
        "DELETE FROM batches WHERE lane = ?1 AND last <="
        " (SELECT received FROM lanes WHERE lane = ?1)",
        (lane,),
    )
    safe = "(SELECT safe FROM lanes WHERE lane = ?1)"
    connection.execute(  # `first` is the key: what waits behind is not looked at
        f"DELETE FROM outbox WHERE lane = ?1 AND first <= {safe} AND last <= {safe}", (lane,)
    )
    connection.execute("DELETE FROM lanes WHERE lane = ? AND lane < 0 AND safe = next - 1", (lane,))
