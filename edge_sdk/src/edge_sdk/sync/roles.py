"""Roots and their rotation, timestamps, stop lists and signed time. No input or output.

The rules are those at the top of `trust`; this file holds 1 to 7 and 11 to 13 as far as they are
about these four. `Standing` is what a device knows of what is in force, and `take` makes the next
one from what a server sends.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from edge_sdk.errors import TrustError
from edge_sdk.messages import release_pb2, stop_pb2, sync_pb2
from edge_sdk.sync.trust import (
    Limits,
    Refusal,
    check_jump,
    check_root,
    check_root_age,
    check_signatures,
    parse,
    refuse,
)

ROOT_PREFIX = b"genome-edge/trust-root/v1\n"
TIMESTAMP_PREFIX = b"genome-edge/timestamp/v1\n"
STOP_LIST_PREFIX = b"genome-edge/stop-list/v1\n"
TIME_PREFIX = b"genome-edge/time/v1\n"

Stated = TypeVar("Stated", "release_pb2.Timestamp", "stop_pb2.StopList")


class Standing(NamedTuple):
    """What a device knows of what is in force. All of it is verified under `root`."""

    root: release_pb2.TrustRoot
    timestamp: release_pb2.Timestamp | None = None
    stop_list: stop_pb2.StopList | None = None

    def fresh_until(
        self, manifest_version: int, manifest_sha256: bytes, manifest_expires_ms: int
    ) -> int:
        """Until when (server time, Unix milliseconds) this release is fresh (rule 11).

        `manifest_sha256` is `trust.manifest_digest`.
        """
        timestamp = self.timestamp
        if timestamp is None or timestamp.stop_list_version > self.stop_list_version:
            return manifest_expires_ms
        named = any(
            one.version == manifest_version and one.manifest_sha256 == manifest_sha256
            for one in timestamp.releases
        )
        return max(manifest_expires_ms, timestamp.expires_ms) if named else manifest_expires_ms

    @property
    def stop_list_version(self) -> int:
        """Version of the stop list held; 0: none."""
        return self.stop_list.version if self.stop_list is not None else 0

    @property
    def stopped(self) -> frozenset[str]:
        """Ids of the offers that must not be shown."""
        return frozenset(self.stop_list.offers) if self.stop_list is not None else frozenset()


class Taken(NamedTuple):
    """What became of a Trust message.

    `standing` is what holds now. `root`, `timestamp` and `stop_list` are what is new in it and has
    to be stored, in one transaction; None: nothing new. `refused` says what was not believed.
    """

    standing: Standing
    root: release_pb2.TrustRoot | None = None
    timestamp: release_pb2.SignedTimestamp | None = None
    stop_list: stop_pb2.SignedStopList | None = None
    refused: tuple[TrustError, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything has to be stored."""
        return any(one is not None for one in (self.root, self.timestamp, self.stop_list))


def take(
    standing: Standing, message: sync_pb2.Trust, now_ms: int, limits: Limits | None = None
) -> Taken:
    """Believe of a Trust message what can be verified, each on its own; never raises TrustError.

    A root that changes the role timestamp is the exception: it is taken with what it makes void,
    newly signed, or not at all (rule 4).
    """
    limits = limits or Limits()
    refused: list[TrustError] = []
    root = standing.root
    try:
        root = verify_roots(root, message.roots, now_ms, limits)
    except TrustError as error:
        refused.append(error)
    if _same_role(root, standing.root):
        taken = _statements(standing._replace(root=root), message, now_ms, limits)
    else:
        taken = _statements(Standing(root), message, now_ms, limits)
        held, new = standing, taken.standing
        if (held.timestamp and not new.timestamp) or (held.stop_list and not new.stop_list):
            without = f"trust root {root.version} came without timestamp and stop list by its keys"
            refused.append(refuse(Refusal.ROOT, without))
            root, taken = standing.root, Taken(standing, refused=taken.refused)
    return taken._replace(
        root=root if root.version != standing.root.version else None,
        refused=(*refused, *taken.refused),
    )


def _statements(standing: Standing, message: sync_pb2.Trust, now_ms: int, limits: Limits) -> Taken:
    """Take timestamp and stop list under a root that is settled."""
    taken = Taken(standing)
    if message.HasField("timestamp"):
        try:
            timestamp = verify_timestamp(
                message.timestamp, standing.root, now_ms, standing.timestamp, limits
            )
            if timestamp != standing.timestamp:
                standing = standing._replace(timestamp=timestamp)
                taken = taken._replace(timestamp=message.timestamp)
        except TrustError as error:
            taken = taken._replace(refused=(error,))
    if message.HasField("stop_list"):
        try:
            stop_list = verify_stop_list(
                message.stop_list,
                standing.root,
                now_ms,
                standing.stop_list,
                standing.timestamp,
                limits,
            )
            if stop_list != standing.stop_list:
                standing = standing._replace(stop_list=stop_list)
                taken = taken._replace(stop_list=message.stop_list)
        except TrustError as error:
            taken = taken._replace(refused=(*taken.refused, error))
    return taken._replace(standing=standing)


