"""Rules of roots, timestamps, stop lists and time, each with the attack that it stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import TrustError
from edge_sdk.sync import roles, signing, trust
from edge_sdk.sync.keys import DeviceKey
from edge_sdk.sync.trust import MAX_JUMP, Limits
from genome_edge.v1 import release_pb2, stop_pb2, sync_pb2
from tests.unit.statements import (
    CLOCK_KEYS,
    FIRST_KIND,
    NONCE,
    NOW,
    OTHERS,
    RELEASE_KEYS,
    ROOT_KEYS,
    check_stamp,
    check_stops,
    follow,
    publics,
    refusal,
    root,
    stamp,
    stops,
)

# The vectors beside the contract ------------------------------------------------------------------

VECTORS = json.loads(
    (Path(__file__).parents[2] / "proto" / "vectors" / "trust.json").read_text(encoding="utf-8")
)


def outcome(call: Callable[[], Any]) -> int | str:
    try:
        believed = call()
    except TrustError as error:
        return error.reason
    return int(believed if isinstance(believed, int) else believed.version)


def unhex(kind: Any, content: str) -> Any:
    return kind.FromString(bytes.fromhex(content))


def signed_as(kind: Any, name: str, made: dict[str, Any]) -> Any:
    given = [
        release_pb2.ManifestSignature(
            key_id=one["key_id"], signature=bytes.fromhex(one["signature"])
        )
        for one in made["signatures"]
    ]
    return kind(**{name: bytes.fromhex(made["content"]), "signatures": given})


def believed(kind: str, case: dict[str, Any]) -> Any:
    now, trusted = VECTORS["now_ms"], unhex(release_pb2.TrustRoot, VECTORS["root"])
    if kind == "roots":
        chain = [signed_as(release_pb2.SignedRoot, "root", one) for one in case["chain"]]
        return roles.verify_roots(unhex(release_pb2.TrustRoot, case["root"]), chain, now)
    if kind == "times":
        beat = sync_pb2.ServerHeartbeat(server_time_ms=case["ms"])
        beat.signature.key_id = case["signature"]["key_id"]
        beat.signature.signature = bytes.fromhex(case["signature"]["signature"])
        return roles.verify_time(beat, trusted, bytes.fromhex(VECTORS["nonce"]))
    if kind == "timestamps":
        stamped = signed_as(release_pb2.SignedTimestamp, "timestamp", case["signed"])
        seen = unhex(release_pb2.Timestamp, case["seen"])
        return roles.verify_timestamp(stamped, trusted, now, seen)
    listed = signed_as(stop_pb2.SignedStopList, "stop_list", case["signed"])
    seen = unhex(stop_pb2.StopList, case["seen"])
    at = unhex(release_pb2.Timestamp, case["timestamp"])
    return roles.verify_stop_list(listed, trusted, now, seen, at)


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        pytest.param(kind, case, id=f"{kind}: {case['what']}")
        for kind in ("roots", "timestamps", "stop_lists", "times")
        for case in VECTORS[kind]
    ],
)
def test_vectors(kind: str, case: dict[str, Any]) -> None:
    assert outcome(lambda: believed(kind, case)) == case["then"]


# Roots -------------------------------------------------------------------------------------------


def test_a_root_follows_that_both_have_signed() -> None:
    second = root(2, root_keys=publics(OTHERS), root_threshold=1)
    signed = signing.sign_root(second, [*ROOT_KEYS[:2], OTHERS[0]])
    assert follow(root(), signed) == second
    third = signing.sign_root(root(3), [OTHERS[2], *ROOT_KEYS[:2]])
    assert follow(root(), signed, third).version == 3
    assert follow(second, signed, third).version == 3, "the root that is here may come again"
    assert follow(second).version == 2


def test_a_root_of_the_first_kind_is_followed_by_its_release_keys() -> None:
    first = root(1, **FIRST_KIND)
    assert follow(first, signing.sign_root(root(2), [RELEASE_KEYS[0], *ROOT_KEYS])).version == 2
    assert follow(first, signing.sign_root(root(2, **FIRST_KIND), RELEASE_KEYS)).version == 2
    assert refusal(lambda: follow(first, signing.sign_root(root(2), ROOT_KEYS))) == "SIGNATURE"


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (ROOT_KEYS[:1] + OTHERS[:1], "too few of the old root"),
        (ROOT_KEYS[:2], "none of the new one"),
        (OTHERS, "none of the old one"),
        ([*RELEASE_KEYS, *CLOCK_KEYS, *OTHERS], "keys of other roles"),
        ([], "none at all"),
    ],
)
def test_a_root_that_too_few_have_signed(by: list[DeviceKey], why: str) -> None:
    second = root(2, root_keys=publics(OTHERS), root_threshold=1)
    assert refusal(lambda: follow(root(), signing.sign_root(second, by))) == "SIGNATURE", why


def test_one_root_key_twice_counts_once() -> None:
    signed = signing.sign_root(root(2), ROOT_KEYS[:1])
    signed.signatures.append(signed.signatures[0])
    assert refusal(lambda: follow(root(), signed)) == "SIGNATURE"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (root(1, expires_ms=NOW + 5), "ROOT"),
        (root(3), "ROOT"),
        (root(0), "ROOT"),
        (root(2, tenant="other"), "TENANT"),
        (root(2, threshold=0), "ROOT"),
        (root(2, root_threshold=4), "ROOT"),
        (root(2, timestamp_threshold=0), "ROOT"),
        (root(2, release_keys=publics(ROOT_KEYS)), "ROOT"),
        (root(2, timestamp_keys=publics(RELEASE_KEYS)), "ROOT"),
        (root(2, timestamp_keys=[b"short"]), "ROOT"),
        (root(2, timestamp_keys=None, timestamp_threshold=0), "ROOT"),
        (root(2, root_keys=None, root_threshold=0), "ROOT"),
        (root(2, expires_ms=NOW), "ROOT_EXPIRED"),
    ],
)
def test_a_well_signed_root_that_must_not_follow(made: release_pb2.TrustRoot, reason: str) -> None:
    signed = signing.sign_root(made, [*ROOT_KEYS, *RELEASE_KEYS])
    assert refusal(lambda: follow(root(), signed)) == reason


def test_a_root_in_the_middle_may_be_expired_and_the_first_one_too() -> None:
    chain = [signing.sign_root(root(n, expires_ms=NOW + n - 3), ROOT_KEYS) for n in (2, 3, 4)]
    assert follow(root(expires_ms=1), *chain).version == 4


def test_roots_have_bounds() -> None:
    signed = signing.sign_root(root(2), ROOT_KEYS)
    assert refusal(lambda: follow(root(), signed, limits=Limits(root_bytes=9))) == "TOO_LARGE"
    assert refusal(lambda: follow(root(), signed, limits=Limits(roots=0))) == "TOO_LARGE"
    assert refusal(lambda: follow(root(), signed, limits=Limits(signatures=1))) == "TOO_LARGE"
    content = b"\xff\xff"
    garbage = release_pb2.SignedRoot(
        root=content, signatures=signing.signatures(roles.ROOT_PREFIX + content, ROOT_KEYS)
    )
    assert refusal(lambda: follow(root(), garbage)) == "FORMAT"


def test_under_an_expired_root_nothing_new_is_believed_but_the_time() -> None:
    old = root(expires_ms=NOW)
    signed = signing.sign_manifest(release_pb2.Manifest(), RELEASE_KEYS)
    with pytest.raises(TrustError):
        trust.verify_manifest(signed, old, NOW, 0)
    assert refusal(lambda: check_stamp(stamp(), under=old)) == "ROOT_EXPIRED"
    assert refusal(lambda: check_stops(stops(), under=old)) == "ROOT_EXPIRED"
    assert check_stamp(stamp(), under=old, held=True)
    assert check_stops(stops(), under=old, held=True)
    beat = sync_pb2.ServerHeartbeat(
        server_time_ms=5, signature=signing.sign_time(NONCE, 5, CLOCK_KEYS[0])
    )
    assert roles.verify_time(beat, old, NONCE) == 5


# Timestamps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "seen", "reason"),
    [
        (stamp(2), stamp(3), "TIMESTAMP"),
        (stamp(3), stamp(3, created_ms=1), "TIMESTAMP"),
        (stamp(0), None, "TIMESTAMP"),
        (stamp(4, stops(1)), stamp(3, stops(2)), "TIMESTAMP"),
        (stamp(4), stamp(3, stops(2)), "TIMESTAMP"),
        (stamp(4, stops(2, "a")), stamp(3, stops(2, "b")), "TIMESTAMP"),
        (stamp(MAX_JUMP + 1), None, "FAST_FORWARD"),
        (stamp(MAX_JUMP + 6), stamp(5), "FAST_FORWARD"),
        (stamp(1, expires_ms=NOW), None, "EXPIRED"),
        (stamp(1, tenant="other"), None, "TENANT"),
    ],
)
def test_a_well_signed_timestamp_that_is_refused(made: Any, seen: Any, reason: str) -> None:
    assert refusal(lambda: check_stamp(made, seen)) == reason


def test_a_timestamp_that_is_taken() -> None:
    assert check_stamp(stamp(3), stamp(3)).version == 3
    assert check_stamp(stamp(MAX_JUMP + 5), stamp(5)).version == MAX_JUMP + 5
    assert check_stamp(stamp(4, stops(2)), stamp(3, stops(1))).version == 4
    assert check_stamp(stamp(expires_ms=1), held=True).expires_ms == 1


@pytest.mark.parametrize("by", [[], OTHERS, ROOT_KEYS, RELEASE_KEYS])
def test_who_may_not_sign_timestamps_and_stop_lists(by: list[DeviceKey]) -> None:
    assert refusal(lambda: check_stamp(stamp(), by=by)) == "SIGNATURE"
    assert refusal(lambda: check_stops(stops(), by=by)) == "SIGNATURE"
    assert refusal(lambda: check_stamp(stamp(), under=root(**FIRST_KIND))) == "SIGNATURE"


@pytest.mark.parametrize(("check", "made"), [(check_stamp, stamp()), (check_stops, stops())])
def test_statements_need_the_threshold_and_have_bounds(check: Any, made: Any) -> None:
    two = root(timestamp_threshold=2)
    assert refusal(lambda: check(made, under=two)) == "SIGNATURE"
    assert check(made, under=two, by=CLOCK_KEYS) == made
    sizes = [Limits(timestamp_bytes=5), Limits(stop_list_bytes=5)]
    small, other = sizes if check is check_stamp else reversed(sizes)
    assert refusal(lambda: check(made, limits=small)) == "TOO_LARGE"
    assert check(made, limits=other) == made
    assert refusal(lambda: check(made, under=root(threshold=9))) == "ROOT"
    assert refusal(lambda: check(made, limits=Limits(signatures=0))) == "TOO_LARGE"


def test_one_kind_of_statement_is_no_other() -> None:
    """The bytes of a stop list are those of a timestamp: only the prefix tells them apart."""
    content = stops(7).SerializeToString()
    signed = signing.sign_stop_list(stops(7), CLOCK_KEYS)
    as_stamp = release_pb2.SignedTimestamp(timestamp=content, signatures=signed.signatures)
    as_root = release_pb2.SignedRoot(root=content, signatures=signed.signatures)
    as_manifest = release_pb2.SignedManifest(manifest=content, signatures=signed.signatures)
    one_role = root(2, release_keys=publics(CLOCK_KEYS), **FIRST_KIND)
    assert refusal(lambda: roles.verify_timestamp(as_stamp, root(), NOW)) == "SIGNATURE"
    assert refusal(lambda: follow(one_role, as_root)) == "SIGNATURE"
    assert refusal(lambda: trust.verify_manifest(as_manifest, one_role, NOW, 0)) == "SIGNATURE"


@settings(deadline=None)
@given(st.data())
def test_no_changed_byte_goes_through(data: st.DataObject) -> None:
    def changed(content: bytes) -> bytes:
        at = data.draw(st.integers(0, len(content) - 1))
        return (
            content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
        )

    stamped = signing.sign_timestamp(stamp(), CLOCK_KEYS)
    stamped.timestamp = changed(stamped.timestamp)
    assert refusal(lambda: roles.verify_timestamp(stamped, root(), NOW)) == "SIGNATURE"
    stopped = signing.sign_stop_list(stops(), CLOCK_KEYS)
    stopped.stop_list = changed(stopped.stop_list)
    assert refusal(lambda: roles.verify_stop_list(stopped, root(), NOW)) == "SIGNATURE"
    followed = signing.sign_root(root(2), ROOT_KEYS)
    followed.root = changed(followed.root)
    assert refusal(lambda: follow(root(), followed)) == "SIGNATURE"


# Stop lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "seen", "at", "reason"),
    [
        (stops(2), stops(3), None, "STOP_LIST"),
        (stops(3, "a"), stops(3, "b"), None, "STOP_LIST"),
        (stops(0), None, None, "STOP_LIST"),
        (stops(2), None, stamp(1, stops(3)), "STOP_LIST"),
        (stops(3, "a"), None, stamp(1, stops(3, "b")), "STOP_LIST"),
        (stops(MAX_JUMP + 1), None, None, "FAST_FORWARD"),
        (stops(1, tenant="other"), None, None, "TENANT"),
    ],
)
def test_a_well_signed_stop_list_that_is_refused(
    made: Any, seen: Any, at: Any, reason: str
) -> None:
    assert refusal(lambda: check_stops(made, seen, at)) == reason


def test_a_stop_list_that_is_taken() -> None:
    assert check_stops(stops(3), stops(3), stamp(1, stops(3))).version == 3
    assert check_stops(stops(4), stops(3), stamp(1, stops(3))).version == 4
    assert check_stops(stops(1, "a"), None, stamp()).offers == ["a"]
    assert check_stops(stops(2), None, stamp(1, stops(3)), held=True).version == 2


# Time --------------------------------------------------------------------------------------------


def test_time_is_believed_when_signed_for_this_stream() -> None:
    def beat(ms: int, nonce: bytes, key: DeviceKey) -> sync_pb2.ServerHeartbeat:
        signature = signing.sign_time(nonce, ms, key)
        return sync_pb2.ServerHeartbeat(server_time_ms=ms, signature=signature)

    good = beat(NOW, NONCE, CLOCK_KEYS[1])
    assert roles.verify_time(good, root(), NONCE) == NOW
    assert roles.verify_time(good, root(timestamp_threshold=2), NONCE) == NOW
    assert refusal(lambda: roles.verify_time(good, root(), b"m" * 16)) == "SIGNATURE"
    by_another = beat(NOW, NONCE, RELEASE_KEYS[0])
    assert refusal(lambda: roles.verify_time(by_another, root(), NONCE)) == "SIGNATURE"
    good.server_time_ms += 1
    assert refusal(lambda: roles.verify_time(good, root(), NONCE)) == "SIGNATURE"
    bare = sync_pb2.ServerHeartbeat(server_time_ms=NOW)
    assert refusal(lambda: roles.verify_time(bare, root(), NONCE)) == "SIGNATURE"
    assert roles.verify_time(bare, root(**FIRST_KIND), NONCE) == NOW
