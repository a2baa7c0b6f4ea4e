"""Every section of `make bench` is there, named where people look for it, and keeps its figures."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from tests.bench import figures
from tests.bench.__main__ import DOCUMENT, SECTIONS, START, wanted


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_is_there_and_says_how_it_measures(name: str) -> None:
    assert callable(importlib.import_module(f"tests.bench.{name}").run)
    assert f"| `{name}` |" in DOCUMENT.read_text(encoding="utf-8").split(START)[0]


def test_decisions_are_taken_with_those_of_rivals_and_all_else_alone() -> None:
    assert wanted("decide") == ("decide", "rivals")
    assert wanted("cold") == ("cold",)
    assert wanted(None) == SECTIONS


def test_the_makefile_names_the_sections() -> None:
    line = next(
        line
        for line in (figures.ROOT / "Makefile").read_text().splitlines()
        if line.startswith("bench:")
    )
    assert line.rpartition("ONLY=")[2].split("|") == list(SECTIONS)


def test_figures_are_lines_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "build" / "results.jsonl")
    taken = figures.Figures()
    taken.quantiles("loop.freshness", [1_000_000 * n for n in range(1, 101)], "ms")
    lines = (tmp_path / "build" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"name": "loop.freshness.p50_ms", "value": 51.0, "unit": "ms"},
        {"name": "loop.freshness.p99_ms", "value": 100.0, "unit": "ms"},
    ]
