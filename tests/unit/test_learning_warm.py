"""Going on from a model: what is new is learned, and what was known stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_sdk.dna.schema import HOUR_MS
from genome_server.cli import cli
from genome_server.errors import Refused, TooLittleToLearn
from genome_server.learning.due import last_trained
from genome_server.learning.export import (
    ExportError,
    ModelFacts,
    tower_model,
    towers_of,
    untrained_model,
)
from genome_server.learning.job import TrainingReport, run_training
from genome_server.learning.learner import Learner
from genome_server.learning.towers import Towers, random_towers
from genome_server.learning.train import predict, train
from genome_server.learning.warm import new_rows, settings_of
from genome_server.models.shelf import current_model, list_models, reports, roll_back_model
from genome_server.store.protocol import CONSENT_LEARNING
from tests.unit._genomes import NOW_MS, Happened, House, interaction
from tests.unit.test_learning_job import QUICK
from tests.unit.test_learning_train import EXAMPLES, SMALL

WEIGHTS = (
    "query_table", "query_bias", "hidden_weight", "hidden_bias", "output_weight", "output_bias",
    "offer_table",
)  # fmt: skip


def test_a_file_says_the_towers_that_are_in_it() -> None:
    towers = random_towers(1, 40)
    found = towers_of(tower_model(towers, ModelFacts(bytes(16), 40)))
    assert found.shape == towers.shape
    for name in (*WEIGHTS, "query_row", "offer_row"):
        assert np.array_equal(getattr(found, name), getattr(towers, name)), name


def test_nothing_goes_on_from_another_architecture() -> None:
    with pytest.raises(ExportError, match="default architecture"):
        towers_of(untrained_model(ModelFacts(bytes(16), 40)))


def test_new_is_what_came_after_and_what_was_open() -> None:
    found = replace(EXAMPLES, time_ms=np.arange(len(EXAMPLES)) * HOUR_MS)
    assert new_rows(found, 100 * HOUR_MS, 0)[0] == 101
    assert new_rows(found, 100 * HOUR_MS, 24 * HOUR_MS)[0] == 77


def cut(towers: Towers, size: int) -> Towers:
    """The same towers as of a time when the vocabulary had so many markers."""
    return replace(towers, query_row=towers.query_row[:size], offer_row=towers.offer_row[:size])


def test_it_begins_with_what_the_model_said() -> None:
    start = train(EXAMPLES, None, SMALL)
    rows = np.arange(len(EXAMPLES))
    learner = Learner(EXAMPLES, rows[:64], 16, settings_of(SMALL), None, start)
    begun = learner.towers()
    assert np.array_equal(
        predict(begun, EXAMPLES, rows, history=True), predict(start, EXAMPLES, rows, history=True)
    )
    # Markers that came since the model say nothing yet.
    older = cut(start, int(np.flatnonzero(start.query_row)[-2]))
    begun = Learner(EXAMPLES, rows, 16, settings_of(SMALL), None, older).towers()
    assert begun.vocabulary_size == EXAMPLES.vocabulary_size
    late = begun.query_row[start.query_row > 0][-2:]
    assert (late > 0).all()
    assert not begun.query_table[late].any()


def test_where_no_step_makes_it_better_it_stays_what_it_was() -> None:
    start = train(EXAMPLES, None, SMALL)
    wild = replace(settings_of(SMALL), learning_rate=10.0)  # each step makes it worse
    found = train(EXAMPLES, None, wild, start=start)
    for name in WEIGHTS[1:-1]:
        assert np.array_equal(getattr(found, name), getattr(start, name)), name


def test_it_learns_that_tastes_have_turned() -> None:
    start = train(EXAMPLES, None, SMALL)
    turned = replace(EXAMPLES, label=1 - EXAMPLES.label)
    found = train(turned, None, settings_of(SMALL), start=start)
    rows = np.arange(len(turned))
    before, after = (predict(one, turned, rows, history=True) for one in (start, found))
    assert np.abs(turned.label - after).mean() < np.abs(turned.label - before).mean() - 0.02


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "tenants" / "test")
    with closing(made):
        yield made


def answers(first_hour: int, each: int, good: str) -> list[Happened]:
    rng = np.random.default_rng(first_hour)
    events = []
    for who in range(1, 31):
        for number in range(each):
            offer = ("taxi", "spa")[int(rng.integers(0, 2))]
            yes = rng.random() < (0.9 if offer == good else 0.1)
            kind = "buy" if yes else "dismiss"
            events.append(interaction(who, first_hour + number, kind, offer=offer))
    return events


def test_a_tenant_goes_on_with_what_is_new(house: House) -> None:
    for who in range(1, 31):
        house.customer(who, CONSENT_LEARNING)
    with pytest.raises(Refused, match="no model was trained yet"):
        run_training(house.tenant, QUICK, warm=True, now_ms=NOW_MS)
    house.log(answers(0, 6, "taxi"))
    house.build()
    first = run_training(house.tenant, QUICK, quick=True, now_ms=NOW_MS)
    with pytest.raises(
        Refused, match=f"too little is new since model {first.model_id}: 0 examples"
    ):
        run_training(house.tenant, QUICK, warm=True, now_ms=NOW_MS)
    house.log(answers(100, 6, "spa"))
    gone = run_training(house.tenant, QUICK, warm=True, now_ms=NOW_MS)
    assert gone.warm is not None
    assert (gone.warm.base, gone.warm.examples, gone.warm.persons) == (first.model_id, 180, 30)
    assert gone.evaluation is None
    assert gone.parity.max_difference <= 1e-5
    assert gone.warm.after.log_loss < gone.warm.before.log_loss
    found = current_model(house.tenant.models_dir, house.store)
    assert found is not None
    assert found.id == gone.model_id
    assert found.report["warm"]["base"] == first.model_id
    last = last_trained(reports(house.tenant.models_dir))
    assert last is not None
    assert last.answers == 360, "the next training is due by all that this one knows"


def first_of(house: House) -> TrainingReport:
    """The training that others go on from: thirty persons, six answers each."""
    for who in range(1, 31):
        house.customer(who, CONSENT_LEARNING)
    house.log(answers(0, 6, "taxi"))
    house.build()
    return run_training(house.tenant, QUICK, quick=True, now_ms=NOW_MS)


def test_it_does_not_go_on_from_what_was_rolled_back(house: House) -> None:
    first = first_of(house)
    house.log(answers(100, 6, "spa"))
    bad = run_training(house.tenant, QUICK, warm=True, now_ms=NOW_MS)
    roll_back_model(house.tenant.models_dir, house.store, reason="bad", now_ms=NOW_MS)
    again = run_training(house.tenant, QUICK, warm=True, now_ms=NOW_MS)
    assert again.warm is not None
    assert again.warm.base == first.model_id != bad.model_id


def test_where_no_step_helps_no_model_is_made(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = first_of(house)
    house.log(answers(100, 6, "taxi"))
    # As `train` does where the best length is none, see above.
    monkeypatch.setattr("genome_server.learning.job.train", lambda *_, start: start)
    with pytest.raises(TooLittleToLearn, match=f"makes model {first.model_id} better"):
        run_training(house.tenant, QUICK, warm=True, now_ms=NOW_MS)
    assert len(list_models(house.tenant.models_dir, house.store)) == 1


def test_the_command_goes_on(house: House) -> None:
    for who in range(1, 31):
        house.customer(who, CONSENT_LEARNING)
    house.log(answers(0, 4, "taxi"))
    house.build()
    first = run_training(house.tenant, QUICK, quick=True)
    house.log(answers(100, 4, "spa"))
    home = ["--home", str(house.tenant.dir.parent.parent), "--tenant", "test"]
    done = CliRunner().invoke(cli, ["train", "--warm", *home])
    assert done.exit_code == 0, done.output
    assert f"It went on from model {first.model_id} with 120 examples of 30 persons" in done.output
    listed = json.loads(CliRunner().invoke(cli, ["models", "list", "--json", *home]).stdout)
    assert len(listed["models"]) == 2
    assert CliRunner().invoke(cli, ["train", "--warm", "--quick", *home]).exit_code == 2
