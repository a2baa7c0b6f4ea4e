"""The example page in a real browser: Chromium, its own rules on origins, and a served device."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from examples.sidecar.run import page
from tests.e2e import chromium
from tests.e2e.sidecar_client import Served, served
from tests.unit.device_town import Town, until

PROGRAM = chromium.installed()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on this machine: apt-get install chromium"
)
# One pixel.
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f0"
    "1f0005000201b7cc8d620000000049454e44ae426082"
)
OFFER: dict[str, Any] = {
    "id": "taxi",
    "content": {"title": "A taxi", "body": "<b>now</b>"},
    "dna": ["service:taxi"],
    "stop_after": {"redeem": True},
    "assets": {"image": "asset/0123456789abcdef.png"},
}
PLACEMENT: dict[str, Any] = {"id": "lobby", "slots": 1, "explorer": "greedy", "shown": "view"}


@pytest.fixture(scope="module")
def tab() -> Iterator[chromium.Page]:
    assert PROGRAM is not None
    with chromium.browser(PROGRAM) as one:
        yield one


@pytest.fixture
def town() -> Town:
    files = {"asset/0123456789abcdef.png": PICTURE}
    return Town(offers=[OFFER], placements=[PLACEMENT], files=files)


def address(origin: str, device: Served, **changed: str) -> str:
    told = {"server": f"http://{device.http}", "token": device.token, "placement": "lobby"}
    return f"{origin}/index.html#{urlencode(told | changed)}"


def decided(tab: chromium.Page) -> str:
    tab.click("form button")
    tab.until("document.querySelector('#said').textContent !== ''")
    return tab.text("#said")


def test_a_page_decides_shows_reports_and_redeems(
    tab: chromium.Page, town: Town, tmp_path: Path
) -> None:
    with page() as origin, served(tmp_path, "--allow-origin", origin, town=town) as device:
        until(lambda: device.ask("GET", "/v1/status").json["release"])
        tab.open(address(origin, device))
        assert decided(tab) == "taxi (CHOSEN)"
        assert tab.run("location.href") == f"{origin}/index.html", "the token is not left there"
        tab.until("document.body.dataset.reported === 'view'")
        assert tab.text("#title") == "A taxi"
        assert tab.text("#body") == "<b>now</b>", "content is text, not markup"
        tab.until("document.querySelector('#image').naturalWidth === 1")
        tab.click("[data-kind=click]")
        tab.until("document.querySelector('#said').textContent === 'reported: click'")
        tab.click("#explain")
        tab.until("document.querySelector('#why').textContent.includes('taxi')")
        tab.click("#redeem")
        tab.until("document.querySelector('#said').textContent === 'it is yours'")
        tab.click("#redeem")
        said = tab.until("document.querySelector('#said').textContent.match(/ALREADY_REDEEMED/)")
        assert said
        assert tab.console == []
        assert device.end() == 0
        events = [event for _, event in device.events()]
    outcomes = [e.outcome.kind for e in events if e.HasField("outcome")]
    decisions = [e.decision for e in events if e.HasField("decision")]
    assert sorted(outcomes) == ["click", "redeem", "view"]
    assert len(decisions) == 1
    assert {"place:hotel", "activity:flight-search"} <= set(decisions[0].context_markers)


def test_a_page_of_another_origin_gets_nothing(
    tab: chromium.Page, town: Town, tmp_path: Path
) -> None:
    with (
        page() as allowed,
        page() as other,
        served(tmp_path, "--allow-origin", allowed, town=town) as device,
    ):
        tab.open(address(other, device))
        assert "Failed to fetch" in decided(tab)
        tab.open(address(allowed, device, token="wrong"))
        assert decided(tab).startswith("UNAUTHENTICATED: ")
        # Not even a request that needs no preflight comes through.
        tab.open(f"{other}/index.html")
        simple = {"method": "POST", "mode": "no-cors", "body": json.dumps({"placement": "lobby"})}
        tab.run(f"fetch('http://{device.http}/v1/decide', {json.dumps(simple)}).then(() => true)")
        assert device.ask("GET", "/v1/status").json["reasons"] == {}
        tab.console.clear()


def test_the_example_runs_with_one_command(tab: chromium.Page) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.sidecar.run"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline().split()
        assert said[0] == "open"
        assert set(parse_qs(said[1].partition("#")[2])) == {"server", "token"}
        tab.open(said[1])
        assert decided(tab) == "taxi-to-airport (CHOSEN)"
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()
