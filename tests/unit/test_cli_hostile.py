"""Commands on what is broken: one sentence, one JSON object, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_sdk._posix import FileLock
from genome_server.cli import cli
from genome_server.home import Home, Tenant
from genome_server.setup import set_up
from tests.unit.server_shell import Shell

INTERACTION = {
    "interaction_id": "i1",
    "customer": "1",
    "kind": "buy",
    "dna": ["claim:organic"],
    "time": "2026-03-01T18:05:00+01:00",
}


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    tenant = Home(tmp_path / "home").tenant()
    set_up(tenant)
    return tenant


def call(tenant: Tenant, *arguments: object) -> Result:
    done = CliRunner().invoke(cli, ["--home", str(tenant.dir.parents[1]), *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    return done


def told(tenant: Tenant, *arguments: object, code: int) -> Any:
    return Shell(tenant.dir.parents[2], made=False).json(*arguments, code=code)


def interactions(path: Path) -> Path:
    path.write_text(json.dumps(INTERACTION) + "\n")
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("import", "nope", "file"),
        ("import",),
        ("status", "--nope"),
        ("devices", "thin"),
        ("--nope", "status"),
        ("publish", "--bundle-audience", "all"),
    ],
)
def test_wrong_usage_is_json_where_json_is_asked_for(
    tenant: Tenant, arguments: tuple[str, ...]
) -> None:
    found = told(tenant, *arguments, code=2)
    assert found["error"]["kind"] == "UsageError"
    assert found["error"]["message"]
    plain = call(tenant, *arguments)
    assert plain.exit_code == 2
    assert plain.stdout == ""
    assert "Error: " in plain.stderr


@pytest.mark.parametrize("example", ["csv", "jsonl", "yaml"])
def test_an_example_is_json_where_json_is_asked_for(tenant: Tenant, example: str) -> None:
    found = told(tenant, "schema", "offers", "--example", example, code=0)
    assert found["example"] == call(tenant, "schema", "offers", "--example", example).stdout


@pytest.mark.parametrize("command", ["status", "build", "train", "publish"])
def test_a_tenant_that_is_not_there_is_wrong_usage(tenant: Tenant, command: str) -> None:
    found = told(tenant, "--tenant", "other", command, code=2)
    assert found["error"]["kind"] == "NotInitialised"


@pytest.mark.parametrize("command", ["status", "build", "import"])
@pytest.mark.parametrize("damage", ["garbage", "torn", "foreign"])
def test_a_damaged_log_is_called_that(
    tmp_path: Path, tenant: Tenant, command: str, damage: str
) -> None:
    rows = interactions(tmp_path / "i.jsonl")
    assert told(tenant, "import", "interactions", rows, "--create-customers", code=0)["new"] == 1
    if damage == "garbage":
        tenant.log_path.write_bytes(b"garbage" * 1_000)
    elif damage == "torn":
        content = tenant.log_path.read_bytes()
        tenant.log_path.write_bytes(content[:16_384] + b"\xde\xad" * 4_096 + content[24_576:])
    else:
        tenant.log_path.unlink()
        shutil.copy(tenant.db_path, tenant.log_path)
    arguments = ("import", "interactions", rows) if command == "import" else (command,)
    message = told(tenant, *arguments, code=1)["error"]["message"]
    assert "log" in message
    assert "unexpected" not in message


@pytest.mark.parametrize("content", ["landmark: !!int abc\n", "[" * 100_000])
def test_a_dna_file_that_is_no_yaml_is_called_that(tenant: Tenant, content: str) -> None:
    tenant.dna_path.write_text(content)
    message = told(tenant, "build", code=1)["error"]["message"]
    assert "dna.yaml: not YAML" in message


def test_a_full_disk_is_called_that_and_loses_nothing(tmp_path: Path, tenant: Tenant) -> None:
    rows = interactions(tmp_path / "i.jsonl")
    told(tenant, "import", "interactions", rows, "--create-customers", code=0)
    told(tenant, "build", code=0)
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from genome_server.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "--home", tenant.dir.parents[1], "--json", "build"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    message = json.loads(done.stdout)["error"]["message"]
    assert "unexpected" not in message
    assert "Traceback" not in done.stderr
    assert told(tenant, "build", code=0)["genomes"] == 1


def test_what_a_killed_build_left_is_removed_and_one_at_work_is_not(tenant: Tenant) -> None:
    left, busy = tenant.dir / "build-left", tenant.dir / "build-busy"
    for folder in (left, busy):
        folder.mkdir()
        (folder / "genome-build.lock").touch()
        (folder / "build.duckdb").write_bytes(b"subjects")
    lock = FileLock.acquire(busy / "genome-build.lock")
    told(tenant, "build", code=0)
    assert not left.exists()
    assert (busy / "build.duckdb").exists()
    lock.release()


def test_a_name_that_is_not_utf8_can_be_said(tmp_path: Path, tenant: Tenant) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    path.write_text("id,title\nonly-one-cell\n")
    home = str(tenant.dir.parents[1])
    for as_json in (["--json"], []):
        done = subprocess.run(
            [sys.executable, "-c", "from genome_server.cli import main; main()",
             *as_json, "--home", home, "import", "products", path],
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert b"Traceback" not in done.stderr
        assert b"unexpected" not in done.stdout + done.stderr
        if as_json:
            assert json.loads(done.stdout)["files"][0]["file"] == str(path)


def test_what_is_in_a_file_does_not_steer_the_terminal(tmp_path: Path, tenant: Tenant) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "1", "\\u001b]0;owned\\u0007": 1}\n')
    done = call(tenant, "import", "products", path)
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    assert "\\x1b]0;owned\\x07" in done.output


def test_who_stops_reading_is_told_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = "from genome_server.cli import main; main(['schema', 'offers'])"
    done = subprocess.run(
        [sys.executable, "-c", command], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
