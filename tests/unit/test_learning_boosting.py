"""Boosted trees whose leaves are vectors, beside arithmetic done by hand and another library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from genome_server.learning.boosting import Boosting, axes_of, boost
from genome_server.learning.metrics import auc

ALL = Boosting(columns=1.1, examples=1.1)


def chance(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-odds)))


def test_the_first_step_is_newtons_on_the_best_question() -> None:
    rng = np.random.default_rng(1)
    columns = rng.random((600, 6)) < 0.5
    label = (rng.random(600) < 0.3 + 0.4 * columns[:, 4]).astype(float)
    weight = rng.random(600) + 0.5
    settings = replace(ALL, rounds=1, depth=1, rate=1.0, pull=2.0, leaf=5)
    (tree,) = boost(columns, np.ones((600, 1)), label, weight, rng, settings).trees
    assert tree.columns == (4,)
    share = np.average(label, weights=weight)
    for answer in (0, 1):
        inside = columns[:, 4] == answer
        slope = (weight * (label - share))[inside].sum()
        bend = (weight * share * (1 - share))[inside].sum()
        assert tree.leaves[answer, 0] == pytest.approx(slope / (bend + 2.0))


def test_one_axis_is_as_good_as_another_library() -> None:
    rng = np.random.default_rng(2)
    columns = rng.random((6000, 8)) < 0.5
    odds = 1.2 * columns[:, 0] - 1.5 * (columns[:, 1] & columns[:, 2]) + 0.8 * columns[:, 3] - 0.5
    label = (rng.random(6000) < chance(odds)).astype(float)
    learn, ask = slice(0, 4000), slice(4000, None)
    ours = boost(columns[learn], np.ones((4000, 1)), label[learn], np.ones(4000), rng, ALL)
    theirs = GradientBoostingClassifier(n_estimators=200, learning_rate=0.05, random_state=0)
    theirs.fit(columns[learn], label[learn])
    said = ours.say(columns[ask], np.ones((2000, 1)))
    other = theirs.predict_proba(columns[ask])[:, 1]
    assert (auc(label[ask], said) or 0) > (auc(label[ask], other) or 0) - 0.003
    assert np.abs(chance(said) - other).mean() < 0.03


def tastes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Who has column 0 likes offers of one kind, everybody else those of the other."""
    columns = rng.random((n, 5)) < 0.5
    offer = rng.integers(0, 4, n)
    likes = columns[:, 0] == (offer % 2 == 0)
    return columns, offer, (rng.random(n) < 0.2 + 0.6 * likes).astype(float)


KINDS = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0]], bool)


def test_one_tree_speaks_of_all_offers() -> None:
    rng = np.random.default_rng(3)
    columns, offer, label = tastes(3000, rng)
    axes = axes_of(KINDS, 8)
    trees = boost(columns, axes[offer], label, np.ones(3000), rng, ALL)
    for of in range(4):
        said = chance(trees.say(columns, np.repeat(axes[[of]], 3000, 0)))
        for likes in (False, True):
            found = said[columns[:, 0] == likes].mean()
            assert found == pytest.approx(0.8 if likes == (of % 2 == 0) else 0.2, abs=0.04)


def test_what_nobody_shows_is_not_seen() -> None:
    rng = np.random.default_rng(4)
    columns, offer, label = tastes(400, rng)
    weight = np.ones(400)
    weight[200:] = 0
    turned = label.copy()
    turned[200:] = 1 - turned[200:]
    axes = axes_of(KINDS, 8)[offer]
    one, other = (
        boost(columns, axes, given, weight, np.random.default_rng(5), replace(ALL, leaf=1))
        for given in (label, turned)
    )
    assert np.allclose(one.say(columns, axes), other.say(columns, axes))


def test_same_chance_same_trees_and_other_chance_others() -> None:
    columns, offer, label = tastes(500, np.random.default_rng(6))
    axes = axes_of(KINDS, 8)[offer]

    def said(seed: int) -> np.ndarray:
        few = Boosting(rounds=20)
        rng = np.random.default_rng(seed)
        return boost(columns, axes, label, np.ones(500), rng, few).say(columns, axes)

    assert np.array_equal(said(1), said(1))
    assert not np.array_equal(said(1), said(2))


def test_where_there_is_nothing_to_ask_everybody_is_the_same() -> None:
    rng = np.random.default_rng(7)
    label = np.array([1.0, 0, 0, 0] * 10)
    for columns in (np.zeros((40, 0), bool), np.zeros((40, 3), bool)):
        found = boost(columns, np.ones((40, 1)), label, np.ones(40), rng, ALL)
        assert found.trees == ()
        assert np.allclose(chance(found.say(columns, np.ones((40, 1)))), 0.25)
    never = boost(np.zeros((5, 1), bool), np.ones((5, 1)), np.zeros(5), np.ones(5), rng, ALL)
    assert np.isfinite(never.prior)
    assert boost(columns, np.ones((40, 1)), label, np.zeros(40), rng, ALL).trees == ()


def test_axes_say_what_offers_have_in_common() -> None:
    axes = axes_of(KINDS, 8)
    assert axes.shape == (4, 3)  # three markers, of which two always say the same
    assert np.allclose(axes[:, 0], 1)
    assert np.allclose(axes.T @ axes, 4 * np.eye(3))
    assert axes_of(KINDS, 2).shape == (4, 2)
    assert np.allclose(axes_of(np.ones((3, 2), bool), 8), np.ones((3, 1)))
    assert axes_of(np.zeros((0, 2), bool), 8).shape == (0, 1)
    assert axes_of(np.zeros((3, 0), bool), 8).shape == (3, 1)
    twice = axes_of(np.concatenate([KINDS, KINDS]), 8)
    assert np.allclose(twice[:4], twice[4:])
