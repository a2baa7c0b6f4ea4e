from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from genome_server.learning import evaluate as evaluating
from genome_server.learning import network
from genome_server.learning import train as training
from genome_server.learning.evaluate import evaluate, folds_by_person
from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.export import ModelFacts, Probe, prove_parity, tower_model
from genome_server.learning.metrics import auc, calibration_error, log_loss
from genome_server.learning.probes import random_probes, real_probes
from genome_server.learning.towers import Floats, Shape, Towers
from genome_server.learning.train import Settings, predict, score, train

SMALL = Settings(
    shape=Shape(members=2, width=16, hidden=8, dimension=4), batch=64, learning_rate=5e-3
)
SIZE = 12


def made(persons: int, each: int, seed: int = 0, *, coin: bool = False) -> Examples:
    """Mornings (marker 0) take offer 0, evenings (1) offer 1, unless they refused it (2) before.

    Markers 3 … 9 say who a person is, and mean nothing. With `coin`, nothing means anything.
    """
    rng = np.random.default_rng(seed)
    builder = ExamplesBuilder()
    for person in range(persons):
        for number in range(each):
            time, offer, refused = rng.integers(0, 2, 3)
            good = 0.5 if coin else (0.9 if time == offer and not refused else 0.1)
            query = [(int(time), 1.0, 1.0), (3 + person % 7, 1.0, 1.0)]
            if refused:
                query.append((2, 1.5, 0.0))
            builder.add(
                query,
                offer=int(offer),
                label=bool(rng.random() < good),
                propensity=1.0,
                person=person,
                time_ms=person * 1000 + number,
            )
    table = OfferTable.build({"a": [(10, 1.0)], "b": [(11, 1.0)]})
    return builder.build(table, np.arange(SIZE, dtype=np.int32) // 2)


EXAMPLES = made(60, 15)


@pytest.fixture(scope="module")
def towers() -> Towers:
    return train(EXAMPLES, None, SMALL)


def test_it_finds_the_rule_and_uses_history_where_it_may(towers: Towers) -> None:
    unseen = made(40, 15, seed=9)
    rows = np.arange(len(unseen))
    warm = predict(towers, unseen, rows, history=True)
    cold = predict(towers, unseen, rows, history=False)
    assert (auc(unseen.label, warm) or 0) > 0.85
    assert (auc(unseen.label, cold) or 0) > 0.65
    assert (auc(unseen.label, warm) or 0) > (auc(unseen.label, cold) or 0) + 0.05
    without = ~unseen.with_history
    assert np.array_equal(warm[without], cold[without])
    assert abs(warm.mean() - unseen.label.mean()) < 0.08, "classes keep their balance"


def test_the_same_seed_gives_the_same_file(towers: Towers) -> None:
    facts = ModelFacts(bytes(16), SIZE)
    again = tower_model(train(EXAMPLES, None, SMALL), facts)
    assert again == tower_model(towers, facts)
    assert again != tower_model(train(EXAMPLES, None, replace(SMALL, seed=1)), facts)


def test_the_file_agrees_with_the_trainer(towers: Towers) -> None:
    model = tower_model(towers, ModelFacts(bytes(16), SIZE))
    probes = [*random_probes(EXAMPLES, 40, 0), *real_probes(EXAMPLES, 40, 0)]
    proof = prove_parity(model, lambda probe: score(towers, probe), probes)
    assert proof.probes == 80
    assert proof.max_difference <= 1e-5
    # `score` asks as devices do, `predict` as the evaluation does: they are one model.
    rows = np.arange(30)
    batch = EXAMPLES.batch(rows)
    said = predict(towers, EXAMPLES, rows, history=True)
    for row, probe in zip(rows, _own_probes(rows), strict=True):
        value = score(towers, probe)[batch.offer[row]]
        assert value == pytest.approx(said[row], abs=1e-6)


def _own_probes(rows: NDArray[np.int64]) -> list[Probe]:
    made_of = []
    for row in rows:
        here = slice(EXAMPLES.start[row], EXAMPLES.start[row + 1])
        made_of.append(
            Probe(
                EXAMPLES.index[here].astype(np.int64),
                EXAMPLES.warm[here],
                EXAMPLES.offers.index,
                EXAMPLES.offers.weight,
            )
        )
    return made_of


def test_a_marker_that_was_hardly_seen_stays_unknown() -> None:
    rare = replace(EXAMPLES, index=EXAMPLES.index.copy())
    rare.index[np.flatnonzero(rare.index == 9)[2:]] = 8  # marker 9 is left in two examples
    found = train(rare, None, SMALL)
    assert found.query_row[9] == 0
    assert found.query_row[8] != 0
    assert found.query_row[10] == 0, "an offer's marker is no customer's"
    assert found.offer_row.tolist() == [0] * 10 + [1, 2]
    assert not found.query_table[0].any()
    assert not found.offer_table[0].any()


def test_marker_that_only_other_rows_have_stays_unknown() -> None:
    rows = np.flatnonzero(EXAMPLES.person % 7 != 0)  # nobody with marker 3
    found = train(EXAMPLES, rows, SMALL)
    assert found.query_row[3] == 0
    assert found.query_row[4] != 0


def forget_what_was_compiled() -> None:
    jax.clear_caches()  # type: ignore[no-untyped-call]  # JAX leaves it without annotations


def test_a_large_vocabulary_gives_the_same_answers(
    towers: Towers, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(100)
    dense = predict(towers, EXAMPLES, rows, history=True)
    monkeypatch.setattr(network, "_DENSE_ROWS", 0)
    forget_what_was_compiled()
    sparse = predict(towers, EXAMPLES, rows, history=True)
    forget_what_was_compiled()
    assert np.abs(dense - sparse).max() < 1e-6


def test_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        train(EXAMPLES, np.zeros(0, np.int64), SMALL)


def test_few_persons_train_for_a_fixed_time() -> None:
    steps: list[tuple[int, int]] = []
    few = made(5, 4)
    train(few, None, replace(SMALL, steps=40), lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert len(steps) == 5


def test_folds_hold_persons_together_and_are_of_one_size() -> None:
    folds = folds_by_person(EXAMPLES.person, np.random.default_rng(0))
    for person in np.unique(EXAMPLES.person):
        assert len(set(folds[EXAMPLES.person == person])) == 1
    sizes = np.bincount(folds)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 15


def test_an_evaluation_says_how_good_it_is_and_how_sure() -> None:
    found = evaluate(EXAMPLES, SMALL, quick=True)
    person = found.by_person
    assert found.headline == person.cold.auc
    assert person.persons == 12
    assert person.examples == 180
    assert (person.with_history.auc or 0) > (person.cold.auc or 0)
    assert (person.cold.auc_low or 1) < (person.cold.auc or 0) < (person.cold.auc_high or 0)
    assert set(found.to_json()) == {"by_person", "random"}


def test_an_evaluation_of_coin_flips_finds_nothing() -> None:
    found = evaluate(made(60, 15, coin=True), SMALL, quick=True)
    low, high = found.by_person.with_history.auc_low, found.by_person.with_history.auc_high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high + 0.02


def test_an_evaluation_needs_persons() -> None:
    with pytest.raises(ValueError, match="5 persons"):
        evaluate(made(4, 20), SMALL)


def test_figures_count_an_example_for_as_many_as_it_stands_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    stands_for = rng.choice([1.0, 8.0], len(EXAMPLES)).astype(np.float32)
    said = rng.random(len(EXAMPLES)).astype(np.float32)
    monkeypatch.setattr(evaluating, "train", lambda *_: None)
    monkeypatch.setattr(evaluating, "predict", lambda _, __, rows, **___: said[rows])
    kept = replace(EXAMPLES, stands_for=stands_for)
    found = evaluate(kept, SMALL).by_person.cold
    everything = (EXAMPLES.label, said)
    assert found.auc == pytest.approx(auc(*everything, stands_for))
    assert found.log_loss == pytest.approx(log_loss(*everything, stands_for), rel=1e-5)
    assert found.calibration_error == pytest.approx(
        calibration_error(*everything, stands_for), abs=1e-3
    )
    plain = evaluate(EXAMPLES, SMALL).by_person.cold
    assert plain.calibration_error == pytest.approx(calibration_error(*everything), abs=1e-6)
    assert plain.auc != pytest.approx(found.auc)
    assert found.auc_low is not None
    assert found.auc_low != pytest.approx(plain.auc_low or 0)


def test_how_long_to_train_counts_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Floats] = []

    def noted(label: Floats, score: Floats, weight: Floats) -> float:
        asked.append(weight)
        return log_loss(label, score, weight)

    learner = SimpleNamespace(
        run=lambda steps, _=None: range(10, steps + 10, 10),
        towers=lambda: None,
        persons=lambda: None,
    )
    monkeypatch.setattr(training, "Learner", lambda *_: learner)
    monkeypatch.setattr(training, "predict", lambda _, __, rows, **___: np.full(len(rows), 0.5))
    monkeypatch.setattr(training, "log_loss", noted)
    stands_for = np.where(EXAMPLES.person % 2, 8.0, 1.0).astype(np.float32)
    train(replace(EXAMPLES, stands_for=stands_for), None, SMALL)
    assert asked
    assert all(set(weight.tolist()) == {1.0, 8.0} for weight in asked)
