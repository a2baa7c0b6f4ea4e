"""Reports are dropped, repeated, reordered and delayed: the log holds exactly the devices' events.

Each round fills the outboxes of four devices, with two lanes each, on disk: 50,000 events. Their
batches, byte for byte as the outboxes give them, then go through 20 lines, each of its own seed,
into 20 logs by the real committer. A line drops a tenth of the requests and a tenth of the
answers, repeats 30 % of what it carries, and delivers each copy up to 1,000 events later than it
was due, so that batches overtake each other. Devices here do not wait for an answer before they
send on, as real ones do: that would leave little to reorder. What was not answered goes out again.
In the end a log's set of events, by device, lane, sequence and content, must equal the devices',
each once, in order, and the log must be whole. So in the long form each of 20 seeds carries
1,000,000 events.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from edge_sdk.config import Config
from edge_sdk.outbox.entries import ORDINARY, URGENT, Entry
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.outbox.queue import Outbox
from edge_sdk.outbox.writer import Writer
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import event_pb2
from genome_server.log import Batch, BatchRefusedError, Committer, LogReader, verify_log
from tests.drills.findings import Findings

SHORT: Final = 1
LONG: Final = 20
UNIT: Final = "times 50,000 events over 20 lines"

_DEVICES: Final = 4
_EVENTS: Final = 50_000
_LINES: Final = 20
_WINDOW: Final = 1_000
_DROPPED: Final = 0.1
_REPEATED: Final = 0.3
_TIMEOUT: Final = 2 * _WINDOW
_AT_ONCE: Final = 200

Key = tuple[str, bytes, int]


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Carry each round's events over every line."""
    found, done = Findings(), Counter[str]()
    for number in range(first, first + rounds):
        batches = list(_outboxes(folder / str(number), random.Random(f"{seed}:{number}")))
        # Side by side, for most of the time is spent waiting for the disk.
        with ThreadPoolExecutor(_LINES) as lines:
            rngs = [random.Random(f"{seed}:{number}:{line}") for line in range(_LINES)]
            paths = [folder / str(number) / f"log-{line}.sqlite" for line in range(_LINES)]
            played = list(lines.map(_carry, paths, itertools.repeat(batches), rngs))
        for line, (counts, problems) in enumerate(played):
            done += counts
            for problem in problems:
                found.fail(number, f"line {line}: {problem}")
        found.tried += 1
        progress(found.tried)
    found.note(f"{done['events']:,} events over {_LINES} lines")
    found.note(", ".join(f"{count:,} {what}" for what, count in sorted(done.items())))
    return found


def _carry(path: Path, batches: list[Batch], rng: random.Random) -> tuple[Counter[str], list[str]]:
    """One line: what it did, and how its log differs from the devices' outboxes."""
    with Committer(path) as log:
        done = _Line(log, batches, rng).carry()
    problems = list(_differences(path, batches))
    path.unlink()
    return done, problems


