"""A cell becomes place markers, whatever the resolutions."""

from __future__ import annotations

import h3.api.basic_int as h3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.engine.places import PlaceLayer
from edge_sdk.errors import FormatError
from genome_edge.v1 import release_pb2

HERE = h3.latlng_to_cell(40.758, -73.985, 11)
LINE = [h3.cell_to_parent(HERE, res) for res in range(12)]
FAR = h3.latlng_to_cell(41.2, -73.1, 9)
KINDS = ["place:airport", "place:hotel", "place:bar"]


def table(
    entries: list[tuple[int, str, int]], resolutions: list[int] | None = None
) -> release_pb2.PlaceTable:
    made = release_pb2.PlaceTable(markers=KINDS)
    for cell, kind, salience in sorted(entries):
        made.cells.append(cell)
        made.kinds.append(KINDS.index(kind))
        made.saliences_q8.append(salience)
    found = {h3.get_resolution(cell) for cell, _, _ in entries}
    made.resolutions.extend(sorted(found) if resolutions is None else resolutions)
    return made


def test_parents_count_and_the_strongest_comes_first() -> None:
    layer = PlaceLayer.from_proto(
        table(
            [
                (LINE[7], "place:airport", 64),
                (LINE[9], "place:hotel", 256),
                (LINE[11], "place:hotel", 128),
                (FAR, "place:bar", 256),
            ]
        )
    )
    assert layer.resolutions == (7, 9, 11)
    assert layer.resolve(HERE) == (("place:hotel", 1.0), ("place:airport", 0.25))
    assert layer.resolve(LINE[9]) == (("place:hotel", 1.0), ("place:airport", 0.25))
    assert layer.resolve(LINE[8]) == (("place:airport", 0.25),)
    assert layer.resolve(LINE[6]) == ()
    assert layer.resolve(HERE) == layer.resolve(HERE)


def test_a_cell_may_be_at_several_places() -> None:
    layer = PlaceLayer.from_proto(
        table([(LINE[10], kind, 100 + n) for n, kind in enumerate(KINDS)])
    )
    assert [name for name, _ in layer.resolve(HERE)] == [
        "place:bar",
        "place:hotel",
        "place:airport",
    ]


def test_an_empty_layer_knows_nothing() -> None:
    layer = PlaceLayer.from_proto(release_pb2.PlaceTable())
    assert layer.resolve(HERE) == ()
    assert len(layer) == 0


cells = st.sampled_from([*LINE[4:], FAR, h3.cell_to_parent(FAR, 6)])


@settings(max_examples=100)
@given(
    entries=st.lists(st.tuples(cells, st.sampled_from(KINDS), st.integers(1, 512)), max_size=10),
    asked=st.sampled_from([*LINE, FAR, h3.cell_to_center_child(FAR, 12)]),
)
def test_resolving_is_looking_at_every_entry(
    entries: list[tuple[int, str, int]], asked: int
) -> None:
    layer = PlaceLayer.from_proto(table(entries))
    wanted: dict[str, float] = {}
    for cell, kind, salience in entries:
        res = h3.get_resolution(cell)
        if res <= h3.get_resolution(asked) and h3.cell_to_parent(asked, res) == cell:
            wanted[kind] = max(wanted.get(kind, 0.0), salience / 256)
    assert dict(layer.resolve(asked)) == wanted


def test_what_it_remembers_is_bounded() -> None:
    layer = PlaceLayer.from_proto(table([(LINE[5], "place:hotel", 256)]))
    for cell in list(h3.cell_to_children(LINE[5], 10))[:5000]:
        assert layer.resolve(cell) == (("place:hotel", 1.0),)
    assert len(layer._known) <= 4096


def test_tables_that_make_no_sense() -> None:
    short = table([(HERE, "place:bar", 1)])
    short.kinds.append(0)
    with pytest.raises(FormatError, match="differ in length"):
        PlaceLayer.from_proto(short)
    beyond = table([(HERE, "place:bar", 1)])
    beyond.kinds[0] = 3
    with pytest.raises(FormatError, match="kind beyond"):
        PlaceLayer.from_proto(beyond)
    unordered = table([(HERE, "place:bar", 1), (FAR, "place:bar", 1)])
    unordered.cells.reverse()
    with pytest.raises(FormatError, match="ascend"):
        PlaceLayer.from_proto(unordered)
    with pytest.raises(FormatError, match="resolutions"):
        PlaceLayer.from_proto(table([(HERE, "place:bar", 1)], [7]))
    foreign = table([])
    foreign.markers.append("brand:acme")
    with pytest.raises(FormatError, match="brand:acme"):
        PlaceLayer.from_proto(foreign)
