"""Rules of trust, each with the attack that it stops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import TrustError
from edge_sdk.sync import roles, trust
from edge_sdk.sync.trust import Limits, Refusal
from genome_edge.v1 import release_pb2

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 5)]
NOW = 1_700_000_000_000
Edit = Callable[[release_pb2.Manifest], object]


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def root(keys: int = 3, threshold: int = 2) -> release_pb2.TrustRoot:
    return release_pb2.TrustRoot(
        tenant="acme",
        version=1,
        release_keys=[public(key) for key in KEYS[:keys]],
        threshold=threshold,
    )


def manifest(edit: Edit = lambda _: None, version: int = 7) -> bytes:
    made = release_pb2.Manifest(
        format=1,
        tenant="acme",
        version=version,
        created_ms=NOW - 1000,
        expires_ms=NOW + 1000,
        parts=[
            release_pb2.Part(name=name, size=10, sha256=bytes(32)) for name in trust.REQUIRED_PARTS
        ],
    )
    edit(made)
    return made.SerializeToString()


def sign(content: bytes, *keys: Ed25519PrivateKey) -> release_pb2.SignedManifest:
    return release_pb2.SignedManifest(
        manifest=content,
        signatures=[
            release_pb2.ManifestSignature(
                key_id=trust.key_id(public(key)),
                signature=key.sign(trust.MANIFEST_PREFIX + content),
            )
            for key in keys
        ],
    )


def verify(
    signed: release_pb2.SignedManifest,
    trusted: release_pb2.TrustRoot | None = None,
    highest_seen: int = 0,
    now_ms: int = NOW,
    limits: Limits | None = None,
    **more: object,
) -> release_pb2.Manifest:
    return trust.verify_manifest(
        signed,
        trusted or root(),
        now_ms,
        highest_seen,
        limits,
        **more,  # type: ignore[arg-type]
    )


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(TrustError) as caught:
        call()
    return caught.value.reason


def test_a_good_manifest_is_parsed() -> None:
    assert verify(sign(manifest(), *KEYS[:2])).version == 7


def test_fewer_signatures_than_the_threshold() -> None:
    assert refusal(lambda: verify(sign(manifest(), KEYS[0]))) == Refusal.SIGNATURE
    assert refusal(lambda: verify(sign(manifest()))) == Refusal.SIGNATURE


def test_one_key_twice_counts_once() -> None:
    assert refusal(lambda: verify(sign(manifest(), KEYS[0], KEYS[0]))) == Refusal.SIGNATURE


def test_a_key_that_is_not_in_the_root_counts_for_nothing() -> None:
    assert refusal(lambda: verify(sign(manifest(), KEYS[0], KEYS[3]))) == Refusal.SIGNATURE
    verify(sign(manifest(), KEYS[3], *KEYS[:2]))


def test_a_bad_signature_does_not_spoil_enough_good_ones() -> None:
    signed = sign(manifest(), *KEYS[:3])
    signed.signatures[0].signature = bytes(64)
    verify(signed)


def test_a_signature_without_its_prefix_is_for_something_else() -> None:
    content = manifest()
    signed = sign(content, KEYS[0])
    signed.signatures.add(key_id=trust.key_id(public(KEYS[1])), signature=KEYS[1].sign(content))
    assert refusal(lambda: verify(signed)) == Refusal.SIGNATURE


@given(st.data())
def test_no_changed_byte_goes_through(data: st.DataObject) -> None:
    signed = sign(manifest(), *KEYS[:2])
    content = bytearray(signed.manifest)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    signed.manifest = bytes(content)
    assert refusal(lambda: verify(signed)) == Refusal.SIGNATURE


def test_garbage_that_is_well_signed_is_refused_and_not_raised_as_something_else() -> None:
    assert refusal(lambda: verify(sign(b"\xff\xff\xff", *KEYS[:2]))) == Refusal.FORMAT


def large_together(made: release_pb2.Manifest) -> None:
    for part in made.parts:
        part.size = 200 << 20


def asset(made: release_pb2.Manifest, size: int = 1) -> object:
    name = f"picture {len(made.parts)}"
    return made.parts.add(name=name, size=size, sha256=bytes(32), asset=True)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda m: setattr(m, "tenant", "other"), Refusal.TENANT),
        (lambda m: setattr(m, "format", 2), Refusal.FORMAT),
        (lambda m: setattr(m, "version", 0), Refusal.FORMAT),
        (lambda m: m.required_features.append("telepathy"), Refusal.FEATURES),
        (lambda m: m.parts.add(name="offers", size=1, sha256=bytes(32)), Refusal.PARTS),
        (lambda m: m.parts.pop(), Refusal.PARTS),
        (lambda m: setattr(m.parts[0], "sha256", b"short"), Refusal.PARTS),
        (lambda m: setattr(m.parts[0], "size", Limits().part_bytes + 1), Refusal.TOO_LARGE),
        (large_together, Refusal.TOO_LARGE),
        (
            lambda m: [m.parts.add(name=f"x{n}", sha256=bytes(32)) for n in range(40)],
            Refusal.TOO_LARGE,
        ),
        (lambda m: setattr(m, "expires_ms", NOW), Refusal.EXPIRED),
        (lambda m: setattr(m, "version", trust.MAX_JUMP + 1), Refusal.FAST_FORWARD),
        (lambda m: setattr(m.parts[0], "asset", True), Refusal.PARTS),
        (lambda m: m.parts.add(name="taxi.png", asset=True), Refusal.PARTS),
        (lambda m: asset(m, Limits().asset_bytes + 1), Refusal.TOO_LARGE),
        (lambda m: [asset(m, Limits().asset_bytes) for _ in range(33)], Refusal.TOO_LARGE),
    ],
)
def test_a_well_signed_manifest_that_must_not_be_used(edit: Edit, reason: Refusal) -> None:
    assert refusal(lambda: verify(sign(manifest(edit), *KEYS[:2]))) == reason


def test_known_features_and_unknown_parts_do_no_harm() -> None:
    def edit(m: release_pb2.Manifest) -> None:
        m.required_features.extend(trust.FEATURES)
        m.parts.add(name="smells", size=1, sha256=bytes(32))

    assert len(verify(sign(manifest(edit), *KEYS[:2])).parts) == len(trust.REQUIRED_PARTS) + 1


def test_a_release_has_many_assets_and_not_too_many() -> None:
    def edit(m: release_pb2.Manifest) -> None:
        for _ in range(40):
            asset(m)

    signed = sign(manifest(edit), *KEYS[:2])
    assert len(verify(signed).parts) == len(trust.REQUIRED_PARTS) + 40
    assert refusal(lambda: verify(signed, limits=Limits(assets=39))) == Refusal.TOO_LARGE


def test_no_stolen_signature_uses_up_the_counter() -> None:
    far = sign(manifest(version=trust.MAX_JUMP + 8), *KEYS[:2])
    assert refusal(lambda: verify(far, highest_seen=7)) == Refusal.FAST_FORWARD
    assert verify(far, highest_seen=8).version == trust.MAX_JUMP + 8
    assert verify(far, highest_seen=7, held=True).version == trust.MAX_JUMP + 8


def test_only_the_role_release_signs_releases_and_not_under_an_expired_root() -> None:
    mixed = root(keys=1, threshold=1)
    mixed.root_keys.append(public(KEYS[1]))
    mixed.timestamp_keys.append(public(KEYS[2]))
    mixed.root_threshold = mixed.timestamp_threshold = 1
    assert refusal(lambda: verify(sign(manifest(), *KEYS[1:]), mixed)) == Refusal.SIGNATURE
    mixed.expires_ms = NOW
    signed = sign(manifest(), KEYS[0])
    assert refusal(lambda: verify(signed, mixed)) == Refusal.ROOT_EXPIRED
    assert verify(signed, mixed, held=True)
    mixed.expires_ms = NOW + 1
    assert verify(signed, mixed)


def test_sizes_are_checked_before_signatures() -> None:
    limits = Limits(manifest_bytes=10)
    assert refusal(lambda: verify(sign(manifest()), limits=limits)) == Refusal.TOO_LARGE
    many = sign(manifest(), *KEYS[:2])
    limits = Limits(signatures=1)
    assert refusal(lambda: verify(many, limits=limits)) == Refusal.TOO_LARGE


def test_never_older_and_a_version_means_one_thing() -> None:
    signed, other = (
        sign(manifest(), *KEYS[:2]),
        sign(manifest(lambda m: m.parts.add(name="x", sha256=bytes(32))), *KEYS[:2]),
    )
    digest = trust.manifest_digest(signed)
    assert refusal(lambda: verify(signed, highest_seen=8)) == Refusal.OLDER
    verify(signed, highest_seen=7, seen_digest=digest)
    assert refusal(lambda: verify(other, highest_seen=7, seen_digest=digest)) == Refusal.OLDER
    assert refusal(lambda: verify(signed, highest_seen=7)) == Refusal.OLDER
    verify(signed, highest_seen=6, seen_digest=bytes(32))


def test_what_is_held_may_be_old_and_expired_but_not_forged() -> None:
    signed = sign(manifest(), *KEYS[:2])
    late = NOW + 10_000
    held = verify(signed, highest_seen=9, now_ms=late, held=True)
    assert trust.is_expired(held, late)
    assert not trust.is_expired(held, NOW)
    forged = sign(manifest(), KEYS[3])
    assert refusal(lambda: verify(forged, held=True)) == Refusal.SIGNATURE


@pytest.mark.parametrize(
    "edit",
    [
        lambda r: setattr(r, "tenant", ""),
        lambda r: setattr(r, "threshold", 0),
        lambda r: setattr(r, "threshold", 4),
        lambda r: r.release_keys.append(r.release_keys[0]),
        lambda r: r.release_keys.append(b"short"),
        lambda r: r.ClearField("release_keys"),
        lambda r: r.release_keys.extend(bytes([n]) * 32 for n in range(30)),
    ],
)
def test_a_root_that_verifies_nothing_or_too_much(
    edit: Callable[[release_pb2.TrustRoot], object],
) -> None:
    broken = root()
    edit(broken)
    assert refusal(lambda: trust.check_root(broken)) == Refusal.ROOT
    assert refusal(lambda: verify(sign(manifest(), *KEYS[:2]), broken)) == Refusal.ROOT


def test_no_change_of_root_is_believed() -> None:
    pinned = root()
    shuffled = root()
    del shuffled.release_keys[:]
    shuffled.release_keys.extend(reversed(pinned.release_keys))
    assert roles.verify_root(pinned, shuffled) is pinned
    for newer in (
        release_pb2.TrustRoot(
            tenant="acme", version=2, release_keys=[public(KEYS[3])], threshold=1
        ),
        root(threshold=1),
        root(keys=2),
    ):
        assert refusal(partial(roles.verify_root, pinned, newer)) == Refusal.ROOT


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_part_is_its_size_and_digest(content: bytes, other: bytes) -> None:
    import hashlib

    part = release_pb2.Part(
        name="offers", size=len(content), sha256=hashlib.sha256(content).digest()
    )
    trust.verify_part(part, content)
    if other != content:
        assert refusal(lambda: trust.verify_part(part, other)) == Refusal.DIGEST


def test_rows_of_one_lineage_are_read_with_any_size_of_vocabulary() -> None:
    from genome_edge.v1 import dna_pb2

    one = dna_pb2.Lineage(vocabulary_lineage=bytes(16), vocabulary_size=5, schema_epoch=1)
    bigger = dna_pb2.Lineage(vocabulary_lineage=bytes(16), vocabulary_size=9, schema_epoch=1)
    assert trust.same_lineage(one, bigger)
    assert not trust.same_lineage(one, None)
    assert not trust.same_lineage(None, one)
    assert not trust.same_lineage(None, None)
    for field, value in (
        ("vocabulary_lineage", b"x" * 16),
        ("schema_epoch", 2),
        ("landmark_hour", 9),
        ("quantiser", 2),
    ):
        other = dna_pb2.Lineage()
        other.CopyFrom(one)
        setattr(other, field, value)
        assert not trust.same_lineage(one, other), field
