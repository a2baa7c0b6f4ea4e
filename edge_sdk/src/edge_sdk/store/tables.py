"""The tables of a device's store, and the steps by which an older store becomes a newer one.

One SQLite file holds what is small and changes: pointers to immutable files, patches to them, and
everything that this device has to remember by itself.

    meta            single values: epoch, highest release seen, cursor, names of current files
    releases        the active, the previous and the staged release, as signed
    patches         genome rows newer than the snapshot; NULL: deleted, and why
    lookups         customer-id hashes newer than the lookup file
    pending         imprints that the server's rows do not include yet
    consents        consent changes that the server's rows do not include yet
    caps            what caps have to remember, each event under the claim that it came of; where it
                    was elsewhere, `lane` is `ELSEWHERE`
    ring, ring_ids  the last decisions in full, one row for each group commit
    event_ids       ids given by the app, so that the same event twice is one
    redemptions     what was redeemed
    lanes           for each lane: the next sequence, received and safe marks, and its address at
                    the server (see `lane_rows`)
    outbox          frames, one row for each group commit and lane
    batches         the batch of each lane that was handed out and must not change any more
    counters        sums over outbox and ring (kept by triggers), and one number for each kind
                    of change that other processes watch
    losses          events lost or given up since the store was made, by reason

SQLite notices a damaged page, not a damaged value: rows have a CRC-32 of their own (see `rows`),
frames another one, and manifests a SHA-256.

Times are milliseconds since the Unix epoch, subjects and epochs 16 bytes. `change` is the value
of a counter when the row was written, so that other processes read only what they have not seen.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from typing import Final

from edge_sdk.store import rows

APPLICATION_ID: Final = 0x47454447  # "GEDG"
#: In place of a lane, where something that counts was done by another device or the server. No lane
#: has such a number.
ELSEWHERE: Final = -(1 << 63)
#: What tells the two kinds of rows of caps apart; in these words, or no index is of use.
AWAY: Final = f"lane = {ELSEWHERE}"
HERE: Final = f"lane <> {ELSEWHERE}"

_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE releases (
  role TEXT PRIMARY KEY CHECK (role IN ('active', 'previous', 'staged')),
  version INTEGER NOT NULL, manifest BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE patches (
  subject BLOB PRIMARY KEY, row BLOB, reason INTEGER NOT NULL, change INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX patches_by_change ON patches (change);
CREATE TABLE lookups (hash BLOB PRIMARY KEY, subject BLOB NOT NULL, change INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE INDEX lookups_by_change ON lookups (change);
CREATE INDEX lookups_by_subject ON lookups (subject);
CREATE TABLE pending (
  id TEXT PRIMARY KEY, subject BLOB NOT NULL, epoch BLOB NOT NULL, lane INTEGER NOT NULL,
  sequence INTEGER NOT NULL, time_ms INTEGER NOT NULL, body BLOB NOT NULL, change INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX pending_by_change ON pending (change);
CREATE TABLE consents (
  subject BLOB NOT NULL, purpose INTEGER NOT NULL, granted INTEGER NOT NULL,
  epoch BLOB NOT NULL, lane INTEGER NOT NULL, sequence INTEGER NOT NULL,
  PRIMARY KEY (subject, purpose)
) WITHOUT ROWID;
CREATE TABLE caps (
  id INTEGER PRIMARY KEY AUTOINCREMENT, subject BLOB NOT NULL, offer TEXT NOT NULL,
  kind TEXT NOT NULL, at_ms INTEGER NOT NULL, lane INTEGER NOT NULL
);
CREATE INDEX caps_by_offer ON caps (offer, subject);
CREATE TABLE ring (
  id INTEGER PRIMARY KEY, decisions INTEGER NOT NULL, records BLOB NOT NULL
);
CREATE TABLE ring_ids (id INTEGER PRIMARY KEY, ids BLOB NOT NULL);
CREATE TABLE event_ids (id BLOB PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX event_ids_by_age ON event_ids (at_ms);
CREATE TABLE redemptions (
  decision BLOB NOT NULL, slot INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY (decision, slot)
) WITHOUT ROWID;
CREATE INDEX redemptions_by_age ON redemptions (at_ms);
CREATE TABLE lanes (
  lane INTEGER PRIMARY KEY, priority INTEGER NOT NULL,
  next INTEGER NOT NULL DEFAULT 1, received INTEGER NOT NULL DEFAULT 0,
  safe INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE outbox (
  lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  impressions INTEGER NOT NULL, reason TEXT NOT NULL, bytes INTEGER NOT NULL,
  crc INTEGER NOT NULL, frames BLOB NOT NULL,
  PRIMARY KEY (lane, first)
);
CREATE TABLE batches (
  lane INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL
);
CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES
  ('outbox_bytes', 0), ('ring', 0), ('release', 0), ('genomes', 0), ('state', 0);
CREATE TRIGGER ring_grows AFTER INSERT ON ring BEGIN
  UPDATE counters SET n = n + new.decisions WHERE name = 'ring';
END;
CREATE TRIGGER ring_shrinks AFTER DELETE ON ring BEGIN
  UPDATE counters SET n = n - old.decisions WHERE name = 'ring';
END;
CREATE TRIGGER ring_changes AFTER UPDATE OF decisions ON ring BEGIN
  UPDATE counters SET n = n + new.decisions - old.decisions WHERE name = 'ring';
END;
CREATE TRIGGER outbox_grows AFTER INSERT ON outbox BEGIN
  UPDATE counters SET n = n + new.bytes WHERE name = 'outbox_bytes';
END;
CREATE TRIGGER outbox_shrinks AFTER DELETE ON outbox BEGIN
  UPDATE counters SET n = n - old.bytes WHERE name = 'outbox_bytes';
END;
CREATE TRIGGER outbox_changes AFTER UPDATE OF bytes ON outbox BEGIN
  UPDATE counters SET n = n + new.bytes - old.bytes WHERE name = 'outbox_bytes';
END;
"""


