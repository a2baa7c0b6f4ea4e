"""How often offers were shown, and which may not be shown now. No input or output here.

What keeps an offer away, and until when, is in `cap_rules`; this counts.

Theory of operation. The ledger keeps every event of this device that a limit may still ask for, and
works out from them until when each limit is reached, for one subject or for the device. That
happens when an event does, not when an offer is chosen: a decision only compares moments with now.
Readers take no lock: what they read is replaced, never changed. How much of a campaign one decision
may show is in `cap_rooms`.

What the customers of an audience did elsewhere may be many times as much. With a `Source` it stays
there: what one of them did is read when they are looked at, and kept for the last of them. Nothing
is read under the lock; where there is news meanwhile it is read again.

An event is known by its claim: the decision and slot (or the interaction) that it came of. The same
claim of the same kind counts once, whoever tells of it: the store, another process, or the app that
reports a view twice. `record` gives the row to persist, `apply` takes rows of others, `take` counts
what a decision shows if all of it may be shown, and `prune` says which rows the store may delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from edge_sdk.clock import since_boot_ms
from edge_sdk.engine.cap_counting import SLICE, Counted, Tally
from edge_sdk.engine.cap_holds import DEVICE, Hold, Where
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
# Of so many customers, and so many events of theirs, it is kept: 30 MB at most.
_MET: Final = 16_384
_AWAY: Final = 15_000


class Source(Protocol):
    """Where what customers did elsewhere is read. Thread-safe."""

    def __call__(self, subject: bytes) -> list[CapRow] | None:
        """What one of them did; None: it cannot be read now."""

    def forked(self) -> Source:
        """The same in a forked child."""


class CapLedger(Counted):
    """Counts events and says which offers are blocked. Thread-safe; reading takes no lock.

    `elapsed` gives the time by which holds lapse: milliseconds, of a clock that nobody sets.
    """

    def __init__(
        self,
        rules: Mapping[str, CapRule],
        rows: Iterable[CapRow] = (),
        elapsed: Callable[[], int] = since_boot_ms,
    ) -> None:
        super().__init__(rules, elapsed)
        self._views: dict[bytes, View] = {}
        #: Where it is read what customers did elsewhere; None: it is among the rows.
        self.source: Source | None = None
        # How often there was any news of that.
        self._news = 0
        self.apply(rows)

    # Counting -----------------------------------------------------------------------------------

    def counts(self, offer: str, kind: str, subject: bytes = b"") -> bool:
        """Whether a limit asks for events of this kind of this offer, by this subject."""
        return self._tally.book.counts(offer, kind, subject)

    def counts_for_all(self, offer: str, kind: str) -> bool:
        """Whether a limit asks for these events of everybody together."""
        return self._tally.book.counts_for_all(offer, kind)

    def limited(self, offer: str, subject: bytes) -> bool:
        """Whether anything can keep this offer away from this subject."""
        return self._tally.book.limited(offer, subject)

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
        while some := list(islice(left, SLICE)):
            with self._lock:
                touched: set[Where] = set()
                for row in some:
                    if self.source is not None:
                        if row.elsewhere:  # it is read when they are looked at
                            self._news += 1
                            if row.kind == VIEW:
                                touched |= self._holds.drop(row.claim)
                            self._tally.leave(row.subject, self._holds)
                            continue
                        if row.claim in self._tally.met.get(row.subject, ()):  # nothing twice
                            self._tally.leave(row.subject, self._holds)
                    if not self._rows.knows(row):
                        touched |= self._add(row)
                        found.append(row)
                self._tally.settle(touched, self._holds)
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
        here = True
        while True:
            with self._lock:
                if self.source is None or subject in self._tally.met or not here:
                    return self._take(subject, wanted, now_ms, lapse)
            here = self._meet(subject)

    def hold(self, hold: Hold) -> None:
        """Take a hold of another process; one that has become a view is none."""
        with self._lock:
            if not self._rows.viewed(hold.claim, VIEW):
                self._tally.settle(self._put_hold(hold, self._tally.book), self._holds)

    # Asking -------------------------------------------------------------------------------------

    def blocked(self, subject: bytes, now_ms: int) -> frozenset[str]:
        """Ids of the offers that may not be shown to this subject (NOBODY: 16 zero bytes) now."""
        return self.blocking(subject, now_ms).offers

    def blocking(self, subject: bytes, now_ms: int, slots: int = 1) -> Blocked:
        """The offers that may not be shown to this subject now, and why; and what caps leave a
        decision of so many slots."""
        if self._holds.next_lapse != NEVER and self._holds.is_due(now_ms):
            with self._lock:
                self._tally.settle(self._holds.due(now_ms), self._holds)
        while True:
            tally = self._tally
            met = tally.met.get(subject)
            blocked = self._blocking(tally, subject, now_ms)
            campaigns = tally.campaigns
            if slots > 1 and campaigns and (rooms := campaigns.rooms(subject, now_ms, slots)):
                blocked = blocked._replace(rooms=rooms)
            # Where that is still the same, this is what follows from it.
            if self.source is None or (met is not None and tally.met.get(subject) is met):
                return blocked
            if not self._meet(subject):
                return blocked

    def _blocking(self, tally: Tally, subject: bytes, now_ms: int) -> Blocked:
        until = tally.until
        if not until:
            return NONE_BLOCKED
        own, device = until.get(subject), until.get(DEVICE)
        view = self._views.get(subject)
        if view is None or not view.holds(own, device, now_ms):
            view = View.at(own, device, tally.book.offers, now_ms)
            if len(self._views) >= _VIEWS:
                self._views = {}
            self._views[subject] = view
        return view.blocked

    def _reached(self, subject: bytes, offer: str, now_ms: int) -> Reached:
        """The limits that keep an offer away now."""
        rule = self._tally.book.rules.get(offer)
        by = self._tally.until
        found = {}
        for limit in rule.limits if rule is not None else ():
            ends = by.get(DEVICE if limit.device else subject, NOTHING_REACHED).get(limit)
            if ends is not None and ends.blocked_ms > now_ms:
                found[limit] = ends
        return found

    # Elsewhere ----------------------------------------------------------------------------------

    def draw_on(self, source: Source | None) -> None:
        """Read from here what customers did elsewhere, from now on and anew."""
        with self._lock:
            self.source = source
            self._news += 1
            known = list(self._tally.met)
        rows = [(key, row) for key, row in self._rows.copy().items() if row.elsewhere]
        self._change(rows, lambda _: None)
        for subject in known:
            with self._lock:
                self._tally.leave(subject, self._holds)

    def _meet(self, subject: bytes) -> bool:
        """Read what a customer did elsewhere, where it is not here; whether it is now."""
        while (source := self.source) is not None and subject not in self._tally.met:
            news = self._news
            rows = source(subject)
            if rows is None:
                return False
            with self._lock:
                tally = self._tally
                if news != self._news or subject in tally.met:
                    continue
                rows = [row for row in rows if not self._rows.knows(row)]
                tally.meet(subject, rows, self._holds)
                while len(tally.met) > _MET or (tally.load > _AWAY and len(tally.met) > 1):
                    tally.leave(next(iter(tally.met)), self._holds)
        return True

    def forget(self, subject: bytes) -> None:
        """Forget one subject (a wiped visit, an erasure). What the device counted stays."""
        rows = [(key, row) for key, row in self._rows.copy().items() if row.subject == subject]
        self._change(rows, lambda row: None if row.elsewhere else row._replace(subject=b""))
        with self._lock:
            self._news += 1
            self._tally.leave(subject, self._holds)
            book = self._tally.book
            for hold in [hold for hold in self._holds if hold.subject == subject]:
                touched = self._put_hold(hold._replace(subject=b""), book)
                self._tally.settle(touched, self._holds)
            self._views.pop(subject, None)

    # Under the lock -----------------------------------------------------------------------------

    def _take(
        self, subject: bytes, wanted: Sequence[tuple[bytes, str]], now_ms: int, lapse: int | None
    ) -> tuple[list[CapRow], dict[str, tuple[str, int]]]:
        tally, holds = self._tally, self._holds
        tally.settle(holds.due(now_ms), holds)
        rows: list[CapRow] = []
        failed: dict[str, tuple[str, int]] = {}
        for claim, offer in wanted:
            reached = self._reached(subject, offer, now_ms)
            if reached:
                granted = {row.offer for row in rows}
                for limit, (_, until, reason) in reached.items():
                    for other in tally.book.offers[limit]:
                        if other not in granted:
                            failed.setdefault(other, (reason.value, until))
                continue
            row = self._row(subject, offer, VIEW, now_ms, claim)
            rows.append(row)
            if lapse is None:
                tally.settle(self._add(row), holds)
            else:
                hold = Hold(claim, subject, offer, lapse, row.campaign, row.group)
                tally.settle(self._put_hold(hold, tally.book), holds)
        if not failed:
            return rows, {}
        for row in rows:
            touched = self._remove((row.claim, VIEW)) if lapse is None else holds.drop(row.claim)
            tally.settle(touched, holds)
        return [], failed

    def _row(self, subject: bytes, offer: str, kind: str, at_ms: int, claim: bytes) -> CapRow:
        rule = self._tally.book.rules.get(offer)
        of = (rule.campaign, rule.group) if rule is not None else ()
        return CapRow(subject, offer, kind, at_ms, claim, *of)
