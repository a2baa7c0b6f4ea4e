"""Transactions that bring parts: a release, and the assets of the one that is here.

Rules
-----
1. A release's manifest is verified before the first byte of a part is taken, and every part it
   declares must have room. A release that failed here after its swap is not taken again.
2. A chunk must belong to a part that the manifest names and that is lacking, go on exactly where
   the last one ended (that may have been on an earlier stream) or begin anew at 0, and stay within
   the declared size. Chunks of a part that is here already are dropped.
3. A part that is whole and has its digest is kept at once, whatever becomes of the rest.
4. A release is complete without its assets; they come in a transaction of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_sdk.sync import trust
from edge_sdk.sync.actions import (
    Action,
    AppendBytes,
    AssetsArrived,
    FinishPart,
    InstallRelease,
    MakeRoom,
    StagePart,
)
from edge_sdk.sync.trust import Limits, Refusal, refuse
from genome_edge.v1 import release_pb2, sync_pb2


@dataclass
class Here:
    """Contents that the device has: whole parts by SHA-256, and the first bytes of others. Shared
    by all transactions of a stream, which keep it current."""

    parts: set[bytes]
    partials: dict[bytes, int]
    limits: Limits
    #: Contents of which something came in this transaction: those begin anew no more.
    _moving: set[bytes] = field(default_factory=set)

    def lacking(self, parts: Iterable[release_pb2.Part]) -> dict[bytes, release_pb2.Part]:
        """Those of these parts that are not here."""
        return {part.sha256: part for part in parts if part.sha256 not in self.parts}

    def room(self, nonce: int, parts: Iterable[release_pb2.Part]) -> MakeRoom:
        """Ask for room for these, of which nothing has come in this transaction yet."""
        self._moving.clear()
        sizes = {p.sha256: p.size - min(p.size, self.partials.get(p.sha256, 0)) for p in parts}
        return MakeRoom(nonce, tuple(sizes), sum(sizes.values()))

    def append(self, part: release_pb2.Part, chunk: sync_pb2.Chunk) -> tuple[list[Action], bool]:
        """Take a chunk of a content (rule 2); whether all of its bytes are here now."""
        if len(chunk.data) > self.limits.chunk_bytes:
            raise refuse(
                Refusal.TOO_LARGE,
                f"a chunk of {len(chunk.data)} bytes; at most {self.limits.chunk_bytes}",
            )
        sha256, here = part.sha256, self.partials.get(part.sha256, 0)
        if chunk.offset == 0 and sha256 not in self._moving:
            here = 0
        if chunk.offset != here:
            raise refuse(
                Refusal.PROTOCOL,
                f"part {part.name!r} goes on at byte {chunk.offset}; {here} are here",
            )
        self.partials[sha256] = here = here + len(chunk.data)
        self._moving.add(sha256)
        if here > part.size:
            raise refuse(
                Refusal.TOO_LARGE, f"part {part.name!r} is longer than its {part.size} bytes"
            )
        return [AppendBytes(chunk.nonce, sha256, chunk.offset, chunk.data)], here == part.size

    def arrived(self, part: release_pb2.Part) -> None:
        """A part is whole and kept."""
        self.parts.add(part.sha256)
        self.forget(part.sha256)

    def forget(self, sha256: bytes) -> None:
        """What is here of a content is used up."""
        self.partials.pop(sha256, None)
        self._moving.discard(sha256)


class PartsTransaction:
    """One of KIND_RELEASE, or of KIND_ASSETS where `signed` is None."""

    def __init__(
        self,
        nonce: int,
        manifest: release_pb2.Manifest,
        signed: release_pb2.SignedManifest | None,
        here: Here,
    ) -> None:
        self.nonce = nonce
        self.manifest = manifest
        self.signed = signed
        self.committed = False
        self.name = "assets" if signed is None else "release"
        self._here = here
        self._wanted = here.lacking(p for p in manifest.parts if p.asset == (signed is None))

    def begin(self) -> list[Action]:
        """Ask for room, and take what no chunk can carry or an earlier stream brought whole."""
        actions: list[Action] = []
        if self._wanted:
            actions.append(self._here.room(self.nonce, self._wanted.values()))
        for part in list(self._wanted.values()):
            if part.size == 0:
                actions += self._complete(part, b"")
            elif self._here.partials.get(part.sha256) == part.size:
                actions += self._finish(part)
        return actions

    def take(self, kind: str, message: sync_pb2.SyncResponse) -> list[Action]:
        """What to do about a message of the transaction. Raises TrustError."""
        if kind == "chunk":
            return self._chunk(message.chunk)
        if kind != "commit":
            raise refuse(Refusal.PROTOCOL, f"a {kind} in a transaction of the other kind")
        self.committed = True
        if self.signed is None:
            return [AssetsArrived(self.nonce)]
        if self._wanted:
            names = ", ".join(sorted(part.name for part in self._wanted.values()))
            raise refuse(Refusal.PARTS, f"committed before these parts were here: {names}")
        return [InstallRelease(self.nonce, self.signed, self.manifest)]

    def _chunk(self, chunk: sync_pb2.Chunk) -> list[Action]:
        part = self._wanted.get(chunk.sha256)
        if part is None and chunk.sha256 in self._here.parts:
            return []  # it is here already; the server did not know
        if part is None:
            raise refuse(Refusal.PROTOCOL, "a chunk of a part that the manifest does not name")
        actions, whole = self._here.append(part, chunk)
        if not whole:
            return actions
        if chunk.offset == 0:
            return self._complete(part, chunk.data)
        return [*actions, *self._finish(part)]

    def _finish(self, part: release_pb2.Part) -> list[Action]:
        del self._wanted[part.sha256]
        self._here.arrived(part)
        return [FinishPart(self.nonce, part)]

    def _complete(self, part: release_pb2.Part, content: bytes) -> list[Action]:
        trust.verify_part(part, content)
        del self._wanted[part.sha256]
        self._here.arrived(part)
        return [StagePart(self.nonce, part, content)]
