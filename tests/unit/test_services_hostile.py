"""Callers that mean no good: each gets a reason that programs can act on, and hurts nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from genome_edge.v1 import decision_pb2, decision_pb2_grpc, errors_pb2
from genome_server.home import Home, Tenant
from genome_server.services.serve import House
from tests.serving import (
    RawDevice,
    add_code,
    add_thin,
    info,
    make_home,
    publish_release,
    serving,
)

DECIDE = "/genome_edge.v1.DecisionService/Decide"
REPORT = "/genome_edge.v1.ReportService/Report"
SYNC = "/genome_edge.v1.SyncService/Sync"
NOTHING_READ = {"request_serializer": bytes, "response_deserializer": bytes}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = make_home(tmp_path_factory.mktemp("home"))
    publish_release(home.tenant("default"))
    return home


@pytest.fixture(scope="module")
def house(home: Home) -> Iterator[House]:
    with serving(home) as house:
        yield house


@pytest.fixture
def device(channel: grpc.Channel, tenant: Tenant) -> RawDevice:
    device = RawDevice(channel)
    device.enrol(add_code(tenant))
    return device


def refusal(call: Any) -> errors_pb2.ErrorInfo:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return info(caught.value)


def test_a_time_of_thousands_of_digits_proves_nothing(device: RawDevice) -> None:
    proof = dict(device.metadata(DECIDE)) | {"genome-edge-time": "1" * 5_000}
    stub = decision_pb2_grpc.DecisionServiceStub(device.channel)
    request = decision_pb2.DecideRequest(placement="screen")
    found = refusal(lambda: stub.Decide(request, metadata=tuple(proof.items())))
    assert found.reason == "UNAUTHENTICATED"


def test_bytes_that_are_no_message_are_an_argument_that_cannot_be(
    device: RawDevice, caplog: pytest.LogCaptureFixture
) -> None:
    report = device.channel.unary_unary(REPORT, **NOTHING_READ)
    found = refusal(lambda: report(b"\xff\xff\xff", metadata=device.metadata(REPORT)))
    assert found.reason == "INVALID_ARGUMENT"
    sync = device.channel.stream_stream(SYNC, **NOTHING_READ)
    found = refusal(lambda: list(sync(iter([b"\xff\xff"]), metadata=device.metadata(SYNC))))
    assert found.reason == "INVALID_ARGUMENT"
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_who_proves_nothing_is_not_told_how_messages_look(channel: grpc.Channel) -> None:
    report = channel.unary_unary(REPORT, **NOTHING_READ)
    assert refusal(lambda: report(b"\xff\xff\xff")).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "fields", [{"moment": {"place": "p" * 100_000}}, {"moment": {"activity": "\U0001f95a" * 9_000}}]
)
def test_a_refusal_does_not_repeat_more_than_a_client_can_take(
    channel: grpc.Channel, tenant: Tenant, fields: dict[str, Any]
) -> None:
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    request = decision_pb2.DecideRequest(placement="screen", **fields)
    token = (("authorization", f"Bearer {add_thin(tenant)}"),)
    found = refusal(lambda: stub.Decide(request, metadata=token, timeout=10))
    assert found.reason == "INVALID_ARGUMENT"


def test_a_kind_of_megabytes_is_refused_in_words(channel: grpc.Channel, tenant: Tenant) -> None:
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    request = decision_pb2.ImprintRequest(customer="ann", kind="k" * 1_000_000, product="soap")
    token = (("authorization", f"Bearer {add_thin(tenant)}"),)
    found = refusal(lambda: stub.Imprint(request, metadata=token, timeout=10))
    assert found.reason == "INVALID_ARGUMENT"


def test_a_device_that_claims_an_impossible_release_keeps_its_stream(device: RawDevice) -> None:
    stream = device.sync(active_release=2**64 - 1, wants_genomes=True)
    for _ in range(2):  # the greeting, and: nothing more for now
        message = stream.next()
        assert message is not None
        assert message.HasField("heartbeat")
    assert stream.quiet(0.3)
    stream.close()
