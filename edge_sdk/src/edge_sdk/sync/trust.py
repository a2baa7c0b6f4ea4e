"""What a device believes, and why: keys, releases, freshness, stops and time. No input or output.

Rules
-----
Roots (`roles`)
1. A device trusts one root: the keys of three roles, and how many of each must sign. The first is
   pinned at enrolment or comes with a bundle. A key stands in one role only.
2. A root is followed by the one of the next version, of the same tenant, that enough root keys of
   both have signed; of several each follows the one before it. A root of the first kind names no
   root keys; its release keys sign then. A role that a root has is never given up again.
3. Under a root beyond its expiry nothing new is believed but another root (and the time).
4. Whatever a device holds verifies under its root. So a root that changes the role timestamp is
   taken only together with a timestamp, and a stop list where one is held, by the new keys; their
   versions then begin anew. The highest release ever seen stays.
Statements
5. Signatures are over the bytes as they came, behind a prefix that says what they state; nothing
   is parsed before enough of them hold. Two signatures by one key count once; those by keys that
   are not of the role count for nothing and do no harm.
6. Everything is for one tenant. Another tenant's, though well signed, is refused.
7. No version falls, and one version means one content. None grows by more than `MAX_JUMP` at once,
   so that no single stolen signature uses up the counter.
Releases (here)
8. An expired release is not installed. One that is on the device already stays: expiry makes it
   stale, not void. It is judged by the root it was verified by, not by every later one.
9. Every size is declared in the manifest and checked against `Limits` before a byte is fetched;
   what arrives must have exactly that size and that SHA-256 before anything parses it.
10. A release is used whole or not at all: the parts without which nothing can be decided must be
    there, and be no assets; no name stands twice; every feature that it needs is one of this SDK.
    Parts that this SDK does not know are counted and left alone.
Freshness, stops, time (`roles`)
11. A timestamp makes the releases it names, by version and digest, fresh until it expires; but only
    for a device that holds the stop list it names: whoever keeps that back lets the device age.
12. A stop list older than the one held, or than the one that the timestamp names, is refused, and
    of the same version only the same one is taken.
13. Once the root has timestamp keys, the server's time is believed only when signed by one of them,
    with the nonce of this very stream.

Theory of operation
-------------------
Everything is a function from what arrived (and what the device knows: `Standing`, time, highest
version) to a verified value or a `TrustError` whose `reason` is one of `Refusal`; that reason goes
to the server in a Nack. `sync` calls `roles.take` for what Trust brings, `verify_manifest` when a
release is announced and `verify_part` when a part is complete; the store and the client call them
again on what they read, because a disk is not to be believed more than a network.

The times are those of the server where the device has ever heard it (no rule needs more: a clock
that is wrong keeps a device from what is new, and never makes it forget what it has).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from edge_sdk.errors import TrustError
from edge_sdk.messages import dna_pb2, release_pb2

Parsed = TypeVar("Parsed", bound=Message)

MANIFEST_PREFIX = b"genome-edge/manifest/v1\n"
FORMAT = 1
# The most that a version may grow at once.
MAX_JUMP = 1 << 32
REQUIRED_PARTS = ("schema", "vocabulary", "offers", "placements", "model")
KNOWN_PARTS = (*REQUIRED_PARTS, "products", "places", "golden")
# What this SDK can do beyond the first format; a release may require features by these names.
FEATURES: tuple[str, ...] = (
    "assets-1",
    "caps-2",
    "counters-1",
    "experiments-1",
    "genome-content-1",
    "offer-model-1",
    "offline-age-1",
    "quantiser-1",
    "quantiser-2",
    "rings-1",
    "sizes-1",
    "slates-1",
    "squarecb",
    "trust-roles-1",
    "windows-1",
    "zones-1",
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
    ROOT_EXPIRED = "ROOT_EXPIRED"
    TIMESTAMP = "TIMESTAMP"
    STOP_LIST = "STOP_LIST"
    FAST_FORWARD = "FAST_FORWARD"


class Limits(NamedTuple):
    """The most that a device takes. All sizes in bytes; `Limits()` is the documented default."""

    manifest_bytes: int = 1 << 20
    signatures: int = 16
    root_keys: int = 16
    root_bytes: int = 16 << 10
    roots: int = 256
    timestamp_bytes: int = 64 << 10
    stop_list_bytes: int = 1 << 20
    parts: int = 32
    part_bytes: int = 256 << 20
    release_bytes: int = 512 << 20
    assets: int = 8192
    asset_bytes: int = 64 << 20
    all_asset_bytes: int = 2 << 30
    chunk_bytes: int = 4 << 20
    genome_rows: int = 20_000_000
    genome_bytes: int = 4 << 30
    lookup_entries: int = 20_000_000
    cap_events: int = 1_000_000


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

    Raises TrustError ROOT for no tenant, no release keys, keys that are not 32 bytes or stand
    twice (in whatever roles), and a threshold that is 0 or more than there are keys of its role.
    """
    most = (limits or Limits()).root_keys
    if not root.tenant:
        raise refuse(Refusal.ROOT, "the trust root names no tenant")
    for role, keys, threshold in (
        ("release", root.release_keys, root.threshold),
        ("root", root.root_keys, root.root_threshold),
        ("timestamp", root.timestamp_keys, root.timestamp_threshold),
    ):
        if len(keys) > most or (not keys and role == "release"):
            raise refuse(Refusal.ROOT, f"the trust root holds {len(keys)} {role} keys")
        if keys and not 1 <= threshold <= len(keys):
            raise refuse(
                Refusal.ROOT,
                f"the trust root asks for {threshold} signatures of {len(keys)} {role} keys",
            )
    every = [*root.release_keys, *root.root_keys, *root.timestamp_keys]
    if any(len(key) != 32 for key in every) or len(set(every)) != len(every):
        raise refuse(Refusal.ROOT, "the trust root holds a malformed or repeated key")


