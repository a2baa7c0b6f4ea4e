"""What a device believes about a release, and why. No input or output happens here.

Rules
-----
1. A device trusts one root: the keys that may sign releases, and how many of them must. It is
   pinned at enrolment or comes with a bundle, and nothing that arrives later changes it.
2. The signatures are over the manifest's bytes as they came, behind a prefix that says what kind
   of statement they are; nothing is parsed before enough of them hold. Two signatures by one key
   count once. Signatures by keys that are not in the root count for nothing and do no harm.
3. A manifest is for one tenant. Another tenant's, though well signed, is refused.
4. The highest version ever verified never falls. A lower one is refused; the same one is accepted
   only with the same bytes, so that a cut download can go on and a version cannot mean two things.
5. An expired release is not installed. One that is on the device already stays: expiry makes it
   stale, not void, and `is_expired` says so.
6. Every size is declared in the manifest and checked against `Limits` before a byte is fetched;
   what arrives must have exactly that size and that SHA-256 before anything parses it.
7. A release is used whole or not at all: the parts without which nothing can be decided must be
   there, no name may stand twice, and every feature that it needs must be one that this SDK has.
   Parts that this SDK does not know are counted and left alone; a release that cannot do without
   them says so in its features.

Theory of operation
-------------------
Everything is a function from what arrived (and what the device knows: root, time, highest version)
to a verified value or a `TrustError` whose `reason` is one of `Refusal`; that reason goes to the
server in a Nack. `sync` calls `verify_manifest` when a release is announced and `verify_part` when
a part is complete; the client calls both again on what it reads from the store or from a bundle,
because a disk is not to be believed more than a network.

The times are those of the server where the device has ever heard it (rule 5 needs no more: a clock
that is wrong keeps a device from a new release, and never makes it forget the one it has).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from edge_sdk.errors import TrustError
from genome_edge.v1 import dna_pb2, release_pb2

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MANIFEST_PREFIX = b"genome-edge/manifest/v1\n"
FORMAT = 1
REQUIRED_PARTS = ("schema", "vocabulary", "offers", "placements", "model")
KNOWN_PARTS = (*REQUIRED_PARTS, "products", "places", "golden")
# What this SDK can do beyond the first format; a release may require features by these names.
FEATURES: tuple[str, ...] = (
    "assets-1",
    "genome-content-1",
    "offer-model-1",
    "offline-age-1",
    "quantiser-1",
    "quantiser-2",
    "squarecb",
    "trust-roles-1",
)


class Refusal(StrEnum):
    """Why a device refuses what the server sent; the `reason` of a Nack."""

    ROOT = "ROOT"
    SIGNATURE = "SIGNATURE"
    TENANT = "TENANT"
    FORMAT = "FORMAT"
    OLDER = "OLDER"
    EXPIRED = "EXPIRED"
    FEATURES = "FEATURES"
    PARTS = "PARTS"
    TOO_LARGE = "TOO_LARGE"
    DIGEST = "DIGEST"
    MODEL = "MODEL"
    GOLDEN = "GOLDEN"
    LINEAGE = "LINEAGE"
    ROWS = "ROWS"
    PROTOCOL = "PROTOCOL"
    DISK_FULL = "DISK_FULL"
    STORE = "STORE"


@dataclass(frozen=True)
class Limits:
    """The most that a device takes. All sizes in bytes; `Limits()` is the documented default."""

    manifest_bytes: int = 1 << 20
    signatures: int = 16
    root_keys: int = 16
    parts: int = 32
    part_bytes: int = 256 << 20
    release_bytes: int = 512 << 20
    chunk_bytes: int = 4 << 20
    genome_rows: int = 20_000_000
    genome_bytes: int = 4 << 30
    lookup_entries: int = 20_000_000


def manifest_digest(signed: release_pb2.SignedManifest) -> bytes:
    """SHA-256 of the manifest's bytes: what "the same manifest" means."""
    return hashlib.sha256(signed.manifest).digest()


def key_id(public_key: bytes) -> str:
    """Name of a raw Ed25519 public key (32 bytes) in a signature: 16 hex characters."""
    return hashlib.sha256(public_key).digest()[:8].hex()


