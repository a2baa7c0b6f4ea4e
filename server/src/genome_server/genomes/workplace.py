"""Folders for work that may be killed: they hold subjects, so none may be left behind.

Each work holds a lock in its folder for as long as it lives. Folders are made and cleared away
under one more lock, in the folder around them: so whoever holds that one knows that a folder whose
own lock is free is of a work that was killed.

That lock is also the mark by which a folder is known as ours, and it is there before anything else.
What has no such mark is never touched, whatever it is called. A folder that other machines may use
too, where no lock can be relied upon, is never searched: what a work has there it notes in its own
folder, and who clears that one away clears away what it names.
"""

from __future__ import annotations

import os
import secrets
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
_LOCK: Final = "genome-build.lock"
_ELSEWHERE: Final = "elsewhere-"
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


@contextmanager
def folder_elsewhere(folder: Path, place: Path) -> Iterator[Path]:
    """A folder in `place`, which other machines may use too, for the work whose folder is `folder`.

    It is gone when the work is done; where that is killed, with the folder of the work. Raises
    OSError.
    """
    name = f"{_PREFIX}{secrets.token_hex(16)}"
    made = place.absolute() / name
    (folder / f"{_ELSEWHERE}{name}").write_bytes(os.fsencode(made))
    made.mkdir(0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _clear(home: Path) -> None:
    for left in home.glob(f"{_PREFIX}*"):
        mark = left / _LOCK
        if left.is_symlink() or mark.is_symlink() or not mark.is_file():
            continue
        lock = FileLock.try_acquire(mark)
        if lock is not None:
            _clear_elsewhere(left)
            shutil.rmtree(left, ignore_errors=True)
            lock.release()


def _clear_elsewhere(left: Path) -> None:
    for note in left.glob(f"{_ELSEWHERE}*"):
        made = Path(os.fsdecode(note.read_bytes()))
        if made.name == note.name.removeprefix(_ELSEWHERE):  # else it was cut
            shutil.rmtree(made, ignore_errors=True)


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
