"""The disk is full at any moment: who must know is told, decisions go on, it heals by itself.

In each round a device works on a small file system, of which something else takes all but a few
bytes of chance; and for what needs more room than there is, it does not matter in which of its
writes the room ends. What was acknowledged is there, once; what could not be kept is a DiskFull and
nothing else; decisions go on; and when there is room again, everything works with nobody's help.
Where no file system may be mounted, a limit on the size of files stands in for it.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from edge_sdk import Decision, DiskFull, EdgeClient, EdgeError
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from genome_server.log import Committer
from tests.drills.findings import Findings
from tests.drills.reporters import Arrived, drain, to_log
from tests.drills.stores import MOMENT, PLACEMENT, QUICK, client, look, put_genomes, subject

SHORT: Final = 12
LONG: Final = 300
UNIT: Final = "points"

_DISK_BYTES: Final = 24 << 20
_MOST_LEFT: Final = 160_000
# What keeps the store current looks at it again by itself, some time after there was room.
_FORGOTTEN_S: Final = 5.0


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Fill the disk once in each round, look, and make room again."""
    found, seen = Findings(), collections.Counter[str]()
    logging.getLogger("edge_sdk").addHandler(logging.NullHandler())  # it says so at each point
    client(folder / "template").close()
    with small_disk(folder / "disk") as fills, Committer(folder / "log.sqlite") as log:
        found.note("a file system of its own" if fills is full_disk else "a limit on file sizes")
        with contextlib.closing(Arrived(folder / "log.sqlite")) as arrived:
            for number in range(first, first + rounds):
                rng = random.Random(f"{seed}:{number}")
                place = folder / "disk" / f"{number}"
                shutil.copytree(folder / "template", place / "store")
                round_ = Round(place / "store", f"{number}", rng, seen)
                round_.play(fills)
                round_.send(to_log(log, f"device-{number}"), arrived)
                for problem in round_.problems:
                    found.fail(number, problem)
                shutil.rmtree(place)
                found.tried += 1
                progress(number - first + 1)
    if seen["rounds that met the end"] * 10 < found.tried * 9:
        found.fail(first, "the disk was hardly ever full")
    found.note(", ".join(f"{n} {what}" for what, n in sorted(seen.items())))
    return found


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Callable[..., Any]]:
    """A small file system at `path`, and what fills it."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(path)]
    if (
        shutil.which("mount") is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        yield limited_files
        return
    try:
        yield full_disk
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def full_disk(store: Path, left: int) -> Iterator[None]:
    """All but so many bytes are taken."""
    ballast = store.parent / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65_536))
    size = max(0, ballast.stat().st_size - left)
    with ballast.open("r+b") as file:
        file.truncate(size)
    yield
    ballast.unlink()


@contextlib.contextmanager
def limited_files(store: Path, left: int) -> Iterator[None]:
    """No file of this process grows by more than so many bytes beyond the store's largest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = [file.stat().st_size for file in store.rglob("*.sqlite*")]
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Round:
    """One device on a disk that is full for a while."""

    def __init__(
        self, store: Path, name: str, rng: random.Random, seen: collections.Counter[str]
    ) -> None:
        self._store, self._name, self._rng, self._seen = store, name, rng, seen
        self._said: list[str] = []
        self._decided: list[str] = []
        self._tried: set[str] = set()
        self.problems: list[str] = []

    def play(self, fills: Callable[[Path, int], contextlib.AbstractContextManager[None]]) -> None:
        """Work, run out of room, and have room again."""
        with EdgeClient(self._store, config=QUICK) as edge:
            if not edge.wait_ready(10):
                self.problems.append(f"not ready: {edge.status}")
                return
            for _ in range(self._rng.randint(0, 3)):
                self._work(edge, None)
            with fills(self._store, self._rng.randrange(_MOST_LEFT)):
                deadline = time.monotonic() + 0.6
                refused = self._seen["DiskFull"]
                while self._seen["DiskFull"] < refused + 4 and time.monotonic() < deadline:
                    self._work(edge, DiskFull)
                self._seen["rounds that met the end"] += self._seen["DiskFull"] > refused
            if not self._settles(edge):
                self.problems.append(f"it does not heal: {edge.status}")
            for _ in range(3):
                self._work(edge, None)
            deadline = time.monotonic() + _FORGOTTEN_S
            while edge.status.cause is not None and time.monotonic() < deadline:
                time.sleep(0.01)
            if edge.status.cause is not None:
                self.problems.append(f"something stays: {edge.status.cause}")

    def _settles(self, edge: EdgeClient) -> bool:
        """Whether the writer overcomes its trouble by itself."""
        open_ = edge._keeper.open
        return open_ is not None and open_.writer.flush(15)

    def _work(self, edge: EdgeClient, allowed: type[EdgeError] | None) -> None:
        """Do one of the things that a device does."""
        decision = edge.decide(MOMENT, PLACEMENT)
        if decision.offer is None:
            self.problems.append(f"no decision: {decision.reason}")
            return
        number = len(self._tried)
        what = self._rng.choice(
            ("redeem", "report", "decide", "consent", "imprint", "genomes", "part")
        )
        self._tried.add(f"{what}-{number}")
        try:
            self._do(edge, what, number, decision)
        except DiskFull:
            self._seen["DiskFull"] += 1
            self._seen[f"DiskFull: {what}"] += 1
            if allowed is None:
                self.problems.append(f"{what}: full, though there is room")
        except Exception as error:
            self.problems.append(f"{what}: {error!r}")
        else:
            self._seen["done"] += 1

    def _do(self, edge: EdgeClient, what: str, number: int, decision: Decision) -> None:
        name = f"{self._name}-{number}"
        if what == "redeem":
            if edge.redeem(decision):
                self._said.append(f"redeem:{decision.id}:0")
        elif what == "report":
            self._said.append(edge.report(decision, "click", event_id=name, durable=True))
        elif what == "decide":
            self._decided.append(edge.decide(MOMENT, PLACEMENT, durable=True).id)
        elif what == "consent":
            edge.set_consent(subject(number % 5).hex(), "personalisation", True)
        elif what == "imprint":
            edge.imprint(None, "view", dna=["brand:acme"], interaction_id=name)
            self._said.append(name)
        else:
            store = DeviceStore.open(self._store)
            try:
                if what == "genomes":
                    full = store.genome_lineage() is None or self._rng.random() < 0.5
                    put_genomes(store, number, full=full)
                else:
                    data = self._rng.randbytes(self._rng.randrange(100_000))
                    store.stage_part(hashlib.sha256(data).digest(), data)
            finally:
                store.close()

    def send(self, send: Any, arrived: Arrived) -> None:
        """Report everything, and compare with what was said."""
        there = look(self._store).events
        self.problems += [f"decision {id_} is lost" for id_ in self._decided if id_ not in there]
        store = DeviceStore.open(self._store)
        if store.incident is not None:
            self.problems.append(f"the store was rebuilt: {store.incident}")
        refused = drain(Outbox(store, QUICK), send)
        store.close()
        names = arrived.look()
        if gone := names.pop("given up", 0):
            self.problems.append(f"{gone} events were given up")
        self.problems += [f"refused: {reason}" for reason in refused]
        self.problems += [f"{name} is lost" for name in self._said if not names[name]]
        self.problems += [f"{name} is there {n} times" for name, n in names.items() if n > 1]
        self._seen["events"] += names.total()
