"""An enrolled device with a store, a writer and an updater, and the server that it belongs to.

A module of tests takes the fixtures by name: `house, device = devices.house, devices.device`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_sdk.config import Config
from edge_sdk.outbox.entries import Entry
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.outbox.queue import Outbox
from edge_sdk.outbox.writer import Writer
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.updater import Updater, enrol
from genome_edge.v1 import event_pb2
from tests.unit.contract_server import CODE, ContractServer
from tests.unit.publisher import now_ms

FAST = Config(reconnect_min_s=0.02, reconnect_max_s=0.2, heartbeat_s=0.2, group_commit_s=0.005)


@contextmanager
def running() -> Iterator[ContractServer]:
    """A server, stopped in the end."""
    server = ContractServer()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Device:
    """An enrolled device."""

    store: DeviceStore
    outbox: Outbox
    writer: Writer
    config: Config = FAST
    changes: list[float] = field(default_factory=list)
    updaters: list[Updater] = field(default_factory=list)

    def updater(self, config: Config | None = None) -> Updater:
        made = Updater(
            self.store,
            self.outbox,
            config or self.config,
            lambda: self.changes.append(time.monotonic()),
        )
        self.updaters.append(made)
        return made

    def happen(self, word: str) -> None:
        event = event_pb2.Event(interaction=event_pb2.Interaction(interaction_id=word))
        body = event.SerializeToString()
        self.writer.put(Entry(FrameKind.INTERACTION, b"s" * 16, now_ms(), lambda: (body, b"")))

    @property
    def active(self) -> int:
        active = self.store.active_release()
        return active.version if active else 0


@contextmanager
def enrolled(house: ContractServer, path: Path) -> Iterator[Device]:
    """A device of that server, with its store at `path`; its threads must end in the end."""
    store = DeviceStore.open(path)
    enrol(house.address, CODE, store, "lobby", FAST)
    outbox = Outbox(store, FAST)
    writer = Writer(store, outbox, FAST)
    made = Device(store, outbox, writer)
    yield made
    for updater in made.updaters:
        assert updater.stop(5), "the threads end"
    writer.close(5)
    store.close()


@pytest.fixture
def house() -> Iterator[ContractServer]:
    """A server of the contract."""
    with running() as server:
        yield server


@pytest.fixture
def device(house: ContractServer, tmp_path: Path) -> Iterator[Device]:
    """A device of that server."""
    with enrolled(house, tmp_path / "edge") as made:
        yield made


def words(house: ContractServer) -> list[str]:
    return [event_pb2.Event.FromString(b).interaction.interaction_id for b in house.events()]
