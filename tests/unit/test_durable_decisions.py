"""A durable decision is on disk with what it counts when it is told; one that failed counts for
nothing, here or in another process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from edge_sdk import ClientClosed, DiskFull, EdgeClient, Reason, StoreError, UsageError
from edge_sdk.store import state
from edge_sdk.store.device import DeviceStore
from tests.unit.device_client import FAST, MOMENT, decisions_in, events, kinds, shown, store_of
from tests.unit.device_town import Town, customer, filled, subject

#: Commits of themselves come late: who waits hurries them.
SLOW = replace(FAST, group_commit_s=5.0)
LAST = (
    {"id": "taxi", "value": 9.0, "caps": [{"limit": 1, "scope": "device"}]},
    {"id": "train", "value": 1.0},
)
ONCE = (
    {"id": "taxi", "value": 9.0, "caps": [{"limit": 1, "window_hours": 1}]},
    {"id": "train", "value": 1.0},
)


def no_room() -> NoReturn:
    raise DiskFull("no room")


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[EdgeClient]:
    filled(tmp_path / "store", Town(offers=LAST))
    with EdgeClient(tmp_path / "store", config=FAST) as made:
        assert made.wait_ready(10)
        yield made


def test_it_is_on_disk_when_it_is_told(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(offers=ONCE))
    with EdgeClient(tmp_path / "store", config=SLOW) as edge:
        assert edge.wait_ready(10)
        soon = edge.decide(MOMENT, "lobby", customer=customer(2))
        decision = edge.decide(MOMENT, "lobby", customer=customer(1), durable=True)
        with closing(DeviceStore.open(tmp_path / "store")) as other, other.read() as connection:
            frame = state.find_decision(connection, bytes.fromhex(decision.id))
            rows, _ = state.read_caps(connection)
        assert frame is not None
        assert frame.subject == subject(1)
        assert {row.claim for row in rows if row.subject == subject(1)} == {
            bytes.fromhex(decision.id) + b"\0"
        }
        assert {soon.id, decision.id} <= decisions_in(tmp_path / "store")
        assert edge.status.reasons[Reason.CHOSEN.value] == 2
        assert shown(edge, "lobby", customer=customer(1)) == "train", "it counts"
        edge.report(decision, "click")
        assert edge.explain(decision).decision.id == decision.id


def test_other_processes_know_at_once(tmp_path: Path, edge: EdgeClient) -> None:
    with EdgeClient(tmp_path / "store", config=replace(FAST, watch_s=60.0)) as other:
        assert other.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby", durable=True)
        assert decision.offer is not None
        assert decision.offer.id == "taxi"
        assert shown(other, "lobby") == "train"
        claims = {row.claim for row in other._desk.room.ledger.rows()}
        assert claims == {bytes.fromhex(decision.id) + b"\0"}, "a view, not what may lapse"


def test_of_many_at_once_one_takes_the_last(edge: EdgeClient) -> None:
    found: Counter[str] = Counter()
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        found[shown(edge, "lobby", durable=True)] += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"taxi": 1, "train": 7}


def test_a_full_disk_is_said_and_nothing_counts(
    tmp_path: Path, edge: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.decide(MOMENT, "elsewhere")
    edge.flush(0)
    before = decisions_in(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as other, monkeypatch.context() as full:
        assert other.wait_ready(10)
        full.setattr(store_of(edge), "write", no_room)
        counted = edge.status.reasons
        for _ in range(3):
            with pytest.raises(DiskFull):
                edge.decide(MOMENT, "lobby", durable=True)
        assert edge.status.reasons == counted
        room = edge._desk.room
        assert not room.ledger.blocked(bytes(16), room.clock.now_ms()), "nothing is held either"
        assert shown(other, "lobby") == "taxi"
    edge.flush(0)
    assert len(decisions_in(tmp_path / "store") - before) == 1, "the other one's, no more"


def test_who_gave_up_waiting_was_told_the_truth(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(offers=LAST))
    impatient = replace(FAST, durable_timeout_s=0.2)
    with (
        EdgeClient(tmp_path / "store", config=impatient) as edge,
        closing(DeviceStore.open(tmp_path / "store")) as other,
    ):
        assert edge.wait_ready(10)
        edge.flush(0)
        with other.write(), pytest.raises(StoreError, match="did not take"):
            edge.decide(MOMENT, "lobby", durable=True)
        assert edge.flush(5) == 0, "it is not written afterwards"
        assert kinds(edge) == []
        assert shown(edge, "lobby") == "taxi"


def test_what_is_written_after_all_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has begun and takes longer than whoever waits."""
    filled(tmp_path / "store", Town(offers=LAST))
    with EdgeClient(tmp_path / "store", config=replace(FAST, durable_timeout_s=0.2)) as edge:
        assert edge.wait_ready(10)
        edge.flush(0)
        go_on = threading.Event()
        put = state.put_caps

        def slow(connection: object, rows: object) -> None:
            go_on.wait(10)
            put(connection, rows)  # type: ignore[arg-type]

        monkeypatch.setattr(state, "put_caps", slow)
        with pytest.raises(StoreError):
            edge.decide(MOMENT, "lobby", durable=True)
        go_on.set()
        assert len(events(edge)) == 1
        assert shown(edge, "lobby") == "train"


def test_a_placement_that_shows_on_view_holds_as_ever(edge: EdgeClient) -> None:
    decision = edge.decide(MOMENT, "feed", durable=True)
    with store_of(edge).read() as connection:
        assert state.read_caps(connection)[0] == []
    assert shown(edge, "feed") == "train", "the view that is to come is held"
    edge.report(decision, "view", durable=True)
    with store_of(edge).read() as connection:
        assert len(state.read_caps(connection)[0]) == 1


def test_caps_of_a_visit_end_with_it(tmp_path: Path) -> None:
    filled(tmp_path / "store", Town(offers=ONCE))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        for _ in range(2):
            with edge.session() as visit:
                visit.imprint("view", product="poems")
                seen = [visit.decide(MOMENT, "lobby", durable=True).offer for _ in range(2)]
                assert [offer.id for offer in seen if offer] == ["taxi", "train"]
        with store_of(edge).read() as connection:
            assert state.read_caps(connection)[0] == []


def test_a_device_counts_strangers_of_visits(tmp_path: Path, edge: EdgeClient) -> None:
    with edge.session() as visit:
        visit.imprint("view", product="poems")
        offer = visit.decide(MOMENT, "lobby", durable=True).offer
        assert offer is not None
        assert offer.id == "taxi"
    assert shown(edge, "lobby") == "train"
    with store_of(edge).read() as connection:
        (row,) = state.read_caps(connection)[0]
    assert row.subject == b"", "who it was is not remembered"


def test_what_shows_nothing_is_written_too(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "empty", config=FAST) as edge:
        decision = edge.decide(MOMENT, "lobby", durable=True)
        assert decision.reason is Reason.NO_RELEASE
        assert decision.id in decisions_in(tmp_path / "empty")
        with pytest.raises(UsageError):
            edge.decide(MOMENT, "lobby", 0, durable=True)
    with pytest.raises(ClientClosed):
        edge.decide(MOMENT, "lobby", durable=True)


def test_a_store_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    with EdgeClient(tmp_path / "store", config=FAST, bundle=Town(offers=LAST).bundle()) as edge:
        assert edge.wait_ready(10)
        with pytest.raises(StoreError):
            edge.decide(MOMENT, "lobby", durable=True)
        assert shown(edge, "lobby") == "taxi", "without the disk it goes on"
