"""`genome-server models`: what a person does with models, on a tenant with a log."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from edge_sdk.engine.scoring import open_scorer
from examples.models import pytorch_towers
from examples.models.contract import Handout, probes, write
from genome_server.cli import cli
from genome_server.cli.models_list import versions
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.metrics import auc, calibration_error, log_loss
from genome_server.learning.towers import Shape, random_towers
from genome_server.models import trial
from genome_server.models.check import check_model
from genome_server.models.paired import paired
from genome_server.models.shelf import keep_golden, load_model, save_model
from tests.unit._genomes import House
from tests.unit.test_learning_job import with_answers
from tests.unit.test_models_examples import random_state

SMALL = Shape(members=1, width=64, hidden=4, dimension=2)


class Person:
    """Somebody at the terminal of a tenant of thirty customers who answered."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.root = house.dir.parent.parent

    def call(self, *arguments: object, code: int = 0) -> Result:
        home = ["--home", str(self.root), "--tenant", "test"]
        done = CliRunner().invoke(cli, [*home, *map(str, arguments)])
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self.call("models", *arguments, "--json", code=code).stdout)

    def train(self, seed: int, trained_ms: int = 10**15) -> str:
        """A model as training leaves it, without the time that this takes."""
        store = self.house.store
        vocabulary = store.vocabulary()
        towers = random_towers(seed, len(vocabulary), SMALL)
        facts = ModelFacts(vocabulary.lineage, len(vocabulary), trained_ms)
        report = {"auc_by_person": {"cold": 0.7, "history": 0.75}}
        return save_model(self.house.tenant.models_dir, store, tower_model(towers, facts), report)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tenant, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("answered") / "test"
    with closing(House(folder)) as house:
        with_answers(house)
    return folder


