"""What was acknowledged is on disk, once, in order; killed or full, nothing else is said."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from edge_sdk.config import Config
from edge_sdk.engine.caps import CapRow
from edge_sdk.errors import DiskFull, StoreError
from edge_sdk.outbox import lanes
from edge_sdk.outbox.entries import DUPLICATE, LOST, URGENT, WRITTEN, Entry
from edge_sdk.outbox.frames import FrameKind, iter_frames
from edge_sdk.store.state import read_caps, read_pending
from genome_edge.v1 import event_pb2
from tests.unit.device_desk import FAST, SOMEBODY, Desk, drain, entry, word
from tests.unit.device_town import until


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "store")
    yield made
    made.close()


def test_events_come_out_in_order_and_without_gaps(desk: Desk) -> None:
    for i in range(2_000):
        desk.say(f"{i}")
    assert desk.outbox.unsent() == 2_000
    assert desk.writer.flush(10)
    frames = drain(desk.outbox)
    assert [word(frame) for frame in frames] == [f"{i}" for i in range(2_000)]
    assert [frame.sequence for frame in frames] == list(range(1, 2_001))
    assert desk.outbox.unsent() == 0
    assert desk.rows("SELECT count(*) FROM outbox") == [(0,)]


def test_a_group_is_on_disk_within_fifty_milliseconds(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", Config())
    desk.say("warm")
    desk.writer.flush(5)
    began = time.monotonic()
    desk.say("a")
    until(lambda: desk.rows("SELECT next FROM lanes WHERE lane = 1") == [(3,)])
    assert time.monotonic() - began < 0.25  # 30 ms and what a busy machine adds
    desk.close()


def test_redemptions_do_not_wait_behind_impressions(desk: Desk) -> None:
    for i in range(1_200):
        desk.say(f"{i}", FrameKind.DECISION)
    desk.say("ride", FrameKind.OUTCOME, priority=URGENT)
    desk.writer.flush(10)
    batch = desk.outbox.next_batch()
    assert batch is not None
    assert [word(frame) for frame in iter_frames(batch.frames)] == ["ride"]


def test_who_waits_does_not_wait_behind_everything_that_came_before(desk: Desk) -> None:
    for i in range(30_000):
        desk.say(f"{i}", FrameKind.DECISION)
    assert desk.writer.put_durably(entry("ride", FrameKind.OUTCOME), 30) == WRITTEN
    assert desk.writer.waiting() > 10_000
    assert desk.writer.flush(60)
    assert desk.rows("SELECT next FROM lanes WHERE lane = 1") == [(30_002,)]


def test_two_writers_have_lanes_of_their_own(tmp_path: Path) -> None:
    one, two = Desk(tmp_path / "store"), Desk(tmp_path / "store")
    assert not set(one.writer.lanes) & set(two.writer.lanes)
    threads = [
        threading.Thread(target=lambda d=d: [d.say(f"{i}") for i in range(500)]) for d in (one, two)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.writer.flush(5)
    two.writer.flush(5)
    first = one.writer.lanes
    one.close()
    frames = drain(two.outbox)
    assert len(frames) == 1_000
    assert sorted(frame.sequence for frame in frames) == sorted([*range(1, 501)] * 2)
    three = Desk(tmp_path / "store")  # lanes of one that is gone are used again, and go on
    assert three.writer.lanes == first
    three.say("next")
    three.writer.flush(5)
    assert [frame.sequence for frame in drain(three.outbox)] == [501]
    two.close()
    three.close()


def test_the_same_event_twice_is_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store")
    outcomes: list[str] = []
    for _ in range(2):
        desk.say("a", event_id=b"e" * 16, settled=outcomes.append)
    assert desk.writer.put_durably(entry("a", event_id=b"e" * 16), 5) == DUPLICATE
    assert outcomes == [WRITTEN, DUPLICATE]
    desk.close()
    desk = Desk(tmp_path / "store")  # also later, elsewhere
    assert desk.writer.put_durably(entry("a", event_id=b"e" * 16), 5) == DUPLICATE
    assert len(drain(desk.outbox)) == 1
    desk.close()


def test_a_guard_has_the_last_word(desk: Desk) -> None:
    assert desk.writer.put_durably(entry("a", guard=lambda _: "NO"), 5) == "NO"
    assert desk.outbox.next_batch() is None


def test_what_goes_with_an_event_is_in_its_transaction(desk: Desk) -> None:
    caps = (CapRow(SOMEBODY, "taxi", "view", 5),)
    said = event_pb2.Interaction(kind="buy", product="poems")
    desk.writer.put_durably(
        entry("a", caps=caps, imprint=("i", said.SerializeToString()), consent=(1, False)), 5
    )
    with desk.store.read() as connection:
        assert read_caps(connection)[0] == list(caps)
        (pending,) = read_pending(connection)
    assert (pending.id, pending.subject, pending.interaction) == ("i", SOMEBODY, said)
    marked = desk.rows("SELECT epoch, lane, sequence FROM pending")
    assert marked == desk.rows("SELECT epoch, lane, sequence FROM consents")
    assert marked == [(desk.store.epoch(), desk.writer.lanes[1], 1)]


def test_an_event_that_cannot_be_encoded_keeps_no_other_from_disk(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> tuple[bytes, bytes]:
        raise RuntimeError("no")

    desk.writer.put(Entry(FrameKind.OUTCOME, SOMEBODY, 1, broken))
    desk.writer.put(replace(entry("a"), subject=b"short"))
    desk.say("b")
    desk.writer.flush(5)
    assert [word(frame) for frame in drain(desk.outbox) if frame.kind != FrameKind.EVICTED] == ["b"]
    assert "could not be encoded" in caplog.text
    assert desk.store.losses() == {"UNWRITABLE": 2}, "what is lost is declared"
    with pytest.raises(StoreError):
        desk.writer.put_durably(Entry(FrameKind.OUTCOME, SOMEBODY, 1, broken), 5)


def test_many_events_do_not_wait_for_a_turn_each(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []
    monkeypatch.setattr("edge_sdk.outbox.writer.time.sleep", turns.append)
    group = [entry(str(number)) for number in range(2_000)]
    assert len(desk.writer._prepare(group)) == 2_000
    assert len(turns) <= 51, "each takes milliseconds where many threads are busy"


# A full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(ballast: Path) -> None:
    """Write until no room is left."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_is_said_and_overcome(small_disk: Path) -> None:
    desk = Desk(small_disk / "store")
    assert desk.writer.put_durably(entry("before"), 5) == WRITTEN
    ballast = small_disk / "ballast"
    fill(ballast)
    with pytest.raises(DiskFull):
        desk.writer.put_durably(entry("refused", settled=lambda _: None), 5)
    desk.say("kept")
    assert not desk.writer.flush(0.2)
    trouble = desk.writer.trouble
    assert isinstance(trouble, DiskFull)
    assert desk.outbox.unsent() == 2
    ballast.unlink()
    assert desk.writer.flush(10)
    assert desk.writer.trouble is None
    # What was refused to the caller did not happen; what was only said did.
    assert [word(frame) for frame in drain(desk.outbox)] == ["before", "kept"]
    desk.close()


