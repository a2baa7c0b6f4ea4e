"""Publishing: parts → golden vectors → manifest → signature → what devices are given.

Theory. Parts lie in parts/ under their SHA-256, so that releases share what they have in
common. A release is published by one row in the store, written last, in the transaction
that took its version: before it nothing refers to the files, after it everything is there.
Nothing is signed that a device would refuse, see `check`. What was read is compared in that
transaction with what is there by then: the gate takes its time, and who began earlier must not undo
what came out, or was imported, meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.offers import rings_of
from edge_sdk.sync.trust import FEATURES, FORMAT
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.canary.kept import begin
from genome_server.canary.reach import reach
from genome_server.canary.rules import Bounds
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.genomes.rows import needed_schema
from genome_server.home import Tenant
from genome_server.ingest.assets import asset_path
from genome_server.models.shelf import model_in
from genome_server.releases.assemble import assemble, without_offers
from genome_server.releases.check import (
    check_parts,
    load_as_device,
    references,
    refuse_placements,
    refuse_unfit,
    unfit,
)
from genome_server.releases.features import Lacking, devices_lacking, needed_features
from genome_server.releases.golden import golden_vectors
from genome_server.releases.issue import issue, trusted_now
from genome_server.releases.keyring import ROOT
from genome_server.releases.meanwhile import Read
from genome_server.releases.taken import (
    model_for,
    needed_in_force,
    refuse_half_rolled_back,
    refuse_taken_back,
    waiting,
)
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import DEFAULT_CHANNEL, ReleaseRow, Store
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.gate.rules import Outcome
    from genome_server.learning.job import Progress

DEFAULT_EXPIRES_DAYS = 30
# SDKs that know nothing of assets count them among the parts, and take no more than these.
_PARTS_BEFORE_ASSETS = 32


@dataclass(frozen=True)
class Published:
    """What came of it.

    `release` is the release that devices are now given: a new one, the one from before
    where `unchanged`, or what would have been published (version 0) with a dry run.
    `changed` names the parts that differ from the release before; `notes` are sentences
    on what looks wrong but does not stop a release; `lacking` says which devices cannot use
    all of it.
    """

    release: ReleaseRow
    manifest: release_pb2.Manifest
    changed: tuple[str, ...]
    unchanged: bool
    model: str
    notes: tuple[str, ...]
    lacking: Lacking
    #: What the gate said of the model; None where it was not asked (see `gate.ask`).
    gate: Outcome | None = None

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.manifest.parts)


def publish(
    tenant: Tenant,
    *,
    channel: str = DEFAULT_CHANNEL,
    share: float = 1.0,
    expires_days: float = DEFAULT_EXPIRES_DAYS,
    untrained: bool = False,
    keep_model: bool = False,
    dry_run: bool = False,
    leave_out: bool = False,
    watch: Bounds | None = None,
    despite_gate: str = "",
    now_ms: int | None = None,
    progress: Callable[[], object] = lambda: None,
    gate_progress: Progress | None = None,
) -> Published:
    """Publish what the store holds, with the newest model, for a share (0 … 1] of a channel.

    With `keep_model` it is the model that all devices of the channel have, whatever was trained or
    promoted since, and nothing is compared with a release that is out for a share.

    Nothing is published where nothing changed and the release in force still has half of
    `expires_days` before it and is signed by keys that are in force. With `watch` a release for a
    share is promoted or rolled back by itself within these bounds, see `canary`. A model that is
    new to the channel goes out only through the `gate`, unless `despite_gate` says why it goes out
    all the same. `progress` is called after each step, and `gate_progress` makes a bar for each of
    the gate's. Raises Refused where genomes were never
    built, where there is no model (unless `untrained`) or no placement, where an offer can never be
    shown or is worth more than a score holds (with `leave_out` it is left out and noted instead),
    where a placement asks for more than that, where a device would refuse, where the gate does, and
    where what is published was changed meanwhile.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    expires_ms = now_ms + round(expires_days * DAY_MS)
    from genome_server.gate.ask import Opened, ask, silence  # it asks this room what is in force

    with closing(tenant.open_store()) as store:
        read = Read.of(store, channel, keep_model=keep_model)  # before all else that is read
        schema = needed_schema(store)
        kept = needed_in_force(store, channel) if keep_model else None
        model = model_for(tenant, store, untrained=untrained, kept=kept)
        if kept is not None:
            refuse_half_rolled_back(store, channel)
        elif not despite_gate:
            refuse_taken_back(store, model.id)
        parts = assemble(
            store, schema, model.content, dry_run=dry_run, now_ms=now_ms, expires_ms=expires_ms
        )
        progress()
        refuse_placements(parts)
        left_out = unfit(parts, now_ms)
        if leave_out:
            parts = without_offers(parts, left_out)
        else:
            refuse_unfit(left_out)
        check_parts(parts)
        progress()
        if not release_pb2.PlacementList.FromString(parts["placements"]).placements:
            raise Refused(
                "there is no placement, so nothing could be decided; "
                "run: genome-server import placements FILE"
            )
        assets = _assets(tenant, parts)
        draft = _manifest(tenant, schema, parts, assets, channel=channel)
        release = load_as_device(draft, parts)
        progress()
        parts["golden"] = golden_vectors(release).SerializeToString(deterministic=True)
        draft = _manifest(tenant, schema, parts, assets, channel=channel)
        draft.created_ms = now_ms
        draft.expires_ms = expires_ms
        load_as_device(draft, parts)
        progress()
        opened = Opened()
        if not untrained and kept is None:
            opened = ask(
                tenant, store, model, channel=channel, share=share, watched=watch is not None,
                placements=release_pb2.PlacementList.FromString(parts["placements"]).placements,
                despite=despite_gate, dry_run=dry_run, now_ms=now_ms,
                progress=gate_progress or silence,
            )  # fmt: skip
            progress()
        left = (f"offer {name!r} is left out: {why}" for name, why in left_out.items())
        notes = (*left, *references(parts), *(waiting(store, kept) if kept is not None else ()))
        before = store.release(channel=channel) if kept is None else kept.row
        lacking = devices_lacking(store, needed_features(draft, parts))
        known = manifest_of(before) if before is not None else release_pb2.Manifest()
        changed = _changed(known, draft)
        fresh = known.expires_ms - now_ms >= (draft.expires_ms - now_ms) / 2
        if not dry_run:
            _write_parts(tenant, draft, parts)
        same = before is not None and _content(known) == _content(draft)
        if before is not None and same and fresh and _trusted(tenant, store, before):
            notes += opened.stayed()
            if before.share < share:
                notes += (
                    f"release {before.version} is out for {before.share * 100:.4g}% of the "
                    f"channel; for more: genome-server releases promote {before.version}",
                )
            if watch is not None:
                notes += (f"nothing new is out, so release {before.version} is not watched anew",)
            return Published(before, known, (), True, model.id, notes, lacking, opened.outcome)
        notes += opened.notes
        if dry_run:
            row = ReleaseRow(0, channel, now_ms, draft.expires_ms, b"", schema.epoch, share)
            return Published(row, draft, changed, False, model.id, notes, lacking, opened.outcome)
        with store.transaction():
            read.refuse_changed(Read.of(store, channel, keep_model=keep_model))
            if kept is not None:
                refuse_half_rolled_back(store, channel)
            elif not despite_gate:
                refuse_taken_back(store, model.id)
            row = issue(tenant, store, draft, share)
            if watch is not None:
                begin(store, row, watch)
                notes += reach(row, store.devices())
            other = model_in(known) != model_in(draft)
            opened.went_out(
                store, tenant.models_dir, row, other=other
            )  # last: what it writes stays
        manifest = manifest_of(row)
        return Published(row, manifest, changed, False, model.id, notes, lacking, opened.outcome)


