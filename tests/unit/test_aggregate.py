"""The aggregation in columns, on DuckDB, is what the SDK computes one by one."""

from __future__ import annotations

from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import STATE_MAX, GenomeState
from edge_sdk.errors import LandmarkExhausted
from genome_server.genomes import aggregate, aggregation, tables
from genome_server.genomes.aggregation import Aggregation
from genome_server.genomes.database import Compiled, Hand
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
@example(some=[Case(([("brief:x", 4096)] * 2,), (LOUD._replace(times=8),))], parts=1)
@example(some=[Case(([("brief:x", 4096)] * 40,), (LOUD._replace(times=1),))], parts=1)
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


@pytest.mark.parametrize(
    ("column", "value", "why"), [("thing", 7, "thing 7, .* no DNA"), ("kind", 99, "kind")]
)
def test_one_that_fits_nothing_is_an_error_whatever_else_its_subject_did(
    tmp_path: Path, column: str, value: int, why: str
) -> None:
    deed = Deed(0, 0, "view", 0, 0, 0, 2)
    made = tabled(history([Case(([("always:x", 256)],), (deed,))]))
    rows = made.interactions.to_pylist()
    rows[1][column] = value
    with Aggregation(tmp_path / "t.duckdb", SCHEMA) as sums:
        sums.add(pa.Table.from_pylist(rows, schema=aggregate.INTERACTIONS))
        sums.add_dna(made.dna)
        with pytest.raises(ValueError, match=why):
            list(sums.summed())


@pytest.mark.parametrize(("times", "halved"), [(31, False), (32, True)])
@pytest.mark.parametrize("twice", [False, True])
def test_contributions_are_added_whole_where_no_sum_can_reach_the_ceiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, twice: bool, halved: bool
) -> None:
    asked = []
    real = Hand.run

    def run(hand: Hand, compiled: Compiled) -> pa.Table:
        if compiled.columns.names == ["who", "marker", "state"]:
            asked.append(compiled.sql)
        return real(hand, compiled)

    monkeypatch.setattr(Hand, "run", run)
    # A marker that a thing has twice gets twice as much from each interaction.
    salience = 2048 if twice else 4096
    dna = ([("brief:x", salience)] * (1 + twice),)
    told = history([Case(dna, (LOUD._replace(times=times),))])
    assert on_duckdb(told, tmp_path) == reference(told)
    assert [str(STATE_MAX) in sql for sql in asked] == [halved]


def test_nothing_at_all_is_no_genome(tmp_path: Path) -> None:
    with Aggregation(tmp_path / "t.duckdb", SCHEMA) as sums:
        assert [len(part.who) for part in sums.summed()] == [0]


def test_parts_are_not_smaller_than_the_dna_that_each_needs(tmp_path: Path) -> None:
    some = [Case(([("long:x", 256)],), (Deed(n % 3, 0, "view", n, 0, 0, 1),)) for n in range(20)]
    made = tabled(history(some))
    counts = []
    for at_once in (0, 5):
        path = tmp_path / f"{at_once}.duckdb"
        with Aggregation(path, SCHEMA, at_once=at_once) as sums:
            sums.add(made.interactions)
            sums.add_dna(made.dna)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(aggregation, "INTERACTIONS_AT_ONCE", 5)
                counts.append(len(list(sums.summed())))
    assert made.dna.num_rows == 20
    assert counts == [1, 5]


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


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 9), st.just(2**31 - 1)),
            st.one_of(st.integers(0, 9), st.just(2**31 - 1)),
        ),
        max_size=30,
        unique=True,
    )
)
@example([(2**31 - 1, 2**31 - 1), (2**31 - 1, 0), (0, 2**31 - 1)])
def test_rows_are_put_in_order_however_large_their_numbers(some: list[tuple[int, int]]) -> None:
    columns = [np.array([row[i] for row in some], np.int32) for i in (0, 1)]
    assert [some[i] for i in aggregation.ordered(*columns).tolist()] == sorted(some)


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
        "met": aggregate.MET,
        "half_lives": aggregate.HALF_LIVES,
        "growths": aggregate.GROWTHS,
    }
    there = {name: aggregate.table(name, schema) for name, schema in names.items()}
    done = aggregate.weighed(
        aggregate.first_only(there["interactions"], there["once"]), there["kinds"]
    )
    aged = aggregate.aged(there["dna"], there["half_lives"])
    for expression in (
        aggregate.states(aggregate.votes(done, aged), there["growths"]),
        aggregate.loudest(there["met"], aged, there["growths"]),
    ):
        sql = str(ibis.to_sql(expression, dialect="pyspark")).upper()
        assert "SHIFTLEFT" in sql
        assert "DOUBLE" not in sql
        assert "/" not in sql
