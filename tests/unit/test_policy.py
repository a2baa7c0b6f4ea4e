"""Scores and draws: against the vectors, against plain arithmetic, against broken models."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import (
    Greedy,
    P,
    SquareCB,
    draw_number,
    explorer,
    fixed_scores,
    splitmix64,
)
from edge_sdk.errors import FormatError
from tools.make_exploration_vectors import draw, split_mix, square_cb

VECTORS = Path(__file__).parents[2] / "proto" / "vectors" / "exploration.json"
LINEAGE = bytes(range(16))
WORDS = Vocabulary(LINEAGE, [f"m:{n}" for n in range(50)])

score_lists = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=30)
gammas = st.one_of(st.floats(0, 1e6), st.integers(0, 10**6).map(float))
floors = st.floats(0, 1)


def vectors() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))
    return document


def scored(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)


def test_the_vectors_of_the_generator() -> None:
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the published first output for seed 0
    for case in vectors()["splitmix64"]:
        assert draw_number(int(case["seed"]), case["slot"]) == int(case["output"]) >> 32


def test_the_vectors_of_distributions() -> None:
    for case in vectors()["distribution"]:
        found = SquareCB(case["gamma"], case["floor"]).distribution(scored(case["scores"]))
        assert found.tolist() == case["chances"]


@given(scores=score_lists, gamma=gammas, floor=floors, number=st.integers(0, P - 1))
def test_squarecb_is_exact(scores: list[int], gamma: float, floor: float, number: int) -> None:
    rule = SquareCB(gamma, floor)
    chances = square_cb(scores, gamma, floor)
    assert rule.distribution(scored(scores)).tolist() == chances
    assert sum(chances) == P
    drawn = rule.draw(scored(scores), number)
    assert (drawn.position, drawn.chance) == (draw(chances, number), chances[drawn.position])
    # The best never has less than the others, and nobody less than the floor's share.
    assert chances[drawn.best] == max(chances)
    assert min(chances) >= int(Fraction(floor) * P) // len(scores)


def test_draws_follow_the_chances() -> None:
    rule = SquareCB(20.0, 0.1)
    scores = scored([40_000, 60_000, 20_000])
    chances = rule.distribution(scores) / P
    drawn = [rule.draw(scores, split_mix(7, n) >> 32).position for n in range(4000)]
    assert np.bincount(drawn, minlength=3) / 4000 == pytest.approx(chances, abs=0.03)


def test_greedy_takes_the_first_of_the_best() -> None:
    assert Greedy().draw(scored([1, 9, 9]), 0) == (1, P, 1)
    assert Greedy().distribution(scored([1, 9, 9])).tolist() == [0, P, 0]


def test_explorers_by_name() -> None:
    assert isinstance(explorer("", 0, 0), Greedy)
    with pytest.raises(FormatError, match="epsilon"):
        explorer("epsilon", 0, 0)
    with pytest.raises(FormatError, match="floor"):
        explorer("squarecb", 1.0, 1.5)
    with pytest.raises(FormatError, match="gamma"):
        explorer("squarecb", float("nan"), 0.5)


def test_scores_are_fixed_point_and_held() -> None:
    values = np.array([0.5, 1.0, 0.25, np.nan, 1.0, 0.1], np.float32)
    worth = np.array([65536, 65536 * 4.5, 2, 65536, 1e12, -1e12])
    assert fixed_scores(values, worth).tolist() == [
        32768, 294912, 0, -(2**31), 2**31 - 1, -(2**31),
    ]  # fmt: skip
