"""The report pump on a real store, outbox and writer; the server is a function."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edge_sdk.config import Config
from edge_sdk.errors import RefusedError, UnreachableError
from edge_sdk.outbox.entries import ORDINARY, URGENT, Entry, Ticket
from edge_sdk.outbox.frames import FrameKind, iter_frames
from edge_sdk.outbox.queue import Batch, Outbox
from edge_sdk.outbox.writer import Writer
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.pace import Backoff
from edge_sdk.sync.reporting import ReportPump
from genome_edge.v1 import event_pb2, report_pb2


def bodies(body: bytes) -> Callable[[], tuple[bytes, bytes]]:
    return lambda: (body, b"")


@dataclass
class Device:
    """A store with a writer, and an outbox to empty."""

    store: DeviceStore
    outbox: Outbox
    writer: Writer

    def happen(self, *words: str, priority: int = ORDINARY) -> None:
        """Let things happen, and wait until they are on disk."""
        tickets = []
        for word in words:
            event = event_pb2.Event(interaction=event_pb2.Interaction(interaction_id=word))
            body = event.SerializeToString()
            ticket = Ticket()
            self.writer.put(
                Entry(
                    FrameKind.INTERACTION,
                    b"s" * 16,
                    1_700_000_000_000,
                    bodies(body),
                    priority=priority,
                    ticket=ticket,
                )
            )
            tickets.append(ticket)
        for ticket in tickets:
            ticket.wait(5)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    config = Config(group_commit_s=0.001, batch_events=16)
    store = DeviceStore.open(tmp_path / "edge")
    outbox = Outbox(store, config)
    writer = Writer(store, outbox, config)
    yield Device(store, outbox, writer)
    writer.close(5)
    store.close()


@dataclass
class Log:
    """What a server takes: every frame of a lane once, in order, the same whenever it comes."""

    lanes: dict[tuple[bytes, int], dict[int, bytes]] = field(default_factory=dict)
    requests: list[report_pb2.ReportRequest] = field(default_factory=list)
    incarnation: bytes = b"i" * 16
    is_safe: bool = True
    before: Callable[[report_pb2.ReportRequest], None] = lambda _: None
    after: Callable[[report_pb2.ReportRequest], None] = lambda _: None

    def send(self, request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        self.requests.append(request)
        self.before(request)
        if request.incarnation not in (b"", self.incarnation):
            raise RefusedError("LOG_CHANGED", "", {"incarnation": self.incarnation.hex()})
        assert hashlib.sha256(request.frames).digest() == request.digest
        lane = self.lanes.setdefault((request.epoch, request.lane), {})
        expected = max(lane, default=0) + 1
        if request.first_sequence > expected:
            raise RefusedError("SEQUENCE_GAP", "", {"expected": str(expected)})
        sequences = []
        for frame in iter_frames(request.frames):
            content = frame.body
            if lane.setdefault(frame.sequence, content) != content:
                raise RefusedError("FORKED_EPOCH")
            sequences.append(frame.sequence)
        assert sequences[-1] == request.last_sequence
        self.after(request)
        through = max(lane)
        safe = through if self.is_safe else 0
        return report_pb2.ReportResponse(
            incarnation=self.incarnation, received_through=through, safe_through=safe
        )

    @property
    def words(self) -> list[str]:
        """What happened, in order, without what was given up."""
        found = []
        for _, lane in sorted(self.lanes.items()):
            for _, body in sorted(lane.items()):
                event = event_pb2.Event.FromString(body)
                if event.HasField("interaction"):
                    found.append(event.interaction.interaction_id)
        return found

    @property
    def given_up(self) -> list[event_pb2.Evicted]:
        """What was declared as given up."""
        events = [
            event_pb2.Event.FromString(body)
            for lane in self.lanes.values()
            for body in lane.values()
        ]
        return [event.evicted for event in events if event.HasField("evicted")]


def make_pump(device: Device, log: Log) -> ReportPump:
    return ReportPump(device.outbox, log.send, Backoff(0.01, 0.02, random.Random(1)), 60.0)


def drain(pump: ReportPump, steps: int = 200) -> None:
    for _ in range(steps):
        if pump.step() is None:
            return
    raise AssertionError("the outbox does not get empty")


WORDS = [f"w{n:03}" for n in range(100)]


def test_everything_arrives_once_and_in_order_and_is_deleted(device: Device) -> None:
    device.happen(*WORDS)
    log = Log()
    pump = make_pump(device, log)
    drain(pump)
    assert log.words == WORDS
    assert pump.taken == 100
    assert pump.cause is None
    assert device.outbox.unsent() == 0
    assert len(log.requests) >= 100 // 16, "in batches"


def test_what_is_urgent_goes_first(device: Device) -> None:
    device.happen(*WORDS)
    device.happen("redeemed", priority=URGENT)
    log = Log()
    make_pump(device, log).step()
    assert log.words == ["redeemed"]


def test_without_an_answer_the_same_bytes_are_sent_again(device: Device) -> None:
    device.happen(*WORDS[:5])

    def lose(_: object) -> None:
        raise UnreachableError("gone", retry_after_s=7.0)

    log = Log(after=lose)  # taken, but the device never hears of it
    pump = make_pump(device, log)
    wait = pump.step()
    assert wait is not None
    assert wait >= 7.0, "what the server asked for"
    assert isinstance(pump.cause, UnreachableError)
    device.happen(*WORDS[5:9])
    log.after = lambda _: None
    drain(pump)
    first, again = log.requests[:2]
    assert (first.frames, first.digest) == (again.frames, again.digest)
    assert log.words == WORDS[:9]
    assert pump.cause is None


def test_a_device_that_is_not_believed_keeps_everything(device: Device) -> None:
    device.happen(*WORDS[:5])

    def refuse(_: object) -> None:
        raise RefusedError("CREDENTIAL_REVOKED")

    log = Log(before=refuse)
    pump = make_pump(device, log)
    for _ in range(3):
        assert pump.step() == 60.0
    assert isinstance(pump.cause, RefusedError)
    assert device.outbox.unsent() == 5
    log.before = lambda _: None
    drain(pump)
    assert log.words == WORDS[:5]


@pytest.mark.parametrize("reason", ["CREDENTIAL_REVOKED", "SEQUENCE_GAP", "TOO_LARGE", "BUSY"])
def test_a_refusal_that_asks_for_time_gets_it(device: Device, reason: str) -> None:
    device.happen(*WORDS[:5])

    def refuse(_: object) -> None:
        raise RefusedError(reason, "", {"retry_after_ms": "90000"})

    pump = make_pump(device, Log(before=refuse))
    wait = pump.step()
    assert wait is not None
    assert wait >= 90.0
    assert device.outbox.unsent() == 5


@pytest.mark.parametrize("said", ["9" * 18, "9" * 400, "9" * 5_000])
@pytest.mark.parametrize("reason", ["CREDENTIAL_REVOKED", "SEQUENCE_GAP", "FORKED_EPOCH", "BUSY"])
def test_absurd_numbers_in_a_refusal_end_nothing(device: Device, reason: str, said: str) -> None:
    device.happen(*WORDS[:5])
    facts = dict.fromkeys(("retry_after_ms", "sequence", "expected"), said)

    def refuse(_: object) -> None:
        raise RefusedError(reason, "", facts)

    log = Log(before=refuse)
    pump = make_pump(device, log)
    wait = pump.step()
    assert wait is not None
    assert wait <= 2 * 3_600.0
    log.before = lambda _: None
    drain(pump)
    assert device.outbox.unsent() == 0


@pytest.mark.parametrize("reason", ["BAD_FRAME", "TOO_LARGE", "INVALID_ARGUMENT"])
@pytest.mark.parametrize(
    "poison", [{"w000"}, {"w007"}, {"w015"}, {"w031", "w032"}, set(WORDS[3:6])]
)
def test_only_what_is_poisoned_is_set_aside(device: Device, reason: str, poison: set[str]) -> None:
    device.happen(*WORDS)

    def refuse(request: report_pb2.ReportRequest) -> None:
        if any(word.encode() in request.frames for word in poison):
            raise RefusedError(reason)

    log = Log(before=refuse)
    drain(make_pump(device, log), 400)
    assert log.words == [word for word in WORDS if word not in poison]
    assert sum(evicted.events for evicted in log.given_up) == len(poison)
    kept = b"".join(p.read_bytes() for p in (device.store.path / "rejected").iterdir())
    assert all(word.encode() in kept for word in poison)
    assert len(list(iter_frames(kept))) == len(poison)
    # Halving takes a few attempts for each bad event; after them batches are whole again.
    assert len(log.requests) <= 7 + 10 * len(poison)
    assert len(list(iter_frames(log.requests[-2].frames))) == 16


def test_an_answer_lost_while_a_batch_is_divided_does_no_harm(device: Device) -> None:
    device.happen(*WORDS[:16])
    lost = iter([False, True, False, True])

    def refuse(request: report_pb2.ReportRequest) -> None:
        if b"w011" in request.frames:
            raise RefusedError("BAD_FRAME")

    def lose(_: object) -> None:
        if next(lost, False):
            raise UnreachableError("gone")

    log = Log(before=refuse, after=lose)
    drain(make_pump(device, log))
    assert log.words == [word for word in WORDS[:16] if word != "w011"]
    # A new process, which knows nothing of the division, goes on from the same store.
    drain(make_pump(device, log))


def test_nothing_is_appended_to_what_a_restored_server_lost(device: Device) -> None:
    log = Log(is_safe=False)
    device.happen("a", "b", "c")
    drain(make_pump(device, log))
    log.lanes.clear()
    log.incarnation = b"r" * 16
    copies = [event_pb2.Interaction(interaction_id=f"of a copy {n}") for n in (1, 2, 3)]
    said = {n: event_pb2.Event(interaction=c).SerializeToString() for n, c in enumerate(copies, 1)}
    log.lanes[device.store.epoch(), 1] = dict(said)  # as many as were lost
    device.happen("d")
    drain(make_pump(device, log))
    assert sorted(log.words) == ["a", "b", "c", "d", *(c.interaction_id for c in copies)]
    assert said in log.lanes.values()  # ours are under an epoch of their own


def test_a_cloned_disk_goes_on_under_a_new_epoch(device: Device) -> None:
    device.happen(*WORDS[:3])
    epoch = device.store.epoch()
    log = Log()
    drain(make_pump(device, log))
    # Another copy of this disk was here before and said something else.
    device.happen(*WORDS[3:6])
    (lane,) = [lane for (_, lane), frames in log.lanes.items() if frames]
    log.lanes[epoch, lane][4] = b"something else"
    drain(make_pump(device, log))
    assert device.store.epoch() != epoch
    under_new = log.lanes[device.store.epoch(), lane]
    assert [
        event_pb2.Event.FromString(b).interaction.interaction_id for b in under_new.values()
    ] == (WORDS[3:6])


def test_a_server_that_lost_something_gets_it_again_or_is_told(device: Device) -> None:
    device.happen(*WORDS[:20])
    log = Log()
    drain(make_pump(device, log))
    # Restored from a backup of long ago, without saying so.
    for lane in log.lanes.values():
        for sequence in [s for s in lane if s > 8]:
            del lane[sequence]
    device.happen("later")
    drain(make_pump(device, log))
    assert log.words[:8] == WORDS[:8]
    assert log.words[-1] == "later"
    assert sum(evicted.events for evicted in log.given_up) == 12, "it was deleted here, and said so"


def test_an_answer_that_moves_nothing_does_not_spin(device: Device) -> None:
    device.happen("one")
    pump = ReportPump(
        device.outbox,
        lambda _: report_pb2.ReportResponse(),
        Backoff(0.5, 1.0, random.Random(1)),
        60.0,
    )
    assert (pump.step() or 0) >= 0.25
    assert device.outbox.unsent() == 1


def test_a_server_that_claims_too_much_deletes_nothing_unsent(device: Device) -> None:
    device.happen(*WORDS[:40])
    claims = report_pb2.ReportResponse(received_through=1 << 40, safe_through=1 << 40)
    pump = ReportPump(device.outbox, lambda _: claims, Backoff(0.5, 1.0), 60.0)
    pump.step()
    assert device.outbox.unsent() == 40 - 16


class _Damaged(Outbox):
    """Hands out a batch whose bytes are not what its digest says."""

    def next_batch(self) -> Batch | None:
        batch = super().next_batch()
        if batch is not None and b"w000" in batch.frames:
            return replace(batch, frames=batch.frames.replace(b"w000", b"x000"))
        return batch


def test_a_batch_that_is_damaged_here_is_set_aside(device: Device) -> None:
    device.happen(*WORDS[:3])
    outbox = _Damaged(device.store, Config(batch_events=1))

    def check(request: report_pb2.ReportRequest) -> None:
        if hashlib.sha256(request.frames).digest() != request.digest:
            raise RefusedError("BAD_DIGEST")

    log = Log(before=check)
    pump = ReportPump(outbox, log.send, Backoff(0.01, 0.02), 60.0)
    drain(pump)
    assert log.words == WORDS[1:3]
    assert list((device.store.path / "rejected").iterdir())


def test_damage_on_the_way_is_only_repeated(device: Device) -> None:
    device.happen(*WORDS[:3])
    fail = iter([True, True])

    def refuse(_: object) -> None:
        if next(fail, False):
            raise RefusedError("BAD_DIGEST")

    log = Log(before=refuse)
    drain(make_pump(device, log))
    assert log.words == WORDS[:3]
    assert not list((device.store.path / "rejected").iterdir())
