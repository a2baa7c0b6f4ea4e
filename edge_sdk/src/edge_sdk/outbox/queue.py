"""The outbox: a durable, ordered queue of what happened, in lanes.

The writing half is `writer`; the rules are in `lanes`. This is the half that the report pump of
the syncing process uses: it sees what is committed, of the lanes of every process.

A batch that was handed out is written down first. From then on its segments are not touched, so
that it is byte for byte the same when it is sent again, after whatever happened in between.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from edge_sdk.clock import wall_ms
from edge_sdk.config import Config
from edge_sdk.outbox import lanes
from edge_sdk.outbox.lanes import Limits, Segment
from edge_sdk.store.database import translate
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.files import write_file
from edge_sdk.store.meta import count_loss, drop_meta, get_meta, set_meta
from edge_sdk.store.rows import read_rows, sealed
from edge_sdk.store.segments import put_rest, read_segments, write_segment


@dataclass(frozen=True)
class Batch:
    """One batch as it goes into a ReportRequest. The same bytes every time until it is acked."""

    epoch: bytes
    lane: int
    first_sequence: int
    last_sequence: int
    frames: bytes = field(repr=False)
    digest: bytes = field(repr=False)


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
            compared = _is_compared(connection)
            if not compared and _waiting_lane(connection) is None:
                return None
        if compared:
            self.new_epoch()
        with self._store.write() as connection:
            waiting = _waiting_lane(connection)
            if waiting is None:
                return None
            lane, received = waiting
            extent = _handed_out(connection, lane, received)
            if extent is None:
                extent = lanes.cut(
                    read_segments(connection, lane, received + 1), received, self._limits
                )
                assert extent is not None  # every sequence below `next` lies in a segment
                connection.execute(
                    "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", sealed(lane, *extent)
                )
            first, last = extent
            frames = lanes.assemble(read_segments(connection, lane, first, last), first, last)
            epoch = get_meta(connection, "epoch") or bytes(16)
        return Batch(epoch, lane, first, last, frames, hashlib.sha256(frames).digest())

    def ack(
        self, batch: Batch, received_through: int, safe_through: int, incarnation: bytes = b""
    ) -> None:
        """Take the server's answer: send on after `received_through`, delete to `safe_through`.

        Where the log's incarnation has changed, a server was restored: everything that is not safe
        is sent again. Raises StoreError.
        """
        with self._store.write() as connection:
            if get_meta(connection, "epoch") != batch.epoch:
                return  # said about an epoch that has ended meanwhile
            _heed(connection, incarnation)
            connection.execute(
                "UPDATE lanes SET received = max(received, min(?, next - 1)),"
                " safe = max(min(safe, received), min(?, next - 1)) WHERE lane = ?",
                (received_through, safe_through, batch.lane),
            )
            _settle(connection, batch.lane)

    def heed(self, incarnation: bytes) -> None:
        """The server's log is this one: where another one was known, a server was restored, and
        everything that is not safe is sent again. Raises StoreError."""
        with self._store.read() as connection:
            if get_meta(connection, "incarnation") in (None, incarnation):
                return
        with self._store.write() as connection:
            _heed(connection, incarnation)
        self.notify()

    def rewind(self, epoch: bytes, lane: int, received_through: int) -> None:
        """Send again from `received_through` + 1: the server says that it holds less (or more).

        What is no longer here is declared as given up. Raises StoreError.
        """
        with self._store.write() as connection:
            if get_meta(connection, "epoch") != epoch:
                return
            row = connection.execute("SELECT next FROM lanes WHERE lane = ?", (lane,)).fetchone()
            if row is None:
                return
            through = min(received_through, row[0] - 1)
            connection.execute(
                "UPDATE lanes SET received = ?, safe = min(safe, ?) WHERE lane = ?",
                (through, through, lane),
            )
            connection.execute("DELETE FROM batches WHERE lane = ?", (lane,))
            oldest = connection.execute(
                "SELECT min(first) FROM outbox WHERE lane = ? AND last > ?", (lane, through)
            ).fetchone()[0]
            held_from = row[0] if oldest is None else oldest
            if held_from > through + 1:
                gone = Segment(through + 1, held_from - 1, wall_ms(), b"", lanes.NO_LONGER_HELD)
                write_segment(connection, lane, gone)
                count_loss(connection, gone.reason, held_from - 1 - through)
        self.notify()

    def forked(self, batch: Batch, differing: int) -> None:
        """After FORKED_EPOCH: under the sequence `differing` the server holds something else.

        What lies below it is there. The other lanes are compared, by sending what they hold now
        under the old epoch; then all that is not there goes under a new one, and nothing twice.
        Raises StoreError.
        """
        with self._store.write() as connection:
            if get_meta(connection, "epoch") != batch.epoch:
                return
            connection.execute(
                "UPDATE lanes SET received = max(received, min(?, next) - 1) WHERE lane = ?",
                (differing, batch.lane),
            )
            connection.execute("DELETE FROM batches WHERE lane = ?", (batch.lane,))
            compare = _comparing(connection)
            if compare is None:
                compare = dict(connection.execute("SELECT lane, next - 1 FROM lanes").fetchall())
            compare.pop(batch.lane, None)
            set_meta(connection, comparing=json.dumps(list(compare.items())).encode())
            compared = _is_compared(connection)
        if compared:
            self.new_epoch()

    def new_epoch(self) -> bytes:
        """After a fork: put what was not received under a new epoch and return it.

        What the server has received under the old one stays there. Copies of this disk that have
        the same to send under the same numbers come to the same epoch, so that it arrives once.
        Raises StoreError.
        """
        with self._store.write() as connection:
            old = get_meta(connection, "epoch") or bytes(16)
            marks = connection.execute("SELECT lane, received FROM lanes ORDER BY lane").fetchall()
            waiting = {lane: read_segments(connection, lane, r + 1) for lane, r in marks}
            epoch = _epoch_after(old, marks, waiting)
            for lane, received in marks:
                segments = waiting[lane]
                connection.execute("DELETE FROM outbox WHERE lane = ?", (lane,))
                for segment in segments:
                    write_segment(connection, lane, lanes.shift(segment, received))
                for table in ("pending", "consents"):
                    connection.execute(
                        f"UPDATE {table} SET epoch = ?, sequence = sequence - ?"
                        " WHERE epoch = ? AND lane = ? AND sequence > ?",
                        (epoch, received, old, lane, received),
                    )
            connection.execute("UPDATE lanes SET next = next - received, received = 0, safe = 0")
            connection.execute("DELETE FROM batches")
            set_meta(connection, epoch=epoch)
            drop_meta(connection, "comparing")
        self.notify()
        return epoch

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
            if get_meta(connection, "epoch") != batch.epoch:
                return
            connection.execute("DELETE FROM batches WHERE lane = ?", (batch.lane,))
            for segment in read_segments(connection, batch.lane, first, last):
                rest = lanes.give_up(
                    segment,
                    lambda mark: first <= mark.sequence <= last,
                    lanes.REJECTED,
                    wall_ms(),
                )
                put_rest(connection, batch.lane, segment, rest)
        self.notify()

    def age_ms(self) -> int:
        """How long ago the oldest event was written that the server has not received; 0: none."""
        with self._store.read() as connection:
            oldest = connection.execute(
                "SELECT min(o.at_ms) FROM outbox o JOIN lanes l ON l.lane = o.lane"
                " WHERE o.last > l.received"
            ).fetchone()[0]
        return 0 if oldest is None else max(0, wall_ms() - int(oldest))

    def unsent(self) -> int:
        """How many events the server has not yet received, those still in memory included.

        Raises StoreError.
        """
        with self._store.read() as connection:
            marks = list(read_rows(connection, "lanes"))
        unsent: int = sum(due - 1 - received for _, _, due, received, _ in marks)
        return unsent + self.in_memory()

    def wait(self, timeout: float) -> bool:
        """Wait until something was committed since the last call; True where something was."""
        if not self._committed.wait(timeout):
            return False
        self._committed.clear()
        return True

    def notify(self) -> None:
        """Wake who waits: there may be something to send."""
        self._committed.set()


def _epoch_after(
    old: bytes, marks: Iterable[tuple[int, int]], waiting: dict[int, list[Segment]]
) -> bytes:
    """The epoch for what waits behind the marks of an old one: named by the numbers that it gives,
    and by the first event of each lane; random where nothing waits."""
    if not any(segment.frames for segments in waiting.values() for segment in segments):
        return secrets.token_bytes(16)
    digest = hashlib.sha256(b"genome-edge/epoch/v1\n" + old)
    for lane, received in marks:
        frames = b"".join(segment.frames for segment in waiting[lane])
        mark = next(lanes.marks(frames), None)
        first = b"" if mark is None else frames[mark.start : mark.end]
        digest.update(b"%d %d %d\n" % (lane, received, len(first)) + first)
    return digest.digest()[:16]


def _comparing(connection: sqlite3.Connection) -> dict[int, int] | None:
    """After a fork: the lanes that are compared with what the server holds, and how far.

    All others wait for a new epoch. None: there was no fork.
    """
    value = get_meta(connection, "comparing")
    return None if value is None else dict(json.loads(value))


def _is_compared(connection: sqlite3.Connection) -> bool:
    """Whether it is time for the new epoch."""
    compare = _comparing(connection)
    if compare is None:
        return False
    marks = connection.execute("SELECT lane, received FROM lanes").fetchall()
    return all(received >= compare.get(lane, 0) for lane, received in marks)


def _heed(connection: sqlite3.Connection, incarnation: bytes) -> None:
    known = get_meta(connection, "incarnation")
    if not incarnation or known == incarnation:
        return
    set_meta(connection, incarnation=incarnation)
    if known is not None:
        connection.execute("UPDATE lanes SET received = safe")
        connection.execute("DELETE FROM batches")


def _waiting_lane(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """The lane to send from, and how far it was received: priority first, then the oldest event."""
    compare = _comparing(connection)
    # Every row is read, and so checked: a mark that is too high must not hide its lane.
    waiting = [
        (priority, lane, received)
        for lane, priority, due, received, _ in read_rows(connection, "lanes")
        if due - 1 > received and (compare is None or lane in compare)
    ]

    def order(waits: tuple[int, int, int]) -> tuple[int, int]:
        priority, lane, received = waits
        oldest = connection.execute(
            "SELECT min(rowid) FROM outbox WHERE lane = ? AND last > ?", (lane, received)
        ).fetchone()[0]
        return priority, oldest or 0

    return min(waiting, key=order)[1:] if waiting else None


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
    connection.execute(
        "DELETE FROM outbox WHERE lane = ?1 AND last <= (SELECT safe FROM lanes WHERE lane = ?1)",
        (lane,),
    )
