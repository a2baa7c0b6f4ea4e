"""Single values and counters in a store's SQLite file. Functions over an open transaction."""

from __future__ import annotations

import sqlite3
from typing import Final

from edge_sdk.store.rows import read_rows, sealed

#: Keys that begin so say how far lanes are that local apps report to `genome-edge serve`.
GUESTS: Final = "guest:"


def set_meta(connection: sqlite3.Connection, **values: bytes) -> None:
    """Write single values."""
    connection.executemany(
        "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)",
        [sealed(key, value) for key, value in values.items()],
    )


def get_meta(connection: sqlite3.Connection, key: str) -> bytes | None:
    """Read a single value; None: there is none.

    Raises sqlite3.IntegrityError where it is not what was written.
    """
    row = next(read_rows(connection, "meta", "WHERE key = ?", key), None)
    return None if row is None else row[1]


def all_meta(connection: sqlite3.Connection) -> dict[str, bytes]:
    """Every single value. Raises as `get_meta`."""
    return dict(read_rows(connection, "meta"))


def drop_meta(connection: sqlite3.Connection, *keys: str) -> None:
    """Forget single values."""
    connection.executemany("DELETE FROM meta WHERE key = ?", [(key,) for key in keys])


def counter(connection: sqlite3.Connection, name: str) -> int:
    """The value of a counter."""
    return _number(connection.execute("SELECT n FROM counters WHERE name = ?", (name,)))


def bump(connection: sqlite3.Connection, name: str) -> int:
    """Count a change that other processes watch; returns the new value."""
    return _number(
        connection.execute("UPDATE counters SET n = n + 1 WHERE name = ? RETURNING n", (name,))
    )


def _number(found: sqlite3.Cursor) -> int:
    row = found.fetchone()
    if row is None or not isinstance(row[0], int):
        raise sqlite3.IntegrityError("a counter is damaged")
    return row[0]


def count_loss(connection: sqlite3.Connection, reason: str, events: int) -> None:
    """Count events that were lost or given up for a reason."""
    connection.execute(
        "INSERT INTO losses VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET events = events + ?2",
        sealed(reason, events),
    )
