"""Locks that die with their holder, and forks that wait for rest."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_sdk import _posix
from edge_sdk._posix import FileLock, Living, Quiet, boot_id


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


def test_own_work_is_not_waited_for_and_goes_on_in_the_child() -> None:
    """A fork in a signal handler that came in the midst of it cannot wait for it to end."""
    quiet = Quiet()
    with quiet:
        began = time.monotonic()
        quiet.pause(5)
        assert time.monotonic() - began < 1
        quiet.begin_anew()
        assert quiet.unfit, "what it works with is open"
        with quiet:
            pass
    quiet.pause(5)
    assert not quiet._working


@pytest.mark.parametrize("how", ["nobody paused", "an exception came between", "resumed before"])
def test_a_child_is_unfit_where_not_everybody_rested(how: str) -> None:
    class Interrupted(Open):
        def rest(self) -> None:
            raise KeyboardInterrupt

    quiet = Quiet()
    quiet.begin_anew()
    assert not quiet.unfit, "nothing was ever open"
    who = Interrupted() if how == "an exception came between" else Open()
    quiet.lets_rest(who)
    if how != "nobody paused":
        with contextlib.suppress(KeyboardInterrupt):
            quiet.pause(1)
    if how == "resumed before":
        quiet.resume()
    quiet.begin_anew()
    assert quiet.unfit


def test_one_thread_forks_at_a_time() -> None:
    """Else the end of one fork would let work begin in the midst of another."""
    before = threading.Event()

    def other() -> None:
        _posix._before()
        before.set()
        _posix._after_in_parent()

    thread = threading.Thread(target=other)
    _posix._before()
    try:
        thread.start()
        assert not before.wait(0.2)
    finally:
        _posix._after_in_parent()
    thread.join(5)
    assert before.is_set()


# Libraries of other tests warn of forks; what is forked here uses none of them.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_keeps_no_lock_of_a_thread_that_it_has_not(tmp_path: Path) -> None:
    _posix.tell_about_forks(told := Told())
    lock = FileLock.acquire(tmp_path / "lock")
    goes_on, go_on = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_on)
        os.read(goes_on, 1)
        os._exit(told.children)
    try:
        lock.release()
        until = time.monotonic() + 5  # the child may not have begun yet
        while (again := FileLock.try_acquire(tmp_path / "lock")) is None:
            assert time.monotonic() < until, "the child holds it"
            time.sleep(0.01)
        again.release()
    finally:
        os.close(go_on)
        os.close(goes_on)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


class Told:
    """Somebody who is told about forks."""

    children = 0

    def before_fork(self) -> None:
        pass

    after_fork_in_parent = before_fork

    def after_fork_in_child(self) -> None:
        self.children += 1


def test_one_more_may_be_known_while_all_are_looked_at() -> None:
    known = Living[Open]()
    held = [Open(), Open()]
    for one in held[:]:
        known.add(one)
    for _ in known:
        held.append(Open())
        known.add(held[-1])
    assert len(list(known)) == 4
    del held[1:], one, _
    assert list(known) == held