def verify_root(
    trusted: release_pb2.TrustRoot, offered: release_pb2.TrustRoot
) -> release_pb2.TrustRoot:
    """The root to go on with when one comes along unsigned: always the trusted one.

    A root that says the same is fine, whatever the order of its keys; another one is believed only
    as a SignedRoot. Raises TrustError ROOT.
    """
    if _sorted(trusted) != _sorted(offered):
        raise refuse(
            Refusal.ROOT,
            f"trust root {offered.version} of tenant {offered.tenant!r} comes unsigned; "
            f"this device trusts version {trusted.version} of {trusted.tenant!r}",
        )
    return trusted


def verify_roots(
    root: release_pb2.TrustRoot,
    chain: Sequence[release_pb2.SignedRoot],
    now_ms: int,
    limits: Limits | None = None,
) -> release_pb2.TrustRoot:
    """Follow roots, each signed by the one before it and by itself, to the newest (rules 1 to 3).

    The root that the device has may come again; it changes nothing. Raises TrustError ROOT,
    SIGNATURE, TENANT, TOO_LARGE, FORMAT, and ROOT_EXPIRED where the last one is beyond its expiry.
    """
    limits = limits or Limits()
    if len(chain) > limits.roots:
        raise refuse(Refusal.TOO_LARGE, f"{len(chain)} trust roots; at most {limits.roots}")
    newest = root
    for signed in chain:
        newest = _follow(newest, signed, limits)
    if newest is not root:
        check_root_age(newest, now_ms)
    return newest


def verify_timestamp(
    signed: release_pb2.SignedTimestamp,
    root: release_pb2.TrustRoot,
    now_ms: int,
    seen: release_pb2.Timestamp | None = None,
    limits: Limits | None = None,
    *,
    held: bool = False,
) -> release_pb2.Timestamp:
    """Check what a server says is in force now. `seen` is the newest one known, None: none.

    `held` says that it comes from the device's own store or with the app: ages are then the
    caller's to judge, with `Standing.fresh_until`.

    Raises TrustError TIMESTAMP for one that is older than `seen`, takes its stop list back, or is
    another one of the same version; FAST_FORWARD, EXPIRED, ROOT_EXPIRED, SIGNATURE, TENANT,
    TOO_LARGE, FORMAT.
    """
    timestamp = _statement(
        "timestamp",
        Refusal.TIMESTAMP,
        TIMESTAMP_PREFIX + signed.timestamp,
        signed.signatures,
        root,
        None if held else now_ms,
        seen or release_pb2.Timestamp(),
        limits or Limits(),
    )
    if seen is not None and (
        timestamp.stop_list_version < seen.stop_list_version
        if timestamp.stop_list_version != seen.stop_list_version
        else timestamp.stop_list_sha256 != seen.stop_list_sha256
    ):
        raise refuse(
            Refusal.TIMESTAMP,
            f"the timestamp names stop list {timestamp.stop_list_version}; an earlier one named "
            f"{seen.stop_list_version}",
        )
    if not held and timestamp.expires_ms <= now_ms:
        raise refuse(
            Refusal.EXPIRED,
            f"the timestamp expired {(now_ms - timestamp.expires_ms) // 1000} s ago",
        )
    return timestamp


def verify_stop_list(
    signed: stop_pb2.SignedStopList,
    root: release_pb2.TrustRoot,
    now_ms: int,
    seen: stop_pb2.StopList | None = None,
    timestamp: release_pb2.Timestamp | None = None,
    limits: Limits | None = None,
    *,
    held: bool = False,
) -> stop_pb2.StopList:
    """Check a stop list against the newest one known and the verified timestamp; None: none.

    `held` says that it comes from the device's own store: it may then be older than `timestamp`
    says, because the newer one never came.

    Raises TrustError STOP_LIST for one that is older, or another one of the same version;
    FAST_FORWARD, ROOT_EXPIRED, SIGNATURE, TENANT, TOO_LARGE, FORMAT.
    """
    stop_list = _statement(
        "stop list",
        Refusal.STOP_LIST,
        STOP_LIST_PREFIX + signed.stop_list,
        signed.signatures,
        root,
        None if held else now_ms,
        seen or stop_pb2.StopList(),
        limits or Limits(),
    )
    if timestamp is None or stop_list.version > timestamp.stop_list_version:
        return stop_list
    if stop_list.version < timestamp.stop_list_version:
        if not held:
            raise refuse(
                Refusal.STOP_LIST,
                f"the stop list is version {stop_list.version}; the timestamp names "
                f"{timestamp.stop_list_version}",
            )
    elif hashlib.sha256(signed.stop_list).digest() != timestamp.stop_list_sha256:
        raise refuse(
            Refusal.STOP_LIST, f"stop list {stop_list.version} is not the one the timestamp names"
        )
    return stop_list


