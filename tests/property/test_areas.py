"""Areas as people write them, with rings, against a walk from cell to neighbour."""

from __future__ import annotations

import h3.api.basic_int as h3
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.engine.covers import compacted, with_rings
from tests.property.earth import areas, cells
from tests.reference.targeting import inside


@settings(max_examples=150, deadline=None)
@given(written=areas(), rings=st.integers(0, 3), probes=st.lists(cells(12), max_size=6))
def test_compacted_areas_and_rings_are_the_cells_that_can_be_walked_to(
    written: list[str], rings: int, probes: list[int]
) -> None:
    said = [h3.str_to_int(cell) for cell in written]
    kept = compacted(with_rings(said, rings))
    wanted = {near for cell in said for near in walked(cell, rings)}
    # What lies at the rim, and just beyond it: in the finest of the cells and in finer ones. (A
    # coarse cell that is covered by finer ones is in the area only where these were compacted.)
    finest = max(h3.get_resolution(cell) for cell in wanted)
    rim = {near for cell in list(wanted)[:40] for near in walked(cell, 1)}
    for cell in [*probes, *rim]:
        probe = h3.cell_to_center_child(cell, max(finest, h3.get_resolution(cell)))
        assert any(inside(probe, cell) for cell in kept) == any(
            inside(probe, cell) for cell in wanted
        ), h3.int_to_str(probe)
    assert len(kept) <= len(wanted)
    for cell in kept:
        assert not any(inside(cell, other) for other in kept if other != cell)


def walked(cell: int, steps: int) -> set[int]:
    """The cells that are at most so many steps away, over the edges between cells."""
    reached = {cell}
    for _ in range(steps):
        reached |= {
            h3.get_directed_edge_destination(edge)
            for one in reached
            for edge in h3.origin_to_directed_edges(one)
        }
    return reached
