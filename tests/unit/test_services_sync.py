"""Sync over real sockets: releases, news within moments, and when a stream ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from genome_edge.v1 import sync_pb2
from genome_server.home import Home, Tenant
from genome_server.services import stream, sync
from genome_server.services.serve import House
from tests.serving import (
    RawDevice,
    RawStream,
    info,
    make_home,
    offer,
    publish_release,
    serving,
    until,
)
from tests.unit.syncing import (
    LOOKUP_KEY,
    Copy,
    buy,
    current,
    enrolled,
    lookup_hash,
    subject_of,
)


def seen_ms(tenant: Tenant, device: RawDevice) -> int:
    with closing(tenant.open_store()) as store:
        row = store.device(device.id)
    assert row is not None
    return row.seen_ms


def test_a_new_device_gets_the_release_and_its_genomes(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    copy = Copy()
    opened = copy.hello(device)
    first = opened.next()
    assert first is not None
    assert abs(first.heartbeat.server_time_ms - time.time() * 1000) < 5_000, "time comes first"
    release = opened.transaction()
    assert not release[0].begin.HasField("root"), "roots come signed, with Trust"
    assert copy.take(release) == "release"
    genomes = opened.transaction()
    assert genomes[0].begin.lineage == copy.manifest.lineage
    assert copy.take(genomes) == "full"
    assert copy.rows.keys() == {subject_of(tenant, name) for name in ("ann", "bob", "eve")}
    assert copy.lookups[lookup_hash("ann")] == subject_of(tenant, "ann")
    assert genomes[0].begin.lookup_key == LOOKUP_KEY
    idle = opened.next()
    assert idle is not None
    assert idle.HasField("heartbeat"), "nothing more for now"
    until(lambda: seen_ms(tenant, device) > 0, "it is known when it was seen last")
    opened.close()


def test_nothing_is_sent_again(channel: grpc.Channel, tenant: Tenant) -> None:
    device, opened, copy = current(channel, tenant)
    opened.close()
    opened = copy.hello(device)
    assert opened.quiet(0.4)
    opened.close()


def test_a_kiosk_gets_no_genomes(channel: grpc.Channel, tenant: Tenant) -> None:
    copy = Copy()
    opened = copy.hello(enrolled(channel, tenant), wants_genomes=False)
    assert copy.take(opened.transaction()) == "release"
    assert opened.quiet(0.4)
    opened.close()


def test_a_release_published_by_another_process_arrives(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    _, opened, copy = current(channel, tenant)
    held = dict(copy.parts)
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("tour", "service:tour")])
    assert publish_release(tenant) == 2
    messages = opened.transaction()
    assert copy.take(messages) == "release"
    assert copy.release == 2
    sent = {m.chunk.sha256 for m in messages if m.HasField("chunk")}
    names = {part.name for part in copy.manifest.parts if part.sha256 in sent}
    assert "offers" in names
    assert "placements" not in names
    assert not sent & held.keys()
    opened.close()


def test_a_refused_release_is_not_offered_again_and_genomes_still_come(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device, opened, copy = current(channel, tenant)
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("tour", "service:tour")])
    publish_release(tenant)
    assert opened.transaction(nack="GOLDEN")[0].begin.kind == sync_pb2.Begin.KIND_RELEASE
    assert opened.quiet(0.4)
    buy(device, tenant, "ann", 1)
    assert copy.take(opened.transaction()) == "patch"

    def nacked() -> bool:
        with closing(tenant.open_store()) as store:
            row = store.device(device.id)
        return row is not None and row.status.get("held_back") == "release 2: refused, GOLDEN"

    until(nacked, "the refusal is where people look for it")
    opened.close()


def test_a_revoked_device_gets_nothing_more(channel: grpc.Channel, tenant: Tenant) -> None:
    device, opened, _ = current(channel, tenant)
    other, other_stream, _ = current(channel, tenant)
    with closing(tenant.open_store()) as store:
        store.revoke_device(device.id)
    buy(other, tenant, "ann", 1)
    with pytest.raises(grpc.RpcError) as caught:
        opened.skip_beats()
    assert info(caught.value).reason == "CREDENTIAL_REVOKED"
    other_stream.close()


def test_features_that_a_device_lacks_keep_a_release_from_it(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    opened = Copy().hello(device, features=[])
    assert opened.quiet(0.4)
    opened.close()

    def why() -> str:
        with closing(tenant.open_store()) as store:
            row = store.device(device.id)
        return "" if row is None else str(row.status.get("held_back", ""))

    assert "it needs" in until(why)


def test_a_stream_begins_with_hello(channel: grpc.Channel, tenant: Tenant) -> None:
    device = enrolled(channel, tenant)
    opened = RawStream.__new__(RawStream)
    RawStream.__init__(opened, device, sync_pb2.Hello(epoch=b"short"))
    with pytest.raises(grpc.RpcError) as caught:
        opened.next()
    assert info(caught.value).metadata["field"] == "epoch"


def test_heartbeats_go_both_ways(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)
    device, opened, _ = current(channel, tenant)
    beats = [opened.next() for _ in range(4)]
    assert all(beat is not None and beat.HasField("heartbeat") for beat in beats)
    beat = sync_pb2.DeviceHeartbeat(
        active_release=1, tier="fresh", outbox_events=7, reasons={"CHOSEN": 3}
    )
    opened.say(heartbeat=beat)

    def status() -> dict[str, object]:
        with closing(tenant.open_store()) as store:
            row = store.device(device.id)
        assert row is not None
        return dict(row.status)

    found = until(lambda: status() if status().get("outbox") else None)
    assert found["tier"] == "fresh"
    assert found["reasons"] == {"CHOSEN": 3}
    opened.close()


def test_a_silent_device_is_let_go(
    channel: grpc.Channel, tenant: Tenant, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(stream, "SILENCE_S", 0.5)
    _, opened, _ = current(channel, tenant)
    assert opened.skip_beats() is None


def test_drain_says_goodbye_and_come_back(home: Home, tenant: Tenant) -> None:
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device, opened, _ = current(channel, tenant)
        assert house._sync is not None
        assert house._guard is not None
        house._guard.draining = True
        asyncio.run_coroutine_threadsafe(house._sync.drain(2.0), house._server._loop).result(5)
        message = opened.skip_beats()
        assert message is not None
        assert 500 <= message.goodbye.retry_after_ms <= 3_000
        assert opened.next() is None
        with pytest.raises(grpc.RpcError) as caught:
            buy(device, tenant, "ann", 1)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        found = info(caught.value)
        assert found.reason == "DRAINING"
        assert int(found.metadata["retry_after_ms"]) >= 500


def test_before_the_first_release_there_is_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path / "new")
    tenant = home.tenant("default")
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        copy = Copy()
        opened = copy.hello(enrolled(channel, tenant))
        assert opened.quiet(0.3)
        publish_release(tenant)
        assert copy.take(opened.transaction()) == "release"
        assert copy.take(opened.transaction()) == "full"
        opened.close()


def test_who_waits_in_line_is_served_though_others_are_slow(
    home: Home, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "PLACES", 1)
    monkeypatch.setattr(stream, "PLACE_S", 0.3)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        assert house._sync is not None
        line = house._sync._line
        # Somebody has the only place and keeps it for a while.
        asyncio.run_coroutine_threadsafe(line.acquire(), house._server._loop).result(5)
        copies = [Copy() for _ in range(5)]
        streams = [copy.hello(enrolled(channel, tenant)) for copy in copies]
        assert all(opened.quiet(0.3) for opened in streams)
        house._server._loop.call_soon_threadsafe(line.release)
        for copy, opened in zip(copies, streams, strict=True):
            assert copy.take(opened.transaction()) == "release"
            assert copy.take(opened.transaction()) == "full"
            opened.close()


@pytest.mark.parametrize("keeps", [0.05, 5.0])
def test_a_place_is_given_back_once(keeps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PLACE_S", keeps)

    async def nothing() -> None:
        pass

    async def scene() -> None:
        line = asyncio.Semaphore(1)
        one = stream.DeviceStream.__new__(stream.DeviceStream)
        one._line = line
        async with one.turn(nothing):
            assert line.locked()
            await asyncio.sleep(0.15)
            assert line.locked() == (keeps > 1), "who takes long goes on without a place"
        assert line._value == 1

    asyncio.run(scene())
