"""A clock, a network and a disk that do what a test says, the same from the same seed."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from edge_sdk.errors import DiskFull, UnreachableError
from edge_sdk.store.database import Database

Request = TypeVar("Request")
Response = TypeVar("Response")


class SimulatedClock:
    """Wall time that stands still until it is moved; also a `clock` for FakeEdge."""

    def __init__(self, start_ms: int = 1_750_000_000_000) -> None:
        self.ms = start_ms

    def __call__(self) -> datetime:
        """The moment, in UTC."""
        return datetime.fromtimestamp(self.ms / 1000, UTC)

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self.ms

    def move(self, *, hours: float = 0, seconds: float = 0) -> None:
        """Go on, or back."""
        self.ms += round((hours * 3600 + seconds) * 1000)


class SimulatedNetwork:
    """A line between a device and a server. Rates are from 0 to 1; all can be changed at any time.

    `drop` loses messages (and calls: half of them the request, half the answer), `repeat` brings
    one twice, `reorder` lets one be overtaken by up to so many others, `cut_at` ends a stream
    before the message in which byte n lies, and `delay_s` passes before each message. A stream of
    gRPC does none of the first three by itself; what is between may.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        drop: float = 0.0,
        repeat: float = 0.0,
        reorder: int = 0,
        cut_at: int | None = None,
        delay_s: float = 0.0,
        wait: Callable[[float], object] = lambda _: None,
    ) -> None:
        """`wait` passes the time of a delay: `time.sleep`, or a SimulatedClock's."""
        self.random = random.Random(f"{seed}:network")
        self.drop = drop
        self.repeat = repeat
        self.reorder = reorder
        self.cut_at = cut_at
        self.delay_s = delay_s
        self.wait = wait
        self._late: list[tuple[int, Callable[[], object]]] = []

    def carry(self, messages: Iterable[Any]) -> Iterator[Any]:
        """What arrives of a stream of messages. Raises UnreachableError where it is cut."""
        held: list[tuple[int, Any]] = []
        carried = 0
        for message in messages:
            carried += message.ByteSize()
            if self.cut_at is not None and carried > self.cut_at:
                raise UnreachableError(f"the line was cut at byte {self.cut_at}")
            copies = (self._happens(self.repeat) + 1) * (not self._happens(self.drop))
            held += [(self.random.randint(0, self.reorder), message)] * copies
            for _, due in (one for one in held if one[0] <= 0):
                self.wait(self.delay_s)
                yield due
            held = [(left - 1, late) for left, late in held if left > 0]
        for _, late in held:
            yield late

    def call(self, serve: Callable[[Request], Response], request: Request) -> Response:
        """One call. A repeated request arrives again during a later call, at most `reorder` on.

        Raises UnreachableError where request or answer is lost.
        """
        self.wait(self.delay_s)
        due = [again for left, again in self._late if left <= 0]
        self._late = [(left - 1, again) for left, again in self._late if left > 0]
        for again in due:
            with contextlib.suppress(Exception):  # nobody waits for this answer any more
                again()
        lost = self._happens(self.drop)
        if lost and self.random.random() < 0.5:
            raise UnreachableError("the request was lost")
        if self._happens(self.repeat):
            self._late.append((self.random.randint(0, self.reorder), lambda: serve(request)))
        answer = serve(request)
        if lost:
            raise UnreachableError("the answer was lost")
        return answer

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate


class SimulatedDisk:
    """The directory of a store, whose writes fail or are lost; close the store before `lose`."""

    def __init__(self, path: Path | str, seed: int = 0) -> None:
        self.path = Path(path)
        self.random = random.Random(f"{seed}:disk")
        self._kept = self.path.with_name(f".{self.path.name}.kept")

    def keep(self) -> None:
        """Remember the disk as it is now."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.path, self._kept)

    def lose(self) -> None:
        """Undo everything written since `keep`: an old backup, or writes that never arrived."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self._kept, self.path)

    def files(self) -> list[Path]:
        """Every file that holds something, in order."""
        return sorted(p for p in self.path.rglob("*") if p.is_file() and p.stat().st_size)

    def flip(self, name: str = "") -> tuple[Path, int]:
        """Flip one bit of a file whose path contains `name`; which one, and at what byte."""
        path = self.random.choice([one for one in self.files() if name in str(one)])
        content = bytearray(path.read_bytes())
        at = self.random.randrange(len(content))
        content[at] ^= 1 << self.random.randrange(8)
        path.write_bytes(content)
        return path, at

    def cut(self, name: str = "") -> tuple[Path, int]:
        """Cut a file whose path contains `name` short; which one, and at what byte."""
        path = self.random.choice([one for one in self.files() if name in str(one)])
        at = self.random.randrange(path.stat().st_size)
        os.truncate(path, at)
        return path, at

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """While this is open, this process can write nothing there: no space is left."""
        no_space = os.strerror(errno.ENOSPC)
        real_os_open, real_path_open, real_write = os.open, Path.open, Database.write

        def os_open(path: Any, flags: int, *args: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR) and self._is_here(path):
                raise OSError(errno.ENOSPC, no_space, str(path))
            return real_os_open(path, flags, *args, **more)

        def path_open(path: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
            if set(mode) & set("wax+") and self._is_here(path):
                raise OSError(errno.ENOSPC, no_space, str(path))
            return real_path_open(path, mode, *args, **more)

        def write(database: Database) -> Any:
            if self._is_here(database.path):
                raise DiskFull(f"no room is left for {database.path}: {no_space}")
            return real_write(database)

        with (
            mock.patch.object(os, "open", os_open),
            mock.patch.object(Path, "open", path_open),
            mock.patch.object(Database, "write", write),
        ):
            yield

    def _is_here(self, path: object) -> bool:
        return str(path).startswith(f"{self.path}{os.sep}")
