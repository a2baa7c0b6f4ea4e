"""The rows of a ledger and what follows from them, and how they are changed. No input or output.

What takes long (other rules, a look at all rows) is done beside what counts, without the lock, so
that nobody who decides waits for it.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_holds import DEVICE, Hold, Waiting, Where
from edge_sdk.engine.cap_kept import Kept, Key
from edge_sdk.engine.cap_rooms import Campaigns
from edge_sdk.engine.cap_rulebook import Rows, Rulebook
from edge_sdk.engine.cap_rules import NEVER, VIEW, CapRow, CapRule
from edge_sdk.engine.cap_views import NOTHING_REACHED, Reached
from edge_sdk.slices import rest

#: Who takes something while many rows are changed waits for so many of them.
SLICE: Final = 500


class Tally:
    """What counts under one set of rules, and by subject (or DEVICE) until when which limit is
    reached. Who reads `until` and `met` takes no lock: what is there is replaced, never changed."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self.until: dict[bytes, Reached] = {}
        self.campaigns = Campaigns(book)
        #: Of whom it is here what they did elsewhere, the first to go first: the claims of that.
        self.met: dict[bytes, frozenset[bytes]] = {}
        #: How many claims those are.
        self.load = 0
        #: When what was counted happened, ascending, in Unix milliseconds.
        self.times: dict[Where, list[int]] = {}
        self._away: dict[bytes, dict[Where, list[int]]] = {}

    def meet(self, subject: bytes, rows: Iterable[CapRow], waiting: Waiting) -> None:
        """Count what a customer did elsewhere, for as long as there is room for it."""
        away: dict[Where, list[int]] = {}
        for row in rows:
            for where in self.book.touched(row):
                away.setdefault(where, []).append(row.at_ms)
        for times in away.values():
            times.sort()
        self._away[subject] = away
        self.settle(away, waiting)
        # Last, so that who finds it here has decided by it: see `CapLedger.blocking`.
        claims = self.met[subject] = frozenset([row.claim for row in rows])
        self.load += len(claims)

    def leave(self, subject: bytes, waiting: Waiting) -> None:
        """Count no more what a customer did elsewhere."""
        self.load -= len(self.met.pop(subject, ()))
        away = self._away.pop(subject, None)
        if away:
            self.settle(away, waiting)

    def ahead(self, now_ms: int) -> list[bytes]:
        """Who did something elsewhere later than this."""
        away = self._away.copy().items()
        return [who for who, found in away if any(times[-1] > now_ms for times in found.values())]

    def add(self, row: CapRow) -> set[Where]:
        """Count an event; what to settle."""
        touched = self.book.touched(row)
        for where in touched:
            times = self.times.get(where)
            if times is None:
                self.times[where] = [row.at_ms]
            else:
                insort(times, row.at_ms)
        return touched

    def remove(self, row: CapRow) -> set[Where]:
        """Count an event no more; what to settle."""
        touched = self.book.touched(row)
        for where in touched:
            times = self.times[where]
            times.remove(row.at_ms)
            if not times:
                del self.times[where]
        return touched

    def settle(self, touched: Iterable[Where], waiting: Waiting) -> None:
        """Work out anew until when the touched limits are reached, with what is held."""
        for where in touched:
            who, counter, kind = where
            times: Sequence[int] = self.times.get(where, ())
            if who in self._away and (away := self._away[who].get(where)):
                times = sorted([*times, *away]) if times else away
            held_now = waiting.number(where)
            known = self.until.get(who, NOTHING_REACHED)
            self.campaigns.note(where, times, held_now)
            for limit in self.book.limits.get((counter, kind), ()):
                if limit.device != (who == DEVICE) or (who == NOBODY and not limit.strangers):
                    continue
                ends = None
                if len(times) + held_now >= (1 if limit.paced else limit.limit):
                    # Without holds it follows from what has happened, whenever that is asked.
                    held, now_ms = waiting.lapsing(where) if held_now and limit.holds else ([], 0)
                    ends = limit.ends(times, held, now_ms)
                    if held and limit.paced:
                        waiting.turn(where, limit.turns(now_ms))
                if (ends is not None or known) and ends != known.get(limit):
                    # Who reads sees the one before or the one after.
                    known = {one: when for one, when in known.items() if one != limit}
                    if ends is not None:
                        known[limit] = ends
                    self.until[who] = known
                    if not known:
                        del self.until[who]


