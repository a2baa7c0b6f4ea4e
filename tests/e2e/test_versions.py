"""Versions side by side: released devices and servers with the ones under test, both ways."""

from __future__ import annotations

import collections
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.outbox.frames import iter_frames
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.state import decision_of, recent_decisions
from genome_edge.v1 import event_pb2
from genome_server.home import Home
from genome_server.log import LogReader, verify_log
from genome_server.log.framing import Batch, check_batch
from tests.versions.released import HERE, VERSIONS, Released, unpack, unzip

NOW = Released(None)
SCENES = (HERE / "scenes.py").read_text()
UNSENT = 3  # what the kept store had to say when its server was gone


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old(version: str, tmp_path: Path) -> Released:
    (tmp_path / "packages").mkdir()
    return unpack(version, tmp_path / "packages")


def play(released: Released, scene: str, store: Path, server: str = "") -> dict[str, Any]:
    said = released.run(SCENES, scene, store, *([server] if server else []))
    return dict(json.loads(said.splitlines()[-1]))


def enrol(admin: Released, device: Released, home: Path, address: str, store: Path) -> None:
    said = admin.server(
        home, *["devices", "enrol", "--audience", "app", "--json"], "--name", store.name
    )
    code = json.loads(said)["code"]
    device.device("enrol", "--server", address, "--code", code, "--store", store)


def kinds_in_log(home: Path) -> collections.Counter[str]:
    """The payloads of devices in the log, each lane's sequences once."""
    path = Home(home).tenant("default").log_path
    assert verify_log(path).whole
    with LogReader(path) as log:
        return collections.Counter(
            str(event_pb2.Event.FromString(frame.body).WhichOneof("payload"))
            for frame in log.frames()
        )


def assert_all_went_well(said: dict[str, Any]) -> None:
    assert said["offer"], said
    assert said["genomes"], said
    assert said["outbox"] == 0, said


def test_versions_are_kept() -> None:
    assert "0.1.0" in VERSIONS


def test_a_released_device_works_with_this_server(
    old: Released, version: str, tmp_path: Path
) -> None:
    home, kept = unzip(version, "home", tmp_path), unzip(version, "store", tmp_path)
    before = kinds_in_log(home)
    NOW.server(home, "publish", "--untrained")
    with NOW.serving(home) as address:
        # One that was enrolled long ago, and says first what it could not say then.
        known = play(old, "use", kept, address)
        enrol(NOW, old, home, address, tmp_path / "new-device")
        fresh = play(old, "use", tmp_path / "new-device", address)
    for said in (known, fresh):
        assert_all_went_well(said)
    after = kinds_in_log(home)
    # Each time a decision, an outcome, an interaction.
    assert sum((after - before).values()) == UNSENT + 3 + 3


def test_who_is_erased_before_the_next_release_goes_from_a_released_device(
    old: Released, version: str, tmp_path: Path
) -> None:
    """The genomes are built for a schema that no release has: no row comes, and somebody goes."""
    home = unzip(version, "home", tmp_path)
    NOW.server(home, "publish", "--untrained")
    with NOW.serving(home) as address:
        enrol(NOW, old, home, address, tmp_path / "device")
        before = play(old, "use", tmp_path / "device", address)["genomes"]
    dna = Home(home).tenant("default").dna_path
    changed = re.sub(r"(?m)^max_markers: .*$", "max_markers: 7", dna.read_text())
    assert changed != dna.read_text()
    dna.write_text(changed)
    assert json.loads(NOW.server(home, "build", "--json"))["release_behind"]
    with closing(Home(home).tenant("default").open_store()) as store:
        subject = store.subject_of("app", "customer-002")
        assert subject is not None
        assert store.genome(subject) is not None
        store.erase_subject(subject)
    with NOW.serving(home) as address:
        said = play(old, "use", tmp_path / "device", address)
        for _ in range(5):
            if said["genomes"] != before:
                break
            said = play(old, "use", tmp_path / "device", address)
        assert said["genomes"] == before - 1
        assert_all_went_well(said)
        NOW.server(home, "publish", "--untrained")
        later = play(old, "use", tmp_path / "device", address)
        assert later["genomes"] == before - 1
        assert_all_went_well(later)


