"""Views that are to come: they count until they do, or lapse. No input or output here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from edge_sdk.engine.cap_rules import NEVER, VIEW, Counter

#: Who stands for everybody; not a subject: those have 16 bytes.
DEVICE: Final = b"device"
#: Whose events of which counter and kind.
Where = tuple[bytes, Counter, str]

_MOVED_MS: Final = 1000  # By so much a clock is off when holds are looked at anew.


class Hold(NamedTuple):
    """One view that is to come. It lapses at `until`, in milliseconds of a clock that nobody sets.

    `subject`, `claim`, `campaign` and `group` as in `CapRow`.
    """

    claim: bytes
    subject: bytes
    offer: str
    until: int
    campaign: str = ""
    group: str = ""


class Holds:
    """What is held, by whom and for which counter. Not thread-safe but for `next_lapse`."""

    def __init__(self) -> None:
        self.next_lapse = NEVER
        self._held: dict[bytes, tuple[Hold, frozenset[Where]]] = {}
        self._lapses: dict[Where, dict[bytes, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def __iter__(self) -> Iterator[Hold]:
        return iter([hold for hold, _ in self._held.values()])

    def put(self, hold: Hold, counters: tuple[Counter, ...]) -> frozenset[Where]:
        """Hold a view that counts for these counters; what it touches."""
        touched = self.drop(hold.claim) | {
            (who, counter, VIEW) for counter in counters for who in (hold.subject, DEVICE) if who
        }
        self._held[hold.claim] = (hold, touched)
        for where in touched:
            self._lapses.setdefault(where, {})[hold.claim] = hold.until
        self.next_lapse = min(self.next_lapse, hold.until)
        return touched

    def drop(self, claim: bytes) -> frozenset[Where]:
        """Let go of a view: it was seen, or will not be; what that touches."""
        _, touched = self._held.pop(claim, (None, frozenset[Where]()))
        for where in touched:
            lapses = self._lapses[where]
            del lapses[claim]
            if not lapses:
                del self._lapses[where]
        return touched

    def lapsed(self, elapsed: int) -> set[Where]:
        """Let go of what has lapsed; what that touches."""
        touched: set[Where] = set()
        for hold in self:
            if hold.until <= elapsed:
                touched |= self.drop(hold.claim)
        self.next_lapse = min((hold.until for hold in self), default=NEVER)
        return touched

    def touched(self) -> set[Where]:
        """Where anything is held."""
        return set(self._lapses)

    def number(self, where: Where) -> int:
        """How many there are."""
        return len(self._lapses.get(where, ()))

    def lapses(self, where: Where) -> list[int]:
        """When each of them lapses, ascending."""
        return sorted(self._lapses.get(where, {}).values())


class Waiting(Holds):
    """Holds, and what time it is for them: as `Holds`, not thread-safe but for `is_due`.

    `elapsed` gives the time by which they lapse: milliseconds, of a clock that nobody sets.
    """

    def __init__(self, elapsed: Callable[[], int]) -> None:
        super().__init__()
        self.elapsed = elapsed
        # When the windows of paced limits end in which something is held, in Unix milliseconds.
        self._turns: dict[Where, int] = {}
        self._next_turn = NEVER
        # How far the last moment that was asked about was ahead of `elapsed`.
        self._ahead_ms = 0
        # The latest moment for which what is held was counted.
        self._counted_ms = 0

    def lapsing(self, where: Where) -> tuple[list[int], int]:
        """When each hold lapses, and now, in Unix milliseconds."""
        ahead_ms = self._ahead_ms
        now_ms = self.elapsed() + ahead_ms
        self._counted_ms = max(self._counted_ms, now_ms)
        return [lapse + ahead_ms for lapse in self.lapses(where)], now_ms

    def turn(self, where: Where, turn_ms: int) -> None:
        """What is held here counts otherwise from this moment on."""
        turn_ms = min(turn_ms, self._turns.get(where, NEVER))
        self._turns[where] = turn_ms
        self._next_turn = min(self._next_turn, turn_ms)

    def is_due(self, now_ms: int) -> bool:
        """Whether what is held must be looked at before anything is asked."""
        elapsed = self.elapsed()
        if self.next_lapse <= elapsed or self._next_turn <= now_ms or now_ms < self._counted_ms:
            return True
        return abs(now_ms - elapsed - self._ahead_ms) > _MOVED_MS

    def due(self, now_ms: int) -> set[Where]:
        """Let go of what has lapsed; what is to be counted anew: that, and what is held where a
        window has ended, the clock was set, or nobody had said yet what time it is."""
        elapsed = self.elapsed()
        # Back by however little: it may be the window before.
        moved = abs(now_ms - elapsed - self._ahead_ms) > _MOVED_MS or now_ms < self._counted_ms
        self._ahead_ms, self._counted_ms = now_ms - elapsed, now_ms
        touched = self.lapsed(elapsed) if self.next_lapse <= elapsed else set()
        if self._next_turn <= now_ms:
            due = {where for where, turn in self._turns.items() if turn <= now_ms}
            self._turns = {where: self._turns[where] for where in self._turns.keys() - due}
            self._next_turn = min(self._turns.values(), default=NEVER)
            touched |= due
        if moved:
            touched |= self.touched()
        return touched
