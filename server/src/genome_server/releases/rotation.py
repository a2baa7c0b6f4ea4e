"""The next root: draft it, collect signatures here and elsewhere, put it in force.

A root is signed by enough root keys of the one before it and by enough of its own. Where those
that are here do not suffice, the draft waits in keys/next-root.pb: it is exported, signed where
the other keys are (`sign_file` needs no tenant), and imported.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from edge_sdk.errors import StoreCorrupt, TrustError
from edge_sdk.sync.keys import DeviceKey
from edge_sdk.sync.roles import ROOT_PREFIX, root_role
from edge_sdk.sync.signing import sign_root, signatures
from edge_sdk.sync.trust import Limits, check_root, check_signatures, key_id
from genome_edge.v1 import release_pb2
from genome_server.errors import Refused, UsageError
from genome_server.files import write_whole
from genome_server.home import Tenant
from genome_server.releases.features import Need, devices_lacking
from genome_server.releases.issue import trusted_now
from genome_server.releases.keyring import ROLES, here, role_keys, role_threshold
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import Store
from genome_server.times import DAY_MS

_ROLES = "trust-roles-1"


@dataclass(frozen=True)
class Wanted:
    """How a role shall change. `add` is a raw public key (32 bytes) that is kept elsewhere.

    With `new`, a key is made here. `retire` has key ids; without it a new key takes the place of
    the one that is here. `threshold` 0 and `expires_days` 0: as it is.
    """

    role: str
    new: bool = True
    add: bytes | None = None
    retire: Sequence[str] = ()
    threshold: int = 0
    expires_days: float = 0


@dataclass(frozen=True)
class Drafted:
    """A root on its way: in force, or `lacking` signatures, in words.

    `unsigned` are the releases in force that no device will take any more that lacks them;
    `staying` how many devices cannot follow any root, because their SDK knows no roles.
    """

    root: release_pb2.TrustRoot
    lacking: tuple[str, ...] = ()
    unsigned: tuple[int, ...] = ()
    staying: int = 0


def rotate(tenant: Tenant, store: Store, wanted: Wanted) -> Drafted:
    """Draft the next root with one role changed, sign it with what is here, use it if that does.

    A draft that waited is replaced. Raises UsageError for a change that makes no sense, Refused
    where devices would not follow.
    """
    desk = TrustDesk(tenant, store)
    old = desk.root()
    role = wanted.role
    keys = role_keys(old, role)
    retired = [_named(old, role, one) for one in wanted.retire]
    if wanted.new and not retired and not wanted.add:
        retired = [_replaced(tenant, old, role)]
    keys = [key for key in keys if key not in retired]
    made = None
    if wanted.add is not None:
        keys.append(wanted.add)
    elif wanted.new:
        made = DeviceKey.generate()
        keys.append(made.public)
    if not keys:
        raise UsageError(f"the role {role!r} would have no key any more; add one with --add")
    threshold = wanted.threshold or min(role_threshold(old, role), max(1, len(keys)))
    if role == "timestamp" and threshold > 1:
        raise UsageError("timestamps are signed by the running server alone: its threshold is 1")
    root = _changed(old, role, keys, threshold)
    if wanted.expires_days:
        root.expires_ms = root.created_ms + round(wanted.expires_days * DAY_MS)
    elif 0 < root.expires_ms <= root.created_ms:
        raise UsageError(
            f"root {old.version} has expired; say how long the next lasts: --expires-days"
        )
    try:
        check_root(root)
    except TrustError as error:
        raise UsageError(f"this would be no root that devices take: {error}") from error
    if made is not None:
        made.save(tenant.keys_dir / f"{role}-{key_id(made.public)}.pem")
    return _proceed(tenant, store, desk, sign_root(root, _signers(tenant, old, root)))


def sign_file(path: Path, key_path: Path) -> tuple[release_pb2.TrustRoot, bool]:
    """Add a key's signature to an exported root; needs no tenant.

    Returns the root, and whether it names the key itself (else it counts only if the root before
    did). Raises Refused for a file that is no root or no key.
    """
    signed, root = read_root(path)
    try:
        key = DeviceKey.load(key_path)
    except (StoreCorrupt, OSError) as error:
        raise Refused(f"{key_path} holds no key that can sign: {error}") from error
    kept = [one for one in signed.signatures if one.key_id != key_id(key.public)]
    added = signatures(ROOT_PREFIX + signed.root, [key])
    write_whole(
        path,
        release_pb2.SignedRoot(root=signed.root, signatures=[*kept, *added]).SerializeToString(),
    )
    return root, key.public in root.root_keys


def export_root(tenant: Tenant, store: Store, path: Path) -> tuple[release_pb2.TrustRoot, bool]:
    """Write the root that waits for signatures, else the newest; says whether it waits."""
    if tenant.next_root_path.exists():
        signed, root = read_root(tenant.next_root_path)
        waits = True
    else:
        signed = TrustDesk(tenant, store).roots_after(0)[-1]
        root, waits = release_pb2.TrustRoot.FromString(signed.root), False
    write_whole(path, signed.SerializeToString())
    return root, waits


def import_root(tenant: Tenant, store: Store, path: Path) -> Drafted:
    """Take a root that was signed elsewhere; in force once it has signatures enough.

    Raises Refused where it does not follow the newest root.
    """
    signed, root = read_root(path)
    desk = TrustDesk(tenant, store)
    old = desk.root()
    if root.tenant != tenant.name or root.version != old.version + 1:
        raise Refused(
            f"{path} holds root {root.version} of tenant {root.tenant!r}; what follows here is "
            f"root {old.version + 1} of {tenant.name!r}"
        )
    every = list(signed.signatures)
    if tenant.next_root_path.exists():
        waiting, _ = read_root(tenant.next_root_path)
        if waiting.root == signed.root:
            every += waiting.signatures
    keys = [*root_role(old)[0], *root_role(root)[0]]
    good = {one.key_id: one for one in every if _good(signed, one, keys)}
    if not good:
        raise Refused(f"{path} has no good signature of a root key; export and sign it again")
    return _proceed(
        tenant, store, desk, release_pb2.SignedRoot(root=signed.root, signatures=good.values())
    )


def read_root(path: Path) -> tuple[release_pb2.SignedRoot, release_pb2.TrustRoot]:
    """Read an exported root. Raises Refused."""
    try:
        content = path.read_bytes()
        signed = release_pb2.SignedRoot.FromString(content)
        root = release_pb2.TrustRoot.FromString(signed.root)
        check_root(root)
    except FileNotFoundError:
        raise Refused(f"there is no file {path}") from None
    except (DecodeError, TrustError) as error:
        raise Refused(f"{path} is no exported root: {error}") from error
    return signed, root


def _proceed(
    tenant: Tenant, store: Store, desk: TrustDesk, signed: release_pb2.SignedRoot
) -> Drafted:
    """Put a root in force if it has signatures enough, else let it wait."""
    root = release_pb2.TrustRoot.FromString(signed.root)
    lacking = tuple(
        f"{needed - good} more of {whose}: {', '.join(key_id(key) for key in keys)}"
        for whose, keys, needed, good in _counted(desk.root(), root, signed)
        if good < needed
    )
    if lacking:
        write_whole(tenant.next_root_path, signed.SerializeToString())
        return Drafted(root, lacking)
    desk.adopt(signed)
    tenant.next_root_path.unlink(missing_ok=True)
    _put_away(tenant, root)
    left = [row.version for row in store.releases_in_force() if not trusted_now(row, root)]
    lacking_roles = devices_lacking(store, {_ROLES: Need(release=True, offers=0)}).by_feature
    staying = lacking_roles[_ROLES][1] if lacking_roles else 0
    return Drafted(root, unsigned=tuple(left), staying=staying)


def _counted(
    old: release_pb2.TrustRoot, new: release_pb2.TrustRoot, signed: release_pb2.SignedRoot
) -> list[tuple[str, Sequence[bytes], int, int]]:
    """Whose signatures are needed: keys, how many, and how many there are."""
    counted = []
    for whose, root in ((f"root {old.version}", old), (f"root {new.version}", new)):
        keys, needed = root_role(root)
        good = sum(_good(signed, one, keys) for one in signed.signatures)
        counted.append((whose, keys, needed, good))
    return counted


def _good(
    signed: release_pb2.SignedRoot, one: release_pb2.ManifestSignature, keys: Sequence[bytes]
) -> bool:
    try:
        check_signatures("root", ROOT_PREFIX + signed.root, [one], keys, 1, Limits())
    except TrustError:
        return False
    return True


def _signers(
    tenant: Tenant, old: release_pb2.TrustRoot, new: release_pb2.TrustRoot
) -> list[DeviceKey]:
    return [*here(tenant, old, "root"), *here(tenant, new, "root")]


def _changed(
    old: release_pb2.TrustRoot, role: str, keys: Sequence[bytes], threshold: int
) -> release_pb2.TrustRoot:
    root = release_pb2.TrustRoot()
    root.CopyFrom(old)
    root.version = old.version + 1
    root.created_ms = time.time_ns() // 1_000_000
    match role:
        case "root":
            root.root_keys[:] = keys
            root.root_threshold = threshold
        case "release":
            root.release_keys[:] = keys
            root.threshold = threshold
        case _:
            root.timestamp_keys[:] = keys
            root.timestamp_threshold = threshold
    return root


def _named(root: release_pb2.TrustRoot, role: str, name: str) -> bytes:
    found = [key for key in role_keys(root, role) if name and key_id(key).startswith(name)]
    if len(found) != 1:
        known = ", ".join(key_id(key) for key in role_keys(root, role))
        raise UsageError(f"{name!r} names no one key of the role {role!r}; it has {known}")
    return found[0]


def _replaced(tenant: Tenant, root: release_pb2.TrustRoot, role: str) -> bytes:
    """The key whose place a new one takes: the one that is here, or the only one there is."""
    candidates = [key.public for key in here(tenant, root, role)] or role_keys(root, role)
    if len(candidates) != 1:
        known = ", ".join(key_id(key) for key in candidates)
        raise UsageError(f"say which key goes: --retire KEY, one of {known}")
    return candidates[0]


def _put_away(tenant: Tenant, root: release_pb2.TrustRoot) -> None:
    """Move the keys that the root does not name any more to keys/retired."""
    named = {key for role in ROLES for key in role_keys(root, role)}
    for role in ROLES:
        for path in tenant.keys_dir.glob(f"{role}*.pem"):
            public = DeviceKey.load(path).public
            if public not in named:
                retired = tenant.keys_dir / "retired"
                retired.mkdir(mode=0o700, exist_ok=True)
                path.rename(retired / f"{role}-{key_id(public)}.pem")
