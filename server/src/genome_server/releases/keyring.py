"""The private keys of a tenant by role, and the first root that names them.

A key's file is keys/ROLE.pem, or keys/ROLE-ID.pem where it came with a rotation. What counts is
the root: a file whose key the root does not name in that role signs nothing. Keys that are named
and have no file here are kept elsewhere; they sign with `genome-server keys sign`.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from edge_sdk.errors import StoreCorrupt, TrustError
from edge_sdk.sync.keys import DeviceKey
from edge_sdk.sync.roles import verify_roots
from edge_sdk.sync.signing import sign_root
from edge_sdk.sync.trust import key_id
from genome_edge.v1 import release_pb2
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.home import Tenant
from genome_server.store.protocol import Store

ROLES: Final = ("root", "release", "timestamp")
#: The kind under which the store keeps roots.
ROOT: Final = "root"


def role_keys(root: release_pb2.TrustRoot, role: str) -> list[bytes]:
    """The raw public keys of a role."""
    named = {
        "root": root.root_keys,
        "release": root.release_keys,
        "timestamp": root.timestamp_keys,
    }
    return list(named[role])


def role_threshold(root: release_pb2.TrustRoot, role: str) -> int:
    """How many signatures a role's statements need."""
    thresholds = {
        "root": root.root_threshold,
        "release": root.threshold,
        "timestamp": root.timestamp_threshold,
    }
    return thresholds[role]


def here(tenant: Tenant, root: release_pb2.TrustRoot, role: str) -> list[DeviceKey]:
    """The private keys of a role that are here, in the order of the root.

    Raises Refused where a file that ought to be a key is none.
    """
    found: dict[bytes, DeviceKey] = {}
    # Those that were retired count, too, while a restored store knows no newer root.
    retired = sorted((tenant.keys_dir / "retired").glob(f"{role}*.pem"))
    for path in [*retired, *sorted(tenant.keys_dir.glob(f"{role}*.pem"))]:
        try:
            key = DeviceKey.load(path)
        except StoreCorrupt as error:
            raise Refused(str(error)) from error
        found[key.public] = key
    return [found[public] for public in role_keys(root, role) if public in found]


def first_roots(tenant: Tenant, store: Store, now_ms: int) -> list[release_pb2.SignedRoot]:
    """Make the roots that a tenant begins with, and the keys that are missing for them.

    A tenant whose devices trust releases by the release key alone (a root of the first kind)
    gets a second root with all roles, signed by that key. Raises Refused where it is gone.
    """
    used = bool(store.releases() or store.devices())
    path = tenant.release_key_path
    if used and not path.exists():
        raise Refused(
            f"{path} is missing, and devices go by it; restore it from your backup "
            "(a new key would lock them out)"
        )
    try:
        release = DeviceKey.load_or_create(path)
        root_key = DeviceKey.load_or_create(tenant.root_key_path)
        timestamp = DeviceKey.load_or_create(tenant.timestamp_key_path)
    except StoreCorrupt as error:
        raise Refused(str(error)) from error
    first = release_pb2.TrustRoot(
        tenant=tenant.name, version=1, release_keys=[release.public], threshold=1
    )
    whole = release_pb2.TrustRoot()
    whole.CopyFrom(first)
    whole.root_keys.append(root_key.public)
    whole.root_threshold = 1
    whole.timestamp_keys.append(timestamp.public)
    whole.timestamp_threshold = 1
    whole.created_ms = now_ms
    if not used:
        return [sign_root(whole, [root_key])]
    whole.version = 2
    return [sign_root(first, [release]), sign_root(whole, [release, root_key])]


def ensure_roots(tenant: Tenant, store: Store, now_ms: int) -> None:
    """Make and keep the first roots where the store has none; take those it forgot.

    A store that came back from a backup may know an older root than keys/roots has. Raises Refused.
    """
    if not store.trusted(ROOT):
        tenant.keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with store.transaction():
            if not store.trusted(ROOT):  # another process may have been faster
                for signed in first_roots(tenant, store, now_ms):
                    keep_root(tenant, store, signed)
    root = current_root(store)
    while (path := tenant.roots_dir / f"{root.version + 1}.pb").is_file():
        try:
            signed = release_pb2.SignedRoot.FromString(path.read_bytes())
            root = verify_roots(root, [signed], 0)
        except (TrustError, DecodeError) as error:
            raise Refused(
                f"{path} does not follow the root that the store knows ({error}); move it away if "
                "it is of another tenant"
            ) from error
        with store.transaction():
            if current_root(store).version < root.version:
                keep_root(tenant, store, signed)


def keep_root(tenant: Tenant, store: Store, signed: release_pb2.SignedRoot) -> None:
    """Put a root in force: in the store, and first beside the keys. Inside a transaction."""
    version = release_pb2.TrustRoot.FromString(signed.root).version
    content = signed.SerializeToString()
    tenant.roots_dir.mkdir(exist_ok=True, mode=0o700)
    write_whole(tenant.roots_dir / f"{version}.pb", content)
    store.put_trusted(ROOT, version, content)


def current_root(store: Store) -> release_pb2.TrustRoot:
    """The newest root. Raises Refused where there is none."""
    roots = store.trusted(ROOT)
    if not roots:
        raise Refused("there are no keys yet; run: genome-server init")
    return release_pb2.TrustRoot.FromString(release_pb2.SignedRoot.FromString(roots[-1]).root)


def missing_roles(tenant: Tenant, store: Store) -> list[str]:
    """The roles of which too few keys are here to do what a server does every day."""
    if not store.trusted(ROOT):
        return [] if tenant.release_key_path.is_file() else ["release"]
    root = current_root(store)
    return [
        role
        for role in ("release", "timestamp")
        if len(here(tenant, root, role)) < role_threshold(root, role)
    ]


def missing_key(tenant: Tenant, root: release_pb2.TrustRoot, role: str) -> Refused:
    """The error for a role that cannot sign here."""
    names = ", ".join(key_id(key) for key in role_keys(root, role))
    return Refused(
        f"{tenant.keys_dir} holds too few keys of the role {role!r} (it has {names}, of which "
        f"{role_threshold(root, role)} must sign); restore them from your backup, or replace "
        f"what is lost with: genome-server keys rotate {role}"
    )