def is_expired(manifest: release_pb2.Manifest, now_ms: int) -> bool:
    """Whether the release is past its time at `now_ms` (server time, Unix milliseconds)."""
    return manifest.expires_ms <= now_ms


def check_root(root: release_pb2.TrustRoot, limits: Limits | None = None) -> None:
    """Refuse a root that could not verify anything, or could verify too much.

    Raises TrustError ROOT for no tenant, no keys, keys that are not 32 bytes or stand twice, and a
    threshold that is 0 or more than there are keys.
    """
    keys = root.release_keys
    if not root.tenant:
        raise _refuse(Refusal.ROOT, "the trust root names no tenant")
    if not keys or len(keys) > (limits or Limits()).root_keys:
        raise _refuse(Refusal.ROOT, f"the trust root holds {len(keys)} keys")
    if any(len(key) != 32 for key in keys) or len(set(keys)) != len(keys):
        raise _refuse(Refusal.ROOT, "the trust root holds a malformed or repeated key")
    if not 1 <= root.threshold <= len(keys):
        raise _refuse(
            Refusal.ROOT, f"the trust root asks for {root.threshold} signatures of {len(keys)} keys"
        )


def verify_root(
    pinned: release_pb2.TrustRoot, offered: release_pb2.TrustRoot
) -> release_pb2.TrustRoot:
    """The root to go on with when the server sends one along: always the pinned one.

    A root that says the same is fine. Any other is refused, whatever its version: a change would
    have to be signed by the keys of the pinned root, and the contract has no place for such a
    signature yet. Raises TrustError ROOT.
    """
    same = (
        offered.tenant == pinned.tenant
        and offered.version == pinned.version
        and offered.threshold == pinned.threshold
        and sorted(offered.release_keys) == sorted(pinned.release_keys)
    )
    if not same:
        raise _refuse(
            Refusal.ROOT,
            f"the server offers trust root {offered.version} of tenant {offered.tenant!r}; "
            f"this device is pinned to version {pinned.version} of {pinned.tenant!r}",
        )
    return pinned


def verify_manifest(
    signed: release_pb2.SignedManifest,
    root: release_pb2.TrustRoot,
    now_ms: int,
    highest_seen: int,
    limits: Limits | None = None,
    *,
    seen_digest: bytes | None = None,
    held: bool = False,
    features: Collection[str] = FEATURES,
) -> release_pb2.Manifest:
    """Check everything that can be known about a release before any part of it is fetched.

    `highest_seen` is the highest version that this device ever verified and `seen_digest` the
    `manifest_digest` of that one. `held` says that the release is on the device already (or came
    with the app): its age and its expiry are then the caller's to judge, with `is_expired`.

    Returns the parsed manifest. Raises TrustError with a `Refusal` as its reason.
    """
    limits = limits or Limits()
    check_root(root, limits)
    if len(signed.manifest) > limits.manifest_bytes:
        raise _refuse(
            Refusal.TOO_LARGE,
            f"the manifest has {len(signed.manifest)} bytes; at most {limits.manifest_bytes}",
        )
    _check_signatures(signed, root, limits)
    manifest = _parse(signed.manifest)
    if manifest.tenant != root.tenant:
        raise _refuse(
            Refusal.TENANT,
            f"the release is for tenant {manifest.tenant!r}; this device belongs to "
            f"{root.tenant!r}",
        )
    if manifest.format != FORMAT:
        raise _refuse(
            Refusal.FORMAT, f"the release has format {manifest.format}; this SDK reads {FORMAT}"
        )
    if manifest.version < 1:
        raise _refuse(Refusal.FORMAT, "the release has no version")
    missing = sorted(set(manifest.required_features) - set(features))
    if missing:
        raise _refuse(Refusal.FEATURES, f"the release needs a newer SDK, for {', '.join(missing)}")
    _check_parts(manifest.parts, limits)
    if not held:
        _check_age(signed, manifest, now_ms, highest_seen, seen_digest)
    return manifest


