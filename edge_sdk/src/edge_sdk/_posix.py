"""Everything that only POSIX systems have: locks that die with their holder, boots and forks.

A port to another system replaces this file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

_GRPC_PRINTS = "GRPC_VERBOSITY"
_GIVE_WAY = 5
_TURN_S = 0.00005
_TURN_LONGEST_S = 0.002
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


_T = TypeVar("_T")


class Living(Generic[_T]):
    """Objects, for as long as they live. Any thread may add one while another looks at them, where
    a WeakSet would raise."""

    def __init__(self) -> None:
        self._known: set[weakref.ref[_T]] = set()

    def add(self, one: _T) -> None:
        """Know one more."""
        self._known.add(weakref.ref(one, self._known.discard))

    def __iter__(self) -> Iterator[_T]:
        found = [known() for known in self._known.copy()]  # a copy is made in one step
        return iter([one for one in found if one is not None])


class FileLock:
    """An exclusive lock on a file. The system releases it when its holder ends, however it ends.

    The lock belongs to this object, not to the process: a second FileLock on the same path in the
    same process is refused like one in another process. A forked child holds none of its parent's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def try_acquire(cls, path: Path) -> FileLock | None:
        """The lock on `path`, or None where somebody holds it. Raises OSError."""
        return cls._open(path, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def acquire(cls, path: Path) -> FileLock:
        """The lock on `path`; waits for it. For short holds only. Raises OSError."""
        lock = cls._open(path, fcntl.LOCK_EX)
        if lock is None:  # a blocking request is never refused
            raise BlockingIOError(f"{path} is locked")
        return lock

    @classmethod
    def _open(cls, path: Path, operation: int) -> FileLock | None:
        with quiet:  # a child inherits none that is not known
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            lock = cls(descriptor)
            _locks.add(lock)
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            lock.release()
            return None
        except BaseException:
            lock.release()
            raise
        return lock

    def release(self) -> None:
        """Let others have it. Does nothing the second time."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    # After a fork both processes hold the same lock, and it is free only when both have closed it:
    # a child that closes its copy neither keeps the lock alive nor takes it from its parent.
    abandon = release

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Turns:
    """Turns that processes take at a file, each for microseconds. The system ends a turn when its
    holder ends, however it ends. For one thread of a process at a time. Raises OSError when made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, timeout: float) -> bool:
        """Take a turn, waiting for it at most `timeout` seconds; whether it is ours."""
        deadline = None
        wait = _TURN_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                now = time.monotonic()
                deadline = now + timeout if deadline is None else deadline
                if now >= deadline:
                    return False
                time.sleep(wait)
                wait = min(2 * wait, _TURN_LONGEST_S)
            else:
                return True

    def give(self) -> None:
        """End the turn: also that of a child that was forked meanwhile."""
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; in a forked child this ends no turn of the parent's."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def boot_id() -> bytes:
    """16 bytes that name this boot of the machine; zeros where the system does not say."""
    try:
        named = bytes.fromhex(_BOOT_ID.read_text(encoding="ascii").replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
    return named if len(named) == 16 else bytes(16)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: what was renamed there stays renamed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restrain(memory_bytes: int, cpu_s: int) -> None:
    """Let this process take at most so much memory beyond what it has, and so much time of the
    processor from now on; what goes beyond fails, or ends the process. It gives way to others."""
    with contextlib.suppress(OSError):
        os.nice(_GIVE_WAY)
    with contextlib.suppress(OSError):  # not every system says how much there is
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + cpu_s)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(which: int, limit: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(which, (limit, limit))


class Resting(Protocol):
    """What has files open in SQLite."""

    def rest(self) -> None:
        """Close them, where nothing is at work; who needs one opens it again."""


class Quiet:
    """Lets work be going on in any number of threads, and a fork wait until none is.

    A child has a copy of every lock as it was; one that another thread of the parent held at that
    moment is never released there. So nothing that locks inside itself (SQLite does) may be at
    work while the process forks. And nothing may be open: what SQLite knows of a file's locks is
    copied, too, and the locks are not. A child that opened the file again would believe that it
    holds them, and go on in a log that somebody else deletes.
    """

    def __init__(self) -> None:
        self._resting = Living[Resting]()
        #: Whether this is a child of a process that forked while something was open.
        self.unfit = False
        self._mine = threading.local()
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._working = min(1, self._depth())
        self._paused = self._still = False

    def _depth(self) -> int:
        return getattr(self._mine, "depth", 0)

    def __enter__(self) -> None:
        depth = getattr(self._mine, "depth", 0)
        if depth == 0:
            with self._changed:
                while self._paused:
                    self._changed.wait()
                self._working += 1
        self._mine.depth = depth + 1

    def __exit__(self, *exc: object) -> None:
        self._mine.depth -= 1
        if self._mine.depth == 0:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def lets_rest(self, who: Resting) -> None:
        """Have `who` rest in every pause for as long as it lives."""
        with self._changed:
            self._resting.add(who)

    def pause(self, timeout: float) -> None:
        """Let no work begin, wait until none is going on, at most `timeout` seconds, and let
        everybody rest. This thread's own work (of which a signal may have called it) cannot end
        meanwhile, and is not waited for."""
        own = min(1, self._depth())
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: self._working <= own, timeout)
        for who in self._resting:
            who.rest()
        self._still = not self._working  # not reached where an exception comes between

    def resume(self) -> None:
        """Let work begin again."""
        with self._changed:
            self._paused = self._still = False
            self._changed.notify_all()

    def begin_anew(self) -> None:
        """In a forked child: without the threads of the parent, one of which may hold the lock.
        Where nobody paused (a host that forks without Python's knowing), all may be open."""
        unrested = not self._still and any(True for _ in self._resting)
        self.unfit = self.unfit or self._working > 0 or unrested
        self._begin()


