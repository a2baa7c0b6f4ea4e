"""What builds are measured against gives the same genomes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.bench import build_engines
from tests.bench.build_data import Made, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    folder = tmp_path_factory.mktemp("bench-build")
    return folder, make(folder, 60_000)


def checksum(genomes: Iterator[build_engines.Genomes]) -> tuple[int, int, int]:
    found = build_engines.Checksum()
    for some in genomes:
        found.add(some)
    return found.sums, found.customers, found.value


@pytest.mark.parametrize(
    "how", [{}, {"in_parts": True}, {"in_parts": True, "by_sorting": True}, {"by_sorting": True}]
)
def test_pandas_gives_the_genomes_of_a_build(made: tuple[Path, Made], how: dict[str, bool]) -> None:
    folder, some = made
    ours = checksum(build_engines.on_duckdb(some, folder, ""))
    assert ours[1] > 2_000
    assert checksum(build_engines.on_pandas(some, **how)) == ours


def test_a_checksum_tells_genomes_apart_and_not_their_order() -> None:
    who, marker, state = np.array([1, 1, 2]), np.array([3, 4, 3]), np.array([10, 20, 30])
    newest = (np.array([1, 2]), np.array([7, 8]))
    one, other, wrong = (build_engines.Checksum() for _ in range(3))
    one.add((who, marker, state, *newest))
    order = [2, 0, 1]
    other.add((who[order], marker[order], state[order], newest[0][::-1], newest[1][::-1]))
    wrong.add((who, marker, state[order], *newest))
    assert one.value == other.value
    assert one.value != wrong.value
