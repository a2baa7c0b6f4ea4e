"""One device over time: what it decides, what it is told, and what it then keeps away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from genome_edge.v1 import release_pb2
from tests.reference.caps import (
    NEVER,
    NOBODY,
    Cap,
    Cause,
    Happened,
    Held,
    History,
    cap_reached,
    causes,
    room,
)
from tests.reference.decisions import Call, Outcome, World, decide
from tests.reference.targeting import validity

HOLD_MS = 5 * 60_000
COUNTED = ("view", "redeem", "dismiss")
View = release_pb2.PlacementSpec.SHOWN_ON_VIEW


@dataclass
class Device:
    """What happened on it. `converting`: the kinds of outcome that are a success."""

    world: World
    converting: frozenset[str]
    history: History = field(default_factory=History)
    #: By decision: who, the placement that decided (an arm, of one that has some), and what each
    #: slot held.
    made: dict[bytes, tuple[bytes, str, tuple[str, ...]]] = field(default_factory=dict)
    #: What counted under the slot of a decision: (decision, slot, kind).
    told: set[tuple[bytes, int, str]] = field(default_factory=set)
    redeemed: set[tuple[bytes, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.history.converting = frozenset({"convert"})

    def away(self, subject: bytes, now_ms: int) -> dict[str, list[Cause]]:
        """What is kept away from somebody now, and why."""
        found = {
            one.id: causes(one, self.world.offers, self.history, subject, now_ms)
            for one in self.world.offers
        }
        return {name: why for name, why in found.items() if why}

    def rooms(self, subject: bytes, now_ms: int, slots: int) -> dict[str, int]:
        """How many of its campaign one decision may show before an offer may not be in it."""
        found = {
            one.id: room(one, self.world.offers, self.history, subject, now_ms, slots)
            for one in self.world.offers
        }
        return {name: left for name, left in found.items() if left is not None}

    def decide(self, call: Call, now_ms: int) -> Outcome:
        """Decide, and count or hold what is shown. Nobody else takes anything meanwhile."""
        away = frozenset(self.away(call.subject, now_ms))
        rooms = self.rooms(call.subject, now_ms, call.slots)
        outcome = decide(self.world, replace(call, blocked=away, rooms=rooms))
        self._take(outcome, call, now_ms)
        shown = tuple(slot.offer for slot in outcome.slots)
        self.made[call.decision_id] = (call.subject, outcome.placement, shown)
        return outcome

    def _take(self, outcome: Outcome, call: Call, now_ms: int) -> None:
        """One slot after the other; there is room for each."""
        # What counts as shown is said by the arm that decides, as everything else of its slots.
        placement = self.world.placements.get(outcome.placement)
        for number, slot in enumerate(outcome.slots):
            if not slot.offer or slot.reason in ("HOUSE", "HELD_OUT"):
                continue
            offer = next(one for one in self.world.offers if one.id == slot.offer)
            assert not causes(offer, self.world.offers, self.history, call.subject, now_ms)
            if placement is not None and placement.shown == View:
                until = now_ms + HOLD_MS
                self.history.held.append(
                    Held(now_ms, until, call.subject, offer.id, (call.decision_id, number))
                )
            else:
                self.history.happened.append(Happened(now_ms, call.subject, offer.id, "view"))

    def report(self, decision: bytes, slot: int, kind: str, now_ms: int) -> None:
        """Take down what followed a decision: each kind counts once for a slot."""
        subject, placement, shown = self.made[decision]
        if not shown[slot]:
            return
        counts = [kind] if kind in COUNTED else []
        counts += ["convert"] if kind in self.converting else []
        on_view = self.world.placements[placement].shown == View
        for one in counts:
            if (one == "view" and not on_view) or (decision, slot, one) in self.told:
                continue
            self.told.add((decision, slot, one))
            self.history.happened.append(Happened(now_ms, subject, shown[slot], one))
            if one == "view":
                self.history.held = [
                    held for held in self.history.held if held.claim != (decision, slot)
                ]

    def redeem(self, decision: bytes, slot: int, now_ms: int) -> str:
        """GRANTED, or why not."""
        subject, _, shown = self.made[decision]
        if not shown[slot]:
            return "NOTHING_OFFERED"
        offer = next(one for one in self.world.offers if one.id == shown[slot])
        if "ENDED" in validity(offer, now_ms):
            return "ENDED"
        if (decision, slot) in self.redeemed:
            return "ALREADY_REDEEMED"
        stopped = offer.stop_after_redeem and any(
            h.offer == offer.id and h.subject == subject and h.kind == "redeem"
            for h in self.history.happened
        )
        reached = [
            cap_reached(cap, offer, self.world.offers, self.history, subject, now_ms)
            for cap in offer.caps
            if cap.count == Cap.COUNT_REDEEM
        ]
        if (stopped and subject != NOBODY) or any(reached):
            return "CAPPED"
        self.redeemed.add((decision, slot))
        self.report(decision, slot, "redeem", now_ms)
        return "GRANTED"

    def bought(self, subject: bytes, offer: str, now_ms: int) -> None:
        """An interaction that is a success names an offer."""
        self.history.happened.append(Happened(now_ms, subject, offer, "convert"))


def latest(found: Sequence[Cause]) -> float:
    """Until when something is kept away, if nothing else happens."""
    return max((cause.until_ms for cause in found), default=-NEVER)
