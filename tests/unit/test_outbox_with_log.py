"""The outbox against the server's real log: whatever is lost, repeated, evicted or restored, every
event is in the log once or declared as given up."""

from __future__ import annotations

import contextlib
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_sdk.errors import StoreError
from edge_sdk.outbox.entries import URGENT
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.log import BatchRefusedError, Committer, LogReader, RefusalReason, verify_log
from tests.unit.device_desk import FAST, Desk

DEVICE = "device-1"


@dataclass
class Line:
    """A device and a server, and a line between them that loses answers."""

    root: Path
    rng: random.Random
    said: int = 0

    def __post_init__(self) -> None:
        config = replace(FAST, outbox_max_bytes=30_000, batch_events=40)
        self.config = config
        self.desk = Desk(self.root / "store", config)
        self.log = Committer(self.root / "log.sqlite")

    def say(self) -> None:
        for _ in range(self.rng.randint(1, 60)):
            kind = self.rng.choice((FrameKind.DECISION, FrameKind.DECISION, FrameKind.INTERACTION))
            more = {"priority": URGENT} if self.rng.random() < 0.1 else {}
            if more:
                kind = FrameKind.INTERACTION
            self.desk.say(f"{self.said}:" + "x" * self.rng.randint(0, 300), kind, **more)
            self.said += 1
        assert self.desk.writer.flush(10)

    def send(self) -> None:
        batch = self.desk.outbox.next_batch()
        if batch is None:
            return
        key = (batch.epoch, batch.lane, batch.first_sequence, batch.last_sequence)
        try:
            taken = self.log.append_batch(DEVICE, *key, batch.frames, batch.digest)
        except BatchRefusedError as error:
            if error.reason is RefusalReason.SEQUENCE_GAP:
                expected = int(error.facts["expected"])
                self.desk.outbox.rewind(batch, expected - 1)
            elif error.reason is RefusalReason.FORKED_EPOCH:
                self.desk.outbox.forked(batch, int(error.facts["sequence"]))
            else:
                raise
            return
        if self.rng.random() < 0.7:  # else the answer is lost on its way
            self.desk.outbox.ack(
                batch, taken.received_through, taken.safe_through, self.log.incarnation
            )

    def restart(self) -> None:
        self.desk.close()
        self.desk = Desk(self.root / "store", self.config)

    def restore_disk(self) -> None:
        """The device's disk is an older copy of itself."""
        self.desk.close()
        copy = self.root / "copy"
        if copy.exists():
            shutil.rmtree(self.root / "store")
            shutil.copytree(copy, self.root / "store")
        else:
            shutil.copytree(self.root / "store", copy)
        self.desk = Desk(self.root / "store", self.config)

    def drain(self) -> None:
        for _ in range(10_000):
            if not self.desk.outbox.unsent():
                return
            self.send()
        raise AssertionError("the outbox does not empty")

    def close(self) -> None:
        self.desk.close()
        self.log.close()

    def logged(self) -> tuple[list[int], int]:
        """Numbers of the events in the log, and how many were declared as given up."""
        numbers, gone = [], 0
        with LogReader(self.root / "log.sqlite") as reader:
            for frame in reader.frames():
                event = event_pb2.Event.FromString(frame.body)
                text = event.interaction.interaction_id or event.decision.placement
                if text:
                    numbers.append(int(text.split(":")[0]))
                gone += event.evicted.events
        return numbers, gone


@pytest.mark.parametrize("seed", range(6))
def test_every_event_is_in_the_log_once_or_declared(tmp_path: Path, seed: int) -> None:
    line = Line(tmp_path, random.Random(seed))
    for _ in range(60):
        line.rng.choice((line.say, line.send, line.send, line.send, line.restart))()
    line.drain()
    line.close()
    found = verify_log(tmp_path / "log.sqlite")
    assert found.whole, found.faults
    numbers, gone = line.logged()
    assert len(numbers) == len(set(numbers))
    assert len(numbers) + gone == line.said
    assert found.given_up <= gone


@pytest.mark.parametrize("seed", range(4))
def test_an_old_disk_comes_back_and_the_log_stays_whole(tmp_path: Path, seed: int) -> None:
    line = Line(tmp_path, random.Random(seed))
    line.config = replace(line.config, outbox_max_bytes=10_000_000)
    for _ in range(60):
        line.rng.choice((line.say, line.send, line.send, line.restore_disk))()
    line.drain()
    last = line.said
    line.say()
    line.drain()
    line.close()
    found = verify_log(tmp_path / "log.sqlite")
    assert found.whole, found.faults
    numbers, _ = line.logged()
    # What happened after the disk came back for the last time is there, once.
    assert [numbers.count(n) for n in range(last, line.said)] == [1] * (line.said - last)


@pytest.mark.parametrize("seed", range(4))
def test_a_restored_server_gets_what_it_lost(tmp_path: Path, seed: int) -> None:
    line = Line(tmp_path, random.Random(seed))
    line.config = replace(line.config, outbox_max_bytes=10_000_000)
    line.restart()
    for _ in range(20):
        line.rng.choice((line.say, line.send, line.send))()
    line.log.close()
    shutil.copy(tmp_path / "log.sqlite", tmp_path / "backup.sqlite")
    line.log = Committer(tmp_path / "log.sqlite")
    for _ in range(20):
        line.rng.choice((line.say, line.send, line.send))()
    line.log.close()
    for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "backup.sqlite").rename(tmp_path / "log.sqlite")
    line.log = Committer(tmp_path / "log.sqlite")
    line.say()
    line.drain()
    line.close()
    found = verify_log(tmp_path / "log.sqlite")
    assert found.whole, found.faults
    numbers, gone = line.logged()
    assert len(numbers) == len(set(numbers))
    # What was acknowledged as safe is no longer on the device; the log says so.
    assert len(numbers) + gone == line.said


@pytest.mark.parametrize("written_again", [False, True])
@pytest.mark.parametrize("mark", ["next - 1", "next + 1000000", "1 << 40"])
def test_a_mark_that_flipped_high_hides_no_event(
    tmp_path: Path, mark: str, written_again: bool
) -> None:
    line = Line(tmp_path, random.Random(3))
    line.config = replace(line.config, outbox_max_bytes=10_000_000)
    line.restart()
    for _ in range(12):
        line.rng.choice((line.say, line.say, line.send))()
    line.send()
    with line.desk.store.write() as connection:
        # What no statement of ours writes: a value that its row's check is not of.
        damage = f"UPDATE lanes SET received = {mark}, row_crc = row_crc - 1 WHERE lane = 1"
        connection.execute(damage)
    if written_again:
        line.say()
    for _ in range(3):  # noticed, rebuilt, and gone on
        with contextlib.suppress(StoreError):
            line.drain()
    assert line.desk.outbox.unsent() == 0
    line.close()
    found = verify_log(tmp_path / "log.sqlite")
    assert found.whole, found.faults
    numbers, gone = line.logged()
    assert gone == 0
    assert set(numbers) == set(range(line.said))
    # How far the server had it is not known any more: what one commit wrote comes twice at most.
    assert len(numbers) - line.said <= line.config.batch_events
