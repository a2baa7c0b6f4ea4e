"""What tests of counting for caps say of customers: events, and the rules that ask for them."""

from __future__ import annotations

from typing import Any

from edge_sdk.engine.cap_rules import rules_of
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.runtime.claiming import claim_of
from genome_edge.v1 import event_pb2
from genome_server.counting.rules import Counting
from tests.unit.device_town import Town

ANN, BOB, EVE = (bytes([n]) * 16 for n in (1, 2, 3))
MADE = bytes(range(16))
CLAIM = claim_of(MADE, 0)
HOUR = 3_600_000
CAP = {"caps": [{"limit": 1}]}
REAL = event_pb2.EventTime(wall_ms=5, offset_known=True)
SCREEN = {"id": "screen", "slots": 2}
FEED = {"id": "feed", "slots": 2, "shown": "view"}


def counting(*offers: dict[str, Any]) -> Counting:
    rules = rules_of([offer_from_document({"id": "taxi", **one}) for one in offers])
    placements = [placement_from_document(one) for one in (SCREEN, FEED)]
    return Counting(rules, placements, Town().schema)


def decision(placement: str, **slot: str) -> event_pb2.Event:
    said: dict[str, Any] = {"offer": "taxi", "reason": "RANKED", **slot}
    record = event_pb2.DecisionRecord(
        decision_id=MADE, placement=placement, slots=[event_pb2.SlotRecord(**said)]
    )
    return event_pb2.Event(time=REAL, decision=record)


def outcome(kind: str, placement: str = "screen", offer: str = "taxi") -> event_pb2.Event:
    said = event_pb2.Outcome(
        decision_id=MADE, kind=kind, placement=placement, offer=offer, event_id=kind
    )
    return event_pb2.Event(time=REAL, outcome=said)


def bought(**said: Any) -> event_pb2.Event:
    done = {"interaction_id": "i", "kind": "buy", "offer": "taxi", **said}
    return event_pb2.Event(time=REAL, interaction=event_pb2.Interaction(**done))
