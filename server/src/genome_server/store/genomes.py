"""Genomes, audiences, and what devices must hear of.

A member of an audience has one row there: its standing, and the stamp of what
happened to it last. "What changed after stamp n" is then one range of an index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from genome_server.errors import StoreError
from genome_server.store.connection import Row, chunked
from genome_server.store.people import (
    ERASED,
    LEFT,
    PRESENT,
    SILENT,
    STAMPS,
    WITHDRAWN,
    People,
    with_consents,
)
from genome_server.store.rows import (
    CONSENT_PERSONALISATION,
    AudienceRow,
    DeleteReason,
    GenomeChange,
    GenomeRecord,
)

_GENOME = "subject, epoch, state, newest_hour, row, consents, changed"
_AUDIENCE = "name, rule, identify, lookup, lookup_key, source"
_IS_MEMBER = f"standing IN ({PRESENT}, {WITHDRAWN}, {SILENT})"


class Genomes(People):
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
        query = "SELECT subject, row, consents, changed FROM genomes WHERE subject IN ({keys})"
        stored = {bytes(s): (row, has, at) for s, row, has, at in self.among(query, records)}
        writes: list[Row] = []
        restamped: list[bytes] = []
        for subject, record in records.items():
            consents = agreed.get(subject, record.consents)
            row = record.row
            if consents != record.consents:
                row = with_consents(row, consents)
            old_row, old_consents, changed = stored.get(subject, (None, None, 0))
            if row != old_row or consents != old_consents:
                restamped.append(subject)
            fields = (subject, epoch, record.state, record.newest_hour, row, consents, changed)
            writes.append(fields)
        first = self.take(STAMPS, len(restamped)) if restamped else 0
        stamps = {subject: first + i for i, subject in enumerate(restamped)}
        self.run_many(
            f"INSERT OR REPLACE INTO genomes ({_GENOME}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((*fields[:6], stamps.get(fields[0], fields[6])) for fields in writes),
        )
        self.run_many(
            f"UPDATE members SET stamp = ? WHERE subject = ? AND standing = {PRESENT}",
            ((stamp, subject) for subject, stamp in stamps.items()),
        )

    def genome_changes(self, audience: str, after: int, limit: int) -> list[GenomeChange]:
        """What happened to the audience's genomes after a stamp, in order of stamp."""
        rows = self.all(
            "SELECT m.subject, m.stamp, m.standing, g.row FROM members AS m "
            "LEFT JOIN genomes AS g ON g.subject = m.subject "
            "WHERE m.audience = ? AND m.stamp > ? "
            f"AND (m.standing IN ({ERASED}, {LEFT}, {WITHDRAWN}) "
            f"OR (m.standing = {PRESENT} AND g.row IS NOT NULL)) "
            "ORDER BY m.stamp LIMIT ?",
            [audience, after, limit],
        )
        return [
            GenomeChange(bytes(subject), stamp, row)
            if standing == PRESENT
            else GenomeChange(bytes(subject), stamp, None, DeleteReason(standing))
            for subject, stamp, standing, row in rows
        ]

    def joined_members(self, audience: str, after: int, limit: int) -> list[tuple[bytes, int]]:
        """(subject, stamp) of members who joined after a stamp, in order of stamp."""
        rows = self.all(
            "SELECT subject, joined FROM members "
            f"WHERE audience = ? AND joined > ? AND {_IS_MEMBER} ORDER BY joined LIMIT ?",
            [audience, after, limit],
        )
        return [(bytes(subject), stamp) for subject, stamp in rows]

    def audience_rows(self, audience: str) -> int:
        """How many genomes a device with this audience holds once it has everything."""
        return self.number(
            "SELECT count(*) FROM members AS m JOIN genomes AS g ON g.subject = m.subject "
            f"WHERE m.audience = ? AND m.standing = {PRESENT}",
            [audience],
        )

    def newest_stamp(self) -> int:
        """The newest genome stamp given so far; 0: none."""
        return self.number("SELECT value FROM counters WHERE name = ?", [STAMPS])

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

    def applied_marks(self, device: str) -> list[tuple[bytes, int, int]]:
        """(epoch, lane, sequence) up to which a device's own events are in the genomes."""
        query = (
            "SELECT epoch, lane, sequence FROM applied_marks WHERE device = ? ORDER BY epoch, lane"
        )
        return [
            (bytes(epoch), lane, sequence) for epoch, lane, sequence in self.all(query, [device])
        ]

    def set_applied_marks(self, marks: Iterable[tuple[str, bytes, int, int]]) -> None:
        """Remember (device, epoch, lane, sequence); a mark never falls."""
        with self.transaction():
            self.run_many(
                "INSERT INTO applied_marks (device, epoch, lane, sequence) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (device, epoch, lane) "
                "DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                marks,
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
        first = self.take(STAMPS, len(added))

        def row(subject: bytes, stamp: int) -> Row:
            if subject in granted:
                return (audience, subject, stamp, PRESENT, stamp)
            # Devices that hold a genome from before must still hear of its end.
            if subject in standings:
                return (audience, subject, stamp, WITHDRAWN, stamp)
            return (audience, subject, 0, SILENT, stamp)

        self.run_many(
            "INSERT OR REPLACE INTO members (audience, subject, stamp, standing, joined) "
            "VALUES (?, ?, ?, ?, ?)",
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
        query = f"SELECT 1 FROM members WHERE audience = ? AND subject = ? AND {_IS_MEMBER}"
        return self.one(query, [audience, subject]) is not None

    def audience_size(self, audience: str) -> int:
        """How many members there are."""
        query = f"SELECT count(*) FROM members WHERE audience = ? AND {_IS_MEMBER}"
        return self.number(query, [audience])

    def members(self, audience: str) -> Iterator[bytes]:
        """The members, by subject."""
        query = (
            f"SELECT subject FROM members WHERE audience = ? AND {_IS_MEMBER} "
            "AND subject > ? ORDER BY subject LIMIT ?"
        )
        for (subject,) in self.pages(query, b"", audience):
            yield bytes(subject)


def _audience(row: Row) -> AudienceRow:
    name, rule, identify, lookup, lookup_key, source = row
    return AudienceRow(name, json.loads(rule), identify, bool(lookup), bytes(lookup_key), source)
