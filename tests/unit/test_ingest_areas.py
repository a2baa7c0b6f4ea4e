"""From a point and a radius to cells."""

from __future__ import annotations

import h3.api.basic_int as h3
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_sdk.engine.cells import resolution
from genome_server.ingest.areas import disk, resolution_for

LAT, LNG = 48.2082, 16.3738


@pytest.mark.parametrize(
    ("radius_m", "expected"), [(1, 11), (50, 11), (300, 11), (700, 10), (1_500, 9), (50_000, 6)]
)
def test_the_resolution_follows_the_radius(radius_m: float, expected: int) -> None:
    assert resolution_for(radius_m) == expected


@given(
    st.floats(-89.0, 89.0),
    st.floats(-180.0, 180.0),
    st.floats(1.0, 50_000.0),
    st.floats(1 / 256, 1.0),
)
@example(22.75, -66.0, 108.0, 1.0)
@example(-66.06248005139571, -172.7362348639968, 12391.784906522944, 1.0)
@settings(max_examples=60, deadline=None)
def test_a_disk_is_all_cells_within_the_radius(
    lat: float, lng: float, radius_m: float, salience: float
) -> None:
    cells = disk(lat, lng, radius_m, salience)
    assert [cell for cell, _ in cells] == sorted({cell for cell, _ in cells})
    assert 1 <= len(cells) <= 400
    found = dict(cells)
    (res,) = {resolution(cell) for cell in found}
    middle = h3.latlng_to_cell(lat, lng, res)
    assert middle in found
    # Independent: every cell of a much larger disk is in if and only if its middle is near enough.
    rings = max(h3.grid_distance(middle, cell) for cell in found) + 2
    for cell in h3.grid_disk(middle, rings):
        distance = h3.great_circle_distance((lat, lng), h3.cell_to_latlng(cell), unit="m")
        assert (cell in found) == (distance <= radius_m or cell == middle)
        if cell in found and cell != middle:
            share = 1 - 0.75 * distance / radius_m
            assert found[cell] == max(1, round(256 * salience * share))


def test_salience_falls_with_the_distance() -> None:
    found = dict(disk(LAT, LNG, 200, 1.0))
    middle = h3.latlng_to_cell(LAT, LNG, 11)
    by_ring = [
        sum(found[c] for c in ring if c in found) / max(1, sum(c in found for c in ring))
        for ring in (h3.grid_ring(middle, k) for k in range(4))
    ]
    assert by_ring == sorted(by_ring, reverse=True)
    assert found[middle] == 256
    assert min(found.values()) >= 64
