"""What goes into a `sync.SyncMachine` when a stream opens, and what it asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from genome_edge.v1 import dna_pb2, release_pb2, sync_pb2


@dataclass(frozen=True)
class Held:
    """What the device holds when a stream opens. Digests are SHA-256; 0 and empty mean none.

    `seen_digest` is that of the manifest with the highest version ever verified; `active_digest`
    that of the active release, whose `release_lineage` decides which rows can be read.
    """

    root: release_pb2.TrustRoot
    epoch: bytes
    sdk_version: str
    active_release: int = 0
    active_digest: bytes = b""
    release_lineage: dna_pb2.Lineage | None = None
    highest_release: int = 0
    seen_digest: bytes | None = None
    parts: frozenset[bytes] = frozenset()
    genome_cursor: bytes = b""
    genome_lineage: dna_pb2.Lineage | None = None
    wants_genomes: bool = True


@dataclass(frozen=True)
class Send:
    """Send this message."""

    message: sync_pb2.SyncRequest


@dataclass(frozen=True)
class RememberVersion:
    """Keep that this version was verified, and the digest of its manifest."""

    version: int
    digest: bytes


@dataclass(frozen=True)
class StagePart:
    """Write this verified part to the store; `settle` with a refusal where that fails."""

    nonce: int
    part: release_pb2.Part
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class InstallRelease:
    """All parts are in the store: load them, try the golden vectors, make it active; `settle`."""

    nonce: int
    signed: release_pb2.SignedManifest = field(repr=False)
    manifest: release_pb2.Manifest = field(repr=False)


@dataclass(frozen=True)
class ApplyGenomes:
    """Put these rows into the store at once; `settle`.

    `lookups` are pairs of concatenated 16-byte hashes and subjects; `total_rows` is how many rows
    the device should hold afterwards.
    """

    nonce: int
    full: bool
    lineage: dna_pb2.Lineage
    lookup_key: bytes = field(repr=False)
    blocks: tuple[dna_pb2.GenomeBlock, ...] = field(repr=False)
    deletes: tuple[tuple[bytes, int], ...] = field(repr=False)
    lookups: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    cursor: bytes
    included: tuple[sync_pb2.LaneMark, ...]
    total_rows: int


@dataclass(frozen=True)
class HeardTime:
    """The server said what time it is (Unix milliseconds); `idle`: nothing more comes for now."""

    server_time_ms: int
    idle: bool


@dataclass(frozen=True)
class Leave:
    """Close the stream and open a new one, after `retry_after_s` seconds at the earliest."""

    retry_after_s: float


Action = Send | RememberVersion | StagePart | InstallRelease | ApplyGenomes | HeardTime | Leave
