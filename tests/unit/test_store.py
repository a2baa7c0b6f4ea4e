"""The embedded store: people, reference data, the fleet, transactions, migrations."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from genome_server.errors import (
    CodeExpired,
    CodeInvalid,
    CodeUsed,
    StoreDamaged,
    StoreError,
    StoreTooNew,
)
from genome_server.store import AudienceRow, CustomerRow, DeviceRow, PutCount, ReleaseRow, ThinRow
from genome_server.store.migrations import MIGRATIONS
from genome_server.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore.open(tmp_path / "tenant.sqlite")
    yield made
    made.close()


def test_a_subject_is_made_once_and_is_random(store: SqliteStore) -> None:
    assert store.subject_of("app", "anna") is None
    first = store.subject_of("app", "anna", create=True)
    assert first is not None
    assert len(first) == 16
    assert store.subject_of("app", "anna", create=True) == first
    assert store.subject_of("till", "anna", create=True) != first
    made = store.subjects_of("app", ["anna", "ben", "ben"], create=True)
    assert set(made) == {"anna", "ben"}
    assert made["anna"] == first
    assert set(store.external_ids([first])) == {(first, "app", "anna")}
    assert len(list(store.external_ids())) == 3


def test_a_document_is_new_changed_or_unchanged(store: SqliteStore) -> None:
    assert store.put_documents("product", [("a", {"x": 1}), ("b", {})]) == PutCount(2, 0, 0)
    assert store.put_documents("product", [("a", {"x": 1}), ("b", {"y": 2})]) == PutCount(0, 1, 1)
    assert store.document("product", "b") == {"y": 2}
    assert store.document("offer", "b") is None
    assert [name for name, _ in store.documents("product")] == ["a", "b"]
    assert store.document_count("product") == 2
    with pytest.raises(ValueError, match="no kind"):
        store.put_documents("produkt", [])


def test_of_equal_ids_the_last_wins_and_every_row_is_counted(store: SqliteStore) -> None:
    rows = [("a", {"x": 1}), ("a", {"x": 2}), ("a", {"x": 2})]
    assert store.put_documents("offer", rows) == PutCount(1, 1, 1)
    assert store.document("offer", "a") == {"x": 2}


def test_more_rows_than_one_page(store: SqliteStore) -> None:
    rows = [(f"p{i:05}", {"n": i}) for i in range(4_500)]
    assert store.put_documents("product", rows).inserted == 4_500
    assert [document["n"] for _, document in store.documents("product")] == list(range(4_500))


def test_documents_can_be_changed_while_they_are_read(store: SqliteStore) -> None:
    store.put_documents("product", [(f"p{i:05}", {"n": i}) for i in range(2_500)])
    for name, document in store.documents("product"):
        store.put_documents("product", [(name, {"n": -document["n"]})])
    assert store.document("product", "p02499") == {"n": -2499}


def test_customers_and_their_consents(store: SqliteStore) -> None:
    subject = store.subject_of("app", "anna", create=True)
    assert subject is not None
    row = CustomerRow(subject, (("age:26", 256), ("gender:f", 128)), consents=0b10)
    assert store.put_customers([row]) == PutCount(1, 0, 0)
    assert store.put_customers([row]) == PutCount(0, 0, 1)
    assert store.customer(subject) == row
    assert store.put_customers([CustomerRow(subject, (), 0b10)]) == PutCount(0, 1, 0)
    assert list(store.customers()) == [CustomerRow(subject, (), 0b10)]
    assert store.customer_count() == 1


def test_repeating_an_import_does_not_undo_a_withdrawal(store: SqliteStore) -> None:
    subject = b"s" * 16
    stated = CustomerRow(subject, (), consents=0b10)
    store.put_customers([stated])
    store.set_consents(subject, 0)
    store.put_customers([stated])
    assert store.customer(subject) == CustomerRow(subject, (), 0)
    store.put_customers([CustomerRow(subject, (), consents=0b110)])
    assert store.customer(subject) == CustomerRow(subject, (), 0b110), "said anew"


def test_a_statement_older_than_the_withdrawal_does_not_count(store: SqliteStore) -> None:
    subject = b"s" * 16
    store.put_customers([CustomerRow(subject, (), 0b10, updated_ms=1_000)])
    store.set_consents(subject, 0, at_ms=3_000)
    store.put_customers([CustomerRow(subject, (("a:b", 256),), 0b100, updated_ms=2_000)])
    assert store.customer(subject) == CustomerRow(subject, (("a:b", 256),), 0, 2_000)
    store.put_customers([CustomerRow(subject, (), 0b110, updated_ms=4_000)])
    assert store.customer(subject) == CustomerRow(subject, (), 0b110, 4_000)


def test_what_is_set_now_counts_after_all_that_was_heard(store: SqliteStore) -> None:
    subject = b"t" * 16
    for consents in (0, 0b110, 0, 0b10):  # within one millisecond, most likely
        store.set_consents(subject, consents)
        customer = store.customer(subject)
        assert customer is not None
        assert customer.consents == consents


def test_a_row_older_than_what_is_stored_changes_nothing(store: SqliteStore) -> None:
    subject = b"s" * 16
    store.put_customers([CustomerRow(subject, (("a:b", 256),), 0, updated_ms=2_000)])
    assert store.put_customers([CustomerRow(subject, (), 0b10, 1_000)]) == PutCount(0, 0, 1)
    assert store.customer(subject) == CustomerRow(subject, (("a:b", 256),), 0, 2_000)


def test_consent_of_a_customer_that_no_import_named(store: SqliteStore) -> None:
    store.set_consents(b"s" * 16, 0b10)
    assert store.customer(b"s" * 16) == CustomerRow(b"s" * 16, (), 0b10)


def test_the_vocabulary_only_grows(store: SqliteStore) -> None:
    first = store.extend_vocabulary(["a:x", "a:y", "a:x"])
    assert list(first) == ["a:x", "a:y"]
    second = store.extend_vocabulary(["a:y", "b:z"])
    assert list(second) == ["a:x", "a:y", "b:z"]
    assert second.lineage == first.lineage
    assert list(store.vocabulary()) == list(second)


def test_two_processes_extend_one_vocabulary(tmp_path: Path) -> None:
    stores = [SqliteStore.open(tmp_path / "tenant.sqlite") for _ in range(2)]
    stores[0].extend_vocabulary(["a:x"])
    stores[1].extend_vocabulary(["a:y", "a:x"])
    stores[0].extend_vocabulary(["a:y", "a:z"])
    for store in stores:
        assert list(store.vocabulary()) == ["a:x", "a:y", "a:z"]
        store.close()


def test_an_interaction_is_new_once_in_each_scope(store: SqliteStore) -> None:
    a, b, c = (bytes([n]) * 16 for n in range(3))
    assert store.add_interactions([a, b, a]) == {a, b}
    assert store.add_interactions([b, c]) == {c}
    assert store.seen_interactions([a, b, c, b"x" * 16]) == {a, b, c}
    assert store.seen_interactions([a], scope="log") == set()
    assert store.add_interactions([a], scope="log") == {a}


def test_ids_of_an_earlier_version_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "tenant.sqlite"
    db = Database(path)
    MIGRATIONS.apply(db, stop_before="m0014_id_scopes")
    a, b, c = (bytes([n]) * 16 for n in range(3))
    rows = [("genomes", b), ("genomes", a), ("log", c)]
    db.conn.executemany("INSERT INTO interaction_ids VALUES (?, ?)", rows)
    db.conn.commit()
    db.close()
    store = SqliteStore.open(path)
    assert store.seen_interactions([a, b, c]) == {a, b}
    assert store.add_interactions([a, c], scope="log") == {a}
    assert store.seen_interactions([a, b, c], scope="log") == {a, c}
    store.close()


def test_counters_never_give_a_number_twice(store: SqliteStore) -> None:
    assert [store.next_counter("release") for _ in range(3)] == [1, 2, 3]
    assert store.next_counter("other") == 1
    taken: list[int] = []

    def take() -> None:
        taken.extend(store.next_counter("release") for _ in range(20))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(4, 84))


def test_a_transaction_is_whole_or_nothing(store: SqliteStore) -> None:
    def fail_after(key: str) -> None:
        with store.transaction():
            store.set_meta(key, "1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after("a")
    assert store.meta("a") is None
    with store.transaction():
        store.set_meta("a", "1")
        with pytest.raises(RuntimeError):
            fail_after("b")
    assert (store.meta("a"), store.meta("b")) == ("1", None)


def test_codes_are_used_once_and_in_time(store: SqliteStore) -> None:
    store.put_code(b"one", "all", expires_ms=100)
    store.put_code(b"two", "lobby", expires_ms=100)
    with pytest.raises(CodeInvalid):
        store.use_code(b"none", now_ms=1)
    assert store.use_code(b"one", now_ms=99) == ("all", "stable")
    with pytest.raises(CodeUsed) as caught:
        store.use_code(b"one", now_ms=99)
    assert caught.value.reason == "CODE_USED"
    with pytest.raises(CodeExpired):
        store.use_code(b"two", now_ms=100)


def test_devices_and_thin_clients(store: SqliteStore) -> None:
    kiosk = DeviceRow("d1", "lobby", "all", b"k" * 32, "0.1.0", created_ms=5)
    store.put_device(kiosk)
    assert store.device("d1") == kiosk
    store.touch_devices({"d1": (9, {"tier": "fresh"}), "nobody": (9, {})})
    store.revoke_device("d1")
    (seen,) = store.devices()
    assert (seen.seen_ms, seen.revoked, seen.status) == (9, True, {"tier": "fresh"})
    assert store.device("d2") is None
    thin = ThinRow("shop", b"hash", "all")
    store.put_thin(thin)
    assert store.thin_by_hash(b"hash") == thin
    assert store.thin_by_hash(b"other") is None
    assert store.thins() == [thin]


def test_the_newest_release_of_a_channel(store: SqliteStore) -> None:
    rows = [ReleaseRow(n, channel, n, n, b"m", 1) for n, channel in ((1, "stable"), (2, "canary"))]
    for row in rows:
        store.put_release(row)
    assert store.release() == rows[0]
    assert store.release(channel="canary") == rows[1]
    assert store.release(2) == rows[1]
    assert store.release(3) is None
    assert store.releases() == rows[::-1]
    with pytest.raises(StoreError):
        store.put_release(rows[0])


def test_a_release_for_a_share_of_a_channel(store: SqliteStore) -> None:
    devices = [f"dev-{n}" for n in range(400)]

    def given(channel: str = "stable") -> Counter[int]:
        rows = (store.release_for(device, channel) for device in devices)
        return Counter(row.version for row in rows if row is not None)

    assert given() == {}
    store.put_release(ReleaseRow(1, "stable", 1, 1, b"m", 1))
    store.put_release(ReleaseRow(2, "stable", 1, 1, b"m", 1, share=0.05))
    assert 5 <= given()[2] <= 40
    few = [device for device in devices if store.release_for(device).version == 2]  # type: ignore[union-attr]
    store.set_release_share(2, 0.5)
    assert 160 <= given()[2] <= 240
    assert all(store.release_for(device).version == 2 for device in few)  # type: ignore[union-attr]
    assert [row.version for row in store.releases_in_force()] == [2, 1]
    # A channel of its own; one without a release gets what everybody gets.
    assert given("canary") == given()
    store.put_release(ReleaseRow(3, "canary", 1, 1, b"m", 1))
    assert given("canary") == {3: 400}
    assert [row.version for row in store.releases_in_force()] == [3, 2, 1]
    store.set_release_share(2, 1.0)
    assert given() == {2: 400}
    assert [row.version for row in store.releases_in_force()] == [3, 2]
    store.withdraw_release(2)
    assert given() == {1: 400}
    assert store.release() == store.release(1)
    assert [row.withdrawn for row in store.releases()] == [False, True, False]


def test_channels_of_codes_and_devices(store: SqliteStore) -> None:
    store.put_code(b"one", "all", expires_ms=100, channel="canary")
    assert store.use_code(b"one", now_ms=1) == ("all", "canary")
    store.put_device(DeviceRow("d1", "lobby", "all", b"k" * 32, channel="canary"))
    store.set_device_channel("d1", "beta")
    assert [device.channel for device in store.devices()] == ["beta"]


def test_signed_messages_by_kind_and_version(store: SqliteStore) -> None:
    for version in (1, 2):
        store.put_trusted("root", version, b"r%d" % version)
        store.put_trusted("timestamp", version, b"t%d" % version, alone=True)
    assert store.trusted("root") == [b"r1", b"r2"]
    assert store.trusted("root", after=1) == [b"r2"]
    assert store.trusted("timestamp") == [b"t2"]
    assert store.trusted_versions() == {"root": 2, "timestamp": 2}
    with pytest.raises(StoreError):
        store.put_trusted("root", 2, b"other")


def test_offsets_and_marks(store: SqliteStore) -> None:
    assert store.consumer_offset("live", 1) == 0
    store.set_consumer_offset("live", 1, 7)
    store.set_consumer_offset("live", 2, 3)
    assert (store.consumer_offset("live", 1), store.consumer_offset("live", 2)) == (7, 3)
    store.set_applied_marks([("d", b"e" * 16, 0, 5), ("d", b"e" * 16, 1, 2)])
    store.set_applied_marks([("d", b"e" * 16, 0, 3), ("other", b"e" * 16, 0, 1)])
    assert store.applied_marks("d") == [(b"e" * 16, 0, 5), (b"e" * 16, 1, 2)]


def test_it_is_still_there_after_reopening(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "tenant.sqlite")
    store.put_audience(AudienceRow("all", {"all": True}, lookup=True, lookup_key=b"k" * 32))
    lineage = store.vocabulary().lineage
    store.close()
    again = SqliteStore.open(tmp_path / "tenant.sqlite")
    assert again.audience("all") == AudienceRow("all", {"all": True}, "members", True, b"k" * 32)
    assert again.vocabulary().lineage == lineage
    again.close()


def test_a_kept_row_is_on_the_disk(store: SqliteStore) -> None:
    assert store.one("PRAGMA journal_mode") == ("wal",)
    assert store.one("PRAGMA synchronous") == (2,)  # FULL


def test_every_step_is_recorded_and_runs_once(store: SqliteStore) -> None:
    applied = [step.name for step in MIGRATIONS.applied(store.db)]
    assert applied == sorted(applied)
    assert len(applied) == len(set(applied)) >= 8
    assert MIGRATIONS.pending(store.db) == []


def test_threads_that_open_at_once_migrate_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            SqliteStore.open(tmp_path / "tenant.sqlite").close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_newer_database_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "tenant.sqlite"
    SqliteStore.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('genome_server.store', 'm9999_later', '')"
    )
    connection.commit()
    connection.close()
    with pytest.raises(StoreTooNew, match=r"m9999_later.*upgrade"):
        SqliteStore.open(path)


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "tenant.sqlite"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreDamaged, match="backup"):
        SqliteStore.open(path)


def test_the_connections_of_ended_threads_are_closed(store: SqliteStore) -> None:
    for _ in range(5):
        thread = threading.Thread(target=store.customer_count)
        thread.start()
        thread.join()
    assert len(store._open) <= 2
