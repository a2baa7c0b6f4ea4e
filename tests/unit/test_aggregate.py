"""The aggregation in columns, on DuckDB, is what the SDK computes one by one."""

from __future__ import annotations

from pathlib import Path

import ibis
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import STATE_MAX, GenomeState
from edge_sdk.errors import LandmarkExhausted
from genome_server.genomes import aggregate, tables
from genome_server.genomes.aggregation import Aggregation
from tests.aggregations import (
    LANDMARK,
    SCHEMA,
    Case,
    Deed,
    cases,
    history,
    on_duckdb,
    reference,
    states_of,
    subject,
    tabled,
)

MOST = (1 << 63) - 1


LOUD = Deed(0, 0, "gift", 25, MOST, 0, 40)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(some=st.lists(cases(), min_size=1, max_size=12), parts=st.integers(1, 3))
@example(some=[Case(([("brief:x", 4096)],), (LOUD,))], parts=1)
@example(some=[Case(([("brief:x", 4096)],), (LOUD._replace(times=15), LOUD))], parts=2)
@example(some=[Case(([("long:x", 256)],), (Deed(0, 0, "buy", -1, 5, 0, 1),))], parts=1)
def test_it_is_what_the_sdk_computes(
    tmp_path_factory: pytest.TempPathFactory, some: list[Case], parts: int
) -> None:
    told = history(some)
    folder = tmp_path_factory.mktemp("aggregate")
    found = on_duckdb(told, folder, at_once=len(told.done) // parts + 1)
    assert found == reference(told)
    assert list(found) == sorted(found)


def test_sums_stop_at_the_ceiling(tmp_path: Path) -> None:
    dna = ([("brief:x", 4096)],)
    below, over = (Case(dna, (LOUD._replace(times=times),)) for times in (15, 40))
    found = on_duckdb(history([below, over]), tmp_path)
    assert found[subject(0, 0)].values[2] < STATE_MAX
    assert found[subject(1, 0)].values == {2: STATE_MAX}


def test_only_the_first_of_an_id_counts_wherever_it_is(tmp_path: Path) -> None:
    dna = ([("always:x", 256)], [("always:y", 256)])
    deeds = (
        Deed(1, 1, "view", 7, 0, 1, 1),
        Deed(0, 0, "view", 5, 0, 1, 3),
        Deed(0, 0, "view", 1, 0, 2, 1),
        Deed(0, 0, "view", 0, 0, 0, 2),
    )
    found = on_duckdb(history([Case(dna, deeds)]), tmp_path)
    assert found == {
        subject(0, 0): GenomeState({0: 3 << 22}, LANDMARK + 1),
        subject(0, 1): GenomeState({1: 1 << 22}, LANDMARK + 7),
    }


def test_the_genomes_of_some_subjects(tmp_path: Path) -> None:
    some = [Case(([("always:x", 256)],), (Deed(who, 0, "view", 0, 0, 0, 1),)) for who in (0, 1, 2)]
    wanted = [subject(2, 2), subject(0, 0), subject(7, 0)]
    found = on_duckdb(history(some), tmp_path, wanted=wanted)
    assert list(found) == sorted([subject(0, 0), subject(2, 2)])


def test_interactions_are_read_where_they_are(tmp_path: Path) -> None:
    dna = ([("long:x", 256)],)
    some = [Case(dna, (Deed(n % 3, 0, "buy", n, n << 20, 0, 1),)) for n in range(9)]
    told = history(some)
    made = tabled(told)
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pq.write_table(made.interactions.slice(0, 4), files[0])
    pq.write_table(made.interactions.slice(4), files[1])
    with Aggregation(
        tmp_path / "t.duckdb", SCHEMA, interactions=files, memory="1GB", at_once=4
    ) as sums:
        sums.add_dna(made.dna)
        assert states_of(sums, told) == reference(told)


def test_what_lies_too_far_after_the_landmark_is_refused(tmp_path: Path) -> None:
    last = Deed(0, 0, "view", 77, 0, 0, 1)
    dna = ([("always:x", 256), ("claim:x", 256), ("long:x", 256)],)
    there = history([Case(dna, (last,))])
    assert on_duckdb(there, tmp_path) == reference(there)
    late = history([Case(dna, (last._replace(hours=78),))])
    with pytest.raises(LandmarkExhausted, match=r"78 hours .* 3 hours \(marker 4\)"):
        on_duckdb(late, tmp_path)


def test_interactions_that_fit_nothing_are_an_error(tmp_path: Path) -> None:
    made = tabled(history([Case(([("always:x", 256)],), (Deed(0, 0, "view", 0, 0, 0, 1),))]))
    with Aggregation(tmp_path / "t.duckdb", SCHEMA) as sums:
        sums.add(made.interactions)
        with pytest.raises(ValueError, match="no DNA"):
            list(sums.summed())


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=9))
def test_halves_have_the_order_of_the_bytes(some: list[bytes]) -> None:
    high, low = tables.halves(np.array(some, "V16"))
    assert [key.tobytes() for key in tables.keys(high, low)] == some
    pairs = list(zip(high.tolist(), low.tolist(), strict=True))
    by_halves = [some[i] for i in sorted(range(len(some)), key=pairs.__getitem__)]
    assert by_halves == sorted(some)


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=9, unique=True), st.data())
def test_ranks_have_the_order_of_the_bytes(some: list[bytes], data: st.DataObject) -> None:
    numbers = st.lists(st.sampled_from(range(len(some))), unique=True) if some else st.just([])
    chosen = data.draw(st.one_of(st.none(), numbers))
    found = tables.ranks(some, chosen)
    wanted = some if chosen is None else [some[i] for i in chosen]
    assert [some[i] for i in found["who"].to_pylist()] == sorted(wanted)
    assert found["rank"].to_pylist() == list(range(len(wanted)))


@pytest.mark.parametrize(("people", "parts"), [(1, 1), (1, 3), (7, 2), (100, 7)])
def test_ranges_have_everybody_once(people: int, parts: int) -> None:
    bounds = tables.ranges(people, parts)
    assert len(bounds) == parts
    assert [one for low, high in bounds for one in range(low, high)] == list(range(people))


def test_growth_is_only_as_large_as_it_must_be() -> None:
    half_lives, growths = tables.growths([0, 24], -(10**6), 10**6)
    assert half_lives.num_rows == 2
    assert growths.num_rows == 1 + 24 * (62 + 26)
    assert growths.column("down").to_numpy().max() == 62


def test_it_compiles_for_spark() -> None:
    names = {
        "interactions": aggregate.INTERACTIONS,
        "once": aggregate.ONCE,
        "kinds": aggregate.KINDS,
        "dna": aggregate.DNA,
        "half_lives": aggregate.HALF_LIVES,
        "growths": aggregate.GROWTHS,
    }
    there = {name: aggregate.table(name, schema) for name, schema in names.items()}
    first = aggregate.first_only(there["interactions"], there["once"])
    votes = aggregate.votes(first, there["kinds"], there["dna"], there["half_lives"])
    sql = str(ibis.to_sql(aggregate.states(votes, there["growths"]), dialect="pyspark")).upper()
    assert "SHIFTLEFT" in sql
    assert "DOUBLE" not in sql
    assert "/" not in sql
