"""The simulated world: what it says is what a device takes, and what is bent is bent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import Config, Context, EdgeClient
from edge_sdk.decision import Reason
from edge_sdk.dna.schema import default_schema
from edge_sdk.errors import DiskFull, StoreCorrupt, TrustError, UnreachableError
from edge_sdk.runtime import loading
from edge_sdk.simulated.parts import model_for
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.actions import Held
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.roles import Standing, take
from edge_sdk.testing import (
    SimulatedClock,
    SimulatedDisk,
    SimulatedNetwork,
    SimulatedServer,
    serve,
)
from genome_edge.v1 import release_pb2, sync_pb2
from tests.unit.device_town import until

TAXI = {"id": "taxi", "content": {"title": "A taxi"}, "value": 5}
BUS = {"id": "bus", "content": {"title": "A bus"}}
RELEASE = sync_pb2.Begin.KIND_RELEASE
ASSETS = sync_pb2.Begin.KIND_ASSETS
GENOMES = sync_pb2.Begin.KIND_GENOMES
FAST = Config(heartbeat_s=0.1, watch_s=0.05, reconnect_min_s=0.05)


def server_of(seed: int = 1) -> SimulatedServer:
    server = SimulatedServer(seed=seed, now_ms=SimulatedClock().now_ms)
    server.publish([TAXI, BUS], assets={"taxi.png": b"picture" * 100_000})
    server.pause("bus")
    server.rotate("timestamp", keys=2, threshold=2)
    server.put_customer("anna", {"daypart:morning": 1.0})
    return server


def told(server: SimulatedServer, **hello: object) -> list[bytes]:
    made = sync_pb2.Hello(root_version=1, wants_genomes=True, nonce=bytes(16), **hello)  # type: ignore[arg-type]
    return [message.SerializeToString(deterministic=True) for message in server.answer(made)]


def test_everything_follows_from_the_seed() -> None:
    assert told(server_of()) == told(server_of())
    assert told(server_of()) != told(server_of(2))


def test_what_it_says_can_be_believed() -> None:
    server = server_of()
    first = release_pb2.TrustRoot.FromString(server.roots[0].root)
    hello = sync_pb2.Hello(root_version=1)
    taken = take(Standing(first), server.trust(hello), server.now_ms())
    assert not taken.refused
    assert taken.standing.root == server.root
    assert taken.standing.stopped == {"bus"}
    signed = server.releases[1]
    assert taken.standing.fresh_until(1, bytes(32), 0) == 0
    assert taken.standing.timestamp is not None
    (named,) = taken.standing.timestamp.releases
    assert taken.standing.fresh_until(1, named.manifest_sha256, 0) > server.now_ms()
    assert release_pb2.Manifest.FromString(signed.manifest).version == 1


def test_a_new_root_comes_before_the_time_that_its_key_signs() -> None:
    server = server_of()

    def first_two(root_version: int) -> list[str | None]:
        hello = sync_pb2.Hello(root_version=root_version, nonce=bytes(16))
        said = server.answer(hello)
        return [next(said).WhichOneof("message") for _ in range(2)]

    assert first_two(1) == ["trust", "heartbeat"]
    assert first_two(len(server.roots)) == ["heartbeat", "trust"]


def test_its_model_is_the_one_that_a_server_starts_with() -> None:
    from genome_server.learning.export import ModelFacts, untrained_model

    words = server_of().vocabulary
    assert model_for(words) == untrained_model(ModelFacts(words.lineage, len(words)))


def test_a_vocabulary_only_grows() -> None:
    server = server_of()
    before = list(server.vocabulary)
    server.publish([{"id": "book", "dna": ["category:book"]}])
    assert list(server.vocabulary)[: len(before)] == before


def test_a_client_lives_with_it(tmp_path: Path) -> None:
    server = SimulatedServer()
    server.publish([TAXI, BUS])
    server.put_customer("anna", {"daypart:morning": 1.0})
    with serve(server) as house:
        house.enrol(tmp_path / "store")
        client = EdgeClient(tmp_path / "store", config=FAST)
        try:
            assert client.wait_ready(20)
            until(lambda: client.status.genomes == 1)
            decision = client.decide(Context(), "any", customer="anna")
            assert decision.offer is not None
            assert decision.offer.id == "taxi"
            client.report(decision, "view")
            until(lambda: len(house.events) == 2)
            server.pause("taxi")
            until(lambda: client.decide(Context(), "any").reason is Reason.CHOSEN)
            until(lambda: _shown(client) == "bus")
            server.publish([TAXI, {"id": "tram", "value": 9}])
            until(lambda: _shown(client) == "tram")
            assert not house.nacks
        finally:
            client.close()


def test_a_device_remembers_what_it_was_told_and_uses_what_it_has(tmp_path: Path) -> None:
    server = SimulatedServer()
    server.publish([TAXI, BUS])
    with serve(server) as house:
        house.enrol(tmp_path / "store")
        client = EdgeClient(tmp_path / "store", config=FAST)
        assert client.wait_ready(20)
        server.pause("taxi")
        until(lambda: _shown(client) == "bus")
        server.rotate("root", "release", "timestamp")
        until(lambda: any(one.heartbeat.root_version == 2 for one in house.said))
        client.close()
    again = EdgeClient(tmp_path / "store", config=FAST)
    try:
        assert again.wait_ready(20), again.status
        assert again.status.release == 1, "signed by keys that the root has no more, and held"
        assert _shown(again) == "bus"
        assert again.status.tier == "fresh"
    finally:
        again.close()
    with serve(server, port=int(house.address.rpartition(":")[2])) as house:
        server.publish([{"id": "tram"}])
        client = EdgeClient(tmp_path / "store", config=FAST)
        until(lambda: _shown(client) == "tram")
        client.close()
        assert not house.nacks


def bundle_of(server: SimulatedServer, root: release_pb2.TrustRoot) -> bytes:
    manifest = release_pb2.Manifest.FromString(server.releases[server.offered].manifest)
    return release_pb2.Bundle(
        manifest=server.releases[server.offered],
        root=root,
        parts=[
            release_pb2.PartContent(name=part.name, content=server.contents[part.sha256])
            for part in manifest.parts
        ],
    ).SerializeToString()


def test_a_device_takes_a_good_release_after_one_of_a_thief(tmp_path: Path) -> None:
    server = SimulatedServer()
    server.publish([TAXI])
    with serve(server) as house:
        house.enrol(tmp_path / "store")
        client = EdgeClient(tmp_path / "store", config=FAST)
        try:
            assert client.wait_ready(20)
            server.signers["release"] = [server.new_key()]
            server.publish([TAXI, {"id": "casino"}])
            until(lambda: house.nacks)
            assert house.nacks == ["SIGNATURE"]
            assert _shown(client) == "taxi"
            stamped = len(server.timestamps)
            server.stamp()
            until(lambda: any(one.heartbeat.timestamp_version == stamped + 1 for one in house.said))
            assert house.nacks == ["SIGNATURE"], "what was refused on a stream stays away from it"
            del server.signers["release"]
            server.publish([TAXI, {"id": "casino"}, {"id": "tram", "value": 9}])
            until(lambda: _shown(client) == "tram")
            assert house.nacks == ["SIGNATURE"]
        finally:
            client.close()


def test_keys_that_were_given_up_open_no_bundle(tmp_path: Path) -> None:
    server = SimulatedServer()
    server.publish([TAXI, BUS])
    first, stolen = server.root, server.keys["release"]
    with serve(server) as house:
        house.enrol(tmp_path / "store")
        server.rotate("release")
        client = EdgeClient(tmp_path / "store", config=FAST)
        assert client.wait_ready(20)
        until(lambda: any(one.heartbeat.root_version == 2 for one in house.said))
        client.close()
    store = DeviceStore.open(tmp_path / "store")
    server.signers["release"] = stolen
    server.publish([{"id": "casino"}])
    with pytest.raises(TrustError) as caught:
        loading.open_bundle(bundle_of(server, first), store)
    assert caught.value.reason == "ROOT"
    del server.signers["release"]
    server.publish([{"id": "tram"}])
    assert loading.open_bundle(bundle_of(server, server.root), store)[1].version == 3
    store.close()


def _shown(client: EdgeClient) -> str:
    offer = client.decide(Context(), "any").offer
    return offer.id if offer is not None else ""


def test_a_device_goes_on_after_a_line_that_breaks(tmp_path: Path) -> None:
    server = SimulatedServer()
    server.publish([TAXI], assets={"taxi.png": b"picture" * 100_000})
    with serve(server, SimulatedNetwork(cut_at=1_200)) as house:
        house.enrol(tmp_path / "store")
        client = EdgeClient(tmp_path / "store", config=FAST)
        try:
            until(lambda: len([one for one in house.said if one.HasField("hello")]) > 2)
            house.network.cut_at = None
            assert client.wait_ready(20)
            hellos = [one.hello for one in house.said if one.HasField("hello")]
            assert len(hellos[-1].held_parts) > len(hellos[0].held_parts), "it goes on, not anew"
        finally:
            client.close()


def test_a_machine_is_told_without_a_socket() -> None:
    server = server_of()
    first = release_pb2.TrustRoot.FromString(server.roots[0].root)
    machine = SyncMachine(Held(standing=Standing(first), epoch=b"e" * 16, sdk_version="0"))
    todo: list[str] = []
    for message in server.answer(machine.hello().hello):
        actions = machine.receive(message, server.now_ms())
        todo += [type(action).__name__ for action in actions]
        if message.HasField("commit"):
            machine.settle(message.commit.nonce)
    assert "InstallRelease" in todo, todo
    assert "ApplyGenomes" in todo, todo
    assert machine.last_nack == ""


def carried(network: SimulatedNetwork) -> list[int]:
    def messages() -> list[sync_pb2.SyncResponse]:
        beats = [sync_pb2.ServerHeartbeat(server_time_ms=n) for n in range(1, 201)]
        return [sync_pb2.SyncResponse(heartbeat=beat) for beat in beats]

    return [one.heartbeat.server_time_ms for one in network.carry(messages())]


@pytest.mark.parametrize(
    ("bad", "holds"),
    [
        ({}, lambda got: got == list(range(1, 201))),
        ({"drop": 0.5}, lambda got: 50 < len(got) < 150 and got == sorted(got)),
        ({"repeat": 0.5}, lambda got: len(got) > 250 and len(set(got)) == 200),
        ({"reorder": 5}, lambda got: got != sorted(got) and len(set(got)) == len(got) == 200),
    ],
)
def test_what_a_network_does_to_a_stream(
    bad: dict[str, Any], holds: Callable[[list[int]], bool]
) -> None:
    got = carried(SimulatedNetwork(**bad))
    assert holds(got)
    assert got == carried(SimulatedNetwork(**bad)), "the same again"


def test_a_network_cuts_waits_and_loses_calls() -> None:
    with pytest.raises(UnreachableError):
        carried(SimulatedNetwork(cut_at=50))
    clock = SimulatedClock(0)
    carried(SimulatedNetwork(delay_s=1, wait=lambda s: clock.move(seconds=s)))
    assert clock.now_ms() == 200_000
    served: list[int] = []
    network, answered = SimulatedNetwork(3, drop=0.5, repeat=0.5, reorder=3), 0
    for number in range(200):
        try:
            network.call(served.append, number)
            answered += 1
        except UnreachableError:
            pass
    assert answered < 150
    assert len(set(served)) > answered, "some requests arrived whose answer was lost"
    assert len(served) > len(set(served)), "some arrived twice"


def test_a_disk_fails_loses_and_is_damaged(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "store")
    disk = SimulatedDisk(tmp_path / "store", seed=1)
    content = b"part" * 100
    digest = hashlib.sha256(content).digest()
    with disk.full():
        with pytest.raises(DiskFull):
            store.stage_part(digest, content)
        with pytest.raises(DiskFull):
            store.heard_server(5)
    disk.keep()
    store.stage_part(digest, content)
    assert store.read_part(digest) == content
    store.close()
    disk.lose()
    store = DeviceStore.open(tmp_path / "store")
    with pytest.raises(KeyError):
        store.read_part(digest)
    for damage in (disk.flip, disk.cut):
        store.stage_part(digest, content)
        path, at = damage(digest.hex())
        assert 0 <= at < len(content)
        assert path.name == digest.hex()
        with pytest.raises(StoreCorrupt):
            store.read_part(digest)
    store.close()


def test_an_asset_that_is_here_but_for_its_end_is_offered() -> None:
    server = SimulatedServer("town", seed=1)
    server.publish([TAXI], assets={"taxi.png": b"picture"})
    manifest = release_pb2.Manifest.FromString(server.releases[1].manifest)
    asset = next(part for part in manifest.parts if part.asset)
    hello = sync_pb2.Hello(
        active_release=1,
        held_parts=[part.sha256 for part in manifest.parts if not part.asset],
        partials=[sync_pb2.Partial(sha256=asset.sha256, size=asset.size)],
    )
    kinds = [said.begin.kind for said in server.answer(hello) if said.HasField("begin")]
    assert kinds == [sync_pb2.Begin.KIND_ASSETS]


def test_assets_and_rows_go_with_the_release_that_a_device_has() -> None:
    server = SimulatedServer("town", seed=1)
    server.publish([TAXI], assets={"taxi.png": b"one"})
    server.publish([TAXI], assets={"taxi.png": b"another"})
    server.put_customer("anna", {"daypart:morning": 1.0})
    old, new = (hashlib.sha256(one).digest() for one in (b"one", b"another"))

    def sent(active: int, **more: Any) -> tuple[set[bytes], list[Any]]:
        hello = sync_pb2.Hello(active_release=active, wants_genomes=True)
        said = list(server.answer(hello, **more))
        kinds = [one.begin.kind for one in said if one.HasField("begin")]
        return {one.chunk.sha256 for one in said} & {old, new}, kinds

    assert sent(1) == ({new}, [RELEASE, ASSETS, GENOMES])
    assert sent(1, took=lambda: False) == ({old}, [RELEASE, ASSETS, GENOMES])
    assert sent(1, refused=2) == ({old}, [ASSETS, GENOMES])
    assert sent(0, took=lambda: False) == (set(), [RELEASE])
    server.schema = default_schema(server.schema.landmark_hour + 1)
    assert sent(1, refused=2) == ({old}, [ASSETS]), "it could not read the rows"
