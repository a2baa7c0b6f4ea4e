"""Routines of the customers of a device: with their consent, and no cell of theirs on a disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import Context, Decision, EdgeClient, Purpose
from edge_sdk.clock import DeviceClock
from edge_sdk.engine.cells import parent, resolution
from edge_sdk.engine.routines import HOME, TRAVELLING, USUAL, Everybody, Routine
from edge_sdk.numbers import CONSENT_WITHDRAWN, ERASED, LEFT_AUDIENCE
from edge_sdk.runtime import past as past_module
from edge_sdk.runtime.kept_routines import KeptRoutines
from edge_sdk.runtime.known_routines import KnownRoutines
from edge_sdk.runtime.past import Past
from edge_sdk.runtime.room import Room
from edge_sdk.store import routine_file
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.open_store import OpenStore
from edge_sdk.testing import FakeEdge
from tests.unit.device_client import FAST, events, store_of
from tests.unit.device_town import commit_rows, customer, filled, subject, until
from tests.unit.test_routines import AWAY, CLUB, HOUSE, MONDAY, OFFICE, Life, at

# On a device -------------------------------------------------------------------------------------

OFFERS: list[dict[str, Any]] = [
    {"id": "breakfast", "all_of": [HOME], "priority": 2},
    {"id": "umbrella", "all_of": [TRAVELLING], "priority": 1},
    {"id": "any"},
]
AGREED = {"consent": ["personalisation", "location"]}


class Device:
    """A fake device with somebody who lives around it."""

    def __init__(self, **customers: Any) -> None:
        self.now = MONDAY
        self.edge = FakeEdge(OFFERS, clock=lambda: self.now, customers=customers or {"ann": AGREED})

    def ask(self, cell: int, day: int, hour: int, who: str | None = "ann") -> Decision:
        self.now = MONDAY + timedelta(days=day, hours=hour)
        return self.edge.decide(Context(cell=cell), "screen", customer=who)

    def shown(self, cell: int, day: int, hour: int, who: str | None = "ann") -> str:
        offer = self.ask(cell, day, hour, who).offer
        return offer.id if offer is not None else ""

    def nights(self, days: range, who: str | None = "ann") -> None:
        for day in days:
            self.ask(HOUSE, day, 22, who)


def test_offers_for_who_is_at_home() -> None:
    device = Device()
    device.nights(range(3))
    assert device.shown(HOUSE, 3, 7) == "breakfast"
    assert device.shown(CLUB, 3, 8) == "any"
    device.nights(range(4, 9))
    assert device.shown(AWAY, 9, 12) == "umbrella"


def test_without_both_consents_there_is_no_routine() -> None:
    device = Device(
        ann=AGREED, bob={"consent": ["location"]}, eve={"consent": ["personalisation"]}, joe={}
    )
    for who in ("bob", "eve", "joe", None):
        device.nights(range(5), who)
        assert device.shown(HOUSE, 5, 22, who) == "any"
        if who is None:
            continue
        device.edge.set_consent(who, Purpose.LOCATION, True)
        device.edge.set_consent(who, Purpose.PERSONALISATION, True)
        assert device.shown(HOUSE, 5, 23, who) == "any", "what was before was not looked at"
        device.nights(range(6, 9), who)
        assert device.shown(HOUSE, 9, 22, who) == "breakfast"


@pytest.mark.parametrize("purpose", [Purpose.LOCATION, Purpose.PERSONALISATION])
def test_who_withdraws_is_forgotten_at_once(purpose: Purpose) -> None:
    device = Device()
    device.nights(range(4))
    past = device.edge._desk.room.past
    assert past._routines is not None
    assert past._routines._everybody.kinds._seen
    device.edge.set_consent("ann", purpose, False)
    assert past._routines.whose() == []
    assert past._routines._everybody.kinds._seen == {}
    assert device.shown(HOUSE, 4, 22) == "any"
    device.edge.set_consent("ann", purpose, True)
    assert device.shown(HOUSE, 5, 22) == "any"


def test_who_is_no_longer_there_is_forgotten() -> None:
    device = Device()
    device.nights(range(4))
    room = device.edge._desk.room
    (subject,) = room.past._routines.whose()  # type: ignore[union-attr]
    room.adopt(genomes=room.live.genomes)
    assert room.past._routines.whose() == [subject]  # type: ignore[union-attr]
    gone: dict[bytes, bytes | int] = dict.fromkeys(room.live.genomes.patches, 1)
    room.adopt(genomes=type(room.live.genomes)(lineage=room.live.genomes.lineage, patches=gone))
    assert room.past._routines.whose() == []  # type: ignore[union-attr]
    assert room.past._moments.whose() == []


def test_a_routine_is_no_name_that_an_app_has_to_know() -> None:
    device = Device()
    device.nights(range(8))
    decision = device.ask(AWAY, 9, 12)
    assert decision.unknown == ()
    markers = device.edge.events[-1].decision.context_markers
    assert TRAVELLING in markers


def test_customers_are_bounded_and_the_oldest_goes() -> None:
    device = Device()
    release, known = device.edge._release, KnownRoutines(keep=3)
    for number in range(5):
        moment = Context(cell=HOUSE, place="bar", time=MONDAY)
        known.markers(bytes([number]) * 16, moment, release, 0)
    assert known.whose() == [bytes([n]) * 16 for n in (2, 3, 4)]
    assert known._everybody.kinds.sightings("bar", at(0, 0).days) == pytest.approx(3.0)
    assert known.markers(b"x" * 16, Context(place="bar"), release, 0) == ()


def test_threads_learn_of_one_moment_once() -> None:
    device = Device()
    release, known = device.edge._release, KnownRoutines()
    ready = threading.Barrier(8)

    def come() -> None:
        ready.wait()
        for hour in range(24):
            moment = Context(cell=HOUSE, place="bar", time=MONDAY + timedelta(hours=hour))
            known.markers(b"a" * 16, moment, release, 0)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known.whose() == [b"a" * 16]


# On a disk ---------------------------------------------------------------------------------------


def live_with(edge: EdgeClient, days: range, who: str) -> None:
    for day in days:
        for cell, hour in ((HOUSE, 22), (OFFICE, 10), (CLUB, 19)):
            place = "bar" if cell == CLUB else None
            moment = MONDAY + timedelta(days=day, hours=hour)
            edge.decide(Context(cell=cell, place=place, time=moment), "lobby", customer=who)


def names(edge: EdgeClient, cell: int, day: int, hour: int, who: str) -> set[str]:
    moment = MONDAY + timedelta(days=day, hours=hour)
    edge.decide(Context(cell=cell, time=moment), "lobby", customer=who)
    return {name for name in events(edge)[-1].decision.context_markers if "routine" in name}


def agree(edge: EdgeClient, who: str) -> None:
    edge.set_consent(who, "location", True)


def test_a_routine_goes_on_in_the_next_process(tmp_path: Path) -> None:
    store = tmp_path / "store"
    filled(store)
    ann = customer(0)
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        agree(edge, ann)
        live_with(edge, range(10), ann)
        assert names(edge, AWAY, 10, 19, ann) == {TRAVELLING, f"{USUAL}-bar"}
        assert HOME in names(edge, HOUSE, 10, 22, ann)
    assert set(routine_file.read(store / "routines")) == {subject(0)}
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        until(lambda: edge._desk.room.past.routines().keys() == {subject(0)})
        assert names(edge, AWAY, 11, 19, ann) == {TRAVELLING, f"{USUAL}-bar"}
        assert names(edge, HOUSE, 11, 22, ann) == set(), "home has to be learned again"


def test_who_withdraws_is_gone_from_the_file(tmp_path: Path) -> None:
    store = tmp_path / "store"
    filled(store)
    ann, bob = customer(0), customer(1)
    for who in (ann, bob):
        with EdgeClient(store, config=FAST) as edge:
            assert edge.wait_ready(10)
            agree(edge, who)
            live_with(edge, range(3), who)
    assert len(routine_file.read(store / "routines")) == 2
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        until(lambda: len(edge._desk.room.past.routines()) == 2)
        edge.set_consent(ann, "personalisation", False)
        until(lambda: len(routine_file.read(store / "routines")) == 1)
        edge.set_consent(bob, "location", False)
        until(lambda: not (store / "routines").exists())
    assert not (store / "routines").exists()


@pytest.mark.parametrize("reason", [ERASED, LEFT_AUDIENCE, CONSENT_WITHDRAWN])
def test_who_is_deleted_by_the_server_is_gone_from_memory_and_file(
    tmp_path: Path, reason: int
) -> None:
    store = tmp_path / "store"
    town = filled(store)
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        for who in (customer(0), customer(1)):
            agree(edge, who)
            live_with(edge, range(3), who)
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        until(lambda: set(edge._desk.room.past.routines()) == {subject(0), subject(1)})
        lane = store_of(edge)
        commit_rows(lane, [], town, full=False, deletes=[(subject(1), reason)])
        with lane.write() as connection:  # what the server knows of consents, the row includes
            connection.execute("DELETE FROM consents WHERE subject = ?", (subject(1),))
        until(lambda: set(edge._desk.room.past.routines()) == {subject(0)})
        until(lambda: set(routine_file.read(store / "routines")) == {subject(0)})


def test_who_is_erased_while_no_app_runs_is_gone_from_the_file(tmp_path: Path) -> None:
    store = tmp_path / "store"
    town = filled(store)
    states = {subject(n): Life().live(range(3)).routine.derived() for n in range(3)}
    routine_file.write(store / "routines", states)
    opened = DeviceStore.open(store)
    commit_rows(opened, [], town, full=False, deletes=[(subject(1), ERASED)])
    opened.close()
    assert set(routine_file.read(store / "routines")) == {subject(0), subject(2)}


def test_a_disk_that_takes_nothing_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    past = Past()
    kept = KeptRoutines(tmp_path, past, lambda _: past_module.BOTH)
    kept.begin()
    past.resume({b"a" * 16: Life().live(range(3)).routine.derived()})
    monkeypatch.setattr("edge_sdk.store.routine_file.write_file", full)
    for _ in range(3):
        kept.save()
    assert caplog.text.count("No space left") == 1
    monkeypatch.undo()
    kept.save()
    assert set(routine_file.read(tmp_path / "routines")) == {b"a" * 16}


def test_who_opens_and_closes_at_once_takes_nothing_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    filled(store)
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        agree(edge, customer(0))
        live_with(edge, range(3), customer(0))
    before = (store / "routines").read_bytes()
    for _ in range(5):
        EdgeClient(store, config=FAST).close()
    unseen = OpenStore(DeviceStore.open(store), Room(FAST, DeviceClock()), FAST, lambda: None)
    unseen.close(5)
    assert (store / "routines").read_bytes() == before


def test_the_process_that_knows_more_is_kept(tmp_path: Path) -> None:
    store = tmp_path / "store"
    filled(store)
    ann = customer(0)
    with EdgeClient(store, config=FAST) as edge, EdgeClient(store, config=FAST) as other:
        assert edge.wait_ready(10)
        assert other.wait_ready(10)
        agree(edge, ann)
        until(lambda: other._desk.room.local.consents(subject_of(other, ann), 2) & 8)
        until(lambda: begun(edge) and begun(other))
        live_with(edge, range(5), ann)
        live_with(other, range(2), ann)
    (state,) = routine_file.read(store / "routines").values()
    assert state["days"] == 5


def begun(edge: EdgeClient) -> bool:
    open_ = edge._keeper.open
    return open_ is not None and open_._routines._begun


def subject_of(edge: EdgeClient, who: str) -> bytes:
    found = edge._desk.room.customers.subject_of(edge._desk.room.live, who)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:-1], lambda data: b"x" + data[1:],
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    ],
)  # fmt: skip
def test_a_damaged_file_is_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "routines"
    life = Life().live(range(9))
    routine_file.write(path, {b"a" * 16: life.routine.derived()})
    assert set(routine_file.read(path)) == {b"a" * 16}
    path.write_bytes(damage(path.read_bytes()))
    assert routine_file.read(path) == {}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"days": "x"},
        {"days": 1, "regions": 3, "kinds": []},
        {"days": 1, "regions": {}, "kinds": [["all"]]},
        {"days": 1, "regions": {}, "kinds": 7},
    ],
)
def test_what_is_no_routine_is_passed_over(said: Any) -> None:
    known = KnownRoutines()
    known.resume(b"a" * 16, said)
    assert known.whose() == []


def test_nothing_but_regions_and_kinds_is_derived() -> None:
    life = Life().live(range(30))
    said = life.routine.derived()
    assert set(said) == {"days", "regions", "kinds"}
    assert {resolution(int(cell, 16)) for cell in said["regions"]} == {5}
    words = {part for context in said["kinds"] for part in context[:-1]}
    assert words <= {"all", "hour", "day", "after", "", "bar", *range(24)}
    assert {name for *_, known in said["kinds"] for name in known} == {"", "bar"}
    again, everybody = Routine(), Everybody()
    again.resume(json.loads(json.dumps(said)), everybody)
    tuesday = at(30, 19)
    assert again.days == 30
    assert dict(again.likely_kinds(tuesday, everybody)) == pytest.approx(
        dict(life.routine.likely_kinds(tuesday, life.everybody)), rel=1e-3
    )
    everybody.forget(again)
    assert everybody.kinds._seen == {}


def test_no_cell_of_a_routine_is_on_disk(tmp_path: Path) -> None:
    store = tmp_path / "store"
    filled(store)
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        agree(edge, customer(0))
        live_with(edge, range(10), customer(0))
        edge.decide(
            Context(cell=HOUSE, time=MONDAY + timedelta(days=10, hours=22)),
            "lobby",
            customer=customer(0),
        )
        edge.flush(1)
    (said,) = routine_file.read(store / "routines").values()
    files = [path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()]
    kept = b"".join([*files, json.dumps(said).encode()])
    assert HOME.encode() in kept, "the marker is in the record"
    assert f"{parent(HOUSE, 5):x}".encode() in kept, "and the region"
    for cell in (HOUSE, OFFICE, CLUB):
        for res in range(6, 12):
            there = parent(cell, res)
            assert f"{there:x}".encode() not in kept
            assert str(there).encode() not in kept
            assert there.to_bytes(8, "little") not in kept
            assert there.to_bytes(8, "big") not in kept
