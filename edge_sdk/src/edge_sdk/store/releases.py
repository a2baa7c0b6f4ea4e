"""Releases as a store holds them: parts by content, and the pointer that is the commit."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import field
from pathlib import Path

from google.protobuf.message import DecodeError

from edge_sdk.errors import StoreCorrupt
from edge_sdk.messages import dna_pb2, release_pb2
from edge_sdk.store.database import Database
from edge_sdk.store.files import Manifests, Parts
from edge_sdk.store.genomes import compatible
from edge_sdk.store.meta import bump, drop_meta, get_meta, set_meta
from edge_sdk.store.rows import read_rows, sealed
from edge_sdk.values import dataclass
from edge_sdk.version import sdk_version


@dataclass(frozen=True)
class StoredRelease:
    """A release in the store: its number, its serialised SignedManifest as it was verified, and the
    SHA-256 of that where it was read from the disk."""

    version: int
    signed_manifest: bytes = field(repr=False)
    sha256: bytes = field(default=b"", repr=False)

    @property
    def manifest(self) -> release_pb2.Manifest:
        """The manifest. Raises StoreCorrupt where it is not the one that was verified."""
        return release_pb2.Manifest.FromString(self.signed.manifest)

    @property
    def signed(self) -> release_pb2.SignedManifest:
        """The manifest with its signatures. Raises StoreCorrupt as `manifest`."""
        damaged = f"the manifest of release {self.version} is damaged"
        if self.sha256 and hashlib.sha256(self.signed_manifest).digest() != self.sha256:
            raise StoreCorrupt(damaged)
        try:
            signed = release_pb2.SignedManifest.FromString(self.signed_manifest)
            if release_pb2.Manifest.FromString(signed.manifest).version == self.version:
                return signed
        except DecodeError as error:
            raise StoreCorrupt(damaged) from error
        raise StoreCorrupt(damaged)


class ReleaseShelf:
    """Reads and writes the releases of one store."""

    def __init__(self, database: Database, root: Path) -> None:
        self._database = database
        self.parts = Parts(root)
        self._manifests = Manifests(root)

    def role(self, role: str) -> StoredRelease | None:
        """The active, previous or staged release."""
        with self._database.read() as connection:
            return _role(connection, role)

    def commit(self, release: StoredRelease) -> bool:
        """Make a release the active one, or the staged one where it waits for its genome rows."""
        self._manifests.write(release.version, release.signed_manifest)
        with self._database.write() as connection:
            staged = _role(connection, "staged")
            waits = (
                _rows_are_of_another_lineage(connection, release.manifest.lineage)
                and (staged is None or staged.version != release.version)
                and _role(connection, "active") is not None
            )
            if waits:
                _put(connection, "staged", release)
            else:
                activate(connection, release)
            remember_seen(connection, release.version, digest_of(release.signed_manifest))
        self.sweep()
        return not waits

    def fall_back(self, version: int, verdict: str = "") -> StoredRelease | None:
        """The active release, which is `version`, cannot be used: make the previous one active."""
        with self._database.write() as connection:
            active, previous = _role(connection, "active"), _role(connection, "previous")
            if active is None or active.version != version:
                return active
            if verdict:
                failed = f"{sdk_version()}\n{verdict}".encode()
                digest = digest_of(active.signed_manifest)
                set_meta(connection, failed_release=digest + failed)
            connection.execute("DELETE FROM releases WHERE role IN ('active', 'previous')")
            if previous is not None:
                _put(connection, "active", previous)
            bump(connection, "release")
            return previous

    def was_used(self) -> bool:
        """Whether there is a manifest: then the pointer to it must be somewhere, too."""
        return bool(self._manifests.newest_first())

    def restore(self, connection: sqlite3.Connection) -> None:
        """After a rebuild: take the newest release whose parts are all here as the active one,
        where the pointer was lost."""
        pointed = _role(connection, "active") is not None
        held = set(self.parts.held())
        for version, content in self._manifests.newest_first():
            release = StoredRelease(version, content)
            try:
                needed = {part.sha256 for part in release.manifest.parts if not part.asset}
            except StoreCorrupt:
                continue
            remember_seen(connection, version, digest_of(content))
            if not pointed and needed and needed <= held:
                activate(connection, release)
                return

    def sweep(self) -> None:
        """Delete the parts and manifests of releases that are not held any more."""
        releases = [release for release in map(self.role, _ROLES) if release is not None]
        self._manifests.keep_only({release.version for release in releases})
        try:
            self.parts.keep_only(
                {part.sha256 for release in releases for part in release.manifest.parts}
            )
        except StoreCorrupt:
            return  # nothing is deleted on the word of a damaged manifest


_ROLES = ("active", "previous", "staged")


def failed_release(connection: sqlite3.Connection) -> tuple[bytes, str]:
    """The manifest's digest and the verdict of what failed last; another version of the SDK may do
    better, so that its verdicts count for itself only."""
    failed = get_meta(connection, "failed_release") or b""
    version, _, verdict = failed[32:].decode().partition("\n")
    return (failed[:32], verdict) if version == sdk_version() else (b"", "")


def activate(connection: sqlite3.Connection, release: StoredRelease) -> None:
    """Move the pointer: the active release becomes the previous one."""
    active = _role(connection, "active")
    if active is not None and active.version != release.version:
        _put(connection, "previous", active)
    _put(connection, "active", release)
    connection.execute("DELETE FROM releases WHERE role = 'staged'")
    drop_meta(connection, "failed_release")
    bump(connection, "release")


def activate_staged(connection: sqlite3.Connection, lineage: dna_pb2.Lineage) -> None:
    """Activate the staged release where its rows are here now."""
    staged = _role(connection, "staged")
    if staged is not None and compatible(staged.manifest.lineage, lineage):
        activate(connection, staged)


def digest_of(signed_manifest: bytes) -> bytes:
    """SHA-256 of the manifest's bytes. Raises StoreCorrupt."""
    try:
        signed = release_pb2.SignedManifest.FromString(signed_manifest)
    except DecodeError as error:
        raise StoreCorrupt("a signed manifest is damaged") from error
    return hashlib.sha256(signed.manifest).digest()


def remember_seen(connection: sqlite3.Connection, version: int, digest: bytes) -> None:
    """Raise the highest version seen, never lower it."""
    if version > int(get_meta(connection, "highest_seen") or b"0"):
        set_meta(connection, highest_seen=b"%d" % version, seen_digest=digest)


def _rows_are_of_another_lineage(connection: sqlite3.Connection, lineage: dna_pb2.Lineage) -> bool:
    held = get_meta(connection, "genome_lineage")
    rows = int(get_meta(connection, "genome_rows") or b"0")
    if held is None or rows == 0:
        return False
    return not compatible(dna_pb2.Lineage.FromString(held), lineage)


def _role(connection: sqlite3.Connection, role: str) -> StoredRelease | None:
    for _, version, sha256 in read_rows(connection, "releases", "WHERE role = ?", role):
        row = connection.execute("SELECT manifest FROM releases WHERE role = ?", (role,)).fetchone()
        return StoredRelease(version, bytes(row[0]), sha256)
    return None


def _put(connection: sqlite3.Connection, role: str, release: StoredRelease) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO releases (manifest, role, version, sha256, row_crc)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            release.signed_manifest,
            *sealed(
                role,
                release.version,
                # A damaged one stays a damaged one when it is moved.
                release.sha256 or hashlib.sha256(release.signed_manifest).digest(),
            ),
        ),
    )
