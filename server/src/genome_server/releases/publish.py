"""Publishing: parts → golden vectors → manifest → signature → what devices are given.

Theory. Parts lie in parts/ under their SHA-256, so that releases share what they have in
common. A release is published by one row in the store, written last, in the transaction
that took its version: before it nothing refers to the files, after it everything is there.
Nothing is signed that a device would refuse, see `check`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.errors import EdgeError
from edge_sdk.sync.keys import DeviceKey
from edge_sdk.sync.trust import FEATURES, FORMAT, MANIFEST_PREFIX, key_id, verify_manifest
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.genomes.rows import built_schema
from genome_server.home import Tenant
from genome_server.learning.export import ExportError, ModelFacts, model_facts, untrained_model
from genome_server.learning.models import current_model
from genome_server.releases.assemble import assemble
from genome_server.releases.check import check_parts, load_as_device, references
from genome_server.releases.golden import golden_vectors
from genome_server.store.protocol import ReleaseRow, Store

DEFAULT_EXPIRES_DAYS = 30
DEFAULT_CHANNEL = "stable"
_DAY_MS = 24 * 3_600_000
_COUNTER = "release"


@dataclass(frozen=True)
class Published:
    """What came of it.

    `release` is the release that devices are now given: a new one, the one from before
    where `unchanged`, or what would have been published (version 0) with a dry run.
    `changed` names the parts that differ from the release before; `notes` are sentences
    on what looks wrong but does not stop a release.
    """

    release: ReleaseRow
    manifest: release_pb2.Manifest
    changed: tuple[str, ...]
    unchanged: bool
    model: str
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.manifest.parts)


def publish(
    tenant: Tenant,
    *,
    channel: str = DEFAULT_CHANNEL,
    expires_days: float = DEFAULT_EXPIRES_DAYS,
    untrained: bool = False,
    dry_run: bool = False,
    now_ms: int | None = None,
) -> Published:
    """Publish what the store holds, with the newest model.

    Nothing is published where nothing changed and the release in force still has half of
    `expires_days` before it. Raises Refused where genomes were never built, where there is
    no model (unless `untrained`) or no placement, and where a device would refuse.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    with closing(tenant.open_store()) as store:
        key = release_key(tenant)
        schema = built_schema(store)
        if schema is None:
            raise Refused("there are no genomes yet; run: genome-server build")
        model, model_name = _model(tenant, store, untrained=untrained)
        parts = assemble(store, schema, model, dry_run=dry_run)
        check_parts(parts)
        if not release_pb2.PlacementList.FromString(parts["placements"]).placements:
            raise Refused(
                "there is no placement, so nothing could be decided; "
                "run: genome-server import placements FILE"
            )
        draft = _manifest(tenant, schema, parts, channel=channel)
        release = load_as_device(draft, parts)
        parts["golden"] = golden_vectors(release).SerializeToString(deterministic=True)
        draft = _manifest(tenant, schema, parts, channel=channel)
        draft.created_ms = now_ms
        draft.expires_ms = now_ms + round(expires_days * _DAY_MS)
        load_as_device(draft, parts)
        notes = tuple(references(parts))
        before = store.release(channel=channel)
        known = manifest_of(before) if before is not None else release_pb2.Manifest()
        changed = _changed(known, draft)
        fresh = known.expires_ms - now_ms >= (draft.expires_ms - now_ms) / 2
        if not dry_run:
            _write_parts(tenant, draft, parts)
        if before is not None and fresh and _content(known) == _content(draft):
            return Published(before, known, (), True, model_name, notes)
        if dry_run:
            row = ReleaseRow(0, channel, now_ms, draft.expires_ms, b"", schema.epoch)
            return Published(row, draft, changed, False, model_name, notes)
        row = _put(tenant, store, key, draft)
        return Published(row, manifest_of(row), changed, False, model_name, notes)


def release_key(tenant: Tenant) -> DeviceKey:
    """Return the key that signs a tenant's releases. Raises Refused where it is missing."""
    path = tenant.release_key_path
    try:
        return DeviceKey.load(path)
    except FileNotFoundError:
        raise Refused(f"{path} is missing; restore the tenant's keys from your backup") from None
    except EdgeError as error:
        raise Refused(str(error)) from error


def trust_root(tenant: Tenant, key: DeviceKey) -> release_pb2.TrustRoot:
    """Return what devices of a tenant trust releases by."""
    return release_pb2.TrustRoot(
        tenant=tenant.name, version=1, release_keys=[key.public], threshold=1
    )


def manifest_of(row: ReleaseRow) -> release_pb2.Manifest:
    """Return the manifest of a published release."""
    signed = release_pb2.SignedManifest.FromString(row.manifest)
    return release_pb2.Manifest.FromString(signed.manifest)


