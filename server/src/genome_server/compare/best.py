"""The best customer genome: what the most valuable customers have and the others do not.

Free of I/O. Theory. The top share of customers by worth (profit, or spend) is set beside all of
them. With the weights of `matrix`, the *best genome* is, marker by marker,

    max(0, mean weight among the top − mean weight among all)

the strongest 64, divided by its length. A marker stands in it that weighs at least a tenth more
among the top, and by at least two standard errors, both in itself and as a part of a genome: not
what everybody has, nor what is chance, nor what only fills the genomes of those who have little.

A customer's *closeness* is the similarity of their row to it, 0 to 1. A marker that a customer
lacks, or has less than the top have who have it, *would bring them closer* by what their closeness
would be with it in that strength, less what it is.

A region's best genome is that of the top of the region beside all of the region. Nothing is said
where the top are fewer than `least`, nor of a marker that fewer than `least` of them have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from genome_server.compare.matrix import Floats, Ints, Matrix
from genome_server.compare.segments import LEAST_PEOPLE
from genome_server.compare.telling import shares

TOP_SHARE: Final = 0.1
MOST_MARKERS: Final = 64
_LEAST_MORE: Final = 0.1
_ERRORS: Final = 2.0


@dataclass(frozen=True, eq=False)
class Best:
    """The best genome among some customers.

    `markers` int64[m], strongest first, with `weights` float64[m] of length 1; `share_of_top` and
    `share_of_all` say about how many have each (see `telling`), `typical` the raw weight (not
    divided by the length of the row) that those of the top have who have it. `top` are the rows
    that it was made of, of `people`; `least_worth` is the worth of the least of the top.
    """

    markers: Ints
    weights: Floats
    share_of_top: Floats
    share_of_all: Floats
    typical: Floats
    top: Ints
    people: int
    least_worth: float


class Step(NamedTuple):
    """A marker that would bring a customer closer, by how much, and whether it is there already."""

    marker: int
    gain: float
    there: bool


def best_of(
    weights: Matrix,
    raw: Matrix,
    rows: Ints,
    worth: Floats,
    *,
    share: float = TOP_SHARE,
    least: int = LEAST_PEOPLE,
) -> Best | None:
    """The best genome among `rows`, by `worth` float64[n] of every row; None where too few.

    `weights` are the rows of length 1, `raw` the same before they were divided. Customers whose
    worth is not known (NaN) do not count; only who is worth more than nothing can be of the top.
    """
    known = rows[~np.isnan(worth[rows])]
    count = max(int(len(known) * share), least)
    ranked = known[np.lexsort((known, -worth[known]))]
    top = ranked[:count]
    top = np.sort(top[worth[top] > 0])
    if len(top) < least or len(top) >= len(known):
        return None
    size = weights.shape[1]
    among_top, among_all = weights[top], weights[known]
    have_top = np.bincount(among_top.indices, minlength=size)
    have_all = np.bincount(among_all.indices, minlength=size)
    contrast = _more(among_top, among_all)
    contrast[(have_top < least) | (_more(raw[top], raw[known]) == 0.0)] = 0.0
    order = np.argsort(-contrast, kind="stable")[:MOST_MARKERS]
    markers = order[contrast[order] > 0].astype(np.int64)
    if not len(markers):
        return None
    chosen = contrast[markers]
    typical = _sums(raw[top], size)[markers] / have_top[markers]
    return Best(
        markers=markers,
        weights=chosen / np.sqrt((chosen * chosen).sum()),
        share_of_top=shares(have_top[markers], len(top)),
        share_of_all=shares(have_all[markers], len(known)),
        typical=typical,
        top=top,
        people=len(known),
        least_worth=float(worth[top].min()),
    )


def closeness(weights: Matrix, best: Best) -> Floats:
    """How close every row is to the best genome, float64[n], 0 to 1."""
    ideal = np.zeros(weights.shape[1])
    ideal[best.markers] = best.weights
    found: Floats = np.clip(weights @ ideal, 0.0, 1.0)
    return found


def steps_closer(
    markers: npt.NDArray[np.int32], raw: Floats, best: Best, most: int = 5
) -> list[Step]:
    """The markers that would bring one customer closest, at most `most`, the best first.

    `raw` float64 are the weights of the customer's `markers` before they are divided by the length.
    """
    own = dict(zip(markers.tolist(), raw.tolist(), strict=True))
    squares = sum(value * value for value in own.values())
    ideal = dict(zip(best.markers.tolist(), best.weights.tolist(), strict=True))
    along = sum(own.get(marker, 0.0) * weight for marker, weight in ideal.items())
    now = along / np.sqrt(squares) if squares else 0.0
    found = []
    for marker, weight, typical in zip(
        best.markers.tolist(), best.weights.tolist(), best.typical.tolist(), strict=True
    ):
        has = own.get(marker, 0.0)
        if has >= typical:
            continue
        length = np.sqrt(squares + typical * typical - has * has)
        gain = (along + (typical - has) * weight) / length - now
        if gain > 0:
            found.append(Step(marker, float(gain), has > 0))
    return sorted(found, key=lambda step: (-step.gain, step.marker))[:most]


def _more(top: Matrix, everybody: Matrix) -> Floats:
    """How much more each marker weighs among the top than among all; 0 where that is not sure."""
    size = top.shape[1]
    mean = _sums(everybody, size) / everybody.shape[0]
    more = _sums(top, size) / top.shape[0] - mean
    squares = _sums(everybody.power(2), size) / everybody.shape[0]
    error = np.sqrt(np.maximum(squares - mean**2, 0.0) / top.shape[0])
    return np.where(more >= np.maximum(_LEAST_MORE * mean, _ERRORS * error), more, 0.0)


def _sums(rows: Matrix, size: int) -> Floats:
    sums = np.bincount(rows.indices, rows.data.astype(np.float64), minlength=size)
    return sums.astype(np.float64)