def verify_time(
    heartbeat: sync_pb2.ServerHeartbeat, root: release_pb2.TrustRoot, nonce: bytes
) -> int:
    """The server's time, Unix milliseconds (rule 13); `nonce` is the one of this stream's Hello.

    A root beyond its expiry is good enough for this: it may seem so only because the device's
    clock is wrong. Raises TrustError SIGNATURE.
    """
    if root.timestamp_keys:
        check_signatures(
            "time",
            time_message(nonce, heartbeat.server_time_ms),
            [heartbeat.signature],
            root.timestamp_keys,
            1,
            Limits(),
        )
    return heartbeat.server_time_ms


def time_message(nonce: bytes, server_time_ms: int) -> bytes:
    """The bytes that a signature of the time is over."""
    return TIME_PREFIX + nonce + struct.pack("<q", server_time_ms)


def root_role(root: release_pb2.TrustRoot) -> tuple[Sequence[bytes], int]:
    """The keys that sign the next root, and how many of them must (rule 2)."""
    if root.root_keys:
        return root.root_keys, root.root_threshold
    return root.release_keys, root.threshold


def _follow(
    root: release_pb2.TrustRoot, signed: release_pb2.SignedRoot, limits: Limits
) -> release_pb2.TrustRoot:
    """The root that `signed` holds, where it may follow `root`."""
    if len(signed.root) > limits.root_bytes:
        raise refuse(
            Refusal.TOO_LARGE,
            f"a trust root of {len(signed.root)} bytes; at most {limits.root_bytes}",
        )
    message = ROOT_PREFIX + signed.root
    check_signatures("root", message, signed.signatures, *root_role(root), limits)
    following = parse("root", release_pb2.TrustRoot, signed.root)
    if following == root:
        return root
    check_root(following, limits)
    if following.tenant != root.tenant:
        raise refuse(
            Refusal.TENANT,
            f"the trust root is for tenant {following.tenant!r}; this device belongs to "
            f"{root.tenant!r}",
        )
    if following.version != root.version + 1:
        raise refuse(
            Refusal.ROOT, f"trust root {following.version} cannot follow version {root.version}"
        )
    if (root.root_keys and not following.root_keys) or (
        root.timestamp_keys and not following.timestamp_keys
    ):
        raise refuse(Refusal.ROOT, f"trust root {following.version} gives up a role")
    check_signatures("root", message, signed.signatures, *root_role(following), limits)
    return following


def _statement(
    what: str,
    reason: Refusal,
    message: bytes,
    signatures: Sequence[release_pb2.ManifestSignature],
    root: release_pb2.TrustRoot,
    now_ms: int | None,
    seen: Stated,
    limits: Limits,
) -> Stated:
    """What the timestamp keys have signed in `message`, prefix included (rules 3 and 5 to 7).

    `now_ms` None: held already, whatever its age; `seen` has version 0 where nothing was.
    """
    check_root(root, limits)
    content = message.partition(b"\n")[2]
    most = limits.timestamp_bytes if reason is Refusal.TIMESTAMP else limits.stop_list_bytes
    if len(content) > most:
        raise refuse(Refusal.TOO_LARGE, f"the {what} has {len(content)} bytes; at most {most}")
    check_signatures(
        what, message, signatures, root.timestamp_keys, root.timestamp_threshold, limits
    )
    stated = parse(what, type(seen), content)
    if stated.tenant != root.tenant:
        raise refuse(
            Refusal.TENANT,
            f"the {what} is for tenant {stated.tenant!r}; this device belongs to {root.tenant!r}",
        )
    if now_ms is not None:
        check_root_age(root, now_ms)
    if stated.version < max(1, seen.version):
        raise refuse(
            reason, f"the {what} is version {stated.version}; this device has seen {seen.version}"
        )
    if stated.version == seen.version and stated != seen:
        raise refuse(reason, f"the {what} is version {seen.version} again, with other content")
    check_jump(what, stated.version, seen.version)
    return stated


def _same_role(one: release_pb2.TrustRoot, other: release_pb2.TrustRoot) -> bool:
    if one.timestamp_threshold != other.timestamp_threshold:
        return False
    return _sorted(one).timestamp_keys == _sorted(other).timestamp_keys


def _sorted(root: release_pb2.TrustRoot) -> release_pb2.TrustRoot:
    ordered = release_pb2.TrustRoot.FromString(root.SerializeToString())
    for keys in (ordered.release_keys, ordered.root_keys, ordered.timestamp_keys):
        keys.sort()
    return ordered
