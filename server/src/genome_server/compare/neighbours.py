"""Who is most alike, among very many. Free of I/O.

Theory. A similarity is an inner product of sparse rows (see `matrix`). To look at every row costs
as much as all of them have markers. But who is alike shares what weighs: a row is filed under each
of its eight heaviest markers, and a search looks under the sixteen heaviest of its own. That is one
row in ten or twenty, with nearly all that are near, for what weighs is rare, and lists of what is
rare are short.

What is found there is ranked by a rough similarity first. Each row is projected onto 640 axes, on
which inner products are nearly what they were: 128 span what many share, the leading singular
vectors of a sample; onto the other 512 goes at random what these leave over, the rare markers; and
all are turned at random, so that each says as much as the next. Of a row 80 bytes are kept: four
axes at a time as the nearest of sixteen means (a product quantiser), whose products with a query
are looked up in registers (faiss's fast scan). For the best that come out the exact similarity is
worked out. What is returned is exact in its numbers and may only lack somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from genome_server.compare.matrix import Floats, Ints, Matrix, chosen, matrix_of

AXES: Final = 640
SHARED_AXES: Final = 128
FILED_UNDER: Final = 8
LOOKED_UNDER: Final = 16
CANDIDATES: Final = 352
"""At the least; a row counts as often as it is found, in two lists or three."""
CANDIDATES_OF_ONE: Final = 32
SEED: Final = 5
_PARTS: Final = 160
_BITS: Final = 4
_ROUNDS: Final = 12
# Codes of a list that are scanned at a time. By 32, which is usual, a search takes a sixth longer.
_AT_A_TIME: Final = 96
_TURNS: Final = 2
_AT_ONCE: Final = 8_192
_TRAINED_ON: Final = 16_384
LEAST_INDEXED: Final = 20_000
"""Among fewer people than this, to look at everybody is as quick."""

Advance = Callable[..., None]
Rows = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]
Saved = Mapping[str, npt.NDArray[Any]]
_ALIKE: Final = np.zeros((1, LOOKED_UNDER), np.float32)


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows of length 1: row i has `markers[starts[i]:starts[i + 1]]` and as many weights."""

    starts: Ints
    markers: Rows
    weights: Weights

    def __len__(self) -> int:
        return len(self.starts) - 1


def axes_of(sample: Matrix) -> Weights:
    """The axes of each marker, float32[markers, AXES], learnt from the rows of a sparse matrix.

    The same sample gives the same axes. A row's place is its weights times those of its markers.
    """
    size = sample.shape[1]
    rng = np.random.default_rng(SEED)
    many = min(SHARED_AXES, size)
    # Powers of the sample's products turn any basis towards its leading singular vectors.
    shared = _orthonormal(rng, size, many)
    products = sample.T.tocsr()
    for _ in range(_TURNS):
        shared, _ = np.linalg.qr(products @ (sample @ shared))
    rest = rng.standard_normal((size, AXES - many), np.float32) * np.float32((AXES - many) ** -0.5)
    rest -= shared @ (shared.T @ rest)
    axes: Weights = np.concatenate((shared, rest), axis=1) @ _orthonormal(rng, AXES, AXES)
    return axes


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Weights:
    basis, _ = np.linalg.qr(rng.standard_normal((rows, columns), np.float32))
    return basis


