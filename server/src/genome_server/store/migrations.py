"""The steps that make a tenant's database what this version needs.

Each is small, has a name, runs once in a transaction and is recorded. One that has been released is
never edited: what comes later is a step of its own, at the end.
"""

from __future__ import annotations

import functools
import secrets
import sqlite3
from typing import TYPE_CHECKING

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from genome_server.errors import StoreTooNew
from genome_server.store import migrations_sources, migrations_stays

if TYPE_CHECKING:
    from pathlib import Path

MIGRATIONS = Migrations("genome_server.store")

#: `meta` key of the vocabulary's 16-byte lineage, in hex.
LINEAGE_KEY = "vocabulary_lineage"


@MIGRATIONS()
def m0001_meta(db: Database) -> None:
    """Small settings and counters."""
    db.table("meta").create({"key": str, "value": str}, pk="key")
    db.table("counters").create({"name": str, "value": int}, pk="name")


@MIGRATIONS()
def m0002_subjects(db: Database) -> None:
    """The one erasable table that knows customers by their ids, and their profiles."""
    subjects = db.table("subjects").create(
        {"source": str, "external_id": str, "subject": bytes}, pk=("source", "external_id")
    )
    subjects.create_index(["subject"])
    db.table("customers").create(
        {
            "subject": bytes,
            "markers": str,
            "consents": int,
            # What an import stated last, and when consent was last given or
            # withdrawn by other means: repeating a statement is no new one.
            "stated": int,
            "consents_ms": int,
            "updated_ms": int,
        },
        pk="subject",
        not_null=("markers", "consents", "consents_ms", "updated_ms"),
    )


@MIGRATIONS()
def m0003_reference(db: Database) -> None:
    """Products, offers, placements and places; the vocabulary."""
    db.table("documents").create(
        {"kind": str, "id": str, "document": str}, pk=("kind", "id"), not_null=("document",)
    )
    db.table("vocabulary").create({"idx": int, "marker": str}, pk="idx", not_null=("marker",))
    db.table("vocabulary").create_index(["marker"], unique=True)
    db.table("meta").insert({"key": LINEAGE_KEY, "value": secrets.token_hex(16)})


@MIGRATIONS()
def m0004_interaction_ids(db: Database) -> None:
    """Ids that were taken once; the key is the whole row."""
    db.execute(
        "CREATE TABLE interaction_ids (scope TEXT NOT NULL, id BLOB NOT NULL, "
        "PRIMARY KEY (scope, id)) WITHOUT ROWID"
    )


@MIGRATIONS()
def m0005_genomes(db: Database) -> None:
    """Genomes, audiences, and what happened last to each member."""
    db.table("genomes").create(
        {
            "subject": bytes,
            "epoch": int,
            "state": bytes,
            "newest_hour": int,
            "row": bytes,
            "consents": int,
            "changed": int,
        },
        pk="subject",
        not_null=("epoch", "state", "newest_hour", "row", "consents", "changed"),
    )
    db.table("audiences").create(
        {
            "name": str,
            "rule": str,
            "identify": str,
            "lookup": int,
            "lookup_key": bytes,
            "source": str,
        },
        pk="name",
        not_null=("rule", "identify", "lookup", "lookup_key", "source"),
    )
    members = db.table("members").create(
        {"audience": str, "subject": bytes, "stamp": int, "standing": int},
        pk=("audience", "subject"),
        not_null=("stamp", "standing"),
    )
    members.create_index(["audience", "stamp"])
    members.create_index(["subject"])


@MIGRATIONS()
def m0006_consumers(db: Database) -> None:
    """How far readers of the log have got."""
    db.table("consumer_offsets").create(
        {"consumer": str, "epoch": int, "position": int}, pk=("consumer", "epoch")
    )
    db.table("applied_marks").create(
        {"device": str, "epoch": bytes, "lane": int, "sequence": int},
        pk=("device", "epoch", "lane"),
    )


