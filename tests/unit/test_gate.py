"""The gate on a tenant whose log was made by the real engine; the four plainest are in e2e."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edge_sdk.engine.documents import InvalidDocument
from edge_sdk.engine.policy import ONE, P, Scorer, SquareCB
from edge_sdk.engine.scoring import open_scorer
from genome_server.cli import cli
from genome_server.documents import placement_spec
from genome_server.errors import Refused
from genome_server.gate import ask as asking
from genome_server.gate import kept, run, twins
from genome_server.gate.kept import limits, page_path, verdicts
from genome_server.gate.rules import Limits, Outcome, Verdict
from genome_server.gate.weigh import Beside, weigh
from genome_server.home import Tenant
from genome_server.learning.examples import Examples
from genome_server.learning.job import sources_of
from genome_server.learning.survey import survey
from genome_server.learning.towers import Towers, random_towers
from genome_server.learning.train import Settings
from genome_server.log import LogReader
from genome_server.models.shelf import keep_golden, load_model, roll_back_model
from genome_server.offpolicy.again import releases_of
from genome_server.offpolicy.past import fold_number, read_past
from genome_server.offpolicy.target import Asked, Decisions, Said, rebuild, scores_of, scoring_of
from genome_server.releases.publish import publish
from tests.gate_town import (
    ACTIVITIES,
    FLOOR,
    GAMMA,
    HALF,
    NOW,
    OFFERS,
    SCREEN,
    TRAINED,
    TRUTH,
    Likes,
    copy_town,
    make_town,
    model,
    take,
)  # fmt: skip

FLAT = Likes(base=-0.9, match=0.0)


@pytest.fixture
def tenant(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Tenant:
    return copy_town(tmp_path, tmp_path_factory)


def verdict(tenant: Tenant, model: str) -> Verdict:
    with closing(tenant.open_store()) as store:
        placements = [placement_spec(document) for _, document in store.documents("placement")]
        said = asking.verdict_on(
            tenant, store, load_model(tenant.models_dir, model), channel="stable",
            placements=placements, now_ms=NOW, progress=asking.silence,
        )  # fmt: skip
    return said.verdict


def words(found: Verdict) -> dict[str, str]:
    return {one.name: one.state.value for one in found.checks}


def reason(found: Verdict, name: str) -> str:
    return next(one.reason for one in found.checks if one.name == name)


def test_a_better_model_passes_with_figures_and_pictures(tenant: Tenant) -> None:
    name = take(tenant, TRUTH)
    found = verdict(tenant, name)
    assert found.outcome is Outcome.PASSED, found.reasons()
    assert set(words(found).values()) == {"pass"}
    assert not found.first
    gain = next(one for one in found.checks if one.name == "off-policy").figures
    assert gain["estimates"]["dr"]["low"] > 0, "it is shown to be better"
    assert gain["confidence"] == 0.95
    counts = found.pictures["decisions"]
    assert counts["come_out"] == counts["in_the_log"], "every decision is done again to the digit"
    offers = found.pictures["offers"]
    snips = gain["estimates"]["snips"]["value"]
    assert sum(one["gain"] for one in offers) == pytest.approx(snips), "the parts add up"
    assert sum(one["after"] for one in offers) == pytest.approx(1)
    page = page_path(tenant.models_dir, name).read_text()
    assert page.count("<svg") == 3
    for told in ("It passes the gate.", "known customers", *OFFERS):
        assert told in page


def test_one_that_starves_offers_is_stopped(tenant: Tenant) -> None:
    # The same placement with an explorer that hardly explores: what is not best is not shown.
    with closing(tenant.open_store()) as store:
        store.put_documents("placement", [("screen", {**SCREEN, "gamma": 1e6, "floor": 0})])
    found = verdict(tenant, take(tenant, replace(TRUTH, never="spa")))
    assert words(found)["starvation"] == "stop"
    told = reason(found, "starvation")
    assert "1 of 4 offers would practically never be shown again: 'spa'" in told


@pytest.mark.parametrize(("match", "word"), [(2.4, "pass"), (-2.4, "stop")])
def test_one_that_starves_a_segment_is_stopped_unless_that_gains(
    tenant: Tenant, match: float, word: str
) -> None:
    # Every offer is shown to somebody; who flies gets the taxi alone, or never again.
    with closing(tenant.open_store()) as store:
        store.put_documents("placement", [("screen", {**SCREEN, "gamma": 1e6, "floor": 0})])
    found = verdict(tenant, take(tenant, replace(TRUTH, match=match)))
    check = next(one for one in found.checks if one.name == "starvation")
    assert check.state.value == word, check.reason
    assert not check.figures["starved"]
    starved = {one["part"] for one in check.figures["starved_segments"]}
    assert starved >= set(ACTIVITIES)
    if word == "stop":
        assert "segment 'activity:fly': offers 'taxi' are " in check.reason


def test_one_that_leaves_a_segment_with_house_defaults_is_held_up(tmp_path: Path) -> None:
    # Nothing is shown that is not worth 0.05; this one thinks that the old want nothing.
    tenant = make_town(tmp_path, screen={**SCREEN, "least_worth": 0.05})
    found = verdict(tenant, take(tenant, replace(TRUTH, more={"age:old": -6.0})))
    check = next(one for one in found.checks if one.name == "starvation")
    assert check.state.value == "cannot tell"
    bare = {one["part"]: one for one in check.figures["emptied"]}
    assert bare["customers of age:old"]["empty"] == bare["customers of age:old"]["decisions"] > 200
    assert not {"customers of age:young", "strangers"} & set(bare)
    assert "'customers of age:old': 100% of " in check.reason
    same = verdict(tenant, take(tenant, HALF))
    assert "house defaults" not in reason(same, "starvation")


def test_customers_are_segments_by_what_is_known_of_them(tenant: Tenant) -> None:
    found = verdict(tenant, take(tenant, TRUTH))
    names = [one["name"] for one in found.pictures["segments"]]
    assert {"customers of age:young", "customers of age:old", "known customers"} <= set(names)
    assert {"customers with a history", "customers without a history", *ACTIVITIES} <= set(names)
    sizes = {one["name"]: one["decisions"] for one in found.pictures["segments"]}
    assert (
        sizes["customers of age:young"] + sizes["customers of age:old"]
        == (sizes["known customers"])
    )
    page = page_path(tenant.models_dir, found.model).read_text()
    assert "customers of age:young" in page


def test_a_placement_says_whether_its_slots_influence_each_other(tenant: Tenant) -> None:
    name = take(tenant, TRUTH)
    assert verdict(tenant, name).pictures["decisions"]["judged_by_whole_slates"] == 0
    with closing(tenant.open_store()) as store:
        store.put_documents("placement", [("screen", {**SCREEN, "slot_effects": "joint"})])
    counts = verdict(tenant, name).pictures["decisions"]
    assert counts["judged_by_whole_slates"] == counts["come_out"], "it was asked anew"
    plain = placement_spec(SCREEN)
    assert placement_spec({**SCREEN, "slot_effects": "joint"}) == plain, "devices are not told"
    with pytest.raises(InvalidDocument, match="slot_effects"):
        placement_spec({**SCREEN, "slot_effects": "independent"})


def test_one_that_is_too_large_is_stopped_by_the_limit_of_the_tenant(tenant: Tenant) -> None:
    root = ["--home", str(tenant.dir.parent.parent)]
    take(tenant, TRUTH)
    done = CliRunner().invoke(cli, [*root, "models", "limits", "--max-bytes", "3000"])
    assert done.exit_code == 0, done.output
    assert "3,000" in done.output
    said = CliRunner().invoke(cli, [*root, "publish"])
    assert said.exit_code == 1
    assert "size: 3," in said.output
    assert "bytes; 3,000 are allowed" in said.output
    with closing(tenant.open_store()) as store:
        assert limits(store).max_bytes == 3000
    checked = CliRunner().invoke(
        cli, [*root, "models", "check", str(next(tenant.models_dir.glob("*/model.onnx")))]
    )
    assert "bad     size" in checked.output, "models check goes by the same"


def imported(tenant: Tenant, trained_ms: int, made_ms: int, likes: Likes = TRUTH) -> str:
    return take(
        tenant, likes, trained_ms=trained_ms, origin="imported", made_ms=made_ms, name="own.onnx"
    )


def test_one_from_outside_that_learned_everything_cannot_be_judged(tenant: Tenant) -> None:
    found = verdict(tenant, imported(tenant, NOW, NOW))
    assert found.outcome is Outcome.CANNOT_TELL
    told = words(found)
    assert (told["leak"], told["calibration"], told["off-policy"]) == ("cannot tell",) * 3
    assert "it may have learned nearly all examples" in reason(found, "leak")
    assert "may have learned from every decision" in reason(found, "off-policy")


def test_one_from_outside_that_knows_what_it_says_it_has_not_learned_leaks(tenant: Tenant) -> None:
    # The model that `train` made here reached .75 for persons whom it had not seen.
    figures = {"auc": 0.75, "auc_high": 0.78, "calibration_error": 0.02}
    evaluation = {"by_person": {"examples": 900, "with_history": figures}}
    take(tenant, HALF, evaluation=evaluation)
    # By heart: as if each answer of the log were known, though it says that it learned before.
    cheat = replace(TRUTH, more={"answer:yes": 6.0, "answer:no": -6.0})
    honest = verdict(tenant, imported(tenant, TRAINED, NOW))
    assert words(honest)["leak"] == "pass", reason(honest, "leak")
    found = verdict(tenant, imported(tenant, NOW - 3 * 3_600_000, NOW, cheat))
    assert words(found)["leak"] == "stop"


@pytest.mark.parametrize(("error", "word"), [(0.01, "pass"), (0.2, "stop")])
def test_what_a_warm_training_left_out_is_gone_by(tenant: Tenant, error: float, word: str) -> None:
    warm = {"asked": 5_000, "after": {"calibration_error": error}}
    found = verdict(tenant, take(tenant, TRUTH, trained_ms=NOW, warm=warm))
    assert words(found)["calibration"] == word, reason(found, "calibration")


def test_what_was_said_lately_is_gone_by(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    judge = run.judge

    def counting(*args: Any, **named: Any) -> Verdict:
        asked.append(args[2].id)
        return judge(*args, **named)

    monkeypatch.setattr(asking, "judge", counting)
    name = take(tenant, TRUTH)
    dry = publish(tenant, dry_run=True, now_ms=NOW)
    assert dry.gate is Outcome.PASSED
    assert not verdicts(tenant.models_dir, name), "a dry run writes nothing"
    assert publish(tenant, share=0.1, now_ms=NOW).gate is Outcome.PASSED
    assert len(asked) == 2
    offer = {"id": "taxi", "dna": ["service:taxi"]}
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [("taxi", {**offer, "value": 2.0})])
    whole = publish(tenant, now_ms=NOW)
    assert (whole.gate, whole.release.share) == (Outcome.PASSED, 1)
    assert len(asked) == 2, "it passed a moment ago"
    # From here on all devices have it, and offers go out without a word from the gate.
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [("taxi", offer)])
    assert publish(tenant, now_ms=NOW).gate is None
    assert publish(tenant, channel="beta", now_ms=NOW).gate is None
    # And the way back is open.
    with closing(tenant.open_store()) as store:
        roll_back_model(tenant.models_dir, store)
    back = publish(tenant, now_ms=NOW)
    assert (back.gate, back.changed[0]) == (None, "model")
    assert len(asked) == 2


def test_no_verdict_holds_after_golden_vectors_changed(tenant: Tenant) -> None:
    name = take(tenant, TRUTH)
    assert publish(tenant, share=0.1, now_ms=NOW).gate is Outcome.PASSED
    nobody: dict[str, list[int]] = {"index": [], "weight": []}
    with closing(tenant.open_store()) as store:
        scorer = open_scorer(load_model(tenant.models_dir, name).content, store.vocabulary())
    (value,) = scorer.values(np.zeros(0, np.int64), np.zeros(0, np.float32), scorer.vectors([()]))

    def bring(answer: float) -> None:
        vectors = [{"query": nobody, "offers": [nobody], "values": [answer]}]
        keep_golden(tenant.models_dir, name, json.dumps({"vectors": vectors}))

    bring(float(value) + 0.1)
    with pytest.raises(Refused, match="golden: 1 of 1 golden vectors beside it are off"):
        publish(tenant, now_ms=NOW)
    bring(float(value))
    assert publish(tenant, now_ms=NOW).gate is Outcome.PASSED


def test_what_cannot_be_told_goes_out_to_a_watched_share_only(tenant: Tenant) -> None:
    from genome_server.canary.rules import Bounds

    imported(tenant, NOW, NOW)
    with pytest.raises(Refused, match="let a watched canary find out"):
        publish(tenant, now_ms=NOW)
    root = ["--home", str(tenant.dir.parent.parent)]
    told = CliRunner().invoke(cli, [*root, "models", "gate"])
    assert told.exit_code == 1
    assert "It cannot be told whether it may replace" in told.output
    with pytest.raises(Refused, match="does not pass the gate"):
        publish(tenant, share=0.1, now_ms=NOW)
    done = publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)
    assert done.gate is Outcome.CANNOT_TELL
    assert any("the gate cannot tell of off-policy" in note for note in done.notes)
    take(tenant, FLAT)
    with pytest.raises(Refused, match="off-policy: it is worse than what is in force"):
        publish(tenant, share=0.1, watch=Bounds(), now_ms=NOW)


@pytest.mark.parametrize("command", [("models", "gate"), ("publish", "--dry-run")])
def test_a_terminal_sees_how_far_it_is(tenant: Tenant, command: tuple[str, ...]) -> None:
    take(tenant, TRUTH)
    terminal, theirs = os.openpty()
    root = ["--home", str(tenant.dir.parent.parent)]
    started = subprocess.Popen(
        [sys.executable, "-c", "from genome_server.cli import main; main()", *root, *command],
        stdout=subprocess.PIPE, stderr=theirs, text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the other end is closed when it is done
        while some := os.read(terminal, 65_536):
            seen += some
    os.close(terminal)
    said = started.communicate(timeout=30)[0]
    assert started.returncode == 0, said
    for step in ("Trying the file", "Reading the log", "Doing decisions again", "Asking both"):
        assert step in seen.decode(), step
        assert step not in said


def test_what_is_published_all_the_same_is_remembered(tenant: Tenant) -> None:
    root = ["--home", str(tenant.dir.parent.parent)]
    name = take(tenant, FLAT)
    dry = CliRunner().invoke(cli, [*root, "publish", "--dry-run", "--despite-gate", "a trial"])
    assert dry.exit_code == 0, dry.output
    assert not verdicts(tenant.models_dir, name)
    done = CliRunner().invoke(cli, [*root, "publish", "--despite-gate", "a trial of ours"])
    assert done.exit_code == 0, done.output
    assert "despite the gate: off-policy: it is worse" in done.output
    shown = CliRunner().invoke(cli, [*root, "--json", "models", "show", name])
    found = json.loads(shown.stdout)["gate"]
    assert [(one["outcome"], one["despite"]) for one in found] == [("stopped", "a trial of ours")]
    text = CliRunner().invoke(cli, [*root, "models", "show", name]).output
    assert "published all the same: a trial of ours" in text
    told = CliRunner().invoke(cli, [*root, "models", "gate"])
    assert told.exit_code == 0, "it is out, and publish asks no more"
    assert "But publish does not ask: all devices have it already." in told.output


def test_what_is_not_published_was_not_published_all_the_same(tenant: Tenant) -> None:
    name = take(tenant, FLAT)
    some = publish(tenant, share=0.1, despite_gate="a trial", now_ms=NOW)
    again = publish(tenant, despite_gate="to all", now_ms=NOW)
    assert (again.unchanged, again.release.version) == (True, some.release.version)
    assert "nothing new is out, so no reason is kept (--despite-gate)" in again.notes
    assert not any("despite the gate:" in note for note in again.notes)
    assert [one.despite for one in verdicts(tenant.models_dir, name)] == ["a trial"]


@dataclass
class Weighing:
    """Decisions of the town, and what three models would have done in them."""

    decisions: Decisions
    truth: Said
    half: Said
    flat: Said
    scorers: dict[str, Scorer]

    def of(
        self, candidate: Said, learned: tuple[int | None, int | None], *twins: Said | None
    ) -> Beside:
        made = iter(twins)
        return weigh(
            self.decisions, candidate, self.half, learned=learned, limits=Limits(),
            twins=lambda: next(made, None), twins_in_force=lambda: next(made, None),
        )  # fmt: skip


@pytest.fixture(scope="module")
def weighing(tmp_path_factory: pytest.TempPathFactory) -> Weighing:
    tenant = copy_town(tmp_path_factory.mktemp("weighing"), tmp_path_factory)
    with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as log:
        sources, vocabulary = sources_of(store, log), store.vocabulary()
        past, _ = read_past(sources, survey(sources), vocabulary, now_ms=NOW)
        again, _, _ = rebuild(past, releases_of(tenant, store), vocabulary)
        decisions = Decisions(again, vocabulary)
        scorers = {
            name: open_scorer(model(store, likes), vocabulary)
            for name, likes in (("truth", TRUTH), ("half", HALF), ("flat", FLAT))
        }
        said = [decisions.ask(Asked([scorer], {})) for scorer in scorers.values()]
    return Weighing(decisions, said[0], said[1], said[2], scorers)


def test_what_is_estimated_is_what_is_true(weighing: Weighing) -> None:
    # The truth is a model, and every offer is worth 1: its scores are what each would earn.
    decisions, earned = weighing.decisions, {"truth": 0.0, "half": 0.0, "flat": 0.0}
    explores = SquareCB(GAMMA, FLOOR)
    release = decisions.rebuilt[0].release
    scorings = {
        name: scoring_of(scorer, release, release.vocabulary)
        for name, scorer in weighing.scorers.items()
    }
    for one in decisions.rebuilt:
        true = scores_of(one, scorings["truth"]) / ONE
        for name, scoring in scorings.items():
            odds = explores.distribution(scores_of(one, scoring)) / P
            earned[name] += float(odds @ true) / len(decisions)
    for candidate, name in ((weighing.truth, "truth"), (weighing.flat, "flat")):
        answer = weighing.of(candidate, (TRAINED, TRAINED)).weighed.answer
        gain = earned[name] - earned["half"]
        assert abs(gain) > 0.03
        for by in ("ips", "snips", "dr"):
            estimate = answer.estimates[by]
            assert estimate.low <= gain <= estimate.high, by


def test_a_model_is_judged_by_what_it_has_not_learned(weighing: Weighing) -> None:
    truth, half, flat = weighing.truth, weighing.half, weighing.flat
    found = weighing.of(truth, (TRAINED, TRAINED))
    assert "newer than both models" in found.weighed.where
    assert not found.weighed.flattered
    assert not found.weighed.harder
    # Nothing is newer than the candidate, and it has no twins.
    found = weighing.of(truth, (NOW, TRAINED))
    assert (found.weighed.flattered, found.weighed.harder) == (True, False)
    found = weighing.of(truth, (None, None))
    assert (found.weighed.flattered, found.weighed.harder) == (True, True)
    # Its twins stand in for it, and what they are worse by counts.
    found = weighing.of(truth, (NOW, TRAINED), flat)
    assert "newer than the model in force, by trainings" in found.weighed.where
    assert found.weighed.answer.estimates["dr"].high < 0
    assert found.candidate is flat
    assert not found.weighed.flattered
    # Neither has seen the persons, where the model in force learned from all decisions as well.
    found = weighing.of(truth, (NOW, NOW), truth, flat)
    assert "of the log, by trainings of both" in found.weighed.where
    assert (found.candidate, found.in_force) == (truth, flat)
    assert not found.weighed.harder
    found = weighing.of(truth, (NOW, NOW), truth, None)
    assert (found.in_force, found.weighed.harder, found.weighed.flattered) == (half, True, False)


def test_twins_learn_without_those_whom_they_are_asked_about(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Examples] = []

    def train(examples: Examples, rows: None, settings: Settings) -> Towers:
        assert rows is None
        seen.append(examples)
        return random_towers(settings.seed, examples.vocabulary_size)

    monkeypatch.setattr(twins, "train", train)
    with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as log:
        sources = sources_of(store, log)
        found, vocabulary = survey(sources), store.vocabulary()
        made = twins.train_twins(sources, found, vocabulary, Settings(), now_ms=NOW)
        assert made is not None
        whole = sum(1 for frame in log.frames() if frame.kind in twins._ANONYMOUS)
        times: list[set[int]] = [set() for _ in range(twins.TWINS)]
        for frame in log.frames():
            if frame.kind in twins._ANONYMOUS:
                times[fold_number(frame, found) % twins.TWINS].add(frame.time_ms)
    assert len(made) == twins.TWINS
    for part, examples in enumerate(seen):
        assert not times[part] & set(examples.time_ms.tolist())
    # Each moment is left out of one training, and in all others.
    assert sum(len(examples) for examples in seen) == (twins.TWINS - 1) * whole
    assert min(len(part) for part in times) > whole / twins.TWINS / 2
    assert np.unique([len(examples) for examples in seen]).size > 1


def test_how_a_model_was_trained_is_known_from_its_report() -> None:
    from dataclasses import asdict

    settings = Settings(seed=4, epochs=3)
    report = {"origin": "trained", "settings": json.loads(json.dumps(asdict(settings)))}
    assert twins.settings_of(report) == settings
    assert twins.settings_of({**report, "origin": "imported"}) is None
    assert twins.settings_of({}) is None
    assert twins.settings_of({"settings": {"shape": {}, "older": 1}}) is None


@pytest.fixture
def said() -> kept.Said:
    return kept.Said(Verdict("m", "f", False, NOW, ()), "state", 10)


def test_a_verdict_holds_while_nothing_changed(said: kept.Said) -> None:
    day = 24 * 3_600_000
    assert said.holds("state", 10, NOW + 100 * day)
    assert not said.holds("other", 10, NOW)
    assert said.holds("state", 11, NOW + day - 1), "one that passed may be a day behind the log"
    assert not said.holds("state", 11, NOW + day)
    unknown = replace(said.verdict, checks=(asking_check(),))
    assert not replace(said, verdict=unknown).holds("state", 11, NOW)


def asking_check() -> Any:
    from genome_server.gate.rules import Check, State

    return Check("leak", State.CANNOT_TELL, "")