#: Around everything that touches SQLite in this process.
quiet = Quiet()
_locks = Living[FileLock]()


@contextlib.contextmanager
def quiet_grpc() -> Iterator[None]:
    """Around the first use of gRPC, when it reads from the environment how much it should print:
    errors only, unless somebody has said otherwise.

    Else it prints a line at each fork. Its handlers of forks stay as they are by default: a child
    makes channels of its own, and that works; with GRPC_ENABLE_FORK_SUPPORT set it hangs now and
    then, or ends in an assertion.
    """
    if _GRPC_PRINTS in os.environ:
        yield
        return
    os.environ[_GRPC_PRINTS] = "ERROR"
    try:
        yield
    finally:
        os.environ.pop(_GRPC_PRINTS, None)


def at_child_exit(call: Callable[[], object]) -> None:
    """Have `call` made when this forked child ends, also where it is one of `multiprocessing`,
    whose children run no handlers of `atexit` but its own."""
    module = sys.modules.get("multiprocessing.util")
    if module is not None:
        module.Finalize(None, call, exitpriority=0)


class Forks(Protocol):
    """What has to be told about forks."""

    def before_fork(self) -> None:
        """Come to rest: hold what no child must inherit half done."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Give up what belongs to the parent, and start anew."""


_told = Living[Forks]()
_registered = False


def tell_about_forks(who: Forks) -> None:
    """Call `who` around every fork of this process for as long as it lives."""
    global _registered
    if not _registered:
        _registered = True
        os.register_at_fork(
            before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )
    _told.add(who)


# A fork waits this long for work to end, and then takes place in any case.
_PAUSE_S = 10.0
# Held while one thread forks: the end of one fork must not let work begin under another.
_forking = threading.RLock()


# A handler that raises would be printed and ignored by the interpreter; one client's trouble must
# not keep the next one from being told.
def _before() -> None:
    _forking.acquire()
    for who in _told:
        with contextlib.suppress(Exception):
            who.before_fork()
    quiet.pause(_PAUSE_S)  # last: what the others wait for may need SQLite


def _after_in_parent() -> None:
    quiet.resume()
    for who in _told:
        with contextlib.suppress(Exception):
            who.after_fork_in_parent()
    _forking.release()


def _after_in_child() -> None:
    global _forking
    _forking = threading.RLock()
    quiet.begin_anew()
    # Those of a thread that is not there, too: it would hold them for as long as the child lives.
    for lock in _locks:
        lock.abandon()
    for who in _told:
        with contextlib.suppress(Exception):
            who.after_fork_in_child()
