"""One customer who is present, for devices that may know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest

from genome_edge.v1 import dna_pb2, identify_pb2, identify_pb2_grpc, release_pb2
from genome_server.home import Home, Tenant
from genome_server.services.credentials import presence_token
from tests.serving import (
    RawDevice,
    add_audience,
    add_code,
    info,
    make_home,
    now_ms,
    publish_release,
    serving,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = make_home(tmp_path_factory.mktemp("home"))
    tenant = home.tenant("default")
    add_audience(tenant, "members", ["ann"], identify="members")
    add_audience(tenant, "any", [], identify="any")
    add_audience(tenant, "none", ["ann"], identify="none")
    with closing(tenant.open_store()) as store:
        store.set_consents(store.subject_of("app", "eve") or b"", 0)
    publish_release(tenant)
    return home


@pytest.fixture(scope="module")
def channel(home: Home) -> Iterator[grpc.Channel]:
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        yield channel


def lineage(tenant: Tenant) -> dna_pb2.Lineage:
    with closing(tenant.open_store()) as store:
        row = store.release()
    assert row is not None
    signed = release_pb2.SignedManifest.FromString(row.manifest)
    return release_pb2.Manifest.FromString(signed.manifest).lineage


def subject_of(tenant: Tenant, name: str) -> bytes:
    with closing(tenant.open_store()) as store:
        return store.subject_of("app", name) or b""


def token(tenant: Tenant, subject: bytes, ttl_ms: int = 60_000) -> str:
    return presence_token(tenant.presence_key_path.read_bytes(), subject, now_ms() + ttl_ms)


def identify(
    channel: grpc.Channel, tenant: Tenant, audience: str, presence: str, **fields: object
) -> identify_pb2.IdentifyResponse:
    device = RawDevice(channel)
    device.enrol(add_code(tenant, audience))
    values = {"lineage": lineage(tenant), **fields}
    request = identify_pb2.IdentifyRequest(presence_token=presence, **values)  # type: ignore[arg-type]
    response = device.call(
        identify_pb2_grpc.IdentifyServiceStub, "IdentifyService/Identify", request
    )
    assert isinstance(response, identify_pb2.IdentifyResponse)
    return response


def refusal(channel: grpc.Channel, tenant: Tenant, audience: str, presence: str) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        identify(channel, tenant, audience, presence)
    return info(caught.value).reason, caught.value.details()


@pytest.mark.parametrize("audience", ["members", "any"])
def test_a_genome_for_a_visit(channel: grpc.Channel, tenant: Tenant, audience: str) -> None:
    ann = subject_of(tenant, "ann")
    response = identify(channel, tenant, audience, token(tenant, ann))
    assert response.subject == ann
    assert response.genome.subjects == ann
    assert response.genome.lineage == lineage(tenant)
    assert 0 < response.ttl_s <= 3_600


def test_outside_the_audience_nothing_is_told(channel: grpc.Channel, tenant: Tenant) -> None:
    known = token(tenant, subject_of(tenant, "bob"))
    nobody = token(tenant, b"?" * 16)
    answers = {
        refusal(channel, tenant, "members", known),
        refusal(channel, tenant, "members", nobody),
        refusal(channel, tenant, "any", nobody),
        refusal(channel, tenant, "none", token(tenant, subject_of(tenant, "ann"))),
    }
    assert len(answers) == 1
    assert answers.pop()[0] == "NOT_IN_AUDIENCE"


def test_without_consent_there_is_no_row(channel: grpc.Channel, tenant: Tenant) -> None:
    eve = subject_of(tenant, "eve")
    response = identify(channel, tenant, "any", token(tenant, eve))
    assert response.subject == eve
    assert not response.HasField("genome")


def test_a_row_that_the_device_cannot_read_is_not_sent(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    other = lineage(tenant)
    other.schema_epoch += 1
    presence = token(tenant, subject_of(tenant, "ann"))
    assert not identify(channel, tenant, "any", presence, lineage=other).HasField("genome")


def test_tokens_that_are_none(channel: grpc.Channel, tenant: Tenant) -> None:
    ann = subject_of(tenant, "ann")
    assert refusal(channel, tenant, "any", token(tenant, ann, -1))[0] == "TOKEN_EXPIRED"
    assert refusal(channel, tenant, "any", "made up")[0] == "TOKEN_INVALID"
    foreign = presence_token(bytes(32), ann, now_ms() + 60_000)
    assert refusal(channel, tenant, "any", foreign)[0] == "TOKEN_INVALID"
