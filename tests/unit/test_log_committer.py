"""Exactly once: whatever is repeated, cut, reordered or forked."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.outbox.frames import FrameKind
from genome_server.log import (
    SERVER,
    Appended,
    Batch,
    BatchRefusedError,
    Committer,
    Kept,
    LogClosedError,
    LogReader,
    OwnEvent,
    verify_log,
)
from genome_server.log.schema import LogFormatError
from tests.unit.test_log_framing import evicted, frame

EPOCH = b"e" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[Committer]:
    with Committer(path) as committer:
        yield committer


def body(sequence: int, tag: str = "") -> bytes:
    return f"event {sequence}{tag}".encode()


def run(first: int, last: int, tag: str = "") -> bytes:
    return b"".join(frame(i, body=body(i, tag)) for i in range(first, last + 1))


def append(
    log: Committer, first: int, last: int, frames: bytes | None = None, lane: int = 0,
    device: str = "d",
) -> Appended:  # fmt: skip
    data = run(first, last) if frames is None else frames
    return log.append_batch(device, EPOCH, lane, first, last, data, hashlib.sha256(data).digest())


def sequences(path: Path, device: str = "d", lane: int = 0) -> list[int]:
    with LogReader(path) as reader:
        return [f.sequence for f in reader.frames() if (f.device, f.lane) == (device, lane)]


def whole(path: Path) -> bool:
    return verify_log(path).whole


def test_marks_move_with_what_is_on_disk(log: Committer, path: Path) -> None:
    assert append(log, 1, 3) == (3, 3)
    assert append(log, 4, 4) == (4, 4)
    assert append(log, 1, 1, lane=1) == (1, 1)
    with LogReader(path) as reader:
        assert reader.through("d", EPOCH, 0) == 4
        assert reader.through("d", EPOCH, 1) == 1
        assert reader.through("d", bytes(16), 0) == 0
        assert reader.end() == 5
    assert whole(path)


def test_a_repetition_is_answered_like_the_first_time(log: Committer, path: Path) -> None:
    append(log, 1, 5)
    assert append(log, 1, 5) == (5, 5)
    assert append(log, 2, 4) == (5, 5)
    append(log, 6, 8)
    assert append(log, 3, 7) == (8, 8)
    assert sequences(path) == list(range(1, 9))


def test_the_new_tail_of_an_overlap_is_taken(log: Committer, path: Path) -> None:
    append(log, 1, 5)
    assert append(log, 3, 9) == (9, 9)
    assert sequences(path) == list(range(1, 10))
    assert append(log, 6, 9) == (9, 9)
    assert whole(path)


def test_an_overlap_with_another_content_is_a_fork(log: Committer, path: Path) -> None:
    append(log, 1, 5)
    for first, last in ((1, 5), (4, 8), (5, 5)):
        with pytest.raises(BatchRefusedError) as caught:
            append(log, first, last, run(first, last, " but not here"))
        assert caught.value.reason == "FORKED_EPOCH"
    partly = run(3, 4) + run(5, 5, "!") + run(6, 6)
    with pytest.raises(BatchRefusedError) as caught:
        append(log, 3, 6, partly)
    assert caught.value.facts == {"sequence": "5"}
    assert sequences(path) == [1, 2, 3, 4, 5]


def test_a_device_that_knows_another_log_is_told_which_this_is(log: Committer, path: Path) -> None:
    frames = run(1, 2)
    digest = hashlib.sha256(frames).digest()
    batch = Batch("d", EPOCH, 0, 1, 2, frames, digest, b"another log 1234")
    with pytest.raises(BatchRefusedError) as caught:
        log.submit(batch).result(5)
    assert caught.value.reason == "LOG_CHANGED"
    assert caught.value.facts == {"incarnation": log.incarnation.hex()}
    assert log.submit(replace(batch, known=log.incarnation)).result(5).received_through == 2
    assert whole(path)


def test_a_gap_says_what_is_due(log: Committer, path: Path) -> None:
    append(log, 1, 2)
    with pytest.raises(BatchRefusedError) as caught:
        append(log, 4, 5)
    assert (caught.value.reason, caught.value.facts) == ("SEQUENCE_GAP", {"expected": "3"})
    assert append(log, 3, 5) == (5, 5)
    assert whole(path)


def test_a_declared_hole_is_bridged_and_counted(log: Committer, path: Path) -> None:
    append(log, 1, 2)
    in_place = evicted(6, 3, 6) + run(7, 8)
    assert append(log, 3, 8, in_place) == (8, 8)
    late = run(21, 21) + evicted(22, 9, 20)  # declared behind what comes after it
    assert append(log, 21, 22, late) == (22, 22)
    assert append(log, 21, 22, late) == (22, 22)
    with pytest.raises(BatchRefusedError):
        append(log, 31, 32, run(31, 31) + evicted(32, 24, 30))
    assert sequences(path) == [1, 2, 6, 7, 8, 21, 22]
    found = verify_log(path)
    assert (found.whole, found.given_up) == (True, 3 + 12)


def test_what_arrived_before_it_was_given_up_is_no_fork(log: Committer, path: Path) -> None:
    append(log, 1, 5)
    assert append(log, 3, 8, evicted(7, 3, 7) + run(8, 8)) == (8, 8)
    tombstones = frame(4, FrameKind.TOMBSTONE, b"") + run(5, 9)
    with pytest.raises(BatchRefusedError) as caught:  # 6 was given up, and now it is here
        append(log, 4, 9, tombstones)
    assert caught.value.reason == "FORKED_EPOCH"
    assert sequences(path) == [1, 2, 3, 4, 5, 7, 8]
    assert whole(path)


def test_an_erased_event_repeats_as_itself(log: Committer, path: Path) -> None:
    append(log, 1, 3)
    log.close()
    with sqlite3.connect(path) as connection:
        erased = run(1, 1) + frame(2, FrameKind.TOMBSTONE, b"") + run(3, 3)
        connection.execute("UPDATE batches SET frames = ?, kinds = kinds | 1", (erased,))
    connection.close()
    with Committer(path) as again:
        assert append(again, 1, 3) == (3, 3)
        assert append(again, 2, 4) == (4, 4)
    found = verify_log(path)
    assert (found.whole, found.erased) == (True, 1)


def test_a_log_is_known_by_its_incarnation(path: Path) -> None:
    with Committer(path) as one:
        first = one.incarnation
    with Committer(path) as two, LogReader(path) as reader:
        assert first == two.incarnation == reader.incarnation
    with Committer(path.with_name("other.sqlite")) as other:
        assert other.incarnation != first


def test_a_replica_holds_the_second_mark_back(path: Path) -> None:
    class Behind:
        def through(self, device: str, epoch: bytes, lane: int) -> int:
            assert (device, epoch, lane) == ("d", EPOCH, 0)
            return 2

    with Committer(path, replica=lambda _: Behind()) as log:
        assert append(log, 1, 5) == (5, 2)
        assert append(log, 1, 1) == (5, 2)


def test_two_committers_share_a_log(path: Path) -> None:
    with Committer(path) as one, Committer(path) as two:
        for i in range(1, 21):
            append(one if i % 2 else two, i, i)
        append(two, 1, 3, device="import")
    assert sequences(path) == list(range(1, 21))
    assert whole(path)


def test_what_a_committer_knows_of_a_lane_ends_where_another_one_writes(path: Path) -> None:
    with Committer(path) as one, Committer(path) as other:
        append(one, 1, 3)
        append(other, 4, 6)
        append(one, 7, 8)
        assert append(one, 5, 9) == (9, 9)
        append(other, 10, 10)
    assert sequences(path) == list(range(1, 11))


def test_many_at_once_become_few_transactions(path: Path) -> None:
    commits: list[int] = []
    with Committer(path, on_commit=commits.append) as log:
        gate = threading.Event()
        log.record([])  # the first transaction holds the thread up for a moment
        futures = []
        for i in range(200):
            data = run(1, 5)
            digest = hashlib.sha256(data).digest()
            futures.append(log.submit(Batch(f"d{i}", EPOCH, 0, 1, 5, data, digest)))
        gate.set()
        assert {f.result(10) for f in futures} == {(5, 5)}
    assert commits[-1] == 1000
    assert len(commits) < 100
    assert whole(path)


def test_groups_gather_for_a_moment_and_who_is_alone_never_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("genome_server.log.committer.time.sleep", waits.append)
    with Committer(path) as log:
        for sequence in range(1, 30):
            append(log, sequence, sequence)
        assert not waits
        data = run(1, 1)
        digest = hashlib.sha256(data).digest()
        futures = [log.submit(Batch(f"d{n}", EPOCH, 0, 1, 1, data, digest)) for n in range(500)]
        assert all(future.result().received_through == 1 for future in futures)
    assert all(0 < wait <= 0.002 for wait in waits)


def test_a_refusal_does_not_touch_its_neighbours(path: Path) -> None:
    with Committer(path) as log:

        def batch(first: int, last: int, tag: str = "") -> Batch:
            data = run(first, last, tag)
            return Batch("d", EPOCH, 0, first, last, data, hashlib.sha256(data).digest())

        good = log.submit(batch(1, 2))
        fork = log.submit(batch(2, 3, "!"))
        more = log.submit(batch(3, 4))
        assert good.result(5) == (2, 2)
        assert isinstance(fork.exception(5), BatchRefusedError)
        assert more.result(5) == (4, 4)
    assert sequences(path) == [1, 2, 3, 4]


def test_a_caller_who_went_away_does_not_stop_the_rest(log: Committer, path: Path) -> None:
    data = run(1, 1)
    for _ in range(50):
        log.submit(Batch("gone", EPOCH, 0, 1, 1, data, hashlib.sha256(data).digest())).cancel()
    assert append(log, 1, 1) == (1, 1)


def test_nothing_is_acknowledged_when_the_disk_fails(path: Path) -> None:
    with Committer(path) as log:
        append(log, 1, 1)
        log._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(sqlite3.OperationalError):
            append(log, 2, 2)
        log._connection.execute("PRAGMA query_only = OFF")
        assert append(log, 2, 2) == (2, 2)
    assert sequences(path) == [1, 2]


def test_what_was_not_written_is_not_taken_for_known(log: Committer, path: Path) -> None:
    append(log, 1, 2)
    log._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(sqlite3.OperationalError):
        append(log, 3, 4)
    log._connection.execute("PRAGMA query_only = OFF")
    with pytest.raises(BatchRefusedError, match="sequence 3 is due"):
        append(log, 5, 6)
    append(log, 3, 4)
    assert sequences(path) == [1, 2, 3, 4]


def test_a_closed_log_takes_nothing(path: Path) -> None:
    log = Committer(path)
    log.close()
    log.close()
    with pytest.raises(LogClosedError):
        append(log, 1, 1)


def test_another_file_is_not_mistaken_for_a_log(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB)")
        connection.execute("INSERT INTO meta VALUES ('format', x'39')")
    connection.close()
    with pytest.raises(LogFormatError):
        Committer(other)
    with pytest.raises(FileNotFoundError):
        LogReader(tmp_path / "none.sqlite")


def test_own_events_get_their_sequences_here(log: Committer, path: Path) -> None:
    event = OwnEvent(b"s" * 16, 2, 99, b"decided")
    assert log.record([event, event]).result(5) is None
    append(log, 1, 1)
    assert log.record([event]).result(5) is None
    with LogReader(path) as reader:
        own = [f for f in reader.frames() if f.device == SERVER]
        assert [(f.epoch, f.lane, f.sequence) for f in own] == [
            (log.incarnation, 0, i) for i in (1, 2, 3)
        ]
        assert own[0].body == b"decided"
        batches = list(reader.device_batches(SERVER, log.incarnation, 0))
        assert [(b.first, b.last) for b in batches] == [(1, 2), (3, 3)]
    assert whole(path)


def test_once_gives_the_first_answer_again(path: Path) -> None:
    clock = [1_000]
    with Committer(path, now_ms=lambda: clock[0]) as log:
        event = OwnEvent(bytes(16), 2, 0, b"")

        def ask(answer: bytes) -> bytes | None:
            return log.record([event], [Kept(b"k", answer, bytes(16), 2_000)], b"k").result(5)

        assert ask(b"first") is None
        assert ask(b"second") == b"first"
        with LogReader(path) as reader:
            assert reader.end() == 1
            assert reader.kept(b"k", 1_999) == (b"first", bytes(16))
            assert reader.kept(b"k", 2_000) is None
        clock[0] = 2_000
        assert ask(b"third") is None
        assert ask(b"fourth") is None  # kept only until a moment that has passed
        clock[0] = 1_500
        assert ask(b"fifth") == b"fourth"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cut_and_order_of_batches_ends_in_every_event_once(data: st.DataObject) -> None:
    last = data.draw(st.integers(1, 30))
    pieces = data.draw(
        st.lists(st.tuples(st.integers(1, last), st.integers(1, last)).map(sorted), max_size=30)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.sqlite"
        with Committer(path) as log:
            through = 0
            for first, end in [*pieces, [1, last]]:
                if first > through + 1:
                    with pytest.raises(BatchRefusedError):
                        append(log, first, end)
                else:
                    through = max(through, end)
                    assert append(log, first, end) == (through, through)
        with LogReader(path) as reader:
            bodies = [f.body for f in reader.frames()]
        assert bodies == [body(i) for i in range(1, last + 1)]
        assert whole(path)
