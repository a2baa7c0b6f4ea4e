"""Enrolment and identification over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.config import Config
from edge_sdk.errors import (
    RefusedError,
    TrustError,
    UnreachableError,
    UsageError,
)
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.updater import Updater, enrol, identify
from genome_edge.v1 import dna_pb2, identify_pb2, release_pb2
from tests.unit import devices
from tests.unit.contract_server import CODE, ContractServer, Refuse
from tests.unit.devices import FAST, Device
from tests.unit.publisher import ANNA, BEN, Publisher, certificate, rows

house, device = devices.house, devices.device


def test_enrolment_keeps_who_the_device_is(house: ContractServer, device: Device) -> None:
    identity = device.store.identity()
    assert identity is not None
    assert (identity.device_id, identity.tenant, identity.audience) == ("dev-1", "acme", "all")
    assert release_pb2.TrustRoot.FromString(identity.root) == house.publisher.root
    assert device.store.key_path.stat().st_mode & 0o777 == 0o600
    offset = device.store.server_offset_ms()
    assert offset is not None
    assert abs(offset) < 5_000
    with pytest.raises(UsageError, match="dev-1"):
        enrol(house.address, CODE, device.store, "again", FAST)


def test_a_wrong_code_leaves_a_store_that_can_try_again(
    house: ContractServer, tmp_path: Path
) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    with pytest.raises(RefusedError) as caught:
        enrol(house.address, "wrong", store, "lobby", FAST)
    assert caught.value.reason == "CODE_INVALID"
    assert store.identity() is None
    key = store.key_path.read_bytes()
    enrol(house.address, f" {CODE}\n", store, "lobby", FAST)
    assert store.key_path.read_bytes() == key, "the device stays who it was"
    store.close()


def test_a_code_is_for_one_device_and_a_lost_answer_is_made_good(
    house: ContractServer, tmp_path: Path
) -> None:
    one, two = DeviceStore.open(tmp_path / "one"), DeviceStore.open(tmp_path / "two")
    enrol(house.address, CODE, one, "one", FAST)
    with pytest.raises(RefusedError, match="refused"):
        enrol(house.address, CODE, two, "two", FAST)
    (one.path / "identity" / "identity.json").unlink()  # as if the answer had never come
    assert enrol(house.address, CODE, one, "one", FAST).device_id == "dev-1"
    one.close()
    two.close()


def test_enrolment_at_a_server_that_answers_for_somebody_else(
    house: ContractServer, tmp_path: Path
) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    house.publisher = Publisher(tenant="other")
    with pytest.raises(TrustError, match="tenants"):
        enrol(house.address, CODE, store, "lobby", FAST)
    assert store.identity() is None
    store.close()


def test_the_authority_given_at_enrolment_is_kept_with_the_store(tmp_path: Path) -> None:
    credentials, ca_file = certificate(tmp_path)
    house = ContractServer(credentials)
    store = DeviceStore.open(tmp_path / "edge")
    try:
        enrol(house.address, CODE, store, "lobby", Config(ca_file=ca_file))
        ca_file.unlink()
        house.release = house.publisher.release(1)
        updater = Updater(store, Outbox(store), FAST, lambda: None)
        assert updater.sync_once(10).release == 1
    finally:
        house.stop()
        store.close()


def test_identify(house: ContractServer, device: Device) -> None:
    lineage = house.publisher.lineage
    asked: list[identify_pb2.IdentifyRequest] = []

    def answer(request: identify_pb2.IdentifyRequest) -> identify_pb2.IdentifyResponse:
        asked.append(request)
        return identify_pb2.IdentifyResponse(subject=ANNA, genome=rows(lineage, ANNA), ttl_s=900)

    house.identify = answer
    found = identify(device.store, FAST, "token", lineage, 5)
    assert found is not None
    assert (found.subject, found.ttl_s) == (ANNA, 900)
    assert found.block == rows(lineage, ANNA)
    assert asked[0].presence_token == "token"
    assert asked[0].lineage == lineage


def always(
    answer: identify_pb2.IdentifyResponse | Refuse,
) -> Callable[[identify_pb2.IdentifyRequest], identify_pb2.IdentifyResponse | Refuse]:
    return lambda _: answer


def test_identify_nobody_or_a_row_that_cannot_be_read(
    house: ContractServer, device: Device
) -> None:
    lineage = house.publisher.lineage
    for reason in ("NOT_IN_AUDIENCE", "TOKEN_INVALID", "TOKEN_EXPIRED"):
        house.identify = always(Refuse(reason))
        assert identify(device.store, FAST, "token", lineage, 5) is None
    other = dna_pb2.Lineage(schema_epoch=77)
    for block in (rows(other, ANNA), rows(lineage, BEN), rows(lineage, ANNA, BEN)):
        house.identify = always(identify_pb2.IdentifyResponse(subject=ANNA, genome=block))
        found = identify(device.store, FAST, "token", lineage, 5)
        assert found is not None
        assert found.block is None
    house.identify = lambda _: Refuse("CREDENTIAL_REVOKED")
    with pytest.raises(RefusedError):
        identify(device.store, FAST, "token", lineage, 5)
    house.stop()
    with pytest.raises(UnreachableError):
        identify(device.store, FAST, "token", lineage, 2)