def _tables(connection: sqlite3.Connection) -> None:
    for statement in _statements(_TABLES):
        connection.execute(statement)


_CHECKED: Final = """
ALTER TABLE releases ADD COLUMN sha256 BLOB NOT NULL DEFAULT x'';
CREATE TABLE losses (reason TEXT PRIMARY KEY, events INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE lanes ADD COLUMN epoch BLOB NOT NULL DEFAULT x'';
ALTER TABLE lanes ADD COLUMN address INTEGER NOT NULL DEFAULT 0;
UPDATE lanes SET epoch = (SELECT value FROM meta WHERE key = 'epoch'), address = lane;
INSERT INTO counters VALUES ('standing', 0);
"""


def _checked(connection: sqlite3.Connection) -> None:
    """Every row is checked when it is read, losses are counted, each lane has an epoch."""
    for statement in _statements(_CHECKED):
        connection.execute(statement)
    releases = connection.execute("SELECT role, manifest FROM releases").fetchall()
    connection.executemany(
        "UPDATE releases SET sha256 = ? WHERE role = ?",
        [(hashlib.sha256(manifest).digest(), role) for role, manifest in releases],
    )
    rows.add_checks(connection)


_CLAIMED: Final = """
CREATE TABLE claimed (
  id INTEGER PRIMARY KEY AUTOINCREMENT, subject BLOB NOT NULL, offer TEXT NOT NULL,
  kind TEXT NOT NULL, at_ms INTEGER NOT NULL, claim BLOB NOT NULL, campaign TEXT NOT NULL,
  exclusivity TEXT NOT NULL, lane INTEGER NOT NULL, row_crc INTEGER NOT NULL DEFAULT 0
);
INSERT INTO claimed
  SELECT id, subject, offer, kind, at_ms, randomblob(16), '', '', lane, 0 FROM caps;
DROP TABLE caps;
ALTER TABLE claimed RENAME TO caps;
CREATE INDEX caps_by_offer ON caps (offer, subject);
CREATE INDEX caps_by_campaign ON caps (campaign) WHERE campaign <> '';
CREATE INDEX caps_by_exclusivity ON caps (exclusivity) WHERE exclusivity <> '';
"""


def _claimed(connection: sqlite3.Connection) -> None:
    """What counts against caps says what it came of, so that nothing counts twice."""
    rows.prepare(connection)
    for *row, crc in connection.execute(f"SELECT {rows.EARLIER_CAPS}, row_crc FROM caps"):
        rows.check_row("caps", row, crc)
    for statement in _statements(_CLAIMED):
        connection.execute(statement)
    connection.execute(rows.trigger("caps", rows.CHECKED["caps"]))
    rows.seal_all(connection, {"caps": rows.CHECKED["caps"]})


_OF_AUDIENCE: Final = f"""
DROP INDEX caps_by_offer;
DROP INDEX caps_by_campaign;
DROP INDEX caps_by_exclusivity;
CREATE INDEX caps_by_offer ON caps (offer, subject) WHERE {HERE};
CREATE INDEX caps_by_campaign ON caps (campaign) WHERE campaign <> '' AND {HERE};
CREATE INDEX caps_by_exclusivity ON caps (exclusivity) WHERE exclusivity <> '' AND {HERE};
CREATE INDEX caps_elsewhere ON caps (subject) WHERE {AWAY};
CREATE INDEX caps_elsewhere_by_age ON caps (at_ms) WHERE {AWAY};
"""


def _of_audience(connection: sqlite3.Connection) -> None:
    """What customers did elsewhere is found by who they are, and costs nobody else anything."""
    for statement in _statements(_OF_AUDIENCE):
        connection.execute(statement)


#: Step i takes a store of version i to i + 1. Steps are never changed, only added.
MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    _tables,
    _checked,
    _claimed,
    _of_audience,
)
VERSION: Final = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Take a store from `version` to `VERSION`, inside the caller's transaction."""
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _statements(script: str) -> list[str]:
    """The statements of a script, one by one: `executescript` would end the transaction."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
