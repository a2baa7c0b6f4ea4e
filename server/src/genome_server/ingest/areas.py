"""From a point and a radius to cells. The point does not leave this file.

The area is a disk of cells of the finest resolution that needs no more than a
few hundred of them. Salience is full in the middle and falls in a straight line
to a quarter at the rim: a fix is rarely better than some tens of metres, and
what is next door should count for less than what is here.

50 m is what told best where people are later, for most kinds of place: see docs/moments.md.
"""

from __future__ import annotations

import math

from edge_sdk.engine.cells import cell_from_latlng

DEFAULT_RADIUS_M = 50.0

_FINEST, _COARSEST = 11, 5
_MAX_CELLS = 400
_RIM = 0.25
# Average length of an edge of an H3 cell in metres, by resolution.
_EDGE_M = {5: 9854.1, 6: 3724.5, 7: 1406.5, 8: 531.4, 9: 200.8, 10: 75.9, 11: 28.7}


def disk(lat: float, lng: float, radius_m: float, salience: float) -> list[tuple[int, int]]:
    """The cells within `radius_m` metres of a point, each with its salience in 1/256, ascending.

    The cell of the point is always among them. `salience` is that of the middle,
    from 1/256 to 1.
    """
    import h3.api.basic_int as h3

    resolution = resolution_for(radius_m)
    middle = cell_from_latlng(lat, lng, resolution)
    found: dict[int, int] = {middle: _q8(salience)}
    for cell in h3.grid_disk(middle, _rings_within_reach(radius_m, resolution)):
        distance = h3.great_circle_distance((lat, lng), h3.cell_to_latlng(cell), unit="m")
        if distance <= radius_m:
            share = 1.0 - (1.0 - _RIM) * distance / radius_m
            found[int(cell)] = max(found.get(int(cell), 0), _q8(salience * share))
    return sorted(found.items())


def resolution_for(radius_m: float) -> int:
    """The finest resolution at which a disk of this radius has few enough cells."""
    for resolution in range(_FINEST, _COARSEST, -1):
        rings = _rings(radius_m, resolution)
        if 3 * rings * (rings + 1) + 1 <= _MAX_CELLS:
            return resolution
    return _COARSEST


def _rings(radius_m: float, resolution: int) -> int:
    # Middles of neighbours lie √3 edges apart; cells differ in size by up to a third.
    return math.ceil(radius_m / (_EDGE_M[resolution] * math.sqrt(3) * 0.75))


def _rings_within_reach(radius_m: float, resolution: int) -> int:
    """How many rings hold every cell whose middle may be within the radius.

    A ring is a hexagon: halfway between its corners it is 1.5 edges a step away, not √3, and the
    point may lie an edge away from the middle of its cell.
    """
    edge = _EDGE_M[resolution]
    return math.ceil((radius_m + edge) / (edge * 1.5 * 0.7))


def _q8(salience: float) -> int:
    return max(1, round(salience * 256))
