"""Steps of `genome_server.store.migrations` that further sources need."""

from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations


def register(migrations: Migrations) -> None:
    """Add the steps at the end."""

    @migrations()
    def m0017_sources(db: Database) -> None:
        """What is known of a customer beside the profile: loyalty, and what builds derive. And
        which subjects share a key, of which only a keyed hash is kept."""
        for column in (
            "loyalty TEXT NOT NULL DEFAULT '[]'",
            "loyalty_ms INTEGER NOT NULL DEFAULT 0",
            "insight TEXT NOT NULL DEFAULT ''",
        ):
            db.execute(f"ALTER TABLE customers ADD COLUMN {column}")
        db.execute(
            "CREATE TABLE link_keys (key BLOB NOT NULL, subject BLOB NOT NULL, "
            "at_ms INTEGER NOT NULL, held INTEGER NOT NULL, PRIMARY KEY (key, subject)) "
            "WITHOUT ROWID"
        )
        db.execute("CREATE INDEX link_keys_by_subject ON link_keys (subject)")

    @migrations()
    def m0018_words(db: Database) -> None:
        """When a source stated a customer's consents, and what was heard on each purpose: of two
        words the later counts, in whatever order they come."""
        db.execute("ALTER TABLE customers ADD COLUMN stated_ms INTEGER NOT NULL DEFAULT 0")
        db.execute("ALTER TABLE customers ADD COLUMN said TEXT NOT NULL DEFAULT ''")
        # Of rows that were there it is not known since when the source has said so. A refusal is
        # taken to be as young as the row, so that no older word undoes it.
        db.execute(
            "UPDATE customers SET stated_ms = updated_ms WHERE stated = 0 AND consents_ms = 0"
        )
