"""What a device says to go on from: written by the server, opaque to the device.

It names everything that rows depend on (their basis), the newest change that the device has, the
marks that it was told, for a device that takes cap events the newest of those, and, for one that
gets no rows meanwhile, up to where it has heard whom to let go.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from genome_edge.v1 import dna_pb2
from genome_server.store.protocol import AudienceRow, Mark

_BASE: Final = struct.Struct("<B16sQ8s")
_NUMBER: Final = struct.Struct("<Q")
# By format: whether the stamp of cap events follows, and that of those who were let go.
_FORMATS: Final = {1: (False, False), 2: (True, False), 3: (False, True), 4: (True, True)}


class Cursor(NamedTuple):
    """Where a device stands: it has the rows of `basis` (16 bytes) as of `stamp`, with `marks` (8
    bytes of a digest); cap events up to `counted` (None: it takes none); and it has let go whoever
    went up to `told` (None: up to `stamp`)."""

    basis: bytes
    stamp: int
    marks: bytes
    counted: int | None = None
    told: int | None = None

    @property
    def heard(self) -> int:
        """The stamp up to which the device has heard whom to let go."""
        return self.stamp if self.told is None else self.told

    def pack(self) -> bytes:
        """As the device keeps it."""
        also = (self.counted is not None, self.told is not None)
        (written,) = (number for number, has in _FORMATS.items() if has == also)
        numbers = (number for number in (self.counted, self.told) if number is not None)
        head = _BASE.pack(written, self.basis, self.stamp, self.marks)
        return head + b"".join(map(_NUMBER.pack, numbers))


def read_cursor(packed: bytes, basis: bytes, newest: int) -> Cursor | None:
    """The cursor of a device, where the server can go on from it; else None.

    It cannot where rows depend on anything else than `basis`, or after a stamp that was never
    given: `newest` is the newest.
    """
    has = _FORMATS.get(packed[0]) if packed else None
    if has is None or len(packed) != _BASE.size + sum(has) * _NUMBER.size:
        return None
    _, of, stamp, marks = _BASE.unpack_from(packed)
    numbers = [number for (number,) in _NUMBER.iter_unpack(packed[_BASE.size :])]
    if of != basis or max(stamp, *numbers, 0) > newest:
        return None
    counted = numbers.pop(0) if has[0] else None
    return Cursor(of, stamp, marks, counted, numbers.pop() if has[1] else None)


def basis_of(incarnation: bytes, audience: AudienceRow, lineage: dna_pb2.Lineage) -> bytes:
    """All that rows depend on, as 16 bytes: log, audience, lookup and lineage."""
    lookup = audience.lookup_key + audience.source.encode() if audience.lookup else b""
    parts = (
        incarnation,
        audience.name.encode(),
        lookup,
        lineage.vocabulary_lineage,
        f"{lineage.schema_epoch} {lineage.landmark_hour} {lineage.quantiser}".encode(),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.digest()[:16]


def marks_digest(marks: Iterable[Mark]) -> bytes:
    """8 bytes that marks are known by."""
    digest = hashlib.sha256()
    for epoch, lane, sequence in marks:
        digest.update(epoch + lane.to_bytes(4, "little") + sequence.to_bytes(8, "little"))
    return digest.digest()[:8]
