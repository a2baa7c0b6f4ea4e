"""Keys and their rotation: here, with a key kept elsewhere, and what devices make of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import TrustError
from edge_sdk.sync import roles
from edge_sdk.sync.keys import DeviceKey
from edge_sdk.sync.trust import key_id, verify_manifest
from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.genomes.build import build
from genome_server.releases.keyring import here, missing_roles
from genome_server.releases.trust import TrustDesk
from genome_server.setup import set_up
from genome_server.store.protocol import DeviceRow, Store
from tests.serving import now_ms
from tests.unit.test_cli_releases import Person


@pytest.fixture
def person(tmp_path: Path) -> Person:
    made = Person(tmp_path)
    with closing(made.tenant.open_store()) as store:
        build(store, None, made.tenant.dna_path)
    return made


@pytest.fixture
def store(person: Person) -> Iterator[Store]:
    with closing(person.tenant.open_store()) as opened:
        yield opened


@pytest.fixture
def pinned(person: Person, store: Store) -> release_pb2.TrustRoot:
    """The root that a device got when it enrolled, before anything below happened."""
    return TrustDesk(person.tenant, store).root()


def follow(person: Person, store: Store, standing: roles.Standing) -> roles.Standing:
    desk = TrustDesk(person.tenant, store)
    message = sync_pb2.Trust(
        roots=desk.roots_after(standing.root.version),
        timestamp=desk.timestamp(),
        stop_list=desk.stop_list(),
    )
    taken = roles.take(standing, message, now_ms())
    assert taken.refused == ()
    assert taken.standing.root == desk.root()
    return taken.standing


def ids(person: Person, role: str) -> list[str]:
    return [key["id"] for key in person.json("keys", "list")["roles"][role]["keys"]]


def newest(store: Store) -> release_pb2.SignedManifest:
    row = store.release()
    assert row is not None
    return release_pb2.SignedManifest.FromString(row.manifest)


def test_the_release_key_is_replaced(
    person: Person, store: Store, pinned: release_pb2.TrustRoot
) -> None:
    person.call("publish", "--untrained")
    before = newest(store)
    (old,) = ids(person, "release")
    store.put_device(DeviceRow("old", "", "all", b"k" * 32))
    store.touch_devices({"old": (1, {"features": ["offer-model-1"]})})
    said = person.json("keys", "rotate", "release")
    assert said == {
        "root_version": 2, "in_force": True, "lacking": [], "releases_to_sign": [1],
        "devices_that_stay": 1,
    }  # fmt: skip
    (new,) = ids(person, "release")
    assert new != old
    assert (person.tenant.keys_dir / "retired" / f"release-{old}.pem").is_file()
    assert (person.tenant.keys_dir / f"release-{new}.pem").stat().st_mode & 0o777 == 0o600
    root = follow(person, store, roles.Standing(pinned)).root
    with pytest.raises(TrustError):
        verify_manifest(before, root, now_ms(), 0)
    assert "was replaced" in person.said("releases", "promote", 1, code=1)
    # Nothing changed but the key.
    assert person.json("publish", "--untrained")["changed"] == []
    assert verify_manifest(newest(store), root, now_ms(), 1).version == 2
    assert person.json("publish", "--untrained")["unchanged"]
    assert not any("/keys/" in what for what in set_up(person.tenant).made)


def test_a_release_key_that_was_lost_is_replaced(
    person: Person, store: Store, pinned: release_pb2.TrustRoot
) -> None:
    person.tenant.release_key_path.unlink()
    assert "keys rotate release" in person.said("publish", "--untrained", code=1)
    assert "keys rotate release" in person.said("init", code=1)
    person.call("keys", "rotate", "release")
    person.call("publish", "--untrained")
    root = follow(person, store, roles.Standing(pinned)).root
    assert verify_manifest(newest(store), root, now_ms(), 0)


def test_the_timestamp_key_is_replaced_with_all_that_it_signed(
    person: Person, store: Store, pinned: release_pb2.TrustRoot
) -> None:
    person.call("publish", "--untrained")
    person.call("offers", "pause", "taxi")
    standing = follow(person, store, roles.Standing(pinned))
    person.call("keys", "rotate", "timestamp")
    after = follow(person, store, standing)
    assert after.stopped == {"taxi"}
    assert list(after.root.timestamp_keys) != list(pinned.timestamp_keys)
    # Lost: what was signed goes on until it expires; a new key takes over.
    (name,) = ids(person, "timestamp")
    (person.tenant.keys_dir / f"timestamp-{name}.pem").unlink()
    assert "keys rotate timestamp" in person.said("offers", "pause", "spa", code=1)
    person.call("keys", "rotate", "timestamp")
    person.call("offers", "pause", "spa")
    assert follow(person, store, after).stopped == {"taxi", "spa"}
    assert "its threshold is 1" in person.said(
        "keys", "rotate", "timestamp", "--threshold", 2, code=2
    )


def test_many_rotations_are_one_walk(
    person: Person, store: Store, pinned: release_pb2.TrustRoot
) -> None:
    for role in ("root", "release", "timestamp", "root"):
        person.call("keys", "rotate", role)
    standing = follow(person, store, roles.Standing(pinned))
    assert standing.root.version == 5
    assert standing.root.root_keys[0] != pinned.root_keys[0]


def test_a_second_root_key_is_kept_elsewhere(
    person: Person, store: Store, pinned: release_pb2.TrustRoot, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "stick"
    elsewhere.mkdir()
    key = elsewhere / "root.pem"
    public = person.json("keys", "make", key)["public"]
    assert "is never replaced" in person.said("keys", "make", key, code=1)
    moved = tmp_path / "root-2.pb"

    def sign_elsewhere() -> None:
        person.call("keys", "export", moved)
        assert "which says" in person.said("keys", "sign", moved, "--key", key)

    # Both must sign from now on; the new one has to agree to that.
    said = person.json("keys", "rotate", "root", "--add", public, "--threshold", 2, code=1)
    assert said["in_force"] is False
    assert said["lacking"] == [f"1 more of root 2: {', '.join(said_ids(person, public))}"]
    assert person.json("keys", "list")["waiting"]
    assert TrustDesk(person.tenant, store).root() == pinned
    # One whose signature was damaged on the way takes none away.
    waits = release_pb2.SignedRoot.FromString(person.tenant.next_root_path.read_bytes())
    kept = waits.SerializeToString(deterministic=True)
    waits.signatures[0].signature = bytes(64)
    moved.write_bytes(waits.SerializeToString())
    assert person.json("keys", "import", moved, code=1)["lacking"] == said["lacking"]
    assert person.tenant.next_root_path.read_bytes() == kept
    # Imported as it is, it still lacks.
    person.call("keys", "export", moved)
    assert person.json("keys", "import", moved, code=1)["lacking"] == said["lacking"]
    sign_elsewhere()
    assert person.json("keys", "import", moved)["in_force"]
    listed = person.json("keys", "list")
    assert listed["waiting"] is None
    assert listed["roles"]["root"]["threshold"] == 2
    assert [one["here"] for one in listed["roles"]["root"]["keys"]] == [True, False]
    # The release key needs both now.
    assert "1 more of root 2" in person.said("keys", "rotate", "release", code=1)
    sign_elsewhere()
    person.call("keys", "import", moved)
    # The root key that is here was stolen: the other one and a new one replace it.
    assert "Root 4 waits for signatures" in person.said("keys", "rotate", "root", code=1)
    sign_elsewhere()
    person.call("keys", "import", moved)
    standing = follow(person, store, roles.Standing(pinned))
    assert standing.root.version == 4
    assert pinned.root_keys[0] not in standing.root.root_keys
    # An old one is not taken twice, nor another tenant's.
    assert "what follows here is root 5" in person.said("keys", "import", moved, code=1)


def said_ids(person: Person, public: str) -> list[str]:
    return [*ids(person, "root"), key_id(bytes.fromhex(public))]


def test_what_makes_no_sense_is_refused(
    person: Person, store: Store, pinned: release_pb2.TrustRoot, tmp_path: Path
) -> None:
    assert "64 hex digits" in person.said("keys", "rotate", "root", "--add", "zz", code=2)
    assert "names no one key" in person.said("keys", "rotate", "root", "--retire", "00", code=2)
    assert "no root that devices" in person.said(
        "keys", "rotate", "release", "--threshold", 3, code=2
    )
    assert "changes nothing" in person.said("keys", "rotate", "root", "--no-new", code=2)
    for role in ("root", "release", "timestamp"):
        only = ids(person, role)[0]
        said = person.said("keys", "rotate", role, "--no-new", "--retire", only, code=2)
        assert "no key any more" in said
    assert not person.tenant.next_root_path.exists()
    # A key stands in one role only.
    twice = pinned.root_keys[0].hex()
    assert "repeated key" in person.said("keys", "rotate", "release", "--add", twice, code=2)
    (tmp_path / "junk").write_bytes(b"\xff junk")
    assert "no exported root" in person.said("keys", "import", tmp_path / "junk", code=1)
    assert "there is no file" in person.said("keys", "import", tmp_path / "none", code=1)
    person.call("keys", "export", tmp_path / "root")
    assert "no key" in person.said(
        "keys", "sign", tmp_path / "root", "--key", tmp_path / "junk", code=1
    )
    other = tmp_path / "other.pem"
    DeviceKey.generate().save(other)
    assert "does not name this key" in person.said(
        "keys", "sign", tmp_path / "root", "--key", other
    )
    assert TrustDesk(person.tenant, store).root() == pinned


def test_a_root_that_was_tampered_with_lacks_signatures(
    person: Person, store: Store, pinned: release_pb2.TrustRoot, tmp_path: Path
) -> None:
    root = release_pb2.TrustRoot()
    root.CopyFrom(pinned)
    root.version = 2
    root.release_keys[:] = [DeviceKey.generate().public]
    forged = tmp_path / "forged"
    forged.write_bytes(
        release_pb2.SignedRoot(
            root=root.SerializeToString(),
            signatures=[release_pb2.ManifestSignature(key_id=key_id(pinned.root_keys[0]))],
        ).SerializeToString()
    )
    assert "no good signature" in person.said("keys", "import", forged, code=1)
    assert not person.tenant.next_root_path.exists()
    assert TrustDesk(person.tenant, store).root() == pinned


def test_an_expiry_and_the_life_of_timestamps(
    person: Person, store: Store, pinned: release_pb2.TrustRoot
) -> None:
    person.call("keys", "rotate", "root", "--expires-days", 400)
    assert follow(person, store, roles.Standing(pinned)).root.expires_ms > now_ms()
    assert "expires" in person.said("keys", "list")
    person.call("keys", "life", "14d")
    assert json.loads(json.dumps(person.json("keys", "list")))["timestamp_life_hours"] == 14 * 24
    person.call("keys", "life", "30m", code=2)


def test_a_tenant_of_the_first_kind_is_completed_by_init(tmp_path: Path) -> None:
    person = Person(tmp_path)
    said: Any = person.json("init")
    assert any("root 1" in made for made in said["made"])
    assert person.tenant.root_key_path.exists()
    assert person.tenant.timestamp_key_path.exists()


def test_a_store_from_before_a_rotation_takes_the_newest_root_from_beside_the_keys(
    person: Person, store: Store, pinned: release_pb2.TrustRoot, tmp_path: Path
) -> None:
    person.call("publish", "--untrained")
    person.call("offers", "pause", "taxi")
    backup = tmp_path / "backup.sqlite"
    with closing(sqlite3.connect(person.tenant.db_path)) as source:
        source.execute("VACUUM INTO ?", [str(backup)])
    for role in ("timestamp", "root", "release"):
        person.call("keys", "rotate", role)
    standing = follow(person, store, roles.Standing(pinned))
    store.close()
    for path in person.tenant.dir.glob("tenant.sqlite*"):
        path.unlink()
    backup.rename(person.tenant.db_path)
    with closing(person.tenant.open_store()) as restored:
        # A restore takes its time; versions are seconds.
        TrustDesk(person.tenant, restored, lambda: now_ms() + 60_000)
        assert follow(person, restored, standing).root.version == 4
        assert follow(person, restored, roles.Standing(pinned)).stopped == {"taxi"}
        person.call("publish", "--untrained")
        verify_manifest(newest(restored), standing.root, now_ms(), 1)
    # A root of other keys is no root that follows.
    (person.tenant.roots_dir / "5.pb").write_bytes(b"junk")
    assert "does not follow" in person.said("keys", "list", code=1)


def test_a_store_from_before_a_rotation_works_with_its_old_keys(
    person: Person, store: Store, pinned: release_pb2.TrustRoot
) -> None:
    person.call("keys", "rotate", "release")
    root = follow(person, store, roles.Standing(pinned)).root
    for path in person.tenant.roots_dir.iterdir():
        path.unlink()
    assert [key.public for key in here(person.tenant, pinned, "release")] == list(
        pinned.release_keys
    )
    assert [key.public for key in here(person.tenant, root, "release")] == list(root.release_keys)
    assert missing_roles(person.tenant, store) == []
