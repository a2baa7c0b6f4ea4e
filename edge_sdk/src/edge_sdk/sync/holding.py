"""What a device says that it holds when a stream opens, read from its store."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from edge_sdk.errors import StoreCorrupt, StoreError
from edge_sdk.sync import trust
from edge_sdk.sync.actions import Held
from edge_sdk.version import sdk_version
from genome_edge.v1 import release_pb2

if TYPE_CHECKING:
    from edge_sdk.store.device import DeviceStore

log = logging.getLogger(__name__)


def holding(store: DeviceStore, *, wants_genomes: bool, all_rows: bool) -> Held:
    """What the store holds; `all_rows`: as if it held no genome rows. Raises StoreError."""
    try:
        store.finish_erasing()
    except StoreError as error:  # the next stream tries again; news must come all the same
        log.warning("files that somebody was erased from cannot be rewritten: %s", error)
    manifest, digest = _active(store)
    highest = store.highest_seen()
    version = manifest.version if manifest is not None else 0
    return Held(
        standing=store.standing(),
        epoch=store.epoch(),
        sdk_version=sdk_version(),
        nonce=secrets.token_bytes(16),
        active=manifest,
        active_digest=digest,
        highest_release=highest,
        seen_digest=digest if version and version == highest else store.seen_digest(),
        failed=store.failed_release(),
        parts=frozenset(store.held_parts()),
        partials=store.partials(),
        genome_cursor=store.genome_cursor(),
        genome_lineage=None if all_rows else store.genome_lineage(),
        wants_genomes=wants_genomes,
    )


def _active(store: DeviceStore) -> tuple[release_pb2.Manifest | None, bytes]:
    """The manifest of the active release and its digest; a damaged one is none."""
    stored = store.active_release()
    if stored is None:
        return None, b""
    try:
        return stored.manifest, trust.manifest_digest(stored.signed)
    except StoreCorrupt:
        return None, b""
