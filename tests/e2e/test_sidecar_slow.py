"""Callers that take their time do not keep `genome-edge serve` from the others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import grpc
import pytest

from genome_edge.v1 import decision_pb2
from tests.e2e.sidecar_client import Served, refusal, served
from tests.unit.device_town import Town

ALLOWED_S = 2.0
DECIDE = "/genome_edge.v1.DecisionService/Decide"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("slow")
    with served(folder, "--request-timeout", str(ALLOWED_S), town=Town()) as one:
        yield one


def call(device: Served, length: int) -> bytes:
    """The head of a call."""
    head = (
        f"POST /v1/decide HTTP/1.1\r\nHost: {device.http}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {device.token}\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode()


@contextlib.contextmanager
def trickling(device: Served, callers: int, said: bytes) -> Iterator[list[socket.socket]]:
    """Callers that send a byte now and then, and never come to the end."""
    over = threading.Event()
    lines = [
        socket.create_connection(("127.0.0.1", device.port), timeout=10) for _ in range(callers)
    ]

    def send() -> None:
        for at in range(len(said)):
            for line in lines:
                with contextlib.suppress(OSError):
                    line.send(said[at : at + 1])
            if over.wait(0.1):
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lines
    finally:
        over.set()
        thread.join()
        for line in lines:
            line.close()


def heard(line: socket.socket) -> bytes:
    """All that is answered until the other end closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while some := line.recv(65_536):
            answer += some
    return answer


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_request_that_trickles_is_ended_with_a_reason(device: Served, part: str) -> None:
    head = call(device, 100)
    with trickling(device, 1, head if part == "head" else b" " * 100) as (line,):
        if part == "body":
            line.sendall(head)
        began = time.monotonic()
        answer = heard(line)
    assert ALLOWED_S - 0.5 < time.monotonic() - began < ALLOWED_S + 4
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b"TOO_SLOW" in answer
    assert b"within 2 s" in answer
    assert b"Connection: close" in answer


def test_who_never_says_anything_hears_nothing(device: Served) -> None:
    with socket.create_connection(("127.0.0.1", device.port), timeout=ALLOWED_S + 1) as line:
        with pytest.raises(TimeoutError):  # a browser opens connections ahead
            line.recv(1)
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: " + device.http.encode() + b"\r\n\r\n")
        assert line.recv(1_000).startswith(b"HTTP/1.1 200 ")


def answered(device: Served, within_s: float) -> float:
    """Seconds after which a good caller, who tries again where it is busy, has an answer."""
    began = time.monotonic()
    while True:
        said = None
        with contextlib.suppress(OSError):
            said = device.ask("POST", "/v1/decide", {"placement": "lobby"})
        took = time.monotonic() - began
        if said is not None and said.status == 200:
            return took
        assert said is None or said.reason == "BUSY", said.body
        assert took < within_s, "nobody else is answered"
        time.sleep(0.05)


@pytest.mark.parametrize("part", ["head", "body"])
def test_two_hundred_that_trickle_keep_no_good_caller_away(device: Served, part: str) -> None:
    with trickling(device, 200, b"x" * 1_000) as lines:
        if part == "body":
            for line in lines:
                with contextlib.suppress(OSError):  # told already that there is no room
                    line.sendall(call(device, 1_000_000))
        for _ in range(5):
            assert answered(device, ALLOWED_S) < ALLOWED_S


def test_connections_that_wait_give_way(device: Served) -> None:
    idle = [HTTPConnection("127.0.0.1", device.port, timeout=10) for _ in range(128)]
    try:
        for one in idle:
            one.request("GET", "/healthz")
            assert one.getresponse().read()
        for _ in range(3):
            said = device.ask("POST", "/v1/decide", {"placement": "lobby"})
            assert said.status == 200, "at once, none is told to come again"
        for one in idle[10:]:  # who was there last keeps its connection
            one.request("GET", "/healthz")
            assert one.getresponse().status == 200
    finally:
        for one in idle:
            one.close()


# gRPC -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent(device: Served, callers: int) -> Iterator[list[grpc.Future]]:
    """Calls that begin and send no message."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    with contextlib.ExitStack() as stack:
        calls: list[grpc.Future] = []
        for _ in range(callers):
            channel = grpc.insecure_channel(
                device.grpc, [("grpc.use_local_subchannel_pool", len(calls) % 8)]
            )
            stack.enter_context(channel)
            calls.append(channel.stream_unary(DECIDE).future(nothing(), metadata=device.metadata))
        stack.callback(over.set)
        yield calls


def decides(device: Served) -> Callable[[], str]:
    def decide() -> str:
        with device.stubs() as (decisions, _):
            asked = decision_pb2.DecideRequest(placement="lobby")
            return str(decisions.Decide(asked, metadata=device.metadata, timeout=10).decision_id)

    return decide


def test_a_call_without_its_message_is_cancelled(device: Served) -> None:
    began = time.monotonic()
    with silent(device, 1) as (one,):
        with pytest.raises(grpc.RpcError) as caught:
            one.result(10)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert ALLOWED_S - 0.5 < time.monotonic() - began < ALLOWED_S + 3


def test_a_call_that_ends_without_a_message_is_the_callers_mistake(device: Served) -> None:
    with grpc.insecure_channel(device.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(DECIDE)(iter(()), metadata=device.metadata, timeout=10)
        assert refusal(caught.value)[1] == "INVALID_ARGUMENT"


def test_forty_silent_calls_keep_no_good_caller_away(device: Served) -> None:
    with silent(device, 40):
        time.sleep(0.3)
        for _ in range(5):
            began = time.monotonic()
            assert decides(device)()
            assert time.monotonic() - began < ALLOWED_S / 2