class Counted:
    """What a `CapLedger` counts. Thread-safe but for what is under the lock. `elapsed` as there."""

    def __init__(self, rules: Mapping[str, CapRule], elapsed: Callable[[], int]) -> None:
        self.elapsed = elapsed
        self._lock = threading.Lock()
        self._rows = Kept()
        self._holds = Waiting(elapsed)
        self._next_prune_ms = 0
        # What readers look at.
        self._tally = Tally(Rulebook(rules))
        # While another tally is made: what was counted since, or counts no more.
        self._since: list[tuple[CapRow, bool]] | None = None
        self._rebinding = threading.Lock()

    def rows(self) -> Iterator[CapRow]:
        """Everything that still counts, as it would be persisted, but for what is read elsewhere.
        Takes no lock: also for a forked child, where nobody may ever release it."""
        return iter(self._rows.copy().values())

    def rebind(self, rules: Mapping[str, CapRule]) -> None:
        """Go on under another release's rules; what was counted stays counted.

        Nobody waits: until all of it was counted anew decisions are made under the rules before.
        """
        with self._rebinding:
            if rules == self._tally.book.rules:
                return
            with self._lock:
                self._since, rows = [], self._rows.copy()
            tally, nothing_held = Tally(Rulebook(rules)), Waiting(self.elapsed)
            for row in rows.values():
                tally.add(row)
                rest()
            for where in tally.times:
                tally.settle((where,), nothing_held)
                rest()
            while not self._caught_up(tally, nothing_held):
                rest()

    def _caught_up(self, tally: Tally, nothing_held: Waiting) -> bool:
        """Count what came meanwhile; whether that was all, and this tally counts from now on."""
        with self._lock:
            since = self._since or []
            touched: set[Where] = set()
            for row, counts in since[:SLICE]:
                touched |= tally.add(row) if counts else tally.remove(row)
            tally.settle(touched, nothing_held)
            if len(since) > SLICE:
                self._since = since[SLICE:]
                return False
            for hold in self._holds:
                tally.settle(self._put_hold(hold, tally.book), self._holds)
            self._tally, self._since, self._next_prune_ms = tally, None, 0
            return True

    def bound(self, now_ms: int) -> bool:
        """Events that lie ahead were counted while the clock was wrong: they have happened by now.

        Whether there were any. The time must be the server's.
        """
        ahead = [(key, row) for key, row in self._rows.copy().items() if row.at_ms > now_ms]
        self._change(ahead, lambda row: row._replace(at_ms=now_ms))
        for subject in self._tally.ahead(now_ms):  # another process may have put right what is read
            with self._lock:
                self._tally.leave(subject, self._holds)
        return bool(ahead)

    def prune(self, now_ms: int) -> list[CapRow]:
        """Forget what can no longer block anything; returns the rows that the store may delete."""
        with self._lock:
            if now_ms < self._next_prune_ms:
                return []
            # What comes meanwhile says itself when it ends.
            self._next_prune_ms, book, rows = NEVER, self._tally.book, self._rows.copy()
        ended, soonest = book.ended(list(rows.items()), now_ms)
        out = self._change(ended, lambda _: None, book)
        with self._lock:  # where rules or rows were changed meanwhile it looks again
            self._next_prune_ms = min(self._next_prune_ms, soonest if len(out) == len(ended) else 0)
        return out

    def outdated(self, rows: Iterable[CapRow], now_ms: int) -> list[CapRow]:
        """Those of some rows that can no longer block anything."""
        book = self._tally.book
        return [row for row in rows if book.ends_ms(row) <= now_ms]

    def _change(
        self, rows: Rows, change: Callable[[CapRow], CapRow | None], book: Rulebook | None = None
    ) -> list[CapRow]:
        """Change rows that are still as they were, or give them up (None); as they were. Not where
        the rules are not those of `book` any more."""
        out: list[CapRow] = []
        for at in range(0, len(rows), SLICE):
            with self._lock:
                if book not in (None, self._tally.book):
                    break
                some = self._rows.still(rows[at : at + SLICE])
                touched: set[Where] = set()
                for key, row in some:
                    touched |= self._remove(key)
                    changed = change(row)
                    if changed is not None:
                        touched |= self._put(key, changed)
                self._tally.settle(touched, self._holds)
            out += [row for _, row in some]
        return out

    # Under the lock -----------------------------------------------------------------------------

    def _add(self, row: CapRow) -> set[Where]:
        if self._rows.knows(row):
            return set()
        # What was held is seen.
        seen = self._holds.drop(row.claim) if row.claim and row.kind == VIEW else frozenset()
        told = self._rows.told(row)
        before = self._remove(told) if told is not None else set()
        return self._put(self._rows.key(row), row) | seen | before

    def _put_hold(self, hold: Hold, book: Rulebook) -> frozenset[Where]:
        return self._holds.put(hold, book.counters(hold.offer, hold.campaign, hold.group))

    def _put(self, key: Key, row: CapRow) -> set[Where]:
        self._rows.put(key, row)
        self._next_prune_ms = min(self._next_prune_ms, self._tally.book.ends_ms(row))
        if self._since is not None:
            self._since.append((row, True))
        return self._tally.add(row)

    def _remove(self, key: Key) -> set[Where]:
        row = self._rows.pop(key)
        if self._since is not None:
            self._since.append((row, False))
        return self._tally.remove(row)
