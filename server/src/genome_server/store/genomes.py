"""Genomes, and audiences: whose genomes a device may hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from genome_server.errors import StoreError
from genome_server.store.changes import IS_MEMBER, Changes
from genome_server.store.connection import Row, chunked
from genome_server.store.journal import StoredRow, written
from genome_server.store.people import (
    ERASED,
    LEFT,
    PRESENT,
    RETURNED,
    SILENT,
    STAMPS,
    WITHDRAWN,
    People,
    with_consents,
)
from genome_server.store.rows import (
    CONSENT_PERSONALISATION,
    AudienceRow,
    GenomeRecord,
)

_GENOME = "subject, epoch, state, newest_hour, row, consents, changed"
# Subjects of 16 bytes each, one after the other, get stamps one after the other: in one statement,
# because each step of one gives the interpreter away, and a busy thread hands it back late.
_STAMPED = (
    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?3 - 1), "
    "new (subject, stamp) AS MATERIALIZED (SELECT substr(?1, 16 * i + 1, 16), ?2 + i FROM n) "
    "UPDATE members SET stamp = new.stamp, since = iif(since = 0, new.stamp, since) FROM new "
    f"WHERE members.subject = new.subject AND members.standing = {PRESENT}"
)
_AUDIENCE = "name, rule, identify, lookup, lookup_key, source"


class Genomes(People, Changes):
    """The rooms of a store that know genomes and who may hold them."""

    def genome(self, subject: bytes) -> GenomeRecord | None:
        """One genome, or None."""
        row = self.one(f"SELECT {_GENOME} FROM genomes WHERE subject = ?", [subject])
        return None if row is None else GenomeRecord(*row)

    def genomes(self, subjects: Iterable[bytes] | None = None) -> Iterator[GenomeRecord]:
        """All genomes by subject, or those of these subjects."""
        if subjects is None:
            query = f"SELECT {_GENOME} FROM genomes WHERE subject > ? ORDER BY subject LIMIT ?"
            rows = self.pages(query, b"")
        else:
            rows = self.among(
                f"SELECT {_GENOME} FROM genomes WHERE subject IN ({{keys}})", subjects
            )
        for row in rows:
            yield GenomeRecord(*row)

    def genome_states(self, subjects: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """(subject, state) of those of these subjects that have a genome."""
        query = "SELECT subject, state FROM genomes WHERE subject IN ({keys})"
        for subject, state in self.among(query, subjects):
            yield bytes(subject), bytes(state)

    def genome_count(self) -> int:
        """How many genomes there are."""
        return self.number("SELECT count(*) FROM genomes")

    def put_genomes(self, rows: Iterable[GenomeRecord], epoch: int) -> int:
        """Insert or replace genomes under `epoch`; returns the newest stamp given to any row.

        Only rows whose row bytes or consents differ from what is stored get a
        new stamp. Consents are those of the customer where there is one.
        """
        with self.transaction():
            for chunk in chunked(rows):
                self._put_genomes({record.subject: record for record in chunk}, epoch)
        return self.newest_stamp()

    def _put_genomes(self, records: dict[bytes, GenomeRecord], epoch: int) -> None:
        query = "SELECT subject, consents FROM customers WHERE subject IN ({keys})"
        agreed = {bytes(s): consents for s, consents in self.among(query, records)}
        query = (
            "SELECT subject, epoch, row, consents, changed, row_sum, journal FROM genomes "
            "WHERE subject IN ({keys})"
        )
        stored = {bytes(s): StoredRow(*rest) for s, *rest in self.among(query, records)}
        new: dict[bytes, tuple[bytes, int]] = {}
        for subject, record in records.items():
            consents = agreed.get(subject, record.consents)
            row = record.row
            if consents != record.consents:
                row = with_consents(row, consents)
            new[subject] = (row, consents)
        changed = [s for s, now in new.items() if s not in stored or stored[s][1:3] != now]
        first = self.take(STAMPS, len(changed)) if changed else 0
        stamps = {subject: first + i for i, subject in enumerate(changed)}
        after = written(epoch, {s: (stamps[s], *new[s]) for s in changed}, stored)
        kept = after | {s: old[3:] for s, old in stored.items() if s not in after}
        self.run_many(
            f"INSERT INTO genomes ({_GENOME}, row_sum, journal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (subject) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, "
            "newest_hour = excluded.newest_hour, row = excluded.row, consents = excluded.consents, "
            "changed = excluded.changed, row_sum = excluded.row_sum, journal = excluded.journal",
            (
                (subject, epoch, record.state, record.newest_hour, *new[subject], *kept[subject])
                for subject, record in records.items()
            ),
        )
        self._reweigh(
            {s: (stored[s].row_sum, new_sum) for s, (_, new_sum, _) in after.items() if s in stored}
        )
        fresh = [s for s in changed if s not in stored]
        self.run_many(
            "UPDATE members SET standing = ?, stamp = ? WHERE subject = ? "
            f"AND standing = {RETURNED}",
            (
                (PRESENT if agreed.get(s, 0) & CONSENT_PERSONALISATION else WITHDRAWN, stamps[s], s)
                for s in fresh
            ),
        )
        if changed:
            self.run(_STAMPED, [b"".join(changed), first, len(changed)])

    # -- consumers of the log

    def consumer_offset(self, consumer: str, epoch: int) -> int:
        """How far a consumer of the log has got under a schema epoch; 0: nothing yet."""
        query = "SELECT position FROM consumer_offsets WHERE consumer = ? AND epoch = ?"
        return self.number(query, [consumer, epoch])

    def set_consumer_offset(self, consumer: str, epoch: int, offset: int) -> None:
        """Remember how far a consumer of the log has got."""
        self.run(
            "INSERT OR REPLACE INTO consumer_offsets (consumer, epoch, position) VALUES (?, ?, ?)",
            [consumer, epoch, offset],
        )

    # -- audiences

    def put_audience(self, audience: AudienceRow) -> None:
        """Insert or replace an audience's rule; its members stay as they are."""
        self.run(
            f"INSERT OR REPLACE INTO audiences ({_AUDIENCE}) VALUES (?, ?, ?, ?, ?, ?)",
            [
                audience.name,
                json.dumps(dict(audience.rule), ensure_ascii=False, sort_keys=True),
                audience.identify,
                int(audience.lookup),
                audience.lookup_key,
                audience.source,
            ],
        )

    def audiences(self) -> list[AudienceRow]:
        """All audiences, by name."""
        return [_audience(r) for r in self.all(f"SELECT {_AUDIENCE} FROM audiences ORDER BY name")]

    def audience(self, name: str) -> AudienceRow | None:
        """One audience, or None."""
        row = self.one(f"SELECT {_AUDIENCE} FROM audiences WHERE name = ?", [name])
        return None if row is None else _audience(row)

    def set_members(self, audience: str, subjects: Iterable[bytes]) -> tuple[int, int]:
        """Make exactly these the members; returns how many were (added, removed)."""
        wanted = set(subjects)
        with self.transaction():
            if self.audience(audience) is None:
                raise StoreError(f"there is no audience {audience!r}")
            query = "SELECT subject, standing FROM members WHERE audience = ?"
            standings = {bytes(s): standing for s, standing in self.all(query, [audience])}
            current = {s for s, standing in standings.items() if standing not in (ERASED, LEFT)}
            added, removed = sorted(wanted - current), sorted(current - wanted)
            self._join(audience, added, standings)
            self._leave(audience, removed, standings)
        return len(added), len(removed)

    def _join(self, audience: str, added: list[bytes], standings: dict[bytes, int]) -> None:
        if not added:
            return
        query = "SELECT subject FROM customers WHERE consents & ? <> 0 AND subject IN ({keys})"
        granted = {bytes(s) for (s,) in self.among(query, added, CONSENT_PERSONALISATION)}
        erased = [s for s in added if standings.get(s) == ERASED]
        query = "SELECT subject FROM genomes WHERE subject IN ({keys})"
        returned = set(erased) - {bytes(s) for (s,) in self.among(query, erased)}
        first = self.take(STAMPS, len(added))

        def row(subject: bytes, stamp: int) -> Row:
            # Devices that were away hold what was erased, until they hear of it.
            if subject in returned:
                return (audience, subject, stamp, RETURNED, stamp)
            if subject in granted:
                return (audience, subject, stamp, PRESENT, stamp)
            # Devices that hold a genome from before must still hear of its end.
            if subject in standings:
                return (audience, subject, stamp, WITHDRAWN, stamp)
            return (audience, subject, 0, SILENT, stamp)

        self.run_many(
            "INSERT INTO members (audience, subject, stamp, standing, joined) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (audience, subject) DO UPDATE SET "
            # What is known of an earlier stay stays.
            "stamp = excluded.stamp, standing = excluded.standing, joined = excluded.joined",
            (row(subject, first + i) for i, subject in enumerate(added)),
        )

    def _leave(self, audience: str, removed: list[bytes], standings: dict[bytes, int]) -> None:
        silent = [s for s in removed if standings[s] == SILENT]
        self.run_many(
            "DELETE FROM members WHERE audience = ? AND subject = ?",
            ((audience, subject) for subject in silent),
        )
        heard = [s for s in removed if standings[s] != SILENT]
        first = self.take(STAMPS, len(heard)) if heard else 0
        self.run_many(
            "UPDATE members SET standing = ?, stamp = ? WHERE audience = ? AND subject = ?",
            ((LEFT, first + i, audience, subject) for i, subject in enumerate(heard)),
        )

    def is_member(self, audience: str, subject: bytes) -> bool:
        """Whether a subject is a member, whatever the consent."""
        query = f"SELECT 1 FROM members WHERE audience = ? AND subject = ? AND {IS_MEMBER}"
        return self.one(query, [audience, subject]) is not None

    def audience_size(self, audience: str) -> int:
        """How many members there are."""
        query = f"SELECT count(*) FROM members WHERE audience = ? AND {IS_MEMBER}"
        return self.number(query, [audience])

    def members(self, audience: str) -> Iterator[bytes]:
        """The members, by subject."""
        query = (
            f"SELECT subject FROM members WHERE audience = ? AND {IS_MEMBER} "
            "AND subject > ? ORDER BY subject LIMIT ?"
        )
        for (subject,) in self.pages(query, b"", audience):
            yield bytes(subject)


def _audience(row: Row) -> AudienceRow:
    name, rule, identify, lookup, lookup_key, source = row
    return AudienceRow(name, json.loads(rule), identify, bool(lookup), bytes(lookup_key), source)
