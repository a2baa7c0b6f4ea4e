"""Folders that hold subjects while something works, and what a build says when it cannot."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from edge_sdk._posix import FileLock
from genome_server.errors import Refused
from genome_server.genomes.workplace import failing_as_refused, work_folder

_WORK = """
import sys, time
from pathlib import Path
from genome_server.genomes.workplace import work_folder
with work_folder(Path(sys.argv[1])) as folder:
    (folder / "subjects").write_bytes(b"subjects")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_of_a_work_that_was_killed_before_it_held_its_lock_is_removed(
    tmp_path: Path,
) -> None:
    (tmp_path / "build-without-a-lock").mkdir()
    (tmp_path / "build-file").write_bytes(b"not a folder")
    with work_folder(tmp_path) as folder:
        assert [one for one in tmp_path.glob("build-*") if one.is_dir()] == [folder]
    assert [one.name for one in tmp_path.glob("build-*")] == ["build-file"]


def test_a_work_in_another_process_is_left_alone_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WORK, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as work:
        assert work.stdout is not None
        theirs = Path(work.stdout.readline().strip())
        with work_folder(tmp_path) as ours:
            assert ours != theirs
            assert (theirs / "subjects").exists()
        work.send_signal(signal.SIGKILL)
        work.wait(10)
    assert (theirs / "subjects").exists()
    with work_folder(tmp_path):
        assert not theirs.exists()


def test_nobody_clears_away_while_a_folder_is_made(tmp_path: Path) -> None:
    """Between the folder and its lock there is a moment, in which it looks like one left behind."""
    with work_folder(tmp_path):
        pass
    making = FileLock.acquire(tmp_path / "build.lock")
    young = tmp_path / "build-young"
    young.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", _WORK, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
        assert young.exists()
        held = FileLock.acquire(young / "lock")
        making.release()
        assert other.stdout is not None
        assert other.stdout.readline()
        assert young.exists()
        held.release()
        other.kill()


@pytest.mark.parametrize(
    ("error", "room"),
    [
        (duckdb.IOException("IO Error: Could not write file: No space left on device"), True),
        (duckdb.OutOfMemoryException("failed to offload data block of size 256.0 KiB"), True),
        (duckdb.OutOfMemoryException("could not allocate block of size 256.0 KiB"), False),
        (duckdb.BinderException("Binder Error: no such column"), False),
    ],
)
def test_room_is_asked_for_where_the_cause_is_room(error: duckdb.Error, room: bool) -> None:
    with pytest.raises(Refused) as refused, failing_as_refused():
        raise error
    said = str(refused.value)
    assert str(error) in said
    assert ("room on the disk" in said) is room
    assert said.endswith("The genomes are as they were")
