"""How often offers were shown, and which may not be shown now. No input or output here.

What keeps an offer away, and until when, is in `cap_rules`; this counts.

Theory of operation. The ledger keeps every event that a limit may still ask for, and works out from
them until when each limit is reached, for one subject or for the device. That happens when an event
does, not when an offer is chosen: a decision only compares moments with now. Readers take no lock:
what they read is replaced, never changed. How much of a campaign one decision may show is in
`cap_rooms`.

An event is known by its claim: the decision and slot (or the interaction) that it came of. The same
claim of the same kind counts once, whoever tells of it: the store, another process, or the app that
reports a view twice. `record` gives the row to persist, `apply` takes rows of others, `take` counts
what a decision shows if all of it may be shown, and `prune` says which rows the store may delete.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

from edge_sdk.clock import since_boot_ms
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_holds import DEVICE, Hold, Holds, Where
from edge_sdk.engine.cap_kept import Kept, Key
from edge_sdk.engine.cap_rooms import Campaigns
from edge_sdk.engine.cap_rulebook import Rulebook
from edge_sdk.engine.cap_rules import (
    CONVERT,
    DISMISS,
    NEVER,
    REDEEM,
    VIEW,
    CapRow,
    CapRule,
    Limit,
    rules_of,
)
from edge_sdk.engine.cap_views import NONE_BLOCKED, NOTHING_REACHED, Blocked, Reached, View

__all__ = [
    "CONVERT", "DISMISS", "NEVER", "NONE_BLOCKED", "REDEEM", "VIEW", "Blocked", "CapLedger",
    "CapRow", "CapRule", "Hold", "Limit", "rules_of",
]  # fmt: skip

_VIEWS: Final = 1024
_SLICE: Final = 500
_MOVED_MS: Final = 1000  # By so much a clock is off when holds are looked at anew.


class CapLedger:
    """Counts events and says which offers are blocked. Thread-safe; reading takes no lock.

    `elapsed` gives the time by which holds lapse: milliseconds, of a clock that nobody sets.
    """

    def __init__(
        self,
        rules: Mapping[str, CapRule],
        rows: Iterable[CapRow] = (),
        elapsed: Callable[[], int] = since_boot_ms,
    ) -> None:
        self.elapsed = elapsed
        self._lock = threading.Lock()
        self._rows = Kept()
        self._holds = Holds()
        # When the windows of paced limits end in which something is held, in Unix milliseconds.
        self._turns: dict[Where, int] = {}
        self._next_turn = NEVER
        # How far the last moment that was asked about was ahead of `elapsed`.
        self._ahead_ms = 0
        # The latest moment for which what is held was counted.
        self._counted_ms = 0
        self._next_prune_ms = 0
        self._times: dict[Where, list[int]] = {}
        # What readers look at: the offers of each limit, and what each subject has reached.
        self._reading: tuple[Mapping[Limit, list[str]], dict[bytes, Reached]] = ({}, {})
        self._views: dict[bytes, View] = {}
        self._learn(rules)
        self.apply(rows)

    # Counting -----------------------------------------------------------------------------------

    def counts(self, offer: str, kind: str, subject: bytes = b"") -> bool:
        """Whether a limit asks for events of this kind of this offer, by this subject."""
        return self._book.counts(offer, kind, subject)

    def counts_for_all(self, offer: str, kind: str) -> bool:
        """Whether a limit asks for these events of everybody together."""
        return self._book.counts_for_all(offer, kind)

    def limited(self, offer: str, subject: bytes) -> bool:
        """Whether anything can keep this offer away from this subject."""
        return self._book.limited(offer, subject)

    def row(
        self, subject: bytes, offer: str, kind: str, at_ms: int, claim: bytes = b""
    ) -> CapRow | None:
        """The row of an event, not counted yet; None where nothing asks for it."""
        if not self.counts(offer, kind, subject):
            return None
        return self._row(subject, offer, kind, at_ms, claim)

    def record(
        self, subject: bytes, offer: str, kind: str, at_ms: int, claim: bytes = b""
    ) -> CapRow | None:
        """Count an event (view, redeem, dismiss, convert; other kinds count for nothing).

        Returns the row to persist, or None where no cap or stop asks for it or it is known.
        """
        row = self.row(subject, offer, kind, at_ms, claim)
        return row if row is not None and self.apply((row,)) else None

    def apply(self, rows: Iterable[CapRow]) -> list[CapRow]:
        """Count what others have, and return what is new: a claim that is known counts once."""
        found: list[CapRow] = []
        left = iter(rows)
        # In slices: who takes something meanwhile waits for one of them.
        while some := list(islice(left, _SLICE)):
            with self._lock:
                touched: set[Where] = set()
                for row in some:
                    if not self._rows.knows(row):
                        touched |= self._add(row)
                        found.append(row)
                self._settle(touched)
        return found

    def take(
        self,
        subject: bytes,
        wanted: Sequence[tuple[bytes, str]],
        now_ms: int,
        lapse: int | None = None,
    ) -> tuple[list[CapRow], dict[str, tuple[str, int]]]:
        """Count the views of what a decision shows: all of it, or nothing where some is blocked.

        `wanted` are claims and offers. With `lapse` (by `elapsed`) they are held until then, and
        the rows say what is. Returns the rows; or none, and what was blocked with everything else
        that may not be shown beside what came first.
        """
        with self._lock:
            self._lapse(now_ms)
            rows: list[CapRow] = []
            failed: dict[str, tuple[str, int]] = {}
            for claim, offer in wanted:
                reached = self._reached(subject, offer, now_ms)
                if reached:
                    granted = {row.offer for row in rows}
                    for limit, (_, until, reason) in reached.items():
                        for other in self._reading[0][limit]:
                            if other not in granted:
                                failed.setdefault(other, (reason.value, until))
                    continue
                row = self._row(subject, offer, VIEW, now_ms, claim)
                rows.append(row)
                self._settle(self._add(row) if lapse is None else self._hold(row, lapse))
            if not failed:
                return rows, {}
            for row in rows:
                key = (row.claim, VIEW)
                self._settle(self._remove(key) if lapse is None else self._holds.drop(row.claim))
            return [], failed

    def hold(self, hold: Hold) -> None:
        """Take a hold of another process; one that has become a view is none."""
        with self._lock:
            if not self._rows.viewed(hold.claim, VIEW):
                counters = self._book.counters(hold.offer, hold.campaign, hold.group)
                self._settle(self._holds.put(hold, counters))

    # Asking -------------------------------------------------------------------------------------

    def blocked(self, subject: bytes, now_ms: int) -> frozenset[str]:
        """Ids of the offers that may not be shown to this subject (NOBODY: 16 zero bytes) now."""
        return self.blocking(subject, now_ms).offers

    def blocking(self, subject: bytes, now_ms: int, slots: int = 1) -> Blocked:
        """The offers that may not be shown to this subject now, and why; and what caps leave a
        decision of so many slots."""
        lapse = self._holds.next_lapse
        if lapse != NEVER:
            elapsed = self.elapsed()
            if lapse <= elapsed or self._next_turn <= now_ms or self._moved(now_ms, elapsed):
                with self._lock:
                    self._lapse(now_ms)
        blocked = self._blocking(subject, now_ms)
        campaigns = self._campaigns
        if slots > 1 and campaigns and (rooms := campaigns.rooms(subject, now_ms, slots)):
            return blocked._replace(rooms=rooms)
        return blocked

    def _blocking(self, subject: bytes, now_ms: int) -> Blocked:
        offers, until = self._reading
        if not until:
            return NONE_BLOCKED
        own, device = until.get(subject), until.get(DEVICE)
        view = self._views.get(subject)
        if view is None or not view.holds(own, device, now_ms):
            view = View.at(own, device, offers, now_ms)
            if len(self._views) >= _VIEWS:
                self._views = {}
            self._views[subject] = view
        return view.blocked

    def _reached(self, subject: bytes, offer: str, now_ms: int) -> Reached:
        """The limits that keep an offer away now."""
        rule = self._book.rules.get(offer)
        by = self._reading[1]
        found = {}
        for limit in rule.limits if rule is not None else ():
            ends = by.get(DEVICE if limit.device else subject, NOTHING_REACHED).get(limit)
            if ends is not None and ends.blocked_ms > now_ms:
                found[limit] = ends
        return found

    def rows(self) -> Iterator[CapRow]:
        """Everything that still counts, as it would be persisted."""
        with self._lock:
            return iter(self.inherited())

    def inherited(self) -> list[CapRow]:
        """The same in a forked child, where a thread of the parent's may hold the lock for ever."""
        return self._rows.rows()

    # Keeping ------------------------------------------------------------------------------------

    def rebind(self, rules: Mapping[str, CapRule]) -> None:
        """Go on under another release's rules; what was counted stays counted."""
        if rules != self._book.rules:
            with self._lock:
                self._learn(rules)

    def bound(self, now_ms: int) -> bool:
        """Events that lie ahead were counted while the clock was wrong: they have happened by now.

        Whether there were any. The time must be the server's.
        """
        with self._lock:
            ahead = [(key, row) for key, row in self._rows.items() if row.at_ms > now_ms]
            for key, row in ahead:
                self._rows.put(key, row._replace(at_ms=now_ms))
            if ahead:
                self._learn(self._book.rules)
        return bool(ahead)

    def prune(self, now_ms: int) -> list[CapRow]:
        """Forget what can no longer block anything; returns the rows that the store may delete."""
        with self._lock:
            if now_ms < self._next_prune_ms:
                return []
            # What comes meanwhile says itself when it ends.
            self._next_prune_ms, book, rows = NEVER, self._book, self._rows.items()
        ended, soonest = book.ended(rows, now_ms)
        out: list[CapRow] = []
        for at in range(0, len(ended), _SLICE):  # as in `apply`
            with self._lock:
                some = self._rows.still(ended[at : at + _SLICE]) if book is self._book else []
                self._settle(set().union(*(self._remove(key) for key, _ in some)))
            out += [row for _, row in some]
        with self._lock:  # where rules or rows were changed meanwhile it looks again
            self._next_prune_ms = min(self._next_prune_ms, soonest if len(out) == len(ended) else 0)
        return out

    def forget(self, subject: bytes) -> None:
        """Forget one subject (a wiped visit, an erasure). What the device counted stays."""
        with self._lock:
            self._rows.forget(subject)
            for hold in [hold for hold in self._holds if hold.subject == subject]:
                counters = self._book.counters(hold.offer, hold.campaign, hold.group)
                self._holds.put(hold._replace(subject=b""), counters)
            for where in [where for where in self._times if where[0] == subject]:
                del self._times[where]
            self._reading[1].pop(subject, None)
            self._campaigns.forget(subject)
            self._views.pop(subject, None)

    def keep_elsewhere(self, of: AbstractSet[bytes]) -> None:
        """What others than these did elsewhere counts no more: it is not known here any more."""
        with self._lock:
            for subject in self._rows.subjects_elsewhere() - of:
                for key in self._rows.elsewhere(subject):
                    self._settle(self._remove(key))

    # Under the lock -----------------------------------------------------------------------------

    def _learn(self, rules: Mapping[str, CapRule]) -> None:
        book = self._book = Rulebook(rules)
        self._next_prune_ms = 0
        self._times = {}
        touched: set[Where] = set()
        for key, row in self._rows.items():
            touched |= self._put(key, row)
        for hold in self._holds:
            counters = book.counters(hold.offer, hold.campaign, hold.group)
            touched |= self._holds.put(hold, counters)
        until: dict[bytes, Reached] = {}
        campaigns = Campaigns(book)
        self._settled(touched, until, campaigns)
        self._reading, self._campaigns = (book.offers, until), campaigns

    def _add(self, row: CapRow) -> set[Where]:
        if self._rows.knows(row):
            return set()
        # What was held is seen.
        seen = self._holds.drop(row.claim) if row.claim and row.kind == VIEW else frozenset()
        told = self._rows.told(row)
        before = self._remove(told) if told is not None else set()
        return self._put(self._rows.key(row), row) | seen | before

    def _hold(self, row: CapRow, lapse: int) -> frozenset[Where]:
        hold = Hold(row.claim, row.subject, row.offer, lapse, row.campaign, row.group)
        return self._holds.put(hold, self._book.counters(row.offer, row.campaign, row.group))

    def _row(self, subject: bytes, offer: str, kind: str, at_ms: int, claim: bytes) -> CapRow:
        rule = self._book.rules.get(offer)
        of = (rule.campaign, rule.group) if rule is not None else ()
        return CapRow(subject, offer, kind, at_ms, claim, *of)

    def _put(self, key: Key, row: CapRow) -> set[Where]:
        self._rows.put(key, row)
        self._next_prune_ms = min(self._next_prune_ms, self._book.ends_ms(row))
        touched = self._book.touched(row)
        for where in touched:
            insort(self._times.setdefault(where, []), row.at_ms)
        return touched

    def _remove(self, key: Key) -> set[Where]:
        row = self._rows.pop(key)
        touched = self._book.touched(row)
        for where in touched:
            times = self._times[where]
            times.remove(row.at_ms)
            if not times:
                del self._times[where]
        return touched

    def _settle(self, touched: AbstractSet[Where]) -> None:
        """Work out anew until when the touched limits are reached."""
        self._settled(touched, self._reading[1], self._campaigns)

    def _settled(
        self, touched: AbstractSet[Where], until: dict[bytes, Reached], campaigns: Campaigns
    ) -> None:
        for where in touched:
            who, counter, kind = where
            times = self._times.get(where, ())
            waiting = self._holds.number(where)
            campaigns.note(where, times, waiting)
            for limit in self._book.limits.get((counter, kind), ()):
                if limit.device != (who == DEVICE) or (who == NOBODY and not limit.strangers):
                    continue
                ends = None
                if len(times) + waiting >= (1 if limit.paced else limit.limit):
                    # Without holds it follows from what has happened, whenever that is asked.
                    held, now_ms = self._lapses(where) if waiting and limit.holds else ([], 0)
                    ends = limit.ends(times, held, now_ms)
                    if held and limit.paced:
                        turn = min(limit.turns(now_ms), self._turns.get(where, NEVER))
                        self._turns[where] = turn
                        self._next_turn = min(self._next_turn, turn)
                known = until.get(who, NOTHING_REACHED)
                if ends != known.get(limit):
                    rest = {one: when for one, when in known.items() if one != limit}
                    # Who reads sees the one before or the one after.
                    until[who] = rest if ends is None else {**rest, limit: ends}

    # What is held, under the lock ---------------------------------------------------------------

    def _lapses(self, where: Where) -> tuple[list[int], int]:
        """When each hold lapses, and now, in Unix milliseconds."""
        ahead_ms = self._ahead_ms
        now_ms = self.elapsed() + ahead_ms
        self._counted_ms = max(self._counted_ms, now_ms)
        return [lapse + ahead_ms for lapse in self._holds.lapses(where)], now_ms

    def _lapse(self, now_ms: int) -> None:
        """Before anything is asked: let go of what has lapsed, and count what is held anew where a
        window has ended, the clock was set, or nobody had said yet what time it is."""
        elapsed = self.elapsed()
        moved = self._moved(now_ms, elapsed)
        self._ahead_ms, self._counted_ms = now_ms - elapsed, now_ms
        touched = self._holds.lapsed(elapsed) if self._holds.next_lapse <= elapsed else set()
        if self._next_turn <= now_ms:
            due = {where for where, turn in self._turns.items() if turn <= now_ms}
            self._turns = {where: self._turns[where] for where in self._turns.keys() - due}
            self._next_turn = min(self._turns.values(), default=NEVER)
            touched |= due
        if moved:
            touched |= self._holds.touched()
        self._settle(touched)

    def _moved(self, now_ms: int, elapsed: int) -> bool:
        # Back by however little: it may be the window before.
        return now_ms < self._counted_ms or abs(now_ms - elapsed - self._ahead_ms) > _MOVED_MS
