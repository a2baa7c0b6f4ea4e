"""Locks that die with their holder, and forks that wait for rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from edge_sdk._posix import FileLock, Quiet, boot_id


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = FileLock.try_acquire(path)
    assert held is not None
    assert FileLock.try_acquire(path) is None, "also within one process"
    held.release()
    held.release()
    with FileLock.acquire(path):
        assert FileLock.try_acquire(path) is None
    assert FileLock.try_acquire(path) is not None


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys, time; from pathlib import Path; from edge_sdk._posix import FileLock;"
        "lock = FileLock.try_acquire(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert FileLock.try_acquire(path) is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert FileLock.try_acquire(path) is not None


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = FileLock.acquire(path)
    taken = threading.Event()

    def wait() -> None:
        with FileLock.acquire(path):
            taken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not taken.wait(0.05)
    held.release()
    assert taken.wait(5)
    thread.join()


def test_a_boot_has_a_name() -> None:
    assert len(boot_id()) == 16
    assert boot_id() == boot_id()


def test_a_pause_waits_for_work_and_lets_none_begin() -> None:
    quiet = Quiet()
    inside, leave, again = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with quiet:
            inside.set()
            leave.wait(5)
            with quiet:  # already at work: a pause does not stop it half way
                pass
        with quiet:
            again.set()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(5)
    began = time.monotonic()
    quiet.pause(0.05)
    assert time.monotonic() - began >= 0.05, "there was work until the end"
    leave.set()
    quiet.pause(5)
    assert not again.wait(0.05)
    quiet.resume()
    assert again.wait(5)
    thread.join()


class Open:
    """Something that rests."""

    def __init__(self) -> None:
        self.rested: list[float] = []

    def rest(self) -> None:
        self.rested.append(time.monotonic())


def test_everybody_rests_in_a_pause_once_work_is_done() -> None:
    quiet, who, gone = Quiet(), Open(), Open()
    for one in (who, gone):
        quiet.lets_rest(one)
    del gone, one
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with quiet:
            inside.set()
            leave.wait(5)
            assert not who.rested

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(5)
    pausing = threading.Thread(target=quiet.pause, args=(5,))
    pausing.start()
    assert not who.rested
    leave.set()
    pausing.join()
    thread.join()
    assert len(who.rested) == 1
    quiet.begin_anew()
    assert not quiet.unfit
    with quiet:
        pass
    quiet.pause(5)
    assert len(who.rested) == 2, "also in a child of a child"


def test_a_child_of_a_process_that_could_not_rest_is_unfit_for_ever() -> None:
    quiet, inside, leave = Quiet(), threading.Event(), threading.Event()

    def work() -> None:
        with quiet:
            inside.set()
            leave.wait(5)
            # In the child this thread is not there any more; here it would find another state.
            quiet._mine.depth, quiet._working = 1, 1

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(5)
    quiet.pause(0.01)
    quiet.begin_anew()
    assert quiet.unfit
    leave.set()
    thread.join()
    quiet = Quiet()
    quiet.unfit = True
    quiet.pause(1)
    quiet.begin_anew()
    assert quiet.unfit, "and so are its children"
