"""From what is on disk, or came with the app, to a release that decisions can be made from.

Only what is whole is used: a release that cannot be read gives way to the one before it, and that
to none; what was wrong is said. A model that cannot be opened is another matter: its release still
knows which offers are eligible, and decides with equal values until a better one comes.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import rows_from_block
from edge_sdk.engine.compiled import Frozen, freeze
from edge_sdk.engine.release import Bundle, Release, load_bundle
from edge_sdk.engine.withheld import InForce
from edge_sdk.errors import EdgeError, StoreCorrupt, TrustError
from edge_sdk.messages import release_pb2
from edge_sdk.store import compiled as compiled_files
from edge_sdk.store.device import DeviceStore, StoredRelease
from edge_sdk.store.genomes import GenomeView, pack_row
from edge_sdk.sync import trust
from edge_sdk.sync.installing import load, read_parts

if TYPE_CHECKING:
    from edge_sdk.sync.roles import Standing

log = logging.getLogger("edge_sdk")


class Loaded(NamedTuple):
    """A release, or none, what was wrong on the way, and under which key it is to be kept in its
    compiled form; None: it is kept, or it should not be."""

    release: Release | None
    cause: EdgeError | None
    key: bytes | None = None


def load_stored(store: DeviceStore) -> Loaded:
    """The active release of a store, or the last one that can be used.

    One that cannot be read is given up in the store, so that the next sync brings it anew. Raises
    StoreError where the store itself cannot be read.
    """
    cause: EdgeError | None = None
    stored = store.active_release()
    while stored is not None:
        try:
            release, key = _read(store, stored)
            return Loaded(release, cause, key)
        except (TrustError, StoreCorrupt) as error:
            cause = cause or error
            stored = store.release_failed(stored.version)
    return Loaded(None, cause)


def proven(store: DeviceStore, loaded: Loaded) -> Loaded:
    """What to decide from once the golden vectors were tried in this process, after the swap.

    A release that fails here gives way to the one before it where that does better; the store
    remembers why, so that the server is told and it is not taken again. Raises StoreError.
    """
    release, previous = loaded.release, store.previous_release()
    failure = _tried(release) if release is not None else None
    if release is None or failure is None or previous is None:
        kept = loaded.key if failure is None else None
        return Loaded(release, failure or loaded.cause, kept)
    try:
        earlier, _ = _read(store, previous)
    except (TrustError, StoreCorrupt):
        return Loaded(release, failure)
    if _tried(earlier) is not None:  # nothing is gained: it is this device, not the release
        return Loaded(release, failure)
    store.release_failed(release.version, str(failure))
    return Loaded(earlier, failure)


def _tried(release: Release) -> TrustError | None:
    try:
        release.check_golden()
    except TrustError as error:
        return error
    return None


def warm(release: Release) -> TrustError | None:
    """Open the model and decide a few times, so that the first decision does not have to wait.

    Returns why the model cannot be opened; decisions are UNSCORED then.
    """
    from edge_sdk.runtime.rehearsal import rehearse  # who only loads does not need it

    trouble: TrustError | None = None
    try:
        release.warm()
    except TrustError as error:
        trouble = error
    rehearse(release)
    return trouble


def _read(store: DeviceStore, stored: StoredRelease) -> tuple[Release, bytes | None]:
    """A release of the store, and the key to keep it under; None where it is kept.

    Raises TrustError, StoreCorrupt, StoreError.
    """
    key = key_of(stored)
    body = compiled_files.read(store.path, key)
    release = None if body is None else _thawed(store, stored, body)
    if release is not None:
        return release, None
    if body is not None:
        compiled_files.drop(store.path, key)
    manifest = stored.manifest
    parts = read_parts(store.read_part, manifest)
    return Release.from_parts(manifest, parts, assets=assets_of(store, manifest)), key


def key_of(stored: StoredRelease) -> bytes:
    """Under which key a release of a store is kept in its compiled form."""
    return compiled_files.key_of(stored.signed_manifest)


def _thawed(store: DeviceStore, stored: StoredRelease, body: memoryview) -> Release | None:
    """A release from its compiled form; None where that cannot be read. Its parts are verified as
    ever. Raises TrustError, StoreCorrupt, StoreError."""
    try:
        frozen = Frozen(body)
        manifest = frozen.manifest
        if manifest.version != stored.version:
            raise ValueError(f"it is of release {manifest.version}")
    except Exception as error:  # noqa: BLE001 it is worked out anew, whatever is wrong with it
        log.warning("a compiled release cannot be read: %s", error)
        return None
    parts = read_parts(store.read_part, manifest)
    try:
        return frozen.release(parts, assets_of(store, manifest))
    except Exception as error:  # noqa: BLE001 as above
        log.warning("a compiled release cannot be read: %s", error)
        return None


def prepare() -> None:
    """Load what writing and later decisions need, before they do: see `EdgeClient.before_fork`."""
    import edge_sdk.outbox.encoding
    import edge_sdk.outbox.redeeming
    import edge_sdk.runtime.earlier  # noqa: F401


def keep_compiled(store: DeviceStore, release: Release, key: bytes) -> None:
    """Keep a release for the next process in its compiled form, and that of no other release but
    the one before. Never raises: it is for speed only."""
    try:
        compiled_files.write(store.path, key, partial(freeze, release))
        previous = store.previous_release()
        held = [compiled_files.key_of(previous.signed_manifest)] if previous is not None else []
        compiled_files.keep_only(store.path, [key, *held])
    except Exception:
        log.exception("a release could not be compiled; the next process works it out again")


def assets_of(store: DeviceStore, manifest: release_pb2.Manifest) -> dict[str, Path]:
    """Where the files are that offers refer to by name: the parts that are no part of deciding."""
    return {
        part.name: store.part_path(part.sha256)
        for part in manifest.parts
        if part.name not in trust.KNOWN_PARTS
    }


def in_force(store: DeviceStore, standing: Standing, release: Release | None) -> InForce:
    """What holds for a release of a store. Raises StoreError."""
    held = with_files(release)
    fresh: tuple[int, int] | None = None
    stored = store.active_release()
    if release is not None and stored is not None and stored.version == release.version:
        manifest = release.manifest
        held = store.assets_held(manifest).union(p.name for p in manifest.parts if not p.asset)
        fresh = int(manifest.created_ms), int(manifest.expires_ms)
        if standing.timestamp is not None:
            fresh = fresh_span(stored, standing)
    said_ms = int(standing.timestamp.created_ms) if standing.timestamp is not None else 0
    return InForce(standing.stopped, standing.stop_list_version, held, fresh, said_ms)


def with_files(release: Release | None) -> frozenset[str]:
    """Of a release that is in no store (a bundle's, in memory): the files that it has here."""
    return frozenset(release.assets if release is not None else ())


def fresh_span(stored: StoredRelease, standing: Standing) -> tuple[int, int]:
    """From when, and until when, a release is fresh by the newest that vouches for it."""
    manifest = stored.manifest
    signed = release_pb2.SignedManifest.FromString(stored.signed_manifest)
    expires_ms, digest = int(manifest.expires_ms), trust.manifest_digest(signed)
    until_ms = standing.fresh_until(stored.version, digest, expires_ms)
    if until_ms == expires_ms or standing.timestamp is None:
        return int(manifest.created_ms), expires_ms
    return int(standing.timestamp.created_ms), until_ms


def read_bundle(bundle: Path | bytes) -> bytes:
    """The bytes of a bundle. Raises TrustError where the file cannot be read."""
    if isinstance(bundle, bytes):
        return bundle
    try:
        return bundle.read_bytes()
    except OSError as error:
        cause = error.strerror or str(error)
        raise TrustError(f"the bundle {bundle} cannot be read: {cause}") from error


def version_of(data: bytes) -> int:
    """The version of the release in a bundle, before anything about it is verified: enough to see
    that it is not needed. Raises TrustError."""
    try:
        bundle = release_pb2.Bundle.FromString(data)
        return int(release_pb2.Manifest.FromString(bundle.manifest.manifest).version)
    except DecodeError as error:
        raise TrustError("this is not a bundle", trust.Refusal.FORMAT) from error


def open_bundle(data: bytes, store: DeviceStore | None) -> tuple[Bundle, Release]:
    """Verify a bundle and build its release; under the root that is in force where the device is
    enrolled, so that keys which were given up open no door.

    Raises TrustError, StoreError.
    """
    enrolled = store is not None and store.identity() is not None
    root = store.standing().root if store is not None and enrolled else None
    bundle = load_bundle(data, root)
    manifest = release_pb2.Manifest.FromString(bundle.signed.manifest)
    return bundle, load(manifest, bundle.parts)


def keep_bundle(store: DeviceStore, bundle: Bundle, manifest: release_pb2.Manifest) -> None:
    """Put a bundle into the store as if it had been synced. For the syncing process.

    Its genomes are taken only where no sync ever brought any. Raises StoreError.
    """
    for part in manifest.parts:
        store.stage_part(part.sha256, bundle.parts[part.name])
    _keep_trust(store, bundle)
    store.commit_release(bundle.signed.SerializeToString(), manifest.version)
    if bundle.blocks and not store.genome_cursor():
        store.commit_genomes(full=True, lineage=manifest.lineage, blocks=bundle.blocks, cursor=b"")


def _keep_trust(store: DeviceStore, bundle: Bundle) -> None:
    """Its root is that of a device that is not enrolled yet; its timestamp counts where newer."""
    standing, timestamp = store.standing(), bundle.timestamp
    anew = store.identity() is None and standing.root != bundle.root
    if timestamp is not None and standing.timestamp is not None and not anew:
        said = release_pb2.Timestamp.FromString(timestamp.timestamp)
        timestamp = timestamp if said.version > standing.timestamp.version else None
    if anew or timestamp is not None:
        store.put_trust(bundle.root if anew else None, timestamp)


def view_of(bundle: Bundle, manifest: release_pb2.Manifest) -> GenomeView:
    """The genomes of a bundle in memory, where no store can take them. Raises FormatError."""
    rows = [row for block in bundle.blocks for row in rows_from_block(block)]
    patches: dict[bytes, bytes | int] = {row.subject: pack_row(row) for row in rows}
    return GenomeView(lineage=manifest.lineage, count=len(rows), patches=patches)
