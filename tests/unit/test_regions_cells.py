"""Whereabouts, cells in columns, and which regions may be shown."""

from __future__ import annotations

from itertools import pairwise

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engine.cells import parent, resolution
from genome_server.regions.cells import edge_km, kilometres, middles, parents, resolutions
from genome_server.regions.crowd import WHOLE, Crowd, home_first, whereabouts
from genome_server.regions.privacy import COARSEST, Grouping, group
from tests.unit.regions_town import NEW_YORK, crowd_of, located

SPOTS = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
CELLS = st.builds(lambda spot, res: h3.latlng_to_cell(*spot, res), SPOTS, st.integers(0, 12))


@given(st.lists(CELLS, min_size=1, max_size=20), st.integers(0, 15))
def test_parents_are_those_of_the_sdk(cells: list[int], level: int) -> None:
    column = np.array(cells, np.uint64)
    assert resolutions(column).tolist() == [resolution(cell) for cell in cells]
    expected = [parent(cell, min(level, resolution(cell))) for cell in cells]
    assert parents(column, level).tolist() == expected


@given(SPOTS, SPOTS)
def test_distances_are_those_of_the_library(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    found = kilometres(np.array([one]), np.array([other]))[0, 0]
    assert found == pytest.approx(h3.great_circle_distance(one, other, unit="km"), abs=0.001)


@pytest.mark.parametrize("level", range(16))
def test_edges_are_those_of_the_library(level: int) -> None:
    assert edge_km(level) == pytest.approx(h3.average_hexagon_edge_length(level, unit="km"))


def test_middles_of_nothing() -> None:
    assert middles(np.zeros(0, np.uint64)).shape == (0, 2)


# -- whereabouts

CHILDREN = sorted(h3.cell_to_children(NEW_YORK, 6))
EVIDENCE = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(CHILDREN),
        st.floats(0.001, 1000),
    ),
    max_size=60,
)


@given(EVIDENCE)
def test_shares_add_up_and_are_near_what_they_stand_for(
    rows: list[tuple[int, int, float]],
) -> None:
    found = whereabouts(
        np.array([r[0] for r in rows], np.int64),
        np.array([r[1] for r in rows], np.uint64),
        np.array([r[2] for r in rows], np.float64),
    )
    people = sorted({r[0] for r in rows})
    assert found.people == len(people)
    for person in people:
        mine = found.person == person
        shares = dict(zip(found.cell[mine].tolist(), found.share[mine].tolist(), strict=True))
        assert sum(shares.values()) == WHOLE
        total = sum(r[2] for r in rows if r[0] == person)
        for cell in CHILDREN:
            quota = WHOLE * sum(r[2] for r in rows if r[:2] == (person, cell)) / total
            assert abs(shares.get(cell, 0) - quota) < 1 + 1e-9


def test_a_home_counts_before_where_somebody_was_seen() -> None:
    a, b, c = CHILDREN[:3]
    both = home_first(located([{a: 1.0}]), located([{b: 3.0, c: 1.0}, {c: 1.0}]))
    rows = zip(both.person.tolist(), both.cell.tolist(), both.share.tolist(), strict=True)
    assert list(rows) == [(0, a, 256), (1, c, 256)]


def test_a_marker_is_spread_over_where_its_people_are() -> None:
    a, b = CHILDREN[:2]
    crowd = crowd_of([{"x:1": 2.0, "y:1": 1.0}, {"x:1": 1.0}, {"x:1": 9.0}], [{a: 3, b: 1}, {b: 1}])
    spread = crowd.spread("x:1")
    rows = list(
        zip(spread.person.tolist(), spread.cell.tolist(), spread.amount.tolist(), strict=True)
    )
    assert rows == [(0, a, 2048 * 192), (0, b, 2048 * 64), (1, b, 1024 * 256)]
    assert crowd.total("x:1") == 3072 * 256  # the third has no place
    assert (crowd.holders("x:1"), crowd.holders("y:1"), crowd.holders("z:1")) == (2, 1, 0)
    assert len(crowd.spread("z:1").person) == 0
    assert crowd.people == 3


