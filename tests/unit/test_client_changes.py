"""What other processes commit is taken over while decisions go on."""

from __future__ import annotations

import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeClient
from edge_sdk.numbers import ERASED
from edge_sdk.outbox.entries import Entry
from edge_sdk.store import rows, state
from edge_sdk.store.meta import bump
from tests.unit.device_client import FAST, MOMENT, kinds, shown, store_of
from tests.unit.device_town import (
    OFFERS,
    Town,
    commit_rows,
    customer,
    filled,
    row,
    subject,
    until,
)

CAPPED = (
    {"id": "taxi", "value": 9.0, "caps": [{"count": "view", "limit": 2, "window_hours": 1}]},
    {"id": "train", "value": 1.0},
)


def broken() -> None:
    raise ZeroDivisionError


def test_a_new_release_is_taken_over_while_deciding(edge: EdgeClient) -> None:
    changes: list[int] = []
    unsubscribe = edge.on_change(lambda: changes.append(edge.status.release))
    edge.on_change(broken)
    store = store_of(edge)
    Town(version=2, offers=OFFERS[2:]).commit(store)
    until(lambda: shown(edge, "lobby") == "book")
    until(lambda: changes == [2])
    unsubscribe()
    Town(version=3).commit(store)
    until(lambda: edge.status.release == 3)
    assert changes == [2]


def test_rows_of_another_lineage_are_not_read(edge: EdgeClient) -> None:
    other = Town(schema_epoch=2)
    commit_rows(store_of(edge), [row(1, town=other)], other, known=[1])
    until(lambda: edge.status.genomes == 1)
    assert edge.genome(customer(1)) is None
    assert edge.decide(MOMENT, "lobby", customer=customer(1)).offer is not None


def test_who_is_erased_is_forgotten_at_once(tmp_path: Path) -> None:
    town = filled(tmp_path / "store", Town(offers=CAPPED))
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        edge.imprint(customer(1), "buy", product="poems")
        edge.flush(0)
        commit_rows(store_of(edge), [], town, full=False, deletes=[(subject(1), ERASED)])
        until(lambda: edge.decide(MOMENT, "lobby", customer=customer(1)).unknown)
        assert edge.genome(subject(1).hex()) is None
        assert not edge._desk.room.local.pending(subject(1))


def test_deciding_never_waits_for_the_writer_or_the_keeper(edge: EdgeClient) -> None:
    store = store_of(edge)
    with store.write(), edge._keeper.gate, edge._desk.room.local.holding():
        began = time.monotonic()
        for _ in range(50):
            decision = edge.decide(MOMENT, "lobby", customer=customer(1))
        assert time.monotonic() - began < 1.0
    assert decision.offer is not None


def test_many_threads_decide_and_report(edge: EdgeClient) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(100):
                who = customer((number + i) % 3)
                decision = edge.decide(MOMENT, "lobby", 2, customer=who)
                edge.report(decision, "view", slot=i % 2)
                edge.imprint(who, "view", product="poems")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for n in range(5):
        Town(version=2 + n).commit(store_of(edge))
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(n for name, n in edge.status.reasons.items() if name == "CHOSEN") == 600
    assert edge.flush(0) == 1_800
    counted = kinds(edge)
    assert {kind: counted.count(kind) for kind in counted} == {
        "decision": 600, "outcome": 600, "interaction": 600,
    }  # fmt: skip


def test_consents_that_cross_come_to_the_same_in_memory_and_on_disk(
    edge: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = edge._keeper
    put, granted_written, withdrawn = keeper.put_durably, threading.Event(), threading.Event()

    def slow(entry: Entry, timeout: float) -> str:
        outcome = put(entry, timeout)
        if entry.consent is not None and entry.consent[1]:
            granted_written.set()
            withdrawn.wait(1)  # the thread that granted is held up after its write
        return outcome

    monkeypatch.setattr(keeper, "put_durably", slow)
    granting = threading.Thread(
        target=edge.set_consent, args=(customer(1), "personalisation", True)
    )
    granting.start()
    granted_written.wait(10)
    edge.set_consent(customer(1), "personalisation", False)
    withdrawn.set()
    granting.join(10)
    assert not edge.decide(MOMENT, "lobby", customer=customer(1)).genome_used


def _has_looked(edge: EdgeClient) -> bool:
    open_ = edge._keeper.open
    return open_ is not None and open_._seen == open_.store.changes()


def test_consents_that_are_known_are_not_read_at_every_look(
    edge: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, local, read = store_of(edge), edge._desk.room.local, list[str]()
    real = rows.check_row

    def seen(table: str, row: list[object], crc: object) -> None:
        read.append(table)
        real(table, row, crc)

    def agree(numbers: range, granted: bool) -> None:  # as another process does
        with store.write() as connection:
            bump(connection, "state")
            for number in numbers:
                where = (store.epoch(), 99, number)
                state.put_consent(connection, b"%016d" % number, 1, granted, where)

    agree(range(300), True)
    until(lambda: local.consents(b"%016d" % 299, 0) == 2)
    monkeypatch.setattr(rows, "check_row", seen)
    for n in range(10):
        edge.imprint(customer(1), "view", product="poems", interaction_id=f"{n}")
        edge.flush(0)
        until(partial(_has_looked, edge))
    assert "consents" not in read
    agree(range(5), False)
    until(lambda: local.consents(b"%016d" % 4, 2) == 0)
    assert local.consents(b"%016d" % 5, 0) == 2
    assert read.count("consents") == 300
    local.consent(b"%016d" % 6, 1, granted=False)  # as who repeats what was said long ago
    local.consent_settled(b"%016d" % 6, 1)
    edge.imprint(customer(1), "view", product="poems")
    until(lambda: local.consents(b"%016d" % 6, 0) == 2)


def test_who_says_something_does_not_wait_while_all_imprints_are_read(
    edge: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, said = state.read_pending, list[bool]()

    def slow(connection: sqlite3.Connection, *where: Any) -> list[state.StoredImprint]:
        found = real(connection, *where)
        if not where and not said:  # all of them are read
            saying = threading.Thread(
                target=edge.imprint, args=(customer(1), "view"), kwargs={"product": "poems"}
            )
            saying.start()
            saying.join(5)
            said.append(not saying.is_alive())
            edge.flush(0)  # it is on disk by the time that the others are taken over
        return found

    edge.imprint(customer(1), "buy", product="poems")
    edge.flush(0)
    monkeypatch.setattr(state, "read_pending", slow)
    town = Town()
    commit_rows(store_of(edge), [row(1, town=town)], town, known=[1])
    until(lambda: said)
    assert said == [True]
    until(partial(_has_looked, edge))
    assert len(edge._desk.room.local.pending(subject(1))) == 2
