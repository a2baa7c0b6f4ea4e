"""Callers over real sockets: who is let in, and to what."""

from __future__ import annotations

import dataclasses
import errno
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from edge_sdk.sync.keys import DeviceKey
from genome_edge.v1 import (
    decision_pb2,
    decision_pb2_grpc,
    identify_pb2,
    identify_pb2_grpc,
    report_pb2,
    report_pb2_grpc,
)
from genome_server.errors import StoreError
from genome_server.home import Home, Tenant
from genome_server.log import LogReader
from genome_server.services import credentials
from genome_server.services.serve import House
from tests.serving import (
    RawDevice,
    add_code,
    add_thin,
    filler,
    info,
    make_home,
    make_tenant,
    publish_release,
    serving,
    until,
)

REPORT = "ReportService/Report"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = make_home(tmp_path_factory.mktemp("home"))
    make_tenant(home, "other", ("ann", "zoe"))
    publish_release(home.tenant("default"))
    return home


@pytest.fixture(scope="module")
def house(home: Home) -> Iterator[House]:
    with serving(home) as house:
        yield house


def enrolled(channel: grpc.Channel, tenant: Tenant) -> RawDevice:
    device = RawDevice(channel)
    device.enrol(add_code(tenant))
    return device


def refused(call: Any, code: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code
    return info(caught.value).reason


def test_an_enrolled_device_may_report(channel: grpc.Channel, tenant: Tenant) -> None:
    assert enrolled(channel, tenant).report(1, filler(1, 2), 2).received_through == 2


def test_the_credential_of_another_device_is_refused(channel: grpc.Channel, tenant: Tenant) -> None:
    one, two = enrolled(channel, tenant), enrolled(channel, tenant)
    one.credential = two.credential
    assert refused(lambda: one.report(1, filler(1, 1), 1)) == "UNAUTHENTICATED"


def test_a_proof_is_for_one_method(channel: grpc.Channel, tenant: Tenant) -> None:
    device = enrolled(channel, tenant)
    proof = device.metadata("/genome_edge.v1.IdentifyService/Identify")
    stub = report_pb2_grpc.ReportServiceStub(channel)
    request = report_pb2.ReportRequest()
    assert refused(lambda: stub.Report(request, metadata=proof)) == "UNAUTHENTICATED"


def test_a_recorded_call_is_refused_after_five_minutes(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    device.skew_ms = -4 * 60_000
    device.report(1, filler(1, 1), 1)
    for minutes in (-6, 6):
        device.skew_ms = minutes * 60_000
        with pytest.raises(grpc.RpcError) as caught:
            device.report(2, filler(2, 1), 2)
        found = info(caught.value)
        assert found.reason == "CLOCK_SKEW"
        assert abs(int(found.metadata["server_time_ms"]) - time.time() * 1000) < 5_000


def test_a_credential_of_another_tenant_opens_nothing_here(
    channel: grpc.Channel, home: Home
) -> None:
    device = enrolled(channel, home.tenant("other"))
    device.report(1, filler(1, 1), 1)
    for name, lanes in (("default", 0), ("other", 1)):
        with LogReader(home.tenant(name).log_path) as log:
            assert len(log.device_lanes(device.id)) == lanes
    # The same device, as the other tenant would have to sign it.
    forged = credentials.issue(
        DeviceKey.load(home.tenant("other").credential_key_path),
        "default",
        device.id,
        device.key.public_key().public_bytes_raw(),
        1,
    )
    device.credential = forged
    assert refused(lambda: device.report(2, filler(2, 1), 2)) == "UNAUTHENTICATED"


def test_a_revoked_device_is_refused(channel: grpc.Channel, tenant: Tenant) -> None:
    device = enrolled(channel, tenant)
    device.report(1, filler(1, 1), 1)
    with closing(tenant.open_store()) as store:
        store.revoke_device(device.id)
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert refused(lambda: device.report(2, filler(2, 1), 2), denied) == "CREDENTIAL_REVOKED"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("genome-edge-credential-bin", b"junk"),),
        # gRPC itself refuses headers above 8 KiB, now and then.
        (("genome-edge-credential-bin", bytes(7_000)),),
        (("authorization", "Bearer default.unknown"),),
        (("authorization", "Bearer nobody.unknown"),),
        (("authorization", "Bearer "),),
        (("authorization", "Basic YTpi"),),
    ],
)
def test_nothing_is_believed_without_proof(
    channel: grpc.Channel, metadata: tuple[tuple[str, str | bytes], ...]
) -> None:
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    request = decision_pb2.DecideRequest(placement="screen")
    assert refused(lambda: stub.Decide(request, metadata=metadata)) == "UNAUTHENTICATED"


def test_a_credential_without_proof_is_not_enough(channel: grpc.Channel, tenant: Tenant) -> None:
    device = enrolled(channel, tenant)
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    request = decision_pb2.DecideRequest(placement="screen")
    for metadata in (
        (("genome-edge-credential-bin", device.credential),),
        device.metadata("/genome_edge.v1.DecisionService/Decide")[:2],
        (*device.metadata("/x")[:2], ("genome-edge-time", "-1")),
    ):
        assert refused(lambda m=metadata: stub.Decide(request, metadata=m)) == "UNAUTHENTICATED"


def test_a_thin_client_may_decide_and_nothing_else(channel: grpc.Channel, tenant: Tenant) -> None:
    bearer = (("authorization", f"Bearer {add_thin(tenant)}"),)
    decide = decision_pb2.DecideRequest(placement="screen")
    assert decision_pb2_grpc.DecisionServiceStub(channel).Decide(decide, metadata=bearer).slots
    identify = identify_pb2_grpc.IdentifyServiceStub(channel)
    request = identify_pb2.IdentifyRequest(presence_token="x")
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert refused(lambda: identify.Identify(request, metadata=bearer), denied) == (
        "PERMISSION_DENIED"
    )


def test_a_revoked_thin_client_is_refused(channel: grpc.Channel, tenant: Tenant) -> None:
    token = add_thin(tenant)
    with closing(tenant.open_store()) as store:
        for known in store.thins():
            store.put_thin(dataclasses.replace(known, revoked=True))
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    request = decision_pb2.DecideRequest(placement="screen")
    bearer = (("authorization", f"Bearer {token}"),)
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert refused(lambda: stub.Decide(request, metadata=bearer), denied) == "CREDENTIAL_REVOKED"


def test_what_breaks_inside_is_an_error_without_details(
    channel: grpc.Channel, tenant: Tenant, house: House, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    device = enrolled(channel, tenant)

    def broken(*_: object) -> None:
        raise KeyError("customer-4711")

    monkeypatch.setattr(house.rooms["default"].log, "submit", broken)
    internal = grpc.StatusCode.INTERNAL
    assert refused(lambda: device.report(1, filler(1, 1), 1), internal) == "INTERNAL"
    until(lambda: "KeyError" in caplog.text)
    assert "4711" not in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_failure_of_the_server(
    channel: grpc.Channel, tenant: Tenant, house: House, monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:  # fmt: skip
    device = enrolled(channel, tenant)

    def full(*_: object) -> None:
        try:
            raise OSError(number, "no room for customer-4711")
        except OSError as error:
            raise StoreError("the tenant's database") from error

    monkeypatch.setattr(house.rooms["default"].log, "submit", full)
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused(lambda: device.report(1, filler(1, 1), 1), exhausted) == "NO_ROOM"
