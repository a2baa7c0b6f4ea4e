"""DuckDB as the engine of a build: tables in, Ibis expressions run, Arrow tables out.

An expression is compiled to SQL and run by DuckDB itself. So the expression
knows nothing of the engine, and the engine's own interface is all that this
room depends on.

Theory. Two threads that work on one query of many groups make tables of groups
each, which are cut up, exchanged and put together: a third of the work. So
what is cut into parts anyway is given to several hands, each of which runs a
query of its own, of one part, on one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

import duckdb
import ibis
import pyarrow as pa
import sqlglot
from ibis.expr.types import Table

from genome_server.genomes import aggregate

_TYPES = {pa.int64(): "BIGINT", pa.int32(): "INTEGER"}
_GIVEN = "given"
# Tables that are made on the way: in memory while they fit, on the disk as they are otherwise.
_KEPT: Final = "kept"
# So many results of each hand wait for who takes them.
_WAITING: Final = 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Compiled(NamedTuple):
    """An expression in the words of DuckDB, and the columns that come of it."""

    sql: str
    columns: pa.Schema


class Hand:
    """One of several that run queries at the same time. Use it from one thread at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def look(self, name: str, table: str, column: str, low: int, high: int) -> None:
        """Let `name` be the rows of a kept table of which the column is in [low, high)."""
        self._connection.execute(
            f'CREATE OR REPLACE TEMP VIEW "{name}" AS SELECT * FROM {_KEPT}."{table}" '
            f'WHERE "{column}" >= {low} AND "{column}" < {high}'
        )

    def run(self, compiled: Compiled) -> pa.Table:
        """The rows of a compiled expression."""
        found: pa.Table = self._connection.sql(compiled.sql).to_arrow_table()
        return found.cast(compiled.columns)


class Database(Hand):
    """One database file. Use it from one thread.

    `memory` ("2GB") is what DuckDB may use, unless given four fifths of the machine's; what does
    not fit goes to disk beside the file.
    """

    def __init__(self, path: Path, memory: str = "") -> None:
        settings: dict[str, Any] = {"preserve_insertion_order": "false"}
        if memory:
            settings["memory_limit"] = memory
        super().__init__(duckdb.connect(str(path), config=settings))
        self._connection.execute(f"ATTACH ':memory:' AS {_KEPT}")
        ((threads,),) = self._connection.execute("SELECT current_setting('threads')").fetchall()
        self._threads = int(threads)
        self._made: set[str] = set()

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

    def write(self, name: str, path: Path) -> Path:
        """Write the rows of a table into a Parquet file, which is returned."""
        # A path can be no parameter here.
        to = str(path).replace("'", "''")
        self._connection.execute(f"COPY \"{name}\" TO '{to}' (FORMAT parquet)")
        return path

    def rows(self, expression: Table) -> pa.Table:
        """The rows of an expression over the tables."""
        return self.run(compiled(expression))

    def keep(self, name: str, expression: Table) -> Table:
        """Make a table of an expression's rows, in their order; the old one of this name goes.

        It is there for all hands, too.
        """
        made, columns = compiled(expression)
        self._connection.execute(f"SET threads = {self._threads}")
        self._connection.execute(f'CREATE OR REPLACE TABLE {_KEPT}."{name}" AS {made}')
        _show(self._connection, name)
        self._made.add(name)
        return aggregate.table(name, columns)

    def spread(
        self, work: Callable[[Hand, _Item], _Result], items: Iterable[_Item]
    ) -> Generator[_Result]:
        """What `work` makes of each item, in their order; as many hands as there are threads."""
        hands: SimpleQueue[Hand] = SimpleQueue()
        connections = [self._connection.cursor() for _ in range(self._threads)]
        for connection in connections:
            for name in self._made:
                _show(connection, name)
            hands.put(Hand(connection))

        def one(item: _Item) -> _Result:
            hand = hands.get()
            try:
                return work(hand, item)
            finally:
                hands.put(hand)

        self._connection.execute("SET threads = 1")
        waiting: deque[Future[_Result]] = deque()
        try:
            with ThreadPoolExecutor(self._threads, "build") as pool:
                try:
                    for item in items:
                        waiting.append(pool.submit(one, item))
                        if len(waiting) > _WAITING * self._threads:
                            yield waiting.popleft().result()
                    while waiting:
                        yield waiting.popleft().result()
                finally:
                    for future in waiting:
                        future.cancel()
        finally:
            for connection in connections:
                connection.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _show(connection: Any, name: str) -> None:
    """Let a connection know a kept table by its name alone."""
    connection.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS SELECT * FROM {_KEPT}."{name}"')


def compiled(expression: Table) -> Compiled:
    """An expression in the words of DuckDB."""
    return _compiled(expression.op())


# A server compiles the same few expressions for every build; it takes longer than a small build.
@lru_cache(maxsize=64)
def _compiled(asked: Any) -> Compiled:
    expression = asked.to_expr()
    said = sqlglot.parse_one(str(ibis.to_sql(expression, dialect="duckdb")), dialect="duckdb")
    # DuckDB sums integers into 128 bits, with which everything after that is slow; the expression
    # says that 64 are enough, and DuckDB says so if they are not.
    for node in list(said.find_all(sqlglot.exp.Sum)):
        node.replace(sqlglot.exp.cast(node.copy(), "BIGINT"))
    return Compiled(said.sql(dialect="duckdb"), expression.schema().to_pyarrow())
