"""Devices that do not keep to the contract of sync: they hurt nobody but themselves."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from genome_edge.v1 import stop_pb2, sync_pb2
from genome_server.errors import StoreBusy
from genome_server.home import Tenant
from genome_server.releases import trust
from genome_server.releases.stops import pause
from genome_server.services import keeper, live, shipping, stream
from genome_server.services.desk import CONTENTS
from genome_server.services.room import News
from genome_server.services.serve import House
from tests.serving import info, until
from tests.unit.syncing import NEW, Copy, buy, current, enrolled


@pytest.mark.parametrize("kind", ["ack", "nack"])
def test_an_answer_to_nothing_is_nobodys(kind: str, channel: grpc.Channel, tenant: Tenant) -> None:
    opened = Copy().hello(enrolled(channel, tenant), features=NEW)
    message = opened.skip_beats()
    while message is not None and not message.HasField("commit"):
        message = opened.skip_beats()
    assert message is not None
    for nonce in (message.commit.nonce + 7, message.commit.nonce - 1, 2**64 - 1):
        if kind == "ack":
            opened.say(ack=sync_pb2.Ack(nonce=nonce))
        else:
            opened.say(nack=sync_pb2.Nack(nonce=nonce, reason="DIGEST"))
    assert opened.quiet(0.3)
    other, copy = enrolled(channel, tenant), Copy()
    others = copy.hello(other, features=NEW)
    assert copy.take(others.transaction()) == "release", "everybody else is served"
    opened.say(ack=sync_pb2.Ack(nonce=message.commit.nonce))
    assert opened.transaction()[0].begin.kind == sync_pb2.Begin.KIND_GENOMES
    opened.close()
    others.close()


def test_what_a_hello_says_of_no_size_is_not_kept(
    house: House, channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    with pytest.raises(grpc.RpcError) as caught:
        Copy().hello(device, nonce=b"n" * 1_000_000).next()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for root_version in (5, 2**33, 2**64 - 1):
        copy = Copy()
        opened = copy.hello(
            device,
            features=[*NEW, "x" * 100_000],
            held_parts=[b"", b"p" * 100_000],
            partials=[sync_pb2.Partial(sha256=b"q" * 100_000, size=2**64 - 1)],
            genome_cursor=b"c" * 100_000,
            root_version=root_version,
        )
        assert copy.take(opened.transaction()) == "release"
        assert copy.take(opened.transaction()) == "full"
        assert len(opened.trust) == 1
        opened.close()
    assert house._sync is not None
    _, shipping = house._sync._desks["default"]
    assert len(shipping._trust[1]) == 1, "one answer for all who are ahead"
    assert not any(len(word) > 256 for words in shipping._sets for word in words)


def test_a_content_that_is_swept_while_it_is_sent_ends_with_a_goodbye(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept(path: Path, start: int) -> bytes:
        if path.parent.name == CONTENTS:
            path.unlink()
        return path.read_bytes()[start:]

    monkeypatch.setattr(shipping, "_read", swept)
    device, copy = enrolled(channel, tenant), Copy()
    opened = copy.hello(device, features=NEW)
    assert copy.take(opened.transaction()) == "release"
    message = opened.skip_beats()
    assert message is not None
    assert message.begin.HasField("content")
    message = opened.skip_beats()
    assert message is not None
    assert message.goodbye.retry_after_ms > 0
    assert opened.next() is None


def test_a_key_that_breaks_while_serving_stops_only_what_it_would_have_signed(
    house: House,
    channel: grpc.Channel,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(trust, "_KEYS_S", 0.1)
    device, opened, copy = current(channel, tenant, features=NEW)
    key = tenant.timestamp_key_path.read_bytes()
    tenant.timestamp_key_path.write_bytes(b"no key")
    with closing(tenant.open_store()) as store:
        store.withdraw_release(1)  # due to be signed
    desk = house.rooms["default"].trust
    before = desk.versions
    until(lambda: "cannot sign" in caplog.text, "it is said")
    buy(device, tenant, "ann", 1)
    assert copy.take(opened.transaction()) == "patch", "genomes go on"
    other = Copy().hello(enrolled(channel, tenant), features=NEW)
    message = other.next()
    assert message is not None
    assert message.HasField("heartbeat")
    other.close()
    tenant.timestamp_key_path.write_bytes(key)
    until(lambda: desk.versions > before, "it is found again")
    with closing(tenant.open_store()) as store:
        store.revoke_device(device.id)
    with pytest.raises(grpc.RpcError) as caught:
        opened.skip_beats()
    assert info(caught.value).reason == "CREDENTIAL_REVOKED"
    assert caplog.text.count("cannot sign") == 1


def test_genomes_go_on_after_a_look_that_failed(
    house: House, channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, opened, copy = current(channel, tenant, features=NEW)
    monkeypatch.setattr(live, "WATCH_S", 1_000.0)  # from now on only who applied events looks
    time.sleep(0.4)
    room = house.rooms["default"]
    look, failed = room.look, threading.Event()

    def fails_once() -> News:
        if not failed.is_set():
            failed.set()
            raise StoreBusy("for a test")
        return look()

    monkeypatch.setattr(room, "look", fails_once)
    for sequence in (1, 2):
        buy(device, tenant, "ann", sequence)
        assert copy.take(opened.transaction()) == "patch"
    assert failed.is_set()
    opened.close()


def test_a_release_that_is_repaired_on_the_server_is_offered_again(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "REPAIR_S", 0.1)
    monkeypatch.setattr(shipping, "_WHOLE_S", 0.1)
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.3)
    parts = {part: part.read_bytes() for part in tenant.parts_dir.iterdir()}
    for part in parts:
        part.unlink()
    copy = Copy()
    opened = copy.hello(enrolled(channel, tenant), features=NEW)
    assert opened.quiet(0.5)
    for part, content in parts.items():
        part.write_bytes(content)
    assert copy.take(opened.transaction()) == "release"
    opened.close()


def test_a_stop_does_not_wait_for_a_device_that_does_not_answer(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    opened = Copy().hello(enrolled(channel, tenant), features=NEW)
    message = opened.skip_beats()
    while message is not None and not message.HasField("commit"):
        message = opened.skip_beats()
    before = len(opened.trust)
    with closing(tenant.open_store()) as store:
        pause(tenant, store, ["taxi"])
    while (heard := opened.next(5.0)) is not None and not heard.HasField("trust"):
        assert heard.HasField("heartbeat")
    assert heard is not None
    stops = stop_pb2.StopList.FromString(heard.trust.stop_list.stop_list)
    assert (before, list(stops.offers)) == (1, ["taxi"])
    opened.close()


def test_a_stop_does_not_wait_for_a_file_that_is_on_its_way(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()

    def slow(path: Path, start: int) -> bytes:
        if path.parent.name != CONTENTS:
            return path.read_bytes()
        stopped.wait(2.0)
        time.sleep(0.05)
        return path.read_bytes()[start : start + 8]

    monkeypatch.setattr(shipping, "_read", slow)
    copy = Copy()
    opened = copy.hello(enrolled(channel, tenant), features=NEW)
    assert copy.take(opened.transaction()) == "release"
    message = opened.skip_beats()
    assert message is not None
    assert message.HasField("begin")
    with closing(tenant.open_store()) as store:
        pause(tenant, store, ["taxi"])
    stopped.set()
    kinds: list[str | None] = []
    while not kinds or kinds[-1] != "commit":
        message = opened.next()
        assert message is not None
        kinds.append(message.WhichOneof("message"))
    assert "chunk" in kinds[kinds.index("trust") :], "in the middle of it"
    opened.close()
