"""Genome rows and customer lookups as a store holds them: a snapshot, and patches on top of it.

Theory of operation. A full set of rows becomes one immutable file, mapped by every process. What
changes afterwards is small: it is kept in SQLite, read into memory by each process, and looked up
first. When the patches have become many, or somebody was erased, the syncing process writes a new
snapshot out of both. The rows of SQLite's `meta` say which files are the current ones; changing
them is the commit.

A `GenomeView` is what was held at one moment. It is never changed: readers keep theirs for as long
as they like, and take no lock.
"""

from __future__ import annotations

import logging
import sqlite3
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_sdk.dna.genome import SUBJECT_BYTES, Row, rows_from_block
from edge_sdk.errors import FormatError, StoreCorrupt, StoreError
from edge_sdk.lazy import later
from edge_sdk.messages import dna_pb2, lineage_of
from edge_sdk.numbers import ERASED, LEFT_AUDIENCE
from edge_sdk.store.database import Database
from edge_sdk.store.files import remove
from edge_sdk.store.lookup_file import LookupFile, lookup_hash
from edge_sdk.store.meta import all_meta, bump, counter, drop_meta, set_meta
from edge_sdk.store.partials import Partials
from edge_sdk.store.rows import read_rows, sealed
from edge_sdk.store.snapshot import Snapshot
from edge_sdk.values import dataclass

if TYPE_CHECKING:
    from edge_sdk.dna import columns
    from edge_sdk.store import genome_files
    from edge_sdk.store.genome_files import Files
else:
    columns = later("edge_sdk.dna.columns")
    genome_files = later("edge_sdk.store.genome_files")

log = logging.getLogger("edge_sdk.store")

_ROW: Final = struct.Struct("<IiH")
_CRC: Final = struct.Struct("<I")
# Patches are held in memory by each process (half a kilobyte each) and searched first; beyond this
# share of the rows a new snapshot is cheaper.
_LEAST_PATCHES: Final = 4096
_PATCH_SHARE: Final = 32
_MOST_PATCHES: Final = 16_384

KEYS: Final = (
    "genome_cursor",
    "genome_lineage",
    "genome_rows",
    "row_sum",
    "snapshot",
    "lookup",
    "lookup_key",
    "erasing",
)


def compatible(one: dna_pb2.Lineage, other: dna_pb2.Lineage) -> bool:
    """Whether rows of one lineage can be read under the other: the vocabulary may have grown."""
    return (
        one.vocabulary_lineage == other.vocabulary_lineage
        and one.schema_epoch == other.schema_epoch
        and one.landmark_hour == other.landmark_hour
        and one.quantiser == other.quantiser
    )


@dataclass(frozen=True)
class GenomeView:
    """Rows and lookups as they were at one moment."""

    change: int = 0
    files: tuple[str, str] = ("", "")
    lineage: dna_pb2.Lineage | None = None
    count: int = 0
    key: bytes = field(default=b"", repr=False)
    snapshot: Snapshot | None = None
    lookup: LookupFile | None = None
    #: subject → packed row, or the reason of its deletion.
    patches: dict[bytes, bytes | int] = field(default_factory=dict, repr=False)
    lookups: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def row(self, subject: bytes) -> Row | None:
        """The row of a subject, or None."""
        patch = self.patches.get(subject)
        if patch is not None:
            return unpack_row(subject, patch) if isinstance(patch, bytes) else None
        return self.snapshot.lookup(subject) if self.snapshot is not None else None

    def consents(self, subject: bytes) -> int:
        """The consent bits of a subject, without a look at its strengths; 0 without a row."""
        patch = self.patches.get(subject)
        if patch is not None:
            return int(_ROW.unpack_from(patch)[0]) if isinstance(patch, bytes) else 0
        return (self.snapshot.consents(subject) or 0) if self.snapshot is not None else 0

    def subject_of(self, customer: str) -> bytes | None:
        """The subject of an app's own customer id, or None where the audience does not know it."""
        if not self.key:
            return None
        hash_ = lookup_hash(self.key, customer)
        subject = self.lookups.get(hash_)
        if subject is None and self.lookup is not None:
            subject = self.lookup.subject(hash_)
            if subject is not None and self.patches.get(subject) in (ERASED, LEFT_AUDIENCE):
                return None
        return subject

    def rows(self) -> Iterator[Row]:
        """Every row, in no particular order."""
        if self.snapshot is not None:
            yield from (row for row in self.snapshot if row.subject not in self.patches)
        yield from self.changed_rows()

    def changed_rows(self) -> Iterator[Row]:
        """The rows that are newer than the snapshot."""
        for subject, patch in self.patches.items():
            if isinstance(patch, bytes):
                yield unpack_row(subject, patch)

    def lost(self, before: GenomeView) -> bool:
        """Whether anybody of the view before may have no row any more, or had none in between."""
        # Of several changes between two looks the last one is seen: who left may be back.
        seen = self.files == before.files and self.change - before.change in (0, 1)
        return not seen or any(
            not isinstance(patch, bytes) and before.patches.get(subject) != patch
            for subject, patch in self.patches.items()
        )

    @property
    def left(self) -> frozenset[bytes]:
        """The subjects that are not of the audience any more, nor their lookups."""
        return frozenset(s for s, patch in self.patches.items() if patch in (ERASED, LEFT_AUDIENCE))


