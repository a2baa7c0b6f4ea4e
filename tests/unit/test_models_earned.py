"""`genome-server models compare`: what two models would have earned in the decisions of the log."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from genome_server.cli import cli
from genome_server.home import Tenant
from tests.gate_town import HALF, NOW, SCREEN, TRAINED, TRUTH, Likes, copy_town, take

ESTIMATES = ("ips", "snips", "dm", "dr")


@pytest.fixture
def tenant(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Tenant:
    return copy_town(tmp_path, tmp_path_factory)


def called(tenant: Tenant, *command: str) -> str:
    done = CliRunner().invoke(cli, ["--home", str(tenant.dir.parent.parent), *command])
    assert done.exit_code in (0, 1), done.output
    return done.stdout


def compared(tenant: Tenant, a: str, b: str) -> Any:
    return json.loads(called(tenant, "models", "compare", a, b, "--json"))["off_policy"]


def test_each_estimate_is_told_of_each_and_of_their_difference(tenant: Tenant) -> None:
    a, b = take(tenant, HALF), take(tenant, TRUTH)
    said = compared(tenant, a, b)
    assert (said["decisions"], said["since_ms"], said["flattered"]) == (900, TRAINED, [])
    assert said["counts"]["come_out"] == 900
    for name in ESTIMATES:
        ours, theirs, apart = (said[side]["estimates"][name] for side in ("a", "b", "difference"))
        assert ours["low"] <= ours["value"] <= ours["high"]
        assert apart["value"] == pytest.approx(theirs["value"] - ours["value"])
    assert said["difference"]["estimates"]["dr"]["low"] > 0, "B knows more"
    # A is what decided: each decision counts once.
    assert said["a"]["overlaps"][0]["largest_weight"] == pytest.approx(1, rel=0.01)
    assert said["a"]["overlaps"][0]["effective_decisions"] == pytest.approx(900, rel=0.01)
    assert said["b"]["overlaps"][0]["effective_decisions"] < 880
    # It is what the gate goes by.
    gate = json.loads(called(tenant, "models", "gate", "--json"))
    figures = next(one["figures"] for one in gate["checks"] if one["name"] == "off-policy")
    assert figures["estimates"] == said["difference"]["estimates"]
    text = called(tenant, "models", "compare", a, b)
    assert "on 900 decisions of " in text
    for word in ("IPS", "SNIPS", "DM", "DR", "largest weight", "effective persons"):
        assert f"\n{word} " in text
    dr = said["b"]["estimates"]["dr"]
    assert f"{dr['value']:.4f} ({dr['low']:.4f} to {dr['high']:.4f})" in text


def test_no_number_is_told_where_the_log_says_too_little(tenant: Tenant) -> None:
    # Of all decisions but the first few dozen the outcome may still come.
    with closing(tenant.open_store()) as store:
        store.put_documents("placement", [("screen", {**SCREEN, "outcome_window_hours": 500})])
    a, b = take(tenant, HALF), take(tenant, TRUTH)
    said = compared(tenant, a, b)
    assert 0 < said["decisions"] < 80
    assert said["counts"]["left_out"]["whose outcome may still come"] > 800
    for side in ("a", "b", "difference"):
        assert not said[side]["concludes"]
        assert said[side]["estimates"] == {}
        assert any("effective number of persons" in lack for lack in said[side]["lacks"])
    text = called(tenant, "models", "compare", a, b)
    for name in (a, b):
        assert f"Nothing is concluded of model {name}: effective number of persons: " in text
    assert "\nDR                   –  " in text


def test_whom_decisions_flatter_is_told(tenant: Tenant) -> None:
    a, b = take(tenant, HALF), take(tenant, Likes(match=2.3), trained_ms=NOW)
    said = compared(tenant, a, b)
    assert (said["since_ms"], said["flattered"]) == (None, [b])
    text = called(tenant, "models", "compare", a, b)
    assert f"Note: model {b} may have learned from some of these decisions." in text
