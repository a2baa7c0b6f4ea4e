"""What counts under one set of rules, and until when each limit is reached. No input or output.

Who reads takes no lock: what they read is replaced, never changed. Everything else is for one
thread at a time. A tally that nobody reads yet can be made at leisure: see `CapLedger.rebind`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_holds import DEVICE, Waiting, Where
from edge_sdk.engine.cap_rooms import Campaigns
from edge_sdk.engine.cap_rulebook import Rulebook
from edge_sdk.engine.cap_rules import CapRow
from edge_sdk.engine.cap_views import NOTHING_REACHED, Reached


class Tally:
    """Moments by counter, and by subject (or DEVICE) the limits that are reached."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self.until: dict[bytes, Reached] = {}
        self.campaigns = Campaigns(book)
        #: Of whom it is here what they did elsewhere, the first to go first: the claims of that.
        self.met: dict[bytes, frozenset[bytes]] = {}
        #: How many claims those are.
        self.load = 0
        self._times: dict[Where, list[int]] = {}
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

    def add(self, row: CapRow) -> set[Where]:
        """Count an event; what to settle."""
        touched = self.book.touched(row)
        for where in touched:
            times = self._times.get(where)
            if times is None:
                self._times[where] = [row.at_ms]
            else:
                insort(times, row.at_ms)
        return touched

    def remove(self, row: CapRow) -> set[Where]:
        """Count an event no more; what to settle."""
        touched = self.book.touched(row)
        for where in touched:
            times = self._times[where]
            times.remove(row.at_ms)
            if not times:
                del self._times[where]
        return touched

    def counted(self) -> Iterable[Where]:
        """Where anything was counted."""
        return self._times

    def settle(self, touched: Iterable[Where], waiting: Waiting) -> None:
        """Work out anew until when the touched limits are reached, with what is held."""
        for where in touched:
            who, counter, kind = where
            times: Sequence[int] = self._times.get(where, ())
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
                    rest = {one: when for one, when in known.items() if one != limit}
                    if ends is not None:
                        rest[limit] = ends
                    # Who reads sees the one before or the one after.
                    known = rest
                    if rest:
                        self.until[who] = rest
                    else:
                        del self.until[who]
