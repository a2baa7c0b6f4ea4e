"""Releases over real sockets, with a real store: what arrives, and what is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edge_sdk.config import Config
from edge_sdk.errors import (
    DiskFull,
    RefusedError,
    UnreachableError,
)
from edge_sdk.store import partials
from edge_sdk.sync.pace import Backoff
from genome_edge.v1 import sync_pb2
from tests.unit import devices
from tests.unit.contract_server import ContractServer, Refuse, Stream, until
from tests.unit.devices import FAST, Device, words
from tests.unit.publisher import Publisher, golden, now_ms

house, device = devices.house, devices.device


def test_a_release_arrives_and_a_newer_one_replaces_it(
    house: ContractServer, device: Device
) -> None:
    house.release = house.publisher.release(1)
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 1, "the first release")
    until(lambda: updater.state.connected, "connected")
    assert device.changes
    house.release = house.publisher.release(2)
    until(lambda: device.active == 2, "the second release")
    previous = device.store.previous_release()
    assert previous is not None
    assert previous.version == 1
    assert updater.state.cause is None
    assert updater.state.last_contact_ms > 0


def test_a_cut_download_goes_on_with_what_is_lacking(house: ContractServer, device: Device) -> None:
    release = house.release = house.publisher.release(1)
    model = max(release.manifest.parts, key=lambda part: part.size)
    sent: list[set[bytes]] = []

    def cut_in_the_model(stream: Stream) -> None:
        lacking = set(release.parts) - set(stream.hello.held_parts)
        sent.append(lacking)
        if len(sent) == 1:
            manifest = sync_pb2.Begin(
                nonce=1, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed
            )
            stream.send(begin=manifest)
            for part in release.manifest.parts:
                if part is not model:
                    stream.send_part(part, release.parts[part.sha256], 1)
            stream.send_part(model, release.parts[model.sha256][:100], 1, chunk=50)
            until(lambda: len(device.store.held_parts()) == len(release.parts) - 1, "all but one")
            return  # the stream ends in the middle of a part
        house.keep_current(stream)

    house.script = cut_in_the_model
    device.updater().start()
    until(lambda: device.active == 1, "the release")
    assert sent[1] == {model.sha256}, "the parts that were whole are not sent again"


def test_a_server_killed_in_the_middle_of_a_part(house: ContractServer, device: Device) -> None:
    release = house.release = house.publisher.release(1)
    model = max(release.manifest.parts, key=lambda part: part.size)
    reached = threading.Event()

    def stall(stream: Stream) -> None:
        stream.send(
            begin=sync_pb2.Begin(nonce=1, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed)
        )
        stream.send_part(model, release.parts[model.sha256][:64], 1)
        reached.set()
        stream.wait_for(lambda _: False, 60)

    house.script = stall
    updater = device.updater()
    updater.start()
    assert reached.wait(10)
    house.stop()
    until(lambda: updater.state.cause is not None and not updater.state.connected, "noticed")
    assert isinstance(updater.state.cause, UnreachableError)
    assert device.active == 0
    house.script = house.keep_current
    house.start()
    until(lambda: device.active == 1, "the release from the restarted server")
    until(lambda: updater.state.cause is None, "all is well again")


def bad_model(release: bytes = b"not a model") -> dict[str, bytes]:
    return {"model": release}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: p.release(2, key=Publisher().key), "SIGNATURE"),
        (lambda p: p.release(2, edit=lambda m: setattr(m, "expires_ms", 1)), "EXPIRED"),
        (lambda p: p.release(2, edit=lambda m: setattr(m.parts[0], "size", 1 << 40)), "TOO_LARGE"),
        (lambda p: p.release(2, change=bad_model()), "MODEL"),
        (lambda p: p.release(2, change=golden(0.75)), "GOLDEN"),
        (lambda p: p.release(2, change={"offers": b"\xff\xff"}), "FORMAT"),
        (lambda p: p.release(2, edit=lambda m: setattr(m.lineage, "schema_epoch", 9)), "LINEAGE"),
    ],
)
def test_a_release_that_cannot_be_used_is_refused_and_the_last_good_one_stays(
    house: ContractServer, device: Device, make: Callable[[Publisher], Any], reason: str
) -> None:
    house.release = house.publisher.release(1)
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 1, "the good release")
    house.release = make(house.publisher)
    until(lambda: updater.state.last_nack.startswith(reason), f"refused for {reason}")
    assert device.active == 1
    said = house.streams[0].said
    (nack,) = until(lambda: [m.nack for m in said if m.HasField("nack")], "the Nack arrived")
    assert nack.reason == reason
    assert nack.detail
    until(lambda: any(m.heartbeat.last_nack for m in house.streams[0].said), "in a heartbeat")
    # A better one is taken on the same stream.
    house.release = house.publisher.release(3)
    until(lambda: device.active == 3, "the next release")
    until(lambda: updater.state.last_nack == "", "all is well")
    assert len(house.streams) == 1


def test_a_chunk_of_other_bytes_is_refused_and_fetched_again(
    house: ContractServer, device: Device
) -> None:
    release = house.publisher.release(1)
    forged = replace(release, parts={s: bytes(reversed(c)) for s, c in release.parts.items()})

    def forge_once(stream: Stream) -> None:
        house.release = forged if len(house.streams) == 1 else release
        house.keep_current(stream)

    house.script = forge_once
    device.updater().start()
    until(lambda: device.active == 1, "the release from an honest stream")
    nacks = [m.nack.reason for m in house.streams[0].said if m.HasField("nack")]
    assert nacks == ["DIGEST"]


def test_a_full_disk_is_said_and_tried_again(
    house: ContractServer, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, full = device.store.stage_part, threading.Event()
    full.set()

    def stage_part(sha256: bytes, data: bytes) -> None:
        if full.is_set():
            raise DiskFull("no room is left")
        stage(sha256, data)

    monkeypatch.setattr(device.store, "stage_part", stage_part)
    house.release = house.publisher.release(1)
    updater = device.updater()
    updater.start()
    until(lambda: updater.state.last_nack.startswith("DISK_FULL"), "refused for that")
    full.clear()
    until(lambda: device.active == 1, "tried again by itself")


def test_what_cannot_fit_is_said_once_and_keeps_no_stop_from_the_device(
    house: ContractServer,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spare = partials._SPARE_BYTES
    monkeypatch.setattr(partials, "_SPARE_BYTES", 1 << 60)
    house.release = house.publisher.release(1)
    updater = device.updater(replace(FAST, heartbeat_s=0.2))
    updater.start()
    until(lambda: updater.state.last_nack.startswith("DISK_FULL"), "refused for that")
    said = house.streams[0].said
    beats = len(said)
    until(lambda: len(said) > beats + 2, "heartbeats go on")
    assert len(house.streams) == 1
    assert sum(m.HasField("nack") for m in said) == 1
    assert said[-1].heartbeat.last_nack == updater.state.last_nack
    assert "GENOME_EDGE_STORE" in updater.state.last_nack, "it says what to do"
    assert sum("was refused" in line for line in caplog.messages) == 1
    monkeypatch.setattr(partials, "_SPARE_BYTES", spare)
    until(lambda: device.active == 1, "taken as soon as there is room")
    updater.stop(5)


def test_an_older_release_is_refused(house: ContractServer, device: Device) -> None:
    house.release = house.publisher.release(5)
    updater = device.updater()
    updater.start()
    until(lambda: device.active == 5, "the release")
    updater.stop(5)

    def go_back(stream: Stream) -> None:
        stream.offer(house.publisher.release(4), 1)
        stream.answer(1)
        stream.wait_for(lambda _: False, 60)

    house.script = go_back
    updater = device.updater()
    updater.start()
    until(lambda: updater.state.last_nack.startswith("OLDER"), "refused")
    assert device.active == 5
    assert device.store.highest_seen() == 5


def test_a_clock_that_believes_in_1970_is_corrected_and_remembered(
    house: ContractServer, device: Device
) -> None:
    house.skew_ms = 20_000 * 86_400_000  # seen from the server, this device is decades behind
    house.release = house.publisher.release(
        1, edit=lambda m: setattr(m, "expires_ms", now_ms() + house.skew_ms + 60_000)
    )
    device.updater().start()
    until(lambda: device.active == 1, "the release, in spite of the clock")
    assert house.clock_checks == 1
    offset = device.store.server_offset_ms()
    assert offset is not None
    # The greeting of this server tells the true time again.
    assert device.updaters[0].state.cause is None


def test_goodbye_is_honoured(house: ContractServer, device: Device) -> None:
    times: list[float] = []

    def leave(stream: Stream) -> None:
        times.append(time.monotonic())
        stream.beat()
        if len(times) == 1:
            stream.send(goodbye=sync_pb2.Goodbye(retry_after_ms=600))
        stream.wait_for(lambda _: False, 60)

    house.script = leave
    updater = device.updater()
    updater.start()
    until(lambda: len(times) == 2, "back again")
    assert times[1] - times[0] >= 0.6


def test_a_silent_stream_is_given_up(house: ContractServer, device: Device) -> None:
    def fall_silent(stream: Stream) -> None:
        stream.beat()
        stream.wait_for(lambda _: False, 60)

    house.script = fall_silent
    updater = device.updater(Config(reconnect_min_s=0.02, heartbeat_s=0.1, stream_silence_s=0.3))
    updater.start()
    until(lambda: len(house.streams) >= 2, "opened anew")
    until(lambda: "said nothing" in str(updater.state.cause), "and says why", 5)
    assert any(m.HasField("heartbeat") for m in house.streams[0].said)


def test_a_revoked_device_says_so_and_keeps_its_events(
    house: ContractServer, device: Device
) -> None:
    house.revoked = True
    updater = device.updater()
    updater.start()
    device.happen("kept")
    until(
        lambda: (
            isinstance(updater.state.cause, RefusedError)
            and updater.state.cause.reason == "CREDENTIAL_REVOKED"
        ),
        "the status says so",
    )
    assert device.writer.flush(5)
    assert device.outbox.unsent() == 1
    house.revoked = False
    updater.kick()
    until(lambda: words(house) == ["kept"], "sent when it is believed again")


def test_a_kick_in_a_loop_does_not_hammer(house: ContractServer, device: Device) -> None:
    house.on_report = lambda _: Refuse("CREDENTIAL_REVOKED")
    updater = device.updater(replace(FAST, reconnect_max_s=30.0))
    updater.start()
    device.happen("kept")
    until(lambda: house.reports, "the first attempt")
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        updater.kick()
        time.sleep(0.005)
    assert 2 <= len(house.reports) <= 8


def test_the_updater_knows_on_which_streams_it_took_something(
    house: ContractServer, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: list[bool] = []

    def after_stream(_: Backoff, __: float, something: bool, ___: float = 0.0) -> float:
        took.append(something)
        return 0.01

    def greet_and_leave(stream: Stream) -> None:
        stream.beat()

    def offer_and_leave(stream: Stream) -> None:
        stream.beat()
        stream.offer(house.publisher.release(1), 1)
        stream.answer(1)

    def play(stream: Stream) -> None:
        (offer_and_leave if len(house.streams) == 3 else greet_and_leave)(stream)

    monkeypatch.setattr(Backoff, "after_stream", after_stream)
    house.script = play
    device.updater().start()
    until(lambda: len(took) >= 5, "cut five times")
    assert took[:5] == [False, False, True, False, False]
