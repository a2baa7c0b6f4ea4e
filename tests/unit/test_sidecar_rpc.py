"""The gRPC door of `genome-edge serve`: what it says when it has too much to do or to read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge_sdk.sidecar import rpc
from edge_sdk.sidecar.doors import Door
from edge_sdk.sidecar.rpc import MAX_MESSAGE_BYTES, RpcDoor
from edge_sdk.sidecar.service import Method
from edge_sdk.sidecar.token import Gate
from edge_sdk.sync.transport import DETAILS_KEY
from genome_edge.v1 import decision_pb2, errors_pb2

SERVICE = "genome_edge.v1.DecisionService"
TOKEN = "s" * 43
METADATA = (("authorization", f"Bearer {TOKEN}"),)
DOCS = Path(__file__).resolve().parents[2] / "docs" / "serve.md"


class Slow:
    """A service that answers when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)
        self.answered = 0

    def decide(self, request: decision_pb2.DecideRequest) -> decision_pb2.DecideResponse:
        self.asked.release()
        assert self.go.wait(20)
        self.answered += 1
        return decision_pb2.DecideResponse(decision_id=request.placement)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def channel(slow: Slow) -> Iterator[grpc.Channel]:
    method = Method(SERVICE, "Decide", decision_pb2.DecideRequest, slow.decide)
    door = RpcDoor([method], Gate(TOKEN), lambda: False)
    opened = door.open(Door("127.0.0.1", 0))
    with grpc.insecure_channel(opened.text) as one:
        yield one
    slow.go.set()
    door.close(5)


def decide(channel: grpc.Channel, name: str = "Decide") -> Any:
    return channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=decision_pb2.DecideRequest.SerializeToString,
        response_deserializer=decision_pb2.DecideResponse.FromString,
    )


def refusal(call: Any) -> tuple[grpc.StatusCode, str, bytes | None]:
    """Code, words and details of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    details = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    return error.code(), error.details(), details


def test_a_call_too_many_is_told_so_at_once_and_the_others_are_answered(
    slow: Slow, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "AT_ONCE", 12)  # some of them wait for one of eight threads
    ask = decide(channel)
    calls = [
        ask.future(decision_pb2.DecideRequest(placement=str(n)), metadata=METADATA, timeout=20)
        for n in range(12)
    ]
    for _ in range(8):
        assert slow.asked.acquire(timeout=10)
    for _ in range(3):
        code, words, details = refusal(lambda: ask(decision_pb2.DecideRequest(), timeout=5))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details is not None
        status = errors_pb2.RpcStatus.FromString(details)
        info = errors_pb2.ErrorInfo.FromString(status.details[0].value)
        assert (info.reason, status.code, status.message) == ("BUSY", code.value[0], words)
    slow.go.set()
    assert [call.result(10).decision_id for call in calls] == [str(n) for n in range(12)]
    assert slow.answered == 12, "none of those that were refused was asked"
    assert ask(decision_pb2.DecideRequest(placement="x"), metadata=METADATA).decision_id == "x"


def test_calls_that_were_given_up_make_room(
    slow: Slow, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "AT_ONCE", 12)
    ask = decide(channel)
    for _ in range(5):
        slow.go.clear()
        calls = [
            ask.future(decision_pb2.DecideRequest(), metadata=METADATA, timeout=20)
            for _ in range(12)
        ]
        for _ in range(8):
            assert slow.asked.acquire(timeout=10)
        for call in calls:
            call.cancel()
        slow.go.set()
        while slow.asked.acquire(timeout=0.2):
            pass
    asked = decision_pb2.DecideRequest(placement="x")
    assert ask(asked, metadata=METADATA, timeout=10).decision_id == "x"


def test_what_grpc_itself_refuses_comes_without_details_as_documented(
    slow: Slow, channel: grpc.Channel
) -> None:
    slow.go.set()
    large = decision_pb2.DecideRequest(placement="x" * MAX_MESSAGE_BYTES)
    code, words, details = refusal(lambda: decide(channel)(large, metadata=METADATA))
    assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)
    assert "message larger than max" in words
    assert str(MAX_MESSAGE_BYTES) in words
    asked = decision_pb2.DecideRequest()
    code, words, details = refusal(lambda: decide(channel, "Dance")(asked, metadata=METADATA))
    assert (code, words, details) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", None)
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    for said in ("message larger than max", "Method not found!", "without details"):
        assert said in text