def check_root_age(root: release_pb2.TrustRoot, now_ms: int) -> None:
    """Refuse to believe anything new under a root beyond its expiry. Raises TrustError."""
    if root.expires_ms and root.expires_ms <= now_ms:
        raise refuse(
            Refusal.ROOT_EXPIRED,
            f"trust root {root.version} expired {(now_ms - root.expires_ms) // 1000} s ago: "
            "sign a new root",
        )


def check_jump(what: str, version: int, seen: int) -> None:
    """Refuse a version too far above the highest seen. Raises TrustError FAST_FORWARD."""
    if version > seen + MAX_JUMP:
        raise refuse(
            Refusal.FAST_FORWARD,
            f"the {what} is version {version}; after {seen} at most {MAX_JUMP} more is believed",
        )


def check_signatures(
    what: str,
    message: bytes,
    signatures: Sequence[release_pb2.ManifestSignature],
    keys: Iterable[bytes],
    threshold: int,
    limits: Limits,
) -> None:
    """Refuse a message (prefix included) that fewer than `threshold` of the keys have signed.

    Raises TrustError SIGNATURE, TOO_LARGE for more signatures than are looked at.
    """
    if len(signatures) > limits.signatures:
        raise refuse(
            Refusal.TOO_LARGE,
            f"the {what} has {len(signatures)} signatures; at most {limits.signatures}",
        )
    named = {key_id(key): key for key in keys}
    good = {
        signature.key_id
        for signature in signatures
        if signature.key_id in named
        and _holds(named[signature.key_id], signature.signature, message)
    }
    if len(good) < max(1, threshold):  # a role without keys signs nothing
        raise refuse(
            Refusal.SIGNATURE,
            f"{len(good)} of the {threshold} signatures needed are good "
            f"({len(signatures)} came with the {what})",
        )


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
        raise refuse(
            Refusal.TOO_LARGE,
            f"the manifest has {len(signed.manifest)} bytes; at most {limits.manifest_bytes}",
        )
    check_signatures(
        "manifest",
        MANIFEST_PREFIX + signed.manifest,
        signed.signatures,
        root.release_keys,
        root.threshold,
        limits,
    )
    manifest = parse("manifest", release_pb2.Manifest, signed.manifest)
    if manifest.tenant != root.tenant:
        raise refuse(
            Refusal.TENANT,
            f"the release is for tenant {manifest.tenant!r}; this device belongs to "
            f"{root.tenant!r}",
        )
    if manifest.format != FORMAT:
        raise refuse(
            Refusal.FORMAT, f"the release has format {manifest.format}; this SDK reads {FORMAT}"
        )
    if manifest.version < 1:
        raise refuse(Refusal.FORMAT, "the release has no version")
    missing = sorted(set(manifest.required_features) - set(features))
    if missing:
        raise refuse(Refusal.FEATURES, f"the release needs a newer SDK, for {', '.join(missing)}")
    _check_parts(manifest.parts, limits)
    if not held:
        check_root_age(root, now_ms)
        _check_age(signed, manifest, now_ms, highest_seen, seen_digest)
    return manifest