@pytest.fixture
def person(answered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    # That a check in a process of its own says the same is shown in test_models_check.
    monkeypatch.setattr(trial, "check_apart", check_model)
    folder = tmp_path / "tenants" / "test"
    shutil.copytree(answered, folder)
    with closing(House(folder)) as house:
        yield Person(house)


def own(person: Person, name: str = "own.onnx") -> Path:
    """A model of a team's own, from the examples that they were given."""
    folder = person.root / "handout"
    person.json("examples", folder)
    handout = Handout.read(folder)
    state = {
        key: np.resize(array, (handout.size, array.shape[1])) if len(array) == 60 else array
        for key, array in random_state().items()
    }
    file = person.root / name
    file.write_bytes(pytorch_towers.export(state, handout))
    return file


def test_what_a_model_is_trained_on_is_written(person: Person) -> None:
    said = person.json("examples", person.root / "out")
    vocabulary = person.house.store.vocabulary()
    assert (said["examples"], said["offers"], said["markers"]) == (28 * 8, 2, len(vocabulary))
    numbered = json.loads((person.root / "out" / "vocabulary.json").read_text())
    assert len({one.stat().st_mode for one in (person.root / "out").iterdir()}) == 1
    assert numbered["lineage"] == vocabulary.lineage.hex()
    assert numbered["markers"] == list(vocabulary)
    rows = pq.read_table(person.root / "out" / "examples.parquet").to_pydict()
    assert set(rows["offer"]) == {"taxi", "spa"}
    assert len(set(rows["person"])) == 28
    assert sum(rows["success"]) not in (0, len(rows["success"]))
    assert max(rows["time_ms"]) == numbered["newest_ms"]
    for markers, weights, cold in zip(
        rows["markers"], rows["weights"], rows["stranger_weights"], strict=True
    ):
        assert len(markers) == len(weights) == len(cold)
    handout = Handout.read(person.root / "out")
    taxi = handout.offers[rows["offer"].index("taxi")]
    assert [vocabulary.name(index) for index in taxi[0]] == ["ride:taxi", "brand:acme"]


@pytest.mark.parametrize(
    ("module", "library"),
    [("scikit_learn", "sklearn"), ("lightgbm_trees", "lightgbm"), ("pytorch_towers", "torch")],
)
def test_a_worked_example_goes_from_the_log_to_the_shelf(
    person: Person, module: str, library: str
) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    folder, out = person.root / "out", person.root / "own.onnx"
    person.json("examples", folder)
    importlib.import_module(f"examples.models.{module}").main(str(folder), str(out))
    said = person.json("import", out)
    assert said["imported"]
    assert {one["name"] for one in said["findings"]} <= {"slow"}
    assert said["golden"] == 24, "the answers of the library came with it, and hold"
    assert person.json("promote", said["model"])["model"] == said["model"]


def test_what_a_file_should_answer_is_held_against_it_and_kept(person: Person) -> None:
    file = own(person)
    handout = probes(Handout.read(person.root / "handout"))
    content = file.read_bytes()
    scorer = open_scorer(content, person.house.store.vocabulary())
    told = [
        scorer.values(*query, scorer.vectors([list(zip(*offer, strict=True))]))[0]
        for query, offer in zip(handout.queries, handout.offers, strict=True)
    ]
    beside = file.with_name("own.onnx.golden.json")
    write(str(file), content, handout, told)
    assert person.json("check", file)["golden"] == 24
    assert "24 golden vectors hold" in person.call("models", "check", file).output
    off = [value + 2e-5 * (row == 7) for row, value in enumerate(told)]
    write(str(file), content, handout, off)
    refused = person.call("models", "import", file, code=1).output
    assert "bad     golden: 1 of 24 golden vectors beside it are off, by up to 2e-05" in refused
    assert "most of all vector 7, offer 0: it answers" in refused
    assert person.json("list")["models"] == []
    beside.write_text('{"vectors": [{"query": {}}]}')
    said = person.json("check", file, code=1)
    assert [one["name"] for one in said["findings"] if one["severity"] == "bad"] == [
        "golden-unreadable"
    ]
    beside.write_bytes(b"\xff")
    assert "is not text" in person.call("models", "check", file, code=1).output
    with beside.open("wb") as sparse:
        sparse.truncate(5_000_000)
    assert "fewer vectors tell as much" in person.call("models", "check", file, code=1).output
    # They are kept, and the gate asks them again.
    write(str(file), content, handout, told)
    name = person.json("import", file)["model"]
    models = person.house.tenant.models_dir
    kept = models / name / "golden.json"
    assert person.json("show", name)["report"]["golden"] == 24
    assert load_model(models, name).golden == beside.read_text()
    assert "24 golden" in person.call("models", "import", file).output, "again, and no other"
    gate = ("gate", name)
    checks = {one["name"]: one for one in person.json(*gate)["checks"]}
    assert checks["contract"]["state"] == "pass"
    keep_golden(models, name, json.dumps({"vectors": [
        {"query": {"index": [], "weight": []}, "offers": [{"index": [], "weight": []}],
         "values": [2.0]}]}))  # fmt: skip
    checks = {one["name"]: one for one in person.json(*gate, code=1)["checks"]}
    assert checks["contract"]["state"] == "stop"
    assert "golden: 1 of 1 golden vectors" in checks["contract"]["reason"]
    # What cannot be read is told with its file, whoever asks.
    kept.write_bytes(b"\xff")
    for command in (gate, ("show", name), ("promote", name)):
        assert f"{kept} is not text" in person.call("models", *command, code=1).output


def test_golden_vectors_that_are_no_file_are_not_passed_over(person: Person) -> None:
    file = own(person)
    beside = file.with_name("own.onnx.golden.json")
    for make, cause in (
        (beside.mkdir, "is no regular file"),
        (partial(os.mkfifo, beside), "is no regular file"),
        (partial(beside.symlink_to, "nowhere.json"), "cannot be read: No such file"),
        (partial(beside.symlink_to, beside), "cannot be read: Too many levels"),
    ):
        make()
        for command in ("check", "import"):
            told = person.call("models", command, file, code=1).output
            assert f"{beside} {cause}" in told
        if beside.is_dir():
            beside.rmdir()
        else:
            beside.unlink()
    assert person.json("list")["models"] == []
    # A link to a file is one; a name that leaves no room for another has none beside it.
    real = person.root / "real.json"
    real.write_text("{")
    beside.symlink_to(real)
    assert "golden-unreadable" in person.call("models", "check", file, code=1).output
    long = file.rename(file.with_name("m" * 250))
    assert person.json("check", long)["golden"] == 0


def test_a_file_is_checked_and_everything_wrong_is_told(person: Person) -> None:
    file = own(person)
    good = person.json("check", file)
    # How long it takes is this machine's affair.
    assert good["fit"]
    assert {one["name"] for one in good["findings"]} <= {"slow"}
    assert good["latency_us"] > 0
    assert "keeps the contract" in person.call("models", "check", file).output
    small = person.call("models", "check", file, "--max-bytes", 10, code=1).output
    assert "bad     size: " in small
    assert "is not fit for devices: 1 bad" in small
    broken = person.root / "broken.onnx"
    broken.write_bytes(file.read_bytes()[:-40])
    said = person.json("check", broken, code=1)
    assert [one["name"] for one in said["findings"]] == ["cut"]
    assert person.json("list")["models"] == [], "a check keeps nothing"
    person.call("models", "check", person.root / "nowhere.onnx", code=2)
    person.call("models", "check", file, "--max-bytes", 0, code=2)
    huge = person.root / "huge.onnx"
    with huge.open("wb") as sparse:
        sparse.truncate((64 << 20) + 1)
    assert "devices read models of up to" in person.call("models", "check", huge, code=1).output


def test_a_model_is_taken_in_promoted_and_rolled_back(person: Person) -> None:
    assert "no model yet" in person.call("models", "list").output
    assert "no model to go back to" in person.call("models", "rollback", code=1).output
    first = person.train(1)
    file = own(person)
    done = person.json("import", file)
    name = done["model"]
    assert done["imported"]
    listed = person.json("list")
    assert (listed["current"], listed["before"]) == (first, None), "an import promotes nothing"
    assert [(one["id"], one["origin"], one["state"]) for one in listed["models"]] == [
        (name, "imported", ""),
        (first, "trained", "current"),
    ]
    assert "is here already" in person.call("models", "import", file).output
    report = person.json("show", name)["report"]
    assert (report["name"], report["sha256"][:16]) == ("own.onnx", name)
    assert {one["name"] for one in report["findings"]} <= {"slow"}
    moved = person.json("promote", name[:8], "--reason", "ours is better")
    assert (moved["model"], moved["was"], moved["before"], moved["changed"]) == (
        name, first, first, True,
    )  # fmt: skip
    assert "already" in person.call("models", "promote", name).output
    shown = person.call("models", "show", name).output
    for said in ("the next release takes it", "promoted: ours is better", "own.onnx", "none carri"):
        assert said in shown
    table = person.call("models", "list").output
    assert "current" in table
    assert "before" in table
    assert "0.700" in table
    back = person.call("models", "rollback", "--reason", "it was not").output
    assert f"The next release takes model {first} instead of {name}." in back
    assert "no model before" in person.call("models", "rollback", code=1).output
    history = person.json("list")["history"]
    assert [(one["kind"], one["reason"]) for one in history[1:]] == [
        ("promoted", "ours is better"),
        ("rolled back", "it was not"),
    ]
    assert "no model 'dead'" in person.call("models", "promote", "dead", code=1).output


def test_a_model_that_is_not_fit_is_not_taken_in(person: Person) -> None:
    file = person.root / "other.onnx"
    facts = ModelFacts(b"x" * 16, 3, 5, examples=5)
    file.write_bytes(tower_model(random_towers(1, 3, SMALL), facts))
    said = person.json("import", file, code=1)
    assert not said["imported"]
    assert [one["name"] for one in said["findings"]] == ["vocabulary-lineage"]
    assert "It was not taken in." in person.call("models", "import", file, code=1).output
    assert person.json("list")["models"] == []


def test_models_are_compared_on_what_neither_has_seen(person: Person) -> None:
    times = sorted(
        pq.read_table(examples(person) / "examples.parquet").column("time_ms").to_pylist()
    )
    until = times[100]
    a, b = person.train(1, until), person.train(2, times[60])
    said = person.json("compare", a, b)
    newer = sum(time > until for time in times)
    assert (said["examples"], said["since_ms"], said["flattered"]) == (newer, until, [])
    assert said["notes"] == []
    found = said["figures"]["with_history"]["auc"]
    assert found["difference"] == pytest.approx(found["b"] - found["a"])
    assert found["low"] <= found["difference"] <= found["high"]
    other = person.json("compare", b, a)["figures"]["with_history"]["auc"]
    assert other["difference"] == pytest.approx(-found["difference"])
    assert other["high"] == pytest.approx(-found["low"])
    text = person.call("models", "compare", a, b).output
    assert f"On {newer} examples" in text
    assert "AUC, strangers" in text


def examples(person: Person) -> Path:
    person.json("examples", person.root / "handout")
    return person.root / "handout"


def test_whom_the_examples_flatter_is_said(person: Person) -> None:
    old, new = person.train(1, 5), person.train(2)
    said = person.json("compare", old, new)
    assert (said["since_ms"], said["flattered"]) == (None, [new])
    assert said["examples"] == 28 * 8
    assert said["notes"] == [
        "only 0 examples are newer than what the models learned from",
        f"model {new} may have learned from some of these: its figures flatter it",
    ]
    assert (
        f"Note: model {new} may have learned" in person.call("models", "compare", old, new).output
    )
    person.call("models", "compare", old, old, code=2)


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    house = House(tmp_path / "tenants" / "test")
    with closing(house):
        person = Person(with_answers(house, persons=4, each=4))
        a, b = person.train(1), person.train(2)
        said = person.call("models", "compare", a, b, code=1).output
        assert "too few examples to compare models on: 8; needed are 50" in said


def test_figures_of_two_models_are_those_of_training() -> None:
    rng = np.random.default_rng(5)
    person = np.repeat(np.arange(40), 5).astype(np.int32)
    label = (rng.random(200) < 0.4).astype(np.float32)
    good = np.clip(label * 0.4 + rng.random(200) * 0.5, 0, 1).astype(np.float32)
    luck = rng.random(200).astype(np.float32)
    once = np.ones(200, np.float32)
    found = paired(label, luck, good, person, once)
    thinned = rng.choice([1, 1, 4], 200).astype(np.float32)
    weighed = paired(label, luck, good, person, thinned)
    for name, measure in (
        ("auc", auc), ("log_loss", log_loss), ("calibration_error", calibration_error),
    ):  # fmt: skip
        assert found[name].a == pytest.approx(measure(label, luck, once))
        assert found[name].b == pytest.approx(measure(label, good, once))
        # What a device could not keep all of counts for what it stands for.
        assert weighed[name].a == pytest.approx(measure(label, luck, thinned))
        assert weighed[name].b != pytest.approx(found[name].b)
    better = found["auc"]
    assert better.low is not None
    assert better.low > 0, "the interval excludes that they are alike"
    same = paired(label, good, good, person, once)["auc"]
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    one_kind = paired(once, luck, good, person, once)["auc"]
    assert (one_kind.a, one_kind.difference) == (None, None)
    # Examples of one person that are all alike are worth one: the interval is wider.
    copies = np.repeat(np.arange(20), 10)
    few = paired(
        label[copies], luck[copies], good[copies], copies.astype(np.int32), once
    )["auc"]  # fmt: skip
    alone = paired(
        label[copies], luck[copies], good[copies], np.arange(200, dtype=np.int32), once
    )["auc"]  # fmt: skip
    assert few.high is not None
    assert few.low is not None
    assert alone.high is not None
    assert alone.low is not None
    assert few.high - few.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((3,), "3"), ((1, 2, 3, 7, 9, 10), "1–3, 7, 9–10")]
)
def test_versions_are_told_as_runs(numbers: tuple[int, ...], text: str) -> None:
    assert versions(numbers) == text
