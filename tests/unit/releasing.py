"""What tests of releases stand on: a tenant that could publish, and what it published."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from genome_edge.v1 import release_pb2
from genome_server.genomes.build import build
from genome_server.home import Tenant
from genome_server.releases.publish import part_content
from tests.serving import make_home

NOW = 1_800_000_000_000


def built_tenant(home: Path) -> Tenant:
    """A tenant with offers, products, placements and customers, built."""
    made = make_home(home).tenant()
    with closing(made.open_store()) as store:
        build(store, None, made.dna_path)
    return made


def contents(tenant: Tenant, manifest: release_pb2.Manifest) -> dict[str, bytes]:
    """The parts of a release by name."""
    return {part.name: part_content(tenant, part) for part in manifest.parts}