def verify_part(part: release_pb2.Part, content: bytes | bytearray | memoryview) -> None:
    """Check that `content` is what the manifest calls `part`. Raises TrustError DIGEST."""
    if len(content) != part.size:
        raise refuse(
            Refusal.DIGEST,
            f"part {part.name!r} has {len(content)} bytes; the manifest says {part.size}",
        )
    digest = hashlib.sha256(content).digest()
    if digest != part.sha256:
        raise refuse(
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


def _holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):  # ValueError: no point of the curve, a key of nobody
        return False
    return True


def parse(what: str, kind: type[Parsed], content: bytes) -> Parsed:
    """The message that well signed bytes are. Raises TrustError FORMAT where they are none."""
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise refuse(Refusal.FORMAT, f"the {what} is well signed and unreadable") from error


def _check_parts(parts: Iterable[release_pb2.Part], limits: Limits) -> None:
    parts = list(parts)
    names = [part.name for part in parts]
    needed = [part for part in parts if not part.asset]
    assets = [part for part in parts if part.asset]
    if len(set(names)) != len(names):
        counted = Counter(names)
        twice = sorted(name for name in counted if counted[name] > 1)
        raise refuse(Refusal.PARTS, f"the release names a part twice: {', '.join(twice)}")
    missing = sorted(set(REQUIRED_PARTS) - {part.name for part in needed})
    if missing:
        raise refuse(Refusal.PARTS, f"the release lacks parts: {', '.join(missing)}")
    for kind, some, number, each, together in (
        ("part", needed, limits.parts, limits.part_bytes, limits.release_bytes),
        ("asset", assets, limits.assets, limits.asset_bytes, limits.all_asset_bytes),
    ):
        if len(some) > number:
            raise refuse(
                Refusal.TOO_LARGE, f"the release has {len(some)} {kind}s; at most {number}"
            )
        for part in some:
            if len(part.sha256) != 32:
                raise refuse(Refusal.PARTS, f"{kind} {part.name!r} has no SHA-256")
            if part.size > each:
                raise refuse(
                    Refusal.TOO_LARGE,
                    f"{kind} {part.name!r} has {part.size} bytes; at most {each}",
                )
        total = sum(part.size for part in some)
        if total > together:
            raise refuse(
                Refusal.TOO_LARGE, f"the release has {total} bytes of {kind}s; at most {together}"
            )


def _check_age(
    signed: release_pb2.SignedManifest,
    manifest: release_pb2.Manifest,
    now_ms: int,
    highest_seen: int,
    seen_digest: bytes | None,
) -> None:
    if manifest.version < highest_seen:
        raise refuse(
            Refusal.OLDER,
            f"the release is version {manifest.version}; this device has seen {highest_seen}",
        )
    if manifest.version == highest_seen and manifest_digest(signed) != seen_digest:
        raise refuse(
            Refusal.OLDER,
            f"the release is version {manifest.version} again, with other content",
        )
    check_jump("release", manifest.version, highest_seen)
    if is_expired(manifest, now_ms):
        raise refuse(
            Refusal.EXPIRED,
            f"the release expired {(now_ms - manifest.expires_ms) // 1000} s ago",
        )


def refuse(reason: Refusal, detail: str) -> TrustError:
    """The error that says what was refused, and why."""
    return TrustError(detail, reason)
