"""Which markers stay in a row: what is counted, what it weighs, and ranks in columns."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.imprint import STATE_MAX, rank
from edge_sdk.dna.schema import MOST_DISTINCT
from genome_server.genomes.distinct import Counted, ranks, table, weights_of


def counted(interactions: int, *markers: int) -> Counted:
    return Counted(interactions, 20, np.array(markers, np.int64))


def test_weights_are_halvings_up_to_six_and_what_was_not_counted_counts_fully() -> None:
    n = 1 << 16
    found = table(counted(n, n, n // 2, n // 32, n // 64, n // 4096, 1, 0))
    assert list(found) == [0, 32, 160, 192, 192, 192, MOST_DISTINCT]


@given(st.integers(1, 1 << 40), st.lists(st.integers(1, 1 << 40), max_size=20))
def test_weights_are_the_logarithm_to_an_eighth(n: int, counts: list[int]) -> None:
    for count, weight in zip(counts, table(counted(n, *(min(c, n) for c in counts))), strict=True):
        exact = min(6.0, math.log2(n / min(count, n)))
        assert abs(weight / 32 - exact) <= 0.13


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.integers(0, STATE_MAX),
                st.sampled_from([0, STATE_MAX, (1 << 53) - 1, (1 << 62) - 1, 1 << 62]),
            ),
            st.integers(0, 30),
        ),
        max_size=50,
    ),
    st.binary(max_size=40),
)
def test_ranks_in_columns_are_those_one_by_one(
    entries: list[tuple[int, int]], distinct: bytes
) -> None:
    strengths = np.array([s for s, _ in entries], np.int64)
    markers = np.array([m for _, m in entries], np.int64)
    found = ranks(strengths, markers, weights_of(distinct, 31))
    assert found.tolist() == [rank(s, m, distinct) for s, m in entries]
