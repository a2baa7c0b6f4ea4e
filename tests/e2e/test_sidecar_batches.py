"""Apps with a queue of their own: the sidecar takes each of their events once."""

from __future__ import annotations

import base64
import hashlib
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import dna_pb2, event_pb2
from tests.e2e.sidecar_client import Lane, Served, refusal, served
from tests.e2e.sidecar_town import OFFERS, PLACEMENTS, bought, outcome, town
from tests.unit.device_town import Town, subject, until

ANN, BEN = subject(1), subject(2)


def test_a_batch_counts_once_whoever_is_killed(tmp_path: Path) -> None:
    lane = Lane(b"e" * 16)
    with served(tmp_path, town=town()) as one:
        made = until(lambda: one.post("decide", placement="lobby", customer=ANN.hex()))
        first = lane.batch(
            lane.frame(FrameKind.INTERACTION, ANN, bought("t-1")),
            lane.frame(FrameKind.OUTCOME, ANN, outcome(made["decisionId"], "click", "taxi")),
        )
        with one.stubs() as (_, reports):
            said = reports.Report(first, metadata=one.metadata, timeout=10)
            assert (said.received_through, said.safe_through) == (2, 2)
            assert reports.Report(first, metadata=one.metadata, timeout=10).received_through == 2
        one.post("imprint", customer=ANN.hex(), kind="buy", product="poems", interactionId="t-1")
        one.end(signal.SIGKILL)
    with served(tmp_path) as one:
        body = {
            "epoch": base64.b64encode(first.epoch).decode(),
            "lane": 1,
            "firstSequence": "1",
            "lastSequence": "2",
            "frames": base64.b64encode(first.frames).decode(),
            "digest": base64.b64encode(first.digest).decode(),
        }
        assert one.post("report", **body)["receivedThrough"] == "2"
        assert one.end() == 0
        events = one.events()
    done = [(f, e.interaction) for f, e in events if e.HasField("interaction")]
    ((frame, interaction),) = done
    assert (frame.subject, interaction.product) == (ANN, "poems")
    assert interaction.region == "85283083fffffff", "no finer than what a device reports"
    assert [e.outcome.offer for _, e in events if e.HasField("outcome")] == ["taxi"]


def test_what_a_batch_says_of_a_decision_made_here_counts_for_caps(tmp_path: Path) -> None:
    stopped = {**OFFERS[1], "stop_after": {"dismiss": True}}
    with served(tmp_path, town=Town(offers=[stopped], placements=PLACEMENTS)) as one:
        for _ in range(2):
            first = one.post("decide", placement="till", customer=ANN.hex())
        lane = Lane(b"i" * 16)
        seen = outcome(first["decisionId"], "dismiss", "")
        with one.stubs() as (_, reports):
            batch = lane.batch(lane.frame(FrameKind.OUTCOME, bytes(16), seen))
            reports.Report(batch, metadata=one.metadata, timeout=10)
        again = one.post("decide", placement="till", customer=ANN.hex())
        reason = again["slots"][0]["reason"]
        assert (first["slots"][0]["offer"], again["slots"][0]["offer"]) == ("once", ""), reason
        one.end()
        ((frame, event),) = [pair for pair in one.events() if pair[1].HasField("outcome")]
    assert frame.subject == ANN
    assert (event.outcome.offer, event.outcome.placement) == ("once", "till")


def test_a_lane_that_does_not_go_on_is_refused(device: Served) -> None:
    lane = Lane(b"f" * 16)
    good = [lane.frame(FrameKind.INTERACTION, ANN, bought()) for _ in range(4)]

    def refused(request: Any) -> tuple[str, str, dict[str, str]]:
        with device.stubs() as (_, reports), pytest.raises(grpc.RpcError) as caught:
            reports.Report(request, metadata=device.metadata, timeout=10)
        return refusal(caught.value)

    def taken(request: Any) -> int:
        with device.stubs() as (_, reports):
            return int(
                reports.Report(request, metadata=device.metadata, timeout=10).received_through
            )

    assert refused(lane.batch(good[1]))[1:] == ("SEQUENCE_GAP", {"expected": "1"})
    assert taken(lane.batch(*good[:2])) == 2
    assert refused(lane.batch(good[3]))[1:] == ("SEQUENCE_GAP", {"expected": "3"})
    assert refused(lane.batch(*good[1:3]))[1:] == ("FORKED_EPOCH", {"sequence": "2"})
    assert refused(lane.batch(*good[2:], digest=bytes(32)))[1] == "BAD_DIGEST"
    assert refused(lane.batch(*good[2:], last_sequence=9))[1] == "BAD_FRAME"
    cut = good[2] + b"cut"
    changed = {"frames": cut, "digest": hashlib.sha256(cut).digest()}
    assert refused(lane.batch(good[2], **changed))[1:] == (
        "BAD_FRAME",
        {"offset": str(len(good[2]))},
    )
    assert refused(lane.batch(good[2], epoch=b"short"))[2] == {"field": "epoch"}
    odd = Lane(lane.epoch, next=3)
    assert refused(odd.batch(odd.frame(FrameKind.OUTCOME, ANN, bought())))[1] == "BAD_FRAME"
    assert refused(lane.batch(good[2], good[2]))[1] == "BAD_FRAME"
    assert refused(lane.batch(good[2][:0]))[1] == "BAD_FRAME"
    assert taken(lane.batch(*good[2:])) == 4


def test_what_an_app_had_to_give_up_is_counted(device: Served) -> None:
    lane = Lane(b"g" * 16, next=4)
    gone = event_pb2.Event(
        evicted=event_pb2.Evicted(first_sequence=1, last_sequence=4, reason="FULL", events=4)
    )
    request = lane.batch(
        lane.frame(FrameKind.EVICTED, bytes(16), gone),
        lane.frame(FrameKind.INTERACTION, BEN, bought()),
    )
    with device.stubs() as (_, reports):
        assert reports.Report(request, metadata=device.metadata, timeout=10).received_through == 5
    assert device.ask("GET", "/v1/status").json["counters"]["GIVEN_UP_BY_APP"] == 4


def test_consent_and_full_forms_in_a_batch(device: Served) -> None:
    lane = Lane(b"h" * 16)
    withdraws = event_pb2.Event(
        consent=event_pb2.ConsentChange(
            purpose=dna_pb2.CONSENT_PURPOSE_PERSONALISATION, granted=False
        )
    )
    elsewhere = event_pb2.Event(
        decision=event_pb2.DecisionRecord(
            decision_id=b"d" * 16, placement="lobby", region="8928308280fffff", regions=[1, 2]
        )
    )
    request = lane.batch(
        lane.frame(FrameKind.CONSENT, BEN, withdraws),
        lane.frame(FrameKind.DECISION, BEN, elsewhere),
    )
    with device.stubs() as (_, reports):
        reports.Report(request, metadata=device.metadata, timeout=10)
    made = device.post("decide", placement="lobby", customer=BEN.hex())
    said = device.post("explain", decisionId=made["decisionId"])["explanation"]
    assert said["genome_used"] is False
    (record,) = [e.decision for _, e in device.events() if e.decision.decision_id == b"d" * 16]
    assert (record.region, list(record.regions)) == ("85283083fffffff", [])
