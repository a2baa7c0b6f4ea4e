"""What customers did on other devices: it counts for them, once, and for this device never."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeClient, RedemptionReason
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.caps import CapLedger, CapRow, Hold, rules_of
from edge_sdk.engine.offers import offer_from_document
from edge_sdk.store import tables
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.genomes import GenomeView
from edge_sdk.store.rescue import rescue
from edge_sdk.store.rows import prepare
from edge_sdk.store.state import drop_caps, keep_elsewhere, put_caps, read_caps
from edge_sdk.sync.actions import ApplyGenomes
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.trust import FEATURES, Limits, Refusal
from genome_edge.v1 import sync_pb2
from tests.unit.device_client import FAST, MOMENT, shown
from tests.unit.device_town import (
    AGREED,
    Town,
    commit_rows,
    customer,
    filled,
    now_ms,
    row,
    subject,
    until,
)
from tests.unit.machines import PUBLISHER, RELEASES, Server, held, nacks
from tests.unit.publisher import ANNA, BEN

HOUR = 3_600_000
LEFT = sync_pb2.Delete.REASON_LEFT_AUDIENCE


def rules(*offers: dict[str, Any]) -> CapLedger:
    return CapLedger(rules_of([offer_from_document(one) for one in offers]))


TAXI = {"id": "taxi", "caps": [{"limit": 1, "window_hours": 1}]}
SCREEN = {"id": "taxi", "caps": [{"limit": 1, "scope": "device", "window_hours": 9}]}
STOP = {"id": "taxi", "stop_after": {"dismiss": True}}


def away(who: bytes, claim: bytes, kind: str = "view", at_ms: int = 5) -> CapRow:
    return CapRow(who, "taxi", kind, at_ms, claim, elsewhere=True)


# The ledger


def test_it_counts_for_the_customer_and_not_for_the_device() -> None:
    ledger = rules(TAXI)
    assert ledger.apply([away(ANNA, b"1")])
    assert ledger.blocked(ANNA, 6) == {"taxi"}
    assert not ledger.blocked(BEN, 6)
    screen = rules(SCREEN)
    screen.apply([away(ANNA, b"1")])
    assert not screen.blocked(ANNA, 6)
    screen.apply([CapRow(ANNA, "taxi", "view", 6, b"2")])
    assert screen.blocked(BEN, 7) == {"taxi"}
    stop = rules(STOP)
    stop.apply([away(ANNA, b"1", "dismiss")])
    assert stop.blocked(ANNA, 6) == {"taxi"}


def test_a_device_knows_its_own_by_their_claims() -> None:
    ledger = rules({"id": "taxi", "caps": [{"limit": 2}, {"limit": 2, "scope": "device"}]})
    own = CapRow(ANNA, "taxi", "view", 5, b"1")
    ledger.apply([own])
    assert ledger.apply([away(ANNA, b"1"), away(ANNA, b"1")]) == []
    assert not ledger.blocked(ANNA, 6)
    # The other way round: what is said here makes of what was heard an own one.
    ledger.apply([away(BEN, b"2")])
    ledger.apply([CapRow(BEN, "taxi", "view", 5, b"2")])
    assert not [one for one in ledger.rows() if one.elsewhere]
    assert ledger.blocked(NOBODY, 6) == {"taxi"}, "two of this device's own"
    assert ledger.blocked(BEN, 6) == {"taxi"}


def test_two_subjects_of_one_person_each_have_it() -> None:
    ledger = rules(TAXI)
    ledger.apply([CapRow(ANNA, "taxi", "view", 5, b"1")])
    assert ledger.apply([away(ANNA, b"1"), away(BEN, b"1")]) == [away(BEN, b"1")]
    assert ledger.blocked(BEN, 6) == {"taxi"}


def test_who_was_nobody_here_any_more_is_told_what_they_did() -> None:
    """A visitor whose caps ended with the visit was somebody, the server says."""
    ledger = rules({"id": "taxi", "caps": [{"limit": 1}, {"limit": 2, "scope": "device"}]})
    ledger.apply([CapRow(b"", "taxi", "view", 5, b"1"), away(ANNA, b"1")])
    assert ledger.blocked(ANNA, 6) == {"taxi"}
    assert not ledger.blocked(BEN, 6), "one view of this device"


def test_a_viewview_that_was_seen_elsewhere_is_viewno_more() -> None:
    ledger = rules({"id": "taxi", "caps": [{"limit": 2}]})
    ledger.hold(Hold(b"1", ANNA, "taxi", ledger.elapsed() + 60_000))
    ledger.apply([away(ANNA, b"1")])
    assert not ledger.blocked(ANNA, now_ms())


def test_rows_that_leave_the_device_count_no_more() -> None:
    ledger = rules({"id": "taxi", "caps": [{"limit": 2}]})
    ledger.apply([CapRow(ANNA, "taxi", "view", 5, b"1"), away(ANNA, b"2"), away(BEN, b"3")])
    assert ledger.blocked(ANNA, 6) == {"taxi"}
    ledger.forget(BEN)
    assert [one.claim for one in ledger.rows()] == [b"1", b"2"]
    ledger.draw_on(None)
    assert not ledger.blocked(ANNA, 6)
    assert [one.claim for one in ledger.rows()] == [b"1"], "it says nothing without its subject"
    ledger.apply([away(ANNA, b"2")])
    assert ledger.blocked(ANNA, 6) == {"taxi"}, "they came back, and so did it"


def test_a_new_release_and_a_right_clock_keep_what_it_is() -> None:
    ledger = rules({"id": "taxi", "caps": [{"limit": 1}, {"limit": 1, "scope": "device"}]})
    unnamed = CapRow(BEN, "train", "view", 5)
    ledger.apply([away(ANNA, b"1", at_ms=900), unnamed, unnamed])
    ledger.rebind(rules_of([offer_from_document({"id": "taxi", "caps": [{"limit": 1}]})]))
    assert ledger.bound(10)
    ledger.apply([unnamed])
    assert sorted(one.at_ms for one in ledger.rows()) == [5, 5, 5, 10]
    assert ledger.blocked(ANNA, 10) == {"taxi"}
    assert not ledger.blocked(BEN, 10)


def test_only_limits_of_customers_keep_it() -> None:
    ledger = rules({"id": "taxi", "caps": [{"limit": 1, "window_hours": 1}, *SCREEN["caps"]]})
    ledger.apply([away(ANNA, b"1"), CapRow(BEN, "taxi", "view", 5, b"2")])
    assert [one.claim for one in ledger.prune(HOUR + 6)] == [b"1"]


# The store


@pytest.fixture
def caps() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        tables.migrate(connection, 0)
        prepare(connection)
        yield connection


def test_it_is_kept_once_and_says_where_it_was(caps: sqlite3.Connection) -> None:
    own = CapRow(ANNA, "taxi", "view", 5, b"1")
    put_caps(caps, [(own, 3)])
    rows = [away(ANNA, b"1"), away(ANNA, b"2"), away(ANNA, b"2"), away(BEN, b"1")]
    for _ in range(2):
        keep_elsewhere(caps, rows)
    assert read_caps(caps)[0] == [own, rows[1], rows[3]]
    assert read_caps(caps, without=(3, tables.ELSEWHERE))[0] == []
    drop_caps(caps, [rows[1]])
    assert read_caps(caps)[0] == [own, rows[3]]
    keep_elsewhere(caps, (), {ANNA, BEN}.__contains__)
    assert read_caps(caps)[0] == [own], "own ones stay"


def test_a_damaged_row_is_found(caps: sqlite3.Connection) -> None:
    keep_elsewhere(caps, [away(ANNA, b"1")])
    caps.execute("DROP TRIGGER caps_checked")
    caps.execute("UPDATE caps SET lane = 3")
    with pytest.raises(sqlite3.IntegrityError):
        read_caps(caps)


def test_where_rows_were_lost_all_come_again(tmp_path: Path, caps: sqlite3.Connection) -> None:
    """A cursor says what was heard of elsewhere, too."""
    path = tmp_path / "damaged"
    with closing(sqlite3.connect(path, isolation_level=None)) as damaged:
        tables.migrate(damaged, 0)
        prepare(damaged)
        keep_elsewhere(damaged, [away(ANNA, b"1"), away(BEN, b"1")])
        for key, value in (("epoch", bytes(16)), ("genome_cursor", b"here"), ("row_sum", b"1")):
            damaged.execute("INSERT INTO meta VALUES (?, ?, 0)", (key, value))
        damaged.execute("UPDATE meta SET row_crc = row_crc(key, value)")
        damaged.execute("DROP TRIGGER caps_checked")
        damaged.execute("UPDATE caps SET offer = 'spa' WHERE subject = ?", (ANNA,))
    rescue(path, caps, 5)
    kept = dict(caps.execute("SELECT key, value FROM meta").fetchall())
    assert "genome_cursor" not in kept
    assert kept["row_sum"] == b"1"
    assert read_caps(caps)[0] == [away(BEN, b"1")]


# The transaction


def event(who: bytes = ANNA, claim: bytes = b"1", **more: Any) -> sync_pb2.CapEvent:
    said = {"kind": sync_pb2.CapEvent.KIND_VIEW, "offer": "taxi", "at_ms": 5, **more}
    return sync_pb2.CapEvent(subject=who, claim=claim, **said)


def begun(limits: Limits | None = None, *, full: bool = False) -> Server:
    here: dict[str, Any] = {"genome_lineage": PUBLISHER.lineage, "genome_cursor": b"c"}
    machine = SyncMachine(held(RELEASES[1], **here), *([limits] if limits else []))
    server = Server(machine)
    begin = sync_pb2.Begin(
        nonce=1, kind=sync_pb2.Begin.KIND_GENOMES, full=full, lineage=PUBLISHER.lineage
    )
    assert nacks(server.say(begin=begin)) == []
    return server


def test_a_transaction_of_nothing_else() -> None:
    server = begun()
    said = event(campaign="spring", group="rides", kind=sync_pb2.CapEvent.KIND_CONVERT)
    server.say(put=sync_pb2.Put(nonce=1, cap_events=[said, event(BEN)]))
    (apply,) = server.commit(genome_cursor=b"c", total_rows=2)
    assert isinstance(apply, ApplyGenomes)
    assert apply.counted == (
        CapRow(ANNA, "taxi", "convert", 5, b"1", "spring", "rides", elsewhere=True),
        away(BEN, b"1"),
    )


@pytest.mark.parametrize(
    "said",
    [
        event(b"anna"),
        event(claim=b""),
        event(claim=bytes(65)),
        event(kind=sync_pb2.CapEvent.KIND_UNSPECIFIED),
        event(offer=""),
        event(offer="x" * 257),
        event(group="x" * 257),
        event(at_ms=-1),
    ],
)
def test_an_event_that_is_none(said: sync_pb2.CapEvent) -> None:
    put = sync_pb2.Put(nonce=1, cap_events=[said])
    assert nacks(begun().say(put=put)) == [Refusal.ROWS]


def test_not_where_all_rows_come_and_not_without_end() -> None:
    put = sync_pb2.Put(nonce=1, cap_events=[event(), event(BEN)])
    assert nacks(begun(full=True).say(put=put)) == [Refusal.ROWS]
    server = begun(Limits(cap_events=3))
    assert nacks(server.say(put=put)) == []
    assert nacks(server.say(put=put)) == [Refusal.TOO_LARGE]


def test_the_device_says_that_it_takes_them() -> None:
    assert "counters-1" in FEATURES


# A device

OFFERS = (
    {"id": "taxi", "value": 9.0, "caps": [{"limit": 1}, {"count": "redeem", "limit": 1}]},
    {"id": "train", "value": 1.0},
)


def heard(path: Path, town: Town, *rows: CapRow, **more: Any) -> None:
    """What a sync brings, by the process that syncs."""
    with closing(DeviceStore.open(path)) as store:
        commit_rows(store, more.pop("blocks", []), town, **{"full": False, **more}, counted=rows)


def blocked(edge: EdgeClient, number: int) -> frozenset[str]:
    room = edge._desk.room
    return room.ledger.blocked(subject(number), room.clock.now_ms())


def free(edge: EdgeClient) -> bool:
    return not blocked(edge, 0) | blocked(edge, 1)


def test_every_process_learns_of_it_and_of_its_end(tmp_path: Path) -> None:
    path = tmp_path / "store"
    town = filled(path, Town(offers=OFFERS))
    with EdgeClient(path, config=FAST) as one, EdgeClient(path, config=FAST) as two:
        for edge in (one, two):
            edge.wait_ready(10)
        heard(path, town, *(away(subject(n), b"claim", at_ms=now_ms()) for n in (0, 1, 2)))
        for edge in (one, two):
            until(partial(blocked, edge, 2))
            decision = edge.decide(MOMENT, "lobby", customer=customer(1))
            why = {loser.offer: loser.reasons for loser in decision.explain().losers}
            assert why["taxi"] == ("CAPPED",)
        heard(path, town, deletes=[(subject(n), LEFT) for n in (0, 1)])
        heard(path, town, blocks=[row(n, town=town) for n in (0, 1)], known=(0, 1))
        for edge in (one, two):
            until(partial(free, edge))
            assert shown(edge, "lobby", customer=customer(2)) == "train"
        assert shown(one, "lobby", customer=customer(1)) == "taxi"


def test_who_is_gone_is_looked_for_when_anybody_may_be() -> None:
    view = GenomeView(files=("a", ""), patches={ANNA: b"row"})
    assert not replace(view, change=1, patches={ANNA: b"other", BEN: b"row"}).lost(view)
    assert replace(view, change=2).lost(view)  # who left in between may be back
    left = replace(view, patches={ANNA: b"row", BEN: LEFT})
    assert left.lost(view)
    assert not left.lost(left)
    assert replace(view, files=("b", "")).lost(view)


def test_all_rows_anew_keep_what_is_of_them(tmp_path: Path) -> None:
    path = tmp_path / "store"
    town = filled(path, Town(offers=OFFERS))
    heard(path, town, *(away(subject(n), b"claim") for n in (0, 1, 2)))
    rows = [row(n, town=town, consents=AGREED) for n in (1, 2)]
    heard(path, town, full=True, blocks=rows, known=(1, 2))
    with closing(DeviceStore.open(path)) as store, store.read() as connection:
        assert {one.subject for one in read_caps(connection)[0]} == {subject(1), subject(2)}


def test_what_was_redeemed_elsewhere_is_refused_here(tmp_path: Path) -> None:
    path = tmp_path / "store"
    redeemed = ({"id": "taxi", "value": 9.0, "caps": [{"count": "redeem", "limit": 1}]},)
    town = filled(path, Town(offers=redeemed))
    with EdgeClient(path, config=FAST) as edge:
        edge.wait_ready(10)
        made = [edge.decide(MOMENT, "lobby", customer=customer(n)) for n in (1, 2)]
        heard(path, town, away(subject(1), b"claim", "redeem", now_ms()))
        assert edge.redeem(made[0]).reason is RedemptionReason.CAPPED
        assert edge.redeem(made[1]).granted


def test_a_device_limit_on_redemptions_counts_its_own(tmp_path: Path) -> None:
    path = tmp_path / "store"
    cap = {"count": "redeem", "limit": 1, "scope": "device"}
    town = filled(path, Town(offers=({"id": "taxi", "caps": [cap]},)))
    heard(path, town, away(subject(1), b"claim", "redeem", now_ms()))
    with EdgeClient(path, config=FAST) as edge:
        edge.wait_ready(10)
        made = [edge.decide(MOMENT, "lobby", customer=customer(1)) for _ in range(2)]
        assert edge.redeem(made[0]).granted
        assert edge.redeem(made[1]).reason is RedemptionReason.CAPPED
