"""Whatever is damaged in its store, a client opens, answers, and says what is wrong."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk import EdgeClient, State, StoreCorrupt, TrustError
from edge_sdk.store.device import DeviceStore
from tests.unit.device_client import FAST, MOMENT, kinds, shown, store_of
from tests.unit.device_town import OFFERS, Town, customer, filled, until


def garble(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = [garble, truncate, Path.unlink]


def part(store: Path, name: str) -> Path:
    opened = DeviceStore.open(store)
    active = opened.active_release()
    assert active is not None
    (found,) = (one for one in active.manifest.parts if one.name == name)
    path = opened.part_path(found.sha256)
    opened.close()
    return path


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["schema", "vocabulary", "offers", "placements", "model"])
def test_a_damaged_part_makes_room_for_the_previous_release(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    other = {"id": "lobby", "slots": 2, "explorer": "greedy"}
    filled(tmp_path / "store", Town(version=1, offers=OFFERS[2:]))
    store = DeviceStore.open(tmp_path / "store")
    Town(version=2, placements=[other], schema_epoch=1).commit(store)
    store.close()
    path = part(tmp_path / "store", name)
    shared = path == part_of_version_one(tmp_path / "store", name)
    damage(path)
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        until(lambda: edge.status.cause is not None)
        assert isinstance(edge.status.cause, TrustError | StoreCorrupt)
        if shared:  # a part that both releases have: nothing is left to decide from
            until(lambda: edge.status.state is State.ERROR)
            assert edge.decide(MOMENT, "lobby").offer is None
        else:
            assert edge.wait_ready(10)
            assert edge.status.release == 1
            assert shown(edge, "lobby") == "book"
        # What is damaged is not among what a sync says that it holds.
        assert path.name not in [digest.hex() for digest in store_of(edge).held_parts()]
        assert store_of(edge).highest_seen() == 2


def part_of_version_one(store: Path, name: str) -> Path | None:
    opened = DeviceStore.open(store)
    previous = opened.previous_release()
    assert previous is not None
    found = [one for one in previous.manifest.parts if one.name == name]
    path = opened.part_path(found[0].sha256)
    opened.close()
    return path


@pytest.mark.parametrize("damage", [garble, truncate])
def test_a_damaged_database_is_rebuilt_and_decided_from(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    filled(tmp_path / "store")
    damage(tmp_path / "store" / "edge.sqlite")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert shown(edge, "lobby")
        cause = edge.status.cause
        assert isinstance(cause, StoreCorrupt)
        assert "corrupt-1" in str(cause)
        assert edge.status.state is State.READY, "it works; the cause says what happened"
        assert edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)
        assert kinds(edge)[-2:] == ["decision", "outcome"]
    assert (tmp_path / "store.corrupt-1" / "edge.sqlite").exists()


@pytest.mark.parametrize("suffix", ["snap", "lookup"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_genomes_leave_the_offers(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None]
) -> None:
    filled(tmp_path / "store")
    (file,) = (tmp_path / "store" / "genomes").glob(f"*.{suffix}")
    damage(file)
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby", customer=customer(1))
        assert decision.offer is not None
        assert not decision.genome_used
        until(lambda: isinstance(edge.status.cause, StoreCorrupt))
        assert store_of(edge).genome_cursor() == b""


def test_damage_at_work_is_overcome(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        store = store_of(edge)
        store.database.truncate_log()
        garble(tmp_path / "store" / "edge.sqlite")
        until(lambda: isinstance(edge.status.cause, StoreCorrupt))
        for _ in range(20):
            assert shown(edge, "lobby", customer=customer(1))
        edge.flush(0)
        until(lambda: store.incident is not None)
        assert edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)
        assert edge.flush(0) >= 2


def test_a_damaged_identity_stops_syncing_and_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    (tmp_path / "store" / "identity" / "identity.json").write_text("{")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert shown(edge, "lobby")
        until(lambda: "enrol" in str(edge.status.cause))
        assert edge.status.state is State.READY


def test_a_server_without_enrolment_is_said(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", "localhost:1", config=FAST) as edge:
        assert edge.wait_ready(10)
        until(lambda: "genome-edge enrol" in str(edge.status.cause))
        assert edge.status.state is State.READY


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [Path.unlink, empty])
def test_a_database_that_is_gone_is_made_anew_from_the_files_beside_it(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    filled(tmp_path / "store", Town(version=3))
    damage(tmp_path / "store" / "edge.sqlite")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        assert edge.status.release == 3
        assert isinstance(edge.status.cause, StoreCorrupt)
        assert edge.decide(MOMENT, "lobby").offer is not None
    store = DeviceStore.open(tmp_path / "store")
    assert store.highest_seen() == 3, "never older, whatever was deleted"
    store.close()


@pytest.mark.parametrize("damage", [Path.unlink, empty])
def test_a_database_that_goes_while_it_is_in_use_is_made_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        for suffix in ("-wal", "-shm"):
            (tmp_path / "store" / f"edge.sqlite{suffix}").unlink(missing_ok=True)
        damage(tmp_path / "store" / "edge.sqlite")
        until(lambda: isinstance(edge.status.cause, StoreCorrupt))
        decision = edge.decide(MOMENT, "lobby")
        edge.report(decision, "view", durable=True)
        assert edge.status.release == 1


def test_a_database_that_contradicts_itself_is_made_anew(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.report("ab" * 16, "view", durable=True)
        with store_of(edge).write() as connection:
            connection.execute(  # every page is fine, and nothing can be written any more
                "CREATE TRIGGER contradiction BEFORE INSERT ON outbox"
                " BEGIN SELECT RAISE(ABORT, 'a constraint failed'); END"
            )
        for _ in range(2):
            with contextlib.suppress(StoreCorrupt):
                edge.report("ab" * 16, "view", durable=True)
        edge.report("ab" * 16, "view", durable=True)
        assert edge.wait_ready(10)
        assert edge.decide(MOMENT, "lobby").offer is not None
    assert len(list(tmp_path.glob("store.corrupt-*"))) == 1


def test_the_ring_goes_on_where_one_half_of_it_is_lost(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)
        with store_of(edge).write() as connection:
            connection.execute("DELETE FROM ring")
        edge.report(edge.decide(MOMENT, "lobby"), "view", durable=True)
    assert not list(tmp_path.glob("store.corrupt-*"))
