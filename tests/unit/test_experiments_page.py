"""docs/experiments.md, followed from an empty tenant."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from genome_server.cli import cli

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "experiments.md").read_text("utf-8")


def commands() -> list[str]:
    """What stands behind each `$` of the section, with the lines that go on with it."""
    section = PAGE.split("## From nothing")[1].split("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [one.strip() for block in blocks for one in f"\n{block}".split("\n$ ") if one]


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in re.findall(r"```yaml\n(# \w+\.yaml\n.*?)```", PAGE, re.DOTALL):
        name = text.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(text)
    said = ""
    for line in commands():
        if line.startswith("export "):
            monkeypatch.setenv("GENOME_EDGE_HOME", str(tmp_path / "build" / "experiment"))
        elif line.startswith("genome-server "):
            done = CliRunner().invoke(cli, shlex.split(line)[1:])
            said = done.output
            # Of a thousand fair draws one or two look unfair.
            chance = line.startswith("genome-server lift ") and "DO NOT BELIEVE THIS" in said
            assert done.exit_code == chance, f"$ {line}\n{said}"
            assert " 0 rejected" in said or "rejected" not in said
        else:
            subprocess.run(line, shell=True, check=True, timeout=20)
    with (tmp_path / "decided.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({one["customer"] for one in rows}) == 400
    shown = {one["placement"]: one["offer"] for one in rows if one["slot"] == "0"}
    assert sorted(shown) == ["checkout", "checkout-bold", "checkout-quiet"]
    assert all(shown.values())
    assert "arm checkout-bold of checkout: " in said
    assert "does it more often" in said
