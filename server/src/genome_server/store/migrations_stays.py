"""The steps of `genome_server.store.migrations` that know since when devices hold whose row, and
what is stamped anew for who comes back."""

from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations


def register(migrations: Migrations) -> None:
    """Add the steps at the end."""

    @migrations()
    def m0019_stays(db: Database) -> None:
        """Since when each member's row is on devices without a break (0: it is not), and when an
        earlier stay ended: so that it is known what a device holds that gets no rows any more.

        Of rows that were there the beginning is not known. So for each audience it is kept up to
        which stamp nothing is known; a device that has everything up to there is accounted for.
        """
        for column in ("since", "ended"):
            db.execute(f"ALTER TABLE members ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
        there = "EXISTS (SELECT 1 FROM genomes AS g WHERE g.subject = {}.subject)"
        db.execute(f"UPDATE members SET since = 1 WHERE standing = 0 AND {there.format('members')}")
        db.execute(
            "INSERT INTO counters SELECT 'stays ' || name, coalesce((SELECT max(stamp) "
            "FROM members WHERE audience = name), 0) FROM audiences"
        )
        db.execute(
            "CREATE INDEX returned ON members (audience, ended) WHERE standing = 0 AND ended > 0"
        )
        begins = f"new.standing = 0 AND {there.format('new')}"
        for name, event, when, change in (
            ("joins", "INSERT", begins, "since = new.stamp"),
            (
                "begins",
                "UPDATE OF standing",
                f"old.standing <> 0 AND {begins}",
                "since = new.stamp",
            ),
            (
                "ends",
                "UPDATE OF standing",
                "new.standing <> 0 AND old.since > 0",
                "since = 0, ended = new.stamp",
            ),
        ):
            db.execute(
                f"CREATE TRIGGER stay_{name} AFTER {event} ON members WHEN {when} BEGIN "
                f"UPDATE members SET {change} "
                "WHERE audience = new.audience AND subject = new.subject; END"
            )
        # A row that says more than is agreed to is not to stay where the next one does not come.
        db.execute(
            "CREATE TRIGGER stay_narrows AFTER UPDATE OF consents ON genomes "
            "WHEN old.consents & ~new.consents BEGIN "
            "UPDATE members SET since = new.changed, ended = new.changed "
            "WHERE subject = new.subject AND since > 0; END"
        )

    @migrations()
    def m0020_returns(db: Database) -> None:
        """Who comes back to an audience that has heard of caps.

        In a trigger OR REPLACE gives way to what the statement says that fires it, and the one
        that lets somebody return says ABORT. What is written out holds whatever fires it.
        """
        known = "EXISTS (SELECT 1 FROM cap_events WHERE subject = new.subject)"
        for name, event, before in (
            ("joins", "INSERT", ""),
            ("returns", "UPDATE OF standing", "old.standing <> 0 AND "),
        ):
            db.execute(f"DROP TRIGGER cap_member_{name}")
            db.execute(
                f"CREATE TRIGGER cap_member_{name} AFTER {event} ON members "
                f"WHEN new.standing = 0 AND {before}{known} BEGIN "
                "UPDATE cap_events SET stamp = new.stamp WHERE subject = new.subject; "
                "INSERT INTO cap_stamps VALUES (new.audience, new.stamp) "
                "ON CONFLICT (audience) DO UPDATE SET stamp = excluded.stamp; END"
            )
