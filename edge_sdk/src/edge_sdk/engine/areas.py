"""Which offers are for the area that a cell lies in, in one binary search.

Areas that are equal are one region. One sorted array of cells leads to regions, a region to its
offers; the parents of a cell are bit operations, so one `searchsorted` answers all resolutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.engine.cells import ancestors
from edge_sdk.slices import rest
from edge_sdk.sorted_sets import distinct
from edge_sdk.values import dataclass

_RESOLUTION_SHIFT: Final = np.uint64(52)
_MAX_CELLS_KNOWN: Final = 4096


@dataclass(frozen=True, slots=True)
class _Postings:
    """Lists of int32 numbers end to end; entry i is `values[starts[i]:starts[i + 1]]`."""

    starts: npt.NDArray[np.int64]
    values: npt.NDArray[np.int32]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> _Postings:
        starts = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(one) for one in lists], out=starts[1:])
        flat = [number for one in lists for number in one]
        return cls(starts, np.array(flat, np.int32))

    def __getitem__(self, at: int) -> npt.NDArray[np.int32]:
        return self.values[self.starts[at] : self.starts[at + 1]]


class AreaIndex:
    """Regions by cell and rows by region. Immutable but for what it remembers; thread-safe.

    `areas` gives the rows, ascending, of every set of cells that is an area; regions are numbered
    in its order.
    """

    def __init__(self, areas: Mapping[frozenset[int], list[int]]) -> None:
        self._rows = _Postings.of(list(areas.values()))
        regions: dict[int, list[int]] = {}
        for region, cells in enumerate(areas):
            rest()
            for cell in cells:
                regions.setdefault(cell, []).append(region)
        ordered = sorted(regions)
        self._cells = np.array(ordered, np.uint64)
        self._regions = _Postings.of([regions[cell] for cell in ordered])
        found = distinct(self._cells >> _RESOLUTION_SHIFT & np.uint64(0xF))
        self._resolutions: list[int] = found.tolist()
        self._known: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def rows(self, region: int) -> npt.NDArray[np.int32]:
        """The offers of a region."""
        return self._rows[region]

    def located(self, cell: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The parents of a cell at the resolutions that areas have, and the regions it is in."""
        known = self._known.get(cell)
        if known is None:
            line = ancestors(cell)
            parents = tuple(line[res] for res in self._resolutions if res < len(line))
            known = (parents, self.regions_of(parents))
            if len(self._known) >= _MAX_CELLS_KNOWN:
                self._known = {}
            self._known[cell] = known
        return known

    def regions_of(self, parents: Sequence[int]) -> tuple[int, ...]:
        """The regions that hold one of these cells, ascending."""
        if not len(self._cells):
            return ()
        wanted = np.array(parents, np.uint64)
        at = self._cells.searchsorted(wanted)
        at[at == len(self._cells)] = 0
        hits = at[self._cells[at] == wanted]
        return tuple(sorted({int(r) for hit in hits.tolist() for r in self._regions[hit]}))