class Neighbours:
    """Finds the rows most like one. Safe for many threads; made by `build` or `load`."""

    def __init__(
        self, columns: Columns, size: int, axes: Weights | None = None, index: Any = None
    ) -> None:
        self._size = size
        self._axes = axes
        self._index = index
        if axes is None:
            self._rows = matrix_of(columns.starts, columns.markers, columns.weights, size)
        else:
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

        picked = np.random.default_rng(SEED).permutation(len(columns))[:_TRAINED_ON]
        sample = _part(columns, np.sort(picked), size)
        axes = axes_of(sample)
        nowhere = faiss.IndexFlatIP(AXES)
        lists = faiss.IndexIVFPQ(nowhere, AXES, size, _PARTS, _BITS, faiss.METRIC_INNER_PRODUCT)
        lists.by_residual = False
        lists.nprobe = LOOKED_UNDER
        lists.pq.cp.niter = _ROUNDS
        lists.pq.cp.max_points_per_centroid = _TRAINED_ON
        lists.pq.train(sample @ axes)
        lists.is_trained = True
        codes = np.empty((len(columns), lists.pq.code_size), np.uint8)
        for begin in range(0, len(columns), _AT_ONCE):
            rows = np.arange(begin, min(begin + _AT_ONCE, len(columns)))
            codes[rows] = lists.pq.compute_codes(_part(columns, rows, size) @ axes)
            if advance is not None:
                advance(len(rows))
        starts, filed = _filed(columns, size)
        inverted: Any = lists.invlists
        for marker in np.flatnonzero(np.diff(starts)).tolist():
            rows = filed[starts[marker] : starts[marker + 1]]
            theirs = codes[rows]  # a name of its own: faiss is given no more than an address
            inverted.add_entries(marker, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(theirs))
        lists.ntotal = len(filed)
        # Lists that are packed for the fast scan share parts with these: a copy owns all it has.
        packed = faiss.serialize_index(faiss.IndexIVFPQFastScan(lists, _AT_A_TIME))
        return cls(columns, size, axes, faiss.deserialize_index(packed))

    @classmethod
    def load(cls, columns: Columns, size: int, saved: Saved) -> Neighbours:
        """What `saved` gave, over the same columns. Raises RuntimeError where that is no index."""
        if not len(saved["index"]):
            return cls(columns, size)
        import faiss

        return cls(columns, size, saved["axes"], faiss.deserialize_index(saved["index"]))

    def saved(self) -> Saved:
        """`axes` and the bytes of the `index`; both empty where there are too few for one."""
        if self._axes is None:
            return {"axes": np.empty((0, AXES), np.float32), "index": np.empty(0, np.uint8)}
        import faiss

        return {"axes": self._axes, "index": faiss.serialize_index(self._index)}

    def search(self, markers: Rows, weights: Weights, count: int) -> tuple[Ints, Floats]:
        """The rows most like such a row, at most `count`, the most similar first, and how similar.

        `markers` int32[m], each below `size` and once, and `weights` float32[m], of length 1 as a
        whole, are the row; what comes back are row numbers int64[k] and similarities float64[k],
        above 0 and at most 1, with k at most `count`. Of equally similar ones the smaller number
        comes first. Rows that share no marker are not among them; the row itself is, where it is
        indexed. Raises IndexError for a marker that is not below `size`.
        """
        rows, scores = self._scored(markers, weights, count)
        if len(scores) > 2 * count:
            near = scores.argpartition(-count)[-count:]
            rows, scores = rows[near], scores[near]
        best = np.lexsort((rows, -scores))[:count]
        best = best[scores[best] > 0]
        return rows[best], np.minimum(scores[best].astype(np.float64), 1.0)

    def _scored(self, markers: Rows, weights: Weights, count: int) -> tuple[Ints, Weights]:
        """Rows that may be near, and how similar they are."""
        wanted = np.zeros(self._size, np.float32)
        wanted[markers] = weights
        if self._axes is None:
            scores = self._rows @ wanted
            return np.arange(len(scores)), scores
        place = weights @ self._axes.take(markers, 0)
        under = np.full(LOOKED_UNDER, -1, np.int64)
        heaviest = markers[np.lexsort((markers, -weights))[:LOOKED_UNDER]]
        under[: len(heaviest)] = heaviest
        most = min(max(CANDIDATES, CANDIDATES_OF_ONE * count), self._index.ntotal)
        _, found = self._index.search_preassigned(place[None], most, under[None], _ALIKE)
        found = np.sort(found[0])
        first = found >= 0
        first[1:] &= found[1:] != found[:-1]
        rows = found[first]
        near = self._padded.take(rows, 0)
        width = near.shape[1] // 2
        return rows, np.vecdot(wanted.take(near[:, :width]), near[:, width:].view(np.float32))


def _filed(columns: Columns, size: int) -> tuple[Ints, Ints]:
    """(starts int64[size + 1], rows): of each marker, the rows of whose heaviest it is one."""
    sizes = np.diff(columns.starts)
    rows = np.repeat(np.arange(len(columns)), sizes)
    order = np.lexsort((-columns.weights, rows))
    place = np.arange(len(order)) - np.repeat(columns.starts[:-1], sizes)
    heaviest = np.sort(order[place < FILED_UNDER])
    markers = columns.markers[heaviest]
    starts = np.concatenate(([0], np.cumsum(np.bincount(markers, minlength=size))))
    return starts, rows[heaviest[np.argsort(markers, kind="stable")]]


def _part(columns: Columns, rows: Ints, size: int) -> Matrix:
    """Some rows as a sparse matrix of `size` columns."""
    starts, places = chosen(columns.starts, rows)
    return matrix_of(starts, columns.markers[places], columns.weights[places], size)


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
