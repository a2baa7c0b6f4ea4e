"""What the customers of an audience did elsewhere is read when one of them is looked at."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import EdgeClient
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine import cap_counting, caps
from edge_sdk.engine.cap_counting import Tally
from edge_sdk.engine.caps import CapLedger, CapRow, CapRule, Hold, rules_of
from edge_sdk.engine.offers import offer_from_document
from edge_sdk.outbox.redeeming import guard
from edge_sdk.store import open_store, tables
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.rows import check_all, prepare
from edge_sdk.store.state import keep_elsewhere, put_caps, read_caps, read_elsewhere
from tests.unit.device_town import Town, commit_rows, customer, filled, subject, until
from tests.unit.test_client_processes import FAST, MOMENT, in_child
from tests.unit.test_elsewhere import heard

HOUR: Final = 3_600_000
ANNA, BEN = b"a" * 16, b"b" * 16
ONCE: Final = ({"id": "taxi", "value": 9.0, "caps": [{"limit": 1}]}, {"id": "train", "value": 1.0})


def rules(*offers: dict[str, Any]) -> dict[str, CapRule]:
    return rules_of([offer_from_document(one) for one in offers])


def away(who: bytes, claim: bytes, offer: str = "taxi", at_ms: int = 5) -> CapRow:
    return CapRow(who, offer, "view", at_ms, claim, elsewhere=True)


class Told:
    """What customers did elsewhere; `asked` counts who was asked for."""

    def __init__(self, *rows: CapRow) -> None:
        self.rows = list(rows)
        self.asked: Counter[bytes] = Counter()
        self.silent = False
        self.meanwhile: list[Callable[[], object]] = []

    def __call__(self, subject: bytes) -> list[CapRow] | None:
        self.asked[subject] += 1
        rows = [row for row in self.rows if row.subject == subject]
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return None if self.silent else rows

    def forked(self) -> Told:
        return self


def drawing(source: Told, *offers: dict[str, Any]) -> CapLedger:
    ledger = CapLedger(rules(*(offers or ONCE)))
    ledger.draw_on(source)
    return ledger


# The ledger


def test_it_is_read_once_for_whoever_is_looked_at() -> None:
    source = Told(away(ANNA, b"1"), away(BEN, b"2", "train"))
    ledger = drawing(source)
    for _ in range(3):
        assert ledger.blocked(ANNA, 6) == {"taxi"}
        assert not ledger.blocked(NOBODY, 6)
    assert source.asked == {ANNA: 1, NOBODY: 1}
    assert list(ledger.rows()) == [], "it is no row of this device"
    assert ledger.take(BEN, [(b"3", "taxi")], 6)[0], "who was not looked at is read, too"
    assert not ledger.take(ANNA, [(b"4", "taxi")], 6)[0]
    assert source.asked == {ANNA: 1, NOBODY: 1, BEN: 1}


def test_a_few_are_kept_and_all_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caps, "_AWAY", 4)
    many = [bytes([n]) * 16 for n in range(1, 9)]
    source = Told(*(away(one, b"%d-%d" % (n, at)) for n, one in enumerate(many) for at in (1, 2)))
    ledger = drawing(source, {"id": "taxi", "caps": [{"limit": 2}]})
    for one in many * 2:
        assert ledger.blocked(one, 6) == {"taxi"}
    assert set(source.asked.values()) == {2}
    assert len(ledger._tally.until) == len(ledger._tally.met) == 2
    monkeypatch.setattr(caps, "_AWAY", 100)
    monkeypatch.setattr(caps, "_MET", 3)
    for one in many:
        assert not ledger.take(one, [(b"new", "taxi")], 6)[0]
    assert len(ledger._tally.met) == 3


def test_nobody_waits_for_the_reading() -> None:
    source = Told(away(ANNA, b"1"))
    ledger = drawing(source)
    source.meanwhile = [partial(ledger.take, BEN, [(b"2", "taxi")], 6)]  # would hang under the lock
    assert ledger.blocked(ANNA, 6) == {"taxi"}
    assert ledger.blocked(BEN, 6) == {"taxi"}


def test_news_that_come_while_it_is_read_are_read() -> None:
    source = Told()
    ledger = drawing(source)

    def news() -> None:
        source.rows.append(away(ANNA, b"1"))
        ledger.apply(source.rows)

    source.meanwhile = [news]
    assert ledger.blocked(ANNA, 6) == {"taxi"}
    assert source.asked[ANNA] == 2
    source.rows.append(away(BEN, b"2"))
    ledger.apply([away(ANNA, b"1")])
    ledger.draw_on(source)
    for one in (ANNA, BEN):
        assert ledger.blocked(one, 6) == {"taxi"}
    source.rows.clear()
    assert ledger.blocked(ANNA, 6) == {"taxi"}, "nobody said that there is news"
    ledger.draw_on(source)
    assert not ledger.blocked(ANNA, 6)


def test_what_cannot_be_read_is_asked_for_again() -> None:
    source = Told(away(ANNA, b"1"))
    ledger = drawing(source)
    source.silent = True
    assert not ledger.blocked(ANNA, 6)
    assert ledger.take(ANNA, [(b"2", "train")], 6) == (
        [ledger._row(ANNA, "train", "view", 6, b"2")],
        {},
    )
    source.silent = False
    assert ledger.blocked(ANNA, 6) == {"taxi"}


def test_what_it_says_itself_counts_once() -> None:
    source = Told(away(ANNA, b"1"), away(BEN, b"1"))
    offer = {"id": "taxi", "caps": [{"limit": 2}, {"limit": 2, "scope": "device"}]}
    ledger = drawing(source, offer)
    for _ in range(2):
        assert not ledger.blocked(ANNA, 6)
        ledger.apply([CapRow(ANNA, "taxi", "view", 5, b"1")])
    ledger.record(ANNA, "taxi", "view", 5, b"2")
    assert ledger.blocked(ANNA, 6) == {"taxi"}
    assert ledger.blocked(NOBODY, 6) == {"taxi"}
    ledger.forget(ANNA)
    assert not drawing(source, {"id": "taxi", "caps": [{"limit": 2}]}).blocked(ANNA, 6)


def test_what_was_held_is_seen_elsewhere() -> None:
    ledger = drawing(Told(), {"id": "taxi", "caps": [{"limit": 1, "scope": "device"}]})
    ledger.hold(Hold(b"1", ANNA, "taxi", ledger.elapsed() + 60_000))
    now = 1_800_000_000_000
    assert ledger.blocked(BEN, now) == {"taxi"}
    ledger.apply([away(ANNA, b"1")])
    assert not ledger.blocked(BEN, now)


_PEOPLE: Final = (NOBODY, ANNA, BEN)
_OFFERS: Final[tuple[dict[str, Any], ...]] = (
    {"id": "a", "campaign": "c", "caps": [{"limit": 2, "over": "campaign", "window_hours": 9}]},
    {"id": "b", "campaign": "c", "exclusivity_group": "g", "cool_down_hours": 4,
     "caps": [{"limit": 1, "count": "redeem"}]},
    {"id": "c", "exclusivity_group": "g", "stop_after": {"dismiss": True},
     "caps": [{"limit": 3, "scope": "device"}, {"limit": 4, "over": "group", "calendar": "day"},
              {"limit": 12, "calendar": "day", "paced": True}]},
)  # fmt: skip
_ROWS: Final = st.builds(
    lambda who, offer, kind, hour, elsewhere: CapRow(
        # A claim is of one offer and moment, whoever says it.
        who, offer, kind, hour * HOUR, b"%s%d" % (offer.encode(), hour), "c", "", elsewhere
    ),
    st.sampled_from(_PEOPLE),
    st.sampled_from("abc"),
    st.sampled_from(["view", "view", "redeem", "dismiss"]),
    st.integers(0, 9).map(lambda hour: hour * 4),
    st.booleans(),
)  # fmt: skip
_STEPS: Final = st.one_of(
    st.tuples(st.just("apply"), _ROWS),
    st.tuples(
        st.just("take"), st.sampled_from(_PEOPLE), st.sampled_from("abc"), st.integers(0, 40)
    ),
    st.tuples(
        st.just("hold"), st.sampled_from(_PEOPLE), st.sampled_from("abc"), st.integers(0, 40)
    ),
    st.tuples(st.just("look"), st.sampled_from(_PEOPLE), st.integers(0, 40)),
    st.tuples(st.just("rebind"), st.integers(0, 7)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=30), st.sampled_from([0, 1, 100]))
def test_it_is_as_if_it_were_here(steps: list[tuple[Any, ...]], most: int) -> None:
    source, claims = Told(), iter(range(100, 1_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caps, "_AWAY", most)
        read, whole = (CapLedger(rules(*_OFFERS), elapsed=lambda: 0) for _ in range(2))
        read.draw_on(source)
        for what, *given_ in steps:
            if what == "apply":
                (row,) = given_
                if row.elsewhere and (row.subject == NOBODY or row in source.rows):
                    continue
                if row.elsewhere:
                    source.rows.append(row)
                for ledger in (read, whole):
                    ledger.apply([row])
            elif what == "look":
                who, hour = given_
                assert read.blocking(who, hour * HOUR, 3) == whole.blocking(who, hour * HOUR, 3)
            elif what == "rebind":
                (which,) = given_
                said = rules(*(one for n, one in enumerate(_OFFERS) if which >> n & 1))
                for ledger in (read, whole):
                    ledger.rebind(said)
            else:
                who, offer, hour = given_
                claim = b"%d" % next(claims)
                lapse = 1_000 if what == "hold" else None
                wanted = [(claim, offer)]
                taken = [one.take(who, wanted, hour * HOUR, lapse) for one in (read, whole)]
                assert taken[0] == taken[1]
        for hour in range(0, 60, 5):
            for who in _PEOPLE:
                assert read.blocking(who, hour * HOUR, 3) == whole.blocking(who, hour * HOUR, 3)


# Other rules


def test_nobody_waits_while_other_rules_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cap_counting, "SLICE", 2)
    before = rules({"id": "taxi", "caps": [{"limit": 1, "window_hours": 1}]})
    after = rules({"id": "taxi", "caps": [{"limit": 3}, {"limit": 12, "scope": "device"}]})
    ledger, add = CapLedger(before, elapsed=lambda: 0), Tally.add
    meanwhile: list[threading.Thread] = []
    rows = [CapRow(bytes([n]) * 16, "taxi", "view", n, b"%d" % n) for n in range(1, 5)]
    ledger.apply(rows)
    ledger.hold(Hold(b"held", ANNA, "taxi", 60_000))

    def others() -> None:
        """All that others do, while this ledger counts anew."""
        for n in range(20, 25):
            ledger.record(ANNA, "taxi", "view", n, b"%d" % n)
        assert ledger.blocked(ANNA, 30) == {"taxi"}, "by the rules before"
        ledger.take(BEN, [(b"30", "taxi")], 30, 60_000)
        ledger.forget(rows[0].subject)
        ledger.bound(23)

    def added(tally: Tally, row: CapRow) -> Any:
        if tally is not ledger._tally and not meanwhile:
            meanwhile.append(threading.Thread(target=others))
            meanwhile[0].start()
            meanwhile[0].join(20)
            assert not meanwhile[0].is_alive(), "somebody waits"
        return add(tally, row)

    monkeypatch.setattr(Tally, "add", added)
    ledger.rebind(after)
    assert meanwhile
    anew = CapLedger(after, ledger.rows(), ledger.elapsed)
    for hold in ledger._holds:
        anew.hold(hold)
    for who in (ANNA, BEN, NOBODY, *(row.subject for row in rows)):
        assert ledger.blocked(who, 30) == anew.blocked(who, 30)
    assert ledger.blocked(ANNA, 30) == {"taxi"}
    assert not ledger.blocked(b"\4" * 16, 30)


# The store


@pytest.fixture
def table() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        tables.migrate(connection, 0)
        prepare(connection)
        yield connection


def steps_of(connection: sqlite3.Connection, work: Callable[[], object]) -> int:
    """How many hundred instructions of SQLite's machine something takes."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    connection.set_progress_handler(count, 100)
    work()
    connection.set_progress_handler(None, 0)
    return counted[0]


