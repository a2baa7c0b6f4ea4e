"""Synthetic releases of any size, signed with a key of their own, as a bundle on disk."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.schema import default_schema
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.engine.release import Release
from edge_sdk.sync.trust import MANIFEST_PREFIX, key_id
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import random_towers
from genome_server.releases.golden import golden_vectors

PLACEMENT = "screen"
MARKERS = 2000
HOUR_MS = 3_600_000
PERSONALISATION = 1 << dna_pb2.CONSENT_PURPOSE_PERSONALISATION


def vocabulary() -> Vocabulary:
    """Builtin markers, those of the moments, and two thousand others."""
    said = ("activity:browse", "activity:wait", "activity:pay", f"channel:{PLACEMENT}")
    names = [*BUILTIN_MARKERS, *said, *(f"m:{number}" for number in range(MARKERS))]
    return Vocabulary(bytes(range(16)), list(dict.fromkeys(names)))


def subject(number: int) -> bytes:
    """The subject of the nth customer of a stage."""
    return random.Random(number).randbytes(16)


def rows(count: int, words: Vocabulary) -> list[Row]:
    """Genomes of 20 to 64 markers; common markers are common."""
    rng = random.Random(5)
    first = len(words) - MARKERS
    made = []
    for number in range(count):
        wanted = rng.randint(20, 64)
        chosen: set[int] = set()
        while len(chosen) < wanted:
            chosen.add(
                first + min(MARKERS - 1, int(rng.paretovariate(0.9)) - 1 + rng.randrange(40))
            )
        codes = [rng.randint(40, 140) for _ in chosen]
        made.append(
            Row(
                subject=subject(number),
                consents=PERSONALISATION,
                as_of_hour=rng.randrange(1, 200),
                indices=np.array(sorted(chosen), np.uint32),
                codes=np.array(codes, np.uint8),
            )
        )
    return made


def write_bundle(
    path: Path, *, offers: int, genomes: int = 0, elsewhere: int = 0, explorer: str = "squarecb"
) -> Path:
    """Write a bundle whose `offers` offers may all be shown everywhere.

    `elsewhere` more are bound to cells far away, so that the catalogue grows and what is near
    does not.
    """
    rng = random.Random(11)
    words = vocabulary()
    landmark = int(time.time() * 1000) // HOUR_MS - 400
    schema = default_schema(landmark)
    catalogue = release_pb2.OfferCatalogue()
    for number in range(offers + elsewhere):
        document: dict[str, object] = {
            "id": f"offer-{number:07d}",
            "content": {"title": f"Offer {number}"},
            "dna": [{"marker": f"m:{rng.randrange(MARKERS)}", "salience": 1.0} for _ in range(5)],
        }
        if number >= offers:
            document["areas"] = {"cells": [far_cell(number)]}
        catalogue.offers.append(offer_from_document(document))
    placements = release_pb2.PlacementList(
        placements=[placement_from_document({"id": PLACEMENT, "slots": 10, "explorer": explorer})]
    )
    model = tower_model(
        random_towers(3, len(words)),
        ModelFacts(vocabulary_lineage=bytes(range(16)), vocabulary_size=len(words)),
    )
    parts = {
        "schema": schema.to_proto().SerializeToString(),
        "vocabulary": words.to_proto().SerializeToString(),
        "offers": catalogue.SerializeToString(),
        "placements": placements.SerializeToString(),
        "products": release_pb2.ProductTable().SerializeToString(),
        "places": release_pb2.PlaceTable().SerializeToString(),
        "model": model,
    }
    lineage = dna_pb2.Lineage(
        vocabulary_lineage=bytes(range(16)),
        vocabulary_size=len(words),
        schema_epoch=schema.epoch,
        landmark_hour=landmark,
        quantiser=schema.quantiser,
    )
    unsigned = Release.from_parts(release_pb2.Manifest(version=1, lineage=lineage), parts)
    parts["golden"] = golden_vectors(unsigned).SerializeToString()
    bundle = sign(parts, lineage)
    if genomes:
        bundle.genomes.append(block_from_rows(lineage, rows(genomes, words)))
    path.write_bytes(bundle.SerializeToString())
    return path


def sign(parts: dict[str, bytes], lineage: dna_pb2.Lineage) -> release_pb2.Bundle:
    """A bundle of these parts under a fresh key."""
    import hashlib

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    now = int(time.time() * 1000)
    manifest = release_pb2.Manifest(
        format=1,
        tenant="bench",
        version=1,
        created_ms=now,
        expires_ms=now + 30 * 24 * HOUR_MS,
        channel="stable",
        lineage=lineage,
        parts=[
            release_pb2.Part(name=n, size=len(c), sha256=hashlib.sha256(c).digest())
            for n, c in parts.items()
        ],
    ).SerializeToString()
    return release_pb2.Bundle(
        manifest=release_pb2.SignedManifest(
            manifest=manifest,
            signatures=[
                release_pb2.ManifestSignature(
                    key_id=key_id(public), signature=key.sign(MANIFEST_PREFIX + manifest)
                )
            ],
        ),
        root=release_pb2.TrustRoot(tenant="bench", version=1, release_keys=[public], threshold=1),
        parts=[release_pb2.PartContent(name=n, content=c) for n, c in parts.items()],
    )


def far_cell(number: int) -> str:
    """A resolution 9 cell in the southern Indian Ocean, another for each number."""
    import h3

    return str(h3.latlng_to_cell(-40.0 - (number % 1000) * 0.01, 80.0 + (number // 1000) * 0.02, 9))
