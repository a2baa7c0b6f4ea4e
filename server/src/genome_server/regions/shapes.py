"""H3 cells as outlines on a flat map. Free of I/O.

The map is equirectangular, shrunk by the cosine of its middle latitude: cells look like what they
are. It is cut where there is most empty space, so that cells on both sides of the 180th meridian
lie side by side. A cell that holds a pole is drawn as the band that it covers. Pentagons and cells
with extra corners at the edges of the icosahedron are what their boundary says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Point = tuple[float, float]
WIDTH: Final = 760.0
HEIGHT: Final = 640.0
_MARGIN: Final = 24.0
_LEAST_DEGREES: Final = 0.01
_KM_A_DEGREE: Final = 111.195
_LENGTHS_KM: Final = (5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1, 0.5, 0.2)


@dataclass(frozen=True)
class Flat:
    """Degrees to pixels for some cells. `ring` gives a cell's outline, `spot` a point's place."""

    cut: float
    middle: Point
    scale: float
    shrink: float

    def spot(self, latlng: Point) -> Point:
        """Where a point in degrees lies, in pixels from the top left."""
        lat, lng = latlng
        return self._pixels(lat, _east_of(lng, self.cut))

    def ring(self, cell: int) -> list[Point]:
        """The outline of a cell in pixels."""
        return [self._pixels(lat, lng) for lat, lng in unrolled(cell, self.cut)]

    def scale_bar(self) -> tuple[float, str]:
        """A round length that fits: its width in pixels and its name."""
        for km in _LENGTHS_KM:
            pixels = km / _KM_A_DEGREE * self.scale
            if pixels < WIDTH / 4:
                return pixels, f"{km:g} km" if km >= 1 else f"{1000 * km:g} m"
        return 1.0, ""

    def _pixels(self, lat: float, lng: float) -> Point:
        return (
            WIDTH / 2 + (lng - self.middle[1]) * self.shrink * self.scale,
            HEIGHT / 2 - (lat - self.middle[0]) * self.scale,
        )


def flat_map(cells: Sequence[int]) -> Flat:
    """The map on which all these cells (at least one) are seen, as large as possible."""
    import h3.api.basic_int as h3

    cut = widest_gap(h3.cell_to_latlng(cell)[1] for cell in cells)
    corners = [corner for cell in cells for corner in unrolled(cell, cut)]
    south, north = min(lat for lat, _ in corners), max(lat for lat, _ in corners)
    west, east = min(lng for _, lng in corners), max(lng for _, lng in corners)
    middle = ((south + north) / 2, (west + east) / 2)
    shrink = max(math.cos(math.radians(middle[0])), 0.05)
    scale = min(
        (WIDTH - 2 * _MARGIN) / max((east - west) * shrink, _LEAST_DEGREES),
        (HEIGHT - 2 * _MARGIN) / max(north - south, _LEAST_DEGREES),
    )
    return Flat(cut, middle, scale, shrink)


def widest_gap(lngs: Iterable[float]) -> float:
    """The meridian, in degrees, at which a map of these is best cut: the middle of the gap."""
    around = sorted({lng % 360.0 for lng in lngs})
    gaps = [
        (after - before, before)
        for before, after in zip(around, [*around[1:], around[0] + 360.0], strict=True)
    ]
    width, begin = max(gaps)
    return (begin + width / 2) % 360.0


def unrolled(cell: int, cut: float) -> list[Point]:
    """The outline of a cell, (latitude, longitude) in degrees, in one piece east of the cut."""
    import h3.api.basic_int as h3

    lat, lng = h3.cell_to_latlng(cell)
    corners = h3.cell_to_boundary(cell)
    # From corner to corner it is never half way round the earth: the nearer way is meant.
    at = _east_of(lng, cut)
    ring: list[Point] = []
    before = at
    for corner_lat, corner_lng in corners:
        before += _nearer(corner_lng - before)
        ring.append((corner_lat, before))
    turned = before + _nearer(corners[0][1] - before) - ring[0][1]
    if abs(turned) < 180.0:
        return ring
    # It goes round a pole: close it along the edge of the map.
    pole = math.copysign(90.0, lat)
    return [
        *ring,
        (ring[0][0], ring[0][1] + turned),
        (pole, ring[0][1] + turned),
        (pole, ring[0][1]),
    ]


def _east_of(lng: float, cut: float) -> float:
    """The longitude as `cut` to `cut` + 360."""
    return cut + (lng - cut) % 360.0


def _nearer(turn: float) -> float:
    return (turn + 180.0) % 360.0 - 180.0