def test_a_crowd_of_nobody() -> None:
    nothing = np.zeros(0, np.int64)
    crowd = Crowd(0, [], nothing, nothing, nothing, located([]))
    assert crowd.total("x:1") == 0
    assert crowd.where.people == 0


# -- which regions may be shown

# Few base cells close to each other, so that much is taken together; and some people of whom only
# a coarse cell is known.
_GRAND = h3.cell_to_parent(NEW_YORK, COARSEST)
_FINE = [
    cell
    for child in sorted(h3.cell_to_children(_GRAND, 4))[:3]
    for inner in sorted(h3.cell_to_children(child, 5))[:3]
    for cell in sorted(h3.cell_to_children(inner, 6))[:3]
]
_COARSE = [h3.cell_to_parent(cell, level) for cell in _FINE[::4] for level in (3, 4, 5)]
_AWAY = [h3.latlng_to_cell(48.2, 16.4, 6), h3.latlng_to_cell(48.2, 16.4, 1)]
SEEN = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(_FINE + _COARSE + _AWAY)),
    min_size=1,
    max_size=120,
)


def grouped(rows: list[tuple[int, int]], level: int, least: int) -> Grouping:
    cells = parents(np.array([r[1] for r in rows], np.uint64), level)
    return group(np.array([r[0] for r in rows], np.int64), cells, level, least)


def base_groups(rows: list[tuple[int, int]], level: int, least: int) -> dict[int, int]:
    """The group of each cell as it was seen, by key; 0 where it is withheld."""
    found = grouped(rows, level, least)
    base = np.array(sorted({r[1] for r in rows}), np.uint64)
    which = found.of(parents(base, level))
    keys = [int(found.key[at]) if at >= 0 else 0 for at in which.tolist()]
    return dict(zip(base.tolist(), keys, strict=True))


@given(SEEN, st.integers(2, 9))
def test_no_group_is_small_and_none_is_lost(rows: list[tuple[int, int]], least: int) -> None:
    for level in (6, 5, 4, 3):
        found = grouped(rows, level, least)
        seen = base_groups(rows, level, least)
        for key, people in zip(found.key.tolist(), found.people.tolist(), strict=True):
            inside = {person for person, cell in rows if seen[cell] == key}
            assert len(inside) == people >= least
            for person, cell in rows:
                if seen[cell] == key:
                    assert person in inside
                    assert h3.cell_to_parent(cell, h3.get_resolution(key)) == key
        withheld = {person for person, cell in rows if seen[cell] == 0}
        assert found.withheld == len(withheld)
        assert not withheld or len(withheld) >= least or not len(found.key)


@given(SEEN, st.integers(2, 9))
def test_what_is_shown_finely_is_part_of_what_is_shown_coarsely(
    rows: list[tuple[int, int]], least: int
) -> None:
    """So that no difference between resolutions tells of a few."""
    runs = [base_groups(rows, level, least) for level in (6, 5, 4, 3)]
    for fine, coarse in pairwise(runs):
        for key in set(fine.values()):
            assert len({coarse[cell] for cell, mine in fine.items() if mine == key}) == 1


def test_the_rest_of_a_parent_takes_its_smallest_child() -> None:
    a, b, c = (sorted(h3.cell_to_children(NEW_YORK, 6)))[:3]
    rows = (
        [(n, a) for n in range(12)] + [(n, b) for n in range(20, 31)] + [(n, c) for n in (40, 41)]
    )
    found = grouped(rows, 6, 10)
    assert dict(zip(found.key.tolist(), found.people.tolist(), strict=True)) == {
        a: 12, NEW_YORK: 13,
    }  # fmt: skip
    assert dict(zip(found.key.tolist(), found.partial.tolist(), strict=True)) == {
        a: False, NEW_YORK: True,
    }  # fmt: skip
    assert found.withheld == 0


def test_who_is_known_too_coarsely_is_withheld() -> None:
    wide = h3.cell_to_parent(NEW_YORK, 2)
    rows = [(n, wide) for n in range(30)] + [(n, NEW_YORK) for n in range(40, 60)]
    found = grouped(rows, 5, 10)
    assert found.key.tolist() == [NEW_YORK]
    assert found.withheld == 30
