"""Where somebody lives, as far as a genome says. Free of I/O.

A marker `home:<cell>` of the profile, else `insight:home-<cell>`, which a build derives. Who has
not agreed to location has neither in a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.engine.cells import ancestors, parse_cell, resolution
from edge_sdk.errors import InvalidContext
from genome_server.genomes.consents import HOME

RESOLUTION: Final = 5
"""How fine the regions are that customers are put into."""


def tells_home(markers: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of these markers say where somebody lives."""
    return np.fromiter((marker.startswith(HOME) for marker in markers), bool, len(markers))


def home_of(markers: Sequence[str]) -> str:
    """The region where somebody with these markers lives; "" where none says it."""
    for prefix in HOME:
        for marker in sorted(markers):
            if marker.startswith(prefix) and (found := region_at(marker.removeprefix(prefix))):
                return found
    return ""


def region_at(cell: str) -> str:
    """The region that a cell lies in; "" where it is no cell."""
    try:
        lineage = ancestors(parse_cell(cell))
    except InvalidContext:
        return ""
    return f"{lineage[min(RESOLUTION, len(lineage) - 1)]:x}"


def lies_in(region: str, cell: int) -> bool:
    """Whether a region lies in a cell of its own or a coarser resolution."""
    lineage = ancestors(parse_cell(region))
    return resolution(cell) < len(lineage) and lineage[resolution(cell)] == cell
