"""`genome-server log`, `backup` and `restore`, as a person meets them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.cli import cli
from genome_server.home import Tenant
from genome_server.log import Committer
from genome_server.log.erase import remember_erasures
from tests.serving import frames, interaction, make_home, publish_release

EPOCH = b"e" * 16
SUBJECTS = (b"a" * 16, b"b" * 16, b"c" * 16)


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    tenant = make_home(tmp_path / "home").tenant("default")
    append(tenant, 1, 5)
    publish_release(tenant)
    return tenant


def append(tenant: Tenant, first: int, count: int) -> None:
    events = [
        interaction(SUBJECTS[n % 3], "view", "soap", f"i-{n}") for n in range(first, first + count)
    ]
    with Committer(tenant.log_path) as log:
        for n, event in enumerate(events, start=first):
            data = frames(n, event)
            log.append_batch("till", EPOCH, 0, n, n, data, hashlib.sha256(data).digest())


def run(tenant: Tenant, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    home = tenant.dir.parent.parent
    done = CliRunner().invoke(cli, [*map(str, arguments), "--home", str(home), "--json"])
    assert done.exit_code == code, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_verify_shows_what_is_wrong_and_where(tenant: Tenant) -> None:
    assert run(tenant, "log", "verify")["whole"]
    with closing(sqlite3.connect(tenant.log_path)) as log, log:
        log.execute("UPDATE batches SET frames = substr(frames, 1, 50) WHERE offset = 2")
        log.execute("DELETE FROM batches WHERE offset = 3")
    said = run(tenant, "log", "verify", code=1)
    assert [fault["offset"] for fault in said["faults"]] == [2, 4, 4]
    home = str(tenant.dir.parent.parent)
    told = CliRunner().invoke(cli, ["log", "verify", "--home", home])
    assert told.exit_code == 1
    assert "offset 2: " in told.stdout
    assert "damaged in 3 places" in told.stdout


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("frames = substr(frames, 1, 50)", "offset 2 is cut off"),
        ("frames = substr(frames, 1, 10)", "offset 2 is cut off"),
        ("frames = NULL", "offset 2 is no batch"),
        ("digest = 7", "offset 2 is no batch"),
        ("device = CAST(x'cc41' AS TEXT)", "is damaged"),
    ],
)
def test_a_damaged_batch_is_named(tenant: Tenant, tmp_path: Path, damage: str, words: str) -> None:
    with closing(sqlite3.connect(tenant.log_path)) as log, log:
        log.execute("ALTER TABLE batches RENAME TO kept_as_they_were")  # whose types are strict
        log.execute("CREATE TABLE batches AS SELECT * FROM kept_as_they_were")
        log.execute(f"UPDATE batches SET {damage} WHERE offset = 2")
    assert not run(tenant, "log", "verify", code=1)["whole"]
    for command in (["log", "replay"], ["log", "export", str(tmp_path / "out")], ["build"]):
        said = run(tenant, *command, code=1)["error"]
        assert words in said["message"]
    assert "damaged" in run(tenant, "backup", tmp_path / "backup", code=1)["error"]["message"]


def test_replay_compares_and_commits(tenant: Tenant) -> None:
    assert run(tenant, "log", "replay")["same"]
    with closing(sqlite3.connect(tenant.db_path)) as database, database:
        database.execute("UPDATE genomes SET newest_hour = 7, state = x'00'")
    said = run(tenant, "log", "replay", code=1)
    assert (said["same"], said["changed"] > 0) == (False, True)
    assert not run(tenant, "log", "replay", "--commit")["same"]
    assert run(tenant, "log", "replay")["same"]
    assert not list(tenant.dir.glob("build-*"))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_an_export_goes_on_where_it_ended(tenant: Tenant, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    said = run(tenant, "log", "export", folder, "--format", kind)
    assert (said["read"], said["written"], said["parts"], said["offset"]) == (5, 5, 1, 5)
    append(tenant, 6, 2)
    assert run(tenant, "log", "export", folder, "--format", kind)["written"] == 2
    assert run(tenant, "log", "export", folder, "--format", kind)["parts"] == 0
    rows = read(folder, kind)
    assert [row["offset"] for row in rows] == list(range(7))
    assert {row["subject"] for row in rows} <= {s.hex() for s in SUBJECTS}
    event = rows[0]["event"]
    event = json.loads(event) if isinstance(event, str) else event
    assert event["interaction"]["interaction_id"] == "i-1"
    other = run(tenant, "log", "export", folder, "--format", kind, "--kind", "consent", code=1)
    assert "name another folder" in other["error"]["message"]
    (first, *_) = sorted(folder.glob("events-*"))
    first.unlink()
    lost = run(tenant, "log", "export", folder, "--format", kind, code=1)
    assert "lacks the part that begins at offset 0" in lost["error"]["message"]


def test_ids_in_an_export_are_hex(tenant: Tenant, tmp_path: Path) -> None:
    outcome = event_pb2.Outcome(decision_id=bytes(range(16)), kind="view")
    body = event_pb2.Event(outcome=outcome).SerializeToString()
    data = frames(6, (SUBJECTS[0], FrameKind.OUTCOME, body))
    with Committer(tenant.log_path) as log:
        log.append_batch("till", EPOCH, 0, 6, 6, data, hashlib.sha256(data).digest())
    run(tenant, "log", "export", tmp_path / "out", "--format", "jsonl", "--kind", "outcome")
    (row,) = read(tmp_path / "out", "jsonl")
    assert row["event"]["outcome"]["decision_id"] == bytes(range(16)).hex()


def test_an_export_of_some_events(tenant: Tenant, tmp_path: Path) -> None:
    none = run(tenant, "log", "export", tmp_path / "a", "--until", "2020-01-01")
    assert (none["read"], none["written"]) == (5, 0)
    some = run(tenant, "log", "export", tmp_path / "b", "--kind", "interaction")
    assert some["written"] == 5
    wrong = run(tenant, "log", "export", tmp_path / "c", "--since", "yesterday", code=2)
    assert "no date" in wrong["error"]["message"]


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in sorted(folder.glob("events-*")):
        if kind == "jsonl":
            found += [json.loads(line) for line in part.read_text().splitlines()]
        else:
            found += pq.read_table(part).to_pylist()
    return found


def test_backup_and_restore(tenant: Tenant, tmp_path: Path) -> None:
    made = run(tenant, "backup", tmp_path / "copy", "--wait")
    assert (made["events"], made["keys"], made["waits"]) == (5, False, True)
    append(tenant, 6, 2)
    remember_erasures(tenant.dir, [SUBJECTS[1]], 1)
    refused = run(tenant, "restore", tmp_path / "copy", code=1)
    assert "--replace" in refused["error"]["message"]
    done = run(tenant, "restore", tmp_path / "copy", "--replace")
    assert (done["events"], done["erased"]) == (5, 2)
    assert not set(done["missing_keys"]) & {"release.pem", "credential.pem", "presence.key"}
    assert run(tenant, "log", "verify")["events"] == 5
    home = str(tenant.dir.parent.parent)
    arguments = ["backup", str(tmp_path / "keys"), "--with-keys", "--home", home]
    assert "encrypt it" in CliRunner().invoke(cli, arguments).stderr