def test_what_many_others_did_costs_nobody_anything(table: sqlite3.Connection) -> None:
    many = [away(os.urandom(16), b"%d" % n) for n in range(5_000)]
    keep_elsewhere(table, [*many, away(ANNA, b"1")])
    put_caps(table, [(CapRow(BEN, "taxi", "redeem", 5, b"2"), 3)])
    redeemed = {"limit": 2, "count": "redeem"}
    rule = rules({"id": "taxi", "caps": [redeemed, {**redeemed, "scope": "device"}]})
    for work in (
        partial(read_elsewhere, table, ANNA),
        partial(read_caps, table, here=True),
        partial(keep_elsewhere, table, [away(BEN, b"3")], [ANNA]),
        partial(guard(bytes(16), 0, ANNA, rule["taxi"], 9), table),
    ):
        assert steps_of(table, work) < 10, work
    assert read_caps(table, here=True)[0] == [CapRow(BEN, "taxi", "redeem", 5, b"2")]
    assert read_elsewhere(table, BEN) == [away(BEN, b"3")]
    assert read_elsewhere(table, ANNA) == []


def test_of_a_large_store_what_is_used_is_checked(table: sqlite3.Connection) -> None:
    keep_elsewhere(table, [away(ANNA, b"1"), away(BEN, b"2")])
    table.execute("DROP TRIGGER caps_checked")
    table.execute("UPDATE caps SET offer = 'spa' WHERE subject = ?", (ANNA,))
    check_all(table, large=False)
    assert read_elsewhere(table, BEN)
    for work in (partial(check_all, table), partial(read_elsewhere, table, ANNA)):
        with pytest.raises(sqlite3.IntegrityError):
            work()


