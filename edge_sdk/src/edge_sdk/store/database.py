"""Connections to the store's SQLite file, transactions, and what its errors mean.

Rules
-----
- A write is one transaction that begins at once (BEGIN IMMEDIATE) and is on disk when it has
  ended (WAL, synchronous=FULL). What did not end so did not happen.
- Connections are kept in a pool and used by one thread at a time.
- A file that another process had to replace is noticed before the next transaction.
- SQLite's errors become three of ours: DiskFull, StoreCorrupt, and StoreError for the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from edge_sdk._posix import quiet
from edge_sdk.errors import DiskFull, StoreCorrupt, StoreError
from edge_sdk.store import rows
from edge_sdk.store import tables as store_schema

_BUSY_S: Final = 10.0
# SQLITE_ERROR: what we say is right where the schema is; or a value cannot be checked.
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
# Checking a file reads all of it; a larger one is checked as its pages are used.
_CHECKED_BYTES: Final = 8 * 1024 * 1024
# No SDK writes a higher format than this: what says so is damaged.
_FORMATS: Final = 1_000
_LITTLE_SPACE: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def translate(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """What an error of SQLite or of the system means for the store at `path`."""
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return DiskFull(f"no room is left for {path}: {error.strerror}")
        return StoreError(f"{path} cannot be used: {error}")
    if isinstance(error, sqlite3.IntegrityError):
        # What we write breaks no rule of the tables: what they hold contradicts itself.
        return StoreCorrupt(f"{path} is damaged: {error}")
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull(f"no room is left for {path}: {error}")
    if primary in _CORRUPT or (code is None and isinstance(error, sqlite3.DatabaseError)):
        return StoreCorrupt(f"{path} is damaged: {error}")
    if primary == sqlite3.SQLITE_IOERR and _little_space(path):
        # SQLite says "full" for ENOSPC only; a quota or a file size limit looks like bad hardware.
        return DiskFull(f"no room is left for {path}: {error}")
    return StoreError(f"{path} cannot be used: {error}")


def _be_fit() -> None:
    if quiet.unfit:
        error = sqlite3.OperationalError(
            "this process was forked while its parent was writing, and cannot use the file; "
            "start it anew"
        )
        # Without a code it would mean damage, and a good file be moved aside.
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error


def connect(path: Path, busy_s: float, *, make: bool = True) -> sqlite3.Connection:
    """A connection for one thread at a time, which waits so long for who has the file; without
    `make` there must be a file. Raises sqlite3.Error."""
    _be_fit()
    mode = "rwc" if make else "rw"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False,
    )  # fmt: skip


def _little_space(path: Path) -> bool:
    import shutil  # only in trouble

    try:
        if shutil.disk_usage(path.parent).free < _LITTLE_SPACE:
            return True
        probe = path.with_name(f".probe-{os.getpid()}")
        try:
            log = path.with_name(path.name + "-wal")
            sizes = (file.stat().st_size for file in (path, log) if file.exists())
            size = max(sizes, default=0) + 65_536
            with probe.open("wb") as file:
                file.seek(size)  # a hole: costs no space, and meets a limit on the size of files
                file.write(b"\0")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return error.errno in _FULL
    return False


class Pool:
    """Connections that are not in use."""

    def __init__(self) -> None:
        self._pool: list[sqlite3.Connection] = []
        quiet.lets_rest(self)

    def rest(self) -> None:
        """Close every connection that is not in use."""
        pool, self._pool = self._pool, []
        for connection in pool:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class Database(Pool):
    """The SQLite file at `path`. Thread-safe; belongs to the process that opened it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = 0
        self._closed = False
        self._doubted = False
        self._contradicted = -1  # the generation that did
        #: Counts how often the file was found replaced.
        self.generation = 0
        super().__init__()

    def create_or_upgrade(self, *, expected: bool = False) -> None:
        """Make the tables or bring them up to date, and look for damage. `expected`: there was
        such a file, so that none at all is damage, too.

        Raises StoreCorrupt, DiskFull, StoreError (among others for a file of a newer SDK).
        """
        with self._errors():
            _be_fit()  # else it would move aside what is gone, and make nothing in its place
            if expected and self.is_gone():
                raise StoreCorrupt(f"{self.path} is gone")
            connection = self._connect()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._inode = self._inode_now()
        self._pool.append(connection)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if not 0 <= version <= _FORMATS:
            raise StoreCorrupt(f"{self.path} is damaged: format {version}")
        if version > store_schema.VERSION:
            raise StoreError(
                f"{self.path} was written by a newer SDK (format {version}; this one reads "
                f"{store_schema.VERSION})"
            )
        if version == store_schema.VERSION:
            small = self.path.stat().st_size <= _CHECKED_BYTES
            if small:
                found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                if found != "ok":
                    raise StoreCorrupt(f"{self.path} is damaged: {found}")
            rows.check_all(connection, small)
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            store_schema.migrate(connection, version)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self.path, _BUSY_S)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # What is deleted (a genome, a customer's lookup) is overwritten, not merely unlinked.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA journal_size_limit = 4194304")
            rows.prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _inode_now(self) -> int:
        try:
            return self.path.stat().st_ino
        except OSError:
            return 0

    def _take(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.path} was closed")
        if self.was_replaced():
            if self.is_gone():  # connecting would make an empty one
                raise StoreCorrupt(f"{self.path} is gone")
            self.reset()
        try:
            return self._pool.pop()
        except IndexError:
            return self._connect()

    def _give(self, connection: sqlite3.Connection, inode: int) -> None:
        if self._closed or inode != self._inode:
            connection.close()
        else:
            self._pool.append(connection)

    def was_replaced(self) -> bool:
        """Whether the file is not the one that the connections belong to."""
        return self._inode_now() != self._inode

    def is_gone(self) -> bool:
        """Whether there is no file, or nothing in it."""
        try:
            return self.path.stat().st_size == 0
        except FileNotFoundError:
            return True

    def is_intact(self) -> bool:
        """Whether the file is what SQLite wrote; reads all of it, and compares the indexes.

        A file that contradicts itself is not, although SQLite finds it in order. It is believed
        only once in a process, so that no mistake of ours rebuilds a good file again and again.
        """
        # What one that was rebuilt meanwhile said is no matter any more.
        contradicted, self._contradicted = self._contradicted == self.generation, -1
        if contradicted and not self._doubted:
            self._doubted = True
            return False
        try:
            # A connection of its own: the others may have good pages in memory.
            with self._errors(), contextlib.closing(self._connect()) as connection:
                found = connection.execute("PRAGMA integrity_check(1)").fetchone()
                if found[0] == "ok":
                    rows.check_all(connection)
                return bool(found[0] == "ok")
        except StoreCorrupt:
            return False

    def reset(self) -> None:
        """Forget the connections: another process, or this one, has replaced the file."""
        self._inode = self._inode_now()
        self.generation += 1
        self.rest()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction. Raises DiskFull, StoreCorrupt or StoreError; then nothing of it
        happened."""
        with self._errors():
            connection = self._take()
            inode = self._inode
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    _roll_back(connection)
                    raise
            finally:
                self._give(connection, inode)

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of what is committed. Raises StoreCorrupt or StoreError."""
        with self._errors():
            connection = self._take()
            inode = self._inode
            try:
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    _roll_back(connection)
            finally:
                self._give(connection, inode)

    def truncate_log(self) -> None:
        """Bring everything into the main file and empty the write-ahead log, as far as readers
        allow: what was deleted is then nowhere any more."""
        with self._errors():
            connection = self._take()
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._give(connection, self._inode)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        generation = self.generation
        try:
            with quiet:
                yield
        except (sqlite3.Error, OSError) as error:
            # What we ask can be asked of our tables: their schema is not what we wrote.
            code = getattr(error, "sqlite_errorcode", None)
            wrong = isinstance(error, sqlite3.IntegrityError) or code == sqlite3.SQLITE_ERROR
            if wrong:
                self._contradicted = generation
            raise translate(error, self.path) from error
        except UnicodeDecodeError as error:
            # SQLite's own message about the damage quotes bytes of the damaged schema.
            self._contradicted = generation
            raise StoreCorrupt(f"{self.path} is damaged: its schema cannot be read") from error

    def watch(self) -> Watch:
        """Something that tells when anybody, in any process, has committed."""
        watch = Watch(self._connect, self.path)
        with self._errors():
            watch.open()
        return watch

    def close(self) -> None:
        """Close every connection that is not in use; those in use close when they are done."""
        self._closed = True
        with quiet:
            self.rest()

    def abandon(self) -> None:
        """In a forked child: let nobody use what is the parent's."""
        self._closed = True


class Watch:
    """Notices commits of other connections. For one thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], path: Path) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._path = path
        self._seen = -1
        quiet.lets_rest(self)

    def open(self) -> sqlite3.Connection:
        """The connection; a new one knows nothing of what another has seen. Raises sqlite3.Error,
        StoreError."""
        if self._connection is None:
            self._connection = self._connect()
            self._seen = -1
        return self._connection

    def changed(self) -> bool:
        """Whether anything was committed since the last call. Raises StoreError."""
        try:
            with quiet:
                version = int(self.open().execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise translate(error, self._path) from error
        seen, self._seen = self._seen, version
        return version != seen

    def rest(self) -> None:
        """Close the connection until it is needed again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def close(self) -> None:
        """Close the connection."""
        with quiet:
            self.rest()


def _roll_back(connection: sqlite3.Connection) -> None:
    # Where the connection is broken there is nothing to take back, and the first error counts.
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
