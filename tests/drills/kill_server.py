"""The server gets SIGKILL under load, again and again: nothing acknowledged is lost or there twice.

Three devices report over real sockets without a pause: two that are written from the contract
alone and know to the byte what was acknowledged, and one that is an `EdgeClient` with its outbox
on disk. Each round the server is killed at a moment of chance, one in ten while it starts. While
it is down every lane's mark in the log must be at least what was acknowledged. Now and then, and
in the end, the whole log is verified, each event is in it once, the store is sound, and the
genomes that increments made are those that a build makes.

The server is the whole one, all services and the live consumer. It is forked off a process that
has imported it and opened nothing; each 50th round it is the command `genome-server serve`.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import grpc

from edge_sdk import Config, EdgeClient
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.enrolment import enrol
from genome_edge.v1 import event_pb2
from genome_server.genomes.build import build
from genome_server.genomes.live import LiveConsumer
from genome_server.home import Tenant
from genome_server.log import LogReader, verify_log
from tests.drills.findings import Findings
from tests.drills.stem import PATIENCE_S, Servers
from tests.serving import FRAME, RawDevice, add_code, info, interaction, make_home, publish_release

SHORT: Final = 10
LONG: Final = 1000
UNIT: Final = "kills"

_CUSTOMERS: Final = ("ann", "bob", "eve")
_LONGEST_S: Final = 0.1
_COMMAND_EACH: Final = 50
_VERIFY_EACH: Final = 250
_QUICK: Final = Config(reconnect_min_s=0.02, reconnect_max_s=0.1, batch_events=20)
_CHANNEL: Final = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 60),
    ("grpc.use_local_subchannel_pool", 1),
)


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Kill `rounds` times."""
    found = Findings()
    device_log = logging.getLogger("edge_sdk")
    level = device_log.level
    device_log.setLevel(logging.CRITICAL)  # that the server is gone is no news here
    try:
        _play(folder, seed, range(first, first + rounds), progress, found)
    finally:
        device_log.setLevel(level)
    return found


def _play(
    folder: Path, seed: int, rounds: range, progress: Callable[[int], None], found: Findings
) -> None:
    home = make_home(folder / "home", _CUSTOMERS)
    tenant = home.tenant("default")
    publish_release(tenant)
    with Servers(home) as servers, _Load(tenant, folder, servers, seed) as load:
        for number in rounds:
            _round(number, random.Random(f"{seed}:{number}"), servers, load, tenant, found)
            found.tried += 1
            if found.tried % _VERIFY_EACH == 0:
                _verify(number, tenant, load, found, whole=False)
            progress(found.tried)
            if found.failures:
                break  # the rounds share a log: what comes after would fail for the same cause
        servers.start()
        for problem in load.finish():
            found.fail(rounds[found.tried - 1], problem)
        servers.kill()
    _verify(rounds[found.tried - 1], tenant, load, found, whole=True)
    found.note(", ".join(f"{count} {what}" for what, count in sorted(load.done.items())))
    found.note(", ".join(f"{count} {what}" for what, count in sorted(servers.done.items())))


def _round(
    number: int,
    rng: random.Random,
    servers: Servers,
    load: _Load,
    tenant: Tenant,
    found: Findings,
) -> None:
    early = rng.random() < 0.1
    servers.start(command=number % _COMMAND_EACH == _COMMAND_EACH - 1, wait=not early)
    # The load is heard again a few milliseconds after the start: what counts comes after that.
    if not early and not load.heard_again():
        found.fail(number, "nothing is acknowledged any more")
    time.sleep(rng.uniform(0.0, _LONGEST_S / 3 if early else _LONGEST_S))
    acknowledged = load.acknowledged()
    servers.kill()
    with LogReader(tenant.log_path) as log:
        for (device, epoch), through in acknowledged.items():
            held = log.through(device, epoch, 0)
            if held < through:
                found.fail(number, f"{through} was acknowledged, the log holds {held}")
    for problem in load.problems():
        found.fail(number, problem)


def _verify(number: int, tenant: Tenant, load: _Load, found: Findings, *, whole: bool) -> None:
    """Everything that can be seen while the server is down."""
    check = verify_log(tenant.log_path)
    for fault in check.faults:
        found.fail(number, f"the log, offset {fault.offset}: {fault.message}")
    with LogReader(tenant.log_path) as log:
        times = Counter(
            event_pb2.Event.FromString(frame.body).interaction.interaction_id
            for frame in log.frames(kinds={FrameKind.INTERACTION})
        )
    if more := [name for name, count in times.items() if count > 1]:
        found.fail(number, f"{len(more)} events are there more than once: {more[:3]}")
    wanted = load.said() if whole else load.surely_said()
    if missing := wanted - times.keys():
        found.fail(number, f"{len(missing)} events are missing: {sorted(missing)[:3]}")
    if whole and (strange := times.keys() - wanted):
        found.fail(number, f"{len(strange)} events were never said: {sorted(strange)[:3]}")
    with closing(sqlite3.connect(tenant.db_path)) as store:
        (answer,) = store.execute("PRAGMA integrity_check").fetchone()
    if answer != "ok":
        found.fail(number, f"the store: {answer}")
    if whole:
        consumer = LiveConsumer(tenant)
        while consumer.catch_up():
            pass
        consumer.close()
        with closing(tenant.open_store()) as genomes, LogReader(tenant.log_path) as log:
            if changed := build(genomes, log, tenant.dna_path).changed:
                found.fail(number, f"{changed} genomes differ from those of a build")
        found.note(f"{check.events} events in {check.batches} batches of {check.lanes} lanes")