# A device


def shown(edge: EdgeClient, number: int) -> str:
    decision = edge.decide(MOMENT, "lobby", customer=customer(number))
    assert decision.offer is not None
    return decision.offer.id


def test_no_process_keeps_an_audience_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "store"
    town = filled(path, Town(offers=ONCE))
    heard(
        path, town, *(away(os.urandom(16), b"%d" % n) for n in range(100)), away(subject(1), b"1")
    )
    with EdgeClient(path, config=FAST) as edge:
        edge.wait_ready(10)
        assert [shown(edge, n) for n in (1, 2, 1)] == ["train", "taxi", "train"]
        heard(path, town, *(away(os.urandom(16), b"x%d" % n) for n in range(100)))
        ledger = edge._desk.room.ledger
        assert {row.subject for row in ledger.rows()} == {subject(2)}
        assert set(ledger._tally.met) <= {subject(1), subject(2)}

        def child() -> list[str]:
            return [shown(edge, n) for n in (1, 2, 0)]

        assert in_child(child) == ["train", "train", "taxi"]
        assert shown(edge, 1) == "train"


def test_after_long_silence_it_is_not_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_store, "_MANY", 1)
    path = tmp_path / "store"
    town = filled(path, Town(offers=ONCE))
    with EdgeClient(path, config=FAST) as edge:
        edge.wait_ready(10)
        ledger = edge._desk.room.ledger
        given_: list[CapRow] = []
        assert not ledger.blocked(subject(1), 9)
        monkeypatch.setattr(ledger, "apply", given_.extend)
        heard(path, town, *(away(subject(1), b"%d" % n) for n in range(9)))
        until(lambda: ledger.blocked(subject(1), 9) == {"taxi"})
        assert given_ == []


