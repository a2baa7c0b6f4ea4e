"""The first bytes of contents of which the line broke in the middle, so that they go on there.

    partial/<sha256>    grows at its end; whole when the digest of it is its name

Nothing in them counts before they are whole. What a power cut has torn has another digest then and
is fetched from the start.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from edge_sdk.errors import DiskFull
from edge_sdk.store.files import is_digest, move_aside, remove

_SYNC_BYTES: Final = 4 << 20
#: Left free on the disk for what the device itself has to write.
_SPARE_BYTES: Final = 32 << 20
# Only one content of each kind is on its way at a time: a part, an asset, rows.
_OTHERS: Final = 2


def _is_usable(entry: Path) -> bool:
    plain = entry.is_file() and not entry.is_symlink()
    return plain and os.access(entry, os.R_OK | os.W_OK)


class Partials:
    """Contents that are not whole yet, by their SHA-256. For the syncing process only."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "partial"
        self._unsynced: dict[bytes, int] = {}

    def held(self) -> dict[bytes, int]:
        """How many bytes are here of each; what cannot be appended to is put out of the way."""
        entries = [entry for entry in self._directory.iterdir() if is_digest(entry.name)]
        usable = [entry for entry in entries if _is_usable(entry)]
        in_the_way = [entry for entry in entries if entry not in usable]
        if in_the_way:
            move_aside(self._directory.parent, in_the_way)
        return {bytes.fromhex(entry.name): entry.stat().st_size for entry in usable}

    def append(self, sha256: bytes, offset: int, data: bytes) -> None:
        """Go on with one at byte `offset`; at 0 it begins anew.

        ValueError where `offset` is not its end. Raises OSError.
        """
        with self._path(sha256).open("ab" if offset else "wb") as file:
            if file.tell() != offset:
                raise ValueError(f"{file.tell()} bytes are here; {offset} were said")
            file.write(data)
            unsynced = self._unsynced.get(sha256, 0) + len(data)
            if unsynced >= _SYNC_BYTES:
                file.flush()
                os.fsync(file.fileno())
                unsynced = 0
            self._unsynced[sha256] = unsynced

    def finish(self, sha256: bytes) -> Path:
        """Where the whole content is, safely on disk. ValueError where its digest is another one:
        it is deleted then. Raises OSError."""
        path = self._path(sha256)
        self._unsynced.pop(sha256, None)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
            os.fsync(file.fileno())
        if found != sha256:
            self.drop(sha256)
            raise ValueError(f"what came has not the SHA-256 {sha256.hex()}")
        return path

    def drop(self, sha256: bytes) -> None:
        """Delete one."""
        self._unsynced.pop(sha256, None)
        self._path(sha256).unlink(missing_ok=True)

    def make_room(self, wanted: Collection[bytes], size: int) -> None:
        """Delete all but these and the newest of the others; DiskFull where the disk could not take
        `size` bytes more."""
        names = {sha256.hex() for sha256 in wanted}
        others = [entry for entry in self._directory.iterdir() if entry.name not in names]
        remove(sorted(others, key=lambda entry: entry.stat().st_mtime)[:-_OTHERS])
        import shutil  # only where something large comes

        space = shutil.disk_usage(self._directory)
        needed = size + _SPARE_BYTES
        if needed <= space.free:
            return
        # Without a figure that moves: what is said again and again is said once in the log.
        disk = f"the disk of {self._directory.parent}"
        if needed > space.total:
            what = f"would not be free if {disk} were empty: give the store (GENOME_EDGE_STORE) a"
            what += " larger one, or publish smaller files"
        else:
            what = f"are not free: make room on {disk}, or move the store (GENOME_EDGE_STORE)"
        raise DiskFull(f"{-(-needed >> 20)} MiB are needed and {what}")

    def _path(self, sha256: bytes) -> Path:
        return self._directory / sha256.hex()
