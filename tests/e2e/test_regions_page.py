"""The map of demand in a real browser: the chooser shades what it should, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from genome_server.regions.demand import Survey
from genome_server.regions.page import Facts, Layer, page
from genome_server.regions.stores import Shop
from tests.e2e import chromium
from tests.unit.regions_town import cells_around, crowd_of

PROGRAM = chromium.installed()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on this machine: apt-get install chromium"
)
NEAR, FAR = cells_around(2, 5)


@pytest.fixture
def tab() -> Iterator[chromium.Page]:
    assert PROGRAM is not None
    with chromium.browser(PROGRAM) as one:
        yield one


def colours(tab: chromium.Page) -> list[str | None]:
    """Of each outline its colour; None where it is hidden."""
    found: list[str | None] = tab.run(
        "[...document.querySelectorAll('#map polygon')].map(p => "
        "getComputedStyle(p).display === 'none' ? null : p.getAttribute('fill'))"
    )
    return found


def choose(tab: chromium.Page, which: str, value: int) -> None:
    tab.run(
        f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')) }})"
        f"(document.getElementById('{which}'))"
    )


def test_choosing_shades_the_map(tab: chromium.Page, tmp_path: Path) -> None:
    genomes = [{"scent:mint": 1.0}] * 30 + [{"scent:<b>tar": 2.0}] * 10
    crowd = crowd_of(genomes, [{NEAR: 1.0}] * 24 + [{FAR: 1.0}] * 16)
    survey = Survey(crowd, 5)
    names = ("scent:mint", "scent:<b>tar", "scent:none")
    layers = [Layer(name, survey.demand([(name, 256)])) for name in names]
    layers.append(Layer("customers", survey.everybody()))
    facts = Facts(people=40, located=40, resolution=5, least=10, day="2026-11-23")
    file = tmp_path / "map.html"
    file.write_text(page("Where", layers, facts, [Shop("store <1>", NEAR)]), encoding="utf-8")
    tab.open(file.as_uri())
    darkest, lightest = "#1d5468", "#eef3f6"
    assert darkest in colours(tab)
    choose(tab, "what", 1)
    shown = [colour for colour in colours(tab) if colour]
    assert shown == [darkest]  # it is wanted in one place alone
    assert tab.text("#rows").endswith("100.0 %2.67 ×")  # 16 of 40 people are told as 15
    assert tab.text("option:nth-child(2)") == "scent:<b>tar"
    choose(tab, "what", 2)
    assert [colour for colour in colours(tab) if colour] == []
    choose(tab, "what", 3)
    choose(tab, "how", 1)
    assert tab.text("#legend span:last-child") == "2.4 ×"
    assert lightest not in colours(tab)
    assert tab.text("polygon:not(.off) title").startswith("cell 85")
    assert tab.text(".shop text") == "store <1>"
    assert tab.run("performance.getEntriesByType('resource').length") == 0
    assert not tab.console