def test_what_has_ended_goes_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_store, "_PAGE", 4)
    path = tmp_path / "store"
    caps_ = [{"limit": 1, "window_hours": 1}]
    offers = ({"id": "taxi", "value": 9.0, "caps": caps_}, {"id": "ever", "caps": [{"limit": 1}]})
    town = filled(path, Town(offers=offers))
    with EdgeClient(path, config=FAST) as edge:
        edge.wait_ready(10)
        open_, room = until(lambda: edge._keeper.open), edge._desk.room
        now = room.clock.now_ms()
        ended = [away(subject(n), b"%d" % n, at_ms=n) for n in range(11)]
        kept = [away(subject(1), b"ever", "ever", 3), away(subject(1), b"now", at_ms=now)]
        heard(path, town, *ended, *kept)

        def left() -> list[CapRow]:
            with open_.store.read() as connection:
                return read_caps(connection)[0]

        open_._prune_elsewhere(room.ledger, now)
        assert left() == kept
        open_._prune_elsewhere(room.ledger, now)
        open_._prune_elsewhere(room.ledger, now + 2 * HOUR)
        assert left() == kept[:1]


def test_what_lies_ahead_has_happened_by_now(tmp_path: Path) -> None:
    path = tmp_path / "store"
    offers = ({"id": "taxi", "value": 9.0, "caps": [{"limit": 1, "window_hours": 1}]},)
    town = filled(path, Town(offers=offers))
    with EdgeClient(path, config=FAST) as edge:
        edge.wait_ready(10)
        open_, room = until(lambda: edge._keeper.open), edge._desk.room
        now = room.clock.now_ms()
        heard(path, town, away(subject(1), b"1", at_ms=now + 900 * HOUR))
        until(lambda: room.ledger.blocked(subject(1), now + 2 * HOUR))
        open_.store.heard_server(now)
        until(lambda: room.clock.anchored)
        open_.keep_house(room)
        assert not room.ledger.blocked(subject(1), now + 2 * HOUR)
        assert room.ledger.blocked(subject(1), now)


def test_a_damaged_row_is_noticed_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "store"
    town = filled(path, Town(offers=ONCE))
    heard(path, town, away(subject(1), b"1"), away(subject(2), b"1"))
    with EdgeClient(path, config=FAST) as edge:
        edge.wait_ready(10)
        store = until(lambda: edge._keeper.open).store
        with store.write() as connection:
            connection.execute("DROP TRIGGER caps_checked")
            connection.execute("UPDATE caps SET offer = 'spa' WHERE subject = ?", (subject(1),))
        assert shown(edge, 1) == "taxi", "a decision comes whatever is damaged"
        until(lambda: store.incident)
        until(lambda: shown(edge, 2) == "train")
        with closing(DeviceStore.open(path)) as other:
            assert other.genome_cursor() == b"", "all of it comes again"
            commit_rows(other, [], town, full=False, counted=[away(subject(1), b"1")])
        until(lambda: shown(edge, 1) == "train")