def verify_part(part: release_pb2.Part, content: bytes | bytearray | memoryview) -> None:
    """Check that `content` is what the manifest calls `part`. Raises TrustError DIGEST."""
    if len(content) != part.size:
        raise _refuse(
            Refusal.DIGEST,
            f"part {part.name!r} has {len(content)} bytes; the manifest says {part.size}",
        )
    digest = hashlib.sha256(content).digest()
    if digest != part.sha256:
        raise _refuse(
            Refusal.DIGEST,
            f"part {part.name!r} has SHA-256 {digest.hex()[:16]}…; the manifest says "
            f"{part.sha256.hex()[:16]}…",
        )


def same_lineage(one: dna_pb2.Lineage | None, other: dna_pb2.Lineage | None) -> bool:
    """Whether rows of one can be read as rows of the other. A vocabulary only grows, so its size
    may differ: indices that a reader does not know are kept and not used."""
    if one is None or other is None:
        return False
    return (
        one.vocabulary_lineage == other.vocabulary_lineage
        and one.schema_epoch == other.schema_epoch
        and one.landmark_hour == other.landmark_hour
        and one.quantiser == other.quantiser
    )


def _check_signatures(
    signed: release_pb2.SignedManifest, root: release_pb2.TrustRoot, limits: Limits
) -> None:
    if len(signed.signatures) > limits.signatures:
        raise _refuse(
            Refusal.TOO_LARGE,
            f"the manifest has {len(signed.signatures)} signatures; at most {limits.signatures}",
        )
    keys = {key_id(key): key for key in root.release_keys}
    message = MANIFEST_PREFIX + signed.manifest
    good = {
        signature.key_id
        for signature in signed.signatures
        if signature.key_id in keys and _holds(keys[signature.key_id], signature.signature, message)
    }
    if len(good) < root.threshold:
        raise _refuse(
            Refusal.SIGNATURE,
            f"{len(good)} of the {root.threshold} signatures needed are good "
            f"({len(signed.signatures)} came with the manifest)",
        )


def _holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        _public_key(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _public_key(raw: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise _refuse(Refusal.ROOT, "the trust root holds a malformed key") from error


def _parse(content: bytes) -> release_pb2.Manifest:
    from google.protobuf.message import DecodeError

    try:
        return release_pb2.Manifest.FromString(content)
    except DecodeError as error:
        raise _refuse(Refusal.FORMAT, "the manifest is well signed and unreadable") from error


def _check_parts(parts: Iterable[release_pb2.Part], limits: Limits) -> None:
    parts = list(parts)
    names = [part.name for part in parts]
    if len(parts) > limits.parts:
        raise _refuse(
            Refusal.TOO_LARGE, f"the release has {len(parts)} parts; at most {limits.parts}"
        )
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _refuse(Refusal.PARTS, f"the release names a part twice: {', '.join(twice)}")
    missing = [name for name in REQUIRED_PARTS if name not in names]
    if missing:
        raise _refuse(Refusal.PARTS, f"the release lacks parts: {', '.join(missing)}")
    for part in parts:
        if len(part.sha256) != 32:
            raise _refuse(Refusal.PARTS, f"part {part.name!r} has no SHA-256")
        if part.size > limits.part_bytes:
            raise _refuse(
                Refusal.TOO_LARGE,
                f"part {part.name!r} has {part.size} bytes; at most {limits.part_bytes}",
            )
    total = sum(part.size for part in parts)
    if total > limits.release_bytes:
        raise _refuse(
            Refusal.TOO_LARGE, f"the release has {total} bytes; at most {limits.release_bytes}"
        )


def _check_age(
    signed: release_pb2.SignedManifest,
    manifest: release_pb2.Manifest,
    now_ms: int,
    highest_seen: int,
    seen_digest: bytes | None,
) -> None:
    if manifest.version < highest_seen:
        raise _refuse(
            Refusal.OLDER,
            f"the release is version {manifest.version}; this device has seen {highest_seen}",
        )
    if manifest.version == highest_seen and manifest_digest(signed) != seen_digest:
        raise _refuse(
            Refusal.OLDER,
            f"the release is version {manifest.version} again, with other content",
        )
    if is_expired(manifest, now_ms):
        raise _refuse(
            Refusal.EXPIRED,
            f"the release expired {(now_ms - manifest.expires_ms) // 1000} s ago",
        )


def _refuse(reason: Refusal, detail: str) -> TrustError:
    return TrustError(detail, reason)
