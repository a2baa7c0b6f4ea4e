"""The writing half of the outbox: what happened goes to memory at once and to disk in groups.

Rules
-----
1. `put` costs an append to a queue and takes no lock: it is on the path of every decision.
2. One thread per process gathers for some milliseconds (`Config.group_commit_s`) and commits
   everything together. Whoever needs to know waits for the commit and learns how it went.
3. An event, the caps that it moves, the imprint that it leaves and the consent that it changes are
   written in one transaction.
4. A process writes in two lanes of its own, one for each priority. It holds them by a lock that
   dies with it, and a later process goes on in them where it stopped.
5. While the disk takes nothing, events stay in memory, up to a limit. Beyond it the oldest
   impressions go first; how many went is declared by an EVICTED event when the disk takes it.
6. The outbox is bounded in bytes: beyond that impressions are given up, the oldest first, then
   other events but consents, links and redemptions. `lanes` says how that is declared.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_sdk._posix import FileLock
from edge_sdk.clock import wall_ms
from edge_sdk.config import Config
from edge_sdk.dna.genome import NOBODY
from edge_sdk.errors import StoreCorrupt, StoreError
from edge_sdk.outbox import lanes
from edge_sdk.outbox.entries import DUPLICATE, ORDINARY, URGENT, WRITTEN, Entry, Ticket
from edge_sdk.outbox.eviction import evict
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from edge_sdk.outbox.lanes import Limits, Segment
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store import state as store_state
from edge_sdk.store.database import translate
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.meta import bump, counter, get_meta
from edge_sdk.store.segments import write_segment
from genome_edge.v1 import event_pb2

log = logging.getLogger("edge_sdk.outbox.writer")

_GROUP: Final = 5_000
_RETRY_S: Final = (0.1, 5.0)
# Room is made for more than the one event that was too many.
_EVICT_TO: Final = 0.9
# Commits between two looks at tables that grow slowly.
_TRIM_EVERY: Final = 256


@dataclass(slots=True)
class _Prepared:
    """An entry whose frame is encoded but for its sequence."""

    entry: Entry
    frame: bytes
    full: bytes
    outcome: str = WRITTEN
    sequence: int = 0


class Writer:
    """Writes what is put, in one background thread. Thread-safe; not to be used across a fork."""

    def __init__(self, store: DeviceStore, outbox: Outbox, config: Config) -> None:
        self._store = store
        self._outbox = outbox
        self._config = config
        self._limits = Limits(config.batch_events, config.batch_bytes)
        self._inbox: queue.SimpleQueue[Entry | Ticket | None] = queue.SimpleQueue()
        self._backlog: deque[Entry] = deque()
        self._barriers: list[Ticket] = []
        self._in_flight = 0
        self._lost = 0
        self._commits = 0
        self._hurry = threading.Event()
        self._closing = False
        self._retry_s = 0.0
        #: Why the disk takes nothing; None: it does.
        self.trouble: StoreError | None = None
        self._lock, self.lanes = _take_lanes(store)
        outbox.in_memory = self.waiting
        self._thread = threading.Thread(target=self._run, name="genome-edge-writer", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Take an event; it is on disk some milliseconds later. Never blocks, never fails."""
        self._inbox.put(entry)

    def put_durably(self, entry: Entry, timeout: float) -> str:
        """Take an event and wait until it is on disk.

        Returns WRITTEN, DUPLICATE or what the guard said. Raises DiskFull, StoreCorrupt or
        StoreError; the event was not written then and will not be. Only where the disk has not
        answered within `timeout` seconds it may still be.
        """
        entry.ticket = ticket = Ticket()
        self._inbox.put(entry)
        self._hurry.set()
        return ticket.wait(timeout)

    def waiting(self) -> int:
        """How many events are in memory only."""
        return self._inbox.qsize() + len(self._backlog) + self._in_flight

    def flush(self, timeout: float) -> bool:
        """Wait until everything that was put before is on disk; False where it is not in time."""
        barrier = Ticket()
        self._inbox.put(barrier)
        self._hurry.set()
        return barrier.done(timeout)

    def close(self, timeout: float) -> bool:
        """Write what there is and stop; False where not everything could be written in time."""
        done = self.flush(timeout)
        self._closing = True
        self._inbox.put(None)
        self._hurry.set()
        self._thread.join(max(timeout, 0.1))
        self._lock.release()
        return done

    def abandon(self) -> None:
        """In a forked child: give up the parent's lanes. Its thread is not here any more."""
        self._lock.abandon()

    # The thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            if self._backlog:
                self._hurry.wait(self._retry_s)
            elif self._take(self._inbox.get()):
                self._hurry.wait(self._config.group_commit_s)
            self._hurry.clear()
            self._gather()
            self._write_out()
            if not self._backlog:
                for barrier in self._barriers:
                    barrier.settle()
                self._barriers.clear()
            if self._closing and (not self._backlog or self.trouble is not None):
                return

    def _take(self, item: Entry | Ticket | None) -> bool:
        """Sort in what came; whether there is time to wait for more."""
        if isinstance(item, Entry):
            self._backlog.append(item)
            return item.ticket is None
        if isinstance(item, Ticket):
            self._barriers.append(item)
        return False

    def _gather(self) -> None:
        while True:
            try:
                self._take(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _write_out(self) -> None:
        while self._backlog:
            group = self._next_group()
            self._in_flight = len(group)
            try:
                self._commit(group)
            except Exception as error:  # noqa: BLE001  the thread must outlive whatever a disk does
                self._backlog.extendleft(reversed(group))
                self._failed(error)
                return
            finally:
                self._in_flight = 0
            self._retry_s = 0.0
            self.trouble = None
            if not self._barriers:  # those wait for what is here now, not for what still comes
                self._gather()

    def _next_group(self) -> list[Entry]:
        """The oldest events, but whom somebody waits for first: a redemption must not time out
        behind the impressions of a device that makes them faster than its disk takes them."""
        if len(self._backlog) <= _GROUP:
            group = list(self._backlog)
            self._backlog.clear()
            return group
        awaited = [entry for entry in self._backlog if entry.ticket is not None][:_GROUP]
        if awaited:
            first = set(map(id, awaited))
            self._backlog = deque(entry for entry in self._backlog if id(entry) not in first)
        return awaited + [self._backlog.popleft() for _ in range(_GROUP - len(awaited))]

    def _failed(self, error: Exception) -> None:
        trouble = error if isinstance(error, StoreError) else StoreError(str(error))
        if str(trouble) != str(self.trouble):
            log.warning("what happened cannot be written, it stays in memory: %s", trouble)
        self.trouble = trouble
        kept: deque[Entry] = deque()
        for entry in self._backlog:
            if entry.ticket is not None:
                entry.ticket.settle(error=trouble)
            else:
                kept.append(entry)
        self._backlog = kept
        self._shorten()
        if isinstance(trouble, StoreCorrupt) and not self._retry_s:
            self._retry_s = 0.001  # the store has repaired itself
        else:
            self._retry_s = min(max(self._retry_s * 2, _RETRY_S[0]), _RETRY_S[1])

    def _shorten(self) -> None:
        """Keep no more in memory than allowed: impressions go first, the oldest before the rest."""
        excess = len(self._backlog) - self._config.inbox_max_events
        if excess <= 0:
            return
        kept: deque[Entry] = deque()
        for entry in self._backlog:
            if excess > 0 and entry.kind is FrameKind.DECISION:
                excess -= 1
                self._lost += 1
            else:
                kept.append(entry)
        while excess > 0:
            kept.popleft()
            excess -= 1
            self._lost += 1
        self._backlog = kept

    # One transaction ----------------------------------------------------------------------------

    def _commit(self, group: Sequence[Entry]) -> None:
        prepared = _prepare(group)
        lost = self._lost
        with self._store.write() as connection:
            now_ms = wall_ms()
            for item in prepared:
                item.outcome = _admit(connection, item.entry)
            for priority in (URGENT, ORDINARY):
                items = [
                    item
                    for item in prepared
                    if item.outcome == WRITTEN and item.entry.priority == priority
                ]
                if items:
                    self._write_lane(connection, items, now_ms)
            if lost:
                self._declare_lost(connection, lost, now_ms)
            self._write_state(connection, [i for i in prepared if i.outcome == WRITTEN])
            self._keep_bounds(connection, now_ms)
        self._lost -= lost
        self._outbox.notify()
        for item in prepared:
            if item.entry.settled is not None:
                item.entry.settled(item.outcome)
            if item.entry.ticket is not None:
                item.entry.ticket.settle(item.outcome)

    def _write_lane(
        self, connection: sqlite3.Connection, items: Sequence[_Prepared], now_ms: int
    ) -> None:
        lane = self.lanes[items[0].entry.priority]
        first = _take_sequences(connection, lane, len(items))
        frames = []
        for sequence, item in enumerate(items, start=first):
            item.sequence = sequence
            frames.append(lanes.numbered(item.frame, sequence))
        for segment in lanes.segments_of(frames, first, now_ms, self._limits):
            write_segment(connection, lane, segment)

    def _declare_lost(self, connection: sqlite3.Connection, lost: int, now_ms: int) -> None:
        """An event that says: so many were given up before they had a sequence."""
        lane = self.lanes[ORDINARY]
        sequence = _take_sequences(connection, lane, 1)
        event = event_pb2.Event(
            time=event_pb2.EventTime(wall_ms=now_ms),
            evicted=event_pb2.Evicted(
                first_sequence=sequence,
                last_sequence=sequence,
                reason=lanes.DISK_FULL,
                events=lost,
            ),
        )
        frame = Frame(sequence, NOBODY, FrameKind.EVICTED, now_ms, event.SerializeToString())
        segment = Segment(sequence, sequence, now_ms, encode_frame(frame))
        write_segment(connection, lane, segment)

    def _write_state(self, connection: sqlite3.Connection, items: Sequence[_Prepared]) -> None:
        ring = [
            Frame(0, item.entry.subject, item.entry.kind, item.entry.time_ms, item.full)
            for item in items
            if item.full
        ]
        if ring:
            store_state.write_ring(connection, ring, self._config.ring_decisions)
        caps = [
            (*row, self.lanes[item.entry.priority]) for item in items for row in item.entry.caps
        ]
        marked = [item for item in items if item.entry.imprint or item.entry.consent]
        if not caps and not marked:
            return
        change = bump(connection, "state")
        epoch = get_meta(connection, "epoch")
        connection.executemany(
            "INSERT INTO caps (subject, offer, kind, at_ms, lane) VALUES (?, ?, ?, ?, ?)", caps
        )
        for item in marked:
            entry = item.entry
            where = (epoch, self.lanes[entry.priority], item.sequence)
            if entry.imprint is not None:
                id_, body = entry.imprint
                connection.execute(
                    "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (id_, entry.subject, *where, entry.time_ms, body, change),
                )
            if entry.consent is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO consents VALUES (?, ?, ?, ?, ?, ?)",
                    (entry.subject, *entry.consent, *where),
                )

    def _keep_bounds(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._commits += 1
        if self._commits % _TRIM_EVERY == 0:
            store_state.trim_ids(connection, self._config.remembered_event_ids)
        limit = self._config.outbox_max_bytes
        if counter(connection, "outbox_bytes") > limit:
            gone = evict(connection, int(limit * _EVICT_TO), now_ms)
            log.warning("the outbox is full: %d bytes of the oldest events were given up", gone)


def _prepare(group: Sequence[Entry]) -> list[_Prepared]:
    prepared = []
    for entry in group:
        try:
            body, full = entry.bodies()
            frame = encode_frame(Frame(0, entry.subject, entry.kind, entry.time_ms, body))
            prepared.append(_Prepared(entry, frame, full))
            # Encoding is Python at work: without a break, a thread that decides would wait for the
            # interpreter's switch interval (5 ms) instead of for one event.
            time.sleep(0)
        except Exception:  # one event that cannot be encoded must not keep the others from disk
            log.exception("an event could not be encoded and is lost")
            if entry.ticket is not None:
                entry.ticket.settle(error=StoreError("the event could not be encoded"))
    return prepared


def _admit(connection: sqlite3.Connection, entry: Entry) -> str:
    if entry.event_id and not store_state.is_event_new(connection, entry.event_id, entry.time_ms):
        return DUPLICATE
    return entry.guard(connection) if entry.guard is not None else WRITTEN


def _take_sequences(connection: sqlite3.Connection, lane: int, count: int) -> int:
    """The first of `count` new sequences of a lane."""
    row = connection.execute(
        "INSERT INTO lanes (lane, priority, next) VALUES (?1, ?1 % 2, 1 + ?2)"
        " ON CONFLICT DO UPDATE SET next = next + ?2 RETURNING next - ?2",
        (lane, count),
    ).fetchone()
    return int(row[0])


def _take_lanes(store: DeviceStore) -> tuple[FileLock, tuple[int, int]]:
    """The first pair of lanes that nobody holds. Raises StoreError."""
    directory = store.path / "locks"
    number = 0
    while True:
        try:
            lock = FileLock.try_acquire(directory / f"lanes-{number}")
        except OSError as error:
            raise translate(error, directory) from error
        if lock is not None:
            return lock, (2 * number, 2 * number + 1)
        number += 1
