"""Apps in other languages: the same device by gRPC and by HTTP, from outside, as a process."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from edge_sdk.sidecar.refusals import STATUSES
from edge_sdk.sidecar.service import Service
from genome_edge.v1 import decision_pb2
from tests.e2e.sidecar_client import Served, served
from tests.e2e.sidecar_town import PICTURE, town
from tests.unit.device_client import decisions_in
from tests.unit.device_town import subject, until

ANN, BEN = subject(1), subject(2)
DOCS = Path(__file__).resolve().parents[2] / "docs" / "serve.md"


# Deciding ---------------------------------------------------------------------------------------


def test_both_doors_give_the_same_answers(device: Served) -> None:
    moment = {"place": "hotel", "activity": "flight-search", "language": "de"}
    http = device.post("decide", placement="lobby", slots=2, moment=moment, customer=ANN.hex())
    with device.stubs() as (decisions, _):
        request = decision_pb2.DecideRequest(
            placement="lobby",
            slots=2,
            moment=json_format.ParseDict(moment, decision_pb2.Moment()),
            customer=ANN.hex(),
        )
        rpc = decisions.Decide(request, metadata=device.metadata, timeout=10)
    slot = http["slots"][0]
    assert (slot["offer"], slot["content"]["title"], slot["reason"]) == (
        "taxi",
        "Ein Taxi",
        "CHOSEN",
    )
    assert [s.offer for s in rpc.slots] == [s["offer"] for s in http["slots"]] == ["taxi", ""]
    assert rpc.slots[0].score == slot["score"] != 0
    assert dict(rpc.slots[0].assets) == slot["assets"]
    assert http["releaseVersion"] == str(rpc.release_version) == "1"
    assert http["slots"][1]["reason"] == rpc.slots[1].reason == "NO_MORE"
    assert http["decisionId"] != rpc.decision_id


def test_what_is_not_known_is_said_and_is_no_error(device: Served) -> None:
    answer = device.post("decide", placement="loby", customer="nobody at all")
    assert answer["reason"] == "UNKNOWN_PLACEMENT"
    assert "did you mean 'lobby'" in " ".join(answer["unknown"])
    assert any("customer" in one for one in answer["unknown"])


def test_a_retry_gets_the_first_answer(device: Served) -> None:
    asked = {"placement": "lobby", "requestId": "visit-1"}
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(device.post("decide", **asked)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with device.stubs() as (decisions, _):
        request = decision_pb2.DecideRequest(placement="lobby", request_id="visit-1")
        again = decisions.Decide(request, metadata=device.metadata, timeout=10).decision_id
    assert {answer["decisionId"] for answer in answers} == {again}
    assert device.post("decide", placement="lobby", requestId="visit-2")["decisionId"] != again
    said = device.ask("POST", "/v1/decide", {"placement": "lobby", "requestId": "x" * 500})
    assert said.reason == "INVALID_ARGUMENT"


def test_a_durable_decision_is_on_disk_when_it_is_answered(device: Served) -> None:
    made = device.post("decide", placement="lobby", durable=True)["decisionId"]
    assert made in decisions_in(device.store)
    with device.stubs() as (decisions, _):
        request = decision_pb2.DecideRequest(placement="lobby", durable=True)
        made = decisions.Decide(request, metadata=device.metadata, timeout=10).decision_id
    assert made in decisions_in(device.store)


def test_a_file_of_an_offer_is_had_with_its_address_alone(device: Served) -> None:
    address = device.post("decide", placement="lobby")["slots"][0]["assets"]["image"]
    path = address.removeprefix(f"http://{device.http}")
    said = device.ask("GET", path, Authorization=None)
    assert (said.status, said.body) == (200, PICTURE)
    assert said.headers["Content-Type"] == "image/png"
    assert said.headers["Content-Security-Policy"] == "sandbox"
    name, _, key = path.rpartition("?key=")
    for wrong in (name, f"{name}?key={'0' * len(key)}", f"{name[:-5]}f.png?key={key}"):
        assert device.ask("GET", wrong).status == 401, wrong
    other = f"/v1/assets/../../identity/device.pem?key={key}"
    assert device.ask("GET", other).status == 401


# What follows -----------------------------------------------------------------------------------


def test_outcomes_and_imprints_are_on_disk_when_they_are_answered(tmp_path: Path) -> None:
    with served(tmp_path, town=town()) as one:
        until(lambda: one.post("decide", placement="lobby")["slots"][0]["offer"])
        made = one.post("decide", placement="lobby", customer=ANN.hex())
        click = {"decisionId": made["decisionId"], "kind": "click", "eventId": "click-1"}
        for _ in range(2):
            said = one.post("report-outcome", **click, valueMicros="2500000")
            assert said == {"eventId": "click-1"}
        buy = {"customer": ANN.hex(), "kind": "buy", "amountMicros": "14000000"}
        named = one.post("imprint", **buy, product="poems", currency="EUR", interactionId="t-1")
        assert named == {"interactionId": "t-1"}
        dna = [{"marker": "claim:organic", "salienceQ8": 128}]
        assert one.post("imprint", kind="view", dna=dna)["interactionId"]
        one.end(signal.SIGKILL)
        events = [event for _, event in one.events()]
    outcomes = [e.outcome for e in events if e.HasField("outcome")]
    assert [(o.kind, o.value_micros, o.offer) for o in outcomes] == [("click", 2_500_000, "taxi")]
    done = [e.interaction for e in events if e.HasField("interaction")]
    assert [(i.product, i.amount_micros, i.currency) for i in done] == [
        ("poems", 14_000_000, "EUR"), ("", 0, ""),
    ]  # fmt: skip
    assert [(d.marker, d.salience_q8) for d in done[1].dna] == [("claim:organic", 128)]


def test_a_redemption_is_granted_once(device: Served) -> None:
    made = device.post("decide", placement="till", customer=BEN.hex())
    first = device.post("redeem", decisionId=made["decisionId"], slot=0)
    assert (first["granted"], first["reason"], first["offer"]) == (True, "GRANTED", "once")
    with device.stubs() as (decisions, _):
        request = decision_pb2.RedeemRequest(decision_id=made["decisionId"])
        again = decisions.Redeem(request, metadata=device.metadata, timeout=10)
    assert (again.granted, again.reason) == (False, "ALREADY_REDEEMED")
    unknown = device.post("redeem", decisionId="ab" * 16)
    assert (unknown["granted"], unknown["reason"]) == (False, "UNKNOWN_DECISION")


def test_consent_holds_at_once(device: Served) -> None:
    def explained() -> Any:
        made = device.post("decide", placement="lobby", customer=ANN.hex())
        return device.post("explain", decisionId=made["decisionId"])

    before = explained()
    assert before["explanation"]["genome_used"] is True
    assert before["explanation"]["seed"].isdecimal()
    assert "taxi" in before["text"]
    agrees = {"customer": ANN.hex(), "purpose": "CONSENT_PURPOSE_PERSONALISATION"}
    assert device.post("set-consent", **agrees, granted=False) == {}
    assert explained()["explanation"]["genome_used"] is False
    assert device.post("set-consent", **agrees, granted=True) == {}
    assert explained()["explanation"]["genome_used"] is True
    for wrong in (
        {**agrees, "customer": "nobody"},
        {**agrees, "purpose": 0},
        {**agrees, "purpose": 9},
    ):
        assert device.ask("POST", "/v1/set-consent", wrong).reason == "INVALID_ARGUMENT", wrong


# The house --------------------------------------------------------------------------------------


def test_every_rpc_is_answered_and_every_reason_documented() -> None:
    methods = {method.name for method in Service.methods(Service.__new__(Service))}
    assert methods >= {
        "Decide",
        "ReportOutcome",
        "Redeem",
        "SetConsent",
        "Explain",
        "Imprint",
        "Report",
    }
    text = DOCS.read_text(encoding="utf-8")
    assert {reason for reason in STATUSES if f"`{reason}`" not in text} == set()
