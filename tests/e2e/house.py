"""A real house in a temporary folder: server processes, devices, and a line that listens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


def until(condition: Callable[[], Any], timeout: float = 20.0, what: str = "") -> Any:
    """The first true answer of `condition`; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.02)


def run(
    *command: str | Path, codes: tuple[int, ...] = (0,), errors_too: bool = False, **options: Any
) -> str:
    """Run one of our commands; its standard output. Fails unless the exit code is expected."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(BIN / command[0]), *map(str, command[1:])],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        **options,
    )
    assert done.returncode in codes, (
        f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout + (done.stderr if errors_too else "")


@dataclass
class House:
    """One server home and the devices around it."""

    root: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        """Lay out the folder."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.log = self.root / "server.log"

    @property
    def home(self) -> Path:
        """The server's home."""
        return self.root / "home"

    def environment(self) -> dict[str, str]:
        """The environment of a command that works on this home."""
        return {**os.environ, "GENOME_EDGE_HOME": str(self.home)}

    def server(self, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        """Run `genome-server` on this home."""
        return run("genome-server", *arguments, codes=codes, env=self.environment())

    def both(self, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        """Run `genome-server` on this home; all that a person would see."""
        return run(
            "genome-server", *arguments, codes=codes, env=self.environment(), errors_too=True
        )

    def server_json(self, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> Any:
        """Run `genome-server … --json` on this home; the parsed answer."""
        return json.loads(self.server(*arguments, "--json", codes=codes))

    def start(self) -> str:
        """Start the server (on the port it had, if it ran before); its address."""
        port_file = self.root / "port"
        port_file.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    str(BIN / "genome-server"),
                    "serve",
                    "--listen",
                    f"127.0.0.1:{self.port}",
                    "--port-file",
                    str(port_file),
                ],
                env=self.environment(),
                stdout=log,
                stderr=log,
                text=True,
            )
        until(
            lambda: port_file.exists() and port_file.read_text().strip(),
            what=f"server up, see {self.log}",
        )
        self.port = int(port_file.read_text())
        return self.address

    @property
    def address(self) -> str:
        """Where the server listens."""
        return f"127.0.0.1:{self.port}"

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End the server process, by default without a word."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=20)
            self.process = None

    def enrol(self, name: str, audience: str = "app", server: str | None = None) -> Path:
        """Enrol a device; its store."""
        code = self.server_json("devices", "enrol", "--audience", audience, "--name", name)["code"]
        store = self.root / name
        run(
            "genome-edge",
            "enrol",
            "--server",
            server or self.address,
            "--code",
            code,
            "--store",
            store,
        )
        return store

    def tenant_files(self) -> list[Path]:
        """Every file that the house holds, devices included."""
        return [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]


@contextlib.contextmanager
def listening_line(target: int) -> Iterator[tuple[int, bytearray]]:
    """A TCP proxy to a local port that remembers every byte in both directions."""
    heard = bytearray()
    door = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    ends: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                heard.extend(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        while not stop.is_set():
            try:
                near, _ = door.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", target))
            ends.extend((near, far))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield door.getsockname()[1], heard
    finally:
        stop.set()
        for end in [door, *ends]:
            end.close()
