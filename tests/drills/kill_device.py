"""A device is killed at any moment: what it promised is there once, and it goes on.

In each round a process opens a store, decides, redeems, writes down and reports under load, and
gets SIGKILL at a moment of chance: while it opens, writes, or waits for the server's answer. Some
are killed twice. Then the store is opened again: every redemption, consent and durable event that
was acknowledged is in the outbox or the server's log, once; none is granted again; the store is
whole; decisions go on. The server is a real log, and the line is a pipe.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from edge_sdk import EdgeClient, RedemptionReason, RefusedError, UnreachableError
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import report_pb2
from genome_server.log import Committer
from tests.drills.findings import Findings
from tests.drills.reporters import Arrived, drain, pump, to_log
from tests.drills.stores import MOMENT, PLACEMENT, QUICK, client, subject

SHORT: Final = 12
LONG: Final = 800  # 1,000 kills
UNIT: Final = "kills"

_LATEST_S: Final = 0.08
_HANGS_S: Final = 20.0


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Kill once or twice in each round, and look."""
    found, seen = Findings(), collections.Counter[str]()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    client(folder / "template").close()
    with (
        Committer(folder / "log.sqlite") as log,
        contextlib.closing(Arrived(folder / "log.sqlite")) as arrived,
    ):
        for number in range(first, first + rounds):
            rng = random.Random(f"{seed}:{number}")
            store = folder / f"store-{number}"
            shutil.copytree(folder / "template", store)
            life = Life(store, to_log(log, f"device-{number}"), processes)
            for generation in range(1 if number % 4 else 2):
                try:
                    life.live(f"{number}-{generation}", rng)
                except AssertionError as error:
                    found.fail(number, str(error))
                found.tried += 1
            for problem in life.check(arrived):
                found.fail(number, problem)
            seen.update(life.seen)
            shutil.rmtree(store)
            progress(number - first + 1)
    found.note(", ".join(f"{n} {what}" for what, n in sorted(seen.items())))
    return found


class Life:
    """One device, and what it was heard to promise."""

    def __init__(self, store: Path, send: Any, processes: Any) -> None:
        self._store, self._send, self._processes = store, send, processes
        self._promised: list[str] = []
        self.seen = collections.Counter[str]()

    def live(self, name: str, rng: random.Random) -> None:
        """Be a device for a while, and be killed."""
        says, said = self._processes.Pipe(duplex=False)
        line, far_end = self._processes.Pipe()
        device = self._processes.Process(target=work, args=(self._store, name, said, far_end))
        device.start()
        said.close()
        far_end.close()
        # From the start, so that some die while they open; else from the first promise.
        deadline = time.monotonic() + (rng.uniform(0.0, 0.05) if rng.random() < 0.1 else _HANGS_S)
        promised = len(self._promised)
        while (left := deadline - time.monotonic()) > 0:
            ready = wait([says, line], left)
            if says in ready:
                if len(self._promised) == promised:
                    deadline = time.monotonic() + rng.uniform(0.0, _LATEST_S)
                self._promised.append(says.recv())
            if line in ready:
                self._answer(line)
        device.kill()
        device.join()
        self.seen["killed while opening" if len(self._promised) == promised else "at work"] += 1
        with contextlib.suppress(EOFError, OSError):  # what it had said before it died
            while says.poll():
                self._promised.append(says.recv())
        with contextlib.suppress(EOFError, OSError):  # and sent
            if line.poll():
                self._answer(line)
                self.seen["killed before the server's answer"] += 1
        says.close()
        line.close()
        device.close()

    def _answer(self, line: Connection) -> None:
        request = report_pb2.ReportRequest.FromString(line.recv_bytes())
        try:
            response = self._send(request)
        except RefusedError as error:
            raise AssertionError(f"a report was refused: {error.reason} {error}") from error
        self.seen["reports"] += 1
        with contextlib.suppress(OSError):
            line.send_bytes(response.SerializeToString())

    def check(self, arrived: Arrived) -> list[str]:
        """What does not hold."""
        problems = []
        self.seen["promises"] += len(self._promised)
        with EdgeClient(self._store, config=QUICK) as edge:
            if not edge.wait_ready(10) or edge.decide(MOMENT, PLACEMENT).offer is None:
                problems.append(f"it decides no more: {edge.status}")
            if edge.status.cause is not None:
                problems.append(f"the store is not whole: {edge.status.cause}")
            for name in self._promised:
                if name.startswith("redeem:"):
                    _, decision, slot = name.split(":")
                    again = edge.redeem(decision, slot=int(slot))
                    if again.reason is not RedemptionReason.ALREADY_REDEEMED:
                        problems.append(f"{name} was promised, and is now {again.reason}")
        store = DeviceStore.open(self._store)
        refused = drain(Outbox(store, QUICK), self._send)
        store.close()
        if refused:
            problems.append(f"reports were refused: {refused}")
        names = arrived.look()
        self.seen["events"] += names.total()
        problems += [
            f"{name} was promised and is lost" for name in self._promised if not names[name]
        ]
        problems += [f"{name} is there {n} times" for name, n in names.items() if n > 1]
        return problems


def work(store: Path, name: str, said: Connection, line: Connection) -> None:
    """What the device does until it is killed."""
    sys.setswitchinterval(0.0005)  # many threads, and little time
    edge = EdgeClient(store, config=QUICK)
    edge.wait_ready(10)

    def report() -> None:
        open_ = edge._keeper.when_open(10)

        def send(request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
            line.send_bytes(request.SerializeToString())
            if not line.poll(5):
                raise UnreachableError("no answer")
            return report_pb2.ReportResponse.FromString(line.recv_bytes())

        sending = pump(open_.outbox, send)
        while True:
            if sending.step() is None:
                open_.outbox.wait(0.005)

    def talk() -> None:
        number = 0
        while True:
            decision = edge.decide(MOMENT, PLACEMENT)
            edge.report(decision, "view", event_id=f"seen-{name}-{number}")
            edge.imprint(
                subject(number % 7).hex(), "view", dna=["brand:acme"],
                interaction_id=f"did-{name}-{number}",
            )  # fmt: skip
            number += 1
            time.sleep(0.001)

    for loop in (report, talk):
        threading.Thread(target=loop, daemon=True).start()
    number = 0
    while True:
        decision = edge.decide(MOMENT, PLACEMENT)
        if edge.redeem(decision):
            said.send(f"redeem:{decision.id}:0")
        said.send(edge.report(decision, "click", event_id=f"sure-{name}-{number}", durable=True))
        number += 1