@MIGRATIONS()
def m0007_devices(db: Database) -> None:
    """Enrolment codes, devices, thin clients."""
    db.table("codes").create(
        {"code_hash": bytes, "audience": str, "expires_ms": int, "used_ms": int},
        pk="code_hash",
        not_null=("audience", "expires_ms"),
    )
    db.table("devices").create(
        {
            "id": str,
            "name": str,
            "audience": str,
            "public_key": bytes,
            "sdk_version": str,
            "created_ms": int,
            "seen_ms": int,
            "revoked": int,
            "status": str,
        },
        pk="id",
    )
    thin = db.table("thin").create(
        {"name": str, "token_hash": bytes, "audience": str, "revoked": int}, pk="name"
    )
    thin.create_index(["token_hash"], unique=True)


@MIGRATIONS()
def m0008_releases(db: Database) -> None:
    """Published releases."""
    db.table("releases").create(
        {
            "version": int,
            "channel": str,
            "created_ms": int,
            "expires_ms": int,
            "manifest": bytes,
            "schema_epoch": int,
        },
        pk="version",
    )


@MIGRATIONS()
def m0009_joined(db: Database) -> None:
    """The stamp at which each member joined: whose lookups a device may lack."""
    db.execute("ALTER TABLE members ADD COLUMN joined INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE members SET joined = max(stamp, 1)")
    db.table("members").create_index(["audience", "joined"])


@MIGRATIONS()
def m0010_channels(db: Database) -> None:
    """Devices belong to a channel; a release is for a share of one, and may be withdrawn."""
    db.execute("ALTER TABLE codes ADD COLUMN channel TEXT NOT NULL DEFAULT 'stable'")
    db.execute("ALTER TABLE devices ADD COLUMN channel TEXT NOT NULL DEFAULT 'stable'")
    db.execute("ALTER TABLE releases ADD COLUMN share REAL NOT NULL DEFAULT 1")
    db.execute("ALTER TABLE releases ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0")
    db.table("releases").create_index(["channel", "version"])


@MIGRATIONS()
def m0011_trust(db: Database) -> None:
    """What the tenant's keys have signed for devices: roots, the timestamp, the stop list."""
    db.execute(
        "CREATE TABLE trust (kind TEXT NOT NULL, version INTEGER NOT NULL, signed BLOB NOT NULL, "
        "PRIMARY KEY (kind, version)) WITHOUT ROWID"
    )


