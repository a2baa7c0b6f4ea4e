"""H3 cells in columns: what `edge_sdk.engine.cells` says of one, for many at once. Free of I/O."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

EARTH_KM: Final = 6371.007180918475
# Mean length of an edge of a hexagon in kilometres, by resolution: what H3 publishes.
_EDGE_KM: Final = (
    1281.256011, 483.0568391, 182.5129565, 68.97922179, 26.07175968, 9.854090990, 3.724532667,
    1.406475763, 0.531414010, 0.200786148, 0.075863783, 0.028663897, 0.010830188, 0.004092010,
    0.001546100, 0.000584169,
)  # fmt: skip
_SHIFT: Final = np.uint64(52)
_FIFTEEN: Final = np.uint64(0xF)
_FINER: Final = np.array([(1 << 3 * (15 - r)) - 1 for r in range(16)], np.uint64)


def resolutions(cells: Cells) -> Ints:
    """The resolution of each cell, int64[n]."""
    return (cells >> _SHIFT & _FIFTEEN).astype(np.int64)


def parents(cells: Cells, resolution: int) -> Cells:
    """The cells of this resolution that hold these, uint64[n]; one that is coarser stays as it is.

    `resolution` is from 0 to 15; IndexError beyond.
    """
    blank = cells & ~(_FIFTEEN << _SHIFT)
    raised = blank | np.uint64(resolution) << _SHIFT | _FINER[resolution]
    return np.where(resolutions(cells) > resolution, raised, cells)


def middles(cells: Cells) -> Floats:
    """Latitude and longitude of the middle of each cell in degrees, float64[n, 2].

    They are the geometry of the grid and of nobody: what is worked out from them stays in memory.
    """
    import h3.api.basic_int as h3

    found = [h3.cell_to_latlng(cell) for cell in cells.tolist()]
    return np.array(found, np.float64).reshape(-1, 2)


def kilometres(here: Floats, there: Floats) -> Floats:
    """Great-circle distances between points in degrees: float64[n, 2], float64[m, 2] → [n, m]."""
    a, b = np.radians(here), np.radians(there)
    north = np.sin((a[:, None, 0] - b[None, :, 0]) / 2) ** 2
    east = np.sin((a[:, None, 1] - b[None, :, 1]) / 2) ** 2
    half = north + np.cos(a[:, None, 0]) * np.cos(b[None, :, 0]) * east
    distances: Floats = 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
    return distances


def edge_km(resolution: int) -> float:
    """The mean length of an edge of a cell of this resolution (0 to 15), in kilometres."""
    return _EDGE_KM[resolution]
