"""Stacks of vectors: every piece is small enough for one thread, and nothing is lost or copied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engine.stacks import ALONE, stack, take


@given(st.integers(0, 700), st.sampled_from([1, 7, 72, 500, ALONE - 1]))
def test_a_stack_holds_all_of_them_in_pieces_of_one_thread(number: int, dimension: int) -> None:
    number = min(number, 2_000_000 // dimension)
    vectors = np.arange(number * dimension, dtype=np.float32).reshape(number, dimension)
    stacked = stack(vectors)
    pieces, rows, _ = stacked.shape
    assert rows * dimension < ALONE
    assert pieces * rows - number < pieces
    flat = stacked.reshape(-1, dimension)
    assert np.array_equal(flat[:number], vectors)
    assert not flat[number:].any()


def test_what_was_taken_is_stacked_without_a_copy() -> None:
    of_all = np.random.default_rng(1).standard_normal((3_000, 72)).astype(np.float32)
    rows = np.arange(0, 3_000, 3, dtype=np.int32)
    taken = take(of_all, rows)
    assert np.array_equal(taken, of_all[rows])
    assert np.shares_memory(stack(taken), taken)
    # The same rows of something larger are another matter.
    part = of_all[5:1_005]
    assert np.array_equal(stack(part).reshape(-1, 72)[:1_000], part)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 129])
def test_few_and_none(number: int) -> None:
    of_all = np.ones((200, 72), np.float32)
    assert take(of_all, np.arange(number, dtype=np.int32)).shape == (number, 72)
