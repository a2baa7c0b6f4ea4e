"""A damaged store: noticed, moved aside, rebuilt; what could be read is still there."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.engine.caps import CapRow
from edge_sdk.errors import StoreCorrupt
from edge_sdk.outbox import lanes
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.rescue import rescue
from edge_sdk.store.state import find_decision, read_caps, read_consents, read_pending
from genome_edge.v1 import event_pb2
from tests.unit.device_desk import Desk, drain, entry, word
from tests.unit.device_town import Town, commit_rows, customer, row, subject
from tests.unit.test_device_store import IDENTITY


def aside(store: Path) -> list[Path]:
    return sorted(store.parent.glob(f"{store.name}.corrupt-*"))


def scribble(path: Path, at: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(1).randbytes(length))


def lived_in(path: Path) -> Desk:
    """A store in which everything is."""
    desk, town = Desk(path), Town()
    desk.store.set_identity(IDENTITY)
    town.commit(desk.store)
    commit_rows(desk.store, [row(n, town=town) for n in range(3)], town, known=range(3))
    commit_rows(desk.store, [row(7, town=town)], town, full=False)
    said = event_pb2.Interaction(kind="buy").SerializeToString()
    record = event_pb2.Event(decision=event_pb2.DecisionRecord(decision_id=b"d" * 16))
    full = record.SerializeToString()
    for i in range(30):
        desk.writer.put_durably(entry(f"{i}" + "." * 300, imprint=(f"{i}", said)), 5)
    desk.writer.put_durably(entry("ride", FrameKind.OUTCOME, priority=0), 5)
    desk.writer.put_durably(
        entry("more", consent=(1, False), caps=(CapRow(subject(1), "taxi", "view", 1),)), 5
    )
    shown = entry("shown")
    shown.bodies, shown.decision_id = (lambda: (full, full)), b"d" * 16
    desk.writer.put_durably(shown, 5)
    batch = desk.outbox.next_batch()
    assert batch is not None
    desk.outbox.ack(batch, batch.last_sequence, batch.last_sequence, b"log")  # the ride
    return desk


def settle(desk: Desk) -> None:
    """Everything into the main file, and close."""
    desk.store.database.truncate_log()
    desk.close()


def test_a_garbled_database_is_rebuilt_around_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "store"
    settle(lived_in(path))
    scribble(path / "edge.sqlite", 0, 4096)
    desk = Desk(path)
    assert isinstance(desk.store.incident, StoreCorrupt)
    (moved,) = aside(path)
    assert (moved / "edge.sqlite").exists()
    assert str(moved) in str(desk.store.incident)
    assert desk.store.identity() == IDENTITY
    active = desk.store.active_release()
    assert active is not None
    assert (active.version, desk.store.highest_seen()) == (1, 1)
    assert desk.store.genome_cursor() == b"", "the next sync brings all genomes"
    assert desk.store.genomes().count == 0
    desk.say("goes on")
    desk.writer.flush(5)
    assert [word(frame) for frame in drain(desk.outbox)] == ["goes on"]
    desk.close()
    again = Desk(path)
    assert again.store.incident is None
    again.close()


def find_pages(path: Path, needle: bytes) -> list[int]:
    content = path.read_bytes()
    return [at for at in range(0, len(content), 4096) if needle in content[at : at + 4096]]


def test_what_can_be_read_of_a_damaged_database_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "store"
    desk = lived_in(path)
    epoch = desk.store.epoch()
    settle(desk)
    # One page in the middle of the outbox.
    pages = find_pages(path / "edge.sqlite", b"." * 200)
    scribble(path / "edge.sqlite", pages[len(pages) // 2], 4096)
    desk = Desk(path)
    assert desk.store.incident is not None
    assert desk.store.active_release() is not None
    view = desk.store.genomes()
    assert view.count == 4
    assert view.row(subject(7)) is not None
    assert view.subject_of(customer(2)) == subject(2)
    with desk.store.read() as connection:
        assert read_consents(connection) == [(b"s" * 16, 1, False)]
        assert read_caps(connection)[0] == [CapRow(subject(1), "taxi", "view", 1)]
        assert len(read_pending(connection)) == 30
        assert find_decision(connection, b"d" * 16) is not None
    assert desk.store.epoch() != epoch, "nobody can say what the old lanes held"
    frames = drain(desk.outbox)
    words = [word(frame).strip(".") for frame in frames]
    assert "ride" not in words, "the server has it"
    numbers = [int(w) for w in words if w.isdecimal()]
    assert 5 < len(numbers) < 30
    assert numbers == sorted(numbers)
    assert words.count(lanes.STORE_CORRUPT) == 2, "said once in each lane"
    desk.close()


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_to_the_database_keeps_a_store_from_opening(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store"
    settle(lived_in(path))
    file = path / "edge.sqlite"
    rng = random.Random(seed)
    if seed % 3 == 0:
        os.truncate(file, rng.randrange(file.stat().st_size))
    else:
        for _ in range(rng.randint(1, 5)):
            scribble(file, rng.randrange(file.stat().st_size), rng.choice((1, 100, 5_000)))
    desk = Desk(path)
    assert desk.store.identity() == IDENTITY
    try:
        view = desk.store.genomes()
    except StoreCorrupt:
        view = desk.store.genomes()
    assert view.count in (0, 4)
    for _ in range(2):  # damage that is found late is repaired by who finds it
        desk.say("after")
        assert desk.writer.flush(10)
    while desk.outbox.unsent():
        try:
            drain(desk.outbox)
        except StoreCorrupt:
            continue
    desk.close()


def test_damage_at_work_is_repaired_and_events_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "store"
    desk = lived_in(path)
    desk.store.database.truncate_log()
    scribble(path / "edge.sqlite", 0, (path / "edge.sqlite").stat().st_size)
    for connection in desk.store.database._pool:
        connection.close()
    desk.store.database._pool.clear()
    desk.say("while it was damaged")
    assert desk.writer.flush(10)
    assert desk.store.incident is not None
    assert "while it was damaged" in [word(frame) for frame in drain(desk.outbox)]
    assert desk.store.active_release() is not None
    desk.close()


def test_another_process_follows_a_rebuilt_store(tmp_path: Path) -> None:
    path = tmp_path / "store"
    desk = lived_in(path)
    desk.store.database.truncate_log()
    other = Desk(path)
    scribble(path / "edge.sqlite", 0, (path / "edge.sqlite").stat().st_size)
    desk.store.repair(StoreCorrupt("said by a test"))
    other.say("over there")
    assert other.writer.flush(10)
    assert "over there" in [word(frame) for frame in drain(desk.outbox)]
    assert len(aside(path)) == 1
    other.close()
    desk.close()


def test_one_of_many_threads_repairs(tmp_path: Path) -> None:
    path = tmp_path / "store"
    desk = lived_in(path)
    desk.store.database.truncate_log()
    scribble(path / "edge.sqlite", 0, (path / "edge.sqlite").stat().st_size)
    threads = [
        threading.Thread(target=desk.store.repair, args=(StoreCorrupt("x"),)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(aside(path)) == 1
    desk.close()


def test_a_damaged_part_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "store"
    settle(lived_in(path))
    store = DeviceStore.open(path)
    digest = store.held_parts()[0]
    scribble(store.part_path(digest), 0, 1)
    with pytest.raises(StoreCorrupt):
        store.read_part(digest)
    assert digest not in store.held_parts()
    assert store.incident is not None
    assert (aside(path)[0] / digest.hex()).exists()
    store.close()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("suffix", ["snap", "lookup"])
@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda path: scribble(path, path.stat().st_size // 2, path.stat().st_size // 2),
        Path.unlink,
    ],
)
def test_damaged_genomes_are_dropped_and_asked_for_anew(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "store"
    settle(lived_in(path))
    (file,) = (path / "genomes").glob(f"*.{suffix}")
    damage(file)
    store = DeviceStore.open(path)
    with pytest.raises(StoreCorrupt):
        store.genomes()
    assert store.genomes().count == 0
    assert store.genome_cursor() == b""
    assert store.genome_lineage() is None
    assert store.incident is not None
    with store.read() as connection:
        assert len(read_pending(connection)) == 30, "what this device knows by itself stays"
    town = Town()
    commit_rows(store, [row(1, town=town)], town)
    assert store.genomes().count == 1
    store.close()


def test_a_draft_of_a_dying_process_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "store"
    settle(lived_in(path))
    for folder in ("parts", "manifests", "genomes"):
        (path / folder / ".draft.0123").write_bytes(b"half")
    store = DeviceStore.open(path)
    Town(version=2).commit(store)
    town = Town()
    commit_rows(store, [row(1, town=town)], town)
    assert not list(path.rglob(".draft*"))
    store.close()


def flip(path: Path, needle: bytes) -> None:
    """Damage one byte of content that SQLite itself does not check."""
    content = path.read_bytes()
    at = content.index(needle) + len(needle) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])


def test_a_damaged_event_is_declared_and_the_lane_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "store"
    desk = Desk(path)
    for text in ("first", "second" * 10, "third"):
        desk.writer.put_durably(entry(text), 5)
    settle(desk)
    flip(path / "edge.sqlite", b"second" * 10)
    desk = Desk(path)
    words = [word(frame) for frame in drain(desk.outbox)]
    assert words == ["first", lanes.STORE_CORRUPT, "third"]
    desk.close()


def test_a_damaged_patch_drops_the_genomes(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store, town = DeviceStore.open(path), Town()
    commit_rows(store, [], town)
    commit_rows(store, [row(1, town=town)], town, full=False)
    store.database.truncate_log()
    store.close()
    flip(path / "edge.sqlite", row(1, town=town).indices.astype("<u4").tobytes())
    store = DeviceStore.open(path)
    assert "patches" in str(store.incident)
    assert store.genomes().count == 0
    assert store.genome_cursor() == b""
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE lanes SET next = 2",
        "UPDATE lanes SET next = 999",
        "UPDATE lanes SET safe = 4000",
        "DELETE FROM lanes",
    ],
)
def test_a_lane_whose_numbers_are_damaged_loses_no_event(tmp_path: Path, damage: str) -> None:
    desk = Desk(tmp_path / "store")
    desk.writer.put_durably(entry("early"), 5)
    sent = [word(frame) for frame in drain(desk.outbox)]
    for text in ("first", "second", "third"):
        desk.writer.put_durably(entry(text), 5)
    with desk.store.write() as connection:
        connection.execute(damage)
    for text in ("fourth", "fifth"):
        desk.writer.put_durably(entry(text), 5)
    sent += [word(frame) for frame in drain(desk.outbox)]
    assert sent == ["early", "first", "second", "third", "fourth", "fifth"]
    desk.close()


def places(desk: Desk) -> list[tuple[object, ...]]:
    return desk.rows("SELECT id, epoch, lane, sequence FROM pending ORDER BY id")


def rescued(desk: Desk, fresh: Path, damage: str) -> Desk:
    """The rescue of a store to which something was done."""
    desk.writer.close(5)
    with desk.store.write() as connection:
        connection.execute(damage)
    desk.store.close()
    saved = Desk(fresh)
    with saved.store.write() as connection:
        rescue(desk.store.path / "edge.sqlite", connection, 1)
    return saved


def test_an_imprint_follows_its_event_also_where_its_lane_cannot_be_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store")
    said = event_pb2.Interaction(kind="buy").SerializeToString()
    for text in "ab":
        desk.writer.put_durably(entry(text, imprint=(text, said)), 5)
    desk = rescued(desk, tmp_path / "fresh", "UPDATE lanes SET row_crc = 1")
    new = desk.store.epoch()
    assert places(desk) == [("a", new, 1, 1), ("b", new, 1, 2)]
    assert [word(frame) for frame in drain(desk.outbox)] == ["a", "b", lanes.STORE_CORRUPT]
    desk.close()


def test_what_waits_in_ended_epochs_is_saved_in_order(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store")
    said = event_pb2.Interaction(kind="buy").SerializeToString()
    for text in "abcd":
        desk.writer.put_durably(entry(text, imprint=(text, said)), 5)
    for differing in (3, 2):  # "a" and "b" under the first epoch, "c" under the second one
        batch = desk.outbox.next_batch()
        assert batch is not None
        desk.outbox.forked(batch, differing)
    with desk.store.write() as connection:
        connection.execute("UPDATE lanes SET received = safe")  # the server was restored
    assert len({epoch for _, epoch, *_ in places(desk)}) == 3
    desk = rescued(desk, tmp_path / "fresh", "UPDATE lanes SET safe = safe")
    new = desk.store.epoch()
    assert places(desk) == [(text, new, 1, n) for n, text in enumerate("abcd", 1)]
    sent = [word(frame) for frame in drain(desk.outbox)]
    assert sent == [*"abcd", lanes.STORE_CORRUPT]
    desk.close()


def test_what_a_file_said_that_is_replaced_by_now_rebuilds_nothing(tmp_path: Path) -> None:
    desk = lived_in(tmp_path / "store")
    assert desk.writer.close(5)

    def replaced_while_it_is_read() -> None:
        with desk.store.read() as connection:
            for suffix in ("-wal", "-shm"):
                (tmp_path / "store" / f"edge.sqlite{suffix}").unlink(missing_ok=True)
            os.truncate(tmp_path / "store" / "edge.sqlite", 0)
            desk.store.repair(StoreCorrupt("another thread was faster"))
            connection.execute("SELECT * FROM a_table_that_is_not_there")

    with pytest.raises(StoreCorrupt):
        replaced_while_it_is_read()
    assert len(aside(tmp_path / "store")) == 1
    desk.store.close()
