"""What devices must come to: tallies, row sums and journals, against what they are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genome_edge.v1.dna_pb2 import GenomeBlock
from genome_server.store import AudienceRow, CustomerRow, DeleteReason, GenomeRecord
from genome_server.store.journal import (
    MAX_JOURNAL,
    begun,
    changed_since,
    continued,
    row_sums_of,
)
from genome_server.store.sqlite import SqliteStore

YES = 0b10
PEOPLE = [bytes([n]) * 16 for n in range(1, 7)]

Markers = dict[int, int]


def block(subject: bytes, markers: Markers, consents: int = YES, hour: int = 0) -> bytes:
    ordered = sorted(markers)
    return GenomeBlock(
        subjects=subject,
        consents=[consents],
        as_of_hours=[hour],
        counts=[len(ordered)],
        index_deltas=[b - a for a, b in itertools.pairwise([0, *ordered])],
        strengths=bytes(markers[index] for index in ordered),
    ).SerializeToString()


def record(subject: bytes, markers: Markers, epoch: int = 1, hour: int = 0) -> GenomeRecord:
    return GenomeRecord(subject, epoch, b"", 0, block(subject, markers, YES, hour), YES)


def markers_of(row: bytes) -> Markers:
    parsed = GenomeBlock.FromString(row)
    return dict(zip(itertools.accumulate(parsed.index_deltas), parsed.strengths, strict=True))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore.open(tmp_path / "tenant.sqlite")
    for name in ("all", "lobby"):
        made.put_audience(AudienceRow(name, {"none": True}))
    yield made
    made.close()


def rows_of(store: SqliteStore, audience: str) -> dict[bytes, bytes]:
    changes = store.genome_changes(audience, 0, 1_000)
    return {change.subject: change.row for change in changes if change.row is not None}


markers = st.dictionaries(st.integers(0, 70_000), st.integers(1, 255), max_size=5)
people = st.integers(0, len(PEOPLE) - 1)
steps = st.one_of(
    st.tuples(st.just("put"), st.dictionaries(people, markers, max_size=4), st.integers(1, 2)),
    st.tuples(st.just("members"), st.sampled_from(["all", "lobby"]), st.sets(people)),
    st.tuples(st.just("consents"), people, st.sampled_from([0, 0b10, 0b100, 0b110])),
    st.tuples(st.just("erase"), people),
    st.tuples(st.just("import"), people, st.sampled_from([0, 0b10])),
    st.tuples(st.just("audience"), st.sampled_from(["all", "lobby"])),
)


def do(store: SqliteStore, step: tuple[Any, ...]) -> None:
    match step:
        case ("put", rows, epoch):
            store.put_genomes([record(PEOPLE[i], m, epoch) for i, m in rows.items()], epoch)
        case ("members", audience, members):
            store.set_members(audience, [PEOPLE[i] for i in members])
        case ("consents", who, consents):
            store.set_consents(PEOPLE[who], consents)
        case ("erase", who):
            store.erase_subject(PEOPLE[who])
        case ("import", who, consents):
            store.put_customers([CustomerRow(PEOPLE[who], (), consents)])
        case ("audience", name):
            store.put_audience(AudienceRow(name, {"all": True}))


@settings(max_examples=60, deadline=None)
@given(data=st.lists(steps, min_size=1, max_size=25))
def test_tallies_are_what_the_rows_come_to_and_patches_lead_there(
    tmp_path_factory: pytest.TempPathFactory, data: list[tuple[Any, ...]]
) -> None:
    store = SqliteStore.open(tmp_path_factory.mktemp("store") / "tenant.sqlite")
    try:
        for name in ("all", "lobby"):
            store.put_audience(AudienceRow(name, {"none": True}))
        store.put_customers([CustomerRow(subject, (), YES) for subject in PEOPLE[:4]])
        store.set_members("all", PEOPLE)
        # What devices hold that came by at some stamp.
        held: list[tuple[str, int, dict[bytes, bytes]]] = []
        for step in data:
            do(store, step)
            for audience in ("all", "lobby"):
                rows = rows_of(store, audience)
                tally = store.tally(audience)
                assert tally.rows == len(rows)
                sums = row_sums_of(list(rows.values())) if rows else []
                assert tally.row_sum == sum(sums) % (1 << 64)
                held.append((audience, store.newest_stamp(), rows))
        for audience, stamp, rows in held:
            now = dict(rows)
            for change in store.genome_changes(audience, stamp, 1_000):
                if change.row is None:
                    now.pop(change.subject, None)
                    continue
                indices = changed_since(change.journal, stamp) if change.joined <= stamp else None
                if indices is None:
                    now[change.subject] = change.row
                else:
                    now[change.subject] = patched(rows[change.subject], change.row, indices)
            assert {s: parsed(r) for s, r in now.items()} == {
                s: parsed(r) for s, r in rows_of(store, audience).items()
            }
    finally:
        store.close()


def test_devices_hear_of_an_erasure_also_where_the_customer_came_back(store: SqliteStore) -> None:
    who = PEOPLE[0]
    store.put_customers([CustomerRow(who, (), YES)])
    store.set_members("all", [who])
    held = store.put_genomes([record(who, {1: 10})], 1)
    store.erase_subject(who)
    store.set_consents(who, YES)
    store.set_members("all", [who])
    assert store.is_member("all", who)
    (change,) = store.genome_changes("all", held, 9)
    assert (change.row, change.reason) == (None, DeleteReason.ERASED)
    assert store.erased("all") == [who]
    assert store.anyone_gone("all", held)
    store.put_genomes([record(who, {2: 20})], 1)
    (change,) = store.genome_changes("all", held, 9)
    assert change.row is not None
    assert changed_since(change.journal, held) is None, "nothing of what was erased is built on"
    assert store.tally("all").rows == 1


def patched(old: bytes, new: bytes, indices: set[int]) -> bytes:
    """The old row with these markers as in the new one, and its consents."""
    target = markers_of(new)
    mixed = {i: c for i, c in markers_of(old).items() if i not in indices}
    mixed |= {i: target[i] for i in indices if i in target}
    parsed_new = GenomeBlock.FromString(new)
    return block(parsed_new.subjects, mixed, parsed_new.consents[0])


def parsed(row: bytes) -> tuple[Markers, int]:
    return markers_of(row), GenomeBlock.FromString(row).consents[0]


def test_a_journal_names_what_changed(store: SqliteStore) -> None:
    who = PEOPLE[0]
    store.put_customers([CustomerRow(who, (), YES)])
    store.set_members("all", [who])
    first = store.put_genomes([record(who, {1: 10, 2: 20, 70_000: 3})], 1)
    second = store.put_genomes([record(who, {1: 11, 2: 20, 9: 9})], 1)
    (change,) = store.genome_changes("all", first, 9)
    assert changed_since(change.journal, first) == {1, 9, 70_000}
    assert changed_since(change.journal, second) == set()
    assert changed_since(change.journal, first - 1) is None, "there was no row yet"
    store.put_genomes([record(who, {1: 11}, hour=5)], 1)
    (change,) = store.genome_changes("all", second, 9)
    assert changed_since(change.journal, second) is None, "a row of another hour is another row"


def test_a_long_journal_forgets_its_oldest_entries() -> None:
    journal = begun(1)
    for stamp in range(2, 200):
        journal = continued(journal, stamp, stamp.to_bytes(4, "little"))
    assert len(journal) <= MAX_JOURNAL
    assert changed_since(journal, 199) == set()
    assert changed_since(journal, 190) == set(range(191, 200))
    assert changed_since(journal, 2) is None


def test_who_shares_the_beginning_of_a_subject_is_named(store: SqliteStore) -> None:
    twins = [bytes(7) + b"\x07" + bytes([n]) * 8 for n in (0, 255)]
    alone = bytes(7) + b"\x08" + bytes(8)
    store.put_customers([CustomerRow(s, (), YES) for s in (*twins, alone)])
    store.set_members("all", [*twins, alone])
    assert store.crowded("all", [*twins, alone]) == set(twins)
    assert store.crowded("lobby", [*twins, alone]) == set()


def test_a_store_from_before_is_summed_up(store: SqliteStore, tmp_path: Path) -> None:
    store.put_customers([CustomerRow(s, (), YES) for s in PEOPLE])
    store.set_members("all", PEOPLE)
    store.put_genomes([record(s, {n: n + 1}) for n, s in enumerate(PEOPLE)], 1)
    before = store.tally("all")
    db = store.db
    for (trigger,) in db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall():
        db.execute(f"DROP TRIGGER {trigger}")
    db.execute("DROP TABLE tallies")
    for column in ("row_sum", "journal"):
        db.execute(f"ALTER TABLE genomes DROP COLUMN {column}")
    db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0012_row_sums'")
    store.close()
    again = SqliteStore.open(tmp_path / "tenant.sqlite")
    try:
        assert again.tally("all") == before
        assert before.rows == len(PEOPLE)
        assert again.tally("lobby") == (0, 0)
    finally:
        again.close()
