"""`genome-server doctor`: what is well, and what it says of each thing that is not."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_sdk.sync.keys import DeviceKey
from genome_server.cli import cli, doctor
from genome_server.genomes.build import build
from genome_server.home import Home, Tenant
from genome_server.log import Committer, LogReader
from genome_server.services.tls import self_signed
from genome_server.store.protocol import DeviceRow
from tests.serving import frames, interaction, make_home, publish_release
from tests.unit.test_cli_log import append

DAY_MS = 86_400_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    append(tenant, 1, 5)
    publish_release(tenant)
    tenant.presence_key_path.chmod(0o600)
    self_signed(home.tls_dir, "localhost")
    return home


def examine(home: Home, code: int) -> dict[str, list[dict[str, Any]]]:
    """What it says, by check."""
    done = CliRunner().invoke(cli, ["doctor", "--json", "--home", str(home.root)])
    assert done.exit_code == code, done.output
    said: dict[str, list[dict[str, Any]]] = {}
    facts = json.loads(done.output)
    for finding in facts["findings"]:
        said.setdefault(finding["check"], []).append(finding)
    assert (facts["verdict"] == "bad") == (code == 1)
    return said


def worst(said: dict[str, list[dict[str, Any]]], check: str) -> dict[str, Any]:
    """The one finding of a check that is not good."""
    (found,) = [finding for finding in said[check] if finding["verdict"] != "good"]
    assert found["todo"]
    return found


def tenant_of(home: Home) -> Tenant:
    return home.tenant("default")


def test_a_tenant_that_is_well(home: Home) -> None:
    said = examine(home, 0)
    checks = ["store", "keys", "timestamp", "releases", "log", "certificate", "disk", "devices"]
    assert list(said) == checks
    assert all(f["verdict"] == "good" for found in said.values() for f in found), said
    assert said["log"][0]["text"] == "its last 5 events are whole"
    spoken = CliRunner().invoke(cli, ["doctor", "--home", str(home.root)])
    assert spoken.exit_code == 0
    assert "good     log" in spoken.output


def test_genomes_that_no_release_can_read(home: Home) -> None:
    tenant = tenant_of(home)
    text = tenant.dna_path.read_text()
    tenant.dna_path.write_text(text.replace("view: 0.25", "view: 0.5"))
    assert {finding["verdict"] for finding in examine(home, 0)["releases"]} == {"good"}
    with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as log:
        build(store, log, tenant.dna_path)
    found = worst(examine(home, 0), "releases")
    assert found["verdict"] == "warning"
    assert found["text"].startswith("devices of release 1 get no genomes")
    assert "genome-server publish" in found["todo"]
    publish_release(tenant)
    assert {finding["verdict"] for finding in examine(home, 0)["releases"]} == {"good"}


def test_without_a_tenant(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert "genome-server init" in done.output


def test_a_key_that_is_gone_and_one_that_others_can_read(home: Home) -> None:
    tenant = tenant_of(home)
    tenant.timestamp_key_path.unlink()
    tenant.release_key_path.chmod(0o644)
    found = [f for f in examine(home, 1)["keys"] if f["verdict"] == "bad"]
    assert "timestamp: 0 here, 1 must sign" in found[0]["text"]
    assert "keys rotate timestamp" in found[0]["todo"]
    assert found[1]["todo"] == f"chmod 600 {tenant.release_key_path}"


def test_a_root_key_may_be_elsewhere_and_a_credential_key_may_not(home: Home) -> None:
    tenant = tenant_of(home)
    tenant.root_key_path.unlink()
    assert "keys export" in examine(home, 0)["keys"][0]["text"]
    tenant.credential_key_path.unlink()
    assert "credential.pem is missing" in worst(examine(home, 1), "keys")["text"]


def test_a_file_that_is_no_key(home: Home) -> None:
    tenant_of(home).release_key_path.write_text("nonsense")
    (found,) = [f for f in examine(home, 1)["keys"] if f["text"].startswith("it cannot be checked")]
    assert "release.pem" in found["text"]


def test_a_timestamp_that_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time_ns() // 1_000_000 + 400 * DAY_MS
    monkeypatch.setattr(doctor, "now_ms", lambda: later)
    said = examine(home, 1)
    assert "ended" in worst(said, "timestamp")["text"]
    assert "genome-server serve" in worst(said, "timestamp")["todo"]
    assert said["devices"][0]["verdict"] == "good", "there are none"


def test_a_log_with_a_fault_at_its_end(home: Home) -> None:
    tenant = tenant_of(home)
    with closing(sqlite3.connect(tenant.log_path)) as db, db:
        db.execute("UPDATE lanes SET through = 3")
    assert "mark 3, rows end at 5" in worst(examine(home, 1), "log")["text"]
    with closing(sqlite3.connect(tenant.log_path)) as db, db:
        db.execute("UPDATE batches SET frames = zeroblob(length(frames))")
    assert "faults at its end" in worst(examine(home, 1), "log")["text"]
    for path in tenant.dir.glob("log.sqlite*"):
        path.unlink()
    assert "not there yet" in worst(examine(home, 0), "log")["text"]


def test_a_certificate_that_ends(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography import x509

    (path,) = [p for p in home.tls_dir.glob("*.pem") if b"CERTIFICATE" in p.read_bytes()]
    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    end_ms = int(ends.timestamp() * 1000)
    for at_ms, verdict in ((end_ms - 5 * DAY_MS, "warning"), (end_ms + DAY_MS, "bad")):
        monkeypatch.setattr(doctor, "now_ms", lambda at_ms=at_ms: at_ms)
        assert worst(examine(home, 1), "certificate")["verdict"] == verdict  # the timestamp is old


@pytest.mark.parametrize(("free", "verdict"), [(3 * 1024**3, "warning"), (100, "bad")])
def test_a_disk_that_fills(
    home: Home, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    usage = shutil.disk_usage(home.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    assert worst(examine(home, int(verdict == "bad")), "disk")["verdict"] == verdict


def test_devices_that_were_not_heard(home: Home) -> None:
    now = time.time_ns() // 1_000_000
    with closing(tenant_of(home).open_store()) as store:
        for n in range(7):
            key = DeviceKey.generate().public
            old = now - (9 if n else 0) * DAY_MS
            store.put_device(DeviceRow(f"id-{n}", f"till-{n}", "all", key, "", old, old))
        store.revoke_device("id-6")
    found = worst(examine(home, 0), "devices")
    assert found["verdict"] == "warning"
    assert found["text"].startswith("5 of 6 not heard for 3 days: till-1, till-2,")


def test_it_looks_beside_a_writer(home: Home) -> None:
    with Committer(tenant_of(home).log_path) as log:
        data = frames(1, interaction(b"s" * 16, "view", "soap", "x"))
        log.append_batch("d", b"f" * 16, 7, 1, 1, data, hashlib.sha256(data).digest())
        assert examine(home, 0)["log"][0]["verdict"] == "good"
