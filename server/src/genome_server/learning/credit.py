"""Which decision a purchase is credited to that names none. Free of I/O.

An app reports what follows a decision under the decision's id. A purchase at a till, or in an
import, has no such id; a placement says what becomes of it (`credit`):

- `none`: nothing. Only outcomes count for its decisions.
- `last-shown`: it counts as a success of the last decision there that had shown the person the
  offer, within the placement's window.

Rules.
- A purchase is an interaction of a kind that the DNA schema counts as a success, and that is among
  the placement's goal where it has one; it is of the
  offer that it names, or of those that are for the product that it names (`products` of an offer).
- It must be of the person to whom the offer was shown, no earlier than that, and no later than the
  window after the decision.
- Where an offer counts as shown when it is viewed, it must have been seen before: a view, or
  anything else, was reported of it. It was shown when it was first seen.
- The last that was shown counts; of those shown at one moment the one decided last, then the one
  logged last, then the first slot.
- Once. A purchase is credited to one slot. Where that had succeeded anyway, this is how: it is
  credited to no earlier one instead. Under an id that came before it is the same purchase.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple

from edge_sdk.dna.schema import HOUR_MS
from genome_edge.v1 import event_pb2, release_pb2
from genome_server.documents import CREDIT, PRODUCTS
from genome_server.learning.outcomes import Outcomes


class Credit(Enum):
    """What becomes of a purchase without a decision's id."""

    NONE = "none"
    LAST_SHOWN = "last-shown"


class Shown(NamedTuple):
    """A slot that showed an offer, at `seen_ms`. Times are Unix ms, `number` counts the log.

    Ordered by what was shown last: of two the larger one is credited.
    """

    seen_ms: int
    decided_ms: int
    number: int
    minus_slot: int
    decision_id: bytes
    until_ms: int
    goal: Collection[str] | None = None

    @property
    def slot(self) -> int:
        """The slot's place in the decision."""
        return -self.minus_slot


class Bought(NamedTuple):
    """A purchase at `at_ms` (Unix) of any of some offers; `key` is its own, for what is told."""

    at_ms: int
    number: int
    key: Hashable
    offers: Collection[str]
    kind: str = ""


class Credited(NamedTuple):
    """The purchase `key` counts as a success of a slot, at `at_ms`."""

    key: Hashable
    decision_id: bytes
    slot: int
    at_ms: int


@dataclass(frozen=True)
class CreditRules:
    """Which placements credit purchases, and the offers that are for each product."""

    placements: frozenset[str] = frozenset()
    offers_of: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        placements: Iterable[tuple[str, Mapping[str, Any]]],
        offers: Iterable[tuple[str, Mapping[str, Any]]],
    ) -> CreditRules:
        """Read the documents of placements and offers, by id."""
        crediting = frozenset(
            name
            for name, document in placements
            if Credit(document.get(CREDIT) or Credit.NONE.value) is Credit.LAST_SHOWN
        )
        found: defaultdict[str, set[str]] = defaultdict(set)
        for name, document in offers:
            for product in document.get(PRODUCTS) or ():
                found[product].add(name)
        return cls(crediting, {product: frozenset(names) for product, names in found.items()})

    def bought(self, product: str, offer: str) -> frozenset[str]:
        """The offers that a purchase is of; none where nothing is credited anywhere."""
        if not self.placements:
            return _NONE
        return frozenset({offer}) if offer else self.offers_of.get(product, _NONE)


_NONE: Final[frozenset[str]] = frozenset()


class Showing:
    """What one person was shown, by offer. Add all of it before the first purchase is credited."""

    def __init__(self) -> None:
        self._by_offer: defaultdict[str, list[Shown]] = defaultdict(list)
        self._longest_ms = 0

    def add(
        self,
        offer: str,
        decision_id: bytes,
        slot: int,
        *,
        decided_ms: int,
        seen_ms: int | None,
        window_ms: int,
        number: int,
        goal: Collection[str] | None = None,
    ) -> None:
        """Note a slot of a placement that credits; `seen_ms` None: nobody saw it. `goal` are the
        kinds that are a success there; None: all that are one."""
        if seen_ms is not None:
            seen_ms, until_ms = max(seen_ms, decided_ms), decided_ms + window_ms
            shown = Shown(seen_ms, decided_ms, number, -slot, decision_id, until_ms, goal)
            self._by_offer[offer].append(shown)
            self._longest_ms = max(self._longest_ms, window_ms)

    def add_decision(
        self,
        record: event_pb2.DecisionRecord,
        placement: release_pb2.PlacementSpec,
        outcomes: Outcomes,
        *,
        at_ms: int,
        number: int,
        goal: Collection[str] | None = None,
    ) -> None:
        """Note all that a decision showed at `at_ms`, in a placement that credits."""
        for slot, shown in enumerate(record.slots):
            seen_ms: int | None = at_ms
            if placement.shown == release_pb2.PlacementSpec.SHOWN_ON_VIEW:
                seen_ms = outcomes.seen_ms(record.decision_id, slot)
            if shown.offer:
                self.add(
                    shown.offer,
                    record.decision_id,
                    slot,
                    decided_ms=at_ms,
                    seen_ms=seen_ms,
                    window_ms=placement.outcome_window_hours * HOUR_MS,
                    number=number,
                    goal=goal,
                )

    def credit(self, purchases: Sequence[Bought]) -> list[Credited]:
        """The purchases that are credited, each once, in order of time."""
        for shown in self._by_offer.values():
            shown.sort(key=lambda one: one[:6])
        found: list[Credited] = []
        known: set[Hashable] = set()
        for bought in sorted(purchases, key=lambda one: one.number):
            if bought.key in known:
                continue
            known.add(bought.key)
            shown_last = (self._last(offer, bought) for offer in bought.offers)
            last = max(
                (one for one in shown_last if one is not None),
                key=lambda one: one[:6],
                default=None,
            )
            if last is not None:
                found.append(Credited(bought.key, last.decision_id, last.slot, bought.at_ms))
        return sorted(found, key=lambda one: one.at_ms)

    def _last(self, offer: str, bought: Bought) -> Shown | None:
        shown, at_ms = self._by_offer.get(offer, []), bought.at_ms
        for place in range(bisect_right(shown, at_ms, key=lambda one: one.seen_ms) - 1, -1, -1):
            goal = shown[place].goal
            if at_ms <= shown[place].until_ms and (goal is None or bought.kind in goal):
                return shown[place]
            if at_ms - shown[place].seen_ms > self._longest_ms:
                break  # what was seen before it was decided before it, too
        return None
