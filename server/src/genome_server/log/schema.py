"""The file of the log: tables, pragmas, and how a connection to it is opened.

One row of `batches` is one batch as it was received: length-delimited frames in
one blob. `offset` counts events, not batches: the batch at offset p with
`count` c holds the events p … p + c − 1, so that a consumer's lag is a plain
difference. `lanes` holds, for every (device, epoch, lane), the sequence up to
and including which everything is here; it changes in the transaction of the
batch that moves it.

`first` … `last` are the sequences that a row accounts for, holes declared by an
EVICTED frame included: the rows of a lane join without a gap.

`kinds` are the kinds of a row's frames (`framing.kind_bits`), and may be more than
there are: who reads some kinds only passes over rows that hold none of them.

`kept` holds small facts that must be exactly as durable as an event: the first
answer to a request that may be repeated, and what a later outcome needs to know.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from genome_server.errors import StoreBusy, StoreDamaged, StoreError
from genome_server.log.framing import ANY_KIND

FORMAT = "2"
#: Without the kinds of a row. Read as it is; what writes to it adds them.
_EARLIER = "1"

BATCH_COLUMNS = (
    "offset, device, epoch, lane, first, last, count, digest, received_ms, kinds, frames"
)

# Bigger pages than usual: a blob of 50 KB is then a chain of 4 pages, not of 13.
_PAGE_BYTES = 16_384
# Pages in the write-ahead log before it is copied back; 64 MiB.
_CHECKPOINT_PAGES = 4_096
_BUSY_MS = 30_000

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (
  key TEXT PRIMARY KEY, value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
  offset INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  epoch BLOB NOT NULL,
  lane INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  count INTEGER NOT NULL,
  digest BLOB NOT NULL,
  received_ms INTEGER NOT NULL,
  kinds INTEGER NOT NULL,
  frames BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS batches_by_lane ON batches (device, epoch, lane, first);
CREATE TABLE IF NOT EXISTS lanes (
  device TEXT NOT NULL,
  epoch BLOB NOT NULL,
  lane INTEGER NOT NULL,
  through INTEGER NOT NULL,
  PRIMARY KEY (device, epoch, lane)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (
  key BLOB PRIMARY KEY,
  value BLOB NOT NULL,
  subject BLOB NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_by_expiry ON kept (expires_ms);
"""


class LogFormatError(StoreError):
    """The file is not a log that this version can read."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the log at `path`, making it where there is none and taking over an earlier format.

    Raises LogFormatError when the file is of another format, StoreBusy when somebody else holds it,
    StoreDamaged when it is no database, StoreError when it cannot be made or changed. Nothing stays
    open or half done then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return _opened(path, str(path), _prepare_to_write)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open an existing log read-only.

    Raises FileNotFoundError when there is none, and what `open_for_writing` does.
    """
    if not path.exists():
        raise FileNotFoundError(f"no log at {path}")
    return _opened(path, _read_only(path), _prepare_to_read)


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database to read it, whatever it is. Raises StoreError."""
    return _opened(path, _read_only(path), _query_only)


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


def _opened(
    path: Path, target: str, prepare: Callable[[sqlite3.Connection, Path], None]
) -> sqlite3.Connection:
    """A connection that is prepared; one that cannot be is closed, and its transaction undone."""
    try:
        connection = sqlite3.connect(
            target,
            uri=target.startswith("file:"),
            timeout=_BUSY_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise _in_words(path, error) from error
    return connection


def _in_words(path: Path, error: sqlite3.Error) -> StoreError:
    # What Python itself says has no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(
            f"{path} is held by another process for more than {_BUSY_MS / 1000:.0f} s; try again "
            "when it is done"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(
            f"{path} is damaged or is not a database ({error}); restore it from a backup"
        )
    return StoreError(f"{path} cannot be used: {error}")


def _prepare_to_write(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    if _format(connection) is None:
        connection.execute("BEGIN IMMEDIATE")  # two processes may make it at once
        if _format(connection) is None and _tables(connection):
            raise LogFormatError(f"{path} is a database, but not a log of format {FORMAT}")
        for statement in _TABLES.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(
            "INSERT OR IGNORE INTO meta VALUES ('format', ?), ('incarnation', ?)",
            (FORMAT.encode(), os.urandom(16)),
        )
        connection.execute("COMMIT")
    elif _format(connection) == _EARLIER:
        connection.execute("BEGIN IMMEDIATE")
        if _format(connection) == _EARLIER:
            _add_kinds(connection)
        connection.execute("COMMIT")
    _check_format(connection, path, FORMAT)


def _prepare_to_read(connection: sqlite3.Connection, path: Path) -> None:
    _query_only(connection, path)
    _check_format(connection, path, FORMAT, _EARLIER)


def _query_only(connection: sqlite3.Connection, _: Path) -> None:
    connection.execute("PRAGMA query_only = ON")


def only(columns: str, bits: int) -> str:
    """Return what to select so that frames of other kinds than these bits are not even read."""
    *others, kinds, frames = columns.split(", ")
    return ", ".join((*others, kinds, f"CASE WHEN {kinds} & {bits} THEN {frames} ELSE x'' END"))


def columns(connection: sqlite3.Connection) -> str:
    """Return what to select for a row as `BATCH_COLUMNS` has it, also from an earlier format."""
    if _format(connection) == _EARLIER:
        return BATCH_COLUMNS.replace("kinds", str(ANY_KIND))
    return BATCH_COLUMNS


def incarnation(connection: sqlite3.Connection) -> bytes:
    """Return the 16 bytes that name this log; a restored copy is given new ones."""
    value = _meta(connection, "incarnation")
    if value is None:
        raise LogFormatError("the log has no incarnation")
    return value


def end_offset(connection: sqlite3.Connection) -> int:
    """Return the offset behind the last event: how many events were ever logged."""
    row = connection.execute(
        "SELECT offset + count FROM batches ORDER BY offset DESC LIMIT 1"
    ).fetchone()
    return 0 if row is None else int(row[0])


def kept(connection: sqlite3.Connection, key: bytes, now_ms: int) -> tuple[bytes, bytes] | None:
    """Return the (value, subject) kept under a key, or None where there is none any more."""
    row = connection.execute(
        "SELECT value, subject FROM kept WHERE key = ? AND expires_ms > ?", (key, now_ms)
    ).fetchone()
    return None if row is None else (bytes(row[0]), bytes(row[1]))


def _meta(connection: sqlite3.Connection, key: str) -> bytes | None:
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # a new file
            return None
        raise
    return None if row is None else bytes(row[0])


def _tables(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _format(connection: sqlite3.Connection) -> str | None:
    value = _meta(connection, "format")
    return None if value is None else value.decode(errors="replace")


def _add_kinds(connection: sqlite3.Connection) -> None:
    connection.execute(f"ALTER TABLE batches ADD COLUMN kinds INTEGER NOT NULL DEFAULT {ANY_KIND}")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (FORMAT.encode(),))


def _check_format(connection: sqlite3.Connection, path: Path, *readable: str) -> None:
    found = _format(connection)
    if found not in readable:
        raise LogFormatError(f"{path} is not a log of format {FORMAT} (found {found!r})")
    incarnation(connection)
