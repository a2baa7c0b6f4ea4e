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
import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from edge_sdk._posix import FileLock
from edge_sdk.clock import wall_ms
from edge_sdk.errors import StoreCorrupt
from edge_sdk.status import DeviceFacts
from edge_sdk.store import files as store_files
from edge_sdk.store import state as store_state
from edge_sdk.store.database import Database, Watch, translate
from edge_sdk.store.genomes import (
    ERASED,
    GenomeShelf,
    GenomeView,
    compatible,
    counter,
    get_meta,
    rows_of,
    set_meta,
    split_pairs,
)
from edge_sdk.store.identity import Identity, read_identity, write_identity
from edge_sdk.store.releases import ReleaseShelf, StoredRelease, activate_staged, remember_seen
from edge_sdk.store.rescue import rescue
from genome_edge.v1 import dna_pb2, sync_pb2

__all__ = ["DeviceFacts", "DeviceStore", "Identity", "StoredRelease"]

log = logging.getLogger("edge_sdk.store.device")

_OPEN_LOCK: Final = "open"
_SYNC_LOCK: Final = "sync"


class DeviceStore:
    """One device's directory. Thread-safe. Not to be used across a fork: open it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Set by the client; called once per heartbeat; never blocks.
        self.facts: Callable[[], DeviceFacts] = DeviceFacts
        #: What was found damaged and not brought anew by a sync since; None: nothing.
        self.incident: StoreCorrupt | None = None
        self.database = Database(path / store_files.DATABASE)
        self._releases = ReleaseShelf(self.database, path)
        self._genomes = GenomeShelf(self.database, path)
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
            with store._lock(_OPEN_LOCK):
                try:
                    store.database.create_or_upgrade(expected=store._releases.was_used())
                except StoreCorrupt as error:
                    store._rebuild(error)
                store._make_epoch()
        except OSError as error:
            raise translate(error, store.path) from error
        return store

    def close(self) -> None:
        """Close the files. Harmless to repeat."""
        self.database.close()

    # Damage -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction; a damaged file is rebuilt before StoreCorrupt is raised."""
        try:
            with self.database.write() as connection:
                yield connection
        except StoreCorrupt as error:
            self.repair(error)
            raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view; a damaged file is rebuilt before StoreCorrupt is raised."""
        try:
            with self.database.read() as connection:
                yield connection
        except StoreCorrupt as error:
            self.repair(error)
            raise

    def repair(self, error: StoreCorrupt) -> None:
        """Rebuild the SQLite file where it is damaged indeed and nobody else was faster."""
        try:
            store_files.make_directories(self.path)
            with self._lock(_OPEN_LOCK):
                if self.database.is_gone():
                    self._rebuild(error)
                elif self.database.was_replaced():
                    self.database.reset()
                elif not self.database.is_intact():
                    self._rebuild(error)
        except OSError as problem:
            raise translate(problem, self.path) from problem

    def _rebuild(self, error: StoreCorrupt) -> None:
        """Under the open lock."""
        aside = store_files.move_aside(self.path, store_files.database_files(self.path))
        self._found(StoreCorrupt(f"{error}; moved to {aside} and rebuilt"))
        self.database.reset()
        self.database.create_or_upgrade()
        with self.database.write() as connection:
            rescue(aside / store_files.DATABASE, connection, wall_ms())
            self._releases.restore(connection)

    def _found(self, incident: StoreCorrupt) -> None:
        log.warning("%s", incident)
        self.incident = incident

    def _lock(self, name: str) -> FileLock:
        return FileLock.acquire(self.path / "locks" / name)

    # Processes ----------------------------------------------------------------------------------

    def elect(self) -> FileLock | None:
        """Become the process that syncs: its lock, or None where another one is it."""
        return FileLock.try_acquire(self.path / "locks" / _SYNC_LOCK)

    def watch(self) -> Watch:
        """Something that tells when any process has committed. Raises StoreError."""
        return self.database.watch()

    def changes(self) -> tuple[int, int, int]:
        """Counts of changes of: the active release, the genomes, what the device remembers."""
        with self.read() as db:
            return counter(db, "release"), counter(db, "genomes"), counter(db, "state")

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
        """The 16 random bytes made with the store; changed only by `Outbox.new_epoch`."""
        with self.read() as connection:
            return get_meta(connection, "epoch") or bytes(16)

    def _make_epoch(self) -> None:
        with self.database.read() as connection:
            if get_meta(connection, "epoch") is not None:
                return
        with self.database.write() as connection:
            set_meta(connection, epoch=secrets.token_bytes(16))

    # Releases -----------------------------------------------------------------------------------

    def held_parts(self) -> list[bytes]:
        """SHA-256 of every part in the store."""
        return self._releases.parts.held()

    def part_path(self, sha256: bytes) -> Path:
        """Where a part is."""
        return self._releases.parts.path(sha256)

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

    def release_failed(self, version: int) -> StoredRelease | None:
        """The active release cannot be used: go back to the previous one, and return that."""
        return self._releases.fall_back(version)

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
        blocks: Iterable[dna_pb2.GenomeBlock],
        deletes: Iterable[tuple[bytes, int]] = (),
        lookup_key: bytes = b"",
        lookups: Iterable[tuple[bytes, bytes]] = (),
        cursor: bytes,
        included: Iterable[sync_pb2.LaneMark] = (),
    ) -> int:
        """Apply one set of rows at once and return how many rows are held afterwards.

        `full` replaces all rows and lookups, otherwise they are patched. `deletes` are
        (subject, Delete.Reason); `lookups` pairs of concatenated 16-byte hashes and subjects, as
        in Put. Pending imprints and consents that `included` covers are dropped in the same
        transaction, and a release that waited for these rows becomes active in it. Who is erased
        is erased from everything in the store. For the syncing process only.

        Raises ValueError where a patch is of another lineage than the rows held, DiskFull,
        StoreCorrupt, StoreError.
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
            rows = rows_of(blocks)
            files = self._genomes.write_files(lineage, rows, pairs) if full else None
            with self.write() as connection:
                if files is not None:
                    self._genomes.replace(connection, files, **meta)
                    count = files[2]
                else:
                    count = self._genomes.patch(connection, view, rows, deletes, pairs)
                    set_meta(connection, **meta)
                store_state.drop_included(connection, included)
                for subject in erased:
                    store_state.forget_subject(connection, subject, wall_ms())
                activate_staged(connection, lineage)
            self._tidy(full=full, erased=bool(erased))
        return count

    def _tidy(self, *, full: bool, erased: bool) -> None:
        if full:
            self.incident = None
            self._genomes.sweep()
        elif erased or self._genomes.wants_compaction(self.genomes()):
            self._genomes.compact()
        if erased:
            self.database.truncate_log()

    # Time and contact ---------------------------------------------------------------------------

    def server_offset_ms(self) -> int | None:
        """Server minus device wall clock as last heard; None: never heard."""
        return self._number("server_offset_ms")

    def last_contact_ms(self) -> int | None:
        """When the server was last heard, by its own clock; None: never."""
        return self._number("last_contact_ms")

    def heard_server(self, server_time_ms: int) -> None:
        """Remember the offset and the moment of the last contact."""
        with self.write() as connection:
            set_meta(
                connection,
                server_offset_ms=b"%d" % (server_time_ms - wall_ms()),
                last_contact_ms=b"%d" % server_time_ms,
                clock_floor_ms=b"%d" % server_time_ms,
            )

    def clock_floor_ms(self) -> int:
        """The latest moment that was seen since the server was heard; 0: none."""
        return self._number("clock_floor_ms") or 0

    def raise_clock_floor(self, now_ms: int) -> None:
        """Remember that this moment has passed."""
        with self.write() as connection:
            if now_ms > int(get_meta(connection, "clock_floor_ms") or b"0"):
                set_meta(connection, clock_floor_ms=b"%d" % now_ms)

    def _number(self, key: str) -> int | None:
        with self.read() as connection:
            value = get_meta(connection, key)
        return None if value is None else int(value)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translate(error, self.path) from error
