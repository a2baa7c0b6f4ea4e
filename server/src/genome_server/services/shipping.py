"""What many devices are sent, as bytes that are written once: trust, releases, parts, contents."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.services.framing import Piece, piece
from genome_server.services.room import Room
from genome_server.services.shelf import CHUNK_BYTES, Shelved

#: Pieces of files that are kept for the next device, in bytes.
KEPT_BYTES: Final = 32 << 20
_KEPT_RELEASES: Final = 8
_KEPT_SETS: Final = 1_000
_SHARED_BYTES: Final = 16_384
#: How long a look at the files of a release is good.
_WHOLE_S: Final = 5.0

_Word = TypeVar("_Word", str, bytes)


@dataclass(frozen=True)
class Shipment:
    """A release, and how its transaction begins."""

    shelved: Shelved
    begin: bytes
    #: A part is missing on the server.
    broken: bool


class Shipping:
    """The bytes of one room. Lives on the event loop."""

    def __init__(self, room: Room, blocking: Callable[..., Awaitable[Any]]) -> None:
        self._room = room
        self._blocking = blocking
        self._releases: dict[int, tuple[float, Shipment]] = {}
        self._trust: tuple[tuple[int, int, int], dict[int, bytes]] = ((0, 0, 0), {})
        self._pieces: OrderedDict[tuple[bytes, int], tuple[int, Piece]] = OrderedDict()
        self._kept = 0
        self._sets: dict[frozenset[Any], frozenset[Any]] = {}

    def shared(self, words: Iterable[_Word]) -> frozenset[_Word]:
        """The set of these: one for all devices that say the same."""
        made = frozenset(words)
        if sum(map(len, made)) > _SHARED_BYTES:
            return made
        if len(self._sets) > _KEPT_SETS:
            self._sets.clear()
        kept: frozenset[_Word] = self._sets.setdefault(made, made)
        return kept

    async def trust(self, root_version: int) -> bytes:
        """What is in force, for devices that hold this root: a serialised SyncResponse."""
        versions = self._room.trust_versions
        # A device may name any; beyond the newest there is nothing to lead it to.
        root_version = min(root_version, versions[0])
        if self._trust[0] != versions:
            self._trust = (versions, {})
        known = self._trust[1]
        if root_version not in known:
            known[root_version] = await self._blocking(self._make_trust, root_version)
        return known[root_version]

    def _make_trust(self, root_version: int) -> bytes:
        desk = self._room.trust
        trust = sync_pb2.Trust(
            roots=desk.roots_after(root_version),
            timestamp=desk.timestamp(),
            stop_list=desk.stop_list(),
        )
        return sync_pb2.SyncResponse(trust=trust).SerializeToString()

    async def release(self, version: int) -> Shipment | None:
        """A release, or None where this server never published it."""
        until, shipment = self._releases.get(version, (0.0, None))
        if shipment is None or until < time.monotonic():
            shipment = await self._blocking(self._make_release, version)
            if shipment is None:
                return None
            self._releases[version] = (time.monotonic() + _WHOLE_S, shipment)
            while len(self._releases) > _KEPT_RELEASES:
                del self._releases[next(iter(self._releases))]
        return shipment

    def _make_release(self, version: int) -> Shipment | None:
        shelved = self._room.shelf.get(version)
        if shelved is None:
            return None
        begin = sync_pb2.Begin(
            kind=sync_pb2.Begin.KIND_RELEASE,
            manifest=shelved.signed,
            lineage=shelved.manifest.lineage,
        )
        return Shipment(shelved, begin.SerializeToString(), not self._room.shelf.whole(shelved))

    async def chunks(self, path: Path, part: release_pb2.Part, start: int) -> AsyncIterator[Piece]:
        """The chunks of a file that a device has the first bytes of."""
        while start < part.size:
            key = (part.sha256, start)
            kept = self._pieces.get(key)
            if kept is None:
                data = await self._blocking(_read, path, start)
                if not data:
                    return  # the file is cut: the device finds out, and says so
                chunk = sync_pb2.Chunk(sha256=part.sha256, offset=start, data=data)
                kept = (len(data), piece("chunk", chunk))
                self._keep(key, kept)
            else:
                self._pieces.move_to_end(key)
            yield kept[1]
            start += kept[0]

    def _keep(self, key: tuple[bytes, int], kept: tuple[int, Piece]) -> None:
        if key not in self._pieces:  # another device may have been faster
            self._pieces[key] = kept
            self._kept += kept[0]
        while self._kept > KEPT_BYTES:
            _, (size, _) = self._pieces.popitem(last=False)
            self._kept -= size


def _read(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(CHUNK_BYTES)
