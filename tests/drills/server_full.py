"""The disk of the server is full at any moment: it says so, keeps what it took, heals by itself.

In each round a server works on a small file system, as in `disk_full`; devices report all the
while, and one syncs and one enrols. Whoever cannot be served is told NO_ROOM and nothing else. When
there is room again, the same bytes go in with nobody's help, the genomes catch up, and everything
that was acknowledged is in the log, once and as it was sent.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import grpc

from edge_sdk.sync.trust import FEATURES
from genome_server.home import Home, Tenant
from genome_server.log import LogReader, verify_log
from tests.drills.disk_full import small_disk
from tests.drills.findings import Findings
from tests.serving import (
    RawDevice,
    add_code,
    frames,
    info,
    interaction,
    make_home,
    publish_release,
    serving,
    until,
)

SHORT: Final = 4
LONG: Final = 100
UNIT: Final = "points"

_MOST_LEFT: Final = 200_000
_DEVICES: Final = 3
_FULL_S: Final = 4.0
_HEALS_S: Final = 20.0


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Fill the disk once in each round, look, and make room again."""
    found, seen = Findings(), collections.Counter[str]()
    publish_release(make_home(folder / "template").tenant("default"))
    with small_disk(folder / "disk") as fills, _quiet():
        for number in range(first, first + rounds):
            rng = random.Random(f"{seed}:{number}")
            place = folder / "disk" / f"{number}"
            shutil.copytree(folder / "template", place / "home")
            round_ = Round(Home(place / "home"), rng, seen)
            with contextlib.suppress(_Enough):
                round_.play(lambda left, at=place / "home": fills(at, left))  # type: ignore[misc]
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
def _quiet() -> Iterator[None]:
    """The server says so at each call; here it is counted."""
    logger = logging.getLogger("genome_server")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Enough(Exception):
    """Nothing more can be tried in this round."""


class Reporter:
    """A device that reports, the same bytes again until they are taken."""

    def __init__(self, channel: grpc.Channel, tenant: Tenant, subject: bytes, rng: random.Random):
        self.raw = RawDevice(channel)
        self.raw.enrol(add_code(tenant))
        self._subject, self._rng = subject, rng
        #: What was acknowledged, and what is to be sent next.
        self.taken = b""
        self.through = 0
        self._batch = b""
        self._events = 0

    def report(self) -> None:
        """One batch. Raises grpc.RpcError."""
        if not self._batch:
            first, self._events = self.through + 1, self._rng.randrange(1, 120)
            names = (f"{self.raw.id}-{first + i}" for i in range(self._events))
            events = [interaction(self._subject, "view", "soap", name) for name in names]
            self._batch = frames(first, *events)
        last = self.through + self._events
        answer = self.raw.report(self.through + 1, self._batch, last)
        assert answer.received_through == last, answer
        self.taken, self.through, self._batch = self.taken + self._batch, last, b""


class Round:
    """One server on a disk that is full for a while."""

    def __init__(self, home: Home, rng: random.Random, seen: collections.Counter[str]) -> None:
        self._tenant = home.tenant("default")
        self._home, self._rng, self._seen = home, rng, seen
        self._lock = threading.Lock()
        self.problems: list[str] = []

    def play(self, fills: Callable[[int], contextlib.AbstractContextManager[None]]) -> None:
        """Serve, run out of room, and have room again."""
        with closing(self._tenant.open_store()) as store:
            subject = store.subject_of("app", "ann")
        assert subject is not None
        with (
            serving(self._home) as house,
            grpc.insecure_channel(f"127.0.0.1:{house.port}") as channel,
        ):
            devices = [
                Reporter(channel, self._tenant, subject, random.Random(self._rng.random()))
                for _ in range(_DEVICES)
            ]
            code, late = add_code(self._tenant), RawDevice(channel)
            for device in devices:
                device.report()
            with fills(self._rng.randrange(_MOST_LEFT)):
                refused = self._all_report(devices)
                self._seen["rounds that met the end"] += refused > 0
                self._attempt("sync", lambda: self._sync(devices[0].raw))
                self._attempt("enrol", lambda: late.enrol(code))
            self._heals("enrol", lambda: late.enrol(code))
            for device in devices:
                self._heals("report", device.report)
                self._heals("report", device.report)
            self._heals("sync", lambda: self._sync(devices[0].raw))
            self._catches_up(devices)
        self._compare(devices)

    def _all_report(self, devices: list[Reporter]) -> int:
        """All at once, until each was refused a few times; how often they were."""
        refused = [0] * len(devices)

        def work(at: int) -> None:
            deadline = time.monotonic() + _FULL_S
            while refused[at] < 3 and time.monotonic() < deadline:
                refused[at] += not self._attempt("report", devices[at].report)

        threads = [threading.Thread(target=work, args=(at,)) for at in range(len(devices))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(refused)

    def _sync(self, device: RawDevice) -> None:
        """A release and rows come. Raises grpc.RpcError."""
        stream = device.sync(wants_genomes=True, features=FEATURES)
        try:
            stream.transaction()
            stream.transaction()
        finally:
            stream.close()

    def _attempt(self, what: str, act: Callable[[], Any]) -> bool:
        """Do something on a full disk; whether it was done."""
        try:
            act()
        except grpc.RpcError as error:
            said = self._reason(error)
            with self._lock:
                self._seen[f"{what}: {said}"] += 1
                if said != "NO_ROOM":
                    self.problems.append(f"{what}: refused with {said} on a full disk")
            return False
        with self._lock:
            self._seen[f"{what}: done"] += 1
        return True

    def _reason(self, error: grpc.RpcError) -> str:
        try:
            return info(error).reason
        except AssertionError:
            return f"{error.code()} without a reason"

    def _heals(self, what: str, act: Callable[[], Any]) -> None:
        """There is room again: it is done, soon. Raises _Enough."""
        deadline = time.monotonic() + _HEALS_S
        while True:
            try:
                act()
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    self.problems.append(f"{what}: {self._reason(error)}, though there is room")
                    raise _Enough from error
                time.sleep(0.05)
            else:
                return

    def _catches_up(self, devices: list[Reporter]) -> None:
        """What was reported is in the genomes."""
        due = {(one.raw.id, one.raw.epoch, 0): one.through for one in devices}

        def applied() -> bool:
            marks = [(one, store.applied_marks(one)) for one in {device for device, *_ in due}]
            return due == {(one, *lane): upto for one, lanes in marks for *lane, upto in lanes}

        with closing(self._tenant.open_store()) as store:
            try:
                until(applied, timeout=_HEALS_S)
            except AssertionError:
                self.problems.append("the genomes do not catch up")

    def _compare(self, devices: list[Reporter]) -> None:
        if faults := verify_log(self._tenant.log_path).faults:
            self.problems.append(f"the log is damaged: {faults[0]}")
        logged: dict[str, bytes] = collections.defaultdict(bytes)
        with closing(LogReader(self._tenant.log_path)) as reader:
            for batch in reader.batches():
                logged[batch.device] += batch.raw
        for device in devices:
            if logged[device.raw.id] != device.taken:
                self.problems.append("the log is not what was acknowledged")
        self._seen["events"] += sum(device.through for device in devices)
