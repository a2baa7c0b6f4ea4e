"""The device's store: pointers are commits, files are whole, several processes agree."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.errors import StoreCorrupt, StoreError
from edge_sdk.numbers import CONSENT_WITHDRAWN, ERASED, LEFT_AUDIENCE
from edge_sdk.store.device import DeviceStore, Identity
from edge_sdk.store.files import write_file
from edge_sdk.store.tables import VERSION
from genome_edge.v1 import sync_pb2
from tests.unit.device_desk import Desk, entry
from tests.unit.device_town import Town, commit_rows, customer, row, subject

IDENTITY = Identity("host:1", "town", "device-1", "all", b"credential", b"root")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeviceStore]:
    made = DeviceStore.open(tmp_path / "store")
    yield made
    made.close()


def again(store: DeviceStore) -> DeviceStore:
    """The same store as another process sees it."""
    store.close()
    return DeviceStore.open(store.path)


# Identity --------------------------------------------------------------------------------------


def test_an_identity_is_kept_and_is_the_owners_only(store: DeviceStore) -> None:
    assert store.identity() is None
    store.set_identity(IDENTITY)
    assert again(store).identity() == IDENTITY
    for path in (store.path, store.path / "identity", store.path / "identity" / "identity.json"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_secrets_are_in_no_repr() -> None:
    assert "credential" not in repr(IDENTITY).replace("credential=", "")


def test_the_epoch_is_made_with_the_store(tmp_path: Path) -> None:
    one, two = DeviceStore.open(tmp_path / "1"), DeviceStore.open(tmp_path / "2")
    epoch = one.epoch()
    assert len(epoch) == 16
    assert epoch != two.epoch()
    assert again(one).epoch() == epoch


# Opening ---------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        DeviceStore.open(tmp_path / "file" / "store")


def test_a_store_of_a_newer_sdk_is_left_alone(store: DeviceStore) -> None:
    store.close()
    path = store.path / "edge.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer SDK"):
        DeviceStore.open(store.path)
    assert path.read_bytes() == before


def test_processes_that_open_a_new_store_at_once_get_one(tmp_path: Path) -> None:
    script = (
        "import sys; from edge_sdk.store.device import DeviceStore;"
        "print(DeviceStore.open(sys.argv[1]).epoch().hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in processes}) == 1


def test_one_process_is_elected(store: DeviceStore) -> None:
    lock = store.elect()
    assert lock is not None
    script = (
        "import sys; from edge_sdk.store.device import DeviceStore;"
        "print(DeviceStore.open(sys.argv[1]).elect() is not None)"
    )
    command = [sys.executable, "-c", script, str(store.path)]
    assert subprocess.check_output(command, text=True) == "False\n"
    lock.release()
    assert subprocess.check_output(command, text=True) == "True\n"
    assert store.elect() is not None, "it died with its holder"


# Releases --------------------------------------------------------------------------------------


def test_a_part_has_its_digest(store: DeviceStore) -> None:
    digest = hashlib.sha256(b"part").digest()
    with pytest.raises(ValueError, match="SHA-256"):
        store.stage_part(digest, b"another")
    assert store.held_parts() == []
    with pytest.raises(KeyError):
        store.read_part(digest)
    store.stage_part(digest, b"part")
    store.stage_part(digest, b"part")
    assert store.held_parts() == [digest]
    assert store.part_path(digest).read_bytes() == b"part"
    assert store.read_part(digest) == b"part"


def test_the_pointer_is_the_commit_and_the_previous_release_stays(store: DeviceStore) -> None:
    towns = [Town(version=v, offers=Town().offers[:v]) for v in (1, 2, 3)]
    assert store.active_release() is None
    for town in towns:
        assert town.commit(store)
    store = again(store)
    active, previous = store.active_release(), store.previous_release()
    assert active is not None
    assert previous is not None
    assert (active.version, previous.version, store.highest_seen()) == (3, 2, 3)
    needed = {part.sha256 for one in (active, previous) for part in one.manifest.parts}
    assert set(store.held_parts()) == needed, "parts of older releases are deleted"
    assert sorted(p.name for p in (store.path / "manifests").iterdir()) == ["2", "3"]


def test_the_highest_version_never_falls(store: DeviceStore) -> None:
    store.raise_highest_seen(7, b"seven")
    store.raise_highest_seen(5, b"five")
    assert (store.highest_seen(), store.seen_digest()) == (7, b"seven")
    Town(version=6).commit(store)
    assert (store.highest_seen(), store.seen_digest()) == (7, b"seven")
    Town(version=8).commit(store)
    assert store.highest_seen() == 8
    assert store.release_failed(8) is not None
    assert again(store).highest_seen() == 8


def test_a_release_that_fails_gives_way_to_the_one_before(store: DeviceStore) -> None:
    Town(version=1).commit(store)
    Town(version=2).commit(store)
    fallen = store.release_failed(2)
    assert fallen is not None
    assert fallen.version == 1
    assert store.release_failed(2) is not None, "said late, it changes nothing"
    assert store.release_failed(1) is None
    assert store.active_release() is None


# Genomes ---------------------------------------------------------------------------------------


def test_rows_and_lookups_come_back(store: DeviceStore) -> None:
    town = Town()
    rows = [row(n, town=town) for n in range(5)]
    assert commit_rows(store, rows, town, known=range(6), cursor=b"c1") == 5
    store = again(store)
    view = store.genomes()
    assert (view.count, store.genome_count(), store.genome_cursor()) == (5, 5, b"c1")
    assert store.genome_lineage() == town.lineage
    assert [view.row(subject(n)) for n in range(6)] == [*rows, None]
    assert [view.subject_of(customer(n)) for n in range(7)] == [*map(subject, range(6)), None]


def test_patches_lie_on_top(store: DeviceStore) -> None:
    town = Town()
    commit_rows(store, [row(n, town=town) for n in range(4)], town, known=range(4))
    changed = row(1, town=town, markers={"brand:acme": 50})
    count = commit_rows(
        store,
        [changed, row(9, town=town)],
        town,
        full=False,
        known=[9],
        deletes=[
            (subject(2), LEFT_AUDIENCE),
            (subject(3), CONSENT_WITHDRAWN),
            (subject(8), ERASED),
        ],
        cursor=b"c2",
    )
    other = DeviceStore.open(store.path)
    for one in (store, other):
        view = one.genomes()
        assert count == view.count == one.genome_count() == 3
        assert view.row(subject(1)) == changed
        assert view.row(subject(9)) is not None
        assert view.row(subject(2)) is view.row(subject(3)) is None
        assert view.subject_of(customer(2)) is None, "who left is not known any more"
        assert view.subject_of(customer(3)) == subject(3), "who withdrew still is"
        assert view.subject_of(customer(9)) == subject(9)
        assert one.genome_cursor() == b"c2"
    other.close()


def test_a_full_set_replaces_everything(store: DeviceStore) -> None:
    town = Town()
    commit_rows(store, [row(n, town=town) for n in range(4)], town, known=range(4))
    commit_rows(store, [row(7, town=town)], town, full=False)
    commit_rows(store, [row(5, town=town)], town, known=[5])
    view = store.genomes()
    assert [r.subject for r in view.rows()] == [subject(5)]
    assert view.subject_of(customer(0)) is None
    assert len(list((store.path / "genomes").iterdir())) == 2, "old files are deleted"


def test_another_process_sees_what_was_committed(store: DeviceStore) -> None:
    town = Town()
    other = DeviceStore.open(store.path)
    watch = other.watch()
    watch.changed()
    assert not watch.changed()
    before = other.genomes()
    commit_rows(store, [row(1, town=town)], town)
    assert watch.changed()
    assert other.genomes().row(subject(1)) is not None
    commit_rows(store, [row(2, town=town)], town, full=False)
    assert other.genomes().row(subject(2)) is not None
    assert before.row(subject(1)) is None, "a view never changes"
    watch.close()
    other.close()


def test_a_patch_of_another_lineage_is_refused(store: DeviceStore) -> None:
    town, other = Town(), Town(schema_epoch=2)
    with pytest.raises(ValueError, match="lineage"):
        commit_rows(store, [row(1, town=town)], town, full=False)
    commit_rows(store, [row(1, town=town)], town)
    with pytest.raises(ValueError, match="lineage"):
        commit_rows(store, [row(2, town=other)], other, full=False)
    assert store.genome_count() == 1


def test_many_patches_become_a_snapshot(
    store: DeviceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.store.genomes._LEAST_PATCHES", 5)
    town = Town()
    commit_rows(store, [row(n, town=town) for n in range(4)], town, known=range(4))
    for n in range(4, 12):
        commit_rows(
            store, [row(n, town=town)], town, full=False, known=[n],
            deletes=[(subject(n - 4), LEFT_AUDIENCE)],
        )  # fmt: skip
        assert len(store.genomes().patches) <= 5
    view = again(store).genomes()
    assert sorted(r.subject for r in view.rows()) == sorted(map(subject, range(8, 12)))
    assert [n for n in range(12) if view.subject_of(customer(n))] == [8, 9, 10, 11]


def test_a_release_waits_for_the_rows_that_go_with_it(store: DeviceStore) -> None:
    old, new = Town(version=1), Town(version=2, schema_epoch=2)
    old.commit(store)
    commit_rows(store, [row(1, town=old)], old)
    assert new.commit(store) is False
    assert store.active_release().version == 1  # type: ignore[union-attr]
    assert store.highest_seen() == 2
    commit_rows(store, [row(1, town=new)], new)
    active = again(store).active_release()
    assert active is not None
    assert active.version == 2


def test_a_release_that_is_offered_again_waits_no_longer(store: DeviceStore) -> None:
    old, new = Town(version=1), Town(version=2, schema_epoch=2)
    old.commit(store)
    commit_rows(store, [row(1, town=old)], old)
    assert [new.commit(store), new.commit(store)] == [False, True]


def test_who_is_erased_is_nowhere_any_more(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store")
    town, erased = Town(), subject(1)
    commit_rows(desk.store, [row(1, town=town), row(2, town=town)], town, known=[1, 2])
    from dataclasses import replace

    from edge_sdk.engine.caps import CapRow
    from genome_edge.v1 import event_pb2

    record = event_pb2.Event(decision=event_pb2.DecisionRecord(decision_id=b"d" * 16))
    full = record.SerializeToString()
    said = event_pb2.Interaction(kind="buy").SerializeToString()
    for who in (erased, subject(2)):
        desk.writer.put_durably(
            replace(
                entry("did"),
                subject=who,
                bodies=lambda: (full, full),
                caps=(CapRow(who, "taxi", "view", 1),),
                imprint=(who.hex(), said),
                consent=(1, False),
            ),
            5,
        )
    commit_rows(desk.store, [], town, full=False, deletes=[(erased, ERASED)])
    path = desk.store.path
    desk.close()
    for file in path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert erased not in content, file
            # Snapshots hold subjects as two numbers.
            assert erased[:8][::-1] not in content, file
    store = DeviceStore.open(path)
    with store.read() as connection:
        for table in ("pending", "consents", "caps"):
            rows = connection.execute(f"SELECT subject FROM {table}").fetchall()
            assert rows == [(subject(2),)], table
    store.close()


def test_imprints_that_the_rows_include_are_dropped(tmp_path: Path) -> None:
    desk, town = Desk(tmp_path / "store"), Town()
    from genome_edge.v1 import event_pb2

    said = event_pb2.Interaction(kind="buy").SerializeToString()
    for i in range(3):
        desk.writer.put_durably(entry(f"{i}", imprint=(f"{i}", said)), 5)
    desk.writer.put_durably(entry("c", consent=(1, True)), 5)
    epoch, lane = desk.store.epoch(), desk.writer.lanes[1]
    marks = [
        sync_pb2.LaneMark(epoch=epoch, lane=lane, sequence=2),
        sync_pb2.LaneMark(epoch=os.urandom(16), lane=lane, sequence=99),
    ]
    commit_rows(desk.store, [row(1, town=town)], town, included=marks)
    assert desk.rows("SELECT id FROM pending") == [("2",)]
    assert desk.rows("SELECT count(*) FROM consents") == [(1,)]
    marks[0].sequence = 4
    commit_rows(desk.store, [], town, full=False, included=marks)
    assert desk.rows("SELECT count(*) FROM pending") == [(0,)]
    assert desk.rows("SELECT count(*) FROM consents") == [(0,)]
    desk.close()


# Time ------------------------------------------------------------------------------------------


def test_the_servers_time_is_remembered(store: DeviceStore) -> None:
    import time

    assert store.server_offset_ms() is None
    store.raise_clock_floor(10**15)
    store.heard_server(time.time_ns() // 1_000_000 + 5_000)
    store = again(store)
    offset = store.server_offset_ms()
    assert offset is not None
    assert abs(offset - 5_000) < 1_000
    assert store.clock_floor_ms() == store.last_contact_ms(), "the server's word overrules"


# Damage that is no corruption ------------------------------------------------------------------


def test_a_damaged_identity_is_said(store: DeviceStore) -> None:
    store.set_identity(IDENTITY)
    (store.path / "identity" / "identity.json").write_text("{")
    with pytest.raises(StoreCorrupt, match="enrol"):
        store.identity()


def test_an_identity_that_may_not_be_read_is_no_damaged_one(store: DeviceStore) -> None:
    path = store.path / "identity" / "identity.json"
    path.mkdir()
    with pytest.raises(StoreCorrupt, match=r"cannot be read: Is a directory$"):
        store.identity()


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    said = set()
    for _ in range(2):
        with pytest.raises(FileNotFoundError) as caught:
            write_file(tmp_path / "nowhere" / "file", b"x")
        said.add(str(caught.value))
    assert len(said) == 1, "what fails again and again is no news"
    assert said.pop().endswith("nowhere/file'")
