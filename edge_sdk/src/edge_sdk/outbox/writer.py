"""The writing half of the outbox: what happened goes to memory at once and to disk in groups.

Rules
-----
1. `put` costs an append to a queue, wakes nobody and never waits for the disk: it is on the path of
   every decision.
2. One thread per process gathers for some milliseconds (`Config.group_commit_s`), encoding what
   comes meanwhile, and commits everything together. Whoever needs to know waits for the commit and
   learns how it went.
3. An event, the caps that it moves, the imprint that it leaves and the consent that it changes are
   written in one transaction.
4. A process writes in two lanes of its own, one for each priority. It holds them by a lock that
   dies with it, and a later process goes on in them where it stopped.
5. While the disk takes nothing, events stay in memory, up to a limit (`inbox`). How many went is
   declared when the disk takes it.
6. The outbox is bounded in bytes, rows and age (`eviction`). `lanes` says how that is declared.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby, islice
from typing import Final

from edge_sdk._posix import FileLock
from edge_sdk.clock import wall_ms
from edge_sdk.config import Config
from edge_sdk.errors import StoreCorrupt, StoreError
from edge_sdk.outbox import lanes
from edge_sdk.outbox.entries import (
    DUPLICATE,
    ORDINARY,
    URGENT,
    WRITTEN,
    Entry,
    Prepared,
    Ticket,
    coins,
    encoded,
    frame_of,
)
from edge_sdk.outbox.eviction import Without, evict, expire, join
from edge_sdk.outbox.inbox import Inbox, Lost
from edge_sdk.outbox.lanes import Limits, Segment
from edge_sdk.outbox.queue import Outbox
from edge_sdk.outbox.thinning import CERTAIN
from edge_sdk.slices import in_slices, rest
from edge_sdk.store import state as store_state
from edge_sdk.store.database import translate
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.lane_rows import lane_row, new_lane, put_lane
from edge_sdk.store.meta import bump, count_loss, counter
from edge_sdk.store.rows import sealed
from edge_sdk.store.segments import write_segment

log = logging.getLogger("edge_sdk.outbox.writer")

_GROUP: Final = 5_000
# Up to so many events are encoded in slices, with rests between them.
_MANY: Final = 2_000
_SLICE_S: Final = 0.00006
_REST_S: Final = 0.00025
# Decisions in one row of the ring: nobody waits while a large one is put together.
_RING_ROW: Final = 64
# How often, while a group gathers, what has come is encoded.
_LOOKS: Final = 3
# After so many looks at nothing the writer sleeps until it is woken: a second of quiet.
_QUIET: Final = 32
# Whoever else is at work gets about so many turns while a group is encoded.
_TURNS: Final = 50
_RETRY_S: Final = (0.1, 5.0)
# Room is made for more than the one event that was too many.
_EVICT_TO: Final = 0.9
# Commits between two looks at tables that grow slowly.
_TRIM_EVERY: Final = 256
# Imprints that no row includes yet: a device that is never sent rows keeps the newest.
_PENDING: Final = 100_000


class Writer:
    """Writes what is put, in one background thread. Thread-safe; not to be used across a fork."""

    def __init__(self, store: DeviceStore, outbox: Outbox, config: Config) -> None:
        self._store = store
        self.outbox = outbox
        self._config = config
        self._limits = Limits(config.batch_events, config.batch_bytes)
        self.inbox = Inbox(config.inbox_max_events)
        #: Take an event; it is on disk some milliseconds later. Never blocks, never fails.
        self.put: Callable[[Entry], None] = self.inbox.put
        self._chance = random.Random()
        self._commits = 0
        self._without: Without = {}
        self._hurry = threading.Event()
        self._closing = False
        self._retry_s = 0.0
        #: Why the disk takes nothing; None: it does.
        self.trouble: StoreError | None = None
        self._lock, self.lanes = _take_lanes(store)
        outbox.in_memory = self.waiting
        self._thread = threading.Thread(target=self._run, name="genome-edge-writer", daemon=True)
        self._thread.start()

    def put_durably(self, entry: Entry, timeout: float) -> str:
        """Take an event and wait until it is on disk.

        Returns WRITTEN, DUPLICATE or what the guard said. Raises DiskFull, StoreCorrupt or
        StoreError; the event was not written then and will not be. Only where the disk has not
        answered within `timeout` seconds it may still be.
        """
        entry.ticket = ticket = Ticket()
        self.inbox.put(entry)
        self._hurry.set()
        return ticket.wait(timeout)

    def waiting(self) -> int:
        """How many events are in memory only."""
        return len(self.inbox)

    def flush(self, timeout: float) -> bool:
        """Wait until everything that was put before is on disk; False where it is not in time."""
        barrier = Ticket()
        self.inbox.signal(barrier)
        self._hurry.set()
        return barrier.done(timeout)

    def close(self, timeout: float) -> bool:
        """Write what there is and stop; False where not everything could be written in time."""
        done = self.flush(timeout)
        self._closing = True
        self.inbox.signal()
        self._hurry.set()
        self._thread.join(max(timeout, 0.1))
        self._lock.release()
        return done

    def abandon(self) -> None:
        """In a forked child: give up the parent's lanes. Its thread is not here any more."""
        self._lock.abandon()

    # The thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        inbox, quiet = self.inbox, 0
        while True:
            if not inbox.backlog and quiet > _QUIET:
                inbox.doze()
            if inbox.backlog:
                self._hurry.wait(self._retry_s)
            else:
                self._gather_group()
            self._hurry.clear()
            inbox.gather()
            quiet = 0 if inbox.backlog else quiet + 1
            self._write_out()
            if not inbox.backlog:
                for barrier in inbox.barriers:
                    barrier.settle()
                inbox.barriers.clear()
            if self._closing and (not inbox.backlog or self.trouble is not None):
                return

    def _gather_group(self) -> None:
        """Wait for as long as a group takes, or until somebody is in a hurry, and encode what has
        come meanwhile: a little at a time, and not while everything waits for the commit."""
        for _ in range(_LOOKS):
            if self._hurry.wait(self._config.group_commit_s / _LOOKS):
                return
            new = self.inbox.gather()
            with in_slices(new < _MANY, _SLICE_S, _REST_S), suppress(Exception):  # is said later
                for entry in islice(reversed(self.inbox.backlog), new):
                    entry.encoded = encoded(entry)
                    rest()

    def _write_out(self) -> None:
        inbox = self.inbox
        while inbox.backlog or (inbox.barriers and inbox.lost()):
            group = inbox.next_group(_GROUP)
            if not group and len(inbox):
                return  # what was lost is declared with those that have come meanwhile
            try:
                # Who decides goes first, for as long as there is not too much to write.
                with in_slices(len(inbox) < _MANY, _SLICE_S, _REST_S):
                    prepared = self._commit(group)
            except Exception as error:  # noqa: BLE001  the thread must outlive whatever a disk does
                inbox.backlog.extendleft(reversed(group))
                self._without.clear()  # what went is back
                if isinstance(error, StoreCorrupt) and not self._retry_s:
                    self._retry_s = 0.001  # the store has repaired itself
                    continue
                self._failed(error)
                return
            inbox.done(len(group))
            self._settle(prepared)
            self._retry_s = 0.0
            self.trouble, inbox.reason = None, lanes.INBOX_FULL
            # What came meanwhile gathers for a while, too, unless there is too much of it. Barriers
            # wait for what is here now, not for what still comes.
            if not inbox.barriers and len(inbox) >= _GROUP:
                inbox.gather()

    def _failed(self, error: Exception) -> None:
        trouble = error if isinstance(error, StoreError) else StoreError(str(error))
        if str(trouble) != str(self.trouble):
            log.warning("what happened cannot be written, it stays in memory: %s", trouble)
        self.trouble = trouble
        inbox = self.inbox
        for entry in inbox.take_awaited():
            assert entry.ticket is not None
            entry.ticket.settle(error=trouble)
        inbox.reason = lanes.DISK_FULL
        inbox.thin()
        self._retry_s = min(max(self._retry_s * 2, _RETRY_S[0]), _RETRY_S[1])

    # One transaction ----------------------------------------------------------------------------

    def _commit(self, group: list[Entry]) -> list[Prepared]:
        prepared = self._prepare(group)
        lost, is_all = self.inbox.lost(), len(self.inbox) == len(group)
        left = Counter(lost)
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
                    self._write_lane(connection, items, now_ms, left)
            if is_all:  # else more of those may come that stayed when these went
                self._declare(connection, left, now_ms)
            self._write_state(connection, [i for i in prepared if i.outcome == WRITTEN])
            self._keep_bounds(connection, now_ms)
        self.inbox.declared(lost - left)
        return prepared

    def _settle(self, prepared: list[Prepared]) -> None:
        """Tell whom it concerns that these are on disk."""
        self.outbox.notify()
        for item in prepared:
            if item.entry.settled is not None:
                try:
                    item.entry.settled(item.outcome)
                except Exception:
                    log.exception("what was to follow a commit failed")
            if item.entry.ticket is not None:
                item.entry.ticket.settle(item.outcome)

    def _prepare(self, group: list[Entry]) -> list[Prepared]:
        """Encode them; one that cannot be must not keep the others from disk, and is taken out."""
        prepared = []
        turns = 1 + len(group) // _TURNS
        sliced = len(group) < _MANY
        for at, entry in enumerate(list(group)):
            try:
                prepared.append(Prepared(entry, *(entry.encoded or encoded(entry))))
                # Encoding is Python at work: a thread that decides would wait for it. But among
                # many busy threads each turn takes milliseconds, and then nothing reaches the disk.
                if sliced:
                    rest()
                elif at % turns == 0:
                    time.sleep(0)
            except Exception:
                log.exception("an event could not be encoded and is lost")
                group[:] = [one for one in group if one is not entry]
                self.inbox.unwritable(entry)
        return prepared

    def _write_lane(
        self, connection: sqlite3.Connection, items: Sequence[Prepared], now_ms: int, lost: Lost
    ) -> None:
        lane = self.lanes[items[0].entry.priority]
        for gone_ppm, run in groupby(zip(coins(items), items, strict=True), lambda pair: pair[0]):
            together = [item for _, item in run]
            if gone_ppm:
                self._declare(connection, lost, now_ms, gone_ppm, len(together))
            first = _take_sequences(connection, lane, len(together))
            frames = []
            for sequence, item in enumerate(together, start=first):
                item.sequence = sequence
                frames.append(frame_of(sequence, item.entry, item.body))
            for segment in lanes.segments_of(frames, first, now_ms, self._limits, gone_ppm):
                write_segment(connection, lane, segment)

    def _declare(
        self,
        connection: sqlite3.Connection,
        lost: Lost,
        now_ms: int,
        beside_ppm: int | None = None,
        kept: int = 0,
    ) -> None:
        """Give what was lost before it had a sequence a run of sequences, and take it off `lost`.

        All of it; or beside events that were `kept`, a fitting share of what the same coins took.
        """
        lane = self.lanes[ORDINARY]
        for (reason, ppm), waiting in list(lost.items()):
            if beside_ppm not in (None, ppm):
                continue
            fitting = waiting if beside_ppm is None else max(1, kept * ppm // (CERTAIN - ppm))
            events = min(waiting, fitting)
            first = _take_sequences(connection, lane, events)
            gap = Segment(first, first + events - 1, now_ms, b"", reason, ppm)
            write_segment(connection, lane, gap)
            count_loss(connection, reason, events)
            lost -= Counter({(reason, ppm): events})

    def _write_state(self, connection: sqlite3.Connection, items: Sequence[Prepared]) -> None:
        ring = [item for item in items if item.full]
        for at in range(0, len(ring), _RING_ROW):
            some = ring[at : at + _RING_ROW]
            ids = [item.entry.decision_id for item in some]
            store_state.write_ring(
                connection, ids, [item.full for item in some], self._config.ring_decisions
            )
        caps = [(row, self.lanes[item.entry.priority]) for item in items for row in item.entry.caps]
        marked = [item for item in items if item.entry.imprint or item.entry.consent]
        if not caps and not marked:
            return
        change = bump(connection, "state")
        store_state.put_caps(connection, caps)
        rows = {p: lane_row(connection, self.lanes[p]) for p in (URGENT, ORDINARY)}
        for item in marked:
            entry = item.entry
            row = rows[entry.priority]
            assert row is not None  # the event has just been written to it
            where = (row.epoch, row.address, item.sequence)
            if entry.imprint is not None:
                id_, body = entry.imprint
                connection.execute(
                    "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    sealed(id_, entry.subject, *where, entry.time_ms, body, change),
                )
            if entry.consent is not None:
                store_state.put_consent(connection, entry.subject, *entry.consent, where)

    def _keep_bounds(self, connection: sqlite3.Connection, now_ms: int) -> None:
        config = self._config
        if self._commits % _TRIM_EVERY == 0:
            store_state.trim_ids(connection, config.remembered_event_ids)
            connection.execute(
                "DELETE FROM pending WHERE change <"
                " (SELECT change FROM pending ORDER BY change DESC LIMIT 1 OFFSET ?)",
                (_PENDING,),
            )
            expire(connection, config.outbox_max_age_s, now_ms)
            if _rows(connection) > config.outbox_max_rows:
                join(connection, self._limits)
        self._commits += 1
        limit = config.outbox_max_bytes
        if counter(connection, "outbox_bytes") > limit:
            target = int(limit * _EVICT_TO)
            gone = evict(connection, target, now_ms, self._chance, self._without)
            join(connection, self._limits)
            log.warning("the outbox is full: %d bytes of events were given up", gone)


def _admit(connection: sqlite3.Connection, entry: Entry) -> str:
    if entry.event_id and not store_state.is_event_new(connection, entry.event_id, entry.time_ms):
        return DUPLICATE
    return entry.guard(connection) if entry.guard is not None else WRITTEN


def _rows(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])


def _take_sequences(connection: sqlite3.Connection, lane: int, count: int) -> int:
    """The first of `count` new sequences of a lane: behind all that is there, whatever the lane's
    own numbers say, so that a damaged one never lets an event take another one's place."""
    last = connection.execute(
        "SELECT last FROM outbox WHERE lane = ? ORDER BY first DESC LIMIT 1", (lane,)
    ).fetchone()
    row = lane_row(connection, lane) or new_lane(connection, lane)
    behind = max(row.next, row.received + 1, row.safe + 1)
    first = int(behind if last is None else last[0] + 1)
    put_lane(connection, row._replace(next=first + count, received=min(row.received, first - 1)))
    return first


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
