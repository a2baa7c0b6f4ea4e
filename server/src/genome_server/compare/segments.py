"""Segments that explain themselves and stay what they are from build to build. Free of I/O.

Theory. A segment is a direction among the weights of `matrix`; a person belongs to the one whose
direction is nearest (spherical k-means). Left to itself k-means finds another answer for every
seed, so here is none:

- The first start is worked out of the data: the leading singular vectors, of which a QR with
  pivots picks as many rows that point apart, and the polar factor turns the axes towards them.
  The order of the customers does not matter.
- Every later start is where the last segments were, by the names of their markers; so a few new
  interactions move a segment a little and not elsewhere.
- Segments keep number and name where at least a fourth of those who are in the old or the new one
  are in both; who goes with whom is the assignment with the most people in common (Hungarian).

No segment has fewer than `least` people: the smallest is dissolved until none has, and those who
were in it go to the nearest. Nothing is said of a marker that fewer than `least` of a segment have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from genome_server.compare.matrix import Floats, Ints, Matrix
from genome_server.compare.telling import shares

LEAST_PEOPLE: Final = 20
"""Fewer people than this are no group: what is said of them could be about one."""

_ROUNDS: Final = 100
_HYPHEN: Final = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")
_KEPT: Final = 0.25
_LEAST_LIFT: Final = 1.2
_LEAST_SHARE: Final = 0.1
_NAMED: Final = 2


@dataclass(frozen=True, slots=True)
class Trait:
    """A marker that a segment has more of than all.

    About so many of its people have it, and of all (see `telling`); `lift` is how much more it
    weighs among them.
    """

    marker: int
    share: float
    share_of_all: float
    lift: float


@dataclass(frozen=True, eq=False)
class Clustering:
    """`labels` int64[n] says in which of the k directions, float64[k, markers], each row is.

    Rows without any marker are in none: -1.
    """

    labels: Ints
    directions: Floats

    @property
    def sizes(self) -> Ints:
        """How many are in each."""
        known = self.labels[self.labels >= 0]
        return np.bincount(known, minlength=len(self.directions)).astype(np.int64)


def cluster(
    rows: Matrix, count: int, *, start: Floats | None = None, least: int = LEAST_PEOPLE
) -> Clustering:
    """Cut rows of length 1 (or empty) into at most `count` groups of at least `least`.

    `rows` is a sparse float matrix[n, markers]. There are no groups at all where fewer than `least`
    rows have a marker. `start` are the directions to begin with, float64[k, markers], k at most
    `count`; where there are fewer, more are looked for among those who are farthest from them.
    What comes back is where the next begins, with the same `count`, and stays: the same rows
    give the same groups.
    """
    full = np.flatnonzero(np.diff(rows.indptr))
    labels = np.full(rows.shape[0], -1, np.int64)
    inside = rows[full]
    count = min(count, len(full) // max(least, 1))
    if count == 0:
        return Clustering(labels, np.zeros((0, rows.shape[1])))
    directions = first_directions(inside, count) if start is None else start[:count]
    known = int(directions.any(axis=1).sum())
    directions = _completed(inside, directions, known or count)
    found, directions = _large_enough(inside, directions, least)
    # Those that lack are looked for, and nobody is moved where none is found: else who asks for
    # more than there are would get other segments of the same customers each time.
    while len(directions) < count:
        tried, more = _large_enough(inside, _completed(inside, directions, count), least)
        if len(more) <= len(directions):
            break
        found, directions = tried, more
    labels[full] = found
    return Clustering(labels, directions)


def assign(rows: Matrix, directions: Floats) -> Ints:
    """The nearest direction of each row, int64[n]; -1 for one without markers or like none of them.

    `rows` is a sparse matrix[n, markers], `directions` float64[k, markers] of length 1 each.
    """
    if len(directions) == 0:
        return np.full(rows.shape[0], -1, np.int64)
    scores = rows @ directions.T
    labels: Ints = scores.argmax(axis=1).astype(np.int64)
    labels[scores.max(axis=1) <= 0] = -1
    return labels


def first_directions(rows: Matrix, count: int) -> Floats:
    """Where to begin without anything to go by: the same for every order of the rows.

    `rows` is a sparse matrix[n, markers] without empty rows; what comes back float64[k, markers] of
    length 1, or zero: k is `count`, or 1 where there are no more rows or markers than that.
    """
    import scipy.linalg as la
    from scipy.sparse.linalg import svds

    if count == 1 or min(rows.shape) <= count:
        return _unit(np.asarray(rows.sum(axis=0))[None, :])
    # The iteration begins at a fixed vector, so that it ends at one, too; its rows' order is
    # taken out by working on the markers' side.
    _, _, axes = svds(rows.astype(np.float64), k=count, v0=_even(rows.shape), solver="arpack")
    places = rows @ axes.T
    # Rows that are equal may be picked in either order: the same directions come out.
    _, _, picked = la.qr(places.T, mode="economic", pivoting=True)
    turned, _ = la.polar(places[picked[:count]].T)
    labels = np.abs(places @ turned).argmax(axis=1)
    return _means(rows, labels, count)


def match(before: Ints, after: Ints, old: int, new: int) -> list[int | None]:
    """For each new group the old one that it goes on from, or None.

    `before` and `after`, int64[n], say in which of `old` and of `new` groups each person is (-1: in
    none). The list has `new` entries; no old group stands twice in it.
    """
    from scipy.optimize import linear_sum_assignment

    both = np.zeros((old, new), np.int64)
    known = (before >= 0) & (after >= 0)
    np.add.at(both, (before[known], after[known]), 1)
    either = both.sum(axis=1)[:, None] + both.sum(axis=0)[None, :] - both
    found: list[int | None] = [None] * new
    for i, j in zip(*linear_sum_assignment(both, maximize=True), strict=True):
        if both[i, j] and both[i, j] >= _KEPT * either[i, j]:
            found[int(j)] = int(i)
    return found


def traits(rows: Matrix, labels: Ints, group: int, least: int = LEAST_PEOPLE) -> list[Trait]:
    """What a group has more of than all, most telling first: by how much more its rows weigh.

    `rows` is a sparse matrix[n, markers] and `labels` int64[n] the group of each row (-1: none, who
    is not among all either). Markers that fewer than `least` of the group have are left out.
    """
    inside = rows[np.flatnonzero(labels == group)]
    everybody = rows[np.flatnonzero(labels >= 0)]
    size = rows.shape[1]
    here = np.bincount(inside.indices, minlength=size)
    share = here / max(inside.shape[0], 1)
    carried = np.bincount(everybody.indices, minlength=size)
    weight = np.bincount(inside.indices, inside.data, size) / max(inside.shape[0], 1)
    of_all = np.bincount(everybody.indices, everybody.data, size) / max(everybody.shape[0], 1)
    lift = np.divide(weight, of_all, out=np.zeros(size), where=of_all > 0)
    told = np.flatnonzero((here >= least) & (share >= _LEAST_SHARE) & (lift >= _LEAST_LIFT))
    order = told[np.lexsort((told, of_all[told] - weight[told]))]
    told_here, told_of_all = shares(here, inside.shape[0]), shares(carried, everybody.shape[0])
    return [
        Trait(int(i), float(told_here[i]), float(told_of_all[i]), float(lift[i])) for i in order
    ]


def name_of(markers: list[str], taken: set[str]) -> str:
    """A name out of markers, most telling first, that no other has.

    What adds no word to one before it is left out: `60-plus` after `60`, `book` after `books`.
    """
    values: list[str] = []
    said_already: list[set[str]] = []
    for marker in markers:
        value = _HYPHEN.sub(" ", marker.partition(":")[2])
        said = f"no {value}" if marker.startswith("not-") else value
        words = {word.removesuffix("s") for word in re.split("[ -]", said)}
        if not any(words <= other or other <= words for other in said_already):
            values.append(said)
            said_already.append(words)
        name = " · ".join(values)
        if len(values) >= _NAMED and name not in taken:
            return name
    base = " · ".join(values) or "like everybody"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base} {number}"
    return name


def _large_enough(rows: Matrix, directions: Floats, least: int) -> tuple[Ints, Floats]:
    """Settled, and the smallest dissolved until none has fewer than `least`, or one is left."""
    while True:
        found, directions = _settle(rows, directions)
        sizes = np.bincount(found, minlength=len(directions))
        if sizes.min() >= least or len(directions) == 1:
            return found, directions
        directions = np.delete(directions, int(sizes.argmin()), axis=0)


def _settle(rows: Matrix, directions: Floats) -> tuple[Ints, Floats]:
    labels: Ints | None = None
    for _ in range(_ROUNDS):
        found = (rows @ directions.T).argmax(axis=1).astype(np.int64)
        if labels is not None and np.array_equal(found, labels):
            break
        labels = found
        fresh = _means(rows, labels, len(directions))
        # One that nobody is nearest to stays where it is.
        kept = fresh.any(axis=1, keepdims=True)
        directions = np.where(kept, fresh, directions)
    assert labels is not None
    return labels, directions


def _means(rows: Matrix, labels: npt.NDArray[Any], count: int) -> Floats:
    import scipy.sparse as sp

    n = rows.shape[0]
    of = sp.csr_array((np.ones(n), (labels, np.arange(n))), shape=(count, n))
    return _unit((of @ rows.astype(np.float64)).toarray())


def _unit(vectors: npt.NDArray[Any]) -> Floats:
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit: Floats = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    return unit


def _completed(rows: Matrix, directions: Floats, count: int) -> Floats:
    """As many directions as wanted: those that lack are the people whom none is near."""
    directions = _unit(directions[directions.any(axis=1)])
    while len(directions) < count:
        if len(directions) == 0:
            directions = _unit(np.asarray(rows.sum(axis=0))[None, :])
            continue
        nearest = (rows @ directions.T).max(axis=1)
        # Not the one farthest person, who may be like nobody: the mean of the farthest twentieth.
        far = np.argsort(nearest, kind="stable")[: max(len(nearest) // 20, 1)]
        directions = np.vstack((directions, _means(rows[far], np.zeros(len(far), int), 1)))
    return directions


def _even(shape: tuple[int, ...]) -> Floats:
    return np.full(min(shape), 1.0 / np.sqrt(min(shape)))
