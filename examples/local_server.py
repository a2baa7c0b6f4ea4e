"""A real Genome Edge server in a folder, for examples: prepared, started, killed, started again.

Everything goes through the command line `genome-server` that anybody would use, with
what it prints kept in `commands.log` and `server.log` of the folder. The server
listens on the loopback only.

    python -m examples.local_server DIR      prepares the synthetic town in DIR once;
                                             examples then start faster with --prepared DIR
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edge_sdk import EdgeError
from examples.scenes import Files, Scene, small_town

_T = TypeVar("_T")
AUDIENCE = "app"
COUNTS = ("rows", "accepted", "rejected", "new")
_PATIENCE_S = 60.0


class StepFailedError(RuntimeError):
    """An example cannot go on; the text says what happened and what to do."""


def until(
    condition: Callable[[], _T | None], what: str, *, hint: str = "", timeout: float = _PATIENCE_S
) -> _T:
    """The first true answer of `condition`. Raises `StepFailedError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise StepFailedError(f"{what}: not within {timeout:.0f} s. {hint}".strip())
        time.sleep(0.02)
    return answer


def expect(truth: object, what: str, hint: str = "") -> None:
    """Raise `StepFailedError` unless `truth` holds."""
    if not truth:
        raise StepFailedError(f"{what}. {hint}".strip())


class LocalServer:
    """One server home in `folder`, and the process that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.home = self.folder / "home"
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """Where devices find it, once started; the same after every restart."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def run(self, *arguments: str | Path, program: str = "genome-server") -> Any:
        """Run a command with `--json` on this home; the parsed answer.

        Raises `StepFailedError` with the command's own words where it did not end well.
        """
        command = [_program(program), *map(str, arguments), "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self._environment()
        )
        with (self.folder / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"$ {program} {' '.join(command[1:])}\n{done.stdout}{done.stderr}\n")
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            answer = None
        if done.returncode != 0 or answer is None:
            said = (done.stderr or done.stdout).strip().splitlines()[-5:]
            raise StepFailedError(
                f"`{program} {' '.join(command[1:])}` ended with {done.returncode}:\n  "
                + "\n  ".join(said)
                + f"\nThe whole output is in {self.folder / 'commands.log'}"
            )
        return answer

    def load(self, files: Files) -> dict[str, dict[str, int]]:
        """Import files; what became of their rows, by kind: rows, accepted, rejected, new."""
        tally: dict[str, dict[str, int]] = {}
        for kind, file in files:
            answer = self.run("import", kind, file)
            taken = answer["new"] + answer["changed"]
            counts = tally.setdefault(kind, dict.fromkeys(COUNTS, 0))
            counts["rows"] += answer["rows_in"]
            counts["accepted"] += taken + answer["unchanged"]
            counts["rejected"] += answer["rejected"]
            counts["new"] += taken
        return tally

    def prepare(self, scene: Scene) -> None:
        """From nothing to a published release of this scene, in the shortest way."""
        self.run("init")
        self.load(scene.files)
        self.add_audience()
        self.run("build")
        self.run("train", "--quick")
        self.run("publish")

    def add_audience(self) -> None:
        """The audience `app`: everybody's genomes, found by the app's own customer ids."""
        self.run("audiences", "add", AUDIENCE, "--all", "--lookup")

    def start(self) -> str:
        """Start the server, on the port that it had before; its address."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        listen = f"127.0.0.1:{self.port}"
        command = [_program("genome-server"), "serve", "--listen", listen]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port-file", str(port_file)],
                stdout=log, stderr=log, env=self._environment(),
            )  # fmt: skip

        def listening() -> bool:
            expect(self.running, "the server ended by itself", f"See the end of {self.log}")
            return port_file.is_file() and port_file.read_text().strip() != ""

        until(listening, "the server starts", hint=f"See the end of {self.log}")
        self.port = int(port_file.read_text())
        return self.address

    def kill(self) -> None:
        """SIGKILL: no goodbye, no chance to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def enrol(self, name: str, audience: str = AUDIENCE) -> Path:
        """Enrol a device with a one-time code and a key made in its own folder; that folder."""
        code = self.run("devices", "enrol", "--audience", audience, "--name", name)["code"]
        store = self.folder / "devices" / name
        self.run(
            "enrol", "--server", self.address, "--code", code, "--store", store,
            program="genome-edge",
        )  # fmt: skip
        return store

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "GENOME_EDGE_HOME": str(self.home), "GRPC_VERBOSITY": "NONE"}


def _program(name: str) -> str:
    """The command as installed beside this interpreter."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise StepFailedError(f"{name} is not installed here. Run: make setup")
    return found


def parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that examples share."""
    made = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--keep", type=Path, metavar="DIR", help="leave all files in DIR")
    made.add_argument(
        "--prepared", type=Path, metavar="DIR", help="a home from `python -m examples.local_server`"
    )
    return made


Story = Callable[[LocalServer, Scene, argparse.Namespace], None]


def play(story: Story, options: Any, scene: Callable[[Path], Scene] = small_town) -> int:
    """Tell a story with a prepared, running server; exit 0, or 1 with what went wrong.

    Logs go to `example.log` of the folder, which is deleted unless `--keep` names it.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="genome-edge-"))
    server = LocalServer(folder)
    logging.basicConfig(filename=server.folder / "example.log", level=logging.INFO, force=True)
    try:
        stage = scene(server.folder)
        if options.prepared:
            shutil.copytree(options.prepared / "home", server.home)
        else:
            print(f"Preparing {stage.name} (about a minute) ...", flush=True)
            server.prepare(stage)
        server.start()
        story(server, stage, options)
    except (StepFailedError, EdgeError) as error:
        print(f"\nThis did not work: {error}", file=sys.stderr)
        return 1
    finally:
        server.kill()
        logging.shutdown()
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the town in a folder: exit 0, or 1 with what went wrong."""
    made = argparse.ArgumentParser(
        prog="python -m examples.local_server",
        description="Prepare the synthetic town in DIR: import, build, train, publish.",
    )
    made.add_argument("folder", type=Path, metavar="DIR")
    folder = made.parse_args(argv).folder
    try:
        server = LocalServer(folder)
        server.prepare(small_town(server.folder))
    except StepFailedError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"prepared in {server.home}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
