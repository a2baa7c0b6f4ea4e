"""The file of claims: what is cut off, damaged, held, erased, or cannot be written."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import Context, EdgeClient
from edge_sdk._posix import Turns
from edge_sdk.engine.caps import CapLedger, CapRow, rules_of
from edge_sdk.engine.offers import offer_from_document
from edge_sdk.numbers import ERASED
from edge_sdk.runtime import claiming
from edge_sdk.runtime.claiming import Claims
from edge_sdk.store import reservations
from edge_sdk.store.reservations import ClaimFile, Record
from tests.unit.device_client import FAST, shown, store_of
from tests.unit.device_town import Town, commit_rows, customer, filled, now_ms, subject

ANN, BOB = bytes([1]) * 16, bytes([2]) * 16
BOOT = bytes(range(16))
LIMIT = 60
CAPPED = (
    {"id": "taxi", "value": 9.0, "caps": [{"limit": LIMIT, "scope": "device"}]},
    {"id": "train", "value": 1.0},
)


class Clock:
    """Milliseconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


def rules(**offers: dict[str, Any]) -> Any:
    return rules_of([offer_from_document({"id": name, **doc}) for name, doc in offers.items()])


def sharing(store: Path, clock: Clock, kept: list[CapRow], **offers: dict[str, Any]) -> Claims:
    (store / "locks").mkdir(parents=True, exist_ok=True)
    claims = Claims(CapLedger(rules(**offers), elapsed=clock))
    claims.attach(ClaimFile(store, BOOT, clock), lambda: kept)
    return claims


def take(claims: Claims, who: bytes, name: str, now: int = 5, *, hold: bool = False) -> bool:
    _, failed = claims.take(who, [(os.urandom(17), name)], now, hold=hold)
    return not failed


ONCE = {"caps": [{"limit": 1}]}


def test_a_file_that_grew_is_begun_anew_and_everybody_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "_GROWN_BYTES", 2_000)
    clock, kept = Clock(), list[CapRow]()
    many = {"caps": [{"limit": 500, "scope": "device"}]}
    one = sharing(tmp_path, clock, kept, many=many)
    two = sharing(tmp_path, clock, kept, many=many)
    names = set()
    for number in range(500):
        clock.now += 1_000
        assert take((one, two)[number % 2 if number < 250 else 0], ANN, "many", number)
        names.add((tmp_path / "claims").stat().st_ino)
        kept += [row for row in one.ledger.rows() if row.at_ms == number and number < 495]
    assert len(names) > 2
    assert (tmp_path / "claims").stat().st_size < 500 * 80, "what is long settled is left out"
    assert not take(two, BOB, "many"), "it had missed whole files, and read what the store holds"
    three = sharing(tmp_path, clock, kept, many=many)
    three.ledger.apply(kept)
    assert not take(three, BOB, "many")


def test_what_was_cut_off_and_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    clock = Clock()
    one = sharing(tmp_path, clock, [], a=ONCE, b=ONCE, c=ONCE)
    assert take(one, ANN, "a")
    file = tmp_path / "claims"
    whole = file.read_bytes()
    with file.open("ab") as tail:
        tail.write(Record.taken(CapRow(ANN, "b", "view", 5, b"cut"), 5).pack()[:-3])
    two = sharing(tmp_path, clock, [], a=ONCE, b=ONCE, c=ONCE)
    assert b"cut" not in file.read_bytes()
    assert not take(two, ANN, "a")
    assert take(two, ANN, "b")
    assert not take(one, ANN, "b")
    damaged = bytearray(file.read_bytes())
    damaged[len(whole) + 20] ^= 1
    file.write_bytes(damaged)
    three = sharing(tmp_path, clock, [], a=ONCE, b=ONCE, c=ONCE)
    assert take(three, ANN, "c")
    assert not take(one, ANN, "c"), "who had read further reads again"
    file.write_bytes(b"not of ours" * 100)
    four = sharing(tmp_path, clock, [], a=ONCE, b=ONCE, c=ONCE)
    assert take(four, BOB, "a")
    assert not take(one, BOB, "a")


def test_a_hold_ends_with_its_boot(tmp_path: Path) -> None:
    clock = Clock()
    one = sharing(tmp_path, clock, [], a=ONCE, b=ONCE)
    assert take(one, ANN, "a", hold=True)
    assert take(one, ANN, "b")
    assert not take(one, ANN, "a", hold=True)
    clock.now = 3
    later = Claims(CapLedger(rules(a=ONCE, b=ONCE), elapsed=clock))
    later.attach(ClaimFile(tmp_path, bytes(reversed(BOOT)), clock), list)
    assert take(later, ANN, "a", hold=True)
    assert not take(later, ANN, "b"), "what was taken stays taken"