def pack_row(row: Row) -> bytes:
    """A row as a patch holds it: its columns and their CRC-32."""
    indices = row.indices.astype("<u4").tobytes()
    head = _ROW.pack(row.consents, row.as_of_hour, len(row.indices))
    packed = head + indices + row.codes.tobytes()
    return packed + _CRC.pack(zlib.crc32(packed))


def check_patch(packed: bytes) -> None:
    """Raise StoreCorrupt where a packed row is not what was packed."""
    end = len(packed) - _CRC.size
    if end < _ROW.size or _CRC.unpack_from(packed, end)[0] != zlib.crc32(packed[:end]):
        raise StoreCorrupt("a genome patch is damaged")


def unpack_row(subject: bytes, packed: bytes) -> Row:
    """The row that `pack_row` packed; `check_patch` has looked at it before."""
    consents, as_of_hour, n = _ROW.unpack_from(packed)
    indices = np.frombuffer(packed, "<u4", n, _ROW.size).astype(np.uint32)
    codes = np.frombuffer(packed, np.uint8, n, _ROW.size + 4 * n)
    return Row(subject, consents, as_of_hour, indices, codes)


def split_pairs(hashes: bytes, subjects: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (hash, subject) pairs of two concatenations. ValueError where they do not fit."""
    if len(hashes) != len(subjects) or len(hashes) % SUBJECT_BYTES:
        raise ValueError("lookup hashes and subjects differ in number")
    for at in range(0, len(hashes), SUBJECT_BYTES):
        yield hashes[at : at + SUBJECT_BYTES], subjects[at : at + SUBJECT_BYTES]


class GenomeShelf:
    """Reads and writes the genomes of one store."""

    def __init__(self, database: Database, root: Path) -> None:
        self._database = database
        self._directory = root / "genomes"
        self._last_tried = ("", "")

    def view(self, known: GenomeView | None = None) -> GenomeView:
        """What is held now; what `known` has already is not read again.

        Raises StoreCorrupt where a file is damaged or missing, and StoreError.
        """
        while True:
            try:
                return self._read_view(known)
            except StoreCorrupt:
                if self._current_files() == self._last_tried:
                    raise
                # Another process has put new files in place between the name and the file.

    def _current_files(self) -> tuple[str, str]:
        with self._database.read() as connection:
            return _files(all_meta(connection))

    def _read_view(self, known: GenomeView | None) -> GenomeView:
        with self._database.read() as connection:
            change = counter(connection, "genomes")
            if known is not None and known.change == change:
                return known
            meta = all_meta(connection)
            files = self._last_tried = _files(meta)
            if known is None or known.files != files:
                known = None
            since = known.change if known is not None else -1
            patches = list(read_rows(connection, "patches", "WHERE change > ?", since))
            lookups = list(read_rows(connection, "lookups", "WHERE change > ?", since))
            snapshot, lookup = (known.snapshot, known.lookup) if known else self._open(files)
        newer: dict[bytes, bytes | int] = {
            subject: row if row is not None else reason for subject, row, reason, _ in patches
        }
        for patch in newer.values():
            if isinstance(patch, bytes):
                check_patch(patch)
        merged = {**known.lookups} if known else {}
        gone = {subject for subject, patch in newer.items() if patch in (ERASED, LEFT_AUDIENCE)}
        if gone:
            merged = {hash_: subject for hash_, subject in merged.items() if subject not in gone}
        merged.update((hash_, subject) for hash_, subject, _ in lookups)
        lineage = meta.get("genome_lineage")
        return GenomeView(
            change=change,
            files=files,
            lineage=lineage_of(lineage) if lineage is not None else None,
            count=int(meta.get("genome_rows", b"0")),
            key=meta.get("lookup_key", b""),
            snapshot=snapshot,
            lookup=lookup,
            patches={**known.patches, **newer} if known else newer,
            lookups=merged,
        )

    def _open(self, files: tuple[str, str]) -> tuple[Snapshot | None, LookupFile | None]:
        snapshot, lookup = files
        return (
            Snapshot.open(self._directory / snapshot) if snapshot else None,
            LookupFile.open(self._directory / lookup) if lookup else None,
        )

    def gone(
        self, files: Files | None, deletes: Collection[tuple[bytes, int]]
    ) -> Callable[[bytes], bool] | Collection[bytes]:
        """Who has no row in files that were written, or with these deletions."""
        if files is None:
            return [subject for subject, _ in deletes]
        snapshot, _ = self._open((files.snapshot, files.lookup))
        return lambda one: snapshot is None or snapshot.consents(one) is None

    def write_files(
        self,
        lineage: dna_pb2.Lineage,
        rows: Iterable[Row],
        pairs: Iterable[tuple[bytes, bytes]],
    ) -> Files:
        """Write a snapshot and a lookup file."""
        held = columns.Columns.of(rows, pairs)
        return genome_files.write_files(
            self._directory, lineage, held.sizes, [held], [held.lookups]
        )

    def write_content(self, lineage: dna_pb2.Lineage, partials: Partials, content: bytes) -> Files:
        """As `write_files`, from the partial content of this SHA-256, in a process of its own.

        ValueError where it is not whole, FormatError where it cannot be read: it is given up then.
        """
        from edge_sdk.sync.worker import write_content

        path = partials.finish(content)
        try:
            return write_content(self._directory.parent, lineage, path)
        except FormatError:
            partials.drop(content)
            raise

    def replace(self, connection: sqlite3.Connection, files: Files, **meta: bytes) -> None:
        """Make files that were written the current ones, without patches."""
        values = {
            "snapshot": files.snapshot.encode(),
            "lookup": files.lookup.encode(),
            "genome_rows": b"%d" % files.rows,
            "row_sum": b"%d" % files.row_sum,
            **meta,
        }
        set_meta(connection, **values)
        connection.execute("DELETE FROM patches")
        connection.execute("DELETE FROM lookups")
        bump(connection, "genomes")

    def patch(
        self,
        connection: sqlite3.Connection,
        view: GenomeView,
        rows: Iterable[Row],
        deletes: Iterable[tuple[bytes, int]],
        pairs: Iterable[tuple[bytes, bytes]],
    ) -> int:
        """Write patches on top of `view`, which is what is held now; returns the number of rows."""
        change = bump(connection, "genomes")
        patches: dict[bytes, tuple[bytes | None, int]] = {
            row.subject: (pack_row(row), 0) for row in rows
        }
        for subject, reason in deletes:
            patches[subject] = (None, reason or LEFT_AUDIENCE)
        count = view.count
        for subject, (packed, _) in patches.items():
            count += (packed is not None) - (view.row(subject) is not None)
        connection.executemany(
            "INSERT OR REPLACE INTO patches VALUES (?, ?, ?, ?, ?)",
            [sealed(subject, *patch, change) for subject, patch in patches.items()],
        )
        connection.executemany(
            "DELETE FROM lookups WHERE subject = ?",
            [(s,) for s, (_, reason) in patches.items() if reason in (ERASED, LEFT_AUDIENCE)],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO lookups VALUES (?, ?, ?, ?)",
            [sealed(*pair, change) for pair in pairs],
        )
        set_meta(connection, genome_rows=b"%d" % count)
        return count

    def wants_compaction(self, view: GenomeView) -> bool:
        """Whether the patches are so many that a new snapshot is due."""
        most = min(max(_LEAST_PATCHES, view.count // _PATCH_SHARE), _MOST_PATCHES)
        return len(view.patches) + len(view.lookups) > most

    def compact(self) -> None:
        """Write what is held into new files without patches. For the syncing process only."""
        view = self.view()
        if view.lineage is None:
            return
        if len(view.patches) + len(view.lookups) < _LEAST_PATCHES and view.count < _LEAST_PATCHES:
            change, files = view.change, genome_files.write_view(self._directory, view)
        else:
            from edge_sdk.sync.worker import compact

            change, files = compact(self._directory.parent)
        with self._database.write() as connection:
            if counter(connection, "genomes") == change:
                self.replace(connection, files)
        self.sweep()

    def tidy(self, view: Callable[[], GenomeView], *, full: bool, erased: bool) -> None:
        """After a commit: what is not needed any more goes. The rows are here, whether that works
        or not; but who was `erased` must not stay in a file. Raises StoreError and OSError."""
        try:
            if full:
                self.sweep()
            elif erased or self.wants_compaction(view()):
                self.compact()
        except (StoreError, OSError) as error:
            if erased:
                raise
            log.warning("the rows are here, but files could not be tidied up: %s", error)

    def sweep(self) -> None:
        """Delete the files that are not current; who has them mapped keeps them until done."""
        current = self._current_files()
        remove(entry for entry in self._directory.iterdir() if entry.name not in current)

    def drop(self, connection: sqlite3.Connection) -> None:
        """Forget all rows and lookups, so that the next sync brings them anew."""
        drop_meta(connection, *KEYS)
        connection.execute("DELETE FROM patches")
        connection.execute("DELETE FROM lookups")
        bump(connection, "genomes")

    def paths(self, names: Iterable[str]) -> list[Path]:
        """Where files of these names are."""
        return [self._directory / name for name in names]


def rows_of(blocks: Iterable[dna_pb2.GenomeBlock]) -> Iterator[Row]:
    """The rows of blocks, one after the other. Raises FormatError."""
    for block in blocks:
        yield from rows_from_block(block)


def _files(meta: Mapping[str, bytes]) -> tuple[str, str]:
    return meta.get("snapshot", b"").decode(), meta.get("lookup", b"").decode()
