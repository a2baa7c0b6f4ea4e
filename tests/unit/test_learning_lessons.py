"""A forest that grows by counts, and what it teaches of persons in moments of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from genome_server.learning.boosting import Boosting
from genome_server.learning.columns import Columns
from genome_server.learning.correction import Correction, least_of
from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.export import ModelFacts, prove_parity, tower_model
from genome_server.learning.forest import Growth, grow
from genome_server.learning.lessons import Forest, Teaching, _joined
from genome_server.learning.metrics import auc, calibration_error
from genome_server.learning.probes import random_probes
from genome_server.learning.towers import Shape, random_towers
from genome_server.learning.train import Settings, predict, score, train

TEACHING = Teaching(trees=24, growth=Growth(leaf=4, share=0.6), least_examples=100)


def made(persons: int, each: int, seed: int = 0) -> Examples:
    """Who is of the kind 0 takes offer 0 in the morning (5), kind 1 in the evening (6).

    Markers 10 … 49 are a person's own, and how strong 3 is their history.
    """
    rng = np.random.default_rng(seed)
    builder = ExamplesBuilder()
    for person in range(persons):
        kind, luck = person % 2, rng.random()
        for number in range(each):
            time, offer = (int(one) for one in rng.integers(0, 2, 2))
            good = 0.15 + 0.5 * (time == kind) + 0.25 * (luck > 0.5)
            who = [(kind, 1.0, 1.0), (10 + person % 40, 1.0, 1.0), (3, 1.0 + luck, 0.0)]
            builder.add(
                [*who, (5 + time, 1.0, 1.0)],
                offer=offer,
                label=bool(rng.random() < good),
                propensity=1.0,
                person=person,
                time_ms=person * 1000 + number,
                of_person=len(who),
            )
    table = OfferTable.build({"a": [(50, 1.0)], "b": [(51, 1.0), (52, 0.5)]})
    return builder.build(table, np.arange(53, dtype=np.int32))


EXAMPLES = made(80, 15)
ROWS = np.arange(len(EXAMPLES))


def test_a_tree_splits_as_another_implementation_does() -> None:
    rng = np.random.default_rng(3)
    columns = rng.random((800, 9)) < 0.4
    label = (rng.random(800) < 0.2 + 0.5 * (columns[:, 2] ^ columns[:, 5])).astype(float)
    weight = np.ones(800)
    ours = grow(columns, label, weight, rng, Growth(leaf=7, share=1.1))
    theirs = DecisionTreeClassifier(min_samples_leaf=7, random_state=0).fit(columns, label)
    asked = rng.random((500, 9)) < 0.4
    found, expected = ours.say(asked), theirs.predict_proba(asked)[:, 1]
    # Ties are broken otherwise, and they go on where nothing is gained.
    assert np.mean(np.abs(found - expected) < 1e-9) > 0.6
    assert np.corrcoef(found, expected)[0, 1] > 0.9
    leaves = ours.column < 0
    assert np.isin(np.unique(ours.say(columns)), ours.value[leaves]).all()


def test_no_leaf_is_smaller_than_said() -> None:
    rng = np.random.default_rng(4)
    columns = rng.random((300, 6)) < 0.5
    label = (rng.random(300) < 0.5).astype(float)
    tree = grow(columns, label, np.ones(300), rng, Growth(leaf=20, share=1.1))
    tagged = replace(tree, value=np.arange(len(tree.value), dtype=float))
    _, sizes = np.unique(tagged.say(columns), return_counts=True)
    assert len(sizes) > 3
    assert sizes.min() >= 20


def test_a_lesson_is_one_persons_part_and_anothers_moment_and_offer() -> None:
    who, when = np.array([0, 200]), np.array([700, 16])
    cold = np.array([True, False])
    joined = _joined(EXAMPLES, who, when, cold)
    for lesson in range(2):
        here = slice(joined.start[lesson], joined.start[lesson + 1])
        person = slice(EXAMPLES.start[who[lesson]], EXAMPLES.start[who[lesson]] + 3)
        moment = slice(EXAMPLES.start[when[lesson]] + 3, EXAMPLES.start[when[lesson] + 1])
        parts = [*EXAMPLES.index[person], *EXAMPLES.index[moment]]
        assert joined.index[here].tolist() == parts
        weights = EXAMPLES.cold if cold[lesson] else EXAMPLES.warm
        assert joined.warm[here].tolist() == [*weights[person], *weights[moment]]
        assert np.array_equal(joined.warm[here], joined.cold[here])
    assert joined.offer.tolist() == EXAMPLES.offer[when].tolist()
    assert joined.person.tolist() == EXAMPLES.person[who].tolist()
    assert joined.width <= EXAMPLES.joint_width


def test_what_is_taught_of_a_person_owes_nothing_to_their_own_answers() -> None:
    nobody = ROWS[:0]
    one = np.flatnonzero(EXAMPLES.person == 7)
    turned = replace(EXAMPLES, label=EXAMPLES.label.copy())
    turned.label[one] = 1 - turned.label[one]
    taught = []
    for examples in (EXAMPLES, turned):
        forest = Forest(examples, ROWS, nobody, TEACHING, 3, 0)
        forest._right = [Correction(), Correction()]  # fitted on all, by two numbers
        taught.append(forest.lessons(examples, ROWS, blind=False))
    before, after = taught
    theirs = before.person == 7
    assert theirs.sum() > 20
    assert np.array_equal(before.label[theirs], after.label[theirs])
    assert not np.array_equal(before.label[~theirs], after.label[~theirs])


def test_blind_lessons_know_nothing_of_who_is_held_back() -> None:
    held_back = np.flatnonzero(EXAMPLES.person < 20)
    kept = np.flatnonzero(EXAMPLES.person >= 20)
    turned = replace(EXAMPLES, label=EXAMPLES.label.copy())
    turned.label[held_back] = 1 - turned.label[held_back]
    taught = []
    for examples in (EXAMPLES, turned):
        forest = Forest(examples, ROWS, held_back, TEACHING, 3, 0)
        forest._right = [Correction(), Correction()]
        taught.append(forest.lessons(examples, kept, blind=True).label)
    assert np.array_equal(taught[0], taught[1])


def test_what_is_rare_is_told_apart() -> None:
    rng = np.random.default_rng(4)
    expected = np.repeat([0.002, 0.009], 20_000)
    label = (rng.random(40_000) < expected).astype(float)
    right = Correction.of(expected, label, np.ones(40_000))
    often, seldom = right.chance(np.array([0.009, 0.002]))
    assert often > 3 * seldom
    assert 0.005 < often < 0.014
    assert least_of(label, np.ones(40_000)) == pytest.approx(label.mean() / 20)
    assert least_of(np.array([0.0, 1.0]), np.ones(2)) == 0.01
    assert least_of(np.zeros(3), np.ones(3)) > 0


def test_boosted_trees_count_for_strangers_alone() -> None:
    told = []
    for rounds in (0, 20):
        teaching = replace(TEACHING, boosting=Boosting(rounds=rounds))
        told.append(
            Forest(EXAMPLES, ROWS, ROWS[:0], teaching, 3, 0).lessons(EXAMPLES, ROWS, blind=False)
        )
    # A stranger's history weighs nothing.
    strange = told[0].warm[told[0].index == 3] == 0
    assert 0.4 < strange.mean() < 0.6
    alike = told[0].label == told[1].label
    assert np.array_equal(alike, ~strange)


def test_lessons_say_what_holds() -> None:
    forest = Forest(EXAMPLES, ROWS, ROWS[:0], TEACHING, 3, 0)
    lessons = forest.lessons(EXAMPLES, ROWS, blind=False)
    first = lessons.index[lessons.start[:-1]]
    last = lessons.index[lessons.start[1:] - 1] - 5
    agrees = first == last
    assert lessons.label[agrees].mean() > lessons.label[~agrees].mean() + 0.3
    assert abs(lessons.label.mean() - EXAMPLES.label.mean()) < 0.05
    assert lessons.stands_for.all()


def test_strengths_are_asked_about_where_they_differ() -> None:
    columns = Columns.of(EXAMPLES, ROWS, 3)
    cuts = columns.cut[columns.marker == 3]
    assert (cuts > 1).sum() == 3
    assert (columns.cut[columns.marker != 3] == 0).all()
    strangers = columns.table(EXAMPLES, ROWS, np.ones(len(ROWS), bool))
    assert not strangers[:, np.flatnonzero(columns.marker == 3)].any()


@pytest.fixture(scope="module")
def settings() -> Settings:
    shape = Shape(members=2, width=16, hidden=8, dimension=4)
    return Settings(shape=shape, batch=128, learning_rate=5e-3, epochs=5, teaching=TEACHING)


def test_towers_that_were_taught_are_right_and_calibrated(settings: Settings) -> None:
    examples, unseen = made(240, 15), made(300, 15, seed=9)
    taught = train(examples, None, settings)
    said = predict(taught, unseen, np.arange(len(unseen)), history=True)
    assert (auc(unseen.label, said) or 0) > 0.74
    assert calibration_error(unseen.label, said) < 0.08
    alone = replace(settings, teaching=replace(TEACHING, least_examples=10**6))
    plain = predict(train(examples, None, alone), unseen, np.arange(len(unseen)), history=True)
    assert not np.array_equal(said, plain)


def test_with_no_trees_nothing_is_taught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(*_: object) -> None:
        raise AssertionError("a forest was grown")

    monkeypatch.setattr("genome_server.learning.train.Forest", grown)
    few = replace(settings, teaching=replace(TEACHING, trees=0), epochs=1, steps=10)
    train(made(60, 4), None, few)
    with pytest.raises(AssertionError, match="was grown"):
        train(made(60, 4), None, replace(few, teaching=TEACHING))


def test_a_correction_is_found_and_becomes_part_of_the_file() -> None:
    rng = np.random.default_rng(5)
    logit = rng.normal(0, 1, 20_000)
    label = (rng.random(20_000) < 1 / (1 + np.exp(-(1.5 * logit - 0.4)))).astype(float)
    found = Correction.of(1 / (1 + np.exp(-logit)), label, np.ones(20_000))
    assert found.factor == pytest.approx(1.5, abs=0.06)
    assert found.shift == pytest.approx(-0.4, abs=0.05)
    towers = random_towers(1, EXAMPLES.vocabulary_size, Shape(2, 8, 8, 4))
    right = found.towers(towers)
    rows = np.arange(200)
    said = predict(towers, EXAMPLES, rows, history=True).astype(float)
    odds = found.factor * np.log(said / (1 - said)) + found.shift
    corrected = predict(right, EXAMPLES, rows, history=True)
    assert np.allclose(corrected, 1 / (1 + np.exp(-odds)), atol=1e-5)
    model = tower_model(right, ModelFacts(bytes(16), EXAMPLES.vocabulary_size))
    prove_parity(model, lambda probe: score(right, probe), random_probes(EXAMPLES, 10, 0))
