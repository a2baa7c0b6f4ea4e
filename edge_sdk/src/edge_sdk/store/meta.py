"""Single values and counters in a store's SQLite file. Functions over an open transaction."""

from __future__ import annotations

import sqlite3
import zlib


def set_meta(connection: sqlite3.Connection, **values: bytes) -> None:
    """Write single values."""
    connection.executemany(
        "INSERT OR REPLACE INTO meta (key, value, crc) VALUES (?, ?, ?)",
        [(key, value, meta_crc(key, value)) for key, value in values.items()],
    )


def get_meta(connection: sqlite3.Connection, key: str) -> bytes | None:
    """Read a single value; None: there is none.

    Raises sqlite3.IntegrityError where it is not what was written.
    """
    row = connection.execute("SELECT key, value, crc FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else _checked(*row)


def all_meta(connection: sqlite3.Connection) -> dict[str, bytes]:
    """Every single value. Raises as `get_meta`."""
    rows = connection.execute("SELECT key, value, crc FROM meta")
    return {key: _checked(key, value, crc) for key, value, crc in rows}


def drop_meta(connection: sqlite3.Connection, *keys: str) -> None:
    """Forget single values."""
    connection.executemany("DELETE FROM meta WHERE key = ?", [(key,) for key in keys])


def meta_crc(key: str, value: bytes) -> int:
    """CRC-32 of a value and its name."""
    return zlib.crc32(value, zlib.crc32(key.encode()))


def row_crc(*said: object) -> int:
    """CRC-32 of what a row says, whatever the types that a damaged one has."""
    crc = 0
    for value in said:
        plain = int(value) if isinstance(value, bool) else value
        crc = zlib.crc32(plain if isinstance(plain, bytes) else repr(plain).encode(), crc)
    return crc


def check_row(what: str, crc: object, *said: object) -> None:
    """Raise sqlite3.IntegrityError where a row is not what was written."""
    if crc != row_crc(*said):
        raise sqlite3.IntegrityError(f"{what} is not what was written")


def _checked(key: str, value: object, crc: object) -> bytes:
    if not isinstance(value, bytes) or meta_crc(key, value) != crc:
        # What contradicts itself is made anew from what is still whole: see `Database`.
        raise sqlite3.IntegrityError(f"the value of {key} is not what was written")
    return value


def counter(connection: sqlite3.Connection, name: str) -> int:
    """The value of a counter."""
    row = connection.execute("SELECT n FROM counters WHERE name = ?", (name,)).fetchone()
    return int(row[0])


def bump(connection: sqlite3.Connection, name: str) -> int:
    """Count a change that other processes watch; returns the new value."""
    row = connection.execute(
        "UPDATE counters SET n = n + 1 WHERE name = ? RETURNING n", (name,)
    ).fetchone()
    return int(row[0])


def count_loss(connection: sqlite3.Connection, reason: str, events: int) -> None:
    """Count events that were lost or given up for a reason."""
    connection.execute(
        "INSERT INTO losses VALUES (?1, ?2) ON CONFLICT DO UPDATE SET events = events + ?2",
        (reason, events),
    )