class _Reporter(threading.Thread):
    """A device of a few lines that reports without a pause and remembers what was acknowledged."""

    def __init__(self, raw: RawDevice, name: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.raw, self.through, self.said = raw, 0, 0
        self.problems: list[str] = []
        self.answered = threading.Event()
        self.stopping = threading.Event()
        self._rng = random.Random(f"{seed}:{name}")

    def run(self) -> None:
        while not self.stopping.is_set():
            first = self.through + 1
            # Now and then it begins before what was acknowledged: a repetition in part.
            again = min(self.through, self._rng.choice((0, 0, 0, 3)))
            count = self._rng.choice((1, 5, 20, 60))
            self.said = first + count - 1
            batch = {n: self._event(n) for n in range(first - again, self.said + 1)}
            data = b"".join(batch.values())
            self._send(first - again, data, self.said)

    def _event(self, number: int) -> bytes:
        """Event `number` of this device: always the same bytes."""
        subject, kind, body = interaction(bytes([1 + number % 3]) * 16, "view", "soap", "")
        event = event_pb2.Event.FromString(body)
        event.interaction.interaction_id = f"{self.name}-{number}"
        event.time.wall_ms = at_ms = 1_760_000_000_000 + number
        body = event.SerializeToString()
        return FRAME.pack(len(body), number, subject, kind, at_ms) + body

    def _send(self, first: int, data: bytes, last: int) -> None:
        """Send the same bytes until they are acknowledged."""
        while True:
            try:
                answer = self.raw.report(first, data, last)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    if self.stopping.wait(0.005) and not self.through:
                        return
                    continue
                reason = info(error).reason if error.trailing_metadata() else str(error.code())
                self.problems.append(f"{self.name}, {first} to {last}: refused with {reason}")
                self.answered.set()
                self.stopping.wait(0.05)
                return
            if answer.received_through < last:
                self.problems.append(f"{self.name}: {answer.received_through} after {last}")
            self.through = max(self.through, answer.received_through)
            self.answered.set()
            return


class _Load:
    """The devices."""

    def __init__(self, tenant: Tenant, folder: Path, servers: Servers, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._channel = grpc.insecure_channel(servers.address, options=_CHANNEL)
        servers.start()
        self.reporters = []
        for name in ("r0", "r1"):
            raw = RawDevice(self._channel)
            raw.enrol(add_code(tenant), name)
            self.reporters.append(_Reporter(raw, name, seed))
        store = DeviceStore.open(folder / "till")
        enrol(servers.address, add_code(tenant), store, "till", _QUICK)
        store.close()
        self._edge = EdgeClient(folder / "till", servers.address, config=_QUICK)
        deadline = time.monotonic() + PATIENCE_S
        while not self._edge.status.genomes:
            assert time.monotonic() < deadline, self._edge.status
            time.sleep(0.01)
        servers.kill()
        self._edge_said = 0
        self._stopping = threading.Event()
        self._talker = threading.Thread(target=self._talk, args=(seed,), daemon=True)

    def __enter__(self) -> _Load:
        for thread in (*self.reporters, self._talker):
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        self._edge.close()
        self._channel.close()

    def _stop(self) -> None:
        self._stopping.set()
        for reporter in self.reporters:
            reporter.stopping.set()
        for thread in (*self.reporters, self._talker):
            thread.join(PATIENCE_S)

    def _talk(self, seed: int) -> None:
        rng = random.Random(f"{seed}:edge")
        while not self._stopping.wait(rng.uniform(0.0, 0.01)):
            name = f"edge-{self._edge_said}"
            who = rng.choice(_CUSTOMERS)
            self._edge.imprint(who, "view", product="soap", interaction_id=name)
            self._edge_said += 1

    def heard_again(self) -> bool:
        """Wait until some report was acknowledged since the last call."""
        deadline = time.monotonic() + PATIENCE_S
        for reporter in self.reporters:
            if not reporter.answered.wait(max(0.0, deadline - time.monotonic())):
                return False
            reporter.answered.clear()
        return True

    def acknowledged(self) -> dict[tuple[str, bytes], int]:
        """How far each device's lane was acknowledged up to now."""
        return {(r.raw.id, r.raw.epoch): r.through for r in self.reporters}

    def problems(self) -> list[str]:
        """What devices found wrong since the last call."""
        said = [problem for r in self.reporters for problem in r.problems]
        for reporter in self.reporters:
            reporter.problems.clear()
        return said

    def finish(self) -> list[str]:
        """Say no more, and report all that was said; what went wrong with that."""
        self._stop()
        unsent = self._edge.flush(PATIENCE_S)
        # On a slow machine there may be more to send than that, as long as it gets less.
        while unsent and (left := self._edge.flush(PATIENCE_S)) < unsent:
            unsent = left
        self.done["events of the EdgeClient"] = self._edge_said
        self.done["events of raw devices"] = sum(r.through for r in self.reporters)
        return [f"{unsent} events are not sent: {self._edge.status}"] if unsent else []

    def surely_said(self) -> set[str]:
        """Events that were acknowledged."""
        return {f"{r.name}-{n}" for r in self.reporters for n in range(1, r.through + 1)}

    def said(self) -> set[str]:
        """Every event, once all is reported."""
        return self.surely_said() | {f"edge-{n}" for n in range(self._edge_said)}