def part_content(tenant: Tenant, part: release_pb2.Part) -> bytes:
    """Return the bytes of a part. Raises Refused where they are gone or altered."""
    path = tenant.parts_dir / part.sha256.hex()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Refused(f"part {part.name!r} is gone: {path}") from None
    if hashlib.sha256(content).digest() != part.sha256:
        raise Refused(f"part {part.name!r} is damaged: {path}")
    return content


def _model(tenant: Tenant, store: Store, *, untrained: bool) -> tuple[bytes, str]:
    """Return the model to publish and its name."""
    vocabulary = store.vocabulary()
    if untrained:
        # It knows no marker, so that it stays the same while the vocabulary grows.
        return untrained_model(ModelFacts(vocabulary.lineage, vocabulary_size=0)), "untrained"
    model = current_model(tenant.models_dir, store)
    if model is None:
        raise Refused(
            "there is no model yet; run: genome-server train "
            "(or publish --untrained, which values every offer the same)"
        )
    try:
        facts = model_facts(model.content)
    except ExportError as error:
        raise Refused(f"model {model.id} cannot be published: {error}") from error
    if facts["vocabulary_lineage"] != vocabulary.lineage.hex():
        raise Refused(
            f"model {model.id} was trained on another vocabulary; run: genome-server train"
        )
    return model.content, model.id


def _manifest(
    tenant: Tenant, schema: DnaSchema, parts: Mapping[str, bytes], *, channel: str
) -> release_pb2.Manifest:
    """Return a manifest without version and times."""
    placements = release_pb2.PlacementList.FromString(parts["placements"]).placements
    needed = {"offer-model-1", f"quantiser-{schema.quantiser}"}
    needed |= {p.explorer for p in placements if p.explorer in FEATURES}
    vocabulary = Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(parts["vocabulary"]))
    return release_pb2.Manifest(
        format=FORMAT,
        tenant=tenant.name,
        channel=channel,
        required_features=sorted(needed),
        lineage=schema.lineage(vocabulary),
        parts=[
            release_pb2.Part(name=name, size=len(content), sha256=hashlib.sha256(content).digest())
            for name, content in parts.items()
        ],
    )


def _content(manifest: release_pb2.Manifest) -> bytes:
    """Return what a release is, without its number and its times."""
    bare = release_pb2.Manifest()
    bare.CopyFrom(manifest)
    for field in ("version", "created_ms", "expires_ms"):
        bare.ClearField(field)
    return bare.SerializeToString(deterministic=True)


def _changed(before: release_pb2.Manifest, after: release_pb2.Manifest) -> tuple[str, ...]:
    known = {part.name: part.sha256 for part in before.parts}
    return tuple(part.name for part in after.parts if known.get(part.name) != part.sha256)


def _write_parts(
    tenant: Tenant, manifest: release_pb2.Manifest, parts: Mapping[str, bytes]
) -> None:
    """Write the parts that are not there as they should be: also what was lost or damaged."""
    tenant.parts_dir.mkdir(parents=True, exist_ok=True)
    for part in manifest.parts:
        path = tenant.parts_dir / part.sha256.hex()
        if not path.is_file() or path.read_bytes() != parts[part.name]:
            write_whole(path, parts[part.name])


def _put(
    tenant: Tenant,
    store: Store,
    key: DeviceKey,
    draft: release_pb2.Manifest,
) -> ReleaseRow:
    """Write manifest and row under the next version."""
    with store.transaction():
        draft.version = store.next_counter(_COUNTER)
        signed = _sign(draft, key)
        _verify(signed, trust_root(tenant, key), draft)
        row = ReleaseRow(
            version=draft.version,
            channel=draft.channel,
            created_ms=draft.created_ms,
            expires_ms=draft.expires_ms,
            manifest=signed.SerializeToString(),
            schema_epoch=draft.lineage.schema_epoch,
        )
        folder = tenant.releases_dir / str(row.version)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "manifest.pb", row.manifest)
        store.put_release(row)
    return row


def _sign(manifest: release_pb2.Manifest, key: DeviceKey) -> release_pb2.SignedManifest:
    content = manifest.SerializeToString(deterministic=True)
    signature = release_pb2.ManifestSignature(
        key_id=key_id(key.public), signature=key.sign(MANIFEST_PREFIX + content)
    )
    return release_pb2.SignedManifest(manifest=content, signatures=[signature])


def _verify(
    signed: release_pb2.SignedManifest,
    root: release_pb2.TrustRoot,
    draft: release_pb2.Manifest,
) -> None:
    """Check the signed manifest by the rules of devices: sizes, features, times."""
    try:
        verify_manifest(signed, root, draft.created_ms, 0)
    except EdgeError as error:
        raise Refused(f"devices would refuse this release: {error}") from error
