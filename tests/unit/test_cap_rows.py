"""What of caps is on disk: each event under its claim, kept, given up, and brought up to date."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.caps import CapLedger, CapRow, rules_of
from edge_sdk.engine.offers import offer_from_document
from edge_sdk.outbox.redeeming import RedemptionReason, guard
from edge_sdk.store import tables
from edge_sdk.store.rows import EARLIER_CAPS, prepare, row_crc
from edge_sdk.store.state import bound_caps, drop_caps, put_caps, read_caps

ANN, BOB = bytes([1]) * 16, bytes([2]) * 16
HOUR = 3_600_000
TAXI = offer_from_document({"id": "taxi", "caps": [{"limit": 2, "window_hours": 1}]})


@pytest.fixture
def store() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        tables.migrate(connection, 0)
        yield connection


def views(number: int, at_ms: int) -> list[CapRow]:
    return [CapRow(ANN, "taxi", "view", at_ms, secrets.token_bytes(17)) for _ in range(number)]


def test_what_is_given_up_takes_nothing_of_the_same_moment_along(store: sqlite3.Connection) -> None:
    rows = [*views(1, 5), *views(3, 5)]
    put_caps(store, [(row, 1) for row in rows])
    for _ in range(2):  # two processes give up the same
        drop_caps(store, rows[:1])
    assert read_caps(store)[0] == rows[1:]
    ledger = CapLedger(rules_of([TAXI]), read_caps(store)[0])
    assert ledger.blocked(ANN, 6) == {"taxi"}


def test_rows_are_given_up_when_their_window_has_passed(store: sqlite3.Connection) -> None:
    put_caps(store, [(row, 1) for row in [*views(3, 5), *views(2, HOUR)]])
    ledger = CapLedger(rules_of([TAXI]), read_caps(store)[0])
    drop_caps(store, ledger.prune(HOUR + 10))
    assert [row.at_ms for row in read_caps(store)[0]] == [HOUR, HOUR]
    bound_caps(store, 50)
    assert [row.at_ms for row in read_caps(store)[0]] == [50, 50]


def earlier() -> sqlite3.Connection:
    """A store of the second format with two views of one moment."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for step in tables.MIGRATIONS[:2]:
        step(connection)
    row = (ANN, "taxi", "view", 5, 3)
    for _ in range(2):
        connection.execute(
            f"INSERT INTO caps ({EARLIER_CAPS}, row_crc) VALUES (?, ?, ?, ?, ?, ?)",
            (*row, row_crc(*row)),
        )
    return connection


def test_a_store_of_the_second_format_gets_claims() -> None:
    with closing(earlier()) as connection:
        tables.migrate(connection, 2)
        prepare(connection)
        found, last = read_caps(connection)
        assert [row[:4] for row in found] == [(ANN, "taxi", "view", 5)] * 2
        assert len({row.claim for row in found}) == 2
        assert last == 2
        put_caps(connection, [(views(1, 6)[0], 3)])
        assert read_caps(connection, last)[1] == 3, "ids go on"
        connection.execute("UPDATE caps SET at_ms = 9 WHERE id = 1")
        assert read_caps(connection)[0][0].at_ms == 9


def test_a_damaged_row_is_not_taken_over() -> None:
    with closing(earlier()) as connection:
        connection.execute("DROP TRIGGER caps_checked")
        connection.execute("UPDATE caps SET offer = 'tram' WHERE id = 2")
        with pytest.raises(sqlite3.IntegrityError):
            tables.migrate(connection, 2)


@pytest.mark.parametrize(
    ("cap", "now_ms", "granted"),
    [
        ({"limit": 1, "over": "campaign"}, 10, False),
        ({"limit": 1, "over": "group"}, 10, False),
        ({"limit": 1}, 10, True),
        ({"limit": 2, "over": "campaign"}, 10, True),
        ({"limit": 1, "over": "campaign", "scope": "device"}, 10, False),
        ({"limit": 1, "over": "campaign", "window_hours": 1}, 5 + HOUR, True),
        ({"limit": 1, "over": "campaign", "window_hours": 1}, 4 + HOUR, False),
        ({"limit": 1, "over": "campaign", "calendar": "hour"}, HOUR - 1, False),
        ({"limit": 1, "over": "campaign", "calendar": "hour"}, HOUR, True),
        ({"limit": 2, "over": "campaign", "calendar": "hour", "paced": True}, HOUR // 2, False),
        ({"limit": 2, "over": "campaign", "calendar": "hour", "paced": True}, HOUR // 2 + 1, True),
    ],
)
def test_a_redemption_is_granted_within_every_limit(
    store: sqlite3.Connection, cap: dict[str, object], now_ms: int, granted: bool
) -> None:
    of = {"campaign": "rides", "exclusivity_group": "transport"}
    offers = [
        offer_from_document({"id": "taxi", "caps": [{"count": "redeem", **cap}], **of}),
        offer_from_document({"id": "bus", **of}),
    ]
    rules = rules_of(offers)
    assert ("bus" in rules) == ("over" in cap)
    row = CapRow(ANN, "bus", "redeem", 5, b"claim", "rides", "transport")
    put_caps(store, [(row, 1)])
    for who in (ANN, BOB) if cap.get("scope") == "device" else (ANN,):
        said = guard(b"d" * 16, 0, who, rules["taxi"], now_ms)(store)
        assert said == ("" if granted else RedemptionReason.CAPPED)
    assert granted or cap.get("scope") or not guard(b"e" * 16, 0, BOB, rules["taxi"], now_ms)(store)


def test_a_stop_is_for_customers(store: sqlite3.Connection) -> None:
    rules = rules_of([offer_from_document({"id": "a", "stop_after": {"redeem": True}})])
    for who in (ANN, NOBODY):
        put_caps(store, [(CapRow(who, "a", "redeem", 5, who), 1)])
    assert guard(b"d" * 16, 0, ANN, rules["a"], 9)(store) == RedemptionReason.CAPPED
    assert guard(b"d" * 16, 0, NOBODY, rules["a"], 9)(store) == ""
    assert guard(b"d" * 16, 0, BOB, rules["a"], 9)(store) == RedemptionReason.ALREADY_REDEEMED
