"""Spark, DuckDB and the SDK, one by one, give the same genomes to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from edge_sdk.dna.imprint import STATE_MAX, GenomeState
from edge_sdk.errors import LandmarkExhausted
from genome_server.genomes.spark import SparkSums
from tests.aggregations import (
    Case,
    Deed,
    History,
    cases,
    history,
    numbers_of,
    on_duckdb,
    reference,
    tabled,
)
from tests.histories import complete_journey, starbucks_rewards

pytestmark = [
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
]

MANY = 2_000


def on_spark(session: Any, told: History) -> dict[bytes, GenomeState]:
    """The genomes that Spark makes of a history."""
    made = tabled(told)
    sums = SparkSums(session, told.schema)
    sums.put("interactions", made.interactions)
    sums.put("dna", made.dna)
    sums.put("once", made.once)
    sums.settle()
    newest, states = sums.newest().toArrow(), sums.states().toArrow()
    found = {}
    hours = newest["newest"].to_pylist()
    people = list(numbers_of(told))
    for who, hour in zip(newest["who"].to_pylist(), hours, strict=True):
        key = people[who]
        assert key not in found
        found[key] = GenomeState({}, hour + told.schema.landmark_hour)
    columns = (states[name].to_pylist() for name in ("who", "marker", "state"))
    for who, marker, value in zip(*columns, strict=True):
        key = people[who]
        assert marker not in found[key].values
        found[key].values[marker] = value
    return found


def test_thousands_of_random_histories(session: Any, tmp_path: Path) -> None:
    """Hypothesis draws them, each with subjects of its own; then each engine takes all at once."""
    some: list[Case] = []

    @settings(
        max_examples=MANY,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def collect(case: Case) -> None:
        some.append(case)

    collect()
    # What is rare in a draw.
    loud = Deed(0, 0, "gift", 25, (1 << 63) - 1, 0, 40)
    some.append(Case(([("brief:x", 4096)],), (loud,)))
    some.append(Case(([("long:x", 256)],), (Deed(0, 0, "buy", -1, 5, 1, 3),)))
    told = history(some)
    one_by_one = reference(told)
    assert len(some) >= MANY
    values = [value for state in one_by_one.values() for value in state.values.values()]
    assert STATE_MAX in values
    assert 0 in values
    assert any(deed.hours < 0 for case in some for deed in case.deeds)
    # Dictionaries of this size are compared by hand: what pytest would say of them has no end.
    for made in (on_duckdb(told, tmp_path), on_spark(session, told)):
        assert differing(some, made, one_by_one) is None


def differing(
    some: list[Case], made: dict[bytes, GenomeState], wanted: dict[bytes, GenomeState]
) -> Case | None:
    """The smallest case of which the genomes differ."""
    numbers = {
        int.from_bytes(key[1:5], "big")
        for key in made.keys() | wanted.keys()
        if made.get(key) != wanted.get(key)
    }
    return min((some[number] for number in numbers), key=lambda one: len(repr(one)), default=None)


@pytest.mark.dataset
@pytest.mark.parametrize("read", [complete_journey, starbucks_rewards])
def test_real_histories(session: Any, tmp_path: Path, read: Any) -> None:
    told: History = read()
    one_by_one = reference(told)
    assert len(one_by_one) > 500
    for made in (on_duckdb(told, tmp_path, at_once=20_000), on_spark(session, told)):
        assert made.keys() == one_by_one.keys()
        assert [key for key, state in made.items() if state != one_by_one[key]] == []


def test_what_lies_too_far_after_the_landmark_is_refused(session: Any) -> None:
    late = history([Case(([("claim:x", 256)],), (Deed(0, 0, "view", 78, 0, 0, 1),))])
    with pytest.raises(LandmarkExhausted, match=r"78 hours .* 3 hours \(marker 4\)"):
        on_spark(session, late)
