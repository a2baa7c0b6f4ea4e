"""Who is most alike, among very many. Free of I/O.

Theory. A similarity is an inner product of sparse rows (see `matrix`). To look at every row costs
as much as all of them have markers. So the rows are projected at random: each marker is given eight
of 896 axes, with a sign, by a seed and its index, so that a marker of tomorrow moves nobody's
axes; inner products stay what they were but for a noise of about 1/√896. Of each row 56 bytes are
kept: eight axes at a time as the nearest of sixteen means (a product quantiser), whose products
with a query are looked up in registers (faiss's fast scan). All of these are looked at, for a row
costs a few nanoseconds, and the exact similarity is worked out for the best 256 that come out. What
is returned is exact in its numbers and may only lack somebody.

Cells around means, of which a search looks at the nearest only, lose more than they save: customers
are no clusters, and the nearest ten lie in many cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from genome_server.compare.matrix import Floats, Ints, chosen, matrix_of

AXES: Final = 896
AXES_OF_A_MARKER: Final = 8
CANDIDATES: Final = 256
SEED: Final = 5
_PARTS: Final = 112
_BITS: Final = 4
_ROUNDS: Final = 20
_ADDED_AT_ONCE: Final = 8_192
_TRAINED_ON: Final = 16_384
LEAST_INDEXED: Final = 20_000
"""Among fewer people than this, to look at everybody is as quick."""

Advance = Callable[..., None]
Rows = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows of length 1: row i has `markers[starts[i]:starts[i + 1]]` and as many weights."""

    starts: Ints
    markers: Rows
    weights: Weights

    def __len__(self) -> int:
        return len(self.starts) - 1


class Projection:
    """Where each of `size` markers goes; of a longer list the first markers go the same way."""

    def __init__(self, size: int, seed: int = SEED) -> None:
        # One generator for the axes and one for the signs: each goes on where a shorter list ended.
        shape = (size, AXES_OF_A_MARKER)
        self._axes = np.random.default_rng([seed, 0]).integers(0, AXES, shape).astype(np.int32)
        signs = np.random.default_rng([seed, 1]).integers(0, 2, shape) * 2 - 1
        self._signs = (signs * AXES_OF_A_MARKER**-0.5).astype(np.float32)

    def of(self, markers: Rows, weights: Weights) -> Weights:
        """One row, float32[AXES]."""
        values = self._signs[markers] * weights[:, None]
        return np.bincount(self._axes[markers].ravel(), values.ravel(), AXES).astype(np.float32)

    def of_many(self, columns: Columns, rows: Ints) -> Weights:
        """Some rows, float32[len(rows), AXES]."""
        import scipy.sparse as sp

        begins, places = chosen(columns.starts, rows)
        size = len(self._axes)
        part = sp.csr_array(
            (columns.weights[places], columns.markers[places], begins), shape=(len(rows), size)
        )
        starts = np.arange(size + 1) * AXES_OF_A_MARKER
        axes = sp.csr_array((self._signs.ravel(), self._axes.ravel(), starts), shape=(size, AXES))
        return np.ascontiguousarray((part @ axes).toarray(), np.float32)


class Neighbours:
    """Finds the rows most like one. Safe for many threads; made by `build` or `load`."""

    def __init__(self, columns: Columns, size: int, index: Any = None) -> None:
        self._size = size
        self._index = index
        if index is None:
            self._rows = matrix_of(columns.starts, columns.markers, columns.weights, size)
        else:
            self._projection = Projection(size)
            self._padded = _padded(columns)

    @classmethod
    def build(
        cls,
        columns: Columns,
        size: int,
        *,
        least: int = LEAST_INDEXED,
        advance: Advance | None = None,
    ) -> Neighbours:
        """Index rows over `size` markers; `advance(steps)` is told of rows taken in.

        Fewer than `least` rows are looked at all, each time.
        """
        if len(columns) < least:
            return cls(columns, size)
        import faiss

        projection = Projection(size)
        index = faiss.IndexPQFastScan(AXES, _PARTS, _BITS, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.niter = _ROUNDS
        index.pq.cp.max_points_per_centroid = _TRAINED_ON
        sample = np.random.default_rng(SEED).permutation(len(columns))[:_TRAINED_ON]
        index.train(projection.of_many(columns, np.sort(sample)))
        for begin in range(0, len(columns), _ADDED_AT_ONCE):
            rows = np.arange(begin, min(begin + _ADDED_AT_ONCE, len(columns)))
            index.add(projection.of_many(columns, rows))
            if advance is not None:
                advance(len(rows))
        return cls(columns, size, index)

    @classmethod
    def load(cls, columns: Columns, size: int, saved: npt.NDArray[np.uint8]) -> Neighbours:
        """What `saved` gave, over the same columns. Raises RuntimeError where that is no index."""
        if not len(saved):
            return cls(columns, size)
        import faiss

        return cls(columns, size, faiss.deserialize_index(saved))

    def saved(self) -> npt.NDArray[np.uint8]:
        """The index as bytes; empty where there are too few for one."""
        if self._index is None:
            return np.empty(0, np.uint8)
        import faiss

        saved: npt.NDArray[np.uint8] = faiss.serialize_index(self._index)
        return saved

    def search(self, markers: Rows, weights: Weights, count: int) -> tuple[Ints, Floats]:
        """The rows most like such a row, at most `count`, the most similar first, and how similar.

        Rows that share no marker are not among them. `count` is at most `CANDIDATES`.
        """
        rows, scores = self._scored(markers, weights)
        if len(scores) > 2 * count:
            near = scores.argpartition(-count)[-count:]
            rows, scores = rows[near], scores[near]
        best = np.lexsort((rows, -scores))[:count]
        best = best[scores[best] > 0]
        return rows[best], np.minimum(scores[best].astype(np.float64), 1.0)

    def _scored(self, markers: Rows, weights: Weights) -> tuple[Ints, Weights]:
        """Rows that may be near, and how similar they are."""
        wanted = np.zeros(self._size, np.float32)
        wanted[markers] = weights
        if self._index is None:
            scores = self._rows @ wanted
            return np.arange(len(scores)), scores
        projected = self._projection.of(markers, weights)
        _, found = self._index.search(projected[None, :], CANDIDATES)
        rows = found[0]
        near = self._padded.take(rows, 0)
        width = near.shape[1] // 2
        return rows, np.vecdot(wanted.take(near[:, :width]), near[:, width:].view(np.float32))


def _padded(columns: Columns) -> npt.NDArray[np.uint32]:
    """Rows of one width, so that hundreds are fetched at once: markers, then the bits of weights.

    What is empty weighs nothing.
    """
    sizes = np.diff(columns.starts)
    width = int(sizes.max(initial=1))
    padded = np.zeros((len(columns), 2 * width), np.uint32)
    weights = np.zeros((len(columns), width), np.float32)
    filled = np.arange(width) < sizes[:, None]
    padded[:, :width][filled] = columns.markers
    weights[filled] = columns.weights
    padded[:, width:] = weights.view(np.uint32)
    return padded
