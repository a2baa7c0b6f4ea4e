"""The guide, run line by line as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.house import BIN, House

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
# What the reader does once, or leaves running.
NOT_HERE = ("make setup", "export ")


def commands() -> list[str]:
    """Every line behind a `$` in the guide."""
    blocks = re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def programs() -> list[str]:
    """Every Python block."""
    return re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.timeout(280)
def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    house = House(tmp_path / "build" / "guide")
    environment = {
        **os.environ,
        "GENOME_EDGE_HOME": str(house.home),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    code = address = ""
    try:
        for line in commands():
            if line.startswith(NOT_HERE):
                continue
            if line == "genome-server serve":
                address = f"http://{house.start()}"
                continue
            line = line.replace("http://localhost:50051", address).replace("CODE", code)
            done = subprocess.run(
                shlex.split(line),
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr
            # Placements and offers name each other, so one note is in the nature of things.
            if " import " in line:
                assert done.stderr.count("\n") <= 1, f"$ {line}\n{done.stderr}"
            if "devices enrol" in line:
                code = done.stdout.split()[0]
        assert "taxi-to-airport" in done.stdout, "the last command is the decision"

        for program in programs():
            done = subprocess.run(
                [sys.executable, "-c", program.replace("http://localhost:50051", address)],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, f"{program}\n{done.stderr}"
            assert not done.stderr, f"what a reader copies gives no warning:\n{done.stderr}"
    finally:
        house.kill()
