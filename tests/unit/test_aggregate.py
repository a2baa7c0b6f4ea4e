from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import STATE_MAX, GenomeState, grow
from genome_server.genomes import aggregate
from genome_server.genomes.database import Database

HALF_LIVES = (0, 1, 3, 24, 720)
FURTHEST = 1 << 33
TABLES = {"votes": aggregate.VOTES, "once": aggregate.ONCE, "mantissas": aggregate.MANTISSAS}
VOTES, ONCE, MANTISSAS = (aggregate.table(name, schema) for name, schema in TABLES.items())

Vote = tuple[bytes, int, int, int, int]

votes = st.lists(
    st.tuples(
        st.sampled_from([b"a" * 16, b"b" * 16, b"\x00" * 15 + b"'"]),
        st.integers(0, 3),
        st.sampled_from(HALF_LIVES),
        st.integers(-490_000, 700),
        st.integers(0, FURTHEST),
    ),
    max_size=30,
).map(lambda some: [(s, m, hl, min(h, 25 * hl) if hl else h, v) for s, m, hl, h, v in some])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(tmp_path_factory.mktemp("aggregate") / "test.duckdb")
    for name, schema in TABLES.items():
        made.create(name, schema)
    made.insert("mantissas", aggregate.mantissas(HALF_LIVES))
    yield made
    made.close()


def run(database: Database, some: list[Vote]) -> dict[tuple[bytes, int], tuple[int, int]]:
    rows = [(*vote, i) for i, vote in enumerate(some)]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(6)]
    database.replace("votes", pa.table(columns, schema=aggregate.VOTES))
    found = database.run(aggregate.states(VOTES, MANTISSAS))
    assert found.schema.types[2:] == [pa.int64(), pa.int64()]
    keys = [(row["subject"], row["marker"]) for row in found.to_pylist()]
    assert keys == sorted(keys)
    return {(r["subject"], r["marker"]): (r["state"], r["newest"]) for r in found.to_pylist()}


def plain(some: list[Vote]) -> dict[tuple[bytes, int], tuple[int, int]]:
    states: dict[tuple[bytes, int], GenomeState] = {}
    for subject, marker, half_life, hours, vote in some:
        state = states.setdefault((subject, marker), GenomeState())
        # A newest hour below the epoch cannot be in a real log; shifted so that it can be here.
        state.add(0, grow(vote, hours, half_life), hours + 10**6)
    return {key: (s.values[0], (s.newest_hour or 0) - 10**6) for key, s in states.items()}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(some=votes)
@example(some=[(b"a" * 16, 1, 720, -1, FURTHEST), (b"a" * 16, 1, 24, -490_000, 5)])
@example(some=[(b"a" * 16, 1, 24, 25 * 24, FURTHEST)] * 64)
def test_it_is_what_the_sdk_computes(database: Database, some: list[Vote]) -> None:
    assert run(database, some) == plain(some)


def test_sums_stop_at_the_ceiling(database: Database) -> None:
    most = (b"a" * 16, 1, 1, 25, FURTHEST)
    (whole,) = run(database, [most] * 31).values()
    (over,) = run(database, [most] * 33).values()
    assert whole[0] < STATE_MAX
    assert over == (STATE_MAX, 25)


def test_only_the_first_of_an_id_counts(database: Database) -> None:
    columns: list[list[Any]] = [[b"s"] * 5, [1] * 5, [0] * 5, [0] * 5, [1, 2, 4, 8, 16]]
    database.replace("votes", pa.table([*columns, [7, 3, 3, 5, 9]], schema=aggregate.VOTES))
    ids = pa.table([[b"x", b"x", b"y"], [7, 3, 9]], schema=aggregate.ONCE)
    database.replace("once", ids)
    kept = database.run(aggregate.first_only(VOTES, ONCE))
    assert sorted(kept.column("vote").to_pylist()) == [2, 4, 8, 16]


def test_ranges_of_subjects(database: Database) -> None:
    subjects = [b"\x00'", b"\x00\\", b"\x7f" * 16, b"\x80", b"\xff" * 16]
    rows = [(subject, 1, 0, 0, 1, 0) for subject in subjects]
    columns = [list(column) for column in zip(*rows, strict=True)]
    database.replace("votes", pa.table(columns, schema=aggregate.VOTES))
    bounds = [b"\x00", b"\x00\\", b"\x80", b""]
    found = [
        database.run(aggregate.within(VOTES, low, high)).column("subject").to_pylist()
        for low, high in pairwise(bounds)
    ]
    assert found == [subjects[:1], subjects[1:3], subjects[3:]]


def test_it_compiles_for_spark() -> None:
    found = aggregate.states(aggregate.first_only(VOTES, ONCE), MANTISSAS)
    sql = str(ibis.to_sql(found, dialect="pyspark"))
    assert "SHIFTLEFT" in sql
    assert "DOUBLE" not in sql.upper()
