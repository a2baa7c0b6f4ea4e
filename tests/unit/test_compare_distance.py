"""How alike two genomes are: the definition, worked out by hand, and what always holds."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genome_server.compare.distance import Comparison, One, compare, distance_of
from genome_server.compare.matrix import rarity_of

SIZE = 12
RARITY = rarity_of(100, np.arange(SIZE) * 9)

genomes = st.dictionaries(
    st.integers(0, SIZE - 1), st.floats(2**-10, 500, width=32), min_size=1, max_size=SIZE
)


def one(genome: dict[int, float]) -> One:
    markers = sorted(genome)
    return One(np.array(markers, np.int32), np.array([genome[m] for m in markers], np.float32))


def by_hand(first: dict[int, float], second: dict[int, float]) -> float:
    def weights(genome: dict[int, float]) -> dict[int, float]:
        raw = {m: math.log2(1 + s) * float(RARITY[m]) for m, s in genome.items()}
        length = math.sqrt(sum(w * w for w in raw.values()))
        return {m: w / length for m, w in raw.items()}

    a, b = weights(first), weights(second)
    return sum(a[m] * b[m] for m in a.keys() & b.keys())


def compared(first: dict[int, float], second: dict[int, float]) -> Comparison:
    return compare(one(first), one(second), RARITY)


@given(genomes, genomes)
def test_it_is_what_the_definition_says_and_explains_itself(
    first: dict[int, float], second: dict[int, float]
) -> None:
    found = compared(first, second)
    assert math.isclose(found.similarity, by_hand(first, second), abs_tol=1e-5)
    assert math.isclose(
        sum(shared.contribution for shared in found.shared), found.similarity, abs_tol=1e-6
    )
    assert [shared.contribution for shared in found.shared] == sorted(
        (shared.contribution for shared in found.shared), reverse=True
    )
    for genome, other, missing in (
        (first, second, found.only_first),
        (second, first, found.only_second),
    ):
        assert {one.marker for one in missing} == genome.keys() - other.keys()
        assert [one.share for one in missing] == sorted(
            (one.share for one in missing), reverse=True
        )
        assert sum(one.share for one in missing) <= 1 + 1e-5


@given(genomes, genomes, genomes)
def test_it_is_a_distance(
    first: dict[int, float], second: dict[int, float], third: dict[int, float]
) -> None:
    there, back = compared(first, second), compared(second, first)
    assert 0.0 <= there.distance <= 1.0
    assert math.isclose(there.distance, back.distance, abs_tol=1e-6)
    assert there.only_first == back.only_second
    assert compared(first, first).distance < 1e-3
    around = there.distance + compared(second, third).distance
    assert compared(first, third).distance <= around + 1e-3


def test_a_factor_of_all_markers_hardly_matters_and_nothing_shared_is_farthest() -> None:
    assert compared({1: 2.0}, {1: 400.0}).distance < 1e-3
    assert compared({1: 2.0}, {2: 2.0}).distance == 1.0
    assert distance_of(1.0000001) == 0.0
