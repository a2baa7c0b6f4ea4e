"""Whose demand a store meets. Free of I/O.

Definition (Huff 1964). What is wanted in a region is sought in the stores in proportion to
size / distance², where the distance is that between the middles of the two cells and at least the
mean edge of the larger of them: within a cell nobody knows who lives how near. Stores beyond
`reach_km` are not sought. Where none is within reach, the demand is nobody's. What is wanted in a
region that was taken together of several is divided over them like the people there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from genome_server.regions.cells import Cells, Floats, edge_km, kilometres, middles, resolutions
from genome_server.regions.demand import Demand


@dataclass(frozen=True)
class Shop:
    """A store: where it is, how many units it holds in all (None: no limit), how large it is.

    `stock` is what it has already, by product; `sales` its past sales in all, None where not known.
    """

    id: str
    cell: int
    capacity: int | None = None
    size: float = 1.0
    sales: float | None = None
    stock: dict[str, int] = field(default_factory=dict)


class Reach:
    """Which share of a region's demand goes to which store."""

    def __init__(self, shops: Sequence[Shop], reach_km: float | None = None) -> None:
        self.count = len(shops)
        self._cells = np.array([shop.cell for shop in shops], np.uint64)
        self._middles = middles(self._cells)
        self._sizes = np.array([shop.size for shop in shops], np.float64)
        self._edges = _edges(self._cells)
        self._reach_km = reach_km
        self._known: dict[int, Floats] = {}

    def shares(self, cells: Cells) -> Floats:
        """float64[regions, stores]; a row adds up to 1, or is 0 where no store is within reach."""
        new = np.array(
            [c for c in dict.fromkeys(cells.tolist()) if c not in self._known], np.uint64
        )
        if len(new):
            self._known.update(zip(new.tolist(), self._worked_out(new), strict=True))
        rows = [self._known[cell] for cell in cells.tolist()]
        return np.array(rows, np.float64).reshape(len(cells), self.count)

    def _worked_out(self, cells: Cells) -> Floats:
        distance = kilometres(middles(cells), self._middles)
        least = np.maximum(_edges(cells)[:, None], self._edges[None, :])
        pull = self._sizes / np.maximum(distance, least) ** 2
        if self._reach_km is not None:
            pull[distance > self._reach_km] = 0.0
        whole = pull.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(pull, whole, out=np.zeros_like(pull), where=whole > 0))


@dataclass(frozen=True, eq=False)
class Pull:
    """What comes of a demand at each store.

    `share` float64[stores] adds up to 1. `parts` float64[stores, markers + 1] says how it comes
    about, by the markers of the demand and, last, what may not be told apart: as far as each marker
    is believed; the rest of `share` is where customers are
    anyhow. `nobodys` is the share of demand that is out of every store's reach or withheld; the
    shares are of the rest.
    """

    share: Floats
    parts: Floats
    nobodys: float


def pull(demand: Demand, reach: Reach, plain: Floats | None = None) -> Pull | None:
    """A demand as the stores feel it; None where no store has any of it within reach.

    `plain` float64[stores] adds up to 1: what counts as far as a marker is not believed. Without it
    all is believed.
    """
    spots = demand.spots
    shares = np.zeros((len(demand.cell), reach.count))
    np.add.at(shares, spots.region, reach.shares(spots.cell) * spots.people[:, None])
    people = np.bincount(spots.region, spots.people, len(demand.cell))
    shares /= np.maximum(people, 1.0)[:, None]
    heard = np.ones_like(demand.heard) if plain is None else demand.heard
    felt = demand.share if plain is None else demand.felt
    known = np.nan_to_num(demand.parts, nan=0.0) * heard
    hidden = np.clip(felt - known.sum(axis=1), 0.0, None)
    hidden[~np.isnan(demand.parts).any(axis=1)] = 0.0
    parts = shares.T @ np.column_stack((known, hidden))
    whole = float(parts.sum())
    if whole <= 0.0:
        return None
    belief = float(np.array(list(demand.weights.values())) @ heard)
    parts *= belief / whole
    share = parts.sum(axis=1)
    if plain is not None:
        share += (1.0 - belief) * plain
    reached = float((shares.T @ demand.share).sum())
    return Pull(share, parts, max(0.0, 1.0 - reached))


def _edges(cells: Cells) -> Floats:
    return np.array([edge_km(level) for level in resolutions(cells).tolist()], np.float64)
