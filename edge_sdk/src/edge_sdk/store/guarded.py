"""A store's SQLite file, guarded: a damaged one is moved aside and made anew from what is left."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from edge_sdk._posix import FileLock, sync_directory
from edge_sdk.clock import wall_ms
from edge_sdk.errors import StoreCorrupt
from edge_sdk.store import files as store_files
from edge_sdk.store.database import Database, Watch, translate
from edge_sdk.store.meta import count_loss

log = logging.getLogger("edge_sdk.store.device")

OPEN_LOCK = "open"
#: Among the losses: not events, but how often the file was rebuilt.
REBUILT = "REBUILT"


class GuardedStore:
    """The SQLite file in the directory `path`. Thread-safe. Not to be used across a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: What was found damaged and not brought anew by a sync since; None: nothing.
        self.incident: StoreCorrupt | None = None
        self.database = Database(path / store_files.DATABASE)

    def close(self) -> None:
        """Close the files. Harmless to repeat."""
        self.database.close()

    def watch(self) -> Watch:
        """Something that tells when any process has committed. Raises StoreError."""
        return self.database.watch()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction; a damaged file is rebuilt before StoreCorrupt is raised."""
        try:
            with self.database.write() as connection:
                yield connection
        except StoreCorrupt as error:
            self.repair(error)
            raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view; a damaged file is rebuilt before StoreCorrupt is raised."""
        try:
            with self.database.read() as connection:
                yield connection
        except StoreCorrupt as error:
            self.repair(error)
            raise

    def repair(self, error: StoreCorrupt) -> None:
        """Rebuild the SQLite file where it is damaged indeed and nobody else was faster."""
        try:
            store_files.make_directories(self.path)
            with self._lock(OPEN_LOCK):
                if self.database.is_gone():
                    self._rebuild(error)
                elif self.database.was_replaced():
                    self.database.reset()
                elif not self.database.is_intact():
                    self._rebuild(error)
        except OSError as problem:
            raise translate(problem, self.path) from problem

    def _rebuild(self, error: StoreCorrupt) -> None:
        """Under the open lock. Who looks meanwhile, of whatever process, finds no file or the whole
        new one: a part of it would look damaged, too."""
        from edge_sdk.store.rescue import rescue

        aside = store_files.move_aside(self.path, store_files.database_files(self.path))
        new = self.database.path.with_suffix(".new")
        store_files.remove(new.with_name(new.name + suffix) for suffix in ("", "-wal", "-shm"))
        made = Database(new)
        try:
            made.create_or_upgrade()
            with made.write() as connection:
                rescue(aside / store_files.DATABASE, connection, wall_ms())
                self._restore(connection)
                count_loss(connection, REBUILT, 1)
            made.truncate_log()
        finally:
            made.close()
        new.rename(self.database.path)
        sync_directory(self.path)
        self.database.reset()
        self._found(StoreCorrupt(f"{error}; moved to {aside} and rebuilt"))

    def _restore(self, connection: sqlite3.Connection) -> None:
        """After a rebuild: take from other files what was lost."""
        raise NotImplementedError

    def _found(self, incident: StoreCorrupt) -> None:
        log.warning("%s", incident)
        self.incident = incident

    def _lock(self, name: str) -> FileLock:
        return FileLock.acquire(self.path / "locks" / name)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translate(error, self.path) from error