def test_this_device_works_with_a_released_server(
    old: Released, version: str, tmp_path: Path
) -> None:
    home = unzip(version, "home", tmp_path)
    before = kinds_in_log(home)
    old.server(home, "publish", "--untrained")
    with old.serving(home) as address:
        enrol(old, NOW, home, address, tmp_path / "device")
        said = play(NOW, "use", tmp_path / "device", address)
    assert_all_went_well(said)
    assert sum((kinds_in_log(home) - before).values()) == 3


def test_a_kept_store_goes_on_under_this_version(version: str, tmp_path: Path) -> None:
    home, store = unzip(version, "home", tmp_path), unzip(version, "store", tmp_path)
    said = play(NOW, "offline", store)
    assert said["offer"], said
    assert said["genomes"], said
    assert said["outbox"] == UNSENT + 3
    assert NOW.device("replay", said["decision"], "--store", store)
    before = kinds_in_log(home)
    NOW.server(home, "publish", "--untrained")
    with NOW.serving(home) as address:
        assert play(NOW, "use", store, address)["outbox"] == 0
    assert sum((kinds_in_log(home) - before).values()) == UNSENT + 3 + 3


def test_kept_records_replay_under_this_version(version: str, tmp_path: Path) -> None:
    store = unzip(version, "store", tmp_path)
    with closing(DeviceStore.open(store)) as opened, opened.read() as connection:
        kept = [decision_of(frame).decision_id.hex() for frame in recent_decisions(connection, 100)]
    assert kept
    for decision in kept:
        assert json.loads(NOW.device("replay", decision, "--store", store, "--json"))["identical"]


def test_a_home_of_this_version_is_not_harmed_by_an_earlier_one(
    old: Released, version: str, tmp_path: Path
) -> None:
    home = unzip(version, "home", tmp_path)
    NOW.server(home, "publish", "--untrained")
    before = kinds_in_log(home)
    # The earlier version refuses in words, or goes on.
    said = old.server(home, "status", "--json", codes=(0, 1, 2))
    assert "Traceback" not in said
    with NOW.serving(home) as address:
        enrol(NOW, NOW, home, address, tmp_path / "device")
        assert_all_went_well(play(NOW, "use", tmp_path / "device", address))
    assert sum((kinds_in_log(home) - before).values()) == 3


def test_a_store_of_this_version_is_not_harmed_by_an_earlier_one(
    old: Released, version: str, tmp_path: Path
) -> None:
    store = unzip(version, "store", tmp_path)
    assert play(NOW, "offline", store)["outbox"] == UNSENT + 3
    # The earlier version says what is wrong, or goes on; it decides something either way.
    old.run(SCENES, "offline", store)
    said = play(NOW, "offline", store)
    assert said["offer"], said
    assert said["outbox"] >= UNSENT + 6


def test_a_kept_bundle_decides(version: str, tmp_path: Path) -> None:
    said = json.loads(
        NOW.device(
            *("decide", "--bundle", HERE / version / "town.bundle", "--placement", "lobby-screen"),
            *("--place", "hotel", "--activity", "flight-search", "--json"),
            *("--store", tmp_path / "store"),
        )
    )
    assert said["slots"][0]["offer"]


def test_a_kept_report_is_read_as_it_was_written(version: str) -> None:
    # What a device of that version had on the wire, byte for byte.
    kept = json.loads((HERE / version / "report.json").read_text())
    epoch, frames, digest = (bytes.fromhex(kept[name]) for name in ("epoch", "frames", "digest"))
    batch = Batch("till", epoch, kept["lane"], kept["first"], kept["last"], frames, digest)
    assert check_batch(batch)
    said = [event_pb2.Event.FromString(frame.body) for frame in iter_frames(frames)]
    assert [event.WhichOneof("payload") for event in said] == ["decision", "outcome", "interaction"]
