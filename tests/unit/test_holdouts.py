"""Hold-outs: nothing of what was chosen is shown, and everything of it is recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_sdk.decision import Decision, Reason, Tier
from edge_sdk.engine.decide import check_replay, decide, replay
from edge_sdk.engine.record import Record
from edge_sdk.engine.release import Release
from edge_sdk.engine.slates import Slate
from edge_sdk.engine.withheld import Terms
from edge_sdk.testing import FakeEdge
from genome_edge.v1 import event_pb2, release_pb2
from tests.unit.test_engine import shown
from tests.unit.test_policy import VECTORS
from tests.unit.test_slates import ANYWHERE, market
from tools.make_exploration_vectors import is_held_out

PLAIN: list[dict[str, Any]] = [
    {"id": "a", "value": 3},
    {"id": "b", "value": 2},
    {"id": "c", "value": 1},
]


def test_the_vectors_of_hold_outs_and_of_the_least_worth() -> None:
    document = json.loads(VECTORS.read_text(encoding="utf-8"))
    answers = set()
    for case in document["held_out"]:
        spec = release_pb2.PlacementSpec(
            id=case["placement"],
            holdout_seed=case["holdout_seed"],
            holdout_ppm=case["holdout_ppm"],
            most_per_category=1,
        )
        slate = Slate.of(spec)
        assert slate is not None
        drawn_by = bytes.fromhex(case["drawn_by"])
        assert slate.holds_out(drawn_by, b"?" * 16) == case["held_out"]
        assert slate.holds_out(bytes(16), drawn_by) == case["held_out"], "nobody: by decision"
        answers.add(case["held_out"])
    assert answers == {True, False}
    for case in document["least_score"]:
        spec = release_pb2.PlacementSpec(id="p", least_worth_micros=case["least_worth_micros"])
        slate = Slate.of(spec)
        assert slate is not None
        assert slate.least == case["least_score"]


def held_out_of(release: Release, **more: Any) -> tuple[Decision, Record]:
    return decide(release, ANYWHERE, "p", 3, seed=5, **more)


def test_who_is_held_out_sees_nothing_and_what_it_would_have_been_is_recorded() -> None:
    plain = market(PLAIN, slots=2, explorer="squarecb", gamma=5)
    held = market(PLAIN, slots=2, explorer="squarecb", gamma=5, holdout=1)
    usual, _ = held_out_of(plain, decision_id=bytes(16))
    decision, record = held_out_of(held, decision_id=bytes(16))
    assert shown(decision) == [None, None, None]
    assert decision.reason is Reason.HELD_OUT
    assert [slot.reason for slot in decision.slots] == ["HELD_OUT", "HELD_OUT", "TOO_MANY_SLOTS"]
    assert {slot.propensity for slot in decision.slots} == {1.0}
    assert record.instead == usual.slots
    proto = event_pb2.DecisionRecord.FromString(record.to_proto().SerializeToString())
    assert proto.held_out
    assert [slot.offer for slot in proto.instead] == [name or "" for name in shown(usual)]
    assert [slot.propensity for slot in proto.instead] == [s.propensity for s in usual.slots]
    assert replay(held, proto) == decision
    assert check_replay(held, proto) == []
    proto.instead[0].propensity = 0.125
    assert any("0.125" in said for said in check_replay(held, proto))


def test_a_customer_stays_held_out_and_nobody_is_drawn_anew_each_time() -> None:
    release = market(PLAIN, holdout=0.3, holdout_seed="spring")
    people = [bytes([number]) * 16 for number in range(1, 200)]
    for subject in people:
        wanted = is_held_out("p", "spring", subject, 300_000)
        for _ in range(2):
            decision, _ = decide(release, ANYWHERE, "p", subject=subject)
            assert (decision.reason is Reason.HELD_OUT) == wanted
    held = sum(is_held_out("p", "spring", subject, 300_000) for subject in people)
    assert 0.2 < held / len(people) < 0.4
    again = sum(is_held_out("p", "summer", subject, 300_000) for subject in people
                if is_held_out("p", "spring", subject, 300_000))  # fmt: skip
    assert 0 < again < held, "another seed draws anew"
    of_nobody = [decide(release, ANYWHERE, "p")[0].reason for _ in range(300)]
    assert 0.2 < of_nobody.count(Reason.HELD_OUT) / 300 < 0.4


def test_the_house_default_is_shown_to_who_is_held_out() -> None:
    offers = [*PLAIN, {"id": "hello", "placements": ["else"]}]
    release = market(offers, slots=2, house_offer="hello", holdout=1)
    decision, record = decide(release, ANYWHERE, "p", 2)
    assert shown(decision) == ["hello", None]
    assert [slot.reason for slot in decision.slots] == [Reason.HOUSE, Reason.HELD_OUT]
    assert decision.reason is Reason.HELD_OUT
    assert replay(release, record.to_proto()) == decision
    losers = {one.offer: one.reasons for one in decision.explain().losers}
    assert losers == {"a": (Reason.HELD_OUT,), "b": (Reason.HELD_OUT,), "c": (Reason.SCORE,)}


def test_nobody_is_held_out_of_what_cannot_be_decided() -> None:
    release = market(PLAIN, holdout=1)
    for terms, placement in ((Terms(Tier.HOUSE), "p"), (Terms(), "elsewhere")):
        decision, record = decide(release, ANYWHERE, placement, terms=terms)
        assert decision.reason in (Reason.EXPIRED, Reason.UNKNOWN_PLACEMENT)
        assert not record.to_proto().held_out


@pytest.mark.parametrize(("share", "later"), [(0, Reason.CAPPED), (1, Reason.HELD_OUT)])
def test_nothing_counts_against_the_caps_of_who_is_held_out(share: float, later: Reason) -> None:
    offers = [{"id": "a", "caps": [{"limit": 1}]}]
    edge = FakeEdge(offers, placements=[{"id": "p", "holdout": share}])
    edge.decide(ANYWHERE, "p", customer="ann")
    again = edge.decide(ANYWHERE, "p", customer="ann")
    assert again.reason is later
    record = edge.events[-1].decision
    assert [slot.offer for slot in record.instead] == (["a"] if share else [])
    edge.force("a")
    forced = edge.decide(ANYWHERE, "p", customer="ann")
    assert shown(forced) == ["a"], "a test may show it all the same"
    assert not edge.events[-1].decision.held_out
