"""Addresses, TLS and errors, over real sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2

from edge_sdk.errors import RefusedError, UnreachableError, UsageError
from edge_sdk.sync import transport
from edge_sdk.sync.keys import CallSigner, DeviceKey, ServerClock
from edge_sdk.sync.transport import ENROL, IDENTIFY, REPORT, SYNC, ErrorReason, Link, parse_address
from genome_edge.v1 import enrolment_pb2, errors_pb2, identify_pb2
from tests.unit import devices
from tests.unit.contract_server import CODE, ContractServer, Refuse
from tests.unit.publisher import certificate

house = devices.house


@pytest.mark.parametrize(
    ("text", "target", "tls"),
    [
        ("https://edge.example.com", "edge.example.com:443", True),
        ("https://edge.example.com:7443/", "edge.example.com:7443", True),
        ("https://[2001:db8::1]:7443", "[2001:db8::1]:7443", True),
        ("https://localhost:7443", "localhost:7443", True),
        ("http://localhost:7443", "localhost:7443", False),
        ("http://127.0.0.9:7443", "127.0.0.9:7443", False),
        ("http://[::1]:7443", "[::1]:7443", False),
        ("127.0.0.1:7443", "127.0.0.1:7443", False),
        ("localhost:7443", "localhost:7443", False),
        ("edge.example.com:7443", "edge.example.com:7443", True),
        ("10.0.0.5:7443", "10.0.0.5:7443", True),
        (" unix:/run/edge.sock ", "unix:/run/edge.sock", False),
    ],
)
def test_addresses(text: str, target: str, tls: bool) -> None:
    address = parse_address(text)
    assert (address.target, address.tls) == (target, tls)


@pytest.mark.parametrize(
    "text",
    [
        "http://edge.example.com:80",
        "http://10.0.0.5:7443",
        "http://0.0.0.0:7443",
        "http://localhost.example.com:80",
    ],
)
def test_plaintext_beyond_this_machine_is_refused_and_says_why(text: str) -> None:
    with pytest.raises(UsageError, match="in the clear"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "edge.example.com",
        "ftp://x:1",
        "grpc://localhost:1",
        "https://",
        "x:notaport",
        "unix:relative",
        "https://user@host:1",
        "https://host:1/path",
        "https://host:99999",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_a_missing_port_is_asked_for_with_the_scheme_that_would_work() -> None:
    with pytest.raises(UsageError, match="use http://localhost:PORT"):
        parse_address("localhost")
    with pytest.raises(UsageError, match=r"use https://edge\.example\.com:PORT"):
        parse_address("edge.example.com")


def test_grpc_is_imported_with_the_first_link_and_not_before() -> None:
    code = (
        "import sys, edge_sdk.sync.transport, edge_sdk.sync.updater\n"
        "import edge_sdk.sync.keys, edge_sdk.sync.machine\n"
        "late = [m for m in ('grpc', 'cryptography', 'onnxruntime', 'h3') if m in sys.modules]\n"
        "sys.exit(', '.join(late) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_methods_are_those_of_the_contract() -> None:
    from genome_edge.v1 import report_pb2, sync_pb2

    for method, module in (
        (ENROL, enrolment_pb2),
        (IDENTIFY, identify_pb2),
        (REPORT, report_pb2),
        (SYNC, sync_pb2),
    ):
        service, name = method.path.removeprefix("/genome_edge.v1.").split("/")
        descriptor: Any = module.DESCRIPTOR
        assert name in descriptor.services_by_name[service].methods_by_name


def enrol_request(code: str = CODE) -> tuple[DeviceKey, enrolment_pb2.EnrolRequest]:
    key = DeviceKey.generate()
    return key, enrolment_pb2.EnrolRequest(
        code=code, public_key=key.public, proof=key.sign(b"genome-edge/enrol/v1\n" + code.encode())
    )


def test_a_call_and_a_refusal(house: ContractServer) -> None:
    with Link(house.address) as link:
        answer = link.call(ENROL, enrol_request()[1], 5)
        assert answer.device_id == "dev-1"
        with pytest.raises(RefusedError) as caught:
            link.call(ENROL, enrol_request("wrong")[1], 5)
    assert caught.value.reason == ErrorReason.CODE_INVALID


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    expected = pytest.raises(UnreachableError, match=f"{port} cannot be reached")
    with Link(f"127.0.0.1:{port}") as link, expected:
        link.call(ENROL, enrol_request()[1], 5)


def test_somebody_who_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with Link(f"127.0.0.1:{port}") as link, pytest.raises(UnreachableError, match="in time"):
            link.call(ENROL, enrol_request()[1], 0.2)


def test_somebody_else(house: ContractServer) -> None:
    unknown: transport.Method[Any, Any] = transport.Method(
        "/genome_edge.v1.NoService/None", ENROL.encode, ENROL.decode
    )
    with Link(house.address) as link, pytest.raises(UnreachableError, match="no Genome Edge"):
        link.call(unknown, enrol_request()[1], 5)


def signed_link(house: ContractServer, clock: ServerClock) -> Link:
    key, request = enrol_request()
    with Link(house.address) as link:
        credential = link.call(ENROL, request, 5).credential
    return Link(house.address, signer=CallSigner(key, credential, clock), clock=clock)


def test_a_wrong_clock_is_corrected_by_one_refusal(house: ContractServer) -> None:
    clock = ServerClock()
    house.identify = lambda _: identify_pb2.IdentifyResponse(subject=b"s" * 16)
    with signed_link(house, clock) as link:
        house.skew_ms = 400 * 86_400_000
        assert link.call(IDENTIFY, identify_pb2.IdentifyRequest(), 5).subject == b"s" * 16
        assert house.clock_checks == 1
        assert abs(clock.offset_ms - house.skew_ms) < 5_000
        link.call(IDENTIFY, identify_pb2.IdentifyRequest(), 5)
        assert house.clock_checks == 1, "what was learned is used"


def test_a_server_that_never_agrees_on_the_time_is_asked_twice(house: ContractServer) -> None:
    house.identify = lambda _: Refuse(
        "CLOCK_SKEW", grpc.StatusCode.UNAUTHENTICATED, {"server_time_ms": "1000"}
    )
    asked: list[identify_pb2.IdentifyRequest] = []
    inner = house.identify

    def noted(request: identify_pb2.IdentifyRequest) -> Any:
        asked.append(request)
        return inner(request)

    house.identify = noted
    with signed_link(house, ServerClock()) as link, pytest.raises(RefusedError) as caught:
        link.call(IDENTIFY, identify_pb2.IdentifyRequest(), 5)
    assert caught.value.reason == ErrorReason.CLOCK_SKEW
    assert len(asked) == 1, "the second proof, made for the year 1970, is refused at the door"


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (
            Refuse("DRAINING", grpc.StatusCode.UNAVAILABLE, {"retry_after_ms": "1500"}),
            lambda e: isinstance(e, UnreachableError) and e.retry_after_s == 1.5,
        ),
        (
            Refuse("DRAINING", grpc.StatusCode.UNAVAILABLE, {"retry_after_ms": "9" * 5_000}),
            lambda e: isinstance(e, UnreachableError) and not e.retry_after_s,
        ),
        (
            Refuse("CLOCK_SKEW", grpc.StatusCode.UNAUTHENTICATED, {"server_time_ms": "9" * 5_000}),
            lambda e: isinstance(e, RefusedError),
        ),
        (
            Refuse("INTERNAL", grpc.StatusCode.INTERNAL),
            lambda e: isinstance(e, UnreachableError),
        ),
        (
            Refuse("NO_ROOM", grpc.StatusCode.RESOURCE_EXHAUSTED),
            lambda e: isinstance(e, UnreachableError),
        ),
        (
            Refuse("SOMETHING_NEW", grpc.StatusCode.OUT_OF_RANGE, {"a": "b"}),
            lambda e: (
                isinstance(e, RefusedError) and (e.reason, e.facts) == ("SOMETHING_NEW", {"a": "b"})
            ),
        ),
    ],
)
def test_what_errors_mean(
    house: ContractServer, answer: Refuse, check: Callable[[Exception], bool]
) -> None:
    house.identify = lambda _: answer
    with signed_link(house, ServerClock()) as link:
        with pytest.raises((RefusedError, UnreachableError)) as caught:
            link.call(IDENTIFY, identify_pb2.IdentifyRequest(), 5)
        assert check(caught.value), caught.value


class _Failure(grpc.RpcError):  # type: ignore[misc]
    def __init__(self, code: grpc.StatusCode, trailing: Any = ()) -> None:
        self._code, self._trailing = code, trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "from a proxy"

    def trailing_metadata(self) -> Any:
        return self._trailing


def test_a_proxy_is_not_our_server() -> None:
    """Without our ErrorInfo nothing may be concluded about what was sent."""
    address = parse_address("localhost:1")
    for code in grpc.StatusCode:
        error = transport.explain(_Failure(code), address)
        credential = code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        assert isinstance(error, RefusedError if credential else UnreachableError), code
    garbage = ((transport.DETAILS_KEY, b"\xff\xff"),)
    error = transport.explain(_Failure(grpc.StatusCode.INVALID_ARGUMENT, garbage), address)
    assert isinstance(error, UnreachableError)


@pytest.mark.parametrize(
    ("key", "url", "domain", "ours"),
    [
        (transport.DETAILS_KEY, transport.ERROR_INFO_URL, "genome-edge", True),
        (transport.DETAILS_KEY, transport.ERROR_INFO_URL, "somebody-else", False),
        (transport.DETAILS_KEY, "type.googleapis.com/google.rpc.Help", "genome-edge", False),
        ("other-details-bin", transport.ERROR_INFO_URL, "genome-edge", False),
    ],
)
def test_only_our_own_reasons_count(key: str, url: str, domain: str, ours: bool) -> None:
    info = errors_pb2.ErrorInfo(reason="BAD_FRAME", domain=domain)
    packed = any_pb2.Any(type_url=url, value=info.SerializeToString())
    status = errors_pb2.RpcStatus(details=[packed]).SerializeToString()
    failure = _Failure(grpc.StatusCode.INVALID_ARGUMENT, ((key, status),))
    error = transport.explain(failure, parse_address("localhost:1"))
    assert isinstance(error, RefusedError if ours else UnreachableError)


def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    credentials, ca_file = certificate(tmp_path)
    house = ContractServer(credentials)
    try:
        with Link(house.address, ca_file=ca_file) as link:
            assert link.address.tls
            assert link.call(ENROL, enrol_request()[1], 5).tenant == "acme"
        with Link(house.address) as link, pytest.raises(UnreachableError):
            link.call(ENROL, enrol_request()[1], 3)
        with Link(f"http://localhost:{house.port}") as link, pytest.raises(UnreachableError):
            link.call(ENROL, enrol_request()[1], 3)
    finally:
        house.stop()


def test_an_authority_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.pem"):
        Link("https://localhost:1", ca_file=tmp_path / "missing.pem")