@MIGRATIONS()
def m0012_row_sums(db: Database) -> None:
    """What devices must come to: each row's sum and journal, and for each audience how many rows
    there are and what they add up to.

    SQLite knows no arithmetic modulo 2^64: a sum is kept as those of its two halves. Who comes
    and goes is counted by triggers; whoever writes another sum of a row says so to the tallies,
    for many rows at once.
    """
    from genome_server.store.journal import begun, row_sums_of

    db.execute("ALTER TABLE genomes ADD COLUMN row_sum INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE genomes ADD COLUMN journal BLOB NOT NULL DEFAULT x''")
    db.execute(
        "CREATE TABLE tallies (audience TEXT NOT NULL PRIMARY KEY, genomes INTEGER NOT NULL, "
        "low INTEGER NOT NULL, high INTEGER NOT NULL) WITHOUT ROWID"
    )
    last = b""
    while rows := db.execute(
        "SELECT subject, row, changed FROM genomes WHERE subject > ? ORDER BY subject LIMIT 2000",
        [last],
    ).fetchall():
        sums = row_sums_of([row for _, row, _ in rows])
        db.conn.executemany(
            "UPDATE genomes SET row_sum = ?, journal = ? WHERE subject = ?",
            ((sums[i], begun(changed), s) for i, (s, _, changed) in enumerate(rows)),
        )
        last = rows[-1][0]
    low, high = "(g.row_sum & 4294967295)", "((g.row_sum >> 32) & 4294967295)"
    db.execute(
        "INSERT INTO tallies SELECT a.name, count(g.subject), "
        f"coalesce(sum({low}), 0), coalesce(sum({high}), 0) FROM audiences AS a "
        "LEFT JOIN members AS m ON m.audience = a.name AND m.standing = 0 "
        "LEFT JOIN genomes AS g ON g.subject = m.subject GROUP BY a.name"
    )
    db.execute(
        "CREATE TRIGGER tally_of_audience AFTER INSERT ON audiences "
        # An OR REPLACE around this statement would hold for what is done here, too.
        "WHEN NOT EXISTS (SELECT 1 FROM tallies WHERE audience = new.name) "
        "BEGIN INSERT INTO tallies VALUES (new.name, 0, 0, 0); END"
    )

    def counted(sign: str, row: str, of: str) -> str:
        half = f"(SELECT {low} FROM genomes AS g WHERE g.subject = {row}.subject)"
        other = half.replace(low, high)
        return (
            f"UPDATE tallies SET genomes = genomes {sign} 1, low = low {sign} {half}, "
            f"high = high {sign} {other} WHERE audience = {row}.audience AND {of}; "
        )

    def there(row: str) -> str:
        return (
            f"{row}.standing = 0 AND "
            f"EXISTS (SELECT 1 FROM genomes AS g WHERE g.subject = {row}.subject)"
        )

    joins, leaves = counted("+", "new", there("new")), counted("-", "old", there("old"))
    for event, done in (
        ("INSERT", joins),
        ("DELETE", leaves),
        ("UPDATE OF standing", leaves + joins),
    ):
        name = f"tally_member_{event.partition(' ')[0].lower()}"
        changed = "WHEN old.standing <> new.standing " if "OF" in event else ""
        db.execute(f"CREATE TRIGGER {name} AFTER {event} ON members {changed}BEGIN {done}END")

    def weighed(sign: str, row: str) -> str:
        return (
            f"low = low {sign} ({row}.row_sum & 4294967295), "
            f"high = high {sign} (({row}.row_sum >> 32) & 4294967295)"
        )

    where = (
        "WHERE audience IN (SELECT audience FROM members WHERE subject = {row}.subject "
        "AND standing = 0); "
    )
    for event, row, sign in (("INSERT", "new", "+"), ("DELETE", "old", "-")):
        db.execute(
            f"CREATE TRIGGER tally_genome_{event.lower()} AFTER {event} ON genomes BEGIN "
            f"UPDATE tallies SET genomes = genomes {sign} 1, {weighed(sign, row)} "
            f"{where.format(row=row)}END"
        )


@MIGRATIONS()
def m0013_unusual_devices(db: Database) -> None:
    """Finding the few devices that are revoked or not in the usual channel costs nothing."""
    db.execute(
        "CREATE INDEX unusual_devices ON devices (id, channel, revoked) "
        "WHERE revoked = 1 OR channel <> 'stable'"
    )