def _outboxes(folder: Path, rng: random.Random) -> Iterator[Batch]:
    """Fill the outboxes and give the batches that the devices would send."""
    for number in range(_DEVICES):
        device = f"device-{number}"
        config = Config(batch_events=rng.choice((100, 250, 500)), outbox_max_bytes=1 << 30)
        store = DeviceStore.open(folder / device)
        outbox = Outbox(store, config)
        writer = Writer(store, outbox, config)
        for count in range(_EVENTS // _DEVICES):
            writer.put(_entry(f"{device}-{count}", URGENT if count % 20 == 0 else ORDINARY, rng))
            if count % 2_000 == 0:
                writer.flush(30)  # what waits in memory is bounded
        writer.flush(30)
        while (batch := outbox.next_batch()) is not None:
            last = batch.last_sequence
            yield Batch(
                device, batch.epoch, batch.lane, batch.first_sequence, last, batch.frames,
                batch.digest,
            )  # fmt: skip
            outbox.ack(batch, last, last, b"log")
        writer.close(5)
        store.close()


def _entry(name: str, priority: int, rng: random.Random) -> Entry:
    said = event_pb2.Interaction(interaction_id=name, kind="buy", product="P" * rng.randint(1, 30))
    body = event_pb2.Event(interaction=said).SerializeToString()
    subject = rng.randbytes(16)
    return Entry(FrameKind.INTERACTION, subject, 1, lambda: (body, b""), priority=priority)


class _Line:
    """Carries batches. Time is counted in events."""

    def __init__(self, log: Committer, batches: list[Batch], rng: random.Random) -> None:
        self._log, self._rng = log, rng
        self._waiting: dict[Key, deque[Batch]] = {}
        for batch in batches:
            self._waiting.setdefault(_key(batch), deque()).append(batch)
        self._through = dict.fromkeys(self._waiting, 0)
        self._ahead = dict.fromkeys(self._waiting, 0)
        # (time, number, batch): what is to be sent, and what is on its way.
        self._due: list[tuple[int, int, Batch]] = []
        self._under_way: list[tuple[int, int, Batch]] = []
        self._numbers = itertools.count()
        self.done: Counter[str] = Counter(events=sum(b.last - b.first + 1 for b in batches))

    def carry(self) -> Counter[str]:
        """Send everything until it is acknowledged."""
        for key in self._waiting:
            self._admit(key, 0)
        while self._due or self._under_way:
            at = min(queue[0][0] for queue in (self._due, self._under_way) if queue)
            while self._due and self._due[0][0] <= at:
                _, _, batch = heapq.heappop(self._due)
                if batch.last > self._through[_key(batch)]:
                    self._send(batch, at)
            arrived = []
            while self._under_way and self._under_way[0][0] <= at + _AT_ONCE:
                arrived.append(heapq.heappop(self._under_way)[2])
            self._deliver(arrived, at + _AT_ONCE)
        return self.done

    def _admit(self, key: Key, at: int) -> None:
        """Let a lane send on: never more than a window beyond what was acknowledged."""
        waiting = self._waiting[key]
        while waiting and (
            self._ahead[key] <= self._through[key]
            or waiting[0].last <= self._through[key] + _WINDOW
        ):
            batch = waiting.popleft()
            self._ahead[key] = batch.last
            heapq.heappush(self._due, (at, next(self._numbers), batch))

    def _send(self, batch: Batch, at: int) -> None:
        self.done["sent"] += 1
        copies = 0 if self._rng.random() < _DROPPED else 1
        while copies and self._rng.random() < _REPEATED:
            copies += 1
        self.done["dropped"] += not copies
        self.done["repeated"] += max(copies - 1, 0)
        for _ in range(copies):
            arrival = at + self._rng.randint(0, _WINDOW)
            heapq.heappush(self._under_way, (arrival, next(self._numbers), batch))
        # No answer by then: the same bytes again.
        later = at + self._rng.randint(_WINDOW, _TIMEOUT)
        heapq.heappush(self._due, (later, next(self._numbers), batch))

    def _deliver(self, arrived: list[Batch], at: int) -> None:
        """Hand over what arrives at about one time; it is committed together."""
        written = [(batch, self._log.submit(batch)) for batch in arrived]
        for batch, future in written:
            try:
                marks = future.result()
            except BatchRefusedError as refusal:
                self.done[f"refused: {refusal.reason}"] += 1
                continue
            self.done["taken or known"] += 1
            if self._rng.random() < _DROPPED:
                self.done["answers dropped"] += 1
                continue
            key = _key(batch)
            self._through[key] = max(self._through[key], marks.received_through)
            self._admit(key, at)


def _key(batch: Batch) -> Key:
    return batch.device, batch.epoch, batch.lane


def _differences(path: Path, batches: list[Batch]) -> Iterator[str]:
    """How the log differs from what the devices hold."""
    check = verify_log(path)
    for fault in check.faults:
        yield f"offset {fault.offset}: {fault.message}"
    held: dict[Key, list[bytes]] = {}
    with LogReader(path) as log:
        for row in log.batches():
            held.setdefault((row.device, row.epoch, row.lane), []).append(row.raw)
    sent: dict[Key, list[bytes]] = {}
    for batch in batches:
        sent.setdefault(_key(batch), []).append(batch.frames)
    for key in held.keys() | sent.keys():
        here = hashlib.sha256(b"".join(held.get(key, ()))).digest()
        if here != hashlib.sha256(b"".join(sent.get(key, ()))).digest():
            yield f"lane {key[0]}/{key[2]} is not what the device holds"
