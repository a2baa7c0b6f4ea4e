"""Views that are to come: they count until they do, or lapse. No input or output here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from edge_sdk.engine.cap_rules import NEVER, VIEW, Counter

#: Who stands for everybody; not a subject: those have 16 bytes.
DEVICE: Final = b"device"
#: Whose events of which counter and kind.
Where = tuple[bytes, Counter, str]


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