FILE_LIMIT = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.unit.device_desk import Desk, entry
from edge_sdk.errors import DiskFull
desk = Desk(Path({store!r}))
size = (Path({store!r}) / "edge.sqlite-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
try:
    for i in range(10_000):
        desk.writer.put_durably(entry("x" * 200), 5)
except DiskFull:
    print("disk full")
"""


def test_a_limit_on_file_size_is_a_full_disk(tmp_path: Path) -> None:
    script = FILE_LIMIT.format(root=str(Path(__file__).parents[2]), store=str(tmp_path / "store"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "disk full\n", done.stderr


@contextlib.contextmanager
def stuck(desk: Desk) -> Iterator[None]:
    """Nobody else can write for a while."""
    with desk.store.write() as connection:
        connection.execute("PRAGMA busy_timeout = 1")
        for pooled in desk.store.database._pool:
            pooled.execute("PRAGMA busy_timeout = 1")
        impatient = sqlite3.connect(
            desk.store.path / "edge.sqlite",
            timeout=0.001,
            isolation_level=None,
            check_same_thread=False,
        )
        desk.store.database._pool.append(impatient)
        yield


def test_memory_is_bounded_while_the_disk_takes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, inbox_max_events=400))
    settled: list[str] = []
    with stuck(desk):
        for i in range(2_000):
            desk.say(f"shown {i}", FrameKind.DECISION)
            assert desk.writer.waiting() <= 400
            if i % 50 == 0:
                until(lambda: desk.writer.inbox.reason == lanes.DISK_FULL)
        for i in range(600):
            desk.say(f"did {i}", settled=settled.append)
            assert desk.writer.waiting() <= 400
    desk.writer.flush(10)
    frames = drain(desk.outbox)
    gone = [event_pb2.Event.FromString(f.body).evicted for f in frames if f.kind == 6]
    kept = [f for f in frames if f.kind == FrameKind.DECISION]
    did = [f for f in frames if f.kind == FrameKind.INTERACTION]
    assert len(kept) + len(did) + sum(one.events for one in gone) == 2_600
    assert kept
    assert did
    assert settled.count(LOST) == 600 - len(did)
    assert sum(desk.store.losses().values()) == 2_600 - len(kept) - len(did)
    assert set(desk.store.losses()) <= {lanes.DISK_FULL, lanes.INBOX_FULL}
    desk.close()


def test_an_app_that_decides_faster_than_the_disk_takes_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, inbox_max_events=300))
    longest = 0
    for i in range(20_000):
        desk.say(f"shown {i}", FrameKind.DECISION)
        longest = max(longest, desk.writer.waiting())
    assert longest <= 300
    assert desk.writer.put_durably(entry("ride", FrameKind.OUTCOME), 10) == WRITTEN
    desk.writer.flush(20)
    frames = drain(desk.outbox)
    weights = {f.sequence: 1.0 for f in frames if f.kind == FrameKind.DECISION}
    certain = 0
    for f in frames:
        if f.kind == FrameKind.EVICTED:
            gone = event_pb2.Event.FromString(f.body).evicted
            certain += 0 if gone.probability_ppm else gone.events
            for at in range(gone.first_sequence, gone.last_sequence + 1):
                if at in weights:
                    weights[at] = 1 / (1 - gone.probability_ppm / 1e6)
    assert len(weights) < 20_000
    assert sum(desk.store.losses().values()) == 20_000 - len(weights)
    # All but those that nothing stood for are stood for.
    assert abs(sum(weights.values()) + certain - 20_000) < 4_000
    desk.close()


@pytest.mark.parametrize("full", [False, True])
def test_the_bound_holds_whoever_puts_and_whenever_one_looks(tmp_path: Path, full: bool) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, inbox_max_events=50))
    if full:
        desk.store.write = no_room  # type: ignore[method-assign]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    seen: list[int] = []

    def say() -> None:
        for i in range(1_500):
            desk.say(f"ordinary {i}")
            seen.append(desk.writer.waiting())

    threads = [threading.Thread(target=say) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert 0 <= min(seen) <= max(seen) <= 50
    if full:
        assert not desk.writer.close(1)
        desk.store.close()
        return
    assert desk.writer.flush(10)
    assert desk.writer.waiting() == 0
    lost = sum(desk.store.losses().values())
    assert desk.number("SELECT max(next) - 1 FROM lanes") == 6_000
    kept = [frame for frame in drain(desk.outbox) if frame.kind == FrameKind.INTERACTION]
    assert len(kept) + lost == 6_000
    desk.close()


def no_room() -> NoReturn:
    raise DiskFull("no room")


# Killed ----------------------------------------------------------------------------------------


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.unit.device_desk import Desk, entry
desk = Desk(Path({store!r}))
i = 0
while True:
    desk.say(f"ordinary {{i}}")
    desk.writer.put_durably(entry(f"durable {{i}}"), 5)
    print(i, flush=True)
    i += 1
"""


@pytest.mark.parametrize("round_", range(3))
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, round_: int) -> None:
    root, store = str(Path(__file__).parents[2]), tmp_path / "store"
    script = KILLED.format(root=root, store=str(store))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(20 + 13 * round_):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = [int(line) for line in process.stdout if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    newest = max(acknowledged, default=19 + 13 * round_)
    desk = Desk(store)
    assert desk.store.incident is None
    frames = drain(desk.outbox)
    words = [word(frame) for frame in frames]
    assert [w for w in words if w.startswith("durable")][: newest + 1] == [
        f"durable {i}" for i in range(newest + 1)
    ]
    assert len(set(words)) == len(words)
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1))
    desk.close()


