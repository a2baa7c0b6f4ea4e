"""Of two words on a consent the later counts, the careful one at a tie, however they arrive."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import LOG_KEY
from genome_server.store.rows import CustomerRow
from genome_server.store.sqlite import SqliteStore
from genome_server.store.words import Word, Words
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


# -- any words, in any order

Row = tuple[int | None, int]
"""What an import says: consents or nothing about them, and when (Unix ms, 0: not said)."""
Heard = dict[int, Word]
"""What a device says, by purpose."""

_MOMENTS = st.integers(T, T + 4)
_SETS = st.sampled_from([NO, YES, 1 << 2, YES | 1 << 2])
_HEARD = st.dictionaries(st.integers(1, 3), st.tuples(_MOMENTS, st.booleans()), min_size=1)
_SAID = st.tuples(st.none() | _SETS, _MOMENTS) | _HEARD


def said_to(store: SqliteStore, said: Sequence[Row | Heard], *, at_once: bool) -> CustomerRow:
    """Somebody new, of whom this was said; a file has all rows of it that follow each other."""
    who = os.urandom(16)
    for heard, group in itertools.groupby(said, lambda one: isinstance(one, dict)):
        if heard:
            for one in group:
                assert isinstance(one, dict)
                store.hear_consents(who, one)
            continue
        # A profile tells its age, so that rows of one moment have the same.
        rows = [CustomerRow(who, ((f"at:{ms}", 256),), given, ms) for given, ms in group]
        for some in [rows] if at_once else [[row] for row in rows]:
            store.put_customers(some)
    known = store.customer(who)
    assert known is not None
    assert known.words.consents == known.consents, "what is kept is what was said"
    return known


def latest(words: Mapping[int, Sequence[Word]]) -> int:
    """The consents that words on each purpose come to, said plainly."""
    consents = 0
    for purpose, spoken in words.items():
        last = max(at_ms for at_ms, _ in spoken)
        if all(granted for at_ms, granted in spoken if at_ms == last):
            consents |= 1 << purpose
    return consents


def on_each(said: Sequence[Row | Heard]) -> dict[int, list[Word]]:
    """All words of it on each purpose."""
    words: dict[int, list[Word]] = {}
    for one in said:
        if isinstance(one, dict):
            for purpose, word in one.items():
                words.setdefault(purpose, []).append(word)
        elif one[0] is not None:
            for purpose in (1, 2, 3):
                words.setdefault(purpose, []).append((one[1], bool(one[0] >> purpose & 1)))
    return words


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(said=st.lists(_SAID, min_size=1, max_size=4), at_once=st.booleans())
# A refusal that is said again, later, after a yes that came between.
@example(said=[(NO, T), {1: (T + 1, True)}, (NO, T + 2)], at_once=False)
# A profile without consents that is younger than a refusal.
@example(said=[{1: (T, True)}, (None, T + 4), (NO, T + 2)], at_once=True)
# Two statements of one moment.
@example(said=[(YES, T), (1 << 2, T)], at_once=False)
def test_every_order_comes_to_the_same(
    store: SqliteStore, said: list[Row | Heard], at_once: bool
) -> None:
    words = on_each(said)
    rows = [one[1] for one in said if not isinstance(one, dict)]
    with store.transaction():
        for order in itertools.permutations(said):
            known = said_to(store, order, at_once=at_once)
            assert known.consents == latest(words), order
            assert known.silent == (not words)
            assert known.markers == (((f"at:{max(rows)}", 256),) if rows else ())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_SAID | st.tuples(_SETS, st.just(0)), min_size=1, max_size=6), st.booleans())
def test_statements_without_a_time_follow_what_was_known(
    store: SqliteStore, said: list[Row | Heard], at_once: bool
) -> None:
    words: dict[int, list[Word]] = {purpose: [(0, False)] for purpose in (1, 2, 3)}
    statements: list[Row] = []
    for one in said:
        if isinstance(one, dict) or one[1]:
            for purpose, spoken in on_each([one]).items():
                words[purpose] += spoken
            if not isinstance(one, dict) and one[0] is not None:
                statements.append(one)
            continue
        given, _ = one
        assert given is not None
        last = max((ms for _, ms in statements), default=0)
        of_last = on_each([one for one in statements if one[1] == last])
        if of_last and given == latest(of_last):
            continue  # to repeat a statement is none
        for purpose, spoken in words.items():
            spoken.append((max(ms for ms, _ in spoken) + 1, bool(given >> purpose & 1)))
        statements.append((given, last + 1))
    with store.transaction():
        assert said_to(store, said, at_once=at_once).consents == latest(words)


def test_a_statement_without_a_time_is_later_than_all_that_was_heard(store: SqliteStore) -> None:
    store.hear_consents(ANN, {1: (T, False)})
    stated(store, YES, 0)
    assert consents_of(store) == YES
    store.hear_consents(ANN, {1: (T, False)})
    assert consents_of(store) == YES, "heard before"
    store.hear_consents(ANN, {1: (T + 2, False)})
    stated(store, YES, 0)
    assert consents_of(store) == NO, "to repeat a statement is none"


def test_a_withdrawal_that_comes_late_is_not_lost_to_a_statement_without_a_time(
    store: SqliteStore,
) -> None:
    store.hear_consents(ANN, {1: (T, False)})
    stated(store, YES | 1 << 2, 0)
    assert consents_of(store) == YES | 1 << 2
    store.hear_consents(ANN, {2: (T - 5, False)})
    assert consents_of(store) == YES, "nobody knows whether the file is younger than T - 5"
    stated(store, NO, T + 2)
    stated(store, YES, 0)
    store.put_customers([CustomerRow(ANN, (), NO, T + 1)])
    assert consents_of(store) == YES, "older than what was known"


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


def test_an_older_row_gives_a_store_of_before_no_consent(store: SqliteStore) -> None:
    """Its statement has no time, and may be as young as its profile."""
    store.put_customers([CustomerRow(ANN, (("tier:gold", 256),), 1 << 2, T)])
    with store.transaction():
        store.run("UPDATE customers SET stated_ms = 0")
    stated(store, YES | 1 << 2, T - 5)
    stated(store, YES | 1 << 2, T - 4)
    assert consents_of(store) == 1 << 2, "it may have been refused since"
    stated(store, YES, T - 3)
    assert consents_of(store) == NO, "to take it back needs no proof"
    store.hear_consents(ANN, {2: (T - 4, True)})
    assert consents_of(store) == NO
    stated(store, YES, T + 1)
    assert consents_of(store) == YES


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
