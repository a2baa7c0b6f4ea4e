"""Areas as sets of H3 cells: as few cells as possible, and rings around them.

For where releases are made: the H3 library, which this loads, is not needed to decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from edge_sdk.engine.cells import ancestors, resolution
from edge_sdk.errors import UsageError

MAX_CELLS: Final = 500_000
MAX_RINGS: Final = 100
# Fewer cells than a cell has children cannot become a coarser one; a pentagon has six.
_FEWEST: Final = 6


def compacted(cells: Iterable[int]) -> list[int]:
    """The same area in as few cells as possible, in order of their numbers.

    The children of one cell become that cell; cells inside others are left out.
    """
    numbers = set(cells)
    if len(numbers) >= _FEWEST:
        import h3.api.basic_int as h3

        by_resolution: defaultdict[int, set[int]] = defaultdict(set)
        for number in numbers:
            by_resolution[resolution(number)].add(number)
        for fine in range(max(by_resolution), 0, -1):
            # Of one resolution at a time; what comes out coarser joins the coarser ones.
            for cell in h3.compact_cells(by_resolution.pop(fine, ())):
                by_resolution[resolution(cell)].add(cell)
        numbers = {cell for some in by_resolution.values() for cell in some}
    return sorted(cell for cell in numbers if numbers.isdisjoint(ancestors(cell)[:-1]))


def with_rings(cells: Iterable[int], rings: int) -> set[int]:
    """These cells and those at most `rings` steps away from one, each in cells of its own size.

    Around pentagons a ring has fewer cells. Raises UsageError for more than 500,000 cells.
    """
    import h3.api.basic_int as h3

    reached = set(cells)
    rim = reached
    for _ in range(rings):
        rim = {near for cell in rim for near in h3.grid_disk(cell, 1)} - reached
        reached = reached | rim
        if len(reached) > MAX_CELLS:
            raise UsageError(f"more than {MAX_CELLS:,} cells")
    return reached
