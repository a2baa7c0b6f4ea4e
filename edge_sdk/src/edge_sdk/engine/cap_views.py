"""What caps keep away from one subject, put together from the limits that are reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from edge_sdk.decision import Reason
from edge_sdk.engine.cap_rules import NEVER, Ends, Limit

#: The limits that are reached, and until when each is.
Reached = Mapping[Limit, Ends]

NOTHING_REACHED: Final[Reached] = {}
# What ends at the same moment is named by the first of these.
_ORDER: Final = (
    Reason.REDEEMED, Reason.CONVERTED, Reason.DISMISSED, Reason.CAPPED, Reason.COOL_DOWN,
    Reason.PACED,
)  # fmt: skip


#: By campaign: so many offers of it a decision may show before these may not be in it any more.
Rooms = Mapping[str, tuple[tuple[int, frozenset[str]], ...]]
NO_ROOMS: Final[Rooms] = {}


class Blocked(NamedTuple):
    """What is blocked for a subject, and by offer why and until when (Unix milliseconds).

    `rooms` says of what is not blocked where one decision could show more than caps leave.
    """

    offers: frozenset[str]
    why: Mapping[str, tuple[str, int]]
    rooms: Rooms = NO_ROOMS

    def and_also(self, more: Mapping[str, tuple[str, int]]) -> Blocked:
        """This and more."""
        return Blocked(self.offers.union(more), {**self.why, **more}, self.rooms)


NONE_BLOCKED: Final = Blocked(frozenset(), {})


class View(NamedTuple):
    """What is blocked for a subject, for as long as nothing happens and time has not passed."""

    own: Reached | None
    device: Reached | None
    from_ms: int
    until_ms: int
    blocked: Blocked

    def holds(self, own: Reached | None, device: Reached | None, now_ms: int) -> bool:
        """Whether it is still what is blocked."""
        same = self.own is own and self.device is device
        return same and self.from_ms <= now_ms < self.until_ms

    @classmethod
    def at(
        cls,
        own: Reached | None,
        device: Reached | None,
        offers: Mapping[Limit, Sequence[str]],
        now_ms: int,
    ) -> View:
        """What is blocked at a moment. `own` is what the subject has reached, `device` what
        everybody has, `offers` are those that each limit keeps away."""
        why: dict[str, tuple[str, int]] = {}
        ends = NEVER
        for reached in (own or NOTHING_REACHED, device or NOTHING_REACHED):
            for limit, (blocked, until, reason) in reached.items():
                if blocked <= now_ms:
                    continue
                ends = min(ends, blocked)
                for offer in offers.get(limit, ()):
                    known = why.get(offer)
                    if known is None or _before(reason, until, known):
                        why[offer] = (reason.value, until)
        return cls(own, device, now_ms, ends, Blocked(frozenset(why), why))


def _before(reason: Reason, until: int, known: tuple[str, int]) -> bool:
    """Whether a reason says more than the one that is known: it lasts longer, or comes first."""
    if until != known[1]:
        return until > known[1]
    return _ORDER.index(reason) < _ORDER.index(Reason(known[0]))
