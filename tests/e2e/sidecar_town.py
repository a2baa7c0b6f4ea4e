"""A device with a sidecar: what it offers, and what an app tells it."""

from __future__ import annotations

from typing import Any

from genome_edge.v1 import event_pb2
from tests.unit.device_town import Town, now_ms, row

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
ORIGIN = "http://localhost:3000"

OFFERS: tuple[dict[str, Any], ...] = (
    {
        "id": "taxi",
        "content": {"title": "A taxi"},
        "texts": {"de": {"title": "Ein Taxi"}},
        "dna": ["service:taxi"],
        "value": 2.0,
        "assets": {"image": "asset/0123456789abcdef.png"},
    },
    {
        "id": "once",
        "content": {"title": "Only once"},
        "dna": ["service:train"],
        "value": 9.0,
        "placements": ["till"],
        "stop_after": {"redeem": True},
    },
)
PLACEMENTS: tuple[dict[str, Any], ...] = (
    {"id": "lobby", "slots": 2, "explorer": "greedy"},
    {"id": "till", "slots": 1, "explorer": "greedy", "shown": "view"},
)


def town() -> Town:
    made = Town(offers=OFFERS, placements=PLACEMENTS, files={"asset/0123456789abcdef.png": PICTURE})
    made.__dict__["genomes"] = [row(number, town=made) for number in (1, 2)]
    return made


def outcome(decision_id: str, kind: str, offer: str, event_id: str = "") -> event_pb2.Event:
    return event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms()),
        outcome=event_pb2.Outcome(
            decision_id=bytes.fromhex(decision_id), kind=kind, offer=offer, event_id=event_id
        ),
    )


def bought(name: str = "") -> event_pb2.Event:
    return event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms()),
        interaction=event_pb2.Interaction(
            interaction_id=name, kind="buy", product="poems", region="8928308280fffff"
        ),
    )
