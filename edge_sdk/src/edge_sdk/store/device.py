"""The device's store: one directory, several processes, nothing lost.

Rules
-----
1. What is large is immutable and complete or absent (`store_files`): parts of releases, genome
   rows, lookups. What is small and changes is in one SQLite file. A release or a set of rows
   becomes the current one by a single transaction that moves a pointer: before it everything is
   old, after it everything is new, whatever is killed when.
2. The previous release is kept for the day when the active one turns out to be damaged.
3. The highest release version ever seen never falls.
4. One store is one device. Any number of processes decide from it and write to it; one of them, the
   holder of `elect`'s lock, syncs.
5. A damaged file is moved to `<store>.corrupt-<n>`, what can be saved is saved, and the store goes
   on; `incident` says what happened. The identity is in files of its own and outlives this.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sdk._posix import FileLock
from edge_sdk.clock import wall_ms
from edge_sdk.condition import DeviceFacts
from edge_sdk.engine.cap_rules import CapRow
from edge_sdk.errors import StoreCorrupt
from edge_sdk.lazy import later
from edge_sdk.messages import dna_pb2, release_pb2, sync_pb2
from edge_sdk.numbers import ERASED
from edge_sdk.store import files as store_files
from edge_sdk.store import reservations, routine_file
from edge_sdk.store import state as store_state
from edge_sdk.store.database import translate
from edge_sdk.store.genomes import GenomeShelf, GenomeView, compatible, rows_of, split_pairs
from edge_sdk.store.guarded import OPEN_LOCK
from edge_sdk.store.identity import Identity, read_identity, write_identity
from edge_sdk.store.meta import bump, counter, drop_meta, get_meta, set_meta
from edge_sdk.store.partials import Partials
from edge_sdk.store.releases import (
    ReleaseShelf,
    StoredRelease,
    activate_staged,
    failed_release,
    remember_seen,
)
from edge_sdk.store.standing import StandingStore

if TYPE_CHECKING:
    from edge_sdk.store import patching
else:
    patching = later("edge_sdk.store.patching")

__all__ = ["DeviceFacts", "DeviceStore", "Identity", "StoredRelease"]

_SYNC_LOCK: Final = "sync"


class DeviceStore(StandingStore):
    """One device's directory. Thread-safe. Not to be used across a fork: open it again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        #: Set by the client; called about once a second; never blocks.
        self.facts: Callable[[], DeviceFacts] = DeviceFacts
        self._releases = ReleaseShelf(self.database, path)
        self._genomes = GenomeShelf(self.database, path)
        self._partials = Partials(path)
        self._view: GenomeView | None = None
        self._view_lock = threading.Lock()

    @classmethod
    def open(cls, path: Path | str) -> DeviceStore:
        """Open the store at `path`, made where it is missing, rebuilt where it is corrupt.

        Raises StoreError where the directory cannot be used at all (DiskFull where it is full).
        """
        store = cls(Path(path).absolute())
        try:
            store_files.make_directories(store.path)
            with store._lock(OPEN_LOCK):
                try:
                    store.database.create_or_upgrade(expected=store._releases.was_used())
                    store._make_epoch()
                except StoreCorrupt as error:
                    store._rebuild(error)
        except OSError as error:
            raise translate(error, store.path) from error
        return store

    # Processes ----------------------------------------------------------------------------------

    def elect(self) -> FileLock | None:
        """Become the process that syncs: its lock, or None where another one is it."""
        return FileLock.try_acquire(self.path / "locks" / _SYNC_LOCK)

    def changes(self) -> tuple[int, int, int, int]:
        """Counts of changes of: the active release, the genomes, what the device remembers, what is
        in force (an asset that has arrived counts as such a change)."""
        with self.read() as db:
            names = ("release", "genomes", "state", "standing")
            return tuple(counter(db, name) for name in names)  # type: ignore[return-value]

    def _restore(self, connection: sqlite3.Connection) -> None:
        self._releases.restore(connection)

    def losses(self) -> dict[str, int]:
        """Events that were lost or given up since the store was made, by reason; REBUILT is how
        often its file was found damaged and rebuilt."""
        with self.read() as connection:
            return dict(connection.execute("SELECT reason, events FROM losses"))

    # Identity -----------------------------------------------------------------------------------

    @property
    def key_path(self) -> Path:
        """Where the device's private key is (PEM, 0600); the directory exists, 0700."""
        return self.path / "identity" / "device.pem"

    def identity(self) -> Identity | None:
        """Who this device is; None before enrolment. Raises StoreCorrupt where it is damaged."""
        return read_identity(self.path)

    def set_identity(self, identity: Identity) -> None:
        """Keep what enrolment gave, or a rotated root (dataclasses.replace)."""
        with self._disk():
            write_identity(self.path, identity)

    def epoch(self) -> bytes:
        """The 16 random bytes made with the store, of lanes to come; `Outbox.forked` changes it."""
        with self.read() as connection:
            return get_meta(connection, "epoch") or bytes(16)

    def _make_epoch(self) -> None:
        with self.database.read() as connection:
            if get_meta(connection, "epoch") is not None:
                return
        with self.database.write() as connection:
            set_meta(connection, epoch=os.urandom(16))

    # Releases -----------------------------------------------------------------------------------

    def held_parts(self) -> list[bytes]:
        """SHA-256 of every part in the store."""
        return self._releases.parts.held()

    def assets_held(self, manifest: release_pb2.Manifest) -> frozenset[str]:
        """Names of the asset parts of a release that are here."""
        parts, has = manifest.parts, self._releases.parts.has
        return frozenset(p.name for p in parts if p.asset and has(p.sha256, p.size))

    def part_path(self, sha256: bytes) -> Path:
        """Where a part is."""
        return self._releases.parts.path(sha256)

    def partials(self) -> dict[bytes, int]:
        """How many bytes are here of contents that are not whole yet, by SHA-256."""
        with self._disk():
            return self._partials.held()

    def append_partial(self, sha256: bytes, offset: int, data: bytes) -> None:
        """Go on with a content, or begin it anew at 0.

        ValueError where it does not end at `offset`. Raises StoreError.
        """
        with self._disk():
            self._partials.append(sha256, offset, data)

    def finish_partial(self, sha256: bytes, *, part: bool = False) -> Path:
        """Where a content is, now that it is whole; with `part` it is one of a release's.

        ValueError where its digest is another one: it is dropped then. Raises StoreError.
        """
        with self._disk():
            path = self._partials.finish(sha256)
            if not part:
                return path
            self._releases.parts.take(sha256, path)
            return self.part_path(sha256)

    def make_room(self, wanted: Iterable[bytes], size: int) -> None:
        """Before `size` bytes of `wanted` contents come: give up what is not needed any more.
        Raises DiskFull where they have no room."""
        with self._disk():
            self._partials.make_room(set(wanted), size)

    def assets_arrived(self) -> None:
        """Say to every process that assets are here now."""
        with self.write() as connection:
            bump(connection, "standing")

    def stage_part(self, sha256: bytes, data: bytes) -> None:
        """Write a part (atomic; fsynced); ValueError where the digest does not match."""
        with self._disk():
            self._releases.parts.stage(sha256, data)

    def read_part(self, sha256: bytes) -> bytes:
        """A part's bytes, digest checked; KeyError where missing, StoreCorrupt where damaged (it
        is moved aside first, so that `held_parts` no longer names it), StoreError."""
        try:
            with self._disk():
                return self._releases.parts.read(sha256)
        except StoreCorrupt as error:
            self._found(error)
            raise

    def active_release(self) -> StoredRelease | None:
        """The release that devices decide from."""
        return self._releases.role("active")

    def previous_release(self) -> StoredRelease | None:
        """The one before, kept for the day when the active one turns out to be damaged."""
        return self._releases.role("previous")

    def commit_release(self, signed_manifest: bytes, version: int) -> bool:
        """Make an already verified release, all of whose parts are staged, the active one.

        Raises `highest_seen`, keeps the previous release and drops older parts. Where the store
        holds genome rows of another lineage the release waits for the rows that go with it: False
        then, and `commit_genomes` with that lineage activates it (as does committing the same
        version once more).
        """
        with self._disk():
            activated = self._releases.commit(StoredRelease(version, signed_manifest))
        self.incident = None
        return activated

    def release_failed(self, version: int, verdict: str = "") -> StoredRelease | None:
        """The active release cannot be used: go back to the previous one, and return that.

        With a `verdict` (for a person) it is not taken again before another one was; without one it
        was damaged here and comes anew.
        """
        return self._releases.fall_back(version, verdict)

    def failed_release(self) -> tuple[bytes, str]:
        """The manifest digest of the release that failed last under this version of the SDK, and
        the verdict; empty: none."""
        with self.read() as connection:
            return failed_release(connection)

    def highest_seen(self) -> int:
        """The highest release version ever offered and verified; never falls."""
        with self.read() as connection:
            return int(get_meta(connection, "highest_seen") or b"0")

    def seen_digest(self) -> bytes | None:
        """SHA-256 of the manifest of the highest version seen; None: none was."""
        with self.read() as connection:
            return get_meta(connection, "seen_digest")

    def raise_highest_seen(self, version: int, digest: bytes) -> None:
        """Remember a verified version and its manifest's digest, whether it is activated or not."""
        with self.write() as connection:
            remember_seen(connection, version, digest)

    # Genomes ------------------------------------------------------------------------------------

    def genomes(self) -> GenomeView:
        """What is held now. Raises StoreCorrupt once where a file was damaged, after dropping the
        rows so that the next sync brings them anew, and StoreError."""
        with self._view_lock:
            try:
                self._view = self._genomes.view(self._view)
            except StoreCorrupt as error:
                if self.database.is_intact():
                    self._drop_genomes(error)
                else:
                    self.repair(error)
                raise
            return self._view

    def _drop_genomes(self, error: StoreCorrupt) -> None:
        with self.write() as connection:
            names = [get_meta(connection, key) for key in ("snapshot", "lookup")]
            self._genomes.drop(connection)
        files = self._genomes.paths([name.decode() for name in names if name])
        aside = store_files.move_aside(self.path, files)
        self._found(StoreCorrupt(f"{error}; moved to {aside}, the next sync brings it anew"))
        self._view = None

    def genome_cursor(self) -> bytes:
        """The cursor of the last genome commit; empty: none."""
        with self.read() as connection:
            return get_meta(connection, "genome_cursor") or b""

    def genome_lineage(self) -> dna_pb2.Lineage | None:
        """The lineage of the rows held; None: none held."""
        with self.read() as connection:
            lineage = get_meta(connection, "genome_lineage")
        return None if lineage is None else dna_pb2.Lineage.FromString(lineage)

    def genome_count(self) -> int:
        """How many rows are held."""
        with self.read() as connection:
            return int(get_meta(connection, "genome_rows") or b"0")

    def commit_genomes(
        self,
        *,
        full: bool,
        lineage: dna_pb2.Lineage,
        content: bytes = b"",
        blocks: Iterable[dna_pb2.GenomeBlock] = (),
        patches: Iterable[sync_pb2.GenomePatch] = (),
        deletes: Iterable[tuple[bytes, int]] = (),
        lookup_key: bytes = b"",
        lookups: Iterable[tuple[bytes, bytes]] = (),
        cursor: bytes,
        included: Iterable[sync_pb2.LaneMark] = (),
        total_rows: int | None = None,
        row_sum: int | None = None,
        counted: Iterable[CapRow] = (),
    ) -> int:
        """Apply one set of rows at once and return how many rows are held afterwards.

        `full` replaces all rows and lookups, with `blocks` or with the partial content of this
        SHA-256; otherwise they are changed. `deletes` are (subject, Delete.Reason); `lookups` pairs
        of concatenated 16-byte hashes and subjects, as in Put. Pending imprints and consents that
        `included` covers are dropped in the same transaction, and a release that waited for these
        rows becomes active in it. `counted` is what was done elsewhere; it goes with the row of who
        did it. Who is erased is erased from everything in the store. For the
        syncing process only.

        Raises TrustError DIGEST where the rows would not be `total_rows` or sum up to `row_sum`:
        nothing has happened then. Raises ValueError where a change is of another lineage than the
        rows held, FormatError, DiskFull, StoreCorrupt, StoreError.
        """
        view = self.genomes()
        deletes = list(deletes)
        pairs = [pair for both in lookups for pair in split_pairs(*both)]
        if not full and (view.lineage is None or not compatible(view.lineage, lineage)):
            raise ValueError("a patch of another lineage than the rows held")
        meta = {
            "genome_lineage": lineage.SerializeToString(deterministic=True),
            "genome_cursor": cursor,
            "lookup_key": lookup_key or (b"" if full else view.key),
        }
        erased = [subject for subject, reason in deletes if reason == ERASED]
        with self._disk():
            if content:
                files = self._genomes.write_content(lineage, self._partials, content)
            elif full:
                files = self._genomes.write_files(lineage, rows_of(blocks), pairs)
            else:
                files = None
                rows = [*rows_of(blocks), *patching.patched(view, patches)]
                summed = patching.sum_after(view, self._row_sum(view), rows, deletes)
            with self.write() as connection:
                if files is not None:
                    count, summed = files.rows, files.row_sum
                    self._genomes.replace(connection, files, **meta)
                else:
                    count = self._genomes.patch(connection, view, rows, deletes, pairs)
                    set_meta(connection, **meta)
                patching.check_rows(count, summed, total_rows, row_sum)
                set_meta(connection, row_sum=b"%d" % summed)
                store_state.drop_included(connection, included)
                gone = self._genomes.gone(files, deletes)
                store_state.keep_elsewhere(connection, counted, gone)
                for subject in erased:
                    store_state.forget_subject(connection, subject, wall_ms())
                activate_staged(connection, lineage)
            if content:
                with contextlib.suppress(OSError):  # then it goes when something else needs room
                    self._partials.drop(content)
            if full:
                self.incident = None
            self._tidy(full=full, erased=bool(erased))
        return count

    def _row_sum(self, view: GenomeView) -> int:
        """The sum of all row sums; worked out once for rows that an older SDK has kept."""
        with self.read() as connection:
            kept = get_meta(connection, "row_sum")
        return patching.sum_of(view.rows()) if kept is None else int(kept)

    def finish_erasing(self) -> None:
        """Where an erasure was cut short, rewrite the files that the erased may still be in.
        Raises StoreError. For the syncing process only."""
        with self.read() as connection:
            if get_meta(connection, "erasing") is None:
                return
        with self._disk():
            self._tidy(full=False, erased=True)

    def _tidy(self, *, full: bool, erased: bool) -> None:
        self._genomes.tidy(self.genomes, full=full, erased=erased)
        if erased:
            self.database.truncate_log()
            with self.write() as connection:
                erasing = get_meta(connection, "erasing") or b""
                reservations.erase(self.path, erasing)
                routine_file.erase(self.path, erasing)
                drop_meta(connection, "erasing")
