"""The place layer: which kinds of place a cell is in or at.

A place is an area, a set of cells of mixed resolutions, with one place marker and a salience. A
cell is in it where it or one of its parents stands in the table, so only the cell and its parents
at the resolutions that occur are looked up, all of them in one binary search. A place that the
app declares wins over everything said here; see `edge_sdk.engine.decide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import split
from edge_sdk.engine.cells import ancestors
from edge_sdk.errors import FormatError, InvalidMarker
from edge_sdk.messages import release_pb2
from edge_sdk.sorted_sets import distinct

# Cells resolved are remembered up to this many: devices stand still or walk, they do not jump.
_REMEMBERED: Final = 4096


class PlaceResolver(Protocol):
    """Turns a cell into place markers. Called on every decision; must not block."""

    def resolve(self, cell: int) -> Sequence[tuple[str, float]]:
        """Place markers with their salience (1.0 is certain), the strongest first."""
        ...


class PlaceLayer:
    """The place layer of a release. Immutable but for what it remembers; thread-safe.

    `cells` is uint64[n] ascending, a cell may stand more than once; `kinds` int64[n] are
    positions in `markers`; `saliences` float64[n].
    """

    def __init__(
        self,
        cells: npt.NDArray[np.uint64],
        kinds: npt.NDArray[np.int64],
        saliences: npt.NDArray[np.float64],
        markers: Sequence[str],
        resolutions: Sequence[int],
    ) -> None:
        self._cells = cells
        self._kinds = kinds
        self._saliences = saliences
        self.markers = tuple(markers)
        self.resolutions = tuple(resolutions)
        self._known: dict[int, tuple[tuple[str, float], ...]] = {}

    @classmethod
    def from_proto(cls, table: release_pb2.PlaceTable) -> PlaceLayer:
        """Read the part. Raises FormatError where it is not what it should be."""
        cells = np.array(table.cells, dtype=np.uint64)
        kinds = np.array(table.kinds, dtype=np.int64)
        saliences = np.array(table.saliences_q8, dtype=np.float64) / 256
        if not len(cells) == len(kinds) == len(saliences):
            raise FormatError("a place table's columns differ in length")
        if len(cells) and (np.any(cells[1:] < cells[:-1]) or kinds.max() >= len(table.markers)):
            raise FormatError("a place table's cells do not ascend, or name a kind beyond its list")
        for name in table.markers:
            _check_marker(name)
        found = set(distinct(cells >> np.uint64(52) & np.uint64(0xF)).tolist())
        if not found <= set(table.resolutions):
            raise FormatError("a place table does not list the resolutions that occur in it")
        return cls(cells, kinds, saliences, table.markers, sorted(found))

    def resolve(self, cell: int) -> tuple[tuple[str, float], ...]:
        """Place markers with their salience, the strongest first; equal ones by name."""
        known = self._known.get(cell)
        if known is None:
            known = self._look_up(cell)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[cell] = known
        return known

    def _look_up(self, cell: int) -> tuple[tuple[str, float], ...]:
        line = ancestors(cell)
        wanted = np.array([line[r] for r in self.resolutions if r < len(line)], dtype=np.uint64)
        begins = np.searchsorted(self._cells, wanted, side="left").tolist()
        ends = np.searchsorted(self._cells, wanted, side="right").tolist()
        best: dict[str, float] = {}
        for begin, end in zip(begins, ends, strict=True):
            for at in range(begin, end):
                name = self.markers[int(self._kinds[at])]
                best[name] = max(best.get(name, 0.0), float(self._saliences[at]))
        return tuple(sorted(best.items(), key=lambda pair: (-pair[1], pair[0])))

    def __len__(self) -> int:
        return len(self._cells)


def _check_marker(name: str) -> None:
    try:
        namespace, _ = split(name)
    except InvalidMarker as error:
        raise FormatError(f"a place table's marker: {error}") from error
    if namespace != "place" and not namespace.startswith("around-"):
        raise FormatError(
            f"a place table holds {name!r}; its markers are place:something or around-2:something"
        )
