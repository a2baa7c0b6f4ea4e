"""Folders for work that may be killed: they hold subjects, so none may be left behind.

Each work holds a lock in its folder for as long as it lives. Folders are made and cleared away
under one more lock, in the folder around them: so whoever holds that one knows that a folder whose
own lock is free, or not there yet, is of a work that was killed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from edge_sdk._posix import FileLock
from genome_server.errors import Refused

_PREFIX: Final = "build-"
_LOCK: Final = "lock"
_MAKING: Final = "build.lock"
_SPILLING: Final = "failed to offload"
"""What DuckDB says where memory ran out because the disk had no room for what it put aside."""


@contextmanager
def work_folder(home: Path) -> Iterator[Path]:
    """A folder in `home` for one work, gone with all that is in it when the work is done.

    Those of works that were killed are removed first. Raises OSError.
    """
    with FileLock.acquire(home / _MAKING):
        _clear(home)
        folder = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=home)
        try:
            held = FileLock.acquire(Path(folder.name) / _LOCK)
        except BaseException:
            folder.cleanup()
            raise
    with held, folder as name:
        yield Path(name)


def _clear(home: Path) -> None:
    for left in home.glob(f"{_PREFIX}*"):
        lock = FileLock.try_acquire(left / _LOCK) if left.is_dir() else None
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            lock.release()


@contextmanager
def failing_as_refused() -> Iterator[None]:
    """Turn what DuckDB raises into Refused, with its cause; it asks for room where that is it."""
    try:
        yield
    except duckdb.Error as error:
        cause = str(error).partition("\n")[0]
        hint = "; is there room on the disk?" if _about_room(error) else ""
        raise Refused(
            f"the build could not work ({cause}){hint or '.'} The genomes are as they were"
        ) from error


def _about_room(error: duckdb.Error) -> bool:
    """Whether it is about reading and writing files, or about memory that had to go to a disk."""
    return isinstance(error, duckdb.IOException) or _SPILLING in str(error)
