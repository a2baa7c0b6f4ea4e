"""Whether devices that evaluate a model without the runtime come to what the runtime does."""

from __future__ import annotations

from typing import Final

import numpy as np

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.scoring import OnnxScorer, open_scorer
from edge_sdk.engine.scoring_towers import TowerScorer
from edge_sdk.errors import EdgeError
from genome_server.models.samples import Samples
from genome_server.models.shelf import Model

_QUERIES: Final = 16
_MARKERS: Final = 40


def runtime_parity(model: Model, vocabulary: Vocabulary, samples: Samples) -> float | None:
    """By how much devices' own evaluation is off ONNX Runtime's; None where they leave it to it."""
    try:
        scorer = open_scorer(model.content, vocabulary)
    except EdgeError:
        return None  # the contract's check says why
    if not isinstance(scorer, TowerScorer):
        return None
    runtime = OnnxScorer(model.content, vocabulary)
    rng = np.random.default_rng(0)
    known = scorer.vocabulary_size
    queries = list(samples.queries[:_QUERIES])
    for number in range(_QUERIES if known else 0):
        count = number * _MARKERS // _QUERIES
        weights = rng.exponential(1.0, count).astype(np.float32)
        queries.append((rng.integers(0, known, count), weights))
    offers = samples.offers or ((),)
    ours, theirs = scorer.vectors(offers), runtime.vectors(offers)
    apart = [
        np.abs(scorer.values(*query, ours) - runtime.values(*query, theirs)).max()
        for query in queries
    ]
    return float(max(apart, default=0.0))
