"""Of two words on a consent the later counts, the careful one at a tie, however they arrive."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import LOG_KEY
from genome_server.store.rows import CustomerRow
from genome_server.store.sqlite import SqliteStore
from genome_server.store.words import Words
from tests.unit._genomes import NOW_MS, House, consent, fresh, subject

ANN = b"a" * 16
YES, NO = 1 << 1, 0
T = 1_770_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore.open(tmp_path / "store.sqlite")) as store:
        yield store


def stated(store: SqliteStore, consents: int | None, at_ms: int) -> None:
    store.put_customers([CustomerRow(ANN, (), consents, at_ms)])


def consents_of(store: SqliteStore) -> int | None:
    known = store.customer(ANN)
    assert known is not None
    assert known.words.consents == known.consents, "what is kept is what was said"
    return known.consents


def test_an_older_yes_that_comes_late_does_not_undo_an_imported_no(store: SqliteStore) -> None:
    stated(store, NO, T)
    store.hear_consents(ANN, {1: (T - 1, True)})
    assert consents_of(store) == NO
    store.hear_consents(ANN, {1: (T, True)})
    assert consents_of(store) == NO, "the careful one at a tie"
    store.hear_consents(ANN, {1: (T + 1, True)})
    assert consents_of(store) == YES
    stated(store, YES | 1 << 2, T + 1)
    store.hear_consents(ANN, {1: (T + 1, False)})
    assert consents_of(store) == 1 << 2


def test_a_word_on_one_purpose_says_nothing_about_another(store: SqliteStore) -> None:
    store.hear_consents(ANN, {1: (T, True)})
    store.hear_consents(ANN, {3: (T + 9, True)})
    stated(store, NO, T + 5)
    assert consents_of(store) == 1 << 3, "personalisation was refused since"
    store.hear_consents(ANN, {2: (T + 7, True)})
    assert consents_of(store) == 1 << 2 | 1 << 3, "though a word on another is younger"


def test_every_order_comes_to_the_same(tmp_path: Path) -> None:
    said: list[Callable[[SqliteStore], None]] = [
        lambda store: store.hear_consents(ANN, {1: (T + 1, True)}),
        lambda store: stated(store, NO, T + 2),
        lambda store: store.hear_consents(ANN, {1: (T, False), 2: (T + 3, True)}),
        lambda store: store.hear_consents(ANN, {3: (T + 2, True)}),
    ]
    ends = set()
    for i, order in enumerate(itertools.permutations(said)):
        with closing(SqliteStore.open(tmp_path / f"{i}.sqlite")) as store:
            for say in order:
                say(store)
            ends.add(consents_of(store))
    assert ends == {1 << 2}


def test_a_statement_without_a_time_is_later_than_all_that_was_heard(store: SqliteStore) -> None:
    store.hear_consents(ANN, {1: (T, False)})
    stated(store, YES, 0)
    assert consents_of(store) == YES
    store.hear_consents(ANN, {1: (T, False)})
    assert consents_of(store) == YES, "heard before"
    store.hear_consents(ANN, {1: (T + 2, False)})
    stated(store, YES, 0)
    assert consents_of(store) == NO, "to repeat a statement is none"


def test_words_are_canonical() -> None:
    words = Words(YES, T).after({3: (T, True), 1: (T + 1, False)})
    assert Words.stored(YES, T, words.text, (T + 1, NO)) == words
    assert Words(YES, T).after({1: (T + 1, False)}).after({3: (T, True)}) == words
    assert words.after({3: (T, True)}) == words


def test_a_store_of_before_keeps_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    rows = [(b"1" * 16, YES, None, T), (b"2" * 16, NO, YES, T), (b"3" * 16, NO, NO, 0)]
    SqliteStore.open(path).close()
    with closing(sqlite3.connect(path)) as old, old:
        for column in ("stated_ms", "said"):
            old.execute(f"ALTER TABLE customers DROP COLUMN {column}")
        old.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0018_words'")
        old.executemany(
            "INSERT INTO customers (subject, markers, consents, stated, consents_ms, updated_ms) "
            f"VALUES (?, '[]', ?, ?, ?, {T})",
            rows,
        )
    with closing(SqliteStore.open(path)) as store:
        assert [row.consents for row in store.customers()] == [YES, NO, NO]
        assert [row.words.consents for row in store.customers()] == [YES, NO, NO]
        for who in (b"1" * 16, b"2" * 16, b"3" * 16):
            store.hear_consents(who, {1: (T - 1, True), 2: (T - 1, True)})
        assert [row.consents for row in store.customers()] == [YES, NO, NO]
        store.hear_consents(b"1" * 16, {1: (T + 1, False)})
        store.hear_consents(b"2" * 16, {1: (T + 1, True)})
        store.hear_consents(b"3" * 16, {1: (T + 1, True)})
        assert [row.consents for row in store.customers()] == [NO, YES, YES]


# -- the genomes: increments, builds, and a log that is read again


def _refused(house: House, hour_ms: int) -> None:
    house.store.put_customers([CustomerRow(subject(1), (), NO, hour_ms)])


def _take(house: House, how: str) -> None:
    if how == "build":
        house.build()
    else:
        with closing(LiveConsumer(house.tenant, now_ms=lambda: NOW_MS)) as live:
            assert live.catch_up() == 1


@pytest.mark.parametrize("how", ["increments", "build"])
def test_an_event_that_was_long_on_its_way_undoes_no_later_refusal(
    tmp_path: Path, how: str
) -> None:
    with fresh(tmp_path) as house:
        house.log([consent(1, 5, 1, True)])
        house.build()
        assert house.rows()[subject(1)][0] == YES
        early = house.store.customer(subject(1))
        assert early is not None
        at_ms = early.words.heard[0][1]
        _refused(house, at_ms + 3 * 3_600_000)
        house.log([consent(1, 6, 1, True)])
        _take(house, how)
        assert house.rows()[subject(1)][0] == NO
        house.log([consent(1, 9, 1, True)])
        _take(house, how)
        assert house.rows()[subject(1)][0] == YES


def test_a_log_that_is_read_again_undoes_no_later_refusal(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.log([consent(1, 5, 1, True)])
        house.build()
        known = house.store.customer(subject(1))
        assert known is not None
        _refused(house, known.words.heard[0][1] + 1)
        house.store.set_meta(LOG_KEY, "as after a restore")
        house.build()
        assert house.rows()[subject(1)][0] == NO
