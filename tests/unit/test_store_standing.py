"""What a device's store keeps of keys, freshness and stops; contents in parts; older formats."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.errors import DiskFull, StoreCorrupt, TrustError
from edge_sdk.runtime import loading
from edge_sdk.store import releases, tables
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.identity import Identity
from edge_sdk.store.partials import Partials
from edge_sdk.store.rescue import rescue
from edge_sdk.store.state import put_consent, read_consents
from genome_edge.v1 import release_pb2
from tests.unit.authority import Authority
from tests.unit.publisher import Publisher, now_ms

ONE, TWO = b"1" * 32, b"2" * 32


def pinned(store: DeviceStore, authority: Authority) -> None:
    root = authority.root.SerializeToString()
    store.set_identity(Identity("http://localhost:1", "acme", "d", "all", b"c", root))


def test_what_is_in_force_is_kept_and_verified_again(tmp_path: Path) -> None:
    authority = Authority()
    store = DeviceStore.open(tmp_path / "edge")
    assert store.standing().root == release_pb2.TrustRoot()
    pinned(store, authority)
    assert store.standing().root == authority.root
    before = store.changes()
    stops = authority.stop_list(1, "taxi")
    store.put_trust(timestamp=authority.timestamp(1, stops=stops), stop_list=stops)
    assert store.changes()[3] > before[3]
    standing = DeviceStore.open(tmp_path / "edge").standing()
    assert standing.stopped == {"taxi"}
    assert standing.timestamp is not None
    assert standing.timestamp.version == 1


def test_a_rotated_root_outlives_the_pinned_one_and_drops_what_it_does_not_vouch_for(
    tmp_path: Path,
) -> None:
    authority = Authority()
    store = DeviceStore.open(tmp_path / "edge")
    pinned(store, authority)
    store.put_trust(timestamp=authority.timestamp(1), stop_list=authority.stop_list(1, "taxi"))
    authority.rotate(timestamp=True)
    store.put_trust(authority.root)
    standing = store.standing()
    assert standing.root == authority.root
    assert standing.timestamp is None
    assert standing.stop_list is None


def test_a_value_that_was_not_written_so_is_never_read(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    release = Publisher().release(7)
    for sha256, content in release.parts.items():
        store.stage_part(sha256, content)
    store.commit_release(release.signed.SerializeToString(), 7)
    store.close()
    with sqlite3.connect(tmp_path / "edge" / "edge.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '9' WHERE key = 'highest_seen'")
    connection.close()
    again = DeviceStore.open(tmp_path / "edge")
    assert again.incident is not None
    assert again.highest_seen() == 7, "from the manifest beside it"
    active = again.active_release()
    assert active is not None
    assert active.version == 7


def test_a_manifest_that_was_changed_on_disk_is_damaged(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    release = Publisher().release(7)
    store.commit_release(release.signed.SerializeToString(), 7)
    release.manifest.version = 8
    other = release_pb2.SignedManifest(manifest=release.manifest.SerializeToString())
    with store.write() as connection:
        connection.execute("UPDATE releases SET manifest = ?", (other.SerializeToString(),))
    active = store.active_release()
    assert active is not None
    with pytest.raises(StoreCorrupt):
        _ = active.manifest


def test_a_release_that_failed_here_is_remembered_until_another_one_comes(tmp_path: Path) -> None:
    store, publisher = DeviceStore.open(tmp_path / "edge"), Publisher()
    published = {version: publisher.release(version) for version in (1, 2, 3)}
    for version in (1, 2):
        store.commit_release(published[version].signed.SerializeToString(), version)
    fallen = store.release_failed(2, "the golden vectors differ")
    assert fallen is not None
    assert fallen.version == 1
    digest = hashlib.sha256(published[2].signed.manifest).digest()
    assert store.failed_release() == (digest, "the golden vectors differ")
    store.commit_release(published[3].signed.SerializeToString(), 3)
    assert store.failed_release() == (b"", "")


def test_another_version_of_the_sdk_tries_a_release_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, publisher = DeviceStore.open(tmp_path / "edge"), Publisher()
    for version in (1, 2):
        release = publisher.release(version)
        store.commit_release(release.signed.SerializeToString(), version)
    store.release_failed(2, "the golden vectors differ")
    assert store.failed_release()[1]
    monkeypatch.setattr(releases, "sdk_version", lambda: "9.0.0")
    assert store.failed_release() == (b"", "")


def test_a_consent_that_was_not_given_so_grants_nothing(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    where = (store.epoch(), 1, 1)
    with store.write() as connection:
        put_consent(connection, b"a" * 16, 1, True, where)
        put_consent(connection, b"b" * 16, 1, False, where)
    with store.read() as connection:
        assert read_consents(connection) == [(b"a" * 16, 1, True), (b"b" * 16, 1, False)]
    with store.write() as connection:
        connection.execute("DROP TRIGGER consents_checked")
        connection.execute("UPDATE consents SET granted = 1")
    with pytest.raises(StoreCorrupt), store.read() as connection:
        read_consents(connection)
    with store.read() as connection:
        assert read_consents(connection) == [(b"a" * 16, 1, True), (b"b" * 16, 1, False)]


def test_a_bundle_brings_its_root_and_how_long_it_is_fresh(tmp_path: Path) -> None:
    authority = Authority()
    release = authority.publisher.release(1)
    bundle = release_pb2.Bundle(
        manifest=release.signed,
        root=authority.root,
        timestamp=authority.timestamp(4, release),
        parts=[
            release_pb2.PartContent(name=part.name, content=release.parts[part.sha256])
            for part in release.manifest.parts
        ],
    )
    store = DeviceStore.open(tmp_path / "edge")
    opened, built = loading.open_bundle(bundle.SerializeToString(), store)
    loading.keep_bundle(store, opened, built.manifest)
    standing = store.standing()
    assert standing.root == authority.root
    assert standing.timestamp is not None
    assert standing.timestamp.version == 4
    before = store.changes()[3]
    loading.keep_bundle(store, opened, built.manifest)
    assert store.changes()[3] == before, "nothing new"
    bundle.timestamp.CopyFrom(Authority().timestamp(5))
    with pytest.raises(TrustError):
        loading.open_bundle(bundle.SerializeToString(), store)


# Contents in parts ------------------------------------------------------------------------------


def test_a_content_grows_at_its_end_only_and_is_whole_with_its_digest(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    content = b"the whole content"
    sha256 = hashlib.sha256(content).digest()
    store.append_partial(sha256, 0, content[:5])
    with pytest.raises(ValueError, match="5 bytes are here"):
        store.append_partial(sha256, 6, b"x")
    assert DeviceStore.open(tmp_path / "edge").partials() == {sha256: 5}
    store.append_partial(sha256, 5, content[5:])
    assert store.finish_partial(sha256, part=True) == store.part_path(sha256)
    assert store.read_part(sha256) == content
    assert store.partials() == {}


def test_a_torn_content_is_dropped(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    store.append_partial(ONE, 0, b"\0" * 100)
    with pytest.raises(ValueError, match="SHA-256"):
        store.finish_partial(ONE)
    assert store.partials() == {}
    store.append_partial(ONE, 0, b"ab")
    store.append_partial(ONE, 0, b"c")
    assert store.partials() == {ONE: 1}, "it began anew"


def test_what_nothing_can_be_appended_to_is_put_out_of_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    partial = store.path / "partial"
    (partial / ("a" * 64)).mkdir()
    (partial / ("b" * 64)).symlink_to(tmp_path / "nowhere")
    somebody_elses = partial / ("c" * 64)
    somebody_elses.write_bytes(b"x")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, how: path != somebody_elses and real(path, how))
    store.append_partial(ONE, 0, b"ab")
    assert store.partials() == {ONE: 2}
    assert [entry.name for entry in partial.iterdir()] == [ONE.hex()]


def test_there_is_room_or_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    for n in range(5):
        store.append_partial(bytes([n]) * 32, 0, b"x")
    store.make_room([ONE], 1000)
    assert len(store.partials()) == 2, "what nobody goes on with does not pile up"
    monkeypatch.setattr("edge_sdk.store.partials._SPARE_BYTES", 1 << 60)
    with pytest.raises(DiskFull, match="larger one, or publish smaller files"):
        store.make_room([ONE], 1000)
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr("edge_sdk.store.partials._SPARE_BYTES", free)
    with pytest.raises(DiskFull, match="make room on the disk"):
        store.make_room([ONE], 64 << 20)
    with pytest.raises(FileNotFoundError):
        Partials(tmp_path / "edge").finish(TWO)


def test_assets_are_held_with_their_size(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "edge")
    content = b"a picture"
    sha256 = hashlib.sha256(content).digest()
    manifest = release_pb2.Manifest(
        parts=[
            release_pb2.Part(name="taxi.png", size=len(content), sha256=sha256, asset=True),
            release_pb2.Part(name="bus.png", size=3, sha256=TWO, asset=True),
        ]
    )
    assert store.assets_held(manifest) == frozenset()
    store.stage_part(sha256, content)
    assert store.assets_held(manifest) == {"taxi.png"}


# Formats ----------------------------------------------------------------------------------------


def first_format(path: Path) -> bytes:
    """A store as the first SDK wrote it, with a release; returns its signed manifest."""
    DeviceStore.open(path).close()
    for name in ("edge.sqlite", "edge.sqlite-wal", "edge.sqlite-shm"):
        (path / name).unlink(missing_ok=True)
    (path / "partial").rmdir()
    signed = Publisher().release(4).signed.SerializeToString()
    (path / "manifests" / "4").write_bytes(signed)
    connection = sqlite3.connect(path / "edge.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    tables.MIGRATIONS[0](connection)
    connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (b"e" * 16,))
    connection.execute("INSERT INTO meta VALUES ('highest_seen', ?)", (b"4",))
    connection.execute("INSERT INTO meta VALUES ('server_offset_ms', ?)", (b"-5",))
    connection.execute("INSERT INTO releases VALUES ('active', 4, ?)", (signed,))
    consent = (b"a" * 16, 1, 1, b"e" * 16, 1, 1)
    connection.execute("INSERT INTO consents VALUES (?, ?, ?, ?, ?, ?)", consent)
    connection.execute("PRAGMA user_version = 1")
    connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
    connection.execute("COMMIT")
    connection.close()
    return signed


def test_a_store_of_the_first_format_is_taken_over_whole(tmp_path: Path) -> None:
    signed = first_format(tmp_path / "edge")
    for _ in range(2):
        store = DeviceStore.open(tmp_path / "edge")
        assert store.incident is None
        assert store.epoch() == b"e" * 16
        assert store.highest_seen() == 4
        assert store.server_offset_ms() == -5
        active = store.active_release()
        assert active is not None
        assert active.signed_manifest == signed
        assert active.manifest.version == 4
        assert len(store.changes()) == 4
        with store.read() as connection:
            assert read_consents(connection) == [(b"a" * 16, 1, True)]
        store.close()


KILLED = """
import os, sqlite3, sys
from pathlib import Path
from edge_sdk.store import database, tables
path, most = Path(sys.argv[1]), 200
connect = database.Database._connect
for at in range(most):
    child = os.fork()
    if child == 0:
        seen = 0
        def count(statement):
            global seen
            seen += 1
            if seen > at:
                os._exit(9)
        def connected(self):
            made = connect(self)
            made.set_trace_callback(count)
            return made
        database.Database._connect = connected
        database.Database(path).create_or_upgrade()
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with sqlite3.connect(path) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        kept = connection.execute("SELECT value FROM meta WHERE key = 'highest_seen'").fetchone()
    connection.close()
    assert kept == (b"4",), kept
    assert version in (1, tables.VERSION), version
    if died == 0:
        print(at)
        sys.exit(0 if version == tables.VERSION else 1)
sys.exit(2)
"""


def test_killed_at_any_statement_of_the_step_a_store_is_the_old_or_the_new_one(
    tmp_path: Path,
) -> None:
    first_format(tmp_path / "edge")
    database = tmp_path / "edge" / "edge.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(database)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10, "it was killed at every one of them"
    assert DeviceStore.open(tmp_path / "edge").highest_seen() == 4


def test_what_is_left_of_a_damaged_store_of_the_first_format_is_saved(tmp_path: Path) -> None:
    signed = first_format(tmp_path / "edge")
    fresh = DeviceStore.open(tmp_path / "fresh")
    with fresh.write() as connection:
        rescue(tmp_path / "edge" / "edge.sqlite", connection, now_ms())
    active = fresh.active_release()
    assert active is not None
    assert active.signed.SerializeToString() == signed
    assert fresh.highest_seen() == 4
    with fresh.read() as connection:
        assert read_consents(connection) == [(b"a" * 16, 1, True)]
