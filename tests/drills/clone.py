"""Disks are cloned and restored: what every copy does arrives once, and the fork is named.

In each round a store is copied at a moment of chance, and both copies live on as the same device;
or an older copy takes the place of a store that went on. Each of them says things and reports, in
turns and with answers that get lost. In the end everything that any of them said is in the log
once, the log is whole, and where two lives used the same sequences the server has called it
FORKED_EPOCH and the device has a new epoch.
"""

from __future__ import annotations

import collections
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from edge_sdk.config import Config
from edge_sdk.errors import RefusedError, UnreachableError
from edge_sdk.outbox.entries import ORDINARY, URGENT, Entry
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.outbox.queue import Outbox
from edge_sdk.outbox.writer import Writer
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import event_pb2, report_pb2
from genome_server.log import Committer, verify_log
from tests.drills.findings import Findings
from tests.drills.reporters import Arrived, Send, drain, pump, to_log

SHORT: Final = 15
LONG: Final = 200
UNIT: Final = "copies"

_FAST: Final = Config(group_commit_s=0.001, batch_events=10)


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Copy once in each round, live on, and look."""
    found, seen = Findings(), collections.Counter[str]()
    for number in range(first, first + rounds):
        place = folder / f"{number}"
        place.mkdir()
        try:
            for problem in copied(place, random.Random(f"{seed}:{number}"), seen):
                found.fail(number, problem)
        except Exception as error:
            found.fail(number, repr(error))
        shutil.rmtree(place)
        found.tried += 1
        progress(number - first + 1)
    found.note(", ".join(f"{n} {what}" for what, n in sorted(seen.items())))
    return found


class Life:
    """One life of a device: a store, and what was said in it."""

    def __init__(self, path: Path, name: str, send: Send, rng: random.Random) -> None:
        self.name, self._send, self._rng = name, send, rng
        self.store = DeviceStore.open(path)
        self.epoch = self.store.epoch()
        self.outbox = Outbox(self.store, _FAST)
        self.writer = Writer(self.store, self.outbox, _FAST)
        self._pump = pump(self.outbox, self._lossy)
        self.said: list[str] = []
        self.refused: list[str] = []

    def say(self) -> None:
        """Let something happen, written before this returns."""
        for _ in range(self._rng.randint(1, 25)):
            name = f"{self.name}-{len(self.said)}"
            said = event_pb2.Interaction(interaction_id=name, kind="view", product="soap")
            body = event_pb2.Event(interaction=said).SerializeToString()
            entry = Entry(FrameKind.INTERACTION, bytes(16), 1, partial(_bodies, body))
            entry.priority = URGENT if self._rng.random() < 0.2 else ORDINARY
            self.writer.put(entry)
            self.said.append(name)
        assert self.writer.flush(10)

    def report(self) -> None:
        """Send some batches."""
        for _ in range(self._rng.randint(1, 4)):
            if self._pump.step() is None:
                return
            self._note(self._pump.cause)

    def finish(self) -> None:
        """Send everything."""
        self.refused += drain(self.outbox, self._send)

    def _lossy(self, request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        if self._rng.random() < 0.1:
            raise UnreachableError("lost on its way there")
        response = self._send(request)
        if self._rng.random() < 0.2:
            raise UnreachableError("lost on its way back")
        return response

    def _note(self, cause: Exception | None) -> None:
        if isinstance(cause, RefusedError):
            self.refused.append(cause.reason)

    def close(self) -> None:
        """End this life; the disk stays."""
        self.writer.close(5)
        self.store.close()


def _bodies(body: bytes) -> tuple[bytes, bytes]:
    return body, b""


def copied(place: Path, rng: random.Random, seen: collections.Counter[str]) -> list[str]:
    """One round; what does not hold."""
    with Committer(place / "log.sqlite") as log:
        send = to_log(log, "device")
        lives, said = _lives(place, send, rng, seen)
        for life in rng.sample(lives, len(lives)):
            life.finish()
            life.say()
            life.finish()
        said += [name for life in lives for name in life.said]
        problems = []
        refused = collections.Counter(reason for life in lives for reason in life.refused)
        seen.update(refused)
        # Both went on with sequences of their own making: one of them must have been told.
        if len(lives) > 1 and not refused["FORKED_EPOCH"]:
            problems.append(f"the fork was not named: {refused}")
        if len({life.store.epoch() for life in lives}) < len(lives):
            problems.append("two devices go on in one epoch")
        for life in lives:
            life.close()
    with closing(Arrived(place / "log.sqlite")) as arrived:
        names = arrived.look()
    if gone := names.pop("given up", 0):
        problems.append(f"{gone} events were given up")
    problems += [f"{name} is lost" for name in said if not names[name]]
    problems += [f"{name} is there {n} times" for name, n in names.items() if n > 1]
    verdict = verify_log(place / "log.sqlite")
    problems += [] if verdict.whole else [f"the log is not whole: {verdict.faults}"]
    seen["events"] += len(said)
    return problems


def _lives(
    place: Path, send: Send, rng: random.Random, seen: collections.Counter[str]
) -> tuple[list[Life], list[str]]:
    """The lives that go on in the end, and what was said in those that do not."""
    first = Life(place / "one", "one", send, rng)
    _live([first], rng)
    first.close()
    shutil.copytree(place / "one", place / "copy")
    if rng.random() < 0.5:
        seen["cloned"] += 1
        lives = [
            Life(place / "one", "same", send, rng),
            Life(place / "copy", "clone", send, rng),
        ]
        _live(lives, rng)
        return lives, first.said
    # The device goes on and reports all of it; then its disk is what it was before.
    seen["restored"] += 1
    lost = Life(place / "one", "lost", send, rng)
    _live([lost], rng)
    lost.finish()
    lost.close()
    restored = Life(place / "copy", "restored", send, rng)
    _live([restored], rng)
    return [restored], first.said + lost.said


def _live(lives: list[Life], rng: random.Random) -> None:
    for _ in range(rng.randint(3, 12)):
        life = rng.choice(lives)
        life.say() if rng.random() < 0.6 else life.report()
