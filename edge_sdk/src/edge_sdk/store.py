"""The device's store: one directory, several processes, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genome_edge.v1 import dna_pb2, sync_pb2


@dataclass(frozen=True)
class Identity:
    """Who this device is, as enrolment said. Kept in files that only their owner can read.

    `credential` is a serialised SignedCredential, `root` a serialised TrustRoot. The private key
    is beside it at `DeviceStore.key_path` and made by `edge_sdk.keys`.
    """

    server: str
    tenant: str
    device_id: str
    audience: str
    credential: bytes = field(repr=False)
    root: bytes = field(repr=False)


@dataclass(frozen=True)
class StoredRelease:
    """A release in the store: its number and its serialised SignedManifest."""

    version: int
    signed_manifest: bytes = field(repr=False)


@dataclass(frozen=True)
class DeviceFacts:
    """What a heartbeat says about this device. `reasons` counts decisions since the last take."""

    tier: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)


class DeviceStore:
    """One device's directory. Thread-safe. Not to be used across a fork: open it again."""

    path: Path
    #: Set by the client; called once per heartbeat; never blocks.
    facts: Callable[[], DeviceFacts]

    @classmethod
    def open(cls, path: Path | str) -> DeviceStore:
        """Open the store at `path`, made where it is missing, rebuilt where it is corrupt.

        Raises StoreError where the directory cannot be used at all.
        """
        raise NotImplementedError

    # Identity -----------------------------------------------------------------------------------

    @property
    def key_path(self) -> Path:
        """Where the device's private key is (PEM, 0600); the directory exists, 0700."""
        raise NotImplementedError

    def identity(self) -> Identity | None:
        """Who this device is; None before enrolment."""
        raise NotImplementedError

    def set_identity(self, identity: Identity) -> None:
        """Keep what enrolment gave, or a rotated root (dataclasses.replace)."""
        raise NotImplementedError

    def epoch(self) -> bytes:
        """The 16 random bytes made with the store; changed only by `Outbox.new_epoch`."""
        raise NotImplementedError

    # Releases -----------------------------------------------------------------------------------

    def held_parts(self) -> list[bytes]:
        """SHA-256 of every part in the store."""
        raise NotImplementedError

    def has_part(self, sha256: bytes) -> bool:
        """Whether the part is in the store."""
        raise NotImplementedError

    def stage_part(self, sha256: bytes, data: bytes) -> None:
        """Write a part (atomic; fsynced); ValueError where the digest does not match."""
        raise NotImplementedError

    def read_part(self, sha256: bytes) -> bytes:
        """A part's bytes, digest checked; KeyError where missing, StoreCorrupt where damaged.

        A damaged part is moved aside first, so that `held_parts` no longer names it.
        """
        raise NotImplementedError

    def active_release(self) -> StoredRelease | None:
        """The release that devices decide from."""
        raise NotImplementedError

    def previous_release(self) -> StoredRelease | None:
        """The one before, kept for the day when the active one turns out to be damaged."""
        raise NotImplementedError

    def commit_release(self, signed_manifest: bytes, version: int) -> bool:
        """Make an already verified release, all of whose parts are staged, the active one.

        Raises `highest_seen`, keeps the previous release and drops older parts. Where the store
        holds genome rows of another lineage the release waits for the rows that go with it: False
        then, and `commit_genomes` with that lineage activates it (as does committing the same
        version once more).
        """
        raise NotImplementedError

    def highest_seen(self) -> int:
        """The highest release version ever offered and verified; never falls."""
        raise NotImplementedError

    def raise_highest_seen(self, version: int) -> None:
        """Remember a verified version, whether it was activated or not."""
        raise NotImplementedError

    # Genomes ------------------------------------------------------------------------------------

    def genome_cursor(self) -> bytes:
        """The cursor of the last genome commit; empty: none."""
        raise NotImplementedError

    def genome_lineage(self) -> dna_pb2.Lineage | None:
        """The lineage of the rows held; None: none held."""
        raise NotImplementedError

    def genome_count(self) -> int:
        """How many rows are held."""
        raise NotImplementedError

    def commit_genomes(
        self,
        *,
        full: bool,
        lineage: dna_pb2.Lineage,
        blocks: Iterable[dna_pb2.GenomeBlock],
        deletes: Iterable[tuple[bytes, int]] = (),
        lookup_key: bytes = b"",
        lookups: Iterable[tuple[bytes, bytes]] = (),
        cursor: bytes,
        included: Iterable[sync_pb2.LaneMark] = (),
    ) -> int:
        """Apply one set of rows at once and return how many rows are held afterwards.

        `full` replaces all rows and lookups, otherwise they are patched. `deletes` are
        (subject, Delete.Reason); `lookups` pairs of concatenated 16-byte hashes and subjects, as
        in Put. Pending imprints and consents that `included` covers are dropped in the same
        transaction. ValueError where a patch is of another lineage than the rows held.
        """
        raise NotImplementedError

    # Time and contact ---------------------------------------------------------------------------

    def server_offset_ms(self) -> int | None:
        """Server minus device wall clock as last heard; None: never heard."""
        raise NotImplementedError

    def heard_server(self, server_time_ms: int) -> None:
        """Remember the offset and the moment of the last contact."""
        raise NotImplementedError
