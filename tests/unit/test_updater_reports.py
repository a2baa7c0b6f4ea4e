"""Reports, syncing once, and threads that start and stop, over real sockets."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from edge_sdk.errors import (
    StoreCorrupt,
    TrustError,
    UnreachableError,
    UsageError,
)
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync import streaming
from edge_sdk.sync.updater import Updater, identify
from genome_edge.v1 import dna_pb2
from tests.unit import devices
from tests.unit.contract_server import ContractServer, Stream, until
from tests.unit.devices import FAST, Device, words
from tests.unit.publisher import golden

house, device = devices.house, devices.device


def reported(house: ContractServer, times: int) -> bool:
    return len(house.report_times) >= times


def active(device: Device, version: int) -> bool:
    return device.active == version


def test_an_event_is_at_the_server_at_once(house: ContractServer, device: Device) -> None:
    device.updater().start()
    device.happen("first")
    until(lambda: house.report_times, "connected and sent")
    waits = []
    for n in range(10):
        before = len(house.report_times)
        device.happen(f"n{n}")
        happened = time.monotonic()
        until(partial(reported, house, before + 1), "sent")
        waits.append(house.report_times[-1] - happened)
    assert sorted(waits)[5] < 0.05
    until(lambda: len(words(house)) == 11, "all of them")
    until(lambda: device.outbox.unsent() == 0, "and acknowledged")


def test_what_happened_while_the_server_was_away_arrives_once(
    house: ContractServer, device: Device
) -> None:
    updater = device.updater()
    updater.start()
    until(lambda: updater.state.connected, "connected")
    house.stop()
    for n in range(50):
        device.happen(f"n{n}")
    until(lambda: updater.state.cause is not None, "noticed")
    lost = iter(["lose", "lose"])
    house.on_report = lambda _: next(lost, None)
    house.start()
    until(lambda: device.outbox.unsent() == 0, "the outbox empty")
    assert words(house) == [f"n{n}" for n in range(50)]
    assert house.reports[0].frames == house.reports[1].frames == house.reports[2].frames


def test_a_release_that_cannot_be_had_does_not_keep_events_here(
    house: ContractServer, device: Device
) -> None:
    house.script = lambda stream: stream.out.put(None)  # ends every stream at once
    device.updater().start()
    device.happen("sent")
    until(lambda: words(house) == ["sent"], "sent all the same")


def test_once_brings_everything_and_ends(house: ContractServer, device: Device) -> None:
    house.release = house.publisher.release(1)
    device.happen("before")
    device.writer.flush(5)
    outcome = device.updater().sync_once(10)
    assert (outcome.release, outcome.genomes, outcome.reported) == (1, 0, 1)
    assert words(house) == ["before"]
    assert device.updater().sync_once(10).reported == 0, "and again, with nothing to do"


def test_once_with_a_server_that_never_says_that_this_was_all(
    house: ContractServer, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_QUIET_S", 0.3)
    monkeypatch.setattr(streaming, "FIRST_S", 0.1)

    def shy(stream: Stream) -> None:
        stream.offer(house.publisher.release(1), 1)
        stream.answer(1)
        stream.wait_for(lambda _: False, 60)

    house.script = shy
    assert device.updater().sync_once(20).release == 1


def test_once_raises_what_went_wrong(house: ContractServer, device: Device) -> None:
    house.release = house.publisher.release(1, change=golden(0.9))
    with pytest.raises(TrustError, match="golden") as caught:
        device.updater().sync_once(10)
    assert caught.value.reason == "GOLDEN"
    house.stop()
    with pytest.raises(UnreachableError):
        device.updater().sync_once(2)
    updater = device.updater()
    updater.start()
    with pytest.raises(UsageError, match="already"):
        updater.sync_once(1)


def test_once_does_not_wait_for_ever(house: ContractServer, device: Device) -> None:
    def silent(stream: Stream) -> None:
        stream.wait_for(lambda _: False, 60)

    house.script = silent
    before = time.monotonic()
    with pytest.raises(UnreachableError, match="in time"):
        device.updater().sync_once(0.5)
    assert time.monotonic() - before < 5


def test_a_store_that_is_not_enrolled_is_left_alone(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    updater = Updater(store, Outbox(store), FAST, lambda: None)
    updater.start()
    assert not updater.state.connected
    assert updater.stop(1)
    with pytest.raises(UsageError, match="enrol"):
        updater.sync_once(1)
    with pytest.raises(UsageError, match="enrol"):
        identify(store, FAST, "token", dna_pb2.Lineage(), 1)
    store.close()


def test_a_key_that_is_gone_is_said_and_does_not_end_the_threads(
    house: ContractServer, device: Device
) -> None:
    key = device.store.key_path.read_bytes()
    device.store.key_path.write_bytes(b"damaged")
    updater = device.updater()
    updater.start()
    until(lambda: isinstance(updater.state.cause, StoreCorrupt), "said")
    device.store.key_path.write_bytes(key)
    until(lambda: updater.state.connected, "and mended")


def test_it_can_be_stopped_and_started_again(house: ContractServer, device: Device) -> None:
    updater = device.updater()
    for version in (1, 2):
        house.release = house.publisher.release(version)
        updater.start()
        updater.start()  # harmless
        until(partial(active, device, version), "the release")
        began = time.monotonic()
        assert updater.stop(5)
        assert time.monotonic() - began < 3
        assert not updater.state.connected
    alive = [t.name for t in threading.enumerate() if t.name.startswith("genome-edge-")]
    assert alive == ["genome-edge-writer"]
