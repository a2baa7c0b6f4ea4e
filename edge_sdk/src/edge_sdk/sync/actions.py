"""What goes into a `machine.SyncMachine` when a stream opens, and what it asks its shell to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sdk.engine.cap_rules import CapRow
from edge_sdk.sync.roles import Standing
from genome_edge.v1 import dna_pb2, release_pb2, stop_pb2, sync_pb2


@dataclass(frozen=True)
class Held:
    """What the device holds when a stream opens. Digests are SHA-256; 0 and empty mean none.

    `seen_digest` is that of the manifest with the highest version ever verified; `active` the
    manifest of the active release and `active_digest` its digest; its lineage decides which rows
    can be read. `failed` is the digest of a release that failed after the swap, and why. `partials`
    says how many bytes are here of contents that are not whole yet. `nonce` is 16 random bytes.
    """

    standing: Standing
    epoch: bytes
    sdk_version: str
    nonce: bytes = bytes(16)
    active: release_pb2.Manifest | None = None
    active_digest: bytes = b""
    highest_release: int = 0
    seen_digest: bytes | None = None
    failed: tuple[bytes, str] = (b"", "")
    parts: frozenset[bytes] = frozenset()
    partials: Mapping[bytes, int] = field(default_factory=dict)
    genome_cursor: bytes = b""
    genome_lineage: dna_pb2.Lineage | None = None
    wants_genomes: bool = True


@dataclass(frozen=True)
class Send:
    """Send this message."""

    message: sync_pb2.SyncRequest


@dataclass(frozen=True)
class PutTrust:
    """Keep what was verified, at once: what is None is not new."""

    root: release_pb2.TrustRoot | None
    timestamp: release_pb2.SignedTimestamp | None = field(repr=False)
    stop_list: stop_pb2.SignedStopList | None = field(repr=False)


@dataclass(frozen=True)
class RememberVersion:
    """Keep that this version was verified, and the digest of its manifest."""

    version: int
    digest: bytes


@dataclass(frozen=True)
class MakeRoom:
    """`size` bytes of `wanted` contents are to come; `settle` with a refusal where they cannot."""

    nonce: int
    wanted: tuple[bytes, ...]
    size: int


@dataclass(frozen=True)
class StagePart:
    """Write this verified part to the store; `settle` with a refusal where that fails."""

    nonce: int
    part: release_pb2.Part
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class AppendBytes:
    """Write these bytes of a content that is not whole yet (at 0 it begins anew); `settle` with a
    refusal where that fails."""

    nonce: int
    sha256: bytes
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class FinishPart:
    """All bytes of a part were appended: verify it and keep it; `settle` with a refusal where that
    fails."""

    nonce: int
    part: release_pb2.Part


@dataclass(frozen=True)
class InstallRelease:
    """All parts are in the store: load them, try the golden vectors, make it active; `settle`."""

    nonce: int
    signed: release_pb2.SignedManifest = field(repr=False)
    manifest: release_pb2.Manifest = field(repr=False)


@dataclass(frozen=True)
class AssetsArrived:
    """The assets that were to come are in the store: say so; `settle`."""

    nonce: int


@dataclass(frozen=True)
class ApplyGenomes:
    """Put these rows into the store at once; `settle`.

    `content` is the SHA-256 of what was appended in place of `blocks`; empty: nothing was.
    `lookups` are pairs of concatenated 16-byte hashes and subjects; `total_rows` is how many rows
    the device should hold afterwards and `row_sum` the sum of their row sums (None: not said).
    `counted` is what customers did elsewhere that counts for caps.
    """

    nonce: int
    full: bool
    lineage: dna_pb2.Lineage
    lookup_key: bytes = field(repr=False)
    content: bytes
    blocks: tuple[dna_pb2.GenomeBlock, ...] = field(repr=False)
    patches: tuple[sync_pb2.GenomePatch, ...] = field(repr=False)
    deletes: tuple[tuple[bytes, int], ...] = field(repr=False)
    lookups: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    cursor: bytes
    included: tuple[sync_pb2.LaneMark, ...]
    total_rows: int
    row_sum: int | None
    counted: tuple[CapRow, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class HeardTime:
    """The server was heard; `server_time_ms` (Unix milliseconds) is its time where that is to be
    believed, else 0; `idle`: nothing more comes for now."""

    server_time_ms: int
    idle: bool


@dataclass(frozen=True)
class HeardLog:
    """The server said which log takes this device's reports."""

    incarnation: bytes


@dataclass(frozen=True)
class Leave:
    """Close the stream and open a new one, after `retry_after_s` seconds at the earliest."""

    retry_after_s: float


#: What can fail in the shell.
Attempt = (
    MakeRoom | StagePart | AppendBytes | FinishPart | InstallRelease | AssetsArrived | ApplyGenomes
)
Action = Send | PutTrust | RememberVersion | HeardTime | HeardLog | Leave | Attempt
