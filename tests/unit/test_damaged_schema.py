"""A store whose schema is not what was written: it is made anew, with all that is left."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk import EdgeClient
from edge_sdk.store.device import DeviceStore
from tests.unit.device_client import FAST, MOMENT, decisions_in
from tests.unit.device_town import Town, customer, filled, until

ONCE = ({"id": "taxi", "caps": [{"limit": 9}]},)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    filled(tmp_path / "store", Town(offers=ONCE))
    with closing(sqlite3.connect(tmp_path / "store" / "edge.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return tmp_path / "store"


def changed(path: Path, before: bytes, after: bytes) -> None:
    file = path / "edge.sqlite"
    content = file.read_bytes()
    assert before in content
    assert len(before) == len(after)
    file.write_bytes(content.replace(before, after))


def test_names_that_nobody_can_read(path: Path) -> None:
    """SQLite quotes them in what it says, in whatever bytes they are."""
    changed(path, b"WITHOUT ROWID", b"WITHOUT RO\xd7ID")
    with closing(DeviceStore.open(path)) as store:
        assert store.active_release() is not None, "from the manifests beside the parts"
        assert store.losses()["REBUILT"] == 1


@pytest.mark.parametrize("broken", [b"otd.lane", b"ol\xe4.lane"])
def test_a_trigger_that_cannot_run(path: Path, broken: bytes) -> None:
    """All rows are in order, and no event can be written."""
    changed(path, b"old.lane", broken)
    with EdgeClient(path, config=FAST) as edge:
        assert edge.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby", customer=customer(1))
        edge.imprint(customer(1), "view", dna=["activity:flight-search"])
        assert until(lambda: not edge._keeper.waiting())
    assert decision.id in decisions_in(path)
    with closing(DeviceStore.open(path)) as store:
        assert store.losses()["REBUILT"] == 1


@pytest.mark.parametrize("version", [-3, 3 | 1 << 18])
def test_a_format_that_no_sdk_writes(path: Path, version: int) -> None:
    file = path / "edge.sqlite"
    content = bytearray(file.read_bytes())
    struct.pack_into(">i", content, 60, version)
    file.write_bytes(content)
    with closing(DeviceStore.open(path)) as store:
        assert store.active_release() is not None
        assert store.losses()["REBUILT"] == 1
