"""publish --keep-model: all that changed goes out with the model that devices have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from genome_server.canary.kept import canaries, keep
from genome_server.canary.rules import Action, Bounds, Verdict
from genome_server.canary.watch import tick
from genome_server.cli import cli
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.models.shelf import model_in
from genome_server.releases.assemble import assemble
from genome_server.releases.manage import promote
from genome_server.releases.publish import manifest_of, publish
from tests.gate_town import NOW, TRUTH, Likes, copy_town, take
from tests.serving import offer
from tests.unit.releasing import built_tenant

FLAT = Likes(base=-0.9, match=0.0)


@pytest.fixture
def tenant(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Tenant:
    return copy_town(tmp_path, tmp_path_factory)


def add_offer(tenant: Tenant) -> None:
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("boat", "service:taxi", value=1.0)])


def in_force(tenant: Tenant) -> str:
    with closing(tenant.open_store()) as store:
        row = store.release()
    assert row is not None
    return model_in(manifest_of(row))


def test_new_offers_need_not_wait_for_a_model_that_is_stopped(tenant: Tenant) -> None:
    had = in_force(tenant)
    bad = take(tenant, FLAT)
    add_offer(tenant)
    with pytest.raises(Refused, match="does not pass the gate"):
        publish(tenant, now_ms=NOW)
    done = publish(tenant, keep_model=True, now_ms=NOW)
    assert {"offers", "golden"} <= set(done.changed)
    assert "model" not in done.changed
    assert (model_in(done.manifest), done.model) == (had, had)
    assert done.gate is None
    assert publish(tenant, keep_model=True, now_ms=NOW).unchanged
    with pytest.raises(Refused, match=bad):  # it waits as before
        publish(tenant, now_ms=NOW)


def test_where_nothing_changed_a_canary_goes_on(tenant: Tenant) -> None:
    publish(tenant, keep_model=True, now_ms=NOW)  # release 1 is near its end
    good = take(tenant, TRUTH)
    some = publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
    assert model_in(some.manifest) == good
    kept = publish(tenant, keep_model=True, now_ms=NOW)
    assert kept.unchanged
    assert kept.release.version < some.release.version
    tick(tenant, NOW + 1)
    with closing(tenant.open_store()) as store:
        assert [one.state for one in canaries(store)] == ["watched"]
    add_offer(tenant)
    assert publish(tenant, keep_model=True, now_ms=NOW).release.version > some.release.version


def test_a_rollback_that_is_half_done_is_done_first(tenant: Tenant) -> None:
    take(tenant, TRUTH)
    publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
    with closing(tenant.open_store()) as store:
        (canary,) = canaries(store)
        begun = Verdict(Action.ROLL_BACK, "fewer succeed")
        keep(store, canary.after(1, NOW, begun, "rolling back"))
    add_offer(tenant)
    with pytest.raises(Refused, match="is being rolled back"):
        publish(tenant, keep_model=True, now_ms=NOW)
    tick(tenant, NOW + 1)
    with closing(tenant.open_store()) as store:
        assert [one.state for one in canaries(store)] == ["rolled back"]
    publish(tenant, keep_model=True, now_ms=NOW)


def test_a_canary_that_is_promoted_meanwhile_is_not_undone(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(tenant, TRUTH)
    some = publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
    add_offer(tenant)

    def meanwhile(*given: Any, **named: Any) -> Mapping[str, bytes]:
        promote(tenant, some.release.version, now_ms=NOW)
        return assemble(*given, **named)

    monkeypatch.setattr("genome_server.releases.publish.assemble", meanwhile)
    with pytest.raises(Refused, match="became the one that all devices have meanwhile"):
        publish(tenant, keep_model=True, now_ms=NOW)


def test_another_channel_has_what_stable_has(tenant: Tenant) -> None:
    stable = publish(tenant, keep_model=True, now_ms=NOW).release.version
    beta = publish(tenant, channel="beta", keep_model=True, now_ms=NOW)
    assert (beta.unchanged, beta.release.version) == (True, stable)


def test_a_part_that_is_gone_is_made_good_from_the_models(tenant: Tenant) -> None:
    had = in_force(tenant)
    with closing(tenant.open_store()) as store:
        row = store.release()
    assert row is not None
    part = next(part for part in manifest_of(row).parts if part.name == "model")
    path = tenant.parts_dir / part.sha256.hex()
    path.unlink()
    add_offer(tenant)
    assert model_in(publish(tenant, keep_model=True, now_ms=NOW).manifest) == had
    assert path.is_file()
    path.unlink()
    shutil.rmtree(tenant.models_dir / had)
    with pytest.raises(Refused, match="part 'model' is gone"):
        publish(tenant, keep_model=True, now_ms=NOW)


def test_there_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no release is in force whose model could be kept"):
        publish(built_tenant(tmp_path), keep_model=True, now_ms=NOW)


def test_a_training_that_ends_meanwhile_does_not_matter(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_offer(tenant)

    def meanwhile(*given: Any, **named: Any) -> Mapping[str, bytes]:
        take(tenant, FLAT)
        return assemble(*given, **named)

    monkeypatch.setattr("genome_server.releases.publish.assemble", meanwhile)
    had = in_force(tenant)
    assert model_in(publish(tenant, keep_model=True, now_ms=NOW).manifest) == had


@pytest.mark.parametrize(
    "beside", [["--untrained"], ["--share", "5%"], ["--despite-gate", "why"]], ids=str
)
def test_it_goes_to_all_and_asks_for_nothing(tenant: Tenant, beside: list[str]) -> None:
    root = ["--home", str(tenant.dir.parent.parent)]
    said = CliRunner().invoke(cli, [*root, "publish", "--keep-model", *beside])
    assert said.exit_code == 2
    assert "--keep-model publishes to all devices the model that they have" in said.output


def test_the_command_says_which_model_stays_and_which_waits(tenant: Tenant) -> None:
    had = in_force(tenant)
    bad = take(tenant, FLAT)
    add_offer(tenant)
    root = ["--home", str(tenant.dir.parent.parent)]
    said = CliRunner().invoke(cli, [*root, "--json", "publish", "--keep-model"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert (found["published"], found["model"]) == (True, had)
    assert any(f"model {bad} waits" in note for note in found["notes"])