def test_a_hold_lapses_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    clock = Clock()
    one = sharing(tmp_path, clock, [], a=ONCE)
    two = sharing(tmp_path, clock, [], a=ONCE)
    assert take(one, ANN, "a", now=10**9, hold=True)
    assert not take(two, ANN, "a", now=10**6, hold=True)
    assert not take(two, ANN, "a", now=10**12, hold=True), "a clock set forward lifts nothing"
    clock.now += claiming.HOLD_MS
    assert take(two, ANN, "a", now=10**6, hold=True)


def test_who_is_erased_leaves_the_file_and_the_others_memory(tmp_path: Path) -> None:
    store, town = tmp_path / "store", Town(offers=CAPPED)
    filled(store, town)
    with EdgeClient(store, config=FAST) as edge:
        assert edge.wait_ready(10)
        for number in (1, 2):
            assert shown(edge, "feed", customer=customer(number)) == "taxi"
            assert shown(edge, "lobby", customer=customer(number)) == "taxi"
        edge.flush(0)
        kept = (store / "claims").read_bytes()
        assert subject(1) in kept
        commit_rows(store_of(edge), [], town, full=False, deletes=[(subject(1), ERASED)])
        kept = (store / "claims").read_bytes()
        assert subject(1) not in kept
        assert subject(2) in kept
        ledger = edge._desk.room.ledger
        known = {row.subject for row in ledger.rows()}
        assert known >= {subject(1), subject(2)}, "so lately that it might not be written yet"
        open_ = edge._keeper.open
        assert open_ is not None
        with open_.store.read() as connection:
            open_._forget_erased(connection, ledger, now_ms() + 60_000)
        assert {row.subject for row in ledger.rows()} == {b"", subject(2)}


def test_without_a_file_a_process_counts_for_itself(tmp_path: Path) -> None:
    clock = Clock()
    alone = Claims(CapLedger(rules(a=ONCE), elapsed=clock))
    assert take(alone, ANN, "a")
    assert not take(alone, ANN, "a")
    (tmp_path / "locks").mkdir()
    alone.attach(ClaimFile(tmp_path, BOOT, clock), list)
    other = sharing(tmp_path, clock, [], a=ONCE)
    assert not take(other, ANN, "a"), "what was taken before is told"


def test_where_there_can_be_no_file_decisions_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path / "store", Town(offers=CAPPED))
    (tmp_path / "store" / "claims").mkdir()
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        found = Counter(shown(edge, "lobby") for _ in range(LIMIT + 5))
        assert found == {"taxi": LIMIT, "train": 5}
    said = [record.getMessage() for record in caplog.records if "caps are" in record.getMessage()]
    assert len(said) == 1


def test_a_disk_that_takes_nothing_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "no room")

    clock = Clock()
    one = sharing(tmp_path, clock, [], a={"caps": [{"limit": 3}]})
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert take(one, ANN, "a")
        assert take(one, ANN, "a")
    assert len([r for r in caplog.records if "no room" in r.getMessage()]) == 1
    assert take(one, ANN, "a")
    assert not take(one, ANN, "a")


def test_a_turn_ends_with_its_holder_and_not_with_a_fork(tmp_path: Path) -> None:
    mine, other = Turns(tmp_path / "turn"), Turns(tmp_path / "turn")
    assert mine.take(1)
    assert not other.take(0.01)
    child = os.fork()
    if not child:
        time.sleep(5)
        os._exit(0)
    mine.give()
    assert other.take(1), "also where a child has the same file open"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for one in (mine, other):
        one.close()


def test_a_stranger_counts_for_the_device_only(tmp_path: Path) -> None:
    store = tmp_path / "store"
    screen = ({**CAPPED[0], "caps": [{"limit": 2, "scope": "device"}]}, CAPPED[1])
    filled(store, Town(offers=screen))
    for expected in ("taxi", "taxi", "train"):
        with EdgeClient(store, config=FAST) as edge:
            assert edge.wait_ready(10)
            with edge.session() as session:
                session.imprint("view", dna=["claim:organic"])
                made = session.decide(Context(place="hotel"), "lobby")
                assert made.offer is not None
                assert made.offer.id == expected
                (store / "claims").unlink()  # by the store alone
            edge.flush(0)
            with edge._keeper.open.store.read() as connection:  # type: ignore[union-attr]
                assert {s for (s,) in connection.execute("SELECT subject FROM caps")} <= {b""}
