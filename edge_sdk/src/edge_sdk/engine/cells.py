"""H3 cells as integers: parse, validate, coarsen, by bit operations.

A cell is 64 bits: one 0, four bits of mode (1 for a cell), three reserved,
four of resolution, seven of base cell, then fifteen digits of three bits; the
digits below its resolution are 7. Parents are a matter of masks, so deciding
never loads the H3 library; only coordinates need it.
"""

from __future__ import annotations

import re
from typing import Final

from edge_sdk.errors import InvalidContext

MAX_RESOLUTION: Final = 15
DEFAULT_RESOLUTION: Final = 11

_HEX: Final = re.compile("[0-9a-fA-F]{15,16}")
_RESOLUTION_SHIFT: Final = 52
_RESOLUTION_MASK: Final = 0xF << _RESOLUTION_SHIFT
_BASE_SHIFT: Final = 45
_BASE_CELLS: Final = 122
_PENTAGONS: Final = frozenset({4, 14, 24, 38, 49, 58, 63, 72, 83, 97, 107, 117})
_K_AXIS: Final = 1  # the direction that a pentagon does not have
# The digits finer than each resolution, all set.
_FINER: Final = tuple((1 << 3 * (MAX_RESOLUTION - res)) - 1 for res in range(MAX_RESOLUTION + 1))


def resolution(cell: int) -> int:
    """The resolution of a cell, 0 (continents) to 15 (a square metre)."""
    return cell >> _RESOLUTION_SHIFT & 0xF


def parent(cell: int, res: int) -> int:
    """The cell of resolution `res` that holds this one. `InvalidContext` if `res` is finer."""
    if not 0 <= res <= resolution(cell):
        raise InvalidContext(
            f"a cell of resolution {resolution(cell)} has no parent of resolution {res}"
        )
    return cell & ~_RESOLUTION_MASK | res << _RESOLUTION_SHIFT | _FINER[res]


def ancestors(cell: int) -> tuple[int, ...]:
    """The cell and every cell that holds it, by resolution: entry `r` has resolution `r`."""
    blank = cell & ~_RESOLUTION_MASK
    return tuple(
        blank | res << _RESOLUTION_SHIFT | _FINER[res] for res in range(resolution(cell) + 1)
    )


def is_cell(cell: int) -> bool:
    """Whether these 64 bits are a cell that exists."""
    if not 0 <= cell < 1 << 63 or cell >> 59 != 1 or cell >> 56 & 7:
        return False
    res = resolution(cell)
    base = cell >> _BASE_SHIFT & 0x7F
    if base >= _BASE_CELLS or cell & _FINER[res] != _FINER[res]:
        return False
    first = 0
    for at in range(1, res + 1):
        digit = cell >> 3 * (MAX_RESOLUTION - at) & 7
        if digit == 7:
            return False
        first = first or digit
    return not (first == _K_AXIS and base in _PENTAGONS)


def parse_cell(text: str) -> int:
    """Read a cell written as a hex string. Raises `InvalidContext`."""
    cell = int(text, 16) if _HEX.fullmatch(text) else -1
    if not is_cell(cell):
        raise InvalidContext(f"{text!r} is not an H3 cell")
    return cell


def format_cell(cell: int) -> str:
    """A cell as the lower-case hex string that messages carry."""
    return f"{cell:x}"


def cell_from_latlng(lat: float, lng: float, res: int = DEFAULT_RESOLUTION) -> int:
    """The cell of resolution `res` at these degrees. Raises `InvalidContext`.

    The message names no number: coordinates stay out of logs.
    """
    if not (-90.0 <= lat <= 90.0 and -180.0 <= lng <= 180.0):
        raise InvalidContext("latitude lies between -90 and 90 degrees, longitude -180 and 180")
    if not 0 <= res <= MAX_RESOLUTION:
        raise InvalidContext(f"a resolution lies between 0 and {MAX_RESOLUTION}, not {res}")
    from h3.api import basic_int as h3  # 20 ms to import; devices that know cells never do

    return int(h3.latlng_to_cell(lat, lng, res))
