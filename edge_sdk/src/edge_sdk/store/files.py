"""The immutable files of a store: complete or absent, named by their content or a number.

    identity/device.pem       the private key (0600; written by edge_sdk.sync.keys)
    identity/identity.json    what enrolment gave (0600)
    parts/<sha256>            parts of releases
    partial/<sha256>          what is not whole yet (store.partials)
    compiled/<key>            releases as they are in memory (store.compiled)
    manifests/<version>       signed manifests of the releases held; what the store is rebuilt from
    genomes/<n>.snap          genome rows
    genomes/<n>.lookup        customer-id hashes
    rejected/<n>              batches that the server refused for good
    locks/                    who holds what
    claims                    what processes tell each other of caps (store.reservations)
    routines                  what outlives a process of customers' routines (store.routine_file)
    edge.sqlite               everything else

What is damaged is moved to `<store>.corrupt-<n>/`, never deleted: a person may want to look.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO, Final

from edge_sdk import _posix
from edge_sdk.errors import StoreCorrupt

DIRECTORIES: Final = (
    "identity", "parts", "partial", "manifests", "genomes", "rejected", "locks",
)  # fmt: skip
DATABASE: Final = "edge.sqlite"
_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600
_READ_BYTES: Final = 1 << 20


def make_directories(root: Path) -> None:
    """Make the store's directories, readable by their owner only. Raises OSError."""
    root.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    for name in DIRECTORIES:
        (root / name).mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file (0600) so that it is whole or not there, and stays. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE_FILE)
    except OSError as error:  # named as asked for: what is tried again and again is said once
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _posix.sync_directory(path.parent)


def crc_of(file: BinaryIO, offset: int, size: int) -> int:
    """CRC-32 of a part of a file, read and not mapped: what is mapped and touched counts as memory
    of this process. Raises OSError where the file ends before."""
    file.seek(offset)
    crc = 0
    while size:
        data = file.read(min(size, _READ_BYTES))
        if not data:
            raise OSError("it ended while it was read")
        crc = zlib.crc32(data, crc)
        size -= len(data)
    return crc


class Parts:
    """Parts of releases by their SHA-256."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._directory = root / "parts"

    def path(self, sha256: bytes) -> Path:
        """Where the part is, or would be."""
        return self._directory / sha256.hex()

    def held(self) -> list[bytes]:
        """SHA-256 of every part that is here, ascending."""
        names = sorted(entry.name for entry in self._directory.iterdir())
        return [bytes.fromhex(name) for name in names if is_digest(name)]

    def stage(self, sha256: bytes, data: bytes) -> None:
        """Keep a part. Raises ValueError where `data` has another digest, and OSError."""
        if hashlib.sha256(data).digest() != sha256:
            raise ValueError(f"the part is not the one with SHA-256 {sha256.hex()}")
        if not self._intact(sha256, len(data)):
            write_file(self.path(sha256), data)

    def _intact(self, sha256: bytes, size: int) -> bool:
        try:
            return self.path(sha256).stat().st_size == size and bool(self.read(sha256))
        except (OSError, KeyError, StoreCorrupt):
            return False

    def read(self, sha256: bytes) -> bytes:
        """The part's bytes. Raises KeyError where there is none, StoreCorrupt where it is damaged.

        Damage seldom comes alone: every damaged part is moved aside first, so that the server can
        be asked for all of them at once.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise KeyError(sha256.hex()) from None
        if hashlib.sha256(data).digest() != sha256:
            aside = move_aside(self._root, self._damaged())
            raise StoreCorrupt(f"{path} was damaged; it is now in {aside}")
        return data

    def _damaged(self) -> list[Path]:
        damaged = []
        for sha256 in self.held():
            path = self.path(sha256)
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").digest() != sha256:
                    damaged.append(path)
        return damaged

    def take(self, sha256: bytes, path: Path) -> None:
        """Keep a file, which has this digest and is safely on disk, as a part. Raises OSError."""
        path.replace(self.path(sha256))
        _posix.sync_directory(self._directory)

    def has(self, sha256: bytes, size: int) -> bool:
        """Whether the part is here, as far as its size tells."""
        try:
            return self.path(sha256).stat().st_size == size
        except OSError:
            return False

    def keep_only(self, needed: Collection[bytes]) -> None:
        """Delete every other part. A draft that a dying process left is deleted too."""
        wanted = {sha256.hex() for sha256 in needed}
        remove(entry for entry in self._directory.iterdir() if entry.name not in wanted)


class Manifests:
    """Signed manifests of the releases held, a second time: SQLite's pointer is what counts."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "manifests"

    def write(self, version: int, signed_manifest: bytes) -> None:
        """Keep one. Raises OSError."""
        write_file(self._directory / str(version), signed_manifest)

    def newest_first(self) -> list[tuple[int, bytes]]:
        """(version, signed manifest), the highest version first."""
        names = [entry.name for entry in self._directory.iterdir() if entry.name.isdecimal()]
        return [
            (version, (self._directory / str(version)).read_bytes())
            for version in sorted(map(int, names), reverse=True)
        ]

    def keep_only(self, versions: Collection[int]) -> None:
        """Delete every other one."""
        wanted = {str(version) for version in versions}
        remove(entry for entry in self._directory.iterdir() if entry.name not in wanted)


def remove(paths: Iterable[Path]) -> None:
    """Delete files that are not needed any more; one that cannot be deleted does no harm."""
    for path in list(paths):
        with contextlib.suppress(OSError):
            path.unlink()


def move_aside(root: Path, paths: Iterable[Path]) -> Path:
    """Move damaged files of the store at `root` to a new `<root>.corrupt-<n>` and return that."""
    n = 1
    while True:
        aside = root.with_name(f"{root.name}.corrupt-{n}")
        try:
            aside.mkdir(mode=_PRIVATE_DIRECTORY)
            break
        except FileExistsError:
            n += 1
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside / path.name)
    return aside


def database_files(root: Path) -> list[Path]:
    """The SQLite file and what belongs to it."""
    return [root / (DATABASE + suffix) for suffix in ("", "-wal", "-shm")]


def is_digest(name: str) -> bool:
    """Whether a file is named by a SHA-256."""
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)
