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
from genome_server.genomes.workplace import failing_as_refused, folder_elsewhere, work_folder

_WORK = """
import sys, time
from pathlib import Path
from genome_server.genomes.workplace import work_folder
with work_folder(Path(sys.argv[1])) as folder:
    (folder / "subjects").write_bytes(b"subjects")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_has_no_mark_of_ours_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "build-2024").mkdir()
    (tmp_path / "build-2024" / "report.csv").write_bytes(b"somebody's")
    (tmp_path / "build-locked").mkdir()
    (tmp_path / "build-locked" / "lock").touch()
    (tmp_path / "build-file").write_bytes(b"not a folder")
    ours = tmp_path / "elsewhere" / "build-of-somebody"
    ours.mkdir(parents=True)
    (ours / "genome-build.lock").touch()
    (tmp_path / "build-link").symlink_to(ours)
    before = sorted(tmp_path.rglob("*"))
    with work_folder(tmp_path) as folder:
        pass
    assert not folder.exists()
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "build.lock"])


_SHARED = """
import sys, time
from pathlib import Path
from genome_server.genomes.workplace import folder_elsewhere, work_folder
with work_folder(Path(sys.argv[1])) as folder, folder_elsewhere(folder, Path(sys.argv[2])) as place:
    (place / "interactions.parquet").write_bytes(b"interactions")
    print(place, flush=True)
    time.sleep(60)
"""


def test_in_a_shared_folder_only_what_this_home_left_is_cleared(tmp_path: Path) -> None:
    """Locks may not reach from machine to machine there."""
    home, shared = tmp_path / "home", tmp_path / "shared"
    home.mkdir()
    other = shared / "build-of-another-host"
    other.mkdir(parents=True)
    (other / "genome-build.lock").touch()
    with subprocess.Popen(
        [sys.executable, "-c", _SHARED, str(home), str(shared)], stdout=subprocess.PIPE, text=True
    ) as work:
        assert work.stdout is not None
        left = Path(work.stdout.readline().strip())
        with work_folder(home) as folder, folder_elsewhere(folder, shared) as ours:
            assert sorted(shared.iterdir()) == sorted([other, left, ours])
        assert sorted(shared.iterdir()) == sorted([other, left])
        work.send_signal(signal.SIGKILL)
        work.wait(10)
    assert (left / "interactions.parquet").exists()
    with work_folder(home):
        assert list(shared.iterdir()) == [other]


def test_a_note_that_was_cut_clears_nothing_away(tmp_path: Path) -> None:
    left, somebodys = tmp_path / "build-left", tmp_path / "shared"
    left.mkdir()
    somebodys.mkdir()
    (left / "genome-build.lock").touch()
    (left / "elsewhere-build-0123").write_bytes(str(somebodys).encode())
    with work_folder(tmp_path):
        assert not left.exists()
    assert somebodys.exists()


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
        held = FileLock.acquire(young / "genome-build.lock")
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
