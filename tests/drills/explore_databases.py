"""Databases in memory, of whose bytes the states of `explore_outbox` are made."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge_sdk.store import rows


class Memory:
    """A database in memory, in place of a device's store."""

    path = Path("nowhere")

    def __init__(self) -> None:
        self.connection = database()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        self.connection.execute("BEGIN")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise

    read = write


def database(content: bytes | None = None) -> sqlite3.Connection:
    """A database in memory whose pages are small: states are made of its bytes.

    A new connection for each state: one that was used before may hold on to what it read.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if content is None:
        connection.execute("PRAGMA page_size = 512")
    else:
        connection.deserialize(content)
    rows.prepare(connection)
    return connection


ON_DISK: Final = (
    "SELECT key, value FROM meta ORDER BY key",
    "SELECT lane, next, received, safe, epoch, address FROM lanes ORDER BY lane",
    "SELECT lane, first, last, frames, reason FROM outbox ORDER BY lane, first",
    "SELECT * FROM batches ORDER BY lane",
)
IN_LOG: Final = (
    "SELECT * FROM meta ORDER BY key",
    "SELECT epoch, lane, first, last, frames FROM batches ORDER BY offset",
)


def dump(connection: sqlite3.Connection, queries: tuple[str, ...]) -> list[Any]:
    """The rows that these queries give: what tells one database from another."""
    return [connection.execute(query).fetchall() for query in queries]
