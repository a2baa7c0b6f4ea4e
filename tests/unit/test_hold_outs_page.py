"""The page about hold-outs: its code runs on what `log export` writes, and says what it shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_sdk.sync.trust import FEATURES
from genome_server.cli import cli
from genome_server.store import DeviceRow
from tests.serving import make_home
from tests.unit import hold_out_log
from tests.unit.hold_out_log import BEGIN_MS, DAY_MS, DAYS, OLD_SCREEN, PLACEMENT

PAGE = (Path(__file__).parents[2] / "docs" / "hold-outs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
(CODE,) = (text for language, text in BLOCKS if language == "python")
(OUTPUT,) = (text for language, text in BLOCKS if not language)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up log, as `log export` writes it in both formats, and `devices list`."""
    folder = tmp_path_factory.mktemp("hold-outs")
    tenant = make_home(folder / "home").tenant("default")
    written = hold_out_log.write(tenant.log_path)
    with closing(tenant.open_store()) as store:
        for name in ("screen", "till", OLD_SCREEN):
            features = ["offer-model-1"] if name == OLD_SCREEN else list(FEATURES)
            store.put_device(DeviceRow(name, "", "all", b"k" * 32))
            store.touch_devices({name: (BEGIN_MS, {"features": features})})

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments, "--home", str(folder / "home"), "--json"])
        assert done.exit_code == 0, done.output
        return done.stdout

    for format_ in ("parquet", "jsonl"):
        said = json.loads(run("log", "export", str(folder / format_), "--format", format_))
        assert said["written"] == written
    (folder / "devices.json").write_text(run("devices", "list", "--json"))
    (folder / "hold_out.py").write_text(CODE)
    return folder


def told(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "hold_out.py", *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_the_code_of_the_page_says_what_the_page_shows(folder: Path) -> None:
    assert told(folder, "parquet", PLACEMENT, "buy", str(DAYS), "devices.json") == OUTPUT


def test_the_figures_are_those_that_a_plain_count_gives(folder: Path) -> None:
    """The same from JSON Lines, one event after the other."""
    rows = [
        json.loads(line)
        for part in sorted((folder / "jsonl").glob("events-*.jsonl"))
        for line in part.read_text().splitlines()
    ]
    end = max(row["time_ms"] for row in rows)
    first: dict[str, int] = {}
    groups: dict[str, set[bool]] = {}
    for row in rows:
        decision = (row["event"] or {}).get("decision")
        if decision is None or row["device"] == OLD_SCREEN or row["subject"] == "0" * 32:
            continue
        held = decision.get("held_out", False)
        chosen = decision["instead"] if held else decision["slots"]
        if any(slot["reason"] in ("CHOSEN", "EXPLORED") for slot in chosen):
            who = row["subject"]
            first[who] = min(first.get(who, end), row["time_ms"])
            groups.setdefault(who, set()).add(held)
    bought: dict[str, list[float]] = {}
    for row in rows:
        said = (row["event"] or {}).get("interaction", {})
        since = row["time_ms"] - first.get(row["subject"], end)
        if said.get("kind") == "buy" and 0 <= since < DAYS * DAY_MS:
            bought.setdefault(row["subject"], []).append(int(said["amount_micros"]) / 1e6)
    lines: dict[str, Any] = {}
    for name, held in (("shown", {False}), ("held out", {True})):
        whose = [w for w, of in groups.items() if of == held and first[w] + DAYS * DAY_MS <= end]
        did = sum(who in bought for who in whose)
        spent = sum(sum(bought.get(who, ())) for who in whose)
        lines[name] = [len(whose), did, did / len(whose), spent / len(whose)]
    shown, held_out = lines["shown"], lines["held out"]
    assert sum(line[0] for line in lines.values()) == hold_out_log.GUESTS
    assert shown[2] > held_out[2]
    wanted = [f"{name:10} {n:9,} {d:7,} {s:7.1%} {a:12.2f}" for name, (n, d, s, a) in lines.items()]
    share, spent = shown[2] - held_out[2], shown[3] - held_out[3]
    wanted.append(f"{'difference':10} {'':9} {'':7} {share:+7.1%} {spent:+12.2f}")
    assert OUTPUT.splitlines()[1:] == wanted


def test_without_the_list_of_devices_older_ones_show_up(folder: Path) -> None:
    text = told(folder, "parquet", PLACEMENT, "buy", str(DAYS))
    assert "in both" in text
    assert "in both" not in OUTPUT


def test_what_the_page_shows_of_the_log_is_what_it_holds(folder: Path) -> None:
    (shown,) = (text for language, text in BLOCKS if language == "json")
    decision, interaction = (json.loads(text) for text in re.split(r"\n(?=\{)", shown.strip()))
    part = next((folder / "jsonl").glob("events-*.jsonl"))
    for said in (decision, interaction):
        for row in map(json.loads, part.read_text().splitlines()):
            inner = row["event"].get(said["kind"])
            fields = said["event"][said["kind"]]
            if inner and fields.keys() <= inner.keys():
                break
        else:
            raise AssertionError(f"no {said['kind']} has all of {sorted(fields)}")
        assert row.keys() > said.keys()
        assert all(type(inner[name]) is type(value) for name, value in fields.items())
