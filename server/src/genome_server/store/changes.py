"""What devices must hear of: changes after a stamp, and what they come to.

A member of an audience has one row there: its standing, and the stamp of what
happened to it last. "What changed after stamp n" is then one range of an index.
How many genomes an audience has and what their row sums add up to is kept in the
transaction that changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from genome_server.store.connection import Connections
from genome_server.store.people import (
    ERASED,
    LEFT,
    PRESENT,
    RETURNED,
    SILENT,
    STAMPS,
    WITHDRAWN,
)
from genome_server.store.rows import DeleteReason, GenomeChange, Mark, Tally

IS_MEMBER = f"standing IN ({PRESENT}, {WITHDRAWN}, {SILENT}, {RETURNED})"
_ERASED = f"standing IN ({ERASED}, {RETURNED})"
_GONE = f"standing IN ({ERASED}, {RETURNED}, {LEFT}, {WITHDRAWN})"


class Changes(Connections):
    """The rooms of a store that know what changed when."""

    def genome_changes(self, audience: str, after: int, limit: int) -> list[GenomeChange]:
        """What happened to the audience's genomes after a stamp, in order of stamp."""
        rows = self.all(
            "SELECT m.subject, m.stamp, m.standing, g.row, m.joined, g.journal "
            "FROM members AS m LEFT JOIN genomes AS g ON g.subject = m.subject "
            "WHERE m.audience = ? AND m.stamp > ? "
            f"AND (m.{_GONE} OR (m.standing = {PRESENT} AND g.row IS NOT NULL)) "
            "ORDER BY m.stamp LIMIT ?",
            [audience, after, limit],
        )
        return [
            GenomeChange(bytes(subject), stamp, row, None, joined, journal)
            if standing == PRESENT
            else GenomeChange(bytes(subject), stamp, None, _reason(standing))
            for subject, stamp, standing, row, joined, journal in rows
        ]

    def genome_change_count(self, audience: str, after: int) -> int:
        """At least as many as the changes after a stamp."""
        query = "SELECT count(*) FROM members WHERE audience = ? AND stamp > ?"
        return self.number(query, [audience, after])

    def anyone_gone(self, audience: str, after: int) -> bool:
        """Whether devices had to forget anybody after a stamp."""
        query = f"SELECT 1 FROM members WHERE audience = ? AND stamp > ? AND {_GONE} LIMIT 1"
        return self.one(query, [audience, after]) is not None

    def departures(self, audience: str, after: int) -> list[tuple[bytes, DeleteReason]]:
        """Whom a device must let go after a stamp that gets no rows meanwhile, and why."""
        gone = f"SELECT subject, standing FROM members WHERE audience = ? AND stamp > ? AND {_GONE}"
        # Who came back since, or agrees to less, has a row: but not the one that the device holds.
        back = (
            "SELECT subject FROM members WHERE audience = ? AND ended > ? "
            f"AND standing = {PRESENT} AND ended > 0"
        )
        asked = [audience, after]
        found = [(bytes(one), _reason(standing)) for one, standing in self.all(gone, asked)]
        returned = self.all(back, asked)
        return found + [(bytes(one), DeleteReason.CONSENT_WITHDRAWN) for (one,) in returned]

    def stayed(self, audience: str, stamp: int) -> int | None:
        """How many of the rows that a device had at a stamp are there to this day without a break.

        None where it is not known: the stamp is older than what was noted down.
        """
        if not stamp:
            return 0
        query = "SELECT value FROM counters WHERE name = ?"
        if stamp < self.number(query, [f"stays {audience}"]):
            return None
        query = "SELECT count(*) FROM members WHERE audience = ? AND since BETWEEN 1 AND ?"
        return self.number(query, [audience, stamp])

    def erased(self, audience: str) -> list[bytes]:
        """Who was erased while devices with this audience may have held a genome."""
        # Who was erased is gone, which is what there is an index of.
        query = f"SELECT subject FROM members WHERE audience = ? AND {_GONE} AND {_ERASED}"
        return [bytes(subject) for (subject,) in self.all(query, [audience])]

    def genome_rows(self, audience: str) -> Iterator[bytes]:
        """The rows that a device with this audience holds once it has everything, by subject."""
        query = (
            "SELECT m.subject, g.row FROM members AS m JOIN genomes AS g ON g.subject = m.subject "
            f"WHERE m.audience = ? AND m.standing = {PRESENT} AND m.subject > ? "
            "ORDER BY m.subject LIMIT ?"
        )
        for _, row in self.pages(query, b"", audience):
            yield row

    def crowded(self, audience: str, subjects: Iterable[bytes]) -> set[bytes]:
        """Those of these members whose first 8 bytes another row of the audience shares."""
        query = (
            "SELECT m.subject FROM members AS m WHERE m.audience = ? AND m.subject IN ({keys}) "
            "AND EXISTS (SELECT 1 FROM members AS n WHERE n.audience = m.audience "
            "AND n.subject >= substr(m.subject, 1, 8) AND n.subject <> m.subject AND n.subject "
            "<= CAST(substr(m.subject, 1, 8) || x'ffffffffffffffff' AS BLOB))"
        )
        return {bytes(subject) for (subject,) in self.among(query, subjects, audience)}

    def joined_members(self, audience: str, after: int, limit: int) -> list[tuple[bytes, int]]:
        """(subject, stamp) of members who joined after a stamp, in order of stamp."""
        rows = self.all(
            "SELECT subject, joined FROM members "
            f"WHERE audience = ? AND joined > ? AND {IS_MEMBER} ORDER BY joined LIMIT ?",
            [audience, after, limit],
        )
        return [(bytes(subject), stamp) for subject, stamp in rows]

    def audience_rows(self, audience: str) -> int:
        """How many genomes a device with this audience holds once it has everything."""
        return self.tally(audience).rows

    def tally(self, audience: str) -> Tally:
        """How many genomes the audience has, and what their row sums come to."""
        row = self.one("SELECT genomes, low, high FROM tallies WHERE audience = ?", [audience])
        rows, low, high = row if row is not None else (0, 0, 0)
        return Tally(rows, (low + (high << 32)) % (1 << 64))

    def newest_stamp(self) -> int:
        """The newest genome stamp given so far; 0: none."""
        return self.number("SELECT value FROM counters WHERE name = ?", [STAMPS])

    def audience_stamps(self) -> dict[str, int]:
        """The stamp of what happened last in each audience."""
        newest = "(SELECT max({0}) FROM members WHERE audience = name)"
        query = f"SELECT name, {newest.format('stamp')}, {newest.format('joined')} FROM audiences"
        return {name: max(stamp or 0, joined or 0) for name, stamp, joined in self.all(query)}

    # -- how far the log is in the genomes, for each device

    def applied_marks(self, device: str) -> list[Mark]:
        """(epoch, lane, sequence) up to which a device's own events are in the genomes."""
        return self.marks_of([device]).get(device, [])

    def marks_of(self, devices: Iterable[str] | None = None) -> dict[str, list[Mark]]:
        """The applied marks of these devices, or of all; those without any are missing."""
        columns = "SELECT device, epoch, lane, sequence FROM applied_marks"
        if devices is None:
            rows = iter(self.all(f"{columns} ORDER BY device, epoch, lane"))
        else:
            query = f"{columns} WHERE device IN ({{keys}}) ORDER BY device, epoch, lane"
            rows = self.among(query, devices)
        found: dict[str, list[Mark]] = {}
        for device, epoch, lane, sequence in rows:
            found.setdefault(device, []).append((bytes(epoch), lane, sequence))
        return found

    def set_applied_marks(self, marks: Iterable[tuple[str, bytes, int, int]]) -> None:
        """Remember (device, epoch, lane, sequence); a mark never falls."""
        with self.transaction():
            self.run_many(
                "INSERT INTO applied_marks (device, epoch, lane, sequence) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (device, epoch, lane) "
                "DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                marks,
            )


def _reason(standing: int) -> DeleteReason:
    return DeleteReason(ERASED if standing == RETURNED else standing)
