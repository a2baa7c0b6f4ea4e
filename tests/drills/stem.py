"""Servers that are started and killed again and again: forked off a process that has imported them.

That process, the stem, has opened nothing; `python -m tests.drills.stem HOME PORT` is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

from genome_server.home import Home

PATIENCE_S: Final = 30.0


class Servers:
    """Starts and kills servers of one home, one at a time, on one port."""

    def __init__(self, home: Home) -> None:
        self.done: Counter[str] = Counter()
        with closing(socket.create_server(("127.0.0.1", 0))) as door:
            self.port = door.getsockname()[1]
        self._home = home
        self._pid = 0
        self._command: subprocess.Popen[bytes] | None = None
        self._stem = subprocess.Popen(
            [sys.executable, "-m", "tests.drills.stem", str(home.root), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._expect("stem")

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        assert self._stem.stdin is not None
        self._stem.stdin.close()
        self._stem.wait(PATIENCE_S)
        assert self._stem.stdout is not None
        self._stem.stdout.close()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def start(self, *, command: bool = False, wait: bool = True) -> None:
        """Start a server; with `wait` it listens afterwards."""
        if command:
            arguments = ["serve", "--home", str(self._home.root), "--listen", self.address]
            self._command = subprocess.Popen(
                [str(Path(sys.executable).parent / "genome-server"), *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if wait:
                self._answers()
        else:
            assert self._stem.stdin is not None
            self._stem.stdin.write("start\n")
            self._stem.stdin.flush()
            self._pid = int(self._expect("pid"))
            if wait:
                self._expect(f"ready {self._pid}")
        kind = "the command" if command else "forked"
        self.done[f"killed servers: {kind}{'' if wait else ', while starting'}"] += 1

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._command is not None:
            self._command.kill()
            self._command.wait(PATIENCE_S)
            self._command = None
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._expect(f"gone {self._pid}")
            self._pid = 0

    def _answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.01)
        raise AssertionError("the server does not listen")

    def _expect(self, begin: str) -> str:
        """The rest of the next line that begins so."""
        assert self._stem.stdout is not None
        while line := self._stem.stdout.readline():
            if line.startswith(begin):
                return line[len(begin) :].strip()
        raise AssertionError(f"the stem process ended before it said {begin!r}")


async def _serve(home: Home, port: int) -> None:
    from genome_server.services.serve import House

    house = House(home, f"127.0.0.1:{port}", None)
    await house.start()
    os.write(1, f"ready {os.getpid()}\n".encode())
    await asyncio.Event().wait()


def _stem(home: Home, port: int) -> None:
    """Fork a server for each line that comes in; it has what this process has imported."""
    import genome_server.services.serve
    import genome_server.store.sqlite  # noqa: F401

    os.write(1, b"stem\n")
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.close(0)
            asyncio.run(_serve(home, port))
            os._exit(0)
        os.write(1, f"pid {pid}\n".encode())
        os.waitpid(pid, 0)
        os.write(1, f"gone {pid}\n".encode())


if __name__ == "__main__":
    _stem(Home(Path(sys.argv[1])), int(sys.argv[2]))
