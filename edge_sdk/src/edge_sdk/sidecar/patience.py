"""How long a caller may take to say what it wants, and who gives way. No clock and no socket here.

Rules
-----
- From its first byte on, the whole of a request has to be here within a time that is set
  (`--request-timeout`). A connection may wait for its next request for `IDLE_S`.
- Where all places are taken, one that waits for its next request gives way, then one whose request
  has been coming for longest, or that has not said anything yet; but not before it had `GRACE_S`.
  What is being answered never does.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final, TypeVar

REQUEST_S: Final = 5.0
IDLE_S: Final = 30.0
GRACE_S: Final = 0.5


class Phase(Enum):
    """What a place is taken for."""

    WAITING = auto()
    READING = auto()
    ANSWERING = auto()


class Place:
    """One caller: a connection, or a call. Times are monotonic seconds. Changed by one thread."""

    def __init__(self, allowed_s: float, now_s: float) -> None:
        self._allowed_s = allowed_s
        self._served = False
        self.phase = Phase.WAITING
        self.since_s = now_s
        self.until_s = now_s + IDLE_S
        #: Set by whoever needs the place: it gives way.
        self.gone = False

    def waits(self, now_s: float) -> None:
        """The next request may come."""
        self._served = self.phase is not Phase.WAITING or self._served
        self.phase, self.since_s, self.until_s = Phase.WAITING, now_s, now_s + IDLE_S

    def heard(self, now_s: float) -> None:
        """Something of a request came."""
        if self.phase is Phase.WAITING:
            self.phase, self.since_s, self.until_s = Phase.READING, now_s, now_s + self._allowed_s

    def answers(self) -> None:
        """Enough of the request is here."""
        self.phase = Phase.ANSWERING

    def reads_on(self) -> None:
        """More of the request is needed, within the same time."""
        self.phase = Phase.READING

    def left_s(self, now_s: float) -> float:
        """How long the next bytes may take; 0 or less: they are late."""
        return self.until_s - now_s

    def can_go(self, now_s: float) -> bool:
        """Whether it may be asked to give way."""
        if self.gone or self.phase is Phase.ANSWERING:
            return False
        idle = self._served and self.phase is Phase.WAITING
        return idle or now_s - self.since_s >= GRACE_S

    def order(self) -> tuple[bool, float]:
        """The least gives way first."""
        return not (self._served and self.phase is Phase.WAITING), self.since_s


_Who = TypeVar("_Who")


def gives_way(places: Iterable[tuple[_Who, Place]], now_s: float) -> _Who | None:
    """Who gives way for one more; None: nobody. That place is marked `gone`."""
    going = [(place.order(), who, place) for who, place in places if place.can_go(now_s)]
    if not going:
        return None
    _, who, place = min(going, key=lambda one: one[0])
    place.gone = True
    return who
