"""What a device does with what the server sends. No input or output happens here.

Rules
-----
1. The first message of a stream is Hello. After it a device only answers and says how it is.
2. A transaction is one Begin, its Puts, Deletes and Chunks, and one Commit. Nothing of it counts
   before Commit, but for parts: a part that is complete and has its digest is kept at once, so
   that a cut download goes on with the next part instead of from the start.
3. A release's manifest is verified before the first byte of a part is taken. A chunk must belong
   to a part that the manifest names, go on exactly where the last one ended, and stay within the
   part's declared size. Chunks of a part that is here already are dropped.
4. Every transaction gets one answer: an Ack after what it brought is in the store, or one Nack
   with a `trust.Refusal`, given as soon as the refusal is certain. What still comes of a refused
   transaction is dropped. The last good release and the rows stay as they were.
5. Rows can be read only with the release of their lineage, so rows of another one are refused.
   A patch needs rows of the same lineage under it.
6. The server's time is taken whenever it says it. A stream on which nothing was heard for long is
   dead, whatever the socket says. Goodbye means: come back after this long, not sooner.
7. A server may greet with a heartbeat. A later one outside a transaction says that there is
   nothing more to send for now: whoever syncs only once has then seen everything.

Theory of operation
-------------------
`SyncMachine` takes messages and gives actions; the shell (`updater`) carries them out in order.
Three actions can fail there: StagePart, InstallRelease and ApplyGenomes. For these the shell
calls `settle` with what happened, and gets the Ack or Nack to send. There is one machine for each
stream; what survives a stream is in the store and comes back in through `Held`.

    Begin(release) ── verified ──> chunks ──> StagePart ... Commit ──> InstallRelease ──> settle
    Begin(genomes) ── lineage ───> puts, deletes ......... Commit ──> ApplyGenomes ────> settle
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_sdk.errors import TrustError
from edge_sdk.sync import roles, trust
from edge_sdk.sync.actions import (
    Action,
    ApplyGenomes,
    HeardTime,
    Held,
    InstallRelease,
    Leave,
    RememberVersion,
    Send,
    StagePart,
)
from edge_sdk.sync.trust import Limits, Refusal
from genome_edge.v1 import dna_pb2, release_pb2, sync_pb2

SUBJECT_BYTES = 16
LOOKUP_KEY_BYTES = 32

# After these a new Hello, which says anew what is held, may get further; so the device leaves the
# stream and comes back. After the others only something newly published can help.
_HEALED_BY_HELLO = frozenset(
    {
        Refusal.PARTS,
        Refusal.DIGEST,
        Refusal.ROWS,
        Refusal.PROTOCOL,
        Refusal.DISK_FULL,
        Refusal.STORE,
    }
)


@dataclass
class _Release:
    nonce: int
    signed: release_pb2.SignedManifest
    manifest: release_pb2.Manifest
    wanted: dict[bytes, release_pb2.Part]
    received: dict[bytes, bytearray] = field(default_factory=dict)
    committed: bool = False


@dataclass
class _Genomes:
    nonce: int
    begin: sync_pb2.Begin
    blocks: list[dna_pb2.GenomeBlock] = field(default_factory=list)
    deletes: list[tuple[bytes, int]] = field(default_factory=list)
    lookups: list[tuple[bytes, bytes]] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    committed: bool = False


# What can be in trouble, the worst first.
_TROUBLES = ("release", "genomes", "stream")
_BEGUN = {sync_pb2.Begin.KIND_RELEASE: "release", sync_pb2.Begin.KIND_GENOMES: "genomes"}


class SyncMachine:
    """One stream's worth of sync: messages in, actions out. Not thread-safe."""

    def __init__(self, held: Held, limits: Limits | None = None) -> None:
        self._held = held
        self._limits = limits or Limits()
        self._parts = set(held.parts)
        self._highest = held.highest_release
        self._seen_digest = held.seen_digest
        self._active = (held.active_release, held.active_digest)
        self._release_lineage = held.release_lineage
        self._rows_lineage = held.genome_lineage if self._cursor() else None
        self._open: _Release | _Genomes | None = None
        self._refused: int | None = None
        self._greeted = False
        self._troubles: dict[str, str] = {}

    @property
    def last_nack(self) -> str:
        """Reason and detail of what was refused on this stream and not made good since."""
        return next((self._troubles[of] for of in _TROUBLES if of in self._troubles), "")

    @property
    def at_rest(self) -> bool:
        """Whether the server has spoken and no transaction is open."""
        return self._greeted and self._open is None

    def hello(self) -> sync_pb2.SyncRequest:
        """The first message of the stream."""
        held = self._held
        return sync_pb2.SyncRequest(
            hello=sync_pb2.Hello(
                sdk_version=held.sdk_version,
                features=trust.FEATURES,
                active_release=held.active_release,
                highest_release=held.highest_release,
                held_parts=sorted(held.parts),
                genome_cursor=self._cursor(),
                lineage=held.genome_lineage,
                epoch=held.epoch,
                wants_genomes=held.wants_genomes,
            )
        )

    def receive(self, message: sync_pb2.SyncResponse, now_ms: int) -> list[Action]:
        """What to do about a message; `now_ms` is the server's time as far as it is known."""
        kind = message.WhichOneof("message")
        if kind == "heartbeat":
            idle = self._greeted and self._open is None
            self._greeted = True
            return [HeardTime(message.heartbeat.server_time_ms, idle)]
        self._greeted = True
        if kind == "goodbye":
            return [Leave(message.goodbye.retry_after_ms / 1000)]
        if kind is None:
            return []  # said by a newer server to newer devices
        nonce: int = getattr(message, kind).nonce
        if nonce == self._refused and kind != "begin":
            return []
        try:
            return self._step(kind, message, now_ms)
        except TrustError as error:
            return self._nack(nonce, error.reason, str(error), _BEGUN.get(message.begin.kind))

    def _step(self, kind: str, message: sync_pb2.SyncResponse, now_ms: int) -> list[Action]:
        if kind == "begin":
            if self._open is not None:
                raise _refuse(Refusal.PROTOCOL, "a Begin before the answer to the last one")
            if message.begin.kind == sync_pb2.Begin.KIND_RELEASE:
                return self._begin_release(message.begin, now_ms)
            if message.begin.kind == sync_pb2.Begin.KIND_GENOMES:
                return self._begin_genomes(message.begin)
            raise _refuse(Refusal.PROTOCOL, f"a transaction of kind {message.begin.kind}")
        transaction = self._open
        if transaction is None or transaction.nonce != getattr(message, kind).nonce:
            raise _refuse(Refusal.PROTOCOL, f"a {kind} outside its transaction")
        if transaction.committed:
            raise _refuse(Refusal.PROTOCOL, f"a {kind} after the Commit")
        if isinstance(transaction, _Release):
            if kind == "chunk":
                return self._chunk(transaction, message.chunk)
            if kind == "commit":
                return self._commit_release(transaction)
        else:
            if kind == "put":
                return self._put(transaction, message.put)
            if kind == "delete":
                return self._delete(transaction, message.delete)
            if kind == "commit":
                return self._commit_genomes(transaction, message.commit)
        raise _refuse(Refusal.PROTOCOL, f"a {kind} in a transaction of the other kind")

    def settle(self, nonce: int, refusal: str = "", detail: str = "") -> list[Action]:
        """Say how an action went; without `refusal` it went well. Returns the answer to send.

        A StagePart that went well needs no `settle`.
        """
        transaction = self._open
        if transaction is None or transaction.nonce != nonce:
            return []
        if refusal:
            return self._nack(nonce, refusal, detail)
        self._open = None
        if isinstance(transaction, _Release):
            manifest = transaction.manifest
            self._active = (manifest.version, trust.manifest_digest(transaction.signed))
            self._release_lineage = manifest.lineage
        else:
            self._rows_lineage = transaction.begin.lineage
        for of in (_kind_of(transaction), "stream"):
            self._troubles.pop(of, None)
        return [Send(sync_pb2.SyncRequest(ack=sync_pb2.Ack(nonce=nonce)))]

    def _begin_release(self, begin: sync_pb2.Begin, now_ms: int) -> list[Action]:
        held, signed = self._held, begin.manifest
        if begin.HasField("root"):
            roles.verify_root(held.root, begin.root)
        digest = trust.manifest_digest(signed)
        manifest = trust.verify_manifest(
            signed,
            held.root,
            now_ms,
            self._highest,
            self._limits,
            seen_digest=self._seen_digest,
            held=digest == self._active[1],
        )
        self._highest, self._seen_digest = manifest.version, digest
        wanted = {part.sha256: part for part in manifest.parts if part.sha256 not in self._parts}
        self._open = transaction = _Release(begin.nonce, signed, manifest, wanted)
        actions: list[Action] = [RememberVersion(manifest.version, digest)]
        for part in list(wanted.values()):
            if part.size == 0:  # no chunk can carry it
                actions += self._complete(transaction, part, b"")
        return actions

    def _chunk(self, transaction: _Release, chunk: sync_pb2.Chunk) -> list[Action]:
        part = transaction.wanted.get(chunk.sha256)
        if part is None and chunk.sha256 in self._parts:
            return []  # it is here already; the server did not know
        if part is None:
            raise _refuse(Refusal.PROTOCOL, "a chunk of a part that the manifest does not name")
        if len(chunk.data) > self._limits.chunk_bytes:
            raise _refuse(
                Refusal.TOO_LARGE,
                f"a chunk of {len(chunk.data)} bytes; at most {self._limits.chunk_bytes}",
            )
        content = transaction.received.setdefault(part.sha256, bytearray())
        if chunk.offset != len(content):
            raise _refuse(
                Refusal.PROTOCOL,
                f"part {part.name!r} goes on at byte {chunk.offset}; {len(content)} are here",
            )
        if len(content) + len(chunk.data) > part.size:
            raise _refuse(
                Refusal.TOO_LARGE, f"part {part.name!r} is longer than its {part.size} bytes"
            )
        content += chunk.data
        if len(content) < part.size:
            return []
        del transaction.received[part.sha256]
        return self._complete(transaction, part, bytes(content))

    def _complete(
        self, transaction: _Release, part: release_pb2.Part, content: bytes
    ) -> list[Action]:
        trust.verify_part(part, content)
        del transaction.wanted[part.sha256]
        self._parts.add(part.sha256)
        return [StagePart(transaction.nonce, part, content)]

    def _commit_release(self, transaction: _Release) -> list[Action]:
        if transaction.wanted:
            names = ", ".join(sorted(part.name for part in transaction.wanted.values()))
            raise _refuse(Refusal.PARTS, f"committed before these parts were here: {names}")
        transaction.committed = True
        return [InstallRelease(transaction.nonce, transaction.signed, transaction.manifest)]

    def _begin_genomes(self, begin: sync_pb2.Begin) -> list[Action]:
        if not self._held.wants_genomes:
            raise _refuse(Refusal.PROTOCOL, "this device holds no genomes")
        if not trust.same_lineage(begin.lineage, self._release_lineage):
            raise _refuse(Refusal.LINEAGE, "the rows are of another lineage than the release")
        if not begin.full and not trust.same_lineage(begin.lineage, self._rows_lineage):
            raise _refuse(Refusal.LINEAGE, "a patch without rows of its lineage under it")
        if begin.rows > self._limits.genome_rows:
            raise _refuse(
                Refusal.TOO_LARGE, f"{begin.rows} rows; at most {self._limits.genome_rows}"
            )
        if len(begin.lookup_key) not in (0, LOOKUP_KEY_BYTES):
            raise _refuse(Refusal.ROWS, f"a lookup key of {len(begin.lookup_key)} bytes")
        self._open = _Genomes(begin.nonce, begin)
        return []

    def _put(self, transaction: _Genomes, put: sync_pb2.Put) -> list[Action]:
        block = put.block
        if block.counts:
            _check_block(block, transaction.begin.lineage)
            transaction.blocks.append(block)
            transaction.rows += len(block.counts)
        hashes, subjects = put.lookup_hashes, put.lookup_subjects
        if len(hashes) != len(subjects) or len(hashes) % SUBJECT_BYTES:
            raise _refuse(Refusal.ROWS, "lookup hashes and subjects that do not fit together")
        if hashes:
            if not transaction.begin.lookup_key:
                raise _refuse(Refusal.ROWS, "lookup hashes without a lookup key")
            transaction.lookups.append((hashes, subjects))
        transaction.size += put.ByteSize()
        if transaction.rows > transaction.begin.rows:
            raise _refuse(Refusal.ROWS, f"more than the {transaction.begin.rows} rows announced")
        if transaction.size > self._limits.genome_bytes:
            raise _refuse(Refusal.TOO_LARGE, f"more than {self._limits.genome_bytes} bytes of rows")
        return []

    def _delete(self, transaction: _Genomes, delete: sync_pb2.Delete) -> list[Action]:
        if len(delete.subject) != SUBJECT_BYTES:
            raise _refuse(Refusal.ROWS, f"a subject of {len(delete.subject)} bytes")
        if len(transaction.deletes) >= self._limits.genome_rows:
            raise _refuse(Refusal.TOO_LARGE, f"more than {self._limits.genome_rows} deletes")
        transaction.deletes.append((delete.subject, delete.reason))
        return []

    def _commit_genomes(self, transaction: _Genomes, commit: sync_pb2.Commit) -> list[Action]:
        begin = transaction.begin
        if transaction.rows != begin.rows:
            raise _refuse(Refusal.ROWS, f"{transaction.rows} rows came, {begin.rows} announced")
        transaction.committed = True
        return [
            ApplyGenomes(
                nonce=transaction.nonce,
                full=begin.full,
                lineage=begin.lineage,
                lookup_key=begin.lookup_key,
                blocks=tuple(transaction.blocks),
                deletes=tuple(transaction.deletes),
                lookups=tuple(transaction.lookups),
                cursor=commit.genome_cursor,
                included=tuple(commit.included),
                total_rows=commit.total_rows,
            )
        ]

    def _nack(self, nonce: int, reason: str, detail: str, of: str | None = None) -> list[Action]:
        if self._open is not None and self._open.nonce == nonce:
            of = _kind_of(self._open)
            self._open = None
        self._refused = nonce
        self._troubles[of or "stream"] = f"{reason}: {detail}"
        nack = sync_pb2.Nack(nonce=nonce, reason=reason, detail=detail)
        actions: list[Action] = [Send(sync_pb2.SyncRequest(nack=nack))]
        if reason in _HEALED_BY_HELLO:
            actions.append(Leave(0.0))
        return actions

    def _cursor(self) -> bytes:
        """The cursor to go on from; none where the rows held cannot be read with the release."""
        held = self._held
        if not held.wants_genomes or held.genome_lineage is None:
            return b""
        if not trust.same_lineage(held.genome_lineage, held.release_lineage):
            return b""
        return held.genome_cursor


def _kind_of(transaction: _Release | _Genomes) -> str:
    return "release" if isinstance(transaction, _Release) else "genomes"


def _refuse(reason: Refusal, detail: str) -> TrustError:
    return TrustError(detail, reason)


def _check_block(block: dna_pb2.GenomeBlock, lineage: dna_pb2.Lineage) -> None:
    rows, markers = len(block.counts), sum(block.counts)
    if block.HasField("lineage") and not trust.same_lineage(block.lineage, lineage):
        raise _refuse(Refusal.LINEAGE, "a block of another lineage than its transaction")
    if len(block.subjects) != rows * SUBJECT_BYTES or not (
        len(block.consents) == len(block.as_of_hours) == rows
    ):
        raise _refuse(Refusal.ROWS, "a block whose columns do not fit its rows")
    if not len(block.index_deltas) == len(block.strengths) == markers:
        raise _refuse(Refusal.ROWS, "a block whose columns do not fit its markers")
