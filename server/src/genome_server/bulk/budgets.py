"""Budgets of one list: how often an offer, or the offers of a campaign, may be shown in all of it.

A budget is spent in the order of the list, one unit for each slot that shows the offer; house
defaults and what is held out spend nothing. What is spent is kept away with the reason BUDGET.
No input or output here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_sdk.decision import NEVER_MS, Reason
from edge_sdk.dna.markers import nearest_name
from edge_sdk.engine.cap_views import NONE_BLOCKED, Blocked, Rooms
from genome_server.errors import UsageError

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

#: Slots with one of these show nothing that counts.
NOT_SHOWN: Final = frozenset({Reason.HOUSE.value, Reason.HELD_OUT.value})
_SPENT: Final = (Reason.BUDGET.value, NEVER_MS)


class Budget(NamedTuple):
    """One budget: `over` is "offer" or "campaign"."""

    over: str
    name: str
    limit: int

    @classmethod
    def read(cls, text: str, release: Release) -> Budget:
        """From `NAME=N`, `offer:NAME=N` or `campaign:NAME=N`. Raises UsageError."""
        name, equals, number = text.rpartition("=")
        if not equals or not number.strip().isdecimal():
            raise UsageError(f"{text!r} is no budget: NAME=N, the name of an offer or campaign")
        known = {
            "offer": set(release.catalogue.ids),
            "campaign": {offer.campaign for offer in release.catalogue.offers} - {""},
        }
        over, colon, rest = name.strip().partition(":")
        said, name = (over, rest) if colon and over in known else ("", name.strip())
        found = [one for one in known if said in ("", one) and name in known[one]]
        if len(found) == 1:
            return cls(found[0], name, int(number))
        if found:
            raise UsageError(
                f"{name!r} is an offer and a campaign: say offer:{name}={number} or "
                f"campaign:{name}={number}"
            )
        near = nearest_name(name, set().union(*(known[one] for one in known if said in ("", one))))
        hint = f"; did you mean {near!r}?" if near else ""
        raise UsageError(
            f"release {release.version} has no {said or 'offer or campaign'} {name!r}{hint}"
        )

    def __str__(self) -> str:
        return f"{self.over}:{self.name}"


class Budgets:
    """What is left of budgets."""

    def __init__(self, budgets: Sequence[Budget], release: Release) -> None:
        self.limits = {str(one): one.limit for one in budgets}
        self._left = dict(self.limits)
        self._offers: dict[str, frozenset[str]] = {}
        self._of: dict[str, list[str]] = {}
        self._campaigns = {str(one): one.name for one in budgets if one.over == "campaign"}
        for one in budgets:
            offers = frozenset(
                offer.id
                for offer in release.catalogue.offers
                if one.name == (offer.id if one.over == "offer" else offer.campaign)
            )
            self._offers[str(one)] = offers
            for offer in offers:
                self._of.setdefault(offer, []).append(str(one))
        self._spent = NONE_BLOCKED
        self._settle()

    @property
    def left(self) -> Mapping[str, int]:
        """By budget, what is left of it."""
        return self._left

    def keeping_away(self, blocked: Blocked) -> Blocked:
        """What may not be shown: that, and what is spent."""
        if not self._spent.offers:
            return blocked
        more = blocked.offers or blocked.rooms
        return blocked.and_also(self._spent.why) if more else self._spent

    def leaving(self, rooms: Rooms, slots: int) -> Rooms:
        """How many of a campaign a decision of so many slots may show: these rooms, and what is
        left. An offer is in a decision once; what is left of its own budget is enough."""
        short = {
            name: (*rooms.get(name, ()), (left, self._offers[key]))
            for key, name in self._campaigns.items()
            if 0 < (left := self._left[key]) < slots
        }
        return {**rooms, **short} if short else rooms

    def spend(self, slots: Iterable[tuple[str, str]]) -> None:
        """Take what the slots of a decision show: offers (empty: none) and reasons."""
        if not self._of:
            return
        spent = False
        for offer in _shown(slots):
            for budget in self._of.get(offer, ()):
                self._left[budget] -= 1
                spent |= self._left[budget] < 1
        if spent:
            self._settle()

    def _settle(self) -> None:
        offers = [self._offers[one] for one, left in self._left.items() if left < 1]
        why = dict.fromkeys(sorted(frozenset().union(*offers)), _SPENT)
        self._spent = Blocked(frozenset(why), why)


def _shown(slots: Iterable[tuple[str, str]]) -> Sequence[str]:
    return [offer for offer, reason in slots if offer and reason not in NOT_SHOWN]
