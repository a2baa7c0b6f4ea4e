"""Inputs on which an exported file must agree with the trainer: random ones, and real ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from genome_server.learning.examples import Examples
from genome_server.learning.export import Probe

_MAX_QUERY = 64
_MAX_OFFERS = 32


def random_probes(examples: Examples, count: int, seed: int) -> Iterator[Probe]:
    """Yield queries of 0 … 64 markers and offers of 1 … 8, drawn from the whole vocabulary.

    Nobody looks like this; a marker that was never trained on, or an index that was
    mixed up on the way, shows here.
    """
    rng = np.random.default_rng(seed)
    size = examples.vocabulary_size
    for number in range(count):
        n, width = number % (_MAX_QUERY + 1), 1 + number % 8
        yield Probe(
            rng.integers(0, size, n),
            rng.exponential(1.0, n).astype(np.float32),
            rng.integers(0, size, (_MAX_OFFERS, width)),
            rng.exponential(1.0, (_MAX_OFFERS, width)).astype(np.float32),
        )


def real_probes(examples: Examples, count: int, seed: int) -> Iterator[Probe]:
    """Yield queries of the examples, with and without history in turns, against real offers."""
    rng = np.random.default_rng(seed)
    table = examples.offers
    for number, row in enumerate(rng.integers(0, len(examples), count)):
        here = slice(examples.start[row], examples.start[row + 1])
        weight = (examples.cold if number % 2 else examples.warm)[here]
        offers = rng.permutation(len(table.ids))[:_MAX_OFFERS]
        yield Probe(
            examples.index[here][weight > 0].astype(np.int64),
            weight[weight > 0],
            table.index[offers],
            table.weight[offers],
        )
