"""How streams begin where the key that signs the time is new, and how many one device may have."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest

from edge_sdk.errors import TrustError
from edge_sdk.sync.roles import verify_roots, verify_time
from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.home import Tenant
from genome_server.releases.rotation import Wanted, rotate
from genome_server.releases.trust import TrustDesk
from genome_server.services import live, stream, sync
from genome_server.services.serve import House
from tests.serving import RawDevice, RawStream, frames, info, interaction, until
from tests.unit.syncing import NEW, Copy, enrolled

NONCE = bytes(range(16))


def root_of(tenant: Tenant) -> release_pb2.TrustRoot:
    with closing(tenant.open_store()) as store:
        return TrustDesk(tenant, store).root()


def new_key(tenant: Tenant, role: str = "timestamp") -> None:
    with closing(tenant.open_store()) as store:
        assert not rotate(tenant, store, Wanted(role)).lacking


class Believer:
    """A device as far as it believes roots and times."""

    def __init__(self, root: release_pb2.TrustRoot) -> None:
        self.root = root
        self.heard = 0
        self.refused: list[str] = []

    def hello(self, device: RawDevice) -> RawStream:
        return device.sync(
            features=NEW, root_version=self.root.version, nonce=NONCE, highest_release=1 << 60
        )

    def take(self, message: sync_pb2.SyncResponse | None) -> str:
        assert message is not None
        kind = str(message.WhichOneof("message"))
        try:
            if kind == "trust":
                self.root = verify_roots(self.root, message.trust.roots, 0)
            elif kind == "heartbeat":
                verify_time(message.heartbeat, self.root, NONCE)
                self.heard += 1
        except TrustError as error:
            self.refused.append(f"{kind}: {error}")
        return kind


@pytest.mark.parametrize("rotations", [1, 3])
def test_who_knows_no_key_of_ours_is_sent_the_root_before_the_time(
    channel: grpc.Channel, tenant: Tenant, house: House, rotations: int
) -> None:
    believer = Believer(root_of(tenant))
    device = enrolled(channel, tenant)
    for _ in range(rotations):
        new_key(tenant)
    room = house.rooms.of(tenant.name)
    until(lambda: room is not None and room.trust.versions[0] == 1 + rotations)
    opened = believer.hello(device)
    assert [believer.take(opened.next()) for _ in range(2)] == ["trust", "heartbeat"]
    assert believer.refused == []
    assert believer.root.version == 1 + rotations
    opened.close()


def test_else_the_time_comes_first(channel: grpc.Channel, tenant: Tenant) -> None:
    """The device may not know it, and what follows expires."""
    believer = Believer(root_of(tenant))
    device = enrolled(channel, tenant)
    new_key(tenant, "release")
    opened = believer.hello(device)
    assert [believer.take(opened.next()) for _ in range(2)] == ["heartbeat", "trust"]
    assert believer.refused == []
    opened.close()


def test_a_key_that_is_made_while_streams_are_open_signs_when_they_know_it(
    channel: grpc.Channel, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(live, "WATCH_S", 0.8)  # the key is here first, then known to be new
    believer = Believer(root_of(tenant))
    opened = believer.hello(enrolled(channel, tenant))

    def until_it_believes(version: int, heard: int) -> None:
        while believer.root.version < version or believer.heard < heard:
            believer.take(opened.next())

    for version in (2, 3, 4):
        rotating = threading.Thread(target=new_key, args=(tenant,))
        rotating.start()
        until_it_believes(version, 0)
        rotating.join()
        opened.say(heartbeat=sync_pb2.DeviceHeartbeat(root_version=version))
        until_it_believes(version, believer.heard + 4)
    assert believer.refused == []
    opened.close()


def test_a_device_that_follows_no_root_is_greeted_as_ever(
    channel: grpc.Channel, tenant: Tenant
) -> None:
    device = enrolled(channel, tenant)
    new_key(tenant)
    opened = device.sync(features=[], root_version=1, highest_release=1 << 60)
    first = opened.next(1)
    assert first is not None
    assert first.HasField("heartbeat")
    opened.close()


# How many ---------------------------------------------------------------------------------------


@pytest.fixture
def device(channel: grpc.Channel, tenant: Tenant) -> RawDevice:
    return enrolled(channel, tenant)


@pytest.fixture
def streams(device: RawDevice) -> Iterator[list[RawStream]]:
    """As many streams of the device as it may have, of which the first has said something last."""
    opened: list[RawStream] = []
    for _ in range(sync.STREAMS):
        opened.append(Copy().hello(device, wants_genomes=False))
        assert opened[-1].next() is not None
    opened[0].say(heartbeat=sync_pb2.DeviceHeartbeat(tier="fresh"))
    time.sleep(0.2)
    yield opened
    for one in opened:
        one.close()


def to_its_end(opened: RawStream) -> None:
    while opened.skip_beats() is not None:
        pass


def test_of_too_many_the_one_ends_that_was_silent_for_longest(
    streams: list[RawStream], device: RawDevice
) -> None:
    newest = Copy().hello(device, wants_genomes=False)
    assert newest.next() is not None
    with pytest.raises(grpc.RpcError) as caught:
        to_its_end(streams[1])
    assert info(caught.value).reason == "TOO_MANY_STREAMS"
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for one in (streams[0], *streams[2:], newest):
        assert one._call.is_active()
    newest.close()


def test_a_line_that_breaks_again_and_again_leaves_no_more(
    streams: list[RawStream], device: RawDevice, house: House
) -> None:
    assert house._sync is not None
    for _ in range(10):  # nobody ever hangs up
        streams.append(Copy().hello(device, wants_genomes=False))
        assert streams[-1].next() is not None
    until(lambda: len(house._sync._streams) == sync.STREAMS)  # type: ignore[union-attr]
    assert [len(own) for own in house._sync._of.values()] == [sync.STREAMS]
    for one in streams:
        one.close()
    until(lambda: not house._sync._of)  # type: ignore[union-attr]


def test_streams_that_say_nothing_count(
    channel: grpc.Channel, device: RawDevice, house: House
) -> None:
    """They never say Hello."""
    assert house._sync is not None
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(30)
        yield from ()

    path = "/genome_edge.v1.SyncService/Sync"
    calls = [
        channel.stream_stream(path)(nothing(), metadata=device.metadata(path)) for _ in range(10)
    ]
    ended = until(lambda: sum(not call.is_active() for call in calls) == 10 - sync.STREAMS)
    assert ended
    assert len(house._sync._streams) == sync.STREAMS
    over.set()


def test_other_devices_have_their_own(
    streams: list[RawStream], channel: grpc.Channel, tenant: Tenant
) -> None:
    other = Copy().hello(enrolled(channel, tenant), wants_genomes=False)
    assert other.next() is not None
    time.sleep(0.2)
    assert all(one._call.is_active() for one in (*streams, other))
    other.close()


def test_who_holds_no_genomes_waits_for_no_word_on_its_events(
    channel: grpc.Channel, tenant: Tenant, house: House
) -> None:
    """Else all of them would be woken whenever any device had reported anything."""
    device, copy = enrolled(channel, tenant), Copy()
    opened = copy.hello(device, wants_genomes=False)
    assert copy.take(opened.transaction()) == "release"
    device.report(1, frames(1, interaction(b"s" * 16, "buy", "soap", "one")), 1)
    room = house.rooms["default"]
    assert room.reports[device.id] == 1
    until(lambda: device.id not in room.unsettled)
    opened.close()
