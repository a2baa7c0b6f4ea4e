"""What follows a decision for thin clients: redemptions, consents, and why it was made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from genome_edge.v1 import decision_pb2
from genome_server.home import Home, Tenant
from tests.serving import add_audience, add_thin, until
from tests.unit.thin_clients import HOTEL, Thin, events, prepare, refusal


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepare(tmp_path / "home")


@pytest.fixture
def thin(channel: grpc.Channel, tenant: Tenant) -> Thin:
    return Thin(channel, add_thin(tenant))


def test_a_redemption_is_granted_once(thin: Thin, tenant: Tenant) -> None:
    decided = thin.decide(customer="ann")
    before = len(events(tenant))

    def redeem(_: int = 0) -> Any:
        return thin(decision_pb2.RedeemRequest(decision_id=decided.decision_id))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(redeem, range(8)))
    (granted,) = [answer for answer in answers if answer.granted]
    assert (granted.reason, granted.offer) == ("GRANTED", decided.slots[0].offer)
    refused = [answer for answer in (*answers, redeem()) if not answer.granted]
    assert {answer.reason for answer in refused} == {"ALREADY_REDEEMED"}
    ((subject, event),) = events(tenant)[before:]
    with closing(tenant.open_store()) as store:
        assert subject == store.subject_of("app", "ann")
    assert (event.outcome.kind, event.outcome.event_id) == ("redeem", granted.event_id)
    assert event.outcome.decision_id.hex() == decided.decision_id


def test_redemptions_that_are_refused(thin: Thin, channel: grpc.Channel, tenant: Tenant) -> None:
    def redeem(who: Thin, decision_id: str, slot: int = 0) -> tuple[bool, str]:
        answer = who(decision_pb2.RedeemRequest(decision_id=decision_id, slot=slot))
        return answer.granted, answer.reason

    decided = thin.decide("till", customer="bob", slots=2)
    assert [slot.offer for slot in decided.slots] == ["coupon", ""]
    assert redeem(thin, "ab" * 16) == (False, "UNKNOWN_DECISION")
    assert redeem(thin, decided.decision_id, 1) == (False, "NOTHING_OFFERED")
    assert refusal(redeem, thin, decided.decision_id, 2)[2] == {"field": "slot"}
    assert refusal(redeem, thin, "junk")[2] == {"field": "decision_id"}
    add_audience(tenant, "elsewhere", ["bob"])
    other = Thin(channel, add_thin(tenant, "elsewhere"))
    assert redeem(other, decided.decision_id) == (False, "UNKNOWN_DECISION")
    later = thin.decide("till", customer="bob")
    others = thin.decide("till", customer="eve")
    assert redeem(thin, decided.decision_id) == (True, "GRANTED")
    assert redeem(thin, later.decision_id) == (False, "CAPPED")
    assert redeem(thin, others.decision_id) == (True, "GRANTED"), "the limit is each customer's"


def test_two_tills_cannot_both_grant_the_last_one(thin: Thin) -> None:
    decided = [thin.decide("till", customer="ann").decision_id for _ in range(6)]

    def redeem(decision_id: str) -> str:
        return str(thin(decision_pb2.RedeemRequest(decision_id=decision_id)).reason)

    with ThreadPoolExecutor(6) as pool:
        reasons = sorted(pool.map(redeem, decided))
    assert reasons == ["CAPPED"] * 5 + ["GRANTED"]


def test_consent_that_is_withdrawn_holds_at_once(thin: Thin, tenant: Tenant) -> None:
    def say(granted: bool, customer: str = "ann", purpose: Any = 1) -> None:
        thin(decision_pb2.SetConsentRequest(customer=customer, purpose=purpose, granted=granted))

    def used() -> bool:
        thin.decide(customer="ann")
        return events(tenant)[-1][1].decision.genome_used

    assert used()
    say(False)
    assert not used()
    said = next(e.consent for _, e in reversed(events(tenant)) if e.HasField("consent"))
    assert (said.purpose, said.granted) == (1, False)
    say(True)
    until(used)
    assert refusal(say, True, purpose=0)[2] == {"field": "purpose"}
    assert refusal(say, True, purpose=9)[2] == {"field": "purpose"}
    assert refusal(say, True, customer="a stranger")[0] == "NOT_IN_AUDIENCE"


def test_a_decision_is_explained(
    thin: Thin, channel: grpc.Channel, tenant: Tenant, home: Home
) -> None:
    decided = thin.decide(moment=HOTEL, customer="ann", slots=2)
    answer = thin(decision_pb2.ExplainRequest(decision_id=decided.decision_id))
    said = answer.explanation
    assert said["id"] == decided.decision_id
    assert [slot["offer"] for slot in said["slots"]] == [slot.offer for slot in decided.slots]
    shown = {slot.offer for slot in decided.slots}
    assert {loser["offer"] for loser in said["losers"]}.isdisjoint(shown)
    assert decided.slots[0].offer in answer.text

    def explain(who: Thin, decision_id: str) -> Any:
        return who(decision_pb2.ExplainRequest(decision_id=decision_id))

    add_audience(tenant, "curious", ["ann"])
    stranger = Thin(channel, add_thin(tenant, "curious"))
    assert refusal(explain, stranger, decided.decision_id)[0] == "UNKNOWN_DECISION"
    assert refusal(explain, thin, "ab" * 16)[0] == "UNKNOWN_DECISION"
    assert refusal(explain, thin, "junk")[2] == {"field": "decision_id"}