@pytest.mark.parametrize("always", [False, True])
def test_a_flush_after_losses_ends_beside_an_app_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, inbox_max_events=20))
    write, commit, commits = desk.store.write, desk.writer._commit, itertools.count()
    desk.store.write = no_room  # type: ignore[method-assign]
    for number in range(200):
        desk.say(f"{number}")

    def meanwhile(group: list[Entry]) -> Any:
        if desk.writer.inbox.barriers and (next(commits) == 0 or always):
            desk.say("meanwhile")
        return commit(group)

    monkeypatch.setattr(desk.writer, "_commit", meanwhile)
    threading.Timer(0.3, lambda: setattr(desk.store, "write", write)).start()
    assert desk.writer.flush(10)
    monkeypatch.undo()
    desk.say("one more")
    assert desk.writer.flush(10)
    assert desk.writer.waiting() == 0
    assert sum(desk.store.losses().values()) > 0
    assert not desk.writer.inbox.lost()
    desk.close()


def test_who_waits_is_no_event(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, write = threading.Event(), desk.store.write

    def slow() -> Any:
        goes_on.wait(20)
        return write()

    monkeypatch.setattr(desk.store, "write", slow)
    desk.say("a")
    for _ in range(3):
        assert not desk.writer.flush(0.05)
    assert desk.writer.waiting() == 1
    goes_on.set()
    assert desk.writer.flush(10)
    assert desk.writer.waiting() == 0
