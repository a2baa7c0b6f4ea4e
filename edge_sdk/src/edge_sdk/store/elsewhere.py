"""Reads what one customer did elsewhere, for whoever decides for them. Beside `Database`, since a
decision waits for nothing: neither for a transaction of its own nor for who has the file."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Final

from edge_sdk._posix import quiet
from edge_sdk.engine.cap_rules import CapRow
from edge_sdk.store import state
from edge_sdk.store.database import Pool, connect

log = logging.getLogger("edge_sdk.store.device")

_BUSY_S: Final = 0.05


class Elsewhere(Pool):
    """The rows of caps in the SQLite file at `path`, by subject. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Whose rows could not be read; None: nobody's. Nothing is read until it is None again.
        self.failed: bytes | None = None
        self._said = ""
        super().__init__()

    def __call__(self, subject: bytes) -> list[CapRow] | None:
        """What a customer did elsewhere; None where it cannot be read."""
        if self.failed is not None:
            return None
        try:
            with quiet:
                pool = self._pool  # here: in a pause it is another one
                try:
                    connection = pool.pop()
                except IndexError:
                    connection = self._connect()
                try:
                    rows = state.read_elsewhere(connection, subject)
                except BaseException:
                    connection.close()  # a fork must not meet it open
                    raise
                pool.append(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if str(error) != self._said:
                log.warning("what a customer did elsewhere cannot be read: %s", error)
            self.failed, self._said = subject, str(error)
            return None
        return rows

    def _connect(self) -> sqlite3.Connection:
        # Never makes one: beside it SQLite would delete the log of one that is being moved aside.
        connection = connect(self._path, _BUSY_S, make=False)
        connection.execute("PRAGMA query_only = ON")
        # Of as many as there are threads; the system has the pages in memory once for all.
        connection.execute("PRAGMA cache_size = -256")
        return connection

    def reset(self) -> None:
        """Close the files; who asks opens them again."""
        with quiet:
            self.rest()

    def forked(self) -> Elsewhere:
        """The same in a forked child."""
        return Elsewhere(self._path)
