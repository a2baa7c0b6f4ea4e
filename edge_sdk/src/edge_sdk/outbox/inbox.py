"""What waits for the disk in memory: bounded, however fast the app and however slow the disk.

Rules
-----
1. `put` never waits for the disk: it is on the path of every decision. Below half of the bound it
   takes no lock and wakes nobody: it costs an append and one more in a count. The writer looks for
   itself; only where nothing came for a while it sleeps until somebody wakes it.
2. Beyond half of it impressions are given up by the flip of a coin, beyond three quarters all of
   them, at the bound everything but what somebody waits for, consents and links; at twice the bound
   those, too, and who waits is told.
3. While the disk takes nothing, what is here is thinned instead, so that the end of a long trouble
   does not find its beginning only.
4. What went is counted until a commit declares it. For those that stayed of the same coins it is
   declared beside them, so that the server can tell what they stand for.
5. An event counts from when it is put until it is on disk or given up, wherever it is meanwhile.

Theory of operation. Each event takes a number, of which each is given once. That number less those
that had gone before is at least as many as were here before it, so that the bound holds whoever
puts at the same time. What moves or goes does so under a lock, which the path of an ordinary event
only reads beside; who counts takes it, so that what moves is neither missed nor counted twice.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from edge_sdk.errors import StoreError
from edge_sdk.outbox import lanes, thinning
from edge_sdk.outbox.entries import LOST, Entry, Ticket
from edge_sdk.outbox.frames import FrameKind

_KEPT: Final = frozenset({FrameKind.CONSENT, FrameKind.LINK})
#: What was lost: (reason, probability with which it was) → how many.
Lost = Counter[tuple[str, int]]


class Inbox:
    """Entries and barriers on their way to the writer's thread. `put` is for any thread, the rest
    for the writer's."""

    def __init__(self, limit: int, chance: random.Random | None = None) -> None:
        self._limit = limit
        self._chance = chance or random.Random()
        self._queue: deque[Entry | Ticket] = deque()
        self._lost: Lost = Counter()
        # Of a kind that a signal handler may take again.
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._gone = 0
        # Taken out of the queue, and not gone yet.
        self._held = 0
        # Who waits in the queue, and is no event.
        self._signals = 0
        self._asleep = False
        self._woken = threading.Event()
        self.backlog: deque[Entry] = deque()
        self.barriers: list[Ticket] = []
        #: Why events are given up now.
        self.reason = lanes.INBOX_FULL

    def put(self, entry: Entry) -> None:
        """Take an event, or give it up. Never blocks."""
        gone = self._gone  # before the number: those that come later may go earlier
        waiting = next(self._numbers) - gone
        if 2 * waiting < self._limit:
            self._queue.append(entry)
        else:
            self._put_at_risk(entry, waiting)
        if self._asleep:
            self._woken.set()

    def _put_at_risk(self, entry: Entry, waiting: int) -> None:
        ppm = self._at_risk(entry, waiting)
        with self._lock:
            taken = not thinning.is_gone(self._chance, ppm)
            self._gone += not taken
        if taken:
            entry.gone_ppm = ppm
            self._queue.append(entry)
        elif entry.ticket is not None:
            trouble = "the disk takes nothing, and memory holds all that it may: free some room"
            entry.ticket.settle(error=StoreError(trouble))
        else:
            self._lose(entry, ppm)

    def _at_risk(self, entry: Entry, waiting: int) -> int:
        """The probability with which an event is given up that comes to so many (rule 2)."""
        limit = self._limit
        if entry.ticket is not None or entry.kind in _KEPT:
            return thinning.CERTAIN if waiting >= 2 * limit else 0
        if entry.kind is FrameKind.DECISION:
            return thinning.on_arrival(waiting, limit)
        return thinning.CERTAIN if waiting >= limit else 0

    def signal(self, what: Ticket | None = None) -> None:
        """Wake the writer, with somebody who waits for all that came before."""
        if what is not None:
            with self._lock:
                self._queue.append(what)
                self._signals += 1
        self._woken.set()

    def __len__(self) -> int:
        with self._lock:
            return self._held + len(self._queue) - self._signals

    def missed(self, events: int) -> None:
        """Count events that never came here."""
        if events:
            with self._lock:
                self._lost[self.reason, 0] += events

    def unwritable(self, entry: Entry) -> None:
        """Count one that no disk can take; who waits for it is told."""
        self.done(1)
        with self._lock:
            self._lost[lanes.UNWRITABLE, 0] += 1
        if entry.ticket is not None:
            entry.ticket.settle(error=StoreError("the event could not be encoded"))
        if entry.settled is not None:
            entry.settled(LOST)

    def lost(self) -> Lost:
        """What was lost and is not declared yet."""
        with self._lock:
            return Counter(self._lost)

    def declared(self, lost: Lost) -> None:
        """These are on disk as lost."""
        with self._lock:
            self._lost -= lost

    # For the writer's thread --------------------------------------------------------------------

    def doze(self) -> None:
        """Sleep until something is put, or somebody signals."""
        self._asleep = True
        if not self._queue:
            self._woken.wait()
        self._asleep = False
        self._woken.clear()

    def gather(self) -> int:
        """Sort in what is here; how much it was."""
        items = 0
        while self._queue:
            items += 1
            with self._lock:
                item = self._queue.popleft()
                if isinstance(item, Ticket):
                    self._signals -= 1
                else:
                    self._held += 1
            if isinstance(item, Ticket):
                self.barriers.append(item)
            else:
                self.backlog.append(item)
        return items

    def done(self, events: int) -> None:
        """So many of those that `next_group` gave are on disk, or given up."""
        with self._lock:
            self._held -= events
            self._gone += events

    def take_awaited(self) -> list[Entry]:
        """Give up those that somebody waits for, who is to be told."""
        awaited = [entry for entry in self.backlog if entry.ticket is not None]
        if awaited:
            self.backlog = deque(entry for entry in self.backlog if entry.ticket is None)
            self.done(len(awaited))
        return awaited

    def next_group(self, most: int) -> list[Entry]:
        """The oldest events, but whom somebody waits for first: a redemption must not time out
        behind the impressions of a device that makes them faster than its disk takes them."""
        if len(self.backlog) <= most:
            group = list(self.backlog)
            self.backlog.clear()
            return group
        awaited = [entry for entry in self.backlog if entry.ticket is not None][:most]
        if awaited:
            first = set(map(id, awaited))
            self.backlog = deque(entry for entry in self.backlog if id(entry) not in first)
        return awaited + [self.backlog.popleft() for _ in range(most - len(awaited))]

    def thin(self) -> None:
        """Make room where half of the bound is taken: every second impression goes; where there
        are none, the oldest of the others."""
        before = len(self.backlog)
        self._thin()
        self.done(before - len(self.backlog))

    def _thin(self) -> None:
        excess = len(self) - self._limit // 2
        if excess <= 0:
            return
        shown = [entry for entry in self.backlog if _is_shown(entry)]
        if shown:
            self.backlog = deque(self._survivors())
            return
        kept: deque[Entry] = deque()
        for entry in self.backlog:
            if excess > 0 and entry.ticket is None and entry.kind not in _KEPT:
                excess -= 1
                self._lose(entry, thinning.CERTAIN)
            else:
                kept.append(entry)
        self.backlog = kept

    def _survivors(self) -> Iterator[Entry]:
        for entry in self.backlog:
            if _is_shown(entry):
                entry.gone_ppm = thinning.combined(entry.gone_ppm, thinning.HALF)
                if thinning.is_gone(self._chance, thinning.HALF):
                    self._lose(entry, entry.gone_ppm)
                    continue
            yield entry

    def _lose(self, entry: Entry, ppm: int) -> None:
        with self._lock:
            self._lost[self.reason, ppm if ppm < thinning.CERTAIN else 0] += 1
        if entry.settled is not None:
            entry.settled(LOST)


def _is_shown(entry: Entry) -> bool:
    return entry.kind is FrameKind.DECISION and entry.ticket is None
