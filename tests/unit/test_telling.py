"""Counts of people are told so that no difference of two of them is one person."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genome_server.compare.best import best_of
from genome_server.compare.matrix import matrix_of
from genome_server.compare.segments import traits
from genome_server.compare.telling import STEP, roughly, share, shares

PEOPLE, TOP = 60, 30


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_told_fits_several_counts(one: int, other: int) -> None:
    assert roughly(one) % STEP == 0
    assert abs(roughly(one) - one) <= STEP // 2
    assert abs(roughly(one) - roughly(other)) in {0, *range(STEP, 10**6 + STEP, STEP)}


@given(st.integers(1, 10**5).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_is_one_of_few(counted: tuple[int, int]) -> None:
    count, people = counted
    told = share(count, people)
    assert 0.0 <= told <= 1.0
    assert told == shares(np.array([count]), people)[0]
    steps = told * max(roughly(people), STEP) / STEP
    assert steps == pytest.approx(round(steps))


def test_nobody_stands_alone_beside_the_best_or_in_a_segment() -> None:
    """All of the top have it and one of the others; all have the second but one of the top."""
    who = [*range(TOP), TOP, *(n for n in range(PEOPLE) if n != 3)]
    marker = [0] * (TOP + 1) + [1] * (PEOPLE - 1)
    order = np.lexsort((marker, who))
    starts = np.concatenate(([0], np.cumsum(np.bincount(who, minlength=PEOPLE))))
    rows = matrix_of(starts, np.array(marker, np.int32)[order], np.ones(len(who)), 2)
    worth = np.arange(PEOPLE, 0.0, -1.0)
    best = best_of(rows, rows, np.arange(PEOPLE), worth, share=TOP / PEOPLE)
    assert best is not None
    assert best.markers.tolist() == [0]
    of_top, of_all = best.share_of_top[0] * TOP, best.share_of_all[0] * PEOPLE
    assert of_all - of_top == pytest.approx(0.0), "not one"
    (first, *_) = traits(rows, np.repeat([0, 1], TOP), 0)
    assert (first.marker, first.share) == (0, 1.0)
    assert first.share_of_all * PEOPLE == pytest.approx(TOP)
