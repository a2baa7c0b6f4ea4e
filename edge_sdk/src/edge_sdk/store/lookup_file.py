"""Which subject an app's own customer id stands for: keyed hashes in one memory-mapped file.

    magic 8 | count n u64 | crc of the rest u32 | padding to 32 |
    first halves of the hashes u64[n], ascending | second halves u64[n] | subjects 16 bytes × n

The hash is the first 16 bytes of HMAC-SHA-256 of the id under the audience's key: whoever reads
the file learns no id, and cannot try ids without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_sdk.errors import StoreCorrupt
from edge_sdk.store.files import crc_of, write_file

if TYPE_CHECKING:
    from edge_sdk.dna.columns import Array

_MAGIC: Final = b"GELOOK1\n"
_HEAD: Final = struct.Struct("<8sQI12x")
_HASH_BYTES: Final = 16
_PAIR_BYTES: Final = 32
_HALF: Final = "<u8"


def lookup_hash(key: bytes, customer: str) -> bytes:
    """The 16 bytes under which a customer's id is looked up."""
    return hmac.new(key, customer.encode(), hashlib.sha256).digest()[:_HASH_BYTES]


def write_lookup_columns(path: Path, blocks: Iterable[tuple[Array, Array, Array, Array]]) -> int:
    """Write blocks of (hash_high, hash_low, owner_high, owner_low), ascending by hash.

    Returns how many pairs. Raises what `blocks` raises, and OSError.
    """
    columns = [np.concatenate([np.zeros(0, _HALF), *parts]) for parts in zip(*blocks, strict=True)]
    columns = columns or [np.zeros(0, _HALF)] * 4
    owners = np.stack(columns[2:], axis=1).astype(">u8").tobytes()
    body = columns[0].astype(_HALF).tobytes() + columns[1].astype(_HALF).tobytes() + owners
    write_file(path, _HEAD.pack(_MAGIC, len(columns[0]), zlib.crc32(body)) + body)
    return len(columns[0])


class LookupFile:
    """An open lookup file. Safe to read from any number of threads; there is nothing to close."""

    def __init__(self, data: mmap.mmap, count: int) -> None:
        self._high = np.frombuffer(data, _HALF, count, _HEAD.size)
        self._low = np.frombuffer(data, _HALF, count, _HEAD.size + 8 * count)
        self._subjects = memoryview(data)[_HEAD.size + 16 * count :]

    @classmethod
    def open(cls, path: Path) -> LookupFile:
        """Map a file. Raises StoreCorrupt where it is not what was written."""
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                data.madvise(mmap.MADV_RANDOM)
                if len(data) < _HEAD.size:
                    raise StoreCorrupt(f"{path}: cut after {len(data)} bytes")
                magic, count, crc = _HEAD.unpack_from(data)
                if magic != _MAGIC or len(data) != _HEAD.size + count * _PAIR_BYTES:
                    raise StoreCorrupt(f"{path}: not a lookup file, or cut")
                if crc_of(file, _HEAD.size, len(data) - _HEAD.size) != crc:
                    raise StoreCorrupt(f"{path}: damaged")
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise StoreCorrupt(f"{path}: cannot be read: {error}") from error
        return cls(data, count)

    def columns(self) -> tuple[Array, Array, Array, Array]:
        """Hashes and their subjects, as `write_lookup_columns` takes them."""
        owners = np.frombuffer(self._subjects, ">u8").reshape(-1, 2)
        return self._high, self._low, owners[:, 0].astype(_HALF), owners[:, 1].astype(_HALF)

    def subject(self, hash_: bytes) -> bytes | None:
        """The subject of a hash (16 bytes), or None."""
        high = int.from_bytes(hash_[:8], "big")
        low = int.from_bytes(hash_[8:], "big")
        at = int(np.searchsorted(self._high, np.uint64(high)))
        while at < len(self) and int(self._high[at]) == high:
            if int(self._low[at]) == low:
                return self._subject(at)
            at += 1
        return None

    def _subject(self, at: int) -> bytes:
        return bytes(self._subjects[16 * at : 16 * at + 16])

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for at in range(len(self)):
            high, low = int(self._high[at]), int(self._low[at])
            yield high.to_bytes(8, "big") + low.to_bytes(8, "big"), self._subject(at)

    def __len__(self) -> int:
        return len(self._high)
