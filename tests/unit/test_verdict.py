"""One sentence about a device: what keeps it from showing something comes first."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from genome_server.cli.verdict import Wanted, verdict
from genome_server.store.rows import DeviceRow

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_800_000_000_000
WANTED = Wanted(release=7, features=("squarecb",), stop_list=3)
WELL = {
    "release": 7,
    "tier": "fresh",
    "features": ["squarecb"],
    "stop_list_version": 3,
    "reasons": {"CHOSEN": 5, "NOTHING_NEAR": 2, "unknown_marker": 9},
    "clock_ahead_ms": 1_000,
}


def device(**said: Any) -> DeviceRow:
    """A device that spoke a moment ago."""
    return DeviceRow(
        id="d1",
        name="lobby",
        audience="all",
        public_key=bytes(32),
        sdk_version="0.2.0",
        created_ms=NOW - 9 * DAY,
        seen_ms=NOW - 5_000,
        status=WELL | said,
    )


def test_a_device_that_is_well() -> None:
    assert verdict(device(), WANTED, NOW).text == "well: release 7, 7 decisions lately"
    assert verdict(device(reasons={}), WANTED, NOW).kind == "well"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ({"release": 0}, "no-release", "release 7 is meant for it"),
        ({"release": 6, "features": []}, "sdk", "lacks squarecb of release 7"),
        ({"last_nack": "GOLDEN: offer 'a' has value 1"}, "refused", "goes on with release 7"),
        ({"held_back": "release 7: not yet"}, "held-back", "not yet"),
        ({"cause": "the disk is full"}, "trouble", "the disk is full"),
        ({"stop_list_version": 2}, "stop-list", r"newest stop list \(3\)"),
        ({"tier": "house"}, "house", "house defaults only"),
        ({"tier": "house", "clock_ahead_ms": 2 * DAY}, "house", "its clock is 2 d ahead"),
        ({"tier": "restricted"}, "restricted", "end of validity"),
        ({"reasons": {"NOTHING_NEAR": 4}}, "empty", "no offer is for where it is"),
        ({"reasons": {"CAPPED": 4, "NOTHING_NEAR": 3}}, "empty", "often enough"),
        ({"reasons": {"ASSETS": 4, "HOUSE": 1}}, "empty", "files of all offers"),
        ({"outbox_age_ms": 3 * HOUR, "outbox": 12}, "outbox", "12 wait, the oldest 3 h"),
        ({"clock_ahead_ms": -3 * HOUR}, "clock", "3 h behind"),
        ({"tier": "stale"}, "stale", "no longer fresh"),
        ({"release": 6}, "behind", "from release 6 to 7"),
    ],
)
def test_what_is_wrong_is_said(said: dict[str, Any], kind: str, words: str) -> None:
    found = verdict(device(**said), WANTED, NOW)
    assert found.kind == kind
    assert re.search(words, found.text), found.text


def test_what_keeps_everything_else_from_it_comes_first() -> None:
    sick = device(cause="the disk is full", reasons={"CAPPED": 1})
    assert verdict(replace(sick, revoked=True), WANTED, NOW).kind == "revoked"
    assert verdict(replace(sick, seen_ms=0), WANTED, NOW).kind == "never-connected"
    silent = verdict(replace(sick, seen_ms=NOW - 3 * DAY), WANTED, NOW)
    assert (silent.kind, "3 d" in silent.text) == ("silent", True)
    assert verdict(replace(sick, status={}), Wanted(), NOW).kind == "no-release"
    assert verdict(sick, WANTED, NOW).kind == "trouble"