@MIGRATIONS()
def m0014_id_scopes(db: Database) -> None:
    """Ids that were taken once stand under a number for their scope, not under its long name: a row
    is a third as long, and what is added all over the table touches a third of the pages."""
    db.execute("CREATE TABLE id_scopes (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
    db.execute("INSERT INTO id_scopes (name) SELECT DISTINCT scope FROM interaction_ids")
    db.execute(
        "CREATE TABLE ids_by_number (scope INTEGER NOT NULL, id BLOB NOT NULL, "
        "PRIMARY KEY (scope, id)) WITHOUT ROWID"
    )
    db.execute(
        "INSERT INTO ids_by_number SELECT s.number, i.id FROM interaction_ids AS i "
        "JOIN id_scopes AS s ON s.name = i.scope ORDER BY s.number, i.id"
    )
    db.execute("DROP TABLE interaction_ids")
    db.execute("ALTER TABLE ids_by_number RENAME TO interaction_ids")


@MIGRATIONS()
def m0015_cap_events(db: Database) -> None:
    """What customers did that counts for caps everywhere, and when each audience heard last of any.

    Whoever becomes a member whose row devices may hold is stamped anew with all of it.
    """
    db.execute(
        "CREATE TABLE cap_events (subject BLOB NOT NULL, kind INTEGER NOT NULL, "
        "claim BLOB NOT NULL, offer TEXT NOT NULL, campaign TEXT NOT NULL, "
        "exclusivity TEXT NOT NULL, at_ms INTEGER NOT NULL, stamp INTEGER NOT NULL, "
        "PRIMARY KEY (subject, kind, claim)) WITHOUT ROWID"
    )
    db.execute("CREATE INDEX cap_events_by_stamp ON cap_events (stamp)")
    db.execute(
        "CREATE TABLE cap_stamps (audience TEXT NOT NULL PRIMARY KEY, stamp INTEGER NOT NULL) "
        "WITHOUT ROWID"
    )
    known = "EXISTS (SELECT 1 FROM cap_events WHERE subject = new.subject)"
    for name, event, before in (
        ("joins", "INSERT", ""),
        ("returns", "UPDATE OF standing", "old.standing <> 0 AND "),
    ):
        db.execute(
            f"CREATE TRIGGER cap_member_{name} AFTER {event} ON members "
            f"WHEN new.standing = 0 AND {before}{known} BEGIN "
            "UPDATE cap_events SET stamp = new.stamp WHERE subject = new.subject; "
            "INSERT OR REPLACE INTO cap_stamps VALUES (new.audience, new.stamp); END"
        )


@MIGRATIONS()
def m0016_often_asked(db: Database) -> None:
    """Whether other devices are unusual than before, or somebody is gone, is asked all the time."""
    db.execute("INSERT INTO counters VALUES ('unusual_devices', 0)")
    unusual = "({0}.revoked = 1 OR {0}.channel <> 'stable')"
    # What an OR REPLACE takes away is still there before it.
    before = f"EXISTS (SELECT 1 FROM devices AS d WHERE d.id = new.id AND {unusual.format('d')})"
    either = f"{unusual.format('old')} OR {unusual.format('new')}"
    for name, event, changed in (
        ("made", "BEFORE INSERT", f"{unusual.format('new')} OR {before}"),
        ("changed", "AFTER UPDATE OF id, channel, revoked", either),
        ("gone", "AFTER DELETE", unusual.format("old")),
    ):
        counted = "UPDATE counters SET value = value + 1 WHERE name = 'unusual_devices'"
        when = f"CREATE TRIGGER unusual_{name} {event} ON devices WHEN {changed}"
        db.execute(f"{when} BEGIN {counted}; END")
    db.execute("CREATE INDEX gone ON members (audience, stamp) WHERE standing IN (1, 5, 2, 3)")


migrations_sources.register(MIGRATIONS)
migrations_stays.register(MIGRATIONS)


def migrate(db: Database, path: Path) -> None:
    """Apply the steps that are missing, all of them or none; safe with several processes at once.

    Raises StoreTooNew where the database records a step that this version does not know.
    """
    if not _missing(db, path):
        return
    connection: sqlite3.Connection = db.conn
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _missing(db, path):  # another process may have been faster
            MIGRATIONS.apply(db)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _missing(db: Database, path: Path) -> bool:
    known = _known_steps()
    for step in MIGRATIONS.applied(db):
        if step.name not in known:
            raise StoreTooNew(
                f"{path} was written by a newer version of genome-server (it knows the step "
                f"{step.name!r}, this version does not): upgrade genome-edge-server"
            )
    return bool(MIGRATIONS.pending(db))


@functools.cache
def _known_steps() -> frozenset[str]:
    empty = Database(memory=True)
    try:
        return frozenset(step.name for step in MIGRATIONS.pending(empty))
    finally:
        empty.conn.close()
