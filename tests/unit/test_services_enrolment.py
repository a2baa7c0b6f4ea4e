"""A code becomes a credential, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest

from genome_edge.v1 import enrolment_pb2, enrolment_pb2_grpc
from genome_server.home import Home, Tenant
from genome_server.services.credentials import name_key, secret_hash
from tests.serving import (
    RawDevice,
    add_audience,
    add_code,
    filler,
    info,
    make_home,
    now_ms,
    serving,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def channel(home: Home) -> Iterator[grpc.Channel]:
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        yield channel


def refused(device: RawDevice, code: str) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        device.enrol(code)
    return info(caught.value).reason


def test_a_code_makes_a_device(channel: grpc.Channel, tenant: Tenant) -> None:
    add_audience(tenant, "some", ["ann"])
    device = RawDevice(channel)
    response = device.enrol(add_code(tenant, "some"), name="  lobby kiosk 2 ")
    assert (response.tenant, response.audience) == ("default", "some")
    assert abs(response.server_time_ms - now_ms()) < 5_000
    root = response.root
    assert (root.tenant, root.version, root.threshold, len(root.release_keys)) == (
        "default", 1, 1, 1,
    )  # fmt: skip
    with closing(tenant.open_store()) as store:
        row = store.device(response.device_id)
    assert row is not None
    assert (row.name, row.audience, row.sdk_version) == ("lobby kiosk 2", "some", "raw")
    assert row.public_key == device.key.public_key().public_bytes_raw()
    assert device.report(1, filler(1, 1), 1).received_through == 1


def test_a_code_works_once(channel: grpc.Channel, tenant: Tenant) -> None:
    code = add_code(tenant)
    RawDevice(channel).enrol(code)
    assert refused(RawDevice(channel), code) == "CODE_USED"


def test_a_lost_answer_can_be_asked_for_again(channel: grpc.Channel, tenant: Tenant) -> None:
    code = add_code(tenant)
    device = RawDevice(channel)
    first, second = device.enrol(code), device.enrol(code)
    assert first.device_id == second.device_id
    assert first.credential == second.credential
    with closing(tenant.open_store()) as store:
        store.revoke_device(first.device_id)
    assert refused(device, code) == "CODE_USED"


def test_codes_that_are_none(channel: grpc.Channel, tenant: Tenant) -> None:
    assert refused(RawDevice(channel), add_code(tenant, expires_ms=-1)) == "CODE_EXPIRED"
    for code in ("default.AAAA-BBBB-CCCC-DDDD", "nobody.AAAA-BBBB-CCCC-DDDD", "AAAA", ""):
        assert refused(RawDevice(channel), code) == "CODE_INVALID"


def test_a_code_alone_is_not_enough(channel: grpc.Channel, tenant: Tenant) -> None:
    """Whoever overhears a code cannot enrol somebody else's key with it, nor use it up."""
    code = add_code(tenant)
    owner, thief = RawDevice(channel), RawDevice(channel)
    request = enrolment_pb2.EnrolRequest(
        code=code,
        public_key=owner.key.public_key().public_bytes_raw(),
        proof=thief.key.sign(b"genome-edge/enrol/v1\n" + code.encode()),
    )
    with pytest.raises(grpc.RpcError) as caught:
        enrolment_pb2_grpc.EnrolmentServiceStub(channel).Enrol(request)
    assert info(caught.value).reason == "UNAUTHENTICATED"
    assert owner.enrol(code).device_id


def test_the_name_that_came_with_the_code_stands(channel: grpc.Channel, tenant: Tenant) -> None:
    code = add_code(tenant)
    with closing(tenant.open_store()) as store:
        store.set_meta(name_key(secret_hash(code)), "till 4")
        response = RawDevice(channel).enrol(code, name="raspberrypi")
        row = store.device(response.device_id)
    assert row is not None
    assert row.name == "till 4"
