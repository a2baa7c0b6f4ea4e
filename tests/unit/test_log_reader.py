"""Reading by offset, and finding out what is damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from genome_server.log import Committer, LogReader, verify_log
from tests.unit.test_log_committer import EPOCH, append, run
from tests.unit.test_log_framing import frame


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log.sqlite"
    with Committer(path, now_ms=lambda: 77) as log:
        append(log, 1, 10)
        append(log, 1, 5, device="e")
        append(log, 11, 200, device="d")
        append(log, 6, 6, frame(6, 3, b"other"), device="e")
    return path


def test_offsets_count_events(path: Path) -> None:
    with LogReader(path) as reader:
        batches = list(reader.batches())
        assert [(b.offset, b.count, b.next_offset) for b in batches] == [
            (0, 10, 10), (10, 5, 15), (15, 190, 205), (205, 1, 206),
        ]  # fmt: skip
        assert reader.end() == 206
        frames = list(reader.frames())
        assert [f.offset for f in frames] == list(range(206))
        assert frames[12]._asdict() == {
            "offset": 12, "device": "e", "epoch": EPOCH, "lane": 0, "sequence": 3,
            "subject": bytes(16), "kind": 2, "time_ms": 7, "received_ms": 77, "body": b"event 3",
        }  # fmt: skip


def test_a_consumer_goes_on_where_it_was(path: Path) -> None:
    with LogReader(path) as reader:
        assert [b.offset for b in reader.batches(10)] == [10, 15, 205]
        assert [b.offset for b in reader.batches(0, max_events=11)] == [0, 10]
        assert [b.offset for b in reader.batches(0, max_events=1)] == [0]
        assert [b.offset for b in reader.batches(0, stop=15)] == [0, 10]
        assert list(reader.batches(206)) == []
        with pytest.raises(ValueError, match="inside the batch at 15"):
            list(reader.batches(16))


def test_only_the_kinds_that_were_asked_for(path: Path) -> None:
    with LogReader(path) as reader:
        assert [(f.offset, f.body) for f in reader.frames(kinds={3})] == [(205, b"other")]


def test_who_reads_some_kinds_passes_over_batches_without(path: Path) -> None:
    with LogReader(path) as reader:
        assert [b.offset for b in reader.batches() if b.holds({3, 99})] == [205]
        brief = list(reader.batches(kinds={3, 99}))
        assert [(b.offset, b.count, bool(b.raw)) for b in brief] == [
            (0, 10, False), (10, 5, False), (15, 190, False), (205, 1, True),
        ]  # fmt: skip
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batches SET kinds = 4")  # kind 2 alone
    with LogReader(path) as reader:
        assert list(reader.frames(kinds={3})) == []
        assert len(list(reader.frames())) == 206
    (fault,) = verify_log(path).faults
    assert fault.offset == 205
    assert "kinds" in fault.message


def test_a_log_of_the_earlier_format_is_read_and_grows(path: Path) -> None:
    with LogReader(path) as reader:
        before = list(reader.frames())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE batches DROP COLUMN kinds")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (b"1",))
    with LogReader(path) as reader:
        assert list(reader.frames()) == before
        assert [f.offset for f in reader.frames(kinds={3})] == [205]
        assert all(b.raw for b in reader.batches(kinds={3})), "nobody knows what they hold"
        with Committer(path) as log:  # adds the kinds, while somebody reads
            append(log, 201, 201, device="d")
        assert len(list(reader.frames())) == 207
    assert verify_log(path).whole
    with LogReader(path) as reader:
        assert [b.offset for b in reader.batches() if b.holds({3})] == [0, 10, 15, 205]
        assert [f.offset for f in reader.frames(kinds={3})] == [205]


def test_lanes(path: Path) -> None:
    with LogReader(path) as reader:
        assert reader.lanes() == [("d", EPOCH, 0, 200), ("e", EPOCH, 0, 6)]
        assert reader.device_lanes("e") == [(EPOCH, 0, 6)]
        assert [b.first for b in reader.device_batches("d", EPOCH, 0)] == [1, 11]


def test_pages_join(tmp_path: Path) -> None:
    path = tmp_path / "many.sqlite"
    with Committer(path) as log:
        for i in range(1, 151):
            append(log, i, i)
    with LogReader(path) as reader:
        assert [b.first for b in reader.batches()] == list(range(1, 151))
        assert [b.first for b in reader.device_batches("d", EPOCH, 0)] == list(range(1, 151))


def test_a_whole_log_is_found_whole(path: Path) -> None:
    found = verify_log(path)
    assert found.whole
    assert (found.batches, found.events, found.lanes, found.erased) == (4, 206, 2, 0)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE batches SET frames = substr(frames, 1, 40) WHERE offset = 0", "cut off"),
        ("UPDATE batches SET digest = zeroblob(32) WHERE offset = 10", "digest"),
        ("UPDATE batches SET count = 9 WHERE offset = 0", "offset 10 where 9 is due"),
        ("DELETE FROM batches WHERE offset = 15", "mark 200, rows end at 10"),
        ("DELETE FROM batches WHERE offset = 0", "starts at sequence 11 where 1 is due"),
        ("UPDATE lanes SET through = 201 WHERE device = 'd'", "mark 201, rows end at 200"),
        ("DELETE FROM lanes WHERE device = 'e'", "mark 0, rows end at 6"),
        ("UPDATE batches SET last = 7 WHERE offset = 205", "do not rise to 7"),
    ],
)
def test_damage_is_found(path: Path, damage: str, expected: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    faults = [fault.message for fault in verify_log(path).faults]
    assert any(expected in fault for fault in faults), faults


def test_a_hole_that_nobody_declared_is_found(path: Path) -> None:
    frames = run(1, 3) + run(5, 10)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE batches SET frames = ?, count = 9 WHERE offset = 0", (frames,))
    connection.commit()
    connection.close()
    faults = [fault.message for fault in verify_log(path).faults]
    assert "1 sequences are neither here nor declared as given up" in faults
