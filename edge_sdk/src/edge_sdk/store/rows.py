"""A check for every row: SQLite notices a damaged page, not a damaged value in it.

The tables in `CHECKED` end with a column `row_crc`, of the columns named here as they are stored.
Who writes a row gives it with it. Where a statement changes single columns a trigger does, and
refuses to change a row that is not what was written.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

#: What is checked of each table; contents that have a check of their own are not.
CHECKED: Final[Mapping[str, str]] = {
    "meta": "key, value",
    "releases": "role, version, sha256",
    "patches": "subject, row, reason, change",
    "lookups": "hash, subject, change",
    "pending": "id, subject, epoch, lane, sequence, time_ms, body, change",
    "consents": "subject, purpose, granted, epoch, lane, sequence",
    "caps": "subject, offer, kind, at_ms, claim, campaign, exclusivity, lane",
    "ring": "decisions, records",
    "ring_ids": "id, ids",
    "event_ids": "id, at_ms",
    "redemptions": "decision, slot, at_ms",
    "lanes": "lane, priority, next, received, safe, epoch, address",
    "outbox": "lane, first, last, at_ms, impressions, reason, bytes, crc",
    "batches": "lane, first, last",
    "losses": "reason, events",
}
#: What was checked of caps in the second format.
EARLIER_CAPS: Final = "subject, offer, kind, at_ms, lane"
# Those of which a statement changes single columns, by their key.
_CHANGED: Final = {
    "pending": "id",
    "consents": "subject, purpose",
    "caps": "id",
    "ring": "id",
    "lanes": "lane",
    "outbox": "lane, first",
    "losses": "reason",
}
_TRIGGER: Final = """
CREATE TRIGGER {table}_checked AFTER UPDATE OF {columns} ON {table}
WHEN new.row_crc = old.row_crc BEGIN
  SELECT CASE WHEN old.row_crc <> row_crc({old})
    THEN RAISE(ABORT, 'a row of {table} is not what was written') END;
  UPDATE {table} SET row_crc = row_crc({new}) WHERE ({key}) = ({new_key});
END;
"""
# Those that may hold much, and of which no answer is "there is no such row".
_LARGE: Final = frozenset({"ring", "ring_ids", "event_ids", "outbox"})
# Counters have no check of their own: those that matter are sums.
_COUNTED: Final = """
SELECT count(*) = 6 AND total(n) = total(CASE name
  WHEN 'ring' THEN (SELECT total(decisions) FROM ring)
  WHEN 'outbox_bytes' THEN (SELECT total(bytes) FROM outbox)
  WHEN 'release' THEN n WHEN 'genomes' THEN n WHEN 'state' THEN n WHEN 'standing' THEN n END)
FROM counters
"""


def row_crc(*values: object) -> int:
    """CRC-32 of values and their types as SQLite keeps them, whatever a damaged row has; never 0.

    A flipped bit makes text of bytes that are alike, and the other way round.
    """
    crc = 0
    for value in values:
        if isinstance(value, bytes):
            said, kind = value, 1
        elif isinstance(value, int):  # also one that has a name
            said, kind = b"%d" % value, 2
        elif isinstance(value, str):
            said, kind = value.encode(), 3
        else:
            said, kind = repr(value).encode(), 4
        crc = zlib.crc32(said, crc) + kind
    return crc


def prepare(connection: sqlite3.Connection) -> None:
    """What the triggers need on every connection that writes."""
    connection.create_function("row_crc", -1, row_crc, deterministic=True)


def sealed(*row: object) -> tuple[object, ...]:
    """A row with its check."""
    return (*row, row_crc(*row))


def add_checks(connection: sqlite3.Connection) -> None:
    """Give the tables of the second format their checks."""
    prepare(connection)
    checked = {**CHECKED, "caps": EARLIER_CAPS}
    for table, columns in checked.items():
        connection.execute(f"ALTER TABLE {table} ADD COLUMN row_crc INTEGER NOT NULL DEFAULT 0")
        if table in _CHANGED:
            connection.execute(trigger(table, columns))
    seal_all(connection, checked)


def trigger(table: str, columns: str) -> str:
    """The statement that makes what keeps the check of a table when single columns change."""
    return _TRIGGER.format(
        table=table,
        columns=columns,
        old=_each("old", columns),
        new=_each("new", columns),
        key=_CHANGED[table],
        new_key=_each("new", _CHANGED[table]),
    )


def _each(which: str, columns: str) -> str:
    return ", ".join(f"{which}.{column}" for column in columns.split(", "))


def seal_all(connection: sqlite3.Connection, checked: Mapping[str, str] = CHECKED) -> None:
    """Give each row that has none its check."""
    for table, columns in checked.items():
        connection.execute(f"UPDATE {table} SET row_crc = row_crc({columns}) WHERE row_crc = 0")


def read_rows(
    connection: sqlite3.Connection, table: str, where: str = "", *given: object
) -> Iterator[list[Any]]:
    """The rows of a table: what is checked of them.

    Raises sqlite3.IntegrityError where one is not what was written.
    """
    for *row, crc in connection.execute(
        f"SELECT {CHECKED[table]}, row_crc FROM {table} {where}", given
    ):
        check_row(table, row, crc)
        yield row


def check_row(table: str, row: list[Any], crc: object) -> None:
    """As `read_rows`, for one."""
    if row_crc(*row) != crc:
        # What contradicts itself is made anew from what is still whole: see `Database`.
        raise sqlite3.IntegrityError(f"a row of {table} is not what was written")


def check_all(connection: sqlite3.Connection, large: bool = True) -> None:
    """Read every row; without `large` not those of large tables. Raises as `read_rows`."""
    for table in CHECKED:
        # What customers did elsewhere may be much, too; it is checked as it is used.
        where = f"WHERE lane <> {-(1 << 63)}" if table == "caps" and not large else ""
        for _ in read_rows(connection, table, where) if large or table not in _LARGE else ():
            pass
    if large and not connection.execute(_COUNTED).fetchone()[0]:
        raise sqlite3.IntegrityError("what is counted is not what is there")


def holds(table: str, row: Mapping[str, object], first: bool) -> bool:
    """Whether a row, by column, is as it was written; in the `first` format nothing tells."""
    said = EARLIER_CAPS if table == "caps" and "claim" not in row else CHECKED[table]
    columns = said.split(", ")
    return first or row.get("row_crc") == row_crc(*map(row.get, columns))
