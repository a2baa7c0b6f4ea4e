"""The aggregation on Apache Spark, for histories that one machine is too small for.

    session = SparkSession.builder.getOrCreate()
    sums = SparkSums(session, schema)
    sums.attach("interactions", session.read.parquet("s3://.../interactions"))
    sums.put("dna", dna)
    sums.settle()
    sums.states().write.parquet("s3://.../states")
    sums.newest().write.parquet("s3://.../newest")

The expressions are those of `aggregate`, which DuckDB runs in a build, and so are the integers
that come out. `cluster` sums a whole build with them. Needs the extra `spark` of this distribution,
and Java 17 or later.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import ibis
import pyarrow as pa
from ibis.expr.types import Table

from edge_sdk.dna.schema import DnaSchema
from genome_server.genomes import aggregate, tables
from genome_server.genomes.aggregation import Settled, settle

TABLES: Final = MappingProxyType(
    {
        "interactions": aggregate.INTERACTIONS,
        "dna": aggregate.DNA,
        "once": aggregate.ONCE,
        "kinds": aggregate.KINDS,
        "ranks": aggregate.RANKS,
        "done": aggregate.DONE,
        "met": aggregate.MET,
        "half_lives": aggregate.HALF_LIVES,
        "growths": aggregate.GROWTHS,
    }
)


class SparkSums:
    """What interactions in columns sum up to, in a Spark session (`pyspark.sql.SparkSession`).

    Its tables are temporary views of the session: interactions and dna must be given, once and
    ranks may. With ranks, genomes are those of the subjects that have one, which is their number.
    """

    def __init__(self, session: Any, schema: DnaSchema) -> None:
        _ = ibis.pyspark  # until it is asked for, Ibis compiles shifts that Spark does not know
        self._session = session
        self._there = {name: aggregate.table(name, columns) for name, columns in TABLES.items()}
        self._given: set[str] = set()
        self.put("kinds", tables.kinds(schema))
        self.put("once", aggregate.ONCE.empty_table())

    def put(self, name: str, rows: pa.Table) -> None:
        """Give a table, whole."""
        with quiet():
            made = self._session.createDataFrame(rows.cast(TABLES[name]))
        self.attach(name, made)

    def attach(self, name: str, rows: Any) -> None:
        """Give a table that Spark has already, a `pyspark.sql.DataFrame`."""
        rows.select(*TABLES[name].names).createOrReplaceTempView(name)
        self._given.add(name)

    def keep(self) -> Any:
        """Keep what was done where Spark keeps things, after everything that is given.

        Without this it is made anew of the interactions whenever it is asked for. Returns its
        DataFrame, to be given back by `unpersist`.
        """
        done = self.run(self._done()).persist()
        self.attach("done", done)
        return done

    def settle(self) -> Settled:
        """Make the tables of growth, after everything that is given.

        Raises LandmarkExhausted, and ValueError for a thing without DNA and a kind that is not
        known.
        """
        with quiet():
            return settle(
                lambda asked: self.run(asked).toArrow(), self.put, self._done(), self._there["dna"]
            )

    def states(self) -> Any:
        """(who, marker, state): a DataFrame, in no order."""
        there = self._there
        aged = aggregate.aged(there["dna"], there["half_lives"])
        return self.run(aggregate.states(aggregate.votes(self._done(), aged), there["growths"]))

    def newest(self) -> Any:
        """(who, newest): a DataFrame, in no order."""
        return self.run(aggregate.newest(self._done()).select("who", "newest"))

    def run(self, expression: Table) -> Any:
        """An expression over the tables as a DataFrame."""
        return self._session.sql(str(ibis.to_sql(expression, dialect="pyspark")))

    def _done(self) -> Table:
        there = self._there
        if "done" in self._given:
            return there["done"]
        counted = aggregate.first_only(there["interactions"], there["once"])
        done = aggregate.weighed(counted, there["kinds"])
        return aggregate.arranged(done, there["ranks"]) if "ranks" in self._given else done


@contextmanager
def quiet() -> Iterator[None]:
    """Of pandas, which is not used here, Spark says that it expects an older version."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
        yield
