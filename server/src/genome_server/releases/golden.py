"""Golden vectors: inputs and values that a device compares after it has swapped a release in.

They are computed by the general runtime, on the release as it is about to be signed: a device that
evaluates the model without the runtime proves by them that it gives the same.
"""

from __future__ import annotations

import hashlib

import numpy as np

from edge_sdk.engine.release import Release
from edge_sdk.engine.scoring import OnnxScorer
from genome_edge.v1 import release_pb2

_VECTORS = 8
_MAX_MARKERS = 24
_MAX_OFFERS = 32


def golden_vectors(release: Release) -> release_pb2.GoldenVectors:
    """Return values for queries of 0 … 24 markers and up to 32 offers.

    Which ones follows from the release's parts: the same release gives the same vectors.
    """
    golden = release_pb2.GoldenVectors()
    ids = release.catalogue.ids
    if not ids:
        return golden
    digest = hashlib.sha256(b"".join(part.sha256 for part in release.manifest.parts))
    rng = np.random.default_rng(int.from_bytes(digest.digest()[:8]))
    scorer = OnnxScorer(release.model, release.vocabulary)
    for number in range(_VECTORS):
        count = min(_MAX_MARKERS * number // (_VECTORS - 1), len(release.vocabulary))
        indices = np.sort(rng.choice(len(release.vocabulary), count, replace=False))
        weights = rng.uniform(0.1, 3.0, count).astype(np.float32)
        rows = np.sort(rng.choice(len(ids), min(_MAX_OFFERS, len(ids)), replace=False))
        vectors = scorer.vectors([release.dna(row) for row in rows.tolist()])
        values = scorer.values(indices.astype(np.int64), weights, vectors)
        golden.vectors.append(
            release_pb2.GoldenVector(
                indices=indices.tolist(),
                weights=weights.tolist(),
                offers=[ids[row] for row in rows],
                values=values.tolist(),
            )
        )
    return golden
