"""What went out untold protects nothing: who has learned from more may take its place untold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from genome_server.canary.rules import Bounds
from genome_server.cli import cli
from genome_server.errors import Refused
from genome_server.gate.kept import page_path, verdicts
from genome_server.gate.rules import Outcome
from genome_server.home import Tenant
from genome_server.models.shelf import model_in, roll_back_model
from genome_server.releases.manage import promote, rollback
from genome_server.releases.publish import Published, publish
from tests.gate_town import NOW, TRUTH, Likes, copy_town, take

FLAT = Likes(base=-0.9, match=0.0)
#: As good as what is true, and told apart from it by its numbers alone.
ALIKE = Likes(base=-1.6, match=2.41)


@pytest.fixture
def tenant(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Tenant:
    """Its model in force went out before anything had happened, and learned from 100 examples."""
    tenant = copy_town(tmp_path, tmp_path_factory)
    (first,) = tenant.models_dir.iterdir()
    say(tenant, first.name, {"examples": {"examples": 100}})
    assert verdicts(tenant.models_dir, first.name)[-1].verdict.untold
    return tenant


def say(tenant: Tenant, name: str, more: Mapping[str, Any]) -> None:
    report = tenant.models_dir / name / "report.json"
    report.write_text(json.dumps({**json.loads(report.read_text()), **more}))


def learned(tenant: Tenant, examples: int, likes: Likes = TRUTH, **more: Any) -> str:
    """A model that may have learned from all that it could be judged by."""
    return take(tenant, likes, trained_ms=NOW, examples={"examples": examples}, **more)


def out(tenant: Tenant) -> Published:
    return publish(tenant, now_ms=NOW)


def test_it_gives_way_to_one_that_has_learned_from_more(tenant: Tenant) -> None:
    name = learned(tenant, 101)
    done = out(tenant)
    assert (model_in(done.manifest), done.gate) == (name, Outcome.PASSED)
    assert any("the gate cannot tell of off-policy" in note for note in done.notes)
    assert verdicts(tenant.models_dir, name)[-1].verdict.guess
    again = learned(tenant, 102, ALIKE)
    assert model_in(out(tenant).manifest) == again, "that was a guess itself"


@pytest.mark.parametrize(
    ("examples", "origin"), [(100, "trained"), (101, "imported")], ids=["no more", "from elsewhere"]
)
def test_it_gives_way_to_nothing_else(tenant: Tenant, examples: int, origin: str) -> None:
    learned(tenant, examples, origin=origin, made_ms=NOW, name="own.onnx")
    with pytest.raises(Refused, match="let a watched canary find out"):
        out(tenant)


def test_one_that_would_earn_less_is_stopped_all_the_same(tenant: Tenant) -> None:
    take(tenant, FLAT, examples={"examples": 1000})
    with pytest.raises(Refused, match="off-policy: it is worse than what is in force"):
        out(tenant)


def test_what_was_told_has_earned_its_place(tenant: Tenant) -> None:
    told = take(tenant, TRUTH, examples={"examples": 101})
    assert out(tenant).gate is Outcome.PASSED
    assert not verdicts(tenant.models_dir, told)[-1].verdict.untold
    learned(tenant, 1000, ALIKE)
    with pytest.raises(Refused, match="let a watched canary find out"):
        out(tenant)


@pytest.mark.parametrize("watched", [True, False], ids=["a watch", "a person"])
def test_so_has_what_was_let_out_otherwise(tenant: Tenant, watched: bool) -> None:
    learned(tenant, 99)
    if watched:  # which ends as a canary that does well
        some = publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
        promote(tenant, some.release.version, now_ms=NOW)
    else:
        publish(tenant, despite_gate="a trial of ours", now_ms=NOW)
    learned(tenant, 1000, ALIKE)
    with pytest.raises(Refused, match="let a watched canary find out"):
        out(tenant)


def test_what_speaks_against_it_holds_it_up_though_it_may_mislead(tenant: Tenant) -> None:
    learned(tenant, 101)
    out(tenant)
    learned(tenant, 102, Likes(base=0.0, match=0.0))
    with pytest.raises(Refused, match="off-policy: it seems worse than what is in force"):
        out(tenant)


def test_what_was_taken_back_from_a_share_does_not_go_out_untold(tenant: Tenant) -> None:
    learned(tenant, 101)
    publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
    rollback(tenant, now_ms=NOW)
    with pytest.raises(Refused, match="let a watched canary find out"):
        out(tenant)


def test_what_devices_came_back_to_has_earned_its_place(tenant: Tenant) -> None:
    learned(tenant, 101)
    out(tenant)
    with closing(tenant.open_store()) as store:
        roll_back_model(tenant.models_dir, store, reason="bad", now_ms=NOW)
    out(tenant)
    learned(tenant, 102, ALIKE)
    with pytest.raises(Refused, match="let a watched canary find out"):
        out(tenant)


def test_a_watch_promotes_also_what_had_passed_as_a_guess(tenant: Tenant) -> None:
    learned(tenant, 101)
    some = publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
    assert some.gate is Outcome.PASSED
    promote(tenant, some.release.version, now_ms=NOW)
    learned(tenant, 1000, ALIKE)
    with pytest.raises(Refused, match="let a watched canary find out"):
        out(tenant)


def test_a_greater_share_is_not_all(tenant: Tenant) -> None:
    learned(tenant, 101)
    some = publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
    promote(tenant, some.release.version, share=0.2, now_ms=NOW)
    name = learned(tenant, 102, ALIKE)
    assert model_in(out(tenant).manifest) == name, "what all have is the guess from before"


def test_a_look_changes_nothing(tenant: Tenant) -> None:
    (in_force,) = (one.name for one in tenant.models_dir.iterdir())
    root = ["--home", str(tenant.dir.parent.parent)]
    assert CliRunner().invoke(cli, [*root, "models", "gate", in_force]).exit_code == 0
    name = learned(tenant, 101)
    assert model_in(out(tenant).manifest) == name


@pytest.mark.parametrize("examples", ["many", [1], 5, {"examples": "many"}, {"examples": True}, {}])
def test_a_report_that_says_nothing_of_its_examples_makes_no_guess(
    tenant: Tenant, examples: Any
) -> None:
    name = learned(tenant, 101)
    say(tenant, name, {"examples": examples})
    with pytest.raises(Refused, match="let a watched canary find out"):
        out(tenant)


def test_models_gate_says_so(tenant: Tenant) -> None:
    name = learned(tenant, 101)
    root = ["--home", str(tenant.dir.parent.parent)]
    said = CliRunner().invoke(cli, [*root, "models", "gate"])
    assert said.exit_code == 0, said.output
    why = "the one in force went out untold, and this one has learned from more"
    assert why in said.output
    assert why in page_path(tenant.models_dir, name).read_text()
