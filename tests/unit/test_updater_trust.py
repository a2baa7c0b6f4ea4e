"""What is in force, signed time and long absences, over real sockets, with a real store."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import TrustError
from edge_sdk.status import DeviceFacts
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.meta import count_loss
from edge_sdk.sync import installing, worker
from edge_sdk.sync.installing import install
from genome_edge.v1 import release_pb2, stop_pb2, sync_pb2
from tests.unit.authority import Authority
from tests.unit.contract_server import ContractServer, Stream, until
from tests.unit.devices import Device, enrolled, running
from tests.unit.publisher import DAY_MS, Published, now_ms


@dataclass
class Town:
    """A server with keys by role, and a device that was enrolled under its root."""

    house: ContractServer
    authority: Authority
    device: Device
    version: int = 1
    stops: tuple[str, ...] = ()
    stops_version: int = 0
    signs: bool = True
    timestamps: dict[int, release_pb2.SignedTimestamp] = field(default_factory=dict)
    lists: dict[int, stop_pb2.SignedStopList] = field(default_factory=dict)

    def stop(self, *offers: str) -> None:
        """Pause offers."""
        self.stops, self.stops_version = offers, self.stops_version + 1
        self.version += 1

    def trust(self, after: int) -> sync_pb2.Trust:
        """What a device with root `after` lacks."""
        if self.stops_version not in self.lists:
            made = self.authority.stop_list(self.stops_version, *self.stops)
            self.lists[self.stops_version] = made
        stops = self.lists[self.stops_version]
        if self.version not in self.timestamps:
            releases = [self.house.release] if self.house.release is not None else []
            self.timestamps[self.version] = self.authority.timestamp(
                self.version,
                *releases,
                stops=stops if self.stops_version else None,
                expires_ms=now_ms() + self.house.skew_ms + 7 * DAY_MS,
            )
        timestamp = self.timestamps[self.version]
        roots = [signed for signed in self.authority.chain if version_of(signed) > after]
        message = sync_pb2.Trust(roots=roots, timestamp=timestamp)
        if self.stops_version:
            message.stop_list.CopyFrom(stops)
        return message

    def beat(self, stream: Stream) -> None:
        time_ms = now_ms() + self.house.skew_ms
        unsigned = sync_pb2.ServerHeartbeat(server_time_ms=time_ms)
        signed = self.authority.heartbeat(stream.hello.nonce, time_ms)
        stream.send(heartbeat=signed if self.signs else unsigned)

    def script(self, stream: Stream) -> None:
        """Trust first, then the release, then what changes."""
        said, nonce, offered = 0, 0, stream.hello.active_release
        while not stream.over:
            if said != self.version:
                said = self.version
                stream.send(trust=self.trust(stream.hello.root_version))
            self.beat(stream)
            release = self.house.release
            if release is not None and release.manifest.version > offered:
                nonce, offered = nonce + 1, release.manifest.version
                stream.offer(release, nonce)
                stream.answer(nonce)
            with stream._arrived:
                stream._arrived.wait_for(lambda: stream.over, 0.05)

    def heartbeats(self) -> list[sync_pb2.DeviceHeartbeat]:
        said = [message for stream in self.house.streams for message in stream.said]
        return [message.heartbeat for message in said if message.HasField("heartbeat")]


def version_of(signed: release_pb2.SignedRoot) -> int:
    return release_pb2.TrustRoot.FromString(signed.root).version


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with running() as house, enrolled(house, tmp_path / "edge") as device:
        authority = Authority(house.publisher)
        identity = device.store.identity()
        assert identity is not None
        device.store.set_identity(replace(identity, root=authority.root.SerializeToString()))
        device.store.put_trust(authority.root)
        made = Town(house, authority, device)
        house.script = made.script
        yield made


def test_a_pause_reaches_a_connected_device_and_is_said_back_at_once(town: Town) -> None:
    town.house.release = town.house.publisher.release(1)
    updater = town.device.updater(replace(town.device.config, heartbeat_s=60.0))
    updater.start()
    until(lambda: town.device.active == 1, "the release")
    until(lambda: any(b.active_release == 1 for b in town.heartbeats()), "said at once")
    paused = time.monotonic()
    town.stop("taxi")
    until(lambda: town.device.store.standing().stopped == {"taxi"}, "the stop list")
    until(lambda: any(b.stop_list_version == 1 for b in town.heartbeats()), "said back")
    assert time.monotonic() - paused < 3.0
    last = town.heartbeats()[-1]
    assert (last.root_version, last.timestamp_version) == (1, 2)
    assert abs(last.wall_ms - now_ms()) < 60_000
    assert updater.state.last_nack == ""
    assert len(town.house.streams) == 1


def test_a_stop_waits_for_no_model_that_hangs(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        hangs.set()
        assert go_on.wait(20)

    def play(stream: Stream) -> None:
        stream.send(trust=town.trust(0))
        town.beat(stream)
        stream.offer(town.house.publisher.release(1), 1)
        assert hangs.wait(10)
        town.stop("taxi")
        stream.send(trust=town.trust(1))
        town.beat(stream)
        stream.answer(1)
        stream.wait_for(lambda _: False, 60)

    monkeypatch.setattr(worker, "try_release", hang)
    town.house.script = play
    config = replace(town.device.config, heartbeat_s=0.1, stream_silence_s=0.3)
    updater = town.device.updater(config)
    updater.start()
    until(lambda: town.device.store.standing().stopped == {"taxi"}, "the stop list")
    until(lambda: any(b.stop_list_version == 1 for b in town.heartbeats()), "said back")
    time.sleep(0.5)
    assert len(town.house.streams) == 1, "who is busy with a release is not silent"
    assert town.device.active == 0
    go_on.set()
    until(lambda: town.device.active == 1, "the release")
    assert town.house.streams[0].answer(1) is not None


def test_the_end_of_a_stream_waits_for_the_trial_on_it(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    at_once = threading.Semaphore()
    release = town.house.publisher.release(1)

    def try_slowly(*_: object) -> None:
        assert at_once.acquire(blocking=False), "two trials at the same time"
        begun.append(time.monotonic())
        time.sleep(0.3)
        at_once.release()
        raise TrustError("it is too slow", "MODEL")

    def play(stream: Stream) -> None:
        town.beat(stream)
        before = len(begun)
        stream.offer(release, 1)
        while len(begun) == before and not stream.over:
            time.sleep(0.005)  # and then the line breaks

    monkeypatch.setattr(worker, "try_release", try_slowly)
    town.house.script = play
    updater = town.device.updater()
    updater.start()
    until(lambda: len(begun) >= 4, "tried again and again")
    assert all(later - one >= 0.3 for one, later in itertools.pairwise(begun))
    assert town.device.active == 0


def test_what_nobody_foresaw_of_a_trial_is_said_and_tried_again(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = worker.try_release
    tried: list[int] = []

    def fail_once(*given: Any) -> None:
        tried.append(1)
        if len(tried) == 1:
            raise MemoryError("no room to begin with")
        real(*given)

    monkeypatch.setattr(worker, "try_release", fail_once)
    town.house.release = town.house.publisher.release(1)
    town.device.updater().start()
    until(lambda: town.device.active == 1, "the release")
    assert "unforeseen" in caplog.text


def test_a_heartbeat_says_all_that_is_known(town: Town) -> None:
    device = town.device
    facts = DeviceFacts("stale", {"MATCH": 3}, "the model cannot be opened")
    given = iter([facts])
    device.store.facts = lambda: next(given, facts._replace(reasons={}))
    with device.store.write() as connection:
        count_loss(connection, "SPACE", 7)
    device.updater().start()
    beat = until(lambda: next(iter(town.heartbeats()), None), "a heartbeat")
    assert (beat.tier, beat.cause) == ("stale", "the model cannot be opened")
    assert dict(beat.counters) == {"SPACE": 7}
    until(lambda: sum(b.reasons["MATCH"] for b in town.heartbeats()) == 3, "each reason once")


def test_time_without_a_signature_is_not_believed(town: Town) -> None:
    town.signs = False
    town.house.skew_ms = 40 * DAY_MS
    town.device.happen("something")
    updater = town.device.updater()
    updater.start()
    until(town.house.events, "reported, though the proofs had to follow that clock")
    until(lambda: updater.state.last_nack.startswith("SIGNATURE"), "said")
    offset_ms = town.device.store.server_offset_ms()
    assert offset_ms is not None
    assert abs(offset_ms) < DAY_MS
    town.signs = True
    until(lambda: abs((town.device.store.server_offset_ms() or 0) - 40 * DAY_MS) < 60_000, "signed")
    until(lambda: updater.state.last_nack == "", "all is well")


@pytest.mark.parametrize("years", [-50.0, 0.0, 10.0])
def test_a_device_that_was_off_for_two_months_comes_back_by_itself(
    town: Town, years: float
) -> None:
    """Its release, its timestamp and its root have expired, all keys but the release's were
    changed, and its clock is wrong by years."""
    house, device, publisher = town.house, town.device, town.house.publisher
    town.authority.expires_ms = now_ms() + 20 * DAY_MS
    root = town.authority.root
    identity = device.store.identity()
    assert identity is not None
    device.store.set_identity(replace(identity, root=root.SerializeToString()))
    device.store.put_trust(root)
    town.stop("bus")
    house.release = publisher.release(1)
    first = device.updater()
    first.start()
    until(lambda: device.active == 1, "before it was switched off")
    until(lambda: device.store.standing().stopped == {"bus"}, "the stop list")
    assert first.stop(5)
    device.happen("while it was off")

    house.skew_ms = 60 * DAY_MS - int(years * 365 * DAY_MS)
    later = now_ms() + house.skew_ms
    town.authority.rotate(timestamp=True, expires_ms=later - 5 * DAY_MS)
    town.authority.rotate(timestamp=True, expires_ms=later + 300 * DAY_MS)
    town.stop("taxi")
    house.release = publisher.release(
        2, edit=lambda m: setattr(m, "expires_ms", later + 30 * DAY_MS)
    )
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 2, "the release")
    until(lambda: device.store.standing().stopped == {"taxi"}, "the stop list")
    standing = device.store.standing()
    assert standing.root == town.authority.root
    assert standing.timestamp is not None
    until(house.events, "what happened while it was off")
    until(lambda: abs((device.store.server_offset_ms() or 0) - house.skew_ms) < 60_000, "the time")
    until(lambda: updater.state.last_nack == "" and updater.state.cause is None, "all is well")


def test_a_release_that_failed_after_its_swap_is_reported_and_not_installed_again(
    town: Town,
) -> None:
    house, device = town.house, town.device
    house.release = house.publisher.release(1)
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 1, "the first release")
    house.release = house.publisher.release(2)
    until(lambda: device.active == 2, "the second release")
    device.store.release_failed(2, "0.1 instead of 0.5")
    until(lambda: house.streams[-1].hello.active_release == 1, "a new Hello says what is used")
    until(lambda: updater.state.last_nack.startswith("GOLDEN"), "it is not taken again")
    until(lambda: any("0.1 instead" in b.last_nack for b in town.heartbeats()), "reported")
    assert device.active == 1
    house.release = house.publisher.release(3)
    until(lambda: device.active == 3, "a better one")
    until(lambda: updater.state.last_nack == "", "all is well")


def test_a_release_that_fails_while_it_is_acknowledged_is_given_up_all_the_same(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, device = town.house, town.device

    def and_fail(
        store: DeviceStore, signed: release_pb2.SignedManifest, manifest: release_pb2.Manifest
    ) -> None:
        install(store, signed, manifest)
        if manifest.version == 2:
            device.store.release_failed(2, "0.1 instead of 0.5")

    monkeypatch.setattr(installing, "install", and_fail)
    house.release = house.publisher.release(1)
    device.updater().start()
    until(lambda: device.active == 1, "the first release")
    house.release = house.publisher.release(2)
    until(lambda: house.streams[-1].hello.active_release == 1, "a new Hello says what is used")


def test_one_sync_is_enough_though_the_clock_is_wrong(town: Town) -> None:
    house, device = town.house, town.device
    house.skew_ms = -3650 * DAY_MS
    then = now_ms() + house.skew_ms
    house.release = house.publisher.release(
        1, edit=lambda m: setattr(m, "expires_ms", then + DAY_MS)
    )
    assert device.updater().sync_once(20).release == 1


# Contents in parts ------------------------------------------------------------------------------


def test_a_download_goes_on_at_the_byte_where_the_line_broke(town: Town) -> None:
    house, device = town.house, town.device
    release = house.release = house.publisher.release(1)
    model = max(release.manifest.parts, key=lambda part: part.size)
    content = release.parts[model.sha256]
    sent: list[int] = []

    def script(stream: Stream) -> None:
        town.beat(stream)
        begin = sync_pb2.Begin(nonce=1, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed)
        stream.send(begin=begin)
        here = {partial.sha256: partial.size for partial in stream.hello.partials}
        lacking = [p for p in release.manifest.parts if p.sha256 not in stream.hello.held_parts]
        for part in sorted(lacking, key=lambda part: part.size):
            start = here.get(part.sha256, 0)
            end = start + 300 if part.sha256 == model.sha256 and len(sent) < 9 else part.size
            for offset in range(start, min(end, part.size), 100):
                data = release.parts[part.sha256][offset : min(offset + 100, end)]
                if part is model:
                    sent.append(len(data))
                stream.send(
                    chunk=sync_pb2.Chunk(nonce=1, sha256=part.sha256, offset=offset, data=data)
                )
            if end < part.size:
                until(lambda: device.store.partials().get(model.sha256) == sum(sent), "kept")
                return
        stream.send(commit=sync_pb2.Commit(nonce=1))
        stream.answer(1)
        stream.wait_for(lambda _: False, 60)

    house.script = script
    device.updater().start()
    until(lambda: device.active == 1, "the release")
    assert sum(sent) == len(content), "no byte came twice"
    assert device.store.partials() == {}


def test_assets_arrive_and_every_process_is_told(town: Town) -> None:
    house, device = town.house, town.device
    picture = b"a picture of a taxi" * 1000
    sha256 = hashlib.sha256(picture).digest()

    def pictured(manifest: release_pb2.Manifest) -> None:
        manifest.parts.add(name="taxi.png", size=len(picture), sha256=sha256, asset=True)

    release: Published = house.publisher.release(1, edit=pictured)
    held: list[frozenset[str]] = []

    def script(stream: Stream) -> None:
        town.beat(stream)
        if stream.hello.active_release == 0:
            begin = sync_pb2.Begin(
                nonce=1, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed
            )
            stream.send(begin=begin)
            for part in release.manifest.parts:
                if not part.asset:
                    stream.send_part(part, release.parts[part.sha256], 1)
            stream.send(commit=sync_pb2.Commit(nonce=1))
            stream.answer(1)
            held.append(device.store.assets_held(release.manifest))
            stream.send(begin=sync_pb2.Begin(nonce=2, kind=sync_pb2.Begin.KIND_ASSETS))
            stream.send_part(release.manifest.parts[-1], picture, 2, chunk=5000)
            stream.send(commit=sync_pb2.Commit(nonce=2))
            stream.answer(2)
            held.append(device.store.assets_held(release.manifest))
        stream.wait_for(lambda _: False, 60)

    before = device.store.changes()[3]
    house.script = script
    device.updater().start()
    until(lambda: len(held) == 2, "both")
    assert held == [frozenset(), {"taxi.png"}]
    assert device.active == 1
    assert device.store.changes()[3] > before
    assert device.store.part_path(sha256).read_bytes() == picture
