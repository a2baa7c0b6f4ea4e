"""DuckDB as the engine of a build: tables in, Ibis expressions run, Arrow tables out.

An expression is compiled to SQL and run by DuckDB itself. So the expression
knows nothing of the engine, and the engine's own interface is all that this
room depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import sqlglot
from ibis.expr.types import Table

from genome_server.genomes import aggregate

_TYPES = {pa.int64(): "BIGINT", pa.int32(): "INTEGER"}
_GIVEN = "given"


class Database:
    """One database file. Use it from one thread.

    `memory` ("2GB") is what DuckDB may use, unless given four fifths of the machine's; what does
    not fit goes to disk beside the file.
    """

    def __init__(self, path: Path, memory: str = "") -> None:
        settings: dict[str, Any] = {"preserve_insertion_order": "false"}
        if memory:
            settings["memory_limit"] = memory
        self._connection: Any = duckdb.connect(str(path), config=settings)

    def create(self, name: str, schema: pa.Schema) -> Table:
        """Make an empty table and return it as an expression."""
        columns = ", ".join(f'"{field.name}" {_TYPES[field.type]}' for field in schema)
        self._connection.execute(f'CREATE TABLE "{name}" ({columns})')
        return aggregate.table(name, schema)

    def attach(self, name: str, schema: pa.Schema, files: Sequence[Path]) -> Table:
        """Make a table of what lies in Parquet files, which are read where they are."""
        columns = ", ".join(f'"{field.name}"' for field in schema)
        self._connection.read_parquet([str(file) for file in files]).project(columns).create_view(
            name
        )
        return aggregate.table(name, schema)

    def insert(self, name: str, rows: pa.Table) -> None:
        """Append rows."""
        self._connection.register(_GIVEN, rows)
        self._connection.execute(f'INSERT INTO "{name}" SELECT * FROM {_GIVEN}')
        self._connection.unregister(_GIVEN)

    def replace(self, name: str, rows: pa.Table) -> None:
        """Make these the only rows."""
        self._connection.execute(f'DELETE FROM "{name}"')
        self.insert(name, rows)

    def run(self, expression: Table) -> pa.Table:
        """The rows of an expression over the tables."""
        found: pa.Table = self._connection.sql(_sql(expression)).to_arrow_table()
        return found.cast(expression.schema().to_pyarrow())

    def keep(self, name: str, expression: Table) -> Table:
        """Make a table of an expression's rows, in their order; the old one of this name goes."""
        self._connection.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" AS {_sql(expression)}')
        return aggregate.table(name, expression.schema().to_pyarrow())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _sql(expression: Table) -> str:
    """An expression in the words of DuckDB."""
    said = sqlglot.parse_one(str(ibis.to_sql(expression, dialect="duckdb")), dialect="duckdb")
    # DuckDB sums integers into 128 bits, with which everything after that is slow; the expression
    # says that 64 are enough, and DuckDB says so if they are not.
    for node in list(said.find_all(sqlglot.exp.Sum)):
        node.replace(sqlglot.exp.cast(node.copy(), "BIGINT"))
    return said.sql(dialect="duckdb")
