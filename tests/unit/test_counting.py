"""Which events count for caps, as what, for whom, and how long."""

from __future__ import annotations

import hashlib

import pytest

from edge_sdk.engine.cap_rules import CapRow
from genome_edge.v1 import event_pb2
from genome_server.counting.rules import outdated, rows_of
from tests.unit.cap_events import ANN, CAP, CLAIM, HOUR, bought, counting, decision, outcome

ALL = {
    "caps": [{"limit": 1}, {"limit": 1, "count": "redeem"}],
    "stop_after": {"convert": True, "dismiss": True},
}


@pytest.mark.parametrize(
    ("event", "kinds"),
    [
        (decision("screen"), {"view"}),
        (decision("feed"), set()),
        (decision("screen", reason="HOUSE"), set()),
        (decision("screen", reason="HELD_OUT"), set()),
        (decision("screen", offer=""), set()),
        (decision("screen", offer="train"), set()),
        (outcome("view"), set()),
        (outcome("view", "feed"), {"view"}),
        (outcome("dismiss"), {"dismiss"}),
        (outcome("redeem"), {"redeem", "convert"}),
        (outcome("buy"), {"convert"}),
        (outcome("buy", offer=""), set()),
        (bought(), {"convert"}),
        (bought(kind="view"), set()),
        (bought(interaction_id=""), set()),
        (bought(offer=""), set()),
    ],
)
def test_what_an_event_counts_as(event: event_pb2.Event, kinds: set[str]) -> None:
    rows = list(counting(ALL).rows(ANN, event, 5))
    assert {row.kind for row in rows} == kinds
    assert all(row[:2] == (ANN, "taxi") and row.elsewhere for row in rows)


def test_the_claims_are_those_of_devices() -> None:
    (row,) = counting(ALL).rows(ANN, decision("screen"), 5)
    assert row.claim == CLAIM
    (row,) = counting(ALL).rows(ANN, bought(), 5)
    assert row.claim == hashlib.blake2b(b"i", digest_size=16).digest()


def test_what_no_device_could_have_claimed_counts_for_nothing() -> None:
    """One such event keeps neither what follows from being counted nor devices from rows."""
    long_id, beyond, many = decision("screen"), outcome("redeem"), decision("screen")
    long_id.decision.decision_id = bytes(65)
    beyond.outcome.slot = 256
    short = outcome("redeem")
    short.outcome.decision_id = b""
    for one in (long_id, beyond, short):
        assert list(counting(ALL).rows(ANN, one, 5)) == []
    many.decision.slots.extend([many.decision.slots[0]] * 299)
    assert len(list(counting(ALL).rows(ANN, many, 5))) == 256


def test_only_what_a_limit_of_a_customer_asks_for() -> None:
    device = {"caps": [{"limit": 1, "scope": "device"}]}
    assert not counting(device).asked
    assert counting({"cool_down_hours": 1}).asked == {("taxi", "view")}
    spring = {"id": "train", "campaign": "spring"}
    over = {"campaign": "spring", "caps": [{"limit": 1, "over": "campaign"}]}
    shared = counting(over, spring)
    assert shared.asked == {("taxi", "view"), ("train", "view")}
    (row,) = shared.rows(ANN, decision("screen", offer="train"), 5)
    assert (row.campaign, row.group) == ("spring", "")


def test_any_release_in_force_may_ask() -> None:
    countings = [counting({}), counting(CAP), counting(CAP)]
    assert len(rows_of(countings, ANN, decision("screen"), 5)) == 1


def views(number: int, offer: str = "taxi") -> list[CapRow]:
    return [
        CapRow(ANN, offer, "view", at, at.to_bytes(4, "big"), elsewhere=True)
        for at in range(1, number + 1)
    ]


def test_what_can_block_nothing_any_more_is_not_kept() -> None:
    hourly = counting({"caps": [{"limit": 1, "window_hours": 1}]})
    daily = counting({"caps": [{"limit": 1, "window_hours": 24}]})
    rows = views(2)
    assert outdated([hourly], rows, HOUR + 1, 9) == rows[:1]
    assert outdated([hourly, daily], rows, HOUR + 1, 9) == []
    assert outdated([counting(CAP)], rows, 10**15, 9) == [], "never"
    assert outdated([], rows, 91 * 24 * HOUR, 9) == rows, "nothing asks any more"


def test_one_subject_has_so_many() -> None:
    """What limits can still ask for stays before what is newer."""
    rare = CapRow(ANN, "train", "redeem", 0, b"rare", elsewhere=True)
    rules = counting(CAP, {"id": "train", "caps": [{"limit": 1, "count": "redeem"}]})
    gone = outdated([rules], [*views(8), rare], 9, 4)
    assert sorted(row.at_ms for row in gone) == [1, 2, 3, 4, 5]
    crowd = counting({"caps": [{"limit": 9}]})
    assert sorted(row.at_ms for row in outdated([crowd], views(8), 9, 5)) == [1, 2, 3]