def _trusted(tenant: Tenant, store: Store, row: ReleaseRow) -> bool:
    """Whether devices that enrol now would take a release: keys may have been replaced."""
    return not store.trusted(ROOT) or trusted_now(row, TrustDesk(tenant, store).root())


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


def _manifest(
    tenant: Tenant,
    schema: DnaSchema,
    parts: Mapping[str, bytes],
    assets: Sequence[release_pb2.Part],
    *,
    channel: str,
) -> release_pb2.Manifest:
    """Return a manifest without version and times."""
    placements = release_pb2.PlacementList.FromString(parts["placements"]).placements
    needed = {"offer-model-1", f"quantiser-{schema.quantiser}"}
    needed |= {p.explorer for p in placements if p.explorer in FEATURES}
    if len(parts) + len(assets) > _PARTS_BEFORE_ASSETS:
        needed.add("assets-1")
    if any(map(rings_of, release_pb2.PlaceTable.FromString(parts["places"]).markers)):
        needed.add("rings-1")
    vocabulary = Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(parts["vocabulary"]))
    return release_pb2.Manifest(
        format=FORMAT,
        tenant=tenant.name,
        channel=channel,
        required_features=sorted(needed),
        lineage=schema.lineage(vocabulary),
        parts=[
            *(
                release_pb2.Part(
                    name=name, size=len(content), sha256=hashlib.sha256(content).digest()
                )
                for name, content in parts.items()
            ),
            *assets,
        ],
    )


def _assets(tenant: Tenant, parts: Mapping[str, bytes]) -> list[release_pb2.Part]:
    """The files that offers refer to, as parts by name. Raises Refused where one is gone."""
    users: dict[str, str] = {}
    for offer in release_pb2.OfferCatalogue.FromString(parts["offers"]).offers:
        for asset in offer.assets:
            users.setdefault(asset.part, offer.id)
    found = []
    for name, user in sorted(users.items()):
        path = asset_path(tenant.parts_dir, name)
        if path is None:
            raise Refused(f"{name} of offer {user!r} is gone; import the offer and its file again")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        if digest.hexdigest() != path.name:
            raise Refused(
                f"{name} of offer {user!r} is damaged: remove {path} and import the offer again"
            )
        size = path.stat().st_size
        found.append(release_pb2.Part(name=name, size=size, sha256=digest.digest(), asset=True))
    return found


def _content(manifest: release_pb2.Manifest) -> bytes:
    """Return what a release is, without its number, its times and its channel."""
    bare = release_pb2.Manifest()
    bare.CopyFrom(manifest)
    for field in ("version", "created_ms", "expires_ms", "content_of", "channel"):
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
        if part.asset:  # taken in at import
            continue
        path = tenant.parts_dir / part.sha256.hex()
        if not path.is_file() or path.read_bytes() != parts[part.name]:
            write_whole(path, parts[part.name])
