"""What devices hear of: genome stamps, audiences and consent, against a model of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genome_edge.v1.dna_pb2 import GenomeBlock
from genome_server.errors import StoreError
from genome_server.store import AudienceRow, CustomerRow, DeleteReason, GenomeChange, GenomeRecord
from genome_server.store.sqlite import SqliteStore

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
YES, NO = 0b10, 0


def row_bytes(subject: bytes, consents: int, code: int = 9) -> bytes:
    return GenomeBlock(
        subjects=subject,
        consents=[consents],
        as_of_hours=[4],
        counts=[1],
        index_deltas=[3],
        strengths=bytes([code]),
    ).SerializeToString()


def record(subject: bytes, consents: int = YES, code: int = 9) -> GenomeRecord:
    return GenomeRecord(subject, 1, b"state", 100, row_bytes(subject, consents, code), consents)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore.open(tmp_path / "tenant.sqlite")
    for name in ("all", "lobby"):
        made.put_audience(AudienceRow(name, {"none": True}))
    yield made
    made.close()


def kinds(changes: list[GenomeChange]) -> list[tuple[bytes, DeleteReason | None]]:
    return [(change.subject, change.reason) for change in changes]


def test_a_change_is_heard_of_once(store: SqliteStore) -> None:
    store.put_customers([CustomerRow(A, (), YES), CustomerRow(B, (), YES)])
    store.set_members("all", [A, B])
    assert store.genome_changes("all", 0, 10) == [], "no genome yet"
    newest = store.put_genomes([record(A), record(B)], epoch=1)
    changes = store.genome_changes("all", 0, 10)
    assert kinds(changes) == [(A, None), (B, None)]
    assert changes[0].row == row_bytes(A, YES)
    assert changes[-1].changed == newest == store.newest_stamp()
    assert store.genome_changes("all", newest, 10) == []
    assert store.genome_changes("lobby", 0, 10) == []


def test_an_equal_row_takes_no_stamp(store: SqliteStore) -> None:
    store.put_customers([CustomerRow(A, (), YES)])
    store.set_members("all", [A])
    newest = store.put_genomes([record(A)], 1)
    assert store.put_genomes([record(A)], 1) == newest
    stored = store.genome(A)
    assert stored is not None
    assert stored.changed == newest
    assert store.put_genomes([record(A, code=10)], 1) == newest + 1


def test_changes_come_in_pages_without_loss(store: SqliteStore) -> None:
    subjects = [n.to_bytes(16, "big") for n in range(25)]
    store.put_customers(CustomerRow(subject, (), YES) for subject in subjects)
    store.set_members("all", subjects)
    store.put_genomes([record(subject) for subject in subjects], 1)
    heard: list[bytes] = []
    after = 0
    while page := store.genome_changes("all", after, 4):
        heard += [change.subject for change in page]
        after = page[-1].changed
    assert heard == subjects


def test_without_consent_no_device_hears_of_a_customer(store: SqliteStore) -> None:
    store.put_customers([CustomerRow(A, (), 0b100), CustomerRow(B, (), NO)])
    store.set_members("all", [A, B, C])  # C is no customer at all
    store.put_genomes([record(s, NO) for s in (A, B, C)], 1)
    store.set_members("all", [])
    assert store.genome_changes("all", 0, 10) == []


def test_consent_withdrawn_and_given_again(store: SqliteStore) -> None:
    store.put_customers([CustomerRow(A, (), YES)])
    store.set_members("all", [A])
    before = store.put_genomes([record(A)], 1)
    store.set_consents(A, NO)
    assert kinds(store.genome_changes("all", before, 9)) == [(A, DeleteReason.CONSENT_WITHDRAWN)]
    assert kinds(store.genome_changes("all", 0, 9)) == [(A, DeleteReason.CONSENT_WITHDRAWN)]
    assert store.is_member("all", A)
    after = store.newest_stamp()
    store.set_consents(A, 0b110)
    (change,) = store.genome_changes("all", after, 9)
    assert change.row == row_bytes(A, 0b110), "the row says what was agreed to"
    stored = store.genome(A)
    assert stored is not None
    assert (stored.consents, stored.changed) == (0b110, change.changed)


def test_a_row_that_was_computed_before_a_withdrawal_does_not_undo_it(store: SqliteStore) -> None:
    store.put_customers([CustomerRow(A, (), YES)])
    store.set_members("all", [A])
    late = record(A)
    store.set_consents(A, NO)
    store.put_genomes([late], 1)
    stored = store.genome(A)
    assert stored is not None
    assert stored.consents == NO
    assert GenomeBlock.FromString(stored.row).consents[:] == [NO]
    assert [change.row for change in store.genome_changes("all", 0, 9)] == [None]


def test_joining_and_leaving(store: SqliteStore) -> None:
    store.put_customers([CustomerRow(s, (), YES) for s in (A, B)])
    store.put_genomes([record(A), record(B)], 1)
    assert store.set_members("all", [A]) == (1, 0)
    start = store.newest_stamp()
    assert store.set_members("all", [B]) == (1, 1)
    changes = kinds(store.genome_changes("all", start, 9))
    assert sorted(changes) == [(A, DeleteReason.LEFT_AUDIENCE), (B, None)]
    assert not store.is_member("all", A)
    assert store.audience_size("all") == 1
    assert list(store.members("all")) == [B]
    start = store.newest_stamp()
    assert store.set_members("all", [A, B]) == (1, 0)
    assert kinds(store.genome_changes("all", start, 9)) == [(A, None)], "back again"
    assert store.set_members("all", [A, B]) == (0, 0)


def test_a_newly_consenting_member_appears(store: SqliteStore) -> None:
    store.set_members("all", [A])
    store.put_genomes([record(A, NO)], 1)
    store.put_customers([CustomerRow(A, (), NO)])
    start = store.newest_stamp()
    store.put_customers([CustomerRow(A, (), YES)])
    assert kinds(store.genome_changes("all", start, 9)) == [(A, None)]


def test_an_erased_customer_is_gone_and_devices_hear_of_it(store: SqliteStore) -> None:
    subject = store.subject_of("app", "anna", create=True)
    assert subject is not None
    store.put_customers([CustomerRow(subject, (("age:26", 256),), YES)])
    store.set_members("all", [subject])
    store.put_genomes([record(subject)], 1)
    start = store.newest_stamp()
    assert store.erase_subject(subject)
    assert kinds(store.genome_changes("all", start, 9)) == [(subject, DeleteReason.ERASED)]
    assert store.subject_of("app", "anna") is None
    assert store.customer(subject) is None
    assert store.genome(subject) is None
    assert not store.is_member("all", subject)
    assert not store.erase_subject(subject)


def test_members_of_an_audience_that_does_not_exist(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="no audience"):
        store.set_members("lobyb", [A])


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("genome"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("consent"), st.integers(0, 2), st.sampled_from([0, 2, 4, 6])),
        st.tuples(st.just("import"), st.integers(0, 2), st.sampled_from([0, 2, 4, 6])),
        st.tuples(st.just("members"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("erase"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("sync"), st.just(0), st.just(0)),
    ),
    max_size=25,
)
_FILES = itertools.count()


@given(OPERATIONS)
@settings(max_examples=40, deadline=None)
def test_a_device_that_follows_holds_what_it_may_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"model-{next(_FILES)}.sqlite"
    store = SqliteStore.open(path)
    store.put_audience(AudienceRow("all", {"none": True}))
    people = (A, B, C)
    members: set[bytes] = set()
    held: dict[bytes, bytes] = {}
    cursor = 0

    def sync() -> None:
        nonlocal cursor
        while page := store.genome_changes("all", cursor, 2):
            for change in page:
                if change.row is None:
                    held.pop(change.subject, None)
                else:
                    held[change.subject] = change.row
            cursor = page[-1].changed

    for name, who, value in operations:
        if name == "genome":
            store.put_genomes([record(people[who], NO, value)], 1)
        elif name == "consent":
            store.set_consents(people[who], value)
        elif name == "import":
            store.put_customers([CustomerRow(people[who], (), value)])
        elif name == "members":
            members = {people[i] for i in range(3) if who >> i & 1}
            store.set_members("all", members)
        elif name == "erase":
            store.erase_subject(people[who])
            members.discard(people[who])
        else:
            sync()
    sync()
    expected = {}
    for subject in members:
        customer, genome = store.customer(subject), store.genome(subject)
        if customer and genome and (customer.consents or 0) & YES:
            expected[subject] = genome.row
            assert GenomeBlock.FromString(genome.row).consents[:] == [customer.consents]
    store.close()
    assert held == expected
