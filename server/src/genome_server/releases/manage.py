"""Releases after they are published: who has which, what differs, promote, roll back.

A version is never used twice. A canary that is promoted within its channel keeps its version, and
more devices get it; into another channel, and back to an old content, it goes as a new and higher
version with the same parts, because devices never take a lower one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from google.protobuf.message import Message

from genome_edge.v1 import release_pb2
from genome_server.errors import Refused, UsageError
from genome_server.gate.kept import remember_guess
from genome_server.home import Tenant
from genome_server.releases.check import load_as_device
from genome_server.releases.differences import differences
from genome_server.releases.issue import issue, trusted_now
from genome_server.releases.publish import manifest_of, part_content
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import DEFAULT_CHANNEL, ReleaseRow, Store

_LISTS: Final[Mapping[str, type[Message]]] = {
    "offers": release_pb2.OfferCatalogue,
    "placements": release_pb2.PlacementList,
}


@dataclass(frozen=True)
class Listed:
    """A release as `releases list` shows it.

    `state` is "in force", "superseded" or "withdrawn"; `devices` how many say that they decide
    from it.
    """

    row: ReleaseRow
    manifest: release_pb2.Manifest
    state: str
    devices: int

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "version": self.row.version,
            "channel": self.row.channel,
            "share": self.row.share,
            "state": self.state,
            "devices": self.devices,
            "created_ms": self.row.created_ms,
            "expires_ms": self.row.expires_ms,
            "bytes": sum(part.size for part in self.manifest.parts),
            "content_of": self.manifest.content_of or None,
            "schema_epoch": self.row.schema_epoch,
        }


@dataclass(frozen=True)
class Moved:
    """What came of promoting or rolling back: the release that devices are now given.

    `renewed`: it has a new version. `withdrawn` are versions that nobody is given any more.
    """

    row: ReleaseRow
    renewed: bool
    content_of: int
    withdrawn: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def list_releases(store: Store) -> list[Listed]:
    """All releases, newest first."""
    in_force = {row.version for row in store.releases_in_force()}
    held = Counter(device.status.get("release") for device in store.devices() if not device.revoked)
    return [
        Listed(row, manifest_of(row), _state(row, in_force), held[row.version])
        for row in store.releases()
    ]


def find(store: Store, version: int) -> ReleaseRow:
    """The release of this version. Raises Refused."""
    row = store.release(version)
    if row is None:
        known = ", ".join(str(row.version) for row in store.releases()[:5]) or "none yet"
        raise Refused(f"there is no release {version}; the newest are: {known}")
    return row


def diff(tenant: Tenant, store: Store, old: int, new: int) -> dict[str, Any]:
    """What differs from release `old` to release `new`; `fields` says in what those that changed do
    (see `differences`). Raises Refused where a part is gone."""
    before, after = find(store, old), find(store, new)
    one, other = manifest_of(before), manifest_of(after)
    digests = {part.name: part.sha256 for part in one.parts}
    sizes = {part.name: part.size for part in one.parts}
    changed = {
        part.name: {"before": sizes.get(part.name, 0), "after": part.size}
        for part in other.parts
        if digests.get(part.name) != part.sha256
    }
    gone = {part.name for part in one.parts} - {part.name for part in other.parts}
    changed |= {name: {"before": sizes[name], "after": 0} for name in sorted(gone)}
    features = set(one.required_features), set(other.required_features)
    offers, placements = (
        [_by_id(tenant, manifest, part, kind) for manifest in (one, other)]
        for part, kind in _LISTS.items()
    )
    return {
        "from": old,
        "to": new,
        "channels": [before.channel, after.channel],
        "parts": changed,
        "bytes_to_send": sum(part["after"] for part in changed.values()),
        "offers": _named(*offers),
        "placements": _named(*placements),
        "fields": {"offers": _fields(*offers), "placements": _fields(*placements)},
        "features_added": sorted(features[1] - features[0]),
        "features_dropped": sorted(features[0] - features[1]),
        "schema_epochs": [one.lineage.schema_epoch, other.lineage.schema_epoch],
        "markers_added": max(0, other.lineage.vocabulary_size - one.lineage.vocabulary_size),
    }


def promote(
    tenant: Tenant,
    version: int,
    *,
    channel: str | None = None,
    share: float = 1.0,
    now_ms: int | None = None,
) -> Moved:
    """Give a release to a greater share (0 … 1] of its channel, or to another channel.

    Raises Refused where it is withdrawn, superseded, signed by a key that was replaced, or the
    share would fall.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    with closing(tenant.open_store()) as store:
        row = find(store, version)
        if row.withdrawn:
            raise Refused(
                f"release {version} was withdrawn; bring its content back with: "
                f"genome-server releases rollback --to {version}"
            )
        if channel is not None and channel != row.channel:
            made = _again(tenant, store, row, channel, share, now_ms)
            if share >= 1:
                remember_guess(store, channel, "")
            return Moved(made, True, version, notes=_notes(store, made))
        if version not in {one.version for one in store.releases_in_force()}:
            raise Refused(
                f"release {version} is superseded in channel {row.channel!r}; bring its content "
                f"back with: genome-server releases rollback --to {version}"
            )
        if not trusted_now(row, TrustDesk(tenant, store).root()):
            raise Refused(
                f"release {version} is signed by a key that was replaced, so that no more devices "
                f"take it; sign it anew with: genome-server publish --share {share}"
            )
        if share < row.share:
            raise Refused(
                f"release {version} is out for {row.share * 100:.4g}% already, and devices never "
                "go back to an older one; take it back with: genome-server releases rollback"
            )
        with store.transaction():
            store.set_release_share(version, share)
            if share >= 1:  # a watch, or somebody, has decided for it
                remember_guess(store, row.channel, "")
        return Moved(replace(row, share=share), False, 0)


