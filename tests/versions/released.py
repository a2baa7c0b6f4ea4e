"""Run a released version beside this one.

`tests/versions/<version>/` holds its two wheels, and what it left behind: a device's store
(store.zip), what that had to report (report.json), a server's home (home.zip) and a bundle. A
wheel here is plain Python, so it is unpacked in front of what is installed; the packages that it
needs are the environment's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_DEVICE = "import sys; from edge_sdk.cli import main; sys.exit(main())"
_SERVER = "import sys; from genome_server.cli import main; sys.exit(main())"
VERSIONS = tuple(sorted(path.name for path in HERE.iterdir() if (path / "home.zip").is_file()))


@dataclass(frozen=True)
class Released:
    """One version, unpacked in a folder; None as `packages`: the version under test."""

    packages: Path | None

    def environment(self, home: Path | None = None) -> dict[str, str]:
        """The environment in which Python imports this version."""
        environment = dict(os.environ)
        environment.pop("PYTHONPATH", None)
        if self.packages is not None:
            environment["PYTHONPATH"] = str(self.packages)
        if home is not None:
            environment["GENOME_EDGE_HOME"] = str(home)
        return environment

    def run(self, code: str, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        """Run Python code with arguments; what it printed."""
        return self._run("-c", code, *arguments, codes=codes, home=None)

    def device(self, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        """Run `genome-edge`."""
        return self._run("-c", _DEVICE, *arguments, codes=codes, home=None)

    def server(self, home: Path, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        """Run `genome-server` on a home."""
        return self._run("-c", _SERVER, *arguments, codes=codes, home=home)

    def _run(self, *arguments: str | Path, codes: tuple[int, ...], home: Path | None) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=self.environment(home),
            cwd=home.parent if home is not None else HERE,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode in codes, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def serving(self, home: Path) -> Iterator[str]:
        """A server of this version on a home; where it listens."""
        port_file = home.parent / f"port-{time.monotonic_ns()}"
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _SERVER, "serve"),
                *("--listen", "127.0.0.1:0", "--port-file", str(port_file)),
            ],
            env=self.environment(home),
            cwd=home.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while not (port_file.is_file() and port_file.read_text().strip()):
                assert process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server did not start in time"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port_file.read_text().strip()}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def unpack(version: str, folder: Path) -> Released:
    """Unpack the wheels of a version into an empty folder."""
    for wheel in (HERE / version).glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return Released(folder)


def unzip(version: str, name: str, folder: Path) -> Path:
    """Unpack what a version left behind: "store" or "home"."""
    with zipfile.ZipFile(HERE / version / f"{name}.zip") as archive:
        archive.extractall(folder / name)
    for path in (folder / name).rglob("*.pem"):
        path.chmod(0o600)
    return folder / name
