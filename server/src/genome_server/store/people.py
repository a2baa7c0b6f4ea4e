"""Subjects and customers: who is known, by which ids, with which profile and consent."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from genome_server.store.connection import Connections, Row, chunked
from genome_server.store.journal import StoredRow, written
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_PERSONALISATION,
    CustomerRow,
    DeleteReason,
    PutCount,
)
from genome_server.store.words import Word, Words, everything

#: Counter of genome stamps.
STAMPS = "genome"

#: Standings of a subject in an audience. Those that devices hear of as a
#: deletion have the number of its reason.
PRESENT = 0
ERASED = int(DeleteReason.ERASED)
LEFT = int(DeleteReason.LEFT_AUDIENCE)
WITHDRAWN = int(DeleteReason.CONSENT_WITHDRAWN)
# A member who never agreed: no device has heard or will hear of it.
SILENT = 4
# A member who was erased, joined again and has no genome since: devices hear of the erasure.
RETURNED = 5

#: Files beside the store that hold genomes.
DERIVED_FILES = ("neighbours.npz",)

_SHOWN_OR_LEARNT = CONSENT_PERSONALISATION | CONSENT_LEARNING
_HALF = 0xFFFFFFFF
_COLUMNS = "subject, markers, consents, stated, consents_ms, updated_ms, stated_ms, said"
_READ = (
    "subject, markers, loyalty, consents, updated_ms, insight, stated, consents_ms, stated_ms, said"
)


def with_consents(row: bytes, consents: int) -> bytes:
    """A serialised GenomeBlock of one row, with other consents."""
    from genome_edge.v1.dna_pb2 import GenomeBlock

    block = GenomeBlock.FromString(row)
    block.consents[:] = [consents]
    return block.SerializeToString()


class People(Connections):
    """The rooms of a store that know customers."""

    def subject_of(self, source: str, external_id: str, create: bool = False) -> bytes | None:
        """The subject of a customer id of a source, or None (never None with `create`)."""
        return self.subjects_of(source, [external_id], create).get(external_id)

    def subjects_of(
        self, source: str, ids: Sequence[str], create: bool = False
    ) -> dict[str, bytes]:
        """The subjects of many ids; unknown ids are missing unless `create`."""
        found = self._known(source, ids)
        missing = [name for name in dict.fromkeys(ids) if name not in found] if create else []
        if missing:
            with self.transaction():
                random = os.urandom(16 * len(missing))
                self.run_many(
                    # Another process may have made one meanwhile: its subject stands.
                    "INSERT OR IGNORE INTO subjects (source, external_id, subject) "
                    "VALUES (?, ?, ?)",
                    (
                        (source, name, random[16 * i : 16 * i + 16])
                        for i, name in enumerate(missing)
                    ),
                )
                found |= self._known(source, missing)
        return found

    def _known(self, source: str, ids: Sequence[str]) -> dict[str, bytes]:
        query = (
            "SELECT external_id, subject FROM subjects WHERE source = ? AND external_id IN ({keys})"
        )
        return {str(name): bytes(subject) for name, subject in self.among(query, ids, source)}

    def external_ids(
        self, subjects: Sequence[bytes] | None = None
    ) -> Iterator[tuple[bytes, str, str]]:
        """(subject, source, external id) of all customers, or of these subjects."""
        if subjects is None:
            query = (
                "SELECT rowid, subject, source, external_id FROM subjects "
                "WHERE rowid > ? ORDER BY rowid LIMIT ?"
            )
            for _, subject, source, name in self.pages(query, 0):
                yield bytes(subject), source, name
            return
        query = "SELECT subject, source, external_id FROM subjects WHERE subject IN ({keys})"
        for subject, source, name in self.among(query, subjects):
            yield bytes(subject), source, name

    def erase_subject(self, subject: bytes) -> bool:
        """Forget a customer: ids, profile, genome, memberships; False where nothing was known.

        Files beside the store that were derived from genomes go, too; they are made anew.
        """
        with self.transaction():
            touched = sum(
                self.run(f"DELETE FROM {table} WHERE subject = ?", [subject])
                for table in ("subjects", "customers", "genomes", "cap_events", "link_keys")
            )
            touched += self.run(
                "DELETE FROM members WHERE subject = ? AND standing = ?", [subject, SILENT]
            )
            touched += self.run(
                "UPDATE members SET standing = ?, stamp = ? WHERE subject = ? AND standing <> ?",
                [ERASED, self.take(STAMPS, 1), subject, ERASED],
            )
        self._forget_derived()
        return touched > 0

    def _forget_derived(self) -> None:
        for name in DERIVED_FILES:
            (self.path.parent / name).unlink(missing_ok=True)
            for draft in self.path.parent.glob(f".{name}.*"):  # a process was killed at it
                draft.unlink(missing_ok=True)

    # -- customers

    def put_customers(self, rows: Iterable[CustomerRow]) -> PutCount:
        """Insert or replace customers; genome rows follow a changed consent."""
        inserted = changed = unchanged = 0
        with self.transaction():
            for chunk in chunked(rows):
                query = f"SELECT {_COLUMNS} FROM customers WHERE subject IN ({{keys}})"
                stored = {bytes(r[0]): r for r in self.among(query, [c.subject for c in chunk])}
                writes: dict[bytes, Row] = {}
                consents: dict[bytes, tuple[int, int]] = {}
                for row in chunk:
                    old = stored.get(row.subject)
                    new = _merged(old, row)
                    if old is None:
                        inserted += 1
                    elif new[1:3] == old[1:3]:
                        unchanged += 1
                    else:
                        changed += 1
                    if new != old:
                        before = consents.get(row.subject, (old[2] if old else 0, 0))[0]
                        consents[row.subject] = (before, new[2])
                        stored[row.subject] = writes[row.subject] = new
                self._write_customers(writes.values())
                self._follow_consents(consents)
        return PutCount(inserted, changed, unchanged)

    def _write_customers(self, rows: Iterable[Row]) -> None:
        # What stands beside the profile stays as it is.
        columns = _COLUMNS.split(", ")[1:]
        self.run_many(
            f"INSERT INTO customers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (subject) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in columns),
            rows,
        )

    def customers(self, subjects: Iterable[bytes] | None = None) -> Iterator[CustomerRow]:
        """All customers by subject, or those of these subjects; `consents` is always a number."""
        query = f"SELECT {_READ} FROM customers WHERE subject"
        if subjects is None:
            rows = self.pages(f"{query} > ? ORDER BY subject LIMIT ?", b"")
        else:
            rows = self.among(f"{query} IN ({{keys}})", subjects)
        for row in rows:
            yield _customer(row)

    def customer(self, subject: bytes) -> CustomerRow | None:
        """One customer, or None."""
        row = self.one(f"SELECT {_READ} FROM customers WHERE subject = ?", [subject])
        return None if row is None else _customer(row)

    def customer_count(self) -> int:
        """How many customers there are."""
        return self.number("SELECT count(*) FROM customers")

    def set_consents(self, subject: bytes, consents: int, at_ms: int = 0) -> None:
        """Hear what a customer agreed to, all purposes, said at `at_ms` (Unix; 0: now, and so after
        all that was heard)."""
        with self.transaction():
            if not at_ms:
                heard = self.one("SELECT consents_ms FROM customers WHERE subject = ?", [subject])
                at_ms = max(time.time_ns() // 1_000_000, heard[0] + 1 if heard else 0)
            self.hear_consents(subject, everything(consents, at_ms))

    def hear_consents(self, subject: bytes, said: Mapping[int, Word]) -> None:
        """Hear (Unix ms, granted) on some purposes; makes the customer if new.

        Of two words on a purpose the later counts, the more careful one at a tie.
        """
        with self.transaction():
            old = self.one(f"SELECT {_COLUMNS} FROM customers WHERE subject = ?", [subject])
            row = old or _nobody(subject)
            words = _words(row).after(said)
            newest = max(1, row[4], *(at_ms for at_ms, _ in said.values()))
            new = (*row[:2], words.consents, row[3], newest, *row[5:7], words.text)
            if new != old:
                self._write_customers([new])
                self._follow_consents({subject: (row[2], words.consents)})

    def _follow_consents(self, consents: dict[bytes, tuple[int, int]]) -> None:
        """Let genome rows and audiences follow consents that went from one to another set."""
        different = {subject: pair for subject, pair in consents.items() if pair[0] != pair[1]}
        if not different:
            return
        query = (
            "SELECT subject, epoch, row, consents, changed, row_sum, journal FROM genomes "
            "WHERE subject IN ({keys})"
        )
        stored = {bytes(s): StoredRow(*rest) for s, *rest in self.among(query, different)}
        # Who had not agreed before was on no device, whatever the row said.
        stored = {
            s: old._replace(consents=old.consents & different[s][0]) for s, old in stored.items()
        }
        stamp = self.take(STAMPS, len(different))
        stamps = {subject: stamp + i for i, subject in enumerate(different)}
        rows = {
            subject: (stamps[subject], with_consents(old.row, now := different[subject][1]), now)
            for subject, old in stored.items()
        }
        for epoch in {old.epoch for old in stored.values()}:
            same = {s: row for s, row in rows.items() if stored[s].epoch == epoch}
            after = written(epoch, same, stored)
            self.run_many(
                "UPDATE genomes SET row = ?, consents = ?, changed = ?, row_sum = ?, journal = ? "
                "WHERE subject = ?",
                ((*rows[s][1:], *kept, s) for s, kept in after.items()),
            )
            self._reweigh({s: (stored[s].row_sum, kept[1]) for s, kept in after.items()})
        # Files that were derived hold the genomes of those who agreed to one, and count the others.
        if any(before & ~now & _SHOWN_OR_LEARNT for before, now in (different[s] for s in stored)):
            self._forget_derived()
        granted = [s for s, (_, now) in different.items() if now & CONSENT_PERSONALISATION]
        withdrawn = [s for s, (_, now) in different.items() if not now & CONSENT_PERSONALISATION]
        members = "UPDATE members SET standing = ?, stamp = ? WHERE subject = ? AND standing IN"
        self.run_many(
            f"{members} (?, ?, ?)",
            ((PRESENT, stamps[s], s, PRESENT, WITHDRAWN, SILENT) for s in granted),
        )
        self.run_many(
            f"{members} (?)",
            ((WITHDRAWN, stamps[s], s, PRESENT) for s in withdrawn),
        )

    def _reweigh(self, sums: Mapping[bytes, tuple[int, int]]) -> None:
        """Let the tallies follow rows whose sums went from one number to another."""
        query = f"SELECT audience, subject FROM members WHERE standing = {PRESENT} AND subject IN"
        low: dict[str, int] = defaultdict(int)
        high: dict[str, int] = defaultdict(int)
        for audience, subject in self.among(f"{query} ({{keys}})", sums):
            was, now = sums[subject]
            low[audience] += (now & _HALF) - (was & _HALF)
            high[audience] += (now >> 32 & _HALF) - (was >> 32 & _HALF)
        self.run_many(
            "UPDATE tallies SET low = low + ?, high = high + ? WHERE audience = ?",
            ((low[audience], high[audience], audience) for audience in low),
        )


def _merged(old: Row | None, row: CustomerRow) -> Row:
    """The row to store for what an import says about a customer.

    A profile that is older than the one that is stored changes nothing. Consents
    go by their own times, however old the row: see `genome_server.store.words`.
    """
    before = old or _nobody(row.subject)
    _, markers, consents, stated, consents_ms, updated_ms, stated_ms, said = before
    older = row.updated_ms != 0 and row.updated_ms < updated_ms
    if not older:
        markers = json.dumps([list(pair) for pair in row.markers], ensure_ascii=False)
    if row.consents is not None:
        words = _words(before)
        # Of a statement from before times were kept it is only known that it may be as young as
        # the profile: what is older than that takes back, and gives nothing.
        undated = stated is not None and not stated_ms
        speak = words.refused if undated and older else words.restated
        words = speak(row.consents, row.updated_ms)
        consents, stated, stated_ms = words.consents, words.stated, words.stated_ms
        said = words.text if words.heard else ""
    newest = max(row.updated_ms, updated_ms)
    return (row.subject, markers, consents, stated, consents_ms, newest, stated_ms, said)


def _nobody(subject: bytes) -> Row:
    """The row of a customer of whom nothing is known."""
    return (subject, "[]", 0, None, 0, 0, 0, "")


def _words(row: Row) -> Words:
    _, _, consents, stated, consents_ms, _, stated_ms, said = row
    return Words.stored(stated, stated_ms, said, (consents_ms, consents))


def _customer(row: Row) -> CustomerRow:
    subject, markers, loyalty, consents, updated_ms, insight, stated, *said = row
    consents_ms, stated_ms, text = said
    known = _markers(markers) + _markers(loyalty)
    silent = stated is None and not consents_ms
    words = Words.stored(stated, stated_ms, text, (consents_ms, consents))
    return CustomerRow(bytes(subject), known, consents, updated_ms, insight, silent, words)


# Profiles are segments, mostly: many customers have the same one.
@lru_cache(maxsize=8_192)
def _markers(text: str) -> tuple[tuple[str, int], ...]:
    return tuple((str(marker), int(salience)) for marker, salience in json.loads(text))
