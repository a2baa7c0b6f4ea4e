"""The offer model as numbers: an ensemble of query towers and linear offer embeddings.

    query   x      = Σ weight · query_table[row]            (members, width)
            h      = relu(relu(x + b0) · W1 + b1)           (members, hidden)
            q      = h · W2 + b2                            (members, dimension + 1)
    offer   o      = Σ weight · offer_table[row]            (members, dimension + 1)
    value          = sigmoid( mean over members of  q[:d] · o[:d] + q[d] + o[d] )

The last entry of q and of o is a bias. An offer is linear in its markers, so its
vector is computed once for a release; a decision then costs one small tower and one
matrix–vector product, whatever the number of members.

Tables hold a row for each marker that training saw and row 0, all zeros, for every
other marker of the vocabulary: an unknown marker changes nothing, and the file
grows with what was learned rather than with the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """How large the towers are. The defaults are the ones found to work in trials."""

    members: int = 4
    width: int = 128
    hidden: int = 64
    dimension: int = 16

    @property
    def vector(self) -> int:
        """Length of an offer's vector: for each member its embedding, a 1 and a bias."""
        return self.members * (self.dimension + 2)


@dataclass(frozen=True)
class Towers:
    """Trained weights, float32. V is the size of the vocabulary, R and S count known markers."""

    shape: Shape
    query_row: Indices  # (V,) row of query_table for each marker; 0: unknown
    query_table: Floats  # (R + 1, members, width)
    query_bias: Floats  # (members, width)
    hidden_weight: Floats  # (members, width, hidden)
    hidden_bias: Floats  # (members, hidden)
    output_weight: Floats  # (members, hidden, dimension + 1)
    output_bias: Floats  # (members, dimension + 1)
    offer_row: Indices  # (V,)
    offer_table: Floats  # (S + 1, members, dimension + 1)

    @property
    def vocabulary_size(self) -> int:
        """Number of markers that the model accepts: indices below it."""
        return len(self.query_row)


def random_towers(seed: int, vocabulary_size: int, shape: Shape | None = None) -> Towers:
    """Return towers that know every marker and have learned nothing: for tests and benchmarks."""
    shape = shape or Shape()
    rng = np.random.default_rng(seed)
    e, w, h, d = shape.members, shape.width, shape.hidden, shape.dimension

    def normal(*size: int, scale: float) -> Floats:
        return (rng.standard_normal(size) * scale).astype(np.float32)

    query_table = normal(vocabulary_size + 1, e, w, scale=0.2)
    offer_table = normal(vocabulary_size + 1, e, d + 1, scale=0.5)
    query_table[0] = 0
    offer_table[0] = 0
    rows = np.arange(1, vocabulary_size + 1, dtype=np.int64)
    return Towers(
        shape=shape,
        query_row=rows,
        query_table=query_table,
        query_bias=normal(e, w, scale=0.1),
        hidden_weight=normal(e, w, h, scale=w**-0.5),
        hidden_bias=normal(e, h, scale=0.1),
        output_weight=normal(e, h, d + 1, scale=h**-0.5),
        output_bias=normal(e, d + 1, scale=0.1),
        offer_row=rows,
        offer_table=offer_table,
    )
