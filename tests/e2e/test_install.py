"""The SDK alone, in an empty environment: what it weighs, brings, and can do."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 1 << 20

DECIDE = """
import sys
from edge_sdk import Context, EdgeClient
with EdgeClient(bundle={bundle!r}) as edge:
    assert edge.wait_ready(30), edge.status
    decision = edge.decide(Context(place="hotel", activity="flight-search"), "lobby-screen")
print(decision.offer.id)
assert "genome_server" not in sys.modules
"""


def size(folder: Path) -> int:
    """Bytes below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the SDK, installed the way that users do."""
    folder = tmp_path_factory.mktemp("alone") / "env"
    venv.create(folder, with_pip=True)
    before = size(folder)
    python = folder / "bin" / "python"
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            ROOT / "edge_sdk",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PIP_CONSTRAINT": ""},
    )
    (folder / "before").write_text(str(before))
    return folder


def test_decides_from_a_bundle_with_no_server_package(alone: Path, tmp_path: Path) -> None:
    script = DECIDE.format(bundle=str(ROOT / "examples" / "town.bundle"))
    done = subprocess.run(
        [alone / "bin" / "python", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "taxi-to-airport"


def test_brings_no_dependency_of_the_server(alone: Path) -> None:
    listed = subprocess.run(
        [
            alone / "bin" / "python",
            "-m",
            "pip",
            "list",
            "--format=freeze",
            "--disable-pip-version-check",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.lower()
    installed = {line.split("==")[0].replace("_", "-") for line in listed.splitlines()}
    project = tomllib.loads((ROOT / "server" / "pyproject.toml").read_text())["project"]
    servers = {
        requirement.split(">")[0].split("[")[0].strip() for requirement in project["dependencies"]
    } - {"genome-edge-sdk"}
    assert "genome-edge-sdk" in installed
    assert not installed & (servers | {"genome-edge-server"})


def test_weighs_little(alone: Path, tmp_path: Path) -> None:
    added = size(alone) - int((alone / "before").read_text())
    assert added <= 180 * MEBIBYTE, f"{added / MEBIBYTE:.1f} MiB"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            tmp_path,
            ROOT / "edge_sdk",
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size <= 512 * 1024
