"""A release as one file, for devices that never had a network.

It carries the signed manifest, the keys to trust it by, every part, and where a business
ships them with the app the genomes of one audience. Devices read it with
`edge_sdk.engine.release.load_bundle`; what is written here has passed through that first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.engine.release import load_bundle
from edge_sdk.errors import TrustError
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.errors import Refused, UsageError
from genome_server.files import write_whole
from genome_server.genomes.rows import built_schema, row_of
from genome_server.home import Tenant
from genome_server.releases.publish import manifest_of, part_content
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import CONSENT_PERSONALISATION, DEFAULT_CHANNEL, Store

_ROWS_PER_BLOCK = 4096


@dataclass(frozen=True)
class BundleFile:
    """A bundle as written: where, which release, bytes, and how many genomes it carries."""

    path: Path
    version: int
    size: int
    genomes: int


def write_bundle(
    tenant: Tenant,
    path: Path,
    *,
    channel: str = DEFAULT_CHANNEL,
    version: int | None = None,
    audience: str | None = None,
) -> BundleFile:
    """Write the newest release of a channel (or `version`) to `path`, whole or not at all.

    With `audience`, the genomes of its members who agreed to PERSONALISATION go along.
    Raises Refused where there is no such release or its genomes cannot be read with it,
    UsageError where there is no such audience.
    """
    with closing(tenant.open_store()) as store:
        row = store.release(version, channel)
        if row is None:
            raise Refused("there is no such release; run: genome-server publish")
        manifest = manifest_of(row)
        desk = TrustDesk(tenant, store)
        bundle = release_pb2.Bundle(
            timestamp=desk.timestamp(),
            manifest=release_pb2.SignedManifest.FromString(row.manifest),
            root=desk.root(),
            parts=[
                release_pb2.PartContent(name=part.name, content=part_content(tenant, part))
                for part in manifest.parts
            ],
        )
        if audience is not None:
            bundle.genomes.extend(_blocks(store, audience, manifest.lineage))
    content = bundle.SerializeToString(deterministic=True)
    try:
        load_bundle(content, bundle.root)
    except TrustError as error:
        raise Refused(f"devices would refuse this bundle: {error}") from error
    write_whole(path, content)
    genomes = sum(len(block.counts) for block in bundle.genomes)
    return BundleFile(path, row.version, len(content), genomes)


def _blocks(store: Store, audience: str, lineage: dna_pb2.Lineage) -> Iterator[dna_pb2.GenomeBlock]:
    """Yield the audience's genomes, up to 4,096 to a block, ordered by subject."""
    if store.audience(audience) is None:
        raise UsageError(f"there is no audience {audience!r}")
    schema = built_schema(store)
    if schema is None or schema.epoch != lineage.schema_epoch:
        raise Refused("genomes were built under a newer DNA schema; run: genome-server publish")
    rows: list[Row] = []
    for record in store.genomes(store.members(audience)):
        if record.consents & CONSENT_PERSONALISATION:
            rows.append(row_of(record))
        if len(rows) == _ROWS_PER_BLOCK:
            yield block_from_rows(lineage, rows)
            rows.clear()
    if rows:
        yield block_from_rows(lineage, rows)
