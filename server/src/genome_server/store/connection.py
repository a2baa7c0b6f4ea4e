"""One SQLite file, one connection per thread, transactions that nest.

Every statement of the store goes through here, so that what SQLite says
becomes an error that a person can act on, and so that no row is lost once it
was said to be kept: WAL with synchronous=FULL.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlite_utils import Database

from genome_server.errors import StoreBusy, StoreDamaged, StoreError
from genome_server.store.migrations import migrate

#: Seconds that a writer waits for another one.
BUSY_TIMEOUT_S = 60.0
#: Rows per statement or page; below SQLite's limit of 32,766 bound values.
CHUNK = 2_000
#: What a connection may keep of the file. Events on their way to genomes touch pages all over it,
#: and a transaction that does not fit writes pages more than once.
_CACHE_KIB = 16 * 1024

T = TypeVar("T")
Row = tuple[Any, ...]


def chunked(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Cut an iterable into lists of at most `size`."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def marks(values: Sequence[object]) -> str:
    """A list of placeholders for `IN (…)`."""
    return ",".join("?" * len(values))


class Connections:
    """The connections of one database file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[tuple[threading.Thread, Database]] = []

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the database, made or migrated to what this version needs.

        Raises StoreTooNew, StoreDamaged or StoreBusy.
        """
        store = cls(Path(path))
        try:
            with store.translated():
                migrate(store.db, store.path)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for _, db in self._open:
                db.conn.close()
            self._open.clear()
            self._local = threading.local()

    @property
    def db(self) -> Database:
        """This thread's connection."""
        db: Database | None = getattr(self._local, "db", None)
        if db is None:
            db = self._connect()
            self._local.db = db
        return db

    def _connect(self) -> Database:
        # Closed by whichever thread comes next or by close(), hence the flag;
        # used by one thread only. No isolation level: we begin transactions ourselves.
        with self.translated():
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                _use_wal(connection)
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
                db = Database(connection, execute_plugins=False)
            except BaseException:
                connection.close()
                raise
        with self._lock:
            for thread, old in self._open:
                if not thread.is_alive():
                    old.conn.close()
            self._open = [(thread, old) for thread, old in self._open if thread.is_alive()]
            self._open.append((threading.current_thread(), db))
        return db

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what SQLite raises into errors of ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                raise StoreBusy(
                    f"{self.path} is held by another process for more than "
                    f"{BUSY_TIMEOUT_S:.0f} s; try again when it is done"
                ) from error
            raise StoreError(f"{self.path}: {text}") from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise StoreError(f"{self.path}: {error}") from error
            raise StoreDamaged(
                f"{self.path} is damaged or is not a database ({error}); restore it from a backup"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is done inside one atomic change; may be nested."""
        connection: sqlite3.Connection = self.db.conn
        if connection.in_transaction:
            with self.db.atomic():
                yield
        else:
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads inside see one state; nobody who writes is held up."""
        if self.db.conn.in_transaction:
            yield
            return
        self.run("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite has rolled back already where the disk failed.
        if self.db.conn.in_transaction:
            self.db.conn.execute("ROLLBACK")

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement; returns how many rows it touched."""
        with self.translated():
            return int(self.db.conn.execute(sql, values).rowcount)

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Run a statement once for each row; returns how many rows of the table it touched."""
        with self.translated():
            return int(self.db.conn.executemany(sql, rows).rowcount)

    def all(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        with self.translated():
            rows: list[Row] = self.db.conn.execute(sql, values).fetchall()
        return rows

    def one(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        """The first row of a query, or None."""
        with self.translated():
            row: Row | None = self.db.conn.execute(sql, values).fetchone()
        return row

    def number(self, sql: str, values: Sequence[object] = ()) -> int:
        """The one number that a query answers; 0 where it is NULL or nothing."""
        row = self.one(sql, values)
        return int(row[0]) if row is not None and row[0] is not None else 0

    def among(self, sql: str, keys: Iterable[object], *first: object) -> Iterator[Row]:
        """Rows of a query whose `{keys}` are among many keys, asked for in chunks.

        Values in `first` stand before the keys in the query.
        """
        for chunk in chunked(keys):
            yield from self.all(sql.replace("{keys}", marks(chunk)), [*first, *chunk])

    def pages(self, sql: str, start: object, *first: object) -> Iterator[Row]:
        """All rows of an ordered query, page by page.

        The query ends in `key > ? ORDER BY key LIMIT ?` and its first column is
        the key. No cursor stays open between pages, so that the reader may
        write to the same table and a slow reader holds nobody up.
        """
        last = start
        while page := self.all(sql, [*first, last, CHUNK]):
            yield from page
            last = page[-1][0]

    # -- meta

    def meta(self, key: str) -> str | None:
        """A small setting, or None."""
        row = self.one("SELECT value FROM meta WHERE key = ?", [key])
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Keep a small setting."""
        self.run("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [key, value])

    def next_counter(self, name: str) -> int:
        """1, 2, 3 …: the next value of a counter, never given twice."""
        return self.take(name, 1)

    def take(self, name: str, count: int) -> int:
        """Take `count` values of a counter at once; returns the first of them."""
        with self.transaction():
            self.run(
                "INSERT INTO counters (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                [name, count],
            )
            return self.number("SELECT value FROM counters WHERE name = ?", [name]) - count + 1

    def skip_counter(self, name: str, by: int) -> None:
        """Let a counter go on above its value by more than `by`, also where it has none yet."""
        self.take(name, by)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn the log on. Who does that while another connection does is refused at once, whatever
    its timeout is: SQLite would wait for itself."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
