"""What is sent: the same bytes until it is taken, nothing missing that is not declared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_sdk.outbox import lanes
from edge_sdk.outbox.entries import URGENT
from edge_sdk.outbox.eviction import expire, join
from edge_sdk.outbox.frames import FrameKind, iter_frames
from edge_sdk.outbox.lanes import Limits, Segment
from edge_sdk.outbox.queue import Batch, Outbox
from edge_sdk.store import segments
from genome_edge.v1 import event_pb2
from tests.unit.device_desk import FAST, Desk, drain, entry, word


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "store")
    yield made
    made.close()


def test_a_batch_is_the_same_until_it_is_acked(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, batch_events=3))
    for i in range(5):
        desk.say(f"{i}")
    desk.writer.flush(5)
    first = desk.outbox.next_batch()
    for i in range(5, 20):
        desk.say(f"{i}")
    desk.writer.flush(5)
    assert desk.outbox.next_batch() == first
    desk.close()
    desk = Desk(tmp_path / "store", replace(FAST, batch_events=100))  # also after a restart
    assert desk.outbox.next_batch() == first
    assert first is not None
    desk.outbox.ack(first, 3, 3, b"log")
    second = desk.outbox.next_batch()
    assert second is not None
    assert second.first_sequence == 4
    desk.close()


def test_what_is_received_but_not_safe_stays(desk: Desk) -> None:
    for i in range(6):
        desk.say(f"{i}")
    desk.writer.flush(5)
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.ack(batch, 6, 0, b"log")
    assert desk.outbox.next_batch() is None
    assert desk.outbox.unsent() == 0
    desk.outbox.rewind(batch, 0)  # the server lost it
    assert [word(frame) for frame in drain(desk.outbox)] == [f"{i}" for i in range(6)]


def test_another_incarnation_gets_everything_that_is_not_safe(desk: Desk) -> None:
    for i in range(6):
        desk.say(f"{i}")
    desk.writer.flush(5)
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.ack(batch, 6, 2, b"log")
    desk.say("7")
    desk.writer.flush(5)
    later = desk.outbox.next_batch()
    assert later is not None
    desk.outbox.ack(later, 2, 2, b"restored")
    assert [frame.sequence for frame in drain(desk.outbox)] == [3, 4, 5, 6, 7]


def test_what_is_no_longer_here_is_declared(desk: Desk) -> None:
    for i in range(4):
        desk.say(f"{i}")
    desk.writer.flush(5)
    batch = desk.outbox.next_batch()
    assert batch is not None
    drain(desk.outbox)
    desk.outbox.rewind(batch, 1)
    (declared,) = drain(desk.outbox)
    gone = event_pb2.Event.FromString(declared.body).evicted
    assert (gone.first_sequence, gone.last_sequence, gone.reason) == (2, 4, lanes.NO_LONGER_HELD)


def test_a_new_epoch_sends_what_was_not_received(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, batch_events=2))
    said = event_pb2.Interaction(kind="buy").SerializeToString()
    for i in range(5):
        desk.writer.put_durably(entry(f"{i}", imprint=(f"{i}", said)), 5)
    drain(desk.outbox, take=1)
    forked = desk.outbox.next_batch()
    old = desk.store.epoch()
    assert forked is not None
    desk.outbox.forked(forked, 3)
    new = desk.store.epoch()
    assert new != old
    desk.outbox.ack(forked, 4, 4, b"log")  # an answer about the old epoch comes too late
    desk.say("5")
    desk.writer.flush(5)
    batches: list[Batch] = []
    while (batch := desk.outbox.next_batch()) is not None:
        batches.append(batch)
        desk.outbox.ack(batch, batch.last_sequence, batch.last_sequence, b"log")
    frames = [frame for batch in batches for frame in iter_frames(batch.frames)]
    assert {batch.epoch for batch in batches} == {new}
    assert [(frame.sequence, word(frame)) for frame in frames] == [
        (1, "2"), (2, "3"), (3, "4"), (4, "5"),
    ]  # fmt: skip
    # The imprints follow the events that say them.
    assert desk.rows("SELECT id, epoch, sequence FROM pending ORDER BY id") == [
        ("0", old, 1), ("1", old, 2), ("2", new, 1), ("3", new, 2), ("4", new, 3),
    ]  # fmt: skip
    desk.close()


def new_epoch(desk: Desk) -> bytes:
    """The epoch after the fork of what is sent next."""
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.forked(batch, batch.first_sequence)
    return desk.store.epoch()


def test_what_may_still_be_lost_of_an_ended_epoch_is_sent_again_under_it(desk: Desk) -> None:
    for i in range(6):
        desk.say(f"{i}")
    desk.writer.put_durably(entry("urgent", priority=URGENT), 5)
    first, second = desk.outbox.next_batch(), None
    assert first is not None  # the urgent one, in a lane that goes on under the old epoch
    desk.outbox.ack(first, 1, 0, b"log")
    second = desk.outbox.next_batch()
    assert second is not None
    old = second.epoch
    desk.outbox.ack(second, 3, 1, b"log")
    third = desk.outbox.next_batch()
    assert third is not None
    desk.outbox.forked(third, 5)
    new = desk.store.epoch()
    last = desk.outbox.next_batch()  # "4" and "5"
    assert last is not None
    assert (last.epoch, last.first_sequence, last.last_sequence) == (new, 1, 2)
    desk.outbox.ack(last, 2, 0, b"log")
    assert desk.outbox.next_batch() is None
    desk.outbox.heed(b"restored")
    sent: dict[tuple[bytes, int], list[tuple[int, str]]] = {}
    while (batch := desk.outbox.next_batch()) is not None:
        frames = [(frame.sequence, word(frame)) for frame in iter_frames(batch.frames)]
        sent.setdefault((batch.epoch, batch.lane), []).extend(frames)
        desk.outbox.ack(batch, batch.last_sequence, batch.last_sequence, b"restored")
    assert sent == {
        (old, first.lane): [(1, "urgent")],
        (old, second.lane): [(2, "1"), (3, "2"), (4, "3")],
        (new, second.lane): [(1, "4"), (2, "5")],
    }
    assert desk.rows("SELECT count(*) FROM lanes WHERE lane < 0") == [(0,)]  # all is safe


def test_an_ended_epoch_is_asked_about_until_it_is_safe_and_then_it_goes(desk: Desk) -> None:
    for i in range(4):
        desk.say(f"{i}")
    desk.writer.flush(5)
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.forked(batch, 3)  # a copy of this disk has sent what lies below
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.ack(batch, 2, 1, b"log")
    asked = desk.outbox.next_batch()
    assert asked is not None
    assert [word(frame) for frame in iter_frames(asked.frames)] == ["1"]
    desk.outbox.ack(asked, 2, 0, b"log")  # not yet
    assert desk.outbox.next_batch() is None
    desk.say("4")
    desk.writer.flush(5)
    assert [word(frame) for frame in drain(desk.outbox)] == ["4", "1"]
    assert desk.rows("SELECT count(*) FROM lanes WHERE lane < 0") == [(0,)]
    assert desk.rows("SELECT count(*) FROM outbox") == [(0,)]


def test_a_server_says_nothing_about_what_was_not_sent(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, batch_events=2))
    for i in range(5):
        desk.say(f"{i}")
    desk.writer.flush(5)
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.rewind(batch, 10**12)
    later = desk.outbox.next_batch()
    assert later is not None
    assert later.first_sequence == 3
    desk.outbox.forked(later, 10**12)
    # The last one of the epoch that has ended is asked about once more.
    assert [word(frame) for frame in drain(desk.outbox)] == ["4", "3"]
    desk.close()


def test_copies_that_have_the_same_to_send_come_to_the_same_new_epoch(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store")
    desk.say("0")
    desk.say("1")
    desk.close()
    for copy in ("same", "ahead"):
        shutil.copytree(tmp_path / "store", tmp_path / copy)
    desks = {name: Desk(tmp_path / name) for name in ("store", "same", "ahead")}
    first = desks["ahead"].outbox.next_batch()
    assert first is not None
    desks["ahead"].outbox.ack(first, 1, 1, b"log")
    desks["same"].say("2")  # behind what both have
    desks["same"].writer.flush(5)
    epochs = {name: new_epoch(desk) for name, desk in desks.items()}
    assert epochs["store"] == epochs["same"] != epochs["ahead"]
    assert new_epoch(desks["store"]) not in epochs.values()
    for desk in desks.values():
        desk.close()


def test_a_batch_refused_for_good_is_kept_and_declared(desk: Desk) -> None:
    for i in range(3):
        desk.say(f"{i}")
    desk.writer.flush(5)
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.set_aside(batch, "BAD_FRAME")
    desk.say("next")
    desk.writer.flush(5)
    declared, following = drain(desk.outbox)
    gone = event_pb2.Event.FromString(declared.body).evicted
    assert (gone.first_sequence, gone.last_sequence, gone.reason) == (1, 3, lanes.REJECTED)
    assert word(following) == "next"
    (kept,) = (desk.store.path / "rejected").iterdir()
    assert kept.read_bytes() == batch.frames


def test_impressions_go_by_coins_and_it_is_declared(tmp_path: Path) -> None:
    config = replace(FAST, outbox_max_bytes=40_000, batch_events=50)
    desk = Desk(tmp_path / "store", config)
    for i in range(400):
        desk.say("shown" + "." * 100, FrameKind.DECISION)
        if i % 20 == 0:
            desk.say(f"did {i}")
            desk.writer.flush(5)
    desk.writer.flush(5)
    assert desk.number("SELECT n FROM counters WHERE name = 'outbox_bytes'") <= 40_000
    frames = drain(desk.outbox)
    assert [word(f) for f in frames if f.kind == FrameKind.INTERACTION] == [
        f"did {i}" for i in range(0, 400, 20)
    ]
    kept = [f.sequence for f in frames if f.kind == FrameKind.DECISION]
    gone = [
        event_pb2.Event.FromString(f.body).evicted for f in frames if f.kind == FrameKind.EVICTED
    ]
    assert kept
    assert gone
    assert {one.reason for one in gone} == {lanes.OUTBOX_FULL}
    assert max(s for one in gone for s in (one.last_sequence,)) < max(kept), "the newest stay"
    accounted = [f.sequence for f in frames if f.kind != FrameKind.EVICTED]
    for one in gone:
        accounted += range(one.first_sequence, one.last_sequence + 1)
    assert set(accounted) == set(range(1, 421)), "every sequence is there or declared"
    assert len(kept) + sum(one.events for one in gone) == 400
    assert desk.store.losses() == {lanes.OUTBOX_FULL: sum(one.events for one in gone)}
    # Those that stayed stand for those that went.
    weights = dict.fromkeys(kept, 1.0)
    for one in gone:
        for at in range(one.first_sequence, one.last_sequence + 1):
            if at in weights:
                weights[at] = 1 / (1 - one.probability_ppm / 1e6)
    assert 250 < sum(weights.values()) < 550
    desk.close()


def test_coins_flipped_for_one_event_each_are_declared_too(tmp_path: Path) -> None:
    config = replace(FAST, outbox_max_bytes=30_000)
    desk = Desk(tmp_path / "store", config)
    for _ in range(600):
        desk.writer.put_durably(entry("shown" + "." * 100, FrameKind.DECISION), 5)
    frames = drain(desk.outbox)
    kept = {f.sequence: 1.0 for f in frames if f.kind == FrameKind.DECISION}
    for f in frames:
        if f.kind == FrameKind.EVICTED:
            gone = event_pb2.Event.FromString(f.body).evicted
            for at in range(gone.first_sequence, gone.last_sequence + 1):
                if at in kept:
                    assert kept[at] == 1.0, "said once"
                    kept[at] = 1 / (1 - gone.probability_ppm / 1e6)
    assert len(kept) < 250
    assert 450 < sum(kept.values()) < 750
    desk.close()


def test_outcomes_go_last(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, outbox_max_bytes=6_000))
    for i in range(30):
        desk.say(f"outcome {i}" + "." * 50, FrameKind.OUTCOME)
    desk.writer.flush(5)
    for i in range(200):
        desk.say(f"did {i}" + "." * 50)
    desk.writer.flush(5)
    frames = drain(desk.outbox)
    kinds = [f.kind for f in frames]
    assert kinds.count(FrameKind.OUTCOME) == 30
    assert 0 < kinds.count(FrameKind.INTERACTION) < 40
    desk.close()


def test_age_counts_only_while_the_device_is_in_use(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, outbox_max_age_s=10 * 86_400))
    for i in range(30):
        desk.writer.put_durably(entry(f"{i}"), 5)
    day = 86_400_000
    with desk.store.write() as connection:  # a clock that jumped: ten years, at the fifth event
        connection.execute("UPDATE outbox SET at_ms = ? + first * 1000", (20_000 * day,))
        connection.execute("UPDATE outbox SET at_ms = at_ms + ? WHERE first > 5", (3_650 * day,))
        expire(connection, 10 * 86_400, 30_000 * day)
    assert desk.number("SELECT count(*) FROM outbox WHERE bytes > 0") == 30
    with desk.store.write() as connection:  # one event a day for a month
        connection.execute("UPDATE outbox SET at_ms = ? + first * ?", (20_000 * day, day))
        expire(connection, 10 * 86_400, 30_000 * day)
    assert desk.number("SELECT count(*) FROM outbox WHERE bytes > 0") == 11
    frames = drain(desk.outbox)
    assert [word(f) for f in frames if f.kind != FrameKind.EVICTED] == [
        f"{i}" for i in range(19, 30)
    ]
    assert desk.store.losses() == {lanes.TOO_OLD: 19}
    desk.close()


def test_many_small_rows_become_few(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, batch_events=50))
    for i in range(120):
        desk.writer.put_durably(entry(f"{i}"), 5)
    with desk.store.write() as connection:
        join(connection, Limits(50, 100_000))
    assert desk.number("SELECT count(*) FROM outbox") == 3
    assert [word(f) for f in drain(desk.outbox)] == [f"{i}" for i in range(120)]
    desk.close()


def test_what_was_handed_out_is_not_given_up(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, outbox_max_bytes=5_000, batch_events=10))
    for _ in range(10):
        desk.say("x" * 100, FrameKind.DECISION)
    desk.writer.flush(5)
    batch = desk.outbox.next_batch()
    for _ in range(200):
        desk.say("x" * 100, FrameKind.DECISION)
    desk.writer.flush(5)
    assert desk.outbox.next_batch() == batch
    desk.close()


def test_a_long_absence_leaves_few_rows(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, outbox_max_bytes=10_000))
    for _ in range(300):
        desk.say("x" * 100, FrameKind.DECISION)
        desk.writer.flush(5)
    assert desk.number("SELECT count(*) FROM outbox") < 100  # by the coins some 18, at times 40
    desk.close()


def test_consents_and_redemptions_are_kept_longest(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, outbox_max_bytes=3_000))
    desk.say("consent", FrameKind.CONSENT)
    desk.say("ride", FrameKind.OUTCOME, priority=URGENT)
    for i in range(200):
        desk.say(f"did {i}" + "." * 50)
    desk.writer.flush(5)
    kept = [word(frame) for frame in drain(desk.outbox)]
    assert {"consent", "ride"} <= set(kept)
    desk.close()


def test_how_a_copy_keeps_its_rows_says_nothing_about_its_new_epoch(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store")
    for i in range(3):
        desk.writer.put_durably(entry(f"{i}"), 5)
    desk.close()
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    desks = [Desk(tmp_path / name) for name in ("store", "copy")]
    with desks[1].store.write() as connection:
        join(connection, Limits(500, 1 << 18))
    for desk in desks:
        batch = desk.outbox.next_batch()
        assert batch is not None
        desk.outbox.forked(batch, 2)
    assert desks[0].store.epoch() == desks[1].store.epoch()
    for desk in desks:
        desk.close()


def test_an_event_that_reaches_the_disk_meanwhile_is_not_overlooked(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, group_commit_s=5.0))

    def written_while_one_looks() -> int:
        desk.writer.flush(5)
        return desk.writer.waiting()

    desk.outbox.in_memory = written_while_one_looks
    desk.say("a")
    assert desk.outbox.unsent() == 1
    desk.close()


def test_a_batch_costs_the_same_however_much_waits_behind_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(300):  # each a commit of its own
        desk.writer.put_durably(entry(f"{i}"), 5)
    read: list[object] = []
    real = segments._segment

    def seen(row: tuple[object, ...]) -> Segment:
        read.append(row)
        return real(row)

    monkeypatch.setattr(segments, "_segment", seen)
    outbox = Outbox(desk.store, replace(FAST, batch_events=10))
    for already in range(0, 300, 10):
        batch = outbox.next_batch()
        assert batch is not None
        assert (batch.first_sequence, batch.last_sequence) == (already + 1, already + 10)
        outbox.ack(batch, batch.last_sequence, already, b"log")
    assert len(read) <= 30 * 22  # ten to cut at, one behind them, and the ten again
