"""Offers of a campaign in one decision: no more than its caps leave, found out before anything is
claimed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edge_sdk import Context
from edge_sdk.decision import Decision, Reason
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_rules import VIEW
from edge_sdk.engine.cap_views import NONE_BLOCKED, Blocked, Rooms
from edge_sdk.engine.caps import CapLedger, rules_of
from edge_sdk.engine.decide import check_replay, decide, explain, replay
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.offers import offer_from_document
from edge_sdk.engine.record import Record, coarse
from edge_sdk.engine.release import Release
from edge_sdk.engine.rooms import recorded
from edge_sdk.engine.what_if import what_if
from edge_sdk.errors import UsageError
from edge_sdk.outbox.encoding import bodies
from edge_sdk.runtime.claiming import HOLD_MS, Claims, within_caps
from edge_sdk.testing import FakeEdge
from genome_edge.v1 import event_pb2
from tests.unit.test_encoding import STAMP
from tests.unit.test_engine import shown

ANN, BOB = bytes([1]) * 16, bytes([2]) * 16
HOUR = 3_600_000
NOW = 1_790_000_000_000
ONE = [{"limit": 1, "over": "campaign", "window_hours": 24}]


def rides(limit: int = 1, number: int = 3, **cap: Any) -> list[dict[str, Any]]:
    cap = {"limit": limit, "over": "campaign", **cap}
    return [
        {"id": f"r{n}", "campaign": "rides", "value": 90 - n, "caps": [cap]} for n in range(number)
    ]


def ledger_of(offers: list[dict[str, Any]], elapsed: Any = lambda: 0) -> CapLedger:
    return CapLedger(rules_of([offer_from_document(one) for one in offers]), elapsed=elapsed)


def left(ledger: CapLedger, who: bytes = ANN, now: int = NOW, slots: int = 3) -> dict[str, int]:
    """By offer."""
    found: dict[str, int] = {}
    for limits in ledger.blocking(who, now, slots).rooms.values():
        for room, offers in limits:
            for one in offers:
                found[one] = min(room, found.get(one, room))
    return found


# What there is of it -----------------------------------------------------------------------------


def test_six_campaigns_with_one_view_left_fill_six_slots() -> None:
    offers = [
        {"id": f"{one}{n}", "campaign": one, "value": 90 - 2 * at - n, "caps": ONE}
        for at, one in enumerate("wxyzuv")
        for n in (1, 2)
    ]
    offers += [{"id": "x3", "campaign": "x", "value": 0.5}, {"id": "free", "value": 0.1}]
    with FakeEdge(offers, placements=[{"id": "feed", "slots": 8}]) as edge:
        made = edge.decide(Context(), "feed", 6, customer="ann")
        assert shown(made) == ["w1", "x1", "y1", "z1", "u1", "v1"]
        made = edge.decide(Context(), "feed", 6, customer="ann")
        assert shown(made) == ["x3", "free", *[None] * 4], "every campaign is used up"
        made = edge.decide(Context(), "feed", 8, customer="ben")
        assert shown(made) == ["w1", "x1", "y1", "z1", "u1", "v1", "x3", "free"]
        assert all(slot.reason is Reason.CHOSEN for slot in made.slots)


def test_room_is_what_is_left_of_the_limit() -> None:
    ledger = ledger_of([*rides(3, window_hours=24), {"id": "free", "campaign": "rides"}])
    assert left(ledger) == {}, "there are as many as there are slots"
    assert left(ledger, slots=4) == dict.fromkeys(("r0", "r1", "r2"), 3)
    ledger.record(ANN, "free", VIEW, NOW)
    assert left(ledger) == dict.fromkeys(("r0", "r1", "r2"), 2), "what has no cap counts"
    assert left(ledger, slots=2) == left(ledger, BOB) == {}
    ledger.record(ANN, "r0", VIEW, NOW + HOUR)
    assert left(ledger) == left(ledger, slots=2) == dict.fromkeys(("r0", "r1", "r2"), 1)
    assert left(ledger, now=NOW + 24 * HOUR - 1) == left(ledger)
    assert left(ledger, now=NOW + 24 * HOUR) == dict.fromkeys(("r0", "r1", "r2"), 2)
    assert left(ledger, now=NOW + 25 * HOUR) == {}
    ledger.forget(ANN)
    assert left(ledger) == {}


def test_nothing_is_told_for_one_slot_or_for_what_competes_with_nobody() -> None:
    ledger = ledger_of([
        {"id": "alone", "campaign": "a", "caps": ONE},
        {"id": "bare", "caps": ONE},
        {"id": "own", "campaign": "b", "caps": [{"limit": 1}]},
        {"id": "own2", "campaign": "b", "caps": [{**ONE[0], "count": "redeem"}]},
        {"id": "x", "exclusivity_group": "g", "caps": [{"limit": 1, "over": "group"}]},
        {"id": "y", "exclusivity_group": "g"},
    ])  # fmt: skip
    assert ledger.blocking(ANN, NOW, 64) is NONE_BLOCKED
    ledger = ledger_of(rides())
    assert ledger.blocking(ANN, NOW) is ledger.blocking(ANN, NOW, 1) is NONE_BLOCKED
    assert left(ledger, slots=10**9) == left(ledger, slots=2) == {"r0": 1, "r1": 1, "r2": 1}


def test_far_from_its_limit_a_cap_costs_nothing() -> None:
    ledger = ledger_of(rides(500, scope="device", window_hours=0))
    for number in range(497):
        ledger.record(ANN, "r0", VIEW, NOW + number)
        assert ledger.blocking(ANN, NOW + number, 3) is NONE_BLOCKED
    ledger.record(ANN, "r0", VIEW, NOW + 500)
    assert left(ledger, BOB, NOW + 501) == dict.fromkeys(("r0", "r1", "r2"), 2)


def test_a_paced_cap_has_room_for_its_share() -> None:
    ledger = ledger_of(rides(24, calendar="day", scope="device", paced=True))
    day = NOW // (24 * HOUR) * 24 * HOUR
    assert set(left(ledger, now=day).values()) == {1}, "always one"
    assert set(left(ledger, now=day + HOUR).values()) == {1}
    assert set(left(ledger, now=day + HOUR + 1).values()) == {2}
    assert left(ledger, now=day + 2 * HOUR + 1) == {}
    ledger.record(ANN, "r1", VIEW, day + HOUR)
    assert set(left(ledger, BOB, day + HOUR + 1).values()) == {1}
    assert set(left(ledger, BOB, day + 24 * HOUR).values()) == {1}, "the next day"


def test_what_is_held_takes_room_until_it_lapses() -> None:
    at = 0
    ledger = ledger_of(rides(2), lambda: at)
    ledger.take(ANN, [(b"c" * 17, "r0")], NOW, lapse=HOLD_MS)
    assert set(left(ledger).values()) == {1}
    at = HOLD_MS
    assert set(left(ledger, now=NOW + HOLD_MS).values()) == {2}
    assert left(ledger, now=NOW + HOLD_MS, slots=2) == {}


def test_other_rules_go_on_from_what_was_counted() -> None:
    ledger = ledger_of(rides(9))
    ledger.record(ANN, "r0", VIEW, NOW)
    ledger.rebind(rules_of([offer_from_document(one) for one in rides(3)]))
    assert set(left(ledger).values()) == {2}


# In a decision -----------------------------------------------------------------------------------


def market(**placement: Any) -> Release:
    offers = [*rides(2, 4), {"id": "free", "campaign": "rides", "value": 80}, {"id": "book"}]
    return release_from_documents(offers, [{"id": "p", "slots": 6, **placement}])


def two(*names: str) -> Rooms:
    return {"rides": ((2, frozenset(names)),)}


def test_what_is_used_up_says_so_and_is_made_again() -> None:
    release = market(explorer="squarecb", gamma=5, floor=0.5)
    rooms = two("r0", "r1", "r2", "r3", "of another release")
    orders = set()
    for seed in range(60):
        made, record = decide(release, Context(), "p", 6, rooms=rooms, seed=seed)
        names = [name for name in shown(made) if name]
        before = [n for n in names if n != "book"]
        orders.add(tuple(before))
        assert {"free", "book"} < set(names)
        assert all(one == "free" for one in before[2:]), "of the others two at most"
        full = event_pb2.DecisionRecord.FromString(record.to_proto().SerializeToString())
        assert [(one.room, list(one.runs)) for one in full.rooms] == [(2, list(full.rooms[0].runs))]
        assert not coarse(full).rooms, "it stays on the device"
        _, body = bodies(record, STAMP, private=False)
        assert event_pb2.Event.FromString(body).decision == full
        assert replay(release, full) == made
        assert check_replay(release, full) == []
        for told in (made.explain(), explain(release, full)):
            lost = {one.offer: one for one in told.losers}
            assert set(lost) == set(release.catalogue.ids) - set(names)
            assert {one.reasons for one in lost.values()} == {(Reason.CAPPED,)}
            assert {str(one) for one in lost.values()} == {
                "CAPPED (this decision used up the 2 left of rides)"
            }
            assert {one.until_ms for one in lost.values()} == {0}
            for slot, one in enumerate(told.slots[: len(names)]):
                assert one.draw is not None
                chances = dict(one.draw.chances)
                assert chances[names[slot]] == made.slots[slot].propensity
                assert sum(chances.values()) == 1
    assert len(orders) > 10


def test_what_if_keeps_what_there_was() -> None:
    release = market(explorer="squarecb", gamma=1, floor=0.9)
    _, record = decide(release, Context(), "p", 6, rooms=two("r0", "r1", "r2"), seed=1)
    for kept in (record, record.to_proto()):
        for seed in range(20):
            found = what_if(release, kept, {"seed": str(seed)}).after.decision
            first = [name for name in shown(found) if name and name != "book"]
            assert all(name in ("r3", "free") for name in first[2:])
    other = release_from_documents(rides(9, 2), [{"id": "p", "slots": 6}])
    found = what_if(release, record, {}, other=other).after.decision
    assert shown(found)[:2] == ["r0", "r1"]


def test_a_hold_out_would_have_shown_no_more() -> None:
    release = market(holdout=1)
    made, record = decide(release, Context(), "p", 6, rooms=two("r0", "r1", "r2", "r3"))
    assert made.reason is Reason.HELD_OUT
    proto = record.to_proto()
    assert [one.offer for one in proto.instead] == ["r0", "r1", "free", "book", "", ""]
    assert check_replay(release, proto) == []
    lost = {one.offer: one.reasons for one in made.explain().losers}
    assert lost["r2"] == (Reason.CAPPED,)
    assert lost["r0"] == (Reason.HELD_OUT,)


def test_rooms_that_cannot_have_been_are_refused() -> None:
    release = market()
    _, record = decide(release, Context(), "p", 6, rooms=two("r0"))
    for room, runs in ((0, [0, 1]), (1, [6, 1]), (1, [3])):
        proto = record.to_proto()
        del proto.rooms[:]
        proto.rooms.add(room=room, runs=runs)
        with pytest.raises(UsageError):
            replay(release, proto)
    assert recorded(release.catalogue, []) == {}


# Among others ------------------------------------------------------------------------------------


class Rival:
    """A decision's maker, and somebody who takes something meanwhile."""

    def __init__(self, offers: list[dict[str, Any]], *takes: tuple[str, ...], slots: int = 3):
        self.release = release_from_documents(offers, [{"id": "p", "slots": 6}])
        self.claims = Claims(CapLedger(self.release.catalogue.caps, elapsed=lambda: 0))
        self.slots = slots
        self.takes = list(takes)
        self.asked = 0
        self.claimed = 0

    def choose(self, blocked: Blocked, again: Record | None) -> tuple[Decision, Record]:
        made = decide(
            self.release, Context(), "p", self.slots, blocked=blocked.offers, rooms=blocked.rooms,
            seed=1, decision_id=b"d" * 16, now_ms=NOW,
        )  # fmt: skip
        self.asked += 1
        for offer in self.takes.pop(0) if self.takes else ():
            self.claimed += 1
            claim = b"%017d" % self.claimed
            self.claims.count(BOB, offer, (VIEW,), NOW, claim)
        return made

    def decide(self, who: bytes = ANN, **more: Any) -> list[str | None]:
        made, _, rows = within_caps(
            self.claims, self.release, who, NOW, self.slots, self.choose, **more
        )
        self.rows = rows
        return shown(made)


