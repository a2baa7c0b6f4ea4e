"""A log that cannot be opened: in words of our own, with nothing left open or half done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genome_server.errors import StoreBusy, StoreDamaged, StoreError
from genome_server.log import Committer, LogReader, schema
from genome_server.log.schema import LogFormatError


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every connection that is made."""
    connections: list[sqlite3.Connection] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def kept(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connections.append(connect(*arguments, **options))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", kept)
    monkeypatch.setattr(schema, "_BUSY_MS", 20)
    return connections


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of format 1."""
    path = tmp_path / "log.sqlite"
    Committer(path).close()
    with closing(sqlite3.connect(path)) as log, log:
        log.execute("ALTER TABLE batches DROP COLUMN kinds")
        log.execute("UPDATE meta SET value = ? WHERE key = 'format'", (b"1",))
    return path


def closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


def test_a_log_that_somebody_holds_is_not_taken_over_and_can_be_later(
    path: Path, opened: list[sqlite3.Connection]
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opened.clear()
        with pytest.raises(StoreBusy, match="held by another process"):
            Committer(path)
        assert [closed(one) for one in opened] == [True]
    Committer(path).close()
    with closing(sqlite3.connect(path)) as log:
        assert log.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() == (b"2",)


def test_a_takeover_that_fails_half_way_is_undone(
    path: Path, opened: list[sqlite3.Connection]
) -> None:
    with closing(sqlite3.connect(path)) as log, log:
        log.execute("CREATE TRIGGER no BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'no'); END")
    opened.clear()
    with pytest.raises(StoreError, match="cannot be used: no"):
        Committer(path)
    assert [closed(one) for one in opened] == [True]
    with closing(sqlite3.connect(path)) as log, log:
        assert "kinds" not in [row[1] for row in log.execute("PRAGMA table_info(batches)")]
        log.execute("DROP TRIGGER no")
    Committer(path).close()


@pytest.mark.parametrize("open_it", [Committer, LogReader])
def test_what_is_no_log_is_called_that_and_closed(
    tmp_path: Path, opened: list[sqlite3.Connection], open_it: Callable[[Path], object]
) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(StoreDamaged, match="not a database"):
        open_it(path)
    path.unlink()
    Committer(path).close()
    with closing(sqlite3.connect(path)) as log, log:
        log.execute("DELETE FROM meta WHERE key = 'incarnation'")
    with pytest.raises(LogFormatError, match="incarnation"):
        open_it(path)
    assert all(closed(one) for one in opened)