def rollback(
    tenant: Tenant,
    *,
    to: int | None = None,
    channel: str = DEFAULT_CHANNEL,
    now_ms: int | None = None,
) -> Moved:
    """Bring the content of an earlier release back, under a new version, to a whole channel.

    Without `to`: of the last release that the whole channel had before the newest one. What is
    newer in the channel is withdrawn. Raises Refused where there is nothing to go back to.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    with closing(tenant.open_store()) as store:
        newest = store.release(channel=channel)
        if newest is None:
            raise Refused(f"channel {channel!r} has no release to go back from")
        target = find(store, to) if to is not None else _before(store, newest)
        if target.version == newest.version:
            raise UsageError(f"release {target.version} is the newest of channel {channel!r}")
        with store.transaction():
            bad = tuple(
                row.version
                for row in store.releases()
                if row.channel == channel and row.version > target.version and not row.withdrawn
            )
            made = _again(tenant, store, target, channel, 1.0, now_ms)
            for version in bad:
                store.withdraw_release(version)
            remember_guess(store, channel, "")
        return Moved(made, True, target.version, bad, _notes(store, made))


def _before(store: Store, newest: ReleaseRow) -> ReleaseRow:
    """The last release, before the newest, that its whole channel had, with another content."""
    parts = list(manifest_of(newest).parts)
    for row in store.releases():
        if (
            row.channel == newest.channel
            and row.version < newest.version
            and row.share >= 1
            and not row.withdrawn
            and list(manifest_of(row).parts) != parts
        ):
            return row
    raise Refused(
        f"channel {newest.channel!r} had no other content before release {newest.version}; name "
        "one with --to (genome-server releases list)"
    )


def _again(
    tenant: Tenant, store: Store, row: ReleaseRow, channel: str, share: float, now_ms: int
) -> ReleaseRow:
    """Publish the content of a release again, under a new version."""
    draft = manifest_of(row)
    contents = {part.name: part_content(tenant, part) for part in draft.parts if not part.asset}
    for part in draft.parts:
        if part.asset:
            part_content(tenant, part)
    life_ms = row.expires_ms - row.created_ms
    draft.content_of = draft.content_of or row.version
    draft.channel = channel
    draft.created_ms = now_ms
    draft.expires_ms = now_ms + life_ms
    load_as_device(draft, contents)
    return issue(tenant, store, draft, share)


def _notes(store: Store, row: ReleaseRow) -> tuple[str, ...]:
    from genome_server.genomes.rows import built_schema

    schema = built_schema(store)
    if schema is None or schema.epoch == row.schema_epoch:
        return ()
    return (
        f"release {row.version} reads genomes of DNA schema {row.schema_epoch}, and those that are "
        f"built are of {schema.epoch}: devices keep the rows they have and get no new ones until "
        "dna.yaml says the same again and genome-server build has run",
    )


def _state(row: ReleaseRow, in_force: set[int]) -> str:
    if row.withdrawn:
        return "withdrawn"
    return "in force" if row.version in in_force else "superseded"


def _named(before: Mapping[str, Message], after: Mapping[str, Message]) -> dict[str, list[str]]:
    """Ids that were added, removed and changed."""
    return {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": _changed(before, after),
    }


def _fields(
    before: Mapping[str, Message], after: Mapping[str, Message]
) -> dict[str, list[dict[str, Any]]]:
    """In what those differ that changed, by their ids."""
    return {name: differences(before[name], after[name]) for name in _changed(before, after)}


def _changed(before: Mapping[str, Message], after: Mapping[str, Message]) -> list[str]:
    return sorted(
        name
        for name in after.keys() & before.keys()
        if after[name].SerializeToString(deterministic=True)
        != before[name].SerializeToString(deterministic=True)
    )


def _by_id(
    tenant: Tenant, manifest: release_pb2.Manifest, name: str, kind: type[Message]
) -> Mapping[str, Message]:
    """What a part holds that is a list, under its own name, of things with ids."""
    part = next(part for part in manifest.parts if part.name == name)
    message = kind.FromString(part_content(tenant, part))
    return {one.id: one for one in getattr(message, name)}
