"""The releases of a tenant as they are handed out: the newest one, its parts, its trust root."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from genome_edge.v1 import release_pb2
from genome_server.home import Tenant
from genome_server.releases.publish import manifest_of, part_content
from genome_server.store.protocol import ReleaseRow, Store

CHUNK_BYTES = 256 * 1024
#: SQLite's integers are signed.
MAX_VERSION = 2**63 - 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shelved:
    """A published release: the signed manifest as it travels, and what it says."""

    version: int
    signed: release_pb2.SignedManifest
    manifest: release_pb2.Manifest
    root: release_pb2.TrustRoot


class Shelf:
    """Finds the newest release and reads parts. Thread-safe; blocks."""

    def __init__(self, tenant: Tenant, store: Store, root: release_pb2.TrustRoot) -> None:
        self._tenant = tenant
        self._store = store
        self.root = root
        self._lock = threading.Lock()
        # Releases are immutable, and devices hold few different ones.
        self._read: dict[int, Shelved] = {}

    def newest(self) -> Shelved | None:
        """Return the newest release, or None before the first was published."""
        return self._shelved(self._store.release())

    def get(self, version: int) -> Shelved | None:
        """Return a release by version, or None where this server never published it."""
        if version > MAX_VERSION:  # a device may say anything; SQLite would not take it
            return None
        return self._read.get(version) or self._shelved(self._store.release(version))

    def _shelved(self, row: ReleaseRow | None) -> Shelved | None:
        if row is None:
            return None
        with self._lock:
            if row.version not in self._read:
                signed = release_pb2.SignedManifest.FromString(row.manifest)
                self._read[row.version] = Shelved(row.version, signed, manifest_of(row), self.root)
            return self._read[row.version]

    def part_path(self, sha256: bytes) -> Path:
        """Return where a part is."""
        return self._tenant.parts_dir / sha256.hex()

    def whole(self, shelved: Shelved) -> bool:
        """Say whether every part of a release is there with its size."""
        for part in shelved.manifest.parts:
            path = self.part_path(part.sha256)
            if not path.is_file() or path.stat().st_size != part.size:
                log.error(
                    "release %d: part %s is not whole at %s", shelved.version, part.name, path
                )
                return False
        return True

    def parts(self, shelved: Shelved) -> dict[str, bytes]:
        """Read all parts of a release by name. Raises Refused where one is gone or altered."""
        return {part.name: part_content(self._tenant, part) for part in shelved.manifest.parts}

    def chunks(self, part: release_pb2.Part) -> Generator[tuple[int, bytes], None, None]:
        """Yield (offset, bytes) of a part; nothing for an empty one."""
        with self.part_path(part.sha256).open("rb") as file:
            offset = 0
            while data := file.read(CHUNK_BYTES):
                yield offset, data
                offset += len(data)
