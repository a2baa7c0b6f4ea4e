from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.columns import Columns, row_sum_of, row_sums, total
from edge_sdk.dna.genome import Row

LARGEST = (1 << 32) - 1


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    largest = draw(st.sampled_from([3, 300, 70_000, LARGEST]))
    subjects = draw(st.lists(st.binary(min_size=16, max_size=16), max_size=20, unique=True))
    made = []
    for subject in subjects:
        markers = draw(st.dictionaries(st.integers(0, largest), st.integers(1, 255), max_size=12))
        made.append(
            Row(
                subject,
                draw(st.integers(0, LARGEST)),
                draw(st.sampled_from([0, 0, -5, 2**31 - 1])),
                np.array(sorted(markers), np.uint32),
                np.array([markers[index] for index in sorted(markers)], np.uint8),
            )
        )
    return made


@given(some_rows(), st.randoms(use_true_random=False))
def test_row_sums_of_columns_are_those_of_the_rows(rows: list[Row], rng: random.Random) -> None:
    sums = row_sums(Columns.of(rng.sample(rows, len(rows))))
    assert sums.dtype == np.uint64
    assert sums.tolist() == [row_sum_of(row) for row in sorted(rows, key=lambda row: row.subject)]
    assert total(sums) == sum(sums.tolist()) % 2**64


def test_a_row_sum_depends_on_everything_in_the_row() -> None:
    def summed(
        subject: bytes = b"s" * 16,
        consents: int = 2,
        hour: int = 0,
        indices: tuple[int, ...] = (1, 2, 70_000),
        codes: tuple[int, ...] = (3, 4, 5),
    ) -> int:
        return row_sum_of(
            Row(subject, consents, hour, np.array(indices, np.uint32), np.array(codes, np.uint8))
        )

    sums = {
        summed(),
        summed(subject=b"s" * 15 + b"t"),
        summed(subject=b"t" + b"s" * 15),
        summed(consents=0),
        summed(hour=1),
        summed(indices=(1, 2, 70_001)),
        summed(codes=(3, 5, 4)),
        summed(codes=(4, 3, 5)),
        summed(indices=(1, 2), codes=(3, 4)),
        summed(indices=(), codes=()),
    }
    assert len(sums) == 10


@pytest.mark.parametrize("largest", [65_535, 65_536])
def test_indices_are_as_narrow_as_they_can_be(largest: int) -> None:
    row = Row(b"a" * 16, 0, 0, np.array([1, largest], np.uint32), np.array([1, 2], np.uint8))
    assert Columns.of([row]).indices.itemsize == (2 if largest < 65_536 else 4)
