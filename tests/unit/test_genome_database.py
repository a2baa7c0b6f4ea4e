"""DuckDB as an engine: what several hands do at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from genome_server.genomes import aggregate
from genome_server.genomes.database import Compiled, Database, Hand, compiled

PLACES = aggregate.table("places", pa.schema([("place", pa.int32())]))
PART = aggregate.table("part", pa.schema([("place", pa.int32())]))
SUM = compiled(PART.aggregate(n=PART.count(), last=PART.place.max()))
THREADS = Compiled(
    "SELECT CAST(current_setting('threads') AS INT) AS threads",
    pa.schema([("threads", pa.int32())]),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "t.duckdb")
    some = made.create("all_places", pa.schema([("place", pa.int32())]))
    made.insert("all_places", pa.table([pa.array(range(1_000), pa.int32())], ["place"]))
    made.keep("places", some.order_by("place"))
    yield made
    made.close()


def part(hand: Hand, low: int) -> tuple[int, int]:
    hand.look("part", "places", "place", low, low + 10)
    (found,) = hand.run(SUM).to_pylist()
    return found["n"], found["last"]


def test_results_come_in_the_order_of_what_is_worked_on(database: Database) -> None:
    found = list(database.spread(part, range(0, 1_000, 10)))
    assert found == [(10, low + 9) for low in range(0, 1_000, 10)]


def test_each_query_runs_on_one_thread_and_several_at_a_time(database: Database) -> None:
    (threads,) = database.run(THREADS)["threads"].to_pylist()
    together = threading.Barrier(threads, timeout=60)

    def ask(hand: Hand, _: int) -> int:
        together.wait()  # raises unless as many hands work at a time
        return int(hand.run(THREADS)["threads"][0].as_py())

    assert list(database.spread(ask, range(threads))) == [1] * threads
    database.keep("again", PLACES)
    assert database.run(THREADS)["threads"].to_pylist() == [threads]


def test_what_one_hand_cannot_do_is_raised_and_nothing_goes_on(database: Database) -> None:
    begun = []

    def fail(hand: Hand, low: int) -> tuple[int, int]:
        begun.append(low)
        if low == 30:
            hand.run(Compiled("SELECT * FROM nowhere", pa.schema([])))
        return part(hand, low)

    found = database.spread(fail, range(0, 1_000, 10))
    assert [next(found), next(found), next(found)] == [(10, 9), (10, 19), (10, 29)]
    with pytest.raises(duckdb.CatalogException):
        next(found)
    assert len(begun) < 100


def test_who_takes_only_the_first_results_leaves_nothing_behind(database: Database) -> None:
    found = database.spread(part, range(0, 1_000, 10))
    assert next(found) == (10, 9)
    found.close()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("build")] == []
    assert list(database.spread(part, [990])) == [(10, 999)]
