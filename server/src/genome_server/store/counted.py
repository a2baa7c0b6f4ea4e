"""Cap events: what customers were shown, redeemed, dismissed or followed, for caps everywhere.

Each has a stamp of the genomes' counter, so that "everything after stamp n" misses none. Where a
customer becomes one whose row devices of an audience may hold, all of theirs are stamped anew: a
device that had the others may lack these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from edge_sdk.engine.cap_rules import COUNTED, CapRow
from genome_server.store.connection import Connections, Row

_COLUMNS: Final = "subject, kind, claim, offer, campaign, exclusivity, at_ms"
_PRESENT: Final = 0
_STAMPS: Final = "genome"


class Counted(Connections):
    """The rooms of a store that know what counts for caps."""

    def add_cap_events(self, rows: Iterable[CapRow]) -> None:
        """Keep what is not known: a claim of a kind counts once for a subject."""
        given = list(rows)
        if not given:
            return
        with self.transaction():
            first = self.take(_STAMPS, len(given))
            self.run_many(
                f"INSERT OR IGNORE INTO cap_events ({_COLUMNS}, stamp) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((*_values(row), first + i) for i, row in enumerate(given)),
            )
            self.run(
                "INSERT OR REPLACE INTO cap_stamps SELECT m.audience, max(c.stamp) "
                "FROM cap_events AS c CROSS JOIN members AS m ON m.subject = c.subject "
                f"WHERE c.stamp >= ? AND m.standing = {_PRESENT} GROUP BY m.audience",
                [first],
            )

    def drop_cap_events(self, rows: Iterable[CapRow]) -> None:
        """Forget what can no longer matter."""
        self.run_many(
            "DELETE FROM cap_events WHERE subject = ? AND kind = ? AND claim = ?",
            (_values(row)[:3] for row in rows),
        )

    def clear_cap_events(self) -> None:
        """Forget all of them: they are read from the log anew."""
        self.run("DELETE FROM cap_events")

    def cap_events_of(self, subjects: Iterable[bytes]) -> Iterator[CapRow]:
        """Everything of these subjects."""
        query = f"SELECT {_COLUMNS} FROM cap_events WHERE subject IN ({{keys}})"
        for row in self.among(query, subjects):
            yield _row(row)

    def asked_for(self, subjects: Sequence[bytes]) -> set[bytes]:
        """Those of these subjects that have an id outside, or are in an audience."""
        found: set[bytes] = set()
        for table in ("subjects", "members"):
            query = f"SELECT subject FROM {table} WHERE subject IN ({{keys}})"
            found.update(bytes(subject) for (subject,) in self.among(query, subjects))
        return found

    def cap_subjects(self, after: bytes, limit: int) -> list[bytes]:
        """Of whom there is any, in order, after one of them; at most `limit`."""
        query = "SELECT DISTINCT subject FROM cap_events WHERE subject > ? ORDER BY subject LIMIT ?"
        return [bytes(subject) for (subject,) in self.all(query, [after, limit])]

    def crowded_caps(self, subjects: Sequence[bytes], most: int) -> list[bytes]:
        """Those of these subjects of whom there are more than `most`."""
        query = (
            "SELECT subject FROM cap_events WHERE subject IN ({keys}) "
            f"GROUP BY subject HAVING count(*) > {int(most)}"
        )
        return [bytes(subject) for (subject,) in self.among(query, subjects)]

    def cap_changes(self, audience: str, after: int, limit: int) -> tuple[list[CapRow], int]:
        """What counts for members whose rows a device may hold, after a stamp, in order of stamp.

        About `limit` at most; with the stamp up to which it is all. `limit` is more than any one
        subject has.
        """
        asked = "(SELECT 1 FROM cap_events WHERE stamp > ? LIMIT ?)"
        members = self.number("SELECT genomes FROM tallies WHERE audience = ?", [audience])
        newer = self.number(f"SELECT count(*) FROM {asked}", [after, members + 1])
        # Whichever is less leads: a small audience does not read what happened to all others.
        both = ("cap_events AS c", "members AS m")
        leads, other = both if newer <= members else both[::-1]
        rows = self.all(
            f"SELECT {_COLUMNS.replace('subject', 'c.subject')}, c.stamp FROM {leads} "
            f"CROSS JOIN {other} ON c.subject = m.subject WHERE c.stamp > ? AND m.audience = ? "
            f"AND m.standing = {_PRESENT} ORDER BY c.stamp LIMIT ?",
            [after, audience, limit],
        )
        through = self.number("SELECT value FROM counters WHERE name = ?", [_STAMPS])
        if len(rows) == limit:
            # Of the last stamp there may be more, which then come together.
            through = rows[-1][-1] - 1
            rows = [row for row in rows if row[-1] <= through]
        return [_row(row[:-1]) for row in rows], through

    def cap_stamps(self) -> dict[str, int]:
        """The stamp of what counted last in each audience where anything did."""
        return dict(self.all("SELECT audience, stamp FROM cap_stamps"))


def _values(row: CapRow) -> tuple[object, ...]:
    kind = COUNTED.index(row.kind) + 1
    return (row.subject, kind, row.claim, row.offer, row.campaign, row.group, row.at_ms)


def _row(row: Row) -> CapRow:
    subject, kind, claim, offer, campaign, group, at_ms = row
    said = (bytes(claim), campaign, group)
    return CapRow(bytes(subject), offer, COUNTED[kind - 1], at_ms, *said, elsewhere=True)
