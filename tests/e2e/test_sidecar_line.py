"""What a caller can do to the line to `genome-edge serve`, and a second one beside it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest

from tests.e2e.sidecar_client import Served, refusal, served
from tests.unit.device_town import Town

LARGE = 7 << 20


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served"), town=Town()) as one:
        yield one


def head(device: Served, verb: str, *lines: str, token: bool = True) -> bytes:
    said = [f"{verb} HTTP/1.1", f"Host: {device.http}", "Content-Type: application/json"]
    said += [f"Authorization: Bearer {device.token}"] * token
    return "\r\n".join([*said, *lines, "", ""]).encode()


def heard(device: Served, *sent: bytes, end: bool = False) -> bytes:
    """Everything that is answered until the other end closes."""
    with socket.create_connection(("127.0.0.1", device.port), timeout=10) as line:
        for some in sent:
            line.sendall(some)
        if end:
            line.shutdown(socket.SHUT_WR)
        answer = b""
        while some := line.recv(65_536):
            answer += some
        return answer


def test_a_key_that_is_said_twice_opens_nothing(device: Served) -> None:
    said = device.ask("GET", "/v1/assets/ab.png?key=a&key=b", Authorization=None)
    assert (said.status, said.reason) == (401, "UNAUTHENTICATED")


def test_a_body_that_is_too_large_is_answered_while_it_is_sent(device: Served) -> None:
    for token, status in ((True, b"413"), (False, b"401")):
        start = head(device, "POST /v1/decide", f"Content-Length: {LARGE}", token=token)
        answer = heard(device, start, b"x" * LARGE)
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:100]
        assert b"Connection: close" in answer


def test_a_body_that_breaks_off_is_no_call(device: Served) -> None:
    start = head(device, "POST /v1/decide", "Content-Length: 100")
    assert heard(device, start, b"{}", end=True) == b""
    assert heard(device, start, end=True) == b""


@pytest.mark.parametrize("length", ["Transfer-Encoding: chunked", "Content-Length: x"])
def test_a_body_without_an_end_is_not_taken_for_the_next_call(device: Served, length: str) -> None:
    inner = head(device, "GET /healthz")
    for verb in ("GET /healthz", "OPTIONS /v1/decide", "POST /v1/decide"):
        answer = heard(device, head(device, verb, length, token=False), inner, end=True)
        assert answer.count(b"HTTP/1.1 ") == 1, answer


def test_a_message_that_cannot_be_read_is_the_callers_mistake(device: Served) -> None:
    with grpc.insecure_channel(device.grpc) as channel:
        decide = channel.unary_unary("/genome_edge.v1.DecisionService/Decide")
        for metadata, reason in ((device.metadata, "INVALID_ARGUMENT"), ((), "UNAUTHENTICATED")):
            with pytest.raises(grpc.RpcError) as caught:
                decide(b"\xff\xff", metadata=metadata, timeout=10)
            assert refusal(caught.value)[1] == reason


def test_a_new_token_is_kept_only_by_one_that_serves(device: Served) -> None:
    command = [sys.executable, "-m", "edge_sdk.cli", "serve", "--new-token"]
    command += ["--store", str(device.store), "--http", device.http, "--grpc", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "cannot be listened on" in done.stderr
    kept = (device.store / "serve" / "token").read_text().strip()
    assert kept == device.token
