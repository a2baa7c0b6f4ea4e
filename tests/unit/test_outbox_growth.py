"""What a device does all the time costs the same however much waits in its outbox."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from edge_sdk.outbox.eviction import Without, evict, expire, join
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from edge_sdk.outbox.lanes import Limits, Segment
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store import segments
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.lane_rows import lane_row, new_lane, put_lane
from tests.unit.device_desk import FAST, Desk, entry

NOW, BYTES = 1_700_000_000_000, 100
LANE = 1
KINDS = (
    FrameKind.INTERACTION,
    FrameKind.DECISION,
    FrameKind.OUTCOME,
    FrameKind.CONSENT,
    77,  # of an SDK to come
)


def add(connection: sqlite3.Connection, kinds: Sequence[int], lane: int = LANE) -> None:
    """Events of these kinds, each in a row of its own."""
    row = lane_row(connection, lane) or new_lane(connection, lane)
    for sequence, kind in enumerate(kinds, start=row.next):
        frame = Frame(sequence, b"s" * 16, kind, NOW, bytes(BYTES - 38))
        at_ms = NOW + sequence
        frames = encode_frame(frame)
        segments.write_segment(connection, lane, Segment(sequence, sequence, at_ms, frames))
    put_lane(connection, row._replace(next=row.next + len(kinds)))


def steps(connection: sqlite3.Connection, work: Callable[[], object]) -> int:
    """How many steps SQLite takes for it."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 1)
    work()
    connection.set_progress_handler(None, 1)
    assert count
    return count


def test_the_age_of_what_waits_is_found_behind_what_only_waits_to_be_safe(tmp_path: Path) -> None:
    counts = []
    for held in (50, 2_000):
        store = DeviceStore.open(tmp_path / f"{held}")
        outbox = Outbox(store, replace(FAST, batch_events=held))
        assert outbox.age_ms() == 0
        with store.write() as connection:
            add(connection, [FrameKind.INTERACTION] * (held + 3))
        batch = outbox.next_batch()
        assert batch is not None
        assert batch.last_sequence == held
        outbox.ack(batch, held, 0, b"log")
        oldest = time.time() * 1000 - outbox.age_ms()
        assert oldest == pytest.approx(NOW + held + 1, abs=2_000)
        with store.read() as connection:  # which `age_ms` is given again
            pass
        counts.append(steps(connection, outbox.age_ms))
        store.close()
    assert counts[0] == counts[1]


def test_nothing_is_sorted_by_age_where_all_of_it_is_young(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "store")
    with store.write() as connection:
        add(connection, [FrameKind.INTERACTION] * 1_000)
        assert steps(connection, lambda: expire(connection, 60.0, NOW)) < 10_000
    store.close()


def read_segments(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    read: list[object] = []
    real = segments._segment

    def seen(row: tuple[object, ...]) -> Segment:
        read.append(row)
        return real(row)

    monkeypatch.setattr(segments, "_segment", seen)
    return read


def test_what_may_not_go_is_looked_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(FAST, outbox_max_bytes=50 * BYTES, batch_events=10)
    desk, kept = Desk(tmp_path / "store", config), 0
    read = read_segments(monkeypatch)
    looked = []
    for _ in range(40):
        for _ in range(5):
            desk.say("." * 60, FrameKind.CONSENT)
        assert desk.writer.flush(5)
        kept += 5
        looked.append(len(read))
        read.clear()
    assert desk.store.losses() == {}, "a consent is never given up"
    assert desk.outbox.unsent() == kept
    # What is new, and the row that it was joined to.
    assert max(looked[15:]) < 10
    desk.close()


def test_what_was_looked_for_in_vain_is_looked_for_again_when_it_comes(tmp_path: Path) -> None:
    store, without = DeviceStore.open(tmp_path / "store"), Without()
    with store.write() as connection:
        add(connection, [FrameKind.CONSENT] * 50)
        assert evict(connection, 10 * BYTES, NOW, random.Random(1), without) == 0
        add(connection, [77, FrameKind.INTERACTION, FrameKind.OUTCOME, FrameKind.CONSENT])
        assert evict(connection, 10 * BYTES, NOW, random.Random(1), without) == 3 * BYTES
    store.close()


def test_what_a_disk_refused_is_looked_for_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store", replace(FAST, outbox_max_bytes=40 * BYTES))
    with desk.store.write() as connection:
        add(connection, [FrameKind.CONSENT] * 60 + [FrameKind.INTERACTION] * 5, lane=3)

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("no room")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_sdk.outbox.writer.join", fails)  # when all that may go has gone
        desk.say("one")
        assert not desk.writer.flush(0.5)
        assert desk.number("SELECT count(*) FROM outbox WHERE lane = 3 AND bytes > 0") == 65
    assert desk.writer.flush(10)
    assert desk.number("SELECT sum(last - first + 1) FROM outbox WHERE bytes > 0") == 60
    desk.close()


@pytest.mark.parametrize("seed", range(25))
def test_what_goes_is_the_same_as_if_all_were_looked_through_each_time(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    stores = [DeviceStore.open(tmp_path / name) for name in ("remembers", "forgets")]
    outboxes = [Outbox(store, replace(FAST, batch_events=7)) for store in stores]
    without = Without()

    def both(work: Callable[[sqlite3.Connection], object]) -> None:
        for store in stores:
            with store.write() as connection:
                work(connection)

    for _ in range(60):
        what, coin = chance.randrange(7), chance.randrange(1 << 30)
        if what < 3:
            kinds = chance.choices(KINDS, k=chance.randint(1, 12))
            lane = chance.choice((0, 1, 1, 3))
            both(partial(add, kinds=kinds, lane=lane))
        elif what == 3:
            target = chance.randrange(40) * BYTES
            for store, known in zip(stores, (without, Without()), strict=True):
                with store.write() as connection:
                    evict(connection, target, NOW, random.Random(coin), known)
                    if coin % 2:
                        join(connection, Limits(7, 1 << 18))
        else:
            for outbox in outboxes:
                if (given := outbox.next_batch()) is None:
                    continue
                middle = given.first_sequence + coin % 7
                through = min(middle, given.last_sequence)
                if what == 4:
                    outbox.ack(given, through, through - coin % 3, b"log")
                elif what == 5:
                    outbox.rewind(given, max(0, given.first_sequence - 1 - coin % 9))
                else:
                    outbox.forked(given, through)
        found = []
        for store in stores:
            with store.read() as connection:
                query = "SELECT lane, first, last, reason, crc, frames FROM outbox ORDER BY 1, 2"
                found.append(connection.execute(query).fetchall())
        assert found[0] == found[1]
    for store in stores:
        store.close()


def test_a_device_that_is_never_sent_rows_keeps_the_newest_imprints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.outbox.writer._PENDING", 20)
    monkeypatch.setattr("edge_sdk.outbox.writer._TRIM_EVERY", 10)
    desk = Desk(tmp_path / "store")
    for number in range(101):
        desk.writer.put_durably(entry(f"{number}", imprint=(f"{number:03}", b"")), 5)
    kept = desk.rows("SELECT id FROM pending ORDER BY id")
    assert kept == [(f"{number:03}",) for number in range(80, 101)]
    assert desk.outbox.unsent() == 101, "all of them are on their way to the server"
    desk.close()
