"""The releases of a tenant as they are handed out: which one a device gets, and its parts."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from genome_edge.v1 import release_pb2
from genome_server.home import Tenant
from genome_server.releases.publish import manifest_of, part_content
from genome_server.store.protocol import DEFAULT_CHANNEL, ReleaseRow, Store

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

    @property
    def assets(self) -> list[release_pb2.Part]:
        """The files that offers refer to; the release is used without them."""
        return [part for part in self.manifest.parts if part.asset]

    @property
    def needed(self) -> list[release_pb2.Part]:
        """The parts without which the release is not used."""
        return [part for part in self.manifest.parts if not part.asset]


class Shelf:
    """Finds releases and reads parts. Thread-safe; blocks."""

    def __init__(self, tenant: Tenant, store: Store) -> None:
        self._tenant = tenant
        self._store = store
        self._lock = threading.Lock()
        # Releases are immutable, and devices hold few different ones.
        self._read: dict[int, Shelved] = {}

    def newest(self) -> Shelved | None:
        """Return the newest release that everybody of the channel "stable" gets, or None."""
        for row in self._store.releases_in_force():
            if row.channel == DEFAULT_CHANNEL and row.share >= 1:
                return self._shelved(row)
        return None

    def release_for(self, device_id: str, channel: str | None = None) -> Shelved | None:
        """Return what a device is to have, or None; `channel` None: the device's own."""
        if channel is None:
            device = self._store.device(device_id)
            channel = device.channel if device is not None else DEFAULT_CHANNEL
        return self._shelved(self._store.release_for(device_id, channel))

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
                self._read[row.version] = Shelved(row.version, signed, manifest_of(row))
            return self._read[row.version]

    def part_path(self, sha256: bytes) -> Path:
        """Return where a part is."""
        return self._tenant.parts_dir / sha256.hex()

    def whole(self, shelved: Shelved) -> bool:
        """Say whether every part of a release but its assets is there with its size."""
        return all(self.there(part) for part in shelved.needed)

    def there(self, part: release_pb2.Part) -> bool:
        """Say whether a part is there with its size."""
        path = self.part_path(part.sha256)
        if path.is_file() and path.stat().st_size == part.size:
            return True
        log.error("part %s is not whole at %s", part.name, path)
        return False

    def parts(self, shelved: Shelved) -> dict[str, bytes]:
        """Read the parts of a release but its assets, by name.

        Raises Refused where one is gone or altered.
        """
        return {part.name: part_content(self._tenant, part) for part in shelved.needed}
