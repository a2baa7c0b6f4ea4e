"""How many offers of a campaign one decision may show, where caps leave less than it has slots.

An offer under a cap over its campaign gives way to the others of the campaign that a decision
shows. Until what is left for it has gone to them it may stand beside them.

Theory of operation. `Campaigns` is told by the ledger, under its lock, of what is counted for
campaigns whose limits may be near. Readers take no lock: what they read is replaced, never changed.
What follows from the rules alone is worked out once for each number of slots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from edge_sdk.engine.cap_holds import DEVICE, Where
from edge_sdk.engine.cap_rulebook import Rulebook
from edge_sdk.engine.cap_rules import VIEW, Limit
from edge_sdk.engine.cap_views import NO_ROOMS, Rooms
from edge_sdk.numbers import Cap

# No decision has more slots.
_MOST: Final = 64


class _Counted(NamedTuple):
    """When views of a campaign were, ascending, the last of them, and how many are held."""

    times: Sequence[int] = ()
    held: int = 0


_NOTHING: Final = _Counted()
_NONE: Final[Mapping[str, _Counted]] = {}


class Campaigns:
    """The limits on views over campaigns under one set of rules, and what was counted for them."""

    def __init__(self, book: Rulebook) -> None:
        sizes = Counter(rule.campaign for rule in book.rules.values())
        limits: dict[str, list[tuple[Limit, frozenset[str]]]] = {}
        for limit, offers in book.offers.items():
            over, campaign = limit.counter
            # An offer that is alone in its campaign competes with nobody.
            if over == Cap.OVER_CAMPAIGN and limit.kind == VIEW and sizes[campaign] > 1:
                limits.setdefault(campaign, []).append((limit, frozenset(offers)))
        self._limits = limits
        self._sizes = sizes
        self._paced = {name for name, of in limits.items() if any(one.paced for one, _ in of)}
        self._fresh: dict[int, Rooms] = {}
        self._counted: dict[bytes, Mapping[str, _Counted]] = {}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def note(self, where: Where, times: Sequence[int], held: int) -> None:
        """Under the lock: this is what is counted, ascending, and how much is held."""
        who, (over, campaign), kind = where
        if over != Cap.OVER_CAMPAIGN or kind != VIEW or campaign not in self._limits:
            return
        number = len(times) + held
        near = [
            limit.limit
            for limit, _ in self._limits[campaign]
            if limit.device == (who == DEVICE)
            and number > (0 if limit.paced else max(limit.limit - _MOST, 0))
        ]
        known = self._counted.get(who, _NONE)
        if near:
            counted = _Counted(tuple(times[-max(near) :]), held)
            self._counted[who] = {**known, campaign: counted}
        elif campaign in known:
            others = {name: one for name, one in known.items() if name != campaign}
            if others:
                self._counted[who] = others
            else:
                del self._counted[who]

    def rooms(self, subject: bytes, now_ms: int, slots: int) -> Rooms:
        """What caps leave a decision of so many slots, where that is less than it could show."""
        slots = min(slots, _MOST)
        if slots < 2 or not self._limits:
            return NO_ROOMS
        fresh = self._fresh.get(slots)
        if fresh is None:
            found = (
                (name, self._of(name, slots, now_ms)) for name in self._limits.keys() - self._paced
            )
            fresh = self._fresh[slots] = {name: rooms for name, rooms in found if rooms}
        own, device = self._counted.get(subject, _NONE), self._counted.get(DEVICE, _NONE)
        names = self._paced.union(own, device)
        if not names:
            return fresh
        found = (
            (n, self._of(n, slots, now_ms, own.get(n, _NOTHING), device.get(n, _NOTHING)))
            for n in names
        )
        return {**fresh, **{name: rooms for name, rooms in found if rooms}}

    def _of(
        self,
        campaign: str,
        slots: int,
        now_ms: int,
        own: _Counted = _NOTHING,
        device: _Counted = _NOTHING,
    ) -> tuple[tuple[int, frozenset[str]], ...]:
        most = min(slots, self._sizes[campaign])
        rooms = (
            (limit.room(*(device if limit.device else own), now_ms), offers)
            for limit, offers in self._limits[campaign]
        )
        # Of what is not kept away there is one at least.
        return tuple((max(room, 1), offers) for room, offers in rooms if room < most)