def test_claims_fail_for_what_others_took() -> None:
    offers = [*rides(4, 5, scope="device"), {"id": "book"}]
    rival = Rival(offers, ("r0", "r1"))
    assert rival.decide() == ["r0", "r1", "book"]
    assert rival.asked == 2
    assert [row.offer for row in rival.rows] == ["r0", "r1"]
    assert Rival(offers).decide() == ["r0", "r1", "r2"]
    alone = Rival(offers, slots=6)
    assert alone.decide() == ["r0", "r1", "r2", "r3", "book", None]
    assert alone.asked == 1, "nobody else is there"


def test_the_last_resort_leaves_in_what_nothing_can_keep_away() -> None:
    offers: list[dict[str, Any]] = []
    for at in range(5):  # each try somebody takes what it chose
        cap = [{"limit": 1, "over": "campaign", "scope": "device"}]
        offers.append({"id": f"o{at}", "campaign": f"c{at}", "value": 90 - at, "caps": cap})
        offers.append({"id": f"p{at}", "campaign": f"c{at}", "value": 9 - at})
    # A customer may refuse it, who may be doing so right now; nobody in particular may not.
    offers[1]["stop_after"] = {"dismiss": True}
    for who, wanted in ((ANN, "p1"), (NOBODY, "p0")):
        rival = Rival(offers, *((f"o{at}",) for at in range(4)), slots=1)
        assert rival.decide(who) == [wanted]
        assert rival.asked == 4
        assert [row.offer for row in rival.rows] == [wanted], "it counts for the others"


@contextmanager
def _busy(claims: Claims) -> Iterator[None]:
    with claims._lock:
        yield


@pytest.mark.parametrize("kept", [True, False])
def test_who_cannot_have_a_turn_shows_and_counts_what_is_not_limited(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.runtime.claiming._PATIENCE_S", 0.01)
    screen = {"limit": 9, "over": "campaign", "scope": "device"}
    offers = [*rides(3), {"id": "free", "campaign": "rides", "value": 2}, {"id": "book"}]
    offers.append({"id": "screen", "campaign": "rides", "value": 0.1, "caps": [screen]})
    rival = Rival(offers, slots=6)
    began = time.monotonic()
    with _busy(rival.claims):
        assert rival.decide(kept=kept) == ["free", "book", None, None, None, None]
    assert time.monotonic() - began < 1
    (row,) = rival.rows
    assert (row.offer, row.subject) == ("free", ANN if kept else b"")
    assert set(left(rival.claims.ledger, now=NOW).values()) == {2}
