from __future__ import annotations

import h3.api.basic_int as h3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engine.cells import (
    ancestors,
    cell_from_latlng,
    format_cell,
    is_cell,
    parent,
    parse_cell,
    resolution,
)
from edge_sdk.errors import InvalidContext

latitudes = st.floats(-90, 90, allow_nan=False)
longitudes = st.floats(-180, 180, allow_nan=False)
resolutions = st.integers(0, 15)


def check_ancestors(cell: int) -> None:
    res = h3.get_resolution(cell)
    assert resolution(cell) == res
    wanted = tuple(h3.cell_to_parent(cell, r) for r in range(res + 1))
    assert ancestors(cell) == wanted
    assert tuple(parent(cell, r) for r in range(res + 1)) == wanted
    assert is_cell(cell)
    assert parse_cell(format_cell(cell)) == cell
    assert format_cell(cell) == h3.int_to_str(cell)


@given(latitudes, longitudes, resolutions)
def test_cells_anywhere(lat: float, lng: float, res: int) -> None:
    cell = cell_from_latlng(lat, lng, res)
    assert cell == h3.latlng_to_cell(lat, lng, res)
    check_ancestors(cell)


@pytest.mark.parametrize("res", range(16))
def test_pentagons_and_their_neighbours(res: int) -> None:
    for pentagon in h3.get_pentagons(res):
        for cell in h3.grid_disk(pentagon, 1):
            check_ancestors(cell)


@given(st.integers(0, 2**64 - 1))
def test_is_cell_agrees_with_h3_on_any_bits(bits: int) -> None:
    assert is_cell(bits) == h3.is_valid_cell(bits)


@given(latitudes, longitudes, resolutions, st.integers(0, 63))
def test_is_cell_agrees_with_h3_on_nearly_cells(
    lat: float, lng: float, res: int, flipped: int
) -> None:
    bits = h3.latlng_to_cell(lat, lng, res) ^ (1 << flipped)
    assert is_cell(bits) == h3.is_valid_cell(bits)


@pytest.mark.parametrize("res", range(16))
def test_is_cell_knows_what_pentagons_lack(res: int) -> None:
    for pentagon in h3.get_pentagons(res):
        for at in range(1, res + 1):
            for digit in range(1, 7):
                bits = pentagon | digit << 3 * (15 - at)
                assert is_cell(bits) == h3.is_valid_cell(bits)


def test_parent_is_never_finer() -> None:
    cell = cell_from_latlng(40.7, -74.0, 9)
    assert parent(cell, 9) == cell
    for res in (10, -1, 16):
        with pytest.raises(InvalidContext):
            parent(cell, res)


@pytest.mark.parametrize(
    "text", ["", "hotel", "0x8928308280fffff", "8928308280ffff", "-1", " 8928308280fffff", "_1"]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidContext):
        parse_cell(text)


def test_coordinates_out_of_range_are_not_repeated_in_the_message() -> None:
    for lat, lng in ((91.25, 0.0), (0.0, 181.5), (float("nan"), 0.0), (0.0, float("inf"))):
        with pytest.raises(InvalidContext) as caught:
            cell_from_latlng(lat, lng)
        assert str(lat) not in str(caught.value)
    with pytest.raises(InvalidContext, match="between 0 and 15"):
        cell_from_latlng(0.0, 0.0, 16)
