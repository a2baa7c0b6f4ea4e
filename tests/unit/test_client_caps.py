"""Caps and redemptions: counted by all processes, granted once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk import (
    EdgeClient,
    RedemptionReason,
)
from edge_sdk.outbox.frames import FrameKind, iter_frames
from edge_sdk.outbox.queue import Outbox
from tests.unit.device_client import FAST, MOMENT, events, shown, store_of
from tests.unit.device_town import (
    Town,
    customer,
    filled,
    until,
)

CAPPED = (
    {"id": "taxi", "value": 9.0, "caps": [{"count": "view", "limit": 2, "window_hours": 1}]},
    {"id": "train", "value": 1.0},
)


def test_what_is_shown_on_decide_counts_then(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(offers=CAPPED))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        seen = [shown(edge, "lobby", customer=customer(1)) for _ in range(3)]
        assert seen == ["taxi", "taxi", "train"]
        assert shown(edge, "lobby", customer=customer(2)) == "taxi"
        edge.report(edge.decide(MOMENT, "lobby", customer=customer(2)), "view")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:  # also after a restart
        edge.wait_ready(10)
        assert shown(edge, "lobby", customer=customer(1)) == "train"
        assert shown(edge, "lobby", customer=customer(2)) == "train"


def test_what_is_shown_on_view_counts_when_it_is_viewed(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(offers=CAPPED))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        first = edge.decide(MOMENT, "feed", customer=customer(1))
        for event in ("1", "1", "2"):
            edge.report(first, "view", event_id=event)
        assert shown(edge, "feed", customer=customer(1)) == "taxi", "one slot is viewed once"


def test_another_process_counts_too(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(offers=CAPPED))
    with (
        EdgeClient(tmp_path / "store", config=FAST) as one,
        EdgeClient(tmp_path / "store", config=FAST) as two,
    ):
        one.wait_ready(10)
        two.wait_ready(10)
        for _ in range(2):
            shown(one, "lobby", customer=customer(1))
        until(lambda: shown(two, "lobby", customer=customer(1)) == "train")
        time.sleep(0.1)
        assert len(list(one._desk.room.ledger.rows())) == 2, "nothing is counted twice"


REDEEMABLE = (
    {"id": "once", "value": 9.0, "caps": [{"count": "redeem", "limit": 1, "window_hours": 1}]},
    {"id": "stops", "value": 8.0, "stop_after": {"redeem": True}},
    {"id": "free", "value": 7.0},
)


@pytest.fixture
def till(tmp_path: Path) -> Iterator[EdgeClient]:
    soon = {"id": "over", "value": 6.0, "valid": {"until": "2030-01-01T00:00:00Z"}}
    placements = [{"id": "lobby", "slots": 4, "explorer": "greedy"}]
    filled(tmp_path / "store", Town(offers=(*REDEEMABLE, soon), placements=placements))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        yield edge


def slots(edge: EdgeClient, who: str | None) -> tuple[str, dict[str, int]]:
    decision = edge.decide(MOMENT, "lobby", 4, customer=who)
    return decision.id, {s.offer.id: n for n, s in enumerate(decision.slots) if s.offer}


def test_a_redemption_is_granted_once(till: EdgeClient) -> None:
    id_, at = slots(till, customer(1))
    granted = till.redeem(id_, slot=at["free"])
    assert granted
    assert (granted.reason, granted.offer) == (RedemptionReason.GRANTED, "free")
    again = till.redeem(id_, slot=at["free"])
    assert not again
    assert again.reason is RedemptionReason.ALREADY_REDEEMED
    other, at = slots(till, customer(1))
    assert till.redeem(other, slot=at["free"]), "another decision is another redemption"
    said = [e.outcome for e in events(till) if e.HasField("outcome")]
    assert [(o.kind, o.offer) for o in said] == [("redeem", "free")] * 2


@pytest.mark.parametrize("offer", ["once", "stops"])
def test_a_redemption_within_its_caps(till: EdgeClient, offer: str) -> None:
    first, second = slots(till, customer(1)), slots(till, customer(1))
    elsewhere = slots(till, customer(2))
    assert till.redeem(first[0], slot=first[1][offer])
    refused = till.redeem(second[0], slot=second[1][offer])
    assert refused.reason is RedemptionReason.CAPPED
    assert till.redeem(elsewhere[0], slot=elsewhere[1][offer])
    assert offer not in slots(till, customer(1))[1], "it is not offered any more"


def test_an_offer_that_has_ended_is_not_redeemed(
    till: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_, at = slots(till, customer(1))
    monkeypatch.setattr(till._desk.room.clock, "now_ms", lambda: 1_900_000_000_000)
    assert till.redeem(id_, slot=at["over"]).reason is RedemptionReason.ENDED


def test_what_cannot_be_redeemed_says_why(till: EdgeClient) -> None:
    assert till.redeem("0" * 32).reason is RedemptionReason.UNKNOWN_DECISION
    empty = till.decide(MOMENT, "elsewhere")
    assert till.redeem(empty).reason is RedemptionReason.NOTHING_OFFERED


def test_two_tills_of_one_device_grant_once(tmp_path: Path, till: EdgeClient) -> None:
    id_, at = slots(till, customer(1))
    till.flush(0)
    with EdgeClient(tmp_path / "store", config=FAST) as other:
        other.wait_ready(10)
        answers: list[bool] = []

        def redeem(edge: EdgeClient) -> None:
            answers.append(bool(edge.redeem(id_, slot=at["once"])))

        threads = [threading.Thread(target=redeem, args=(e,)) for e in (till, other) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [False] * 7 + [True]


def test_a_redemption_is_sent_first(till: EdgeClient) -> None:
    id_, at = slots(till, customer(1))
    for _ in range(50):
        till.decide(MOMENT, "lobby")
    till.redeem(id_, slot=at["free"])
    till.flush(0)
    batch = Outbox(store_of(till)).next_batch()
    assert batch is not None
    assert [frame.kind for frame in iter_frames(batch.frames)] == [FrameKind.OUTCOME]
