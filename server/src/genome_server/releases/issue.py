"""The last step of every release, new or brought back: version, signature, row, timestamp."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from edge_sdk.errors import EdgeError
from edge_sdk.sync.signing import sign_manifest
from edge_sdk.sync.trust import verify_manifest
from genome_edge.v1 import release_pb2
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.home import Tenant
from genome_server.releases.keyring import here, missing_key, role_threshold
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import ReleaseRow, Store

_COUNTER: Final = "release"
#: How far devices may be ahead of the counter of a store that came from a backup.
_MOST_AHEAD: Final = 1_000
#: Releases for a share that may be out at the same time, of all channels.
_MOST_IN_FORCE: Final = 64


def issue(
    tenant: Tenant, store: Store, draft: release_pb2.Manifest, share: float = 1.0
) -> ReleaseRow:
    """Sign `draft` under the next version and put it in force for a share of its channel.

    Its parts must be in place. Raises Refused where a key is missing or a device would refuse it.
    """
    desk = TrustDesk(tenant, store)
    root = desk.root()
    keys = here(tenant, root, "release")
    if len(keys) < role_threshold(root, "release"):
        raise missing_key(tenant, root, "release")
    if len(store.releases_in_force()) >= _MOST_IN_FORCE:
        raise Refused(
            f"{_MOST_IN_FORCE} releases are in force; promote or roll back some of them first "
            "(genome-server releases list)"
        )
    with store.transaction():
        draft.version = _next_version(store)
        signed = sign_manifest(draft, keys)
        try:
            verify_manifest(signed, root, draft.created_ms, 0)
        except EdgeError as error:
            raise Refused(f"devices would refuse this release: {error}") from error
        row = ReleaseRow(
            version=draft.version,
            channel=draft.channel,
            created_ms=draft.created_ms,
            expires_ms=draft.expires_ms,
            manifest=signed.SerializeToString(),
            schema_epoch=draft.lineage.schema_epoch,
            share=share,
        )
        folder = tenant.releases_dir / str(row.version)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "manifest.pb", row.manifest)
        store.put_release(row)
    desk.look()
    return row


def trusted_now(row: ReleaseRow, root: release_pb2.TrustRoot) -> bool:
    """Whether a device that trusts `root` would take this release, its age aside."""
    signed = release_pb2.SignedManifest.FromString(row.manifest)
    try:
        verify_manifest(signed, root, 0, 0, held=True)
    except EdgeError:
        return False
    return True


def _next_version(store: Store) -> int:
    """The next version, above what devices say they have: the store may be from a backup."""
    version = store.next_counter(_COUNTER)
    told = [0]
    for device in store.devices():
        with suppress(TypeError, ValueError):
            told.append(int(device.status.get("release", 0)))
    highest = max(number for number in told if number <= version + _MOST_AHEAD)
    while version <= highest:
        version = store.next_counter(_COUNTER)
    return version
