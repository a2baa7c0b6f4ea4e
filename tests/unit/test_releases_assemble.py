from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.products import ProductLookup
from edge_sdk.dna.schema import default_schema
from edge_sdk.engine.cells import cell_from_latlng, format_cell
from edge_sdk.engine.covers import compacted, with_rings
from edge_sdk.engine.places import PlaceLayer
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.errors import Refused
from genome_server.releases.assemble import assemble
from genome_server.store.sqlite import SqliteStore

ROOT = cell_from_latlng(40.0, -73.0, 5)
FINE = sorted(h3.cell_to_children(ROOT, 8))


@given(st.sets(st.integers(0, len(FINE) - 1), max_size=343), st.booleans())
@settings(max_examples=40, deadline=None)
def test_compacting_keeps_the_area(chosen: set[int], with_parent: bool) -> None:
    cells = {FINE[i] for i in chosen}
    given_cells = set(cells)
    if with_parent:
        parent = h3.cell_to_parent(FINE[0], 7)
        given_cells.add(parent)
        cells |= set(h3.cell_to_children(parent, 8))
    small = compacted(given_cells)
    assert small == sorted(small)
    assert len(small) <= len(given_cells)
    assert {c for cell in small for c in h3.cell_to_children(cell, 8)} == cells


def test_a_whole_parent_becomes_one_cell() -> None:
    assert compacted(FINE) == [ROOT]
    mixed = [c for c in FINE if h3.cell_to_parent(c, 6) != h3.cell_to_parent(FINE[0], 6)]
    mixed.append(h3.cell_to_parent(FINE[0], 6))
    assert compacted(mixed) == [ROOT]
    pentagon = h3.get_pentagons(4)[3]
    assert compacted(h3.cell_to_children(pentagon, 6)) == [pentagon]


@given(
    st.sampled_from([FINE[0], h3.get_pentagons(6)[0], h3.latlng_to_cell(-17.0, 180.0, 7)]),
    st.sets(st.integers(0, 18), min_size=1, max_size=4),
    st.integers(0, 4),
)
@settings(max_examples=40, deadline=None)
def test_rings_are_what_the_library_says(middle: int, chosen: set[int], rings: int) -> None:
    near = sorted(h3.grid_disk(middle, 2))
    cells = {near[i % len(near)] for i in chosen}
    assert with_rings(cells, rings) == {c for one in cells for c in h3.grid_disk(one, rings)}


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, bytes]:
    cells = [format_cell(cell) for cell in FINE[:2]]
    with closing(SqliteStore.open(tmp_path / "tenant.sqlite")) as store:
        store.put_documents(
            "offer",
            [
                ("o2", {"id": "o2", "dna": ["b:two"], "cells": [format_cell(c) for c in FINE]}),
                ("o1", {"id": "o1", "dna": {"a:one": 0.5}, "any_of": ["weather:rainy"]}),
            ],
        )
        store.put_documents("placement", [("p", {"id": "p", "channel": "kiosk"})])
        store.put_documents(
            "product",
            [
                ("z", {"brand": "acme", "attributes": {"claim": ["organic", "local"]}}),
                ("Ä", {"dna": [{"marker": "brand:acme", "salience": 2}]}),
            ],
        )
        store.put_documents(
            "place",
            [
                ("h1", {"kind": "place:hotel", "cells": cells, "saliences_q8": [256, 64]}),
                ("h2", {"kind": "place:hotel", "cells": cells[1:], "saliences_q8": [128]}),
                ("c", {"kind": "place:cafe", "cells": cells[:1], "saliences_q8": [10]}),
            ],
        )
        schema = default_schema(490_000)
        found = assemble(store, schema, b"model")
        assert assemble(store, schema, b"model") == found
        assert assemble(store, schema, b"model", dry_run=True) == found
    return found


def test_every_part_holds_what_the_store_holds(parts: dict[str, bytes]) -> None:
    words = Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(parts["vocabulary"]))
    assert words.markers[: len(BUILTIN_MARKERS)] == BUILTIN_MARKERS
    for name in ("a:one", "b:two", "weather:rainy", "claim:organic", "channel:kiosk", "place:cafe"):
        assert name in words
    offers = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
    assert [offer.id for offer in offers] == ["o1", "o2"]
    assert list(offers[1].targeting.cells) == [format_cell(ROOT)]
    products = ProductLookup.from_proto(release_pb2.ProductTable.FromString(parts["products"]))
    assert products.ids == ["z", "Ä"]
    dna = products.dna("z")
    assert dna is not None
    assert {words.name(i): q8 for i, q8 in dna} == {
        "brand:acme": 256,
        "claim:organic": 256,
        "claim:local": 256,
    }
    assert products.dna("Ä") == [(words.index("brand:acme"), 512)]
    assert parts["model"] == b"model"


def test_homes_of_customers_have_no_name_in_a_release(tmp_path: Path) -> None:
    """An index keeps its meaning, and what products say of themselves keeps its name."""
    cell = format_cell(FINE[0])
    with closing(SqliteStore.open(tmp_path / "tenant.sqlite")) as store:
        store.put_documents(
            "product", [("hob", {"dna": [{"marker": "home:kitchen", "salience": 1}]})]
        )
        store.extend_vocabulary([f"home:{cell}", f"insight:home-{cell}", "age:30"])
        parts = assemble(store, default_schema(490_000), b"model")
        known = store.vocabulary()
    assert cell.encode() not in b"".join(parts.values())
    words = Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(parts["vocabulary"]))
    assert (words.lineage, len(words)) == (known.lineage, len(known))
    assert {i: name for i, name in enumerate(words) if name != known.name(i)} == {
        known.index(f"home:{cell}"): "withheld:0",
        known.index(f"insight:home-{cell}"): "withheld:1",
    }
    assert words.index("home:kitchen") == known.index("home:kitchen")


def test_overlapping_places_of_a_kind_are_one(parts: dict[str, bytes]) -> None:
    layer = PlaceLayer.from_proto(release_pb2.PlaceTable.FromString(parts["places"]))
    assert layer.resolve(FINE[0]) == (("place:hotel", 1.0), ("place:cafe", 10 / 256))
    assert layer.resolve(FINE[1]) == (("place:hotel", 0.5),)
    assert layer.resolve(FINE[2]) == ()


def test_rings_around_places_are_in_the_place_layer(tmp_path: Path) -> None:
    cells = [format_cell(cell) for cell in (FINE[0], h3.cell_to_center_child(FINE[200], 10))]
    with closing(SqliteStore.open(tmp_path / "tenant.sqlite")) as store:
        offers: list[tuple[str, dict[str, Any]]] = [
            ("near", {"id": "near", "near": ["hotel", "spa"], "near_rings": 3}),
            ("nearer", {"id": "nearer", "near": ["hotel"], "near_rings": 1}),
            ("at", {"id": "at", "near": ["hotel"]}),
        ]
        store.put_documents("offer", offers)
        place = {"kind": "place:hotel", "cells": cells, "saliences_q8": [64, 64]}
        store.put_documents("place", [("h", place)])
        found = assemble(store, default_schema(490_000), b"model")
    layer = PlaceLayer.from_proto(release_pb2.PlaceTable.FromString(found["places"]))
    assert layer.markers == ("around-1:hotel", "around-3:hotel", "place:hotel")
    for cell in h3.grid_disk(FINE[0], 5):
        steps = h3.grid_distance(FINE[0], cell)
        expected = {f"around-{rings}:hotel" for rings in (1, 3) if steps <= rings}
        expected |= {"place:hotel"} if steps == 0 else set()
        assert {name for name, _ in layer.resolve(h3.cell_to_center_child(cell, 11))} == expected
    fine = h3.cell_to_center_child(FINE[200], 10)
    for cell in h3.grid_disk(fine, 5):
        near = {name for name, _ in layer.resolve(cell)}
        assert ("around-3:hotel" in near) == (h3.grid_distance(fine, cell) <= 3)
    near_places = [
        list(offer.targeting.near_places)
        for offer in release_pb2.OfferCatalogue.FromString(found["offers"]).offers
    ]
    assert near_places == [
        ["place:hotel"],
        ["place:hotel", "place:spa", "around-3:hotel", "around-3:spa"],
        ["place:hotel", "around-1:hotel"],
    ]


def test_too_many_cells_around_places_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.engine.covers.MAX_CELLS", 100)
    place = {"kind": "place:hotel", "cells": [format_cell(FINE[0])], "saliences_q8": [256]}
    with closing(SqliteStore.open(tmp_path / "tenant.sqlite")) as store:
        store.put_documents("offer", [("o", {"id": "o", "near": ["hotel"], "near_rings": 20})])
        store.put_documents("place", [("h", place)])
        with pytest.raises(Refused, match="20 rings around every place:hotel are more than 100"):
            assemble(store, default_schema(490_000), b"model")


def test_tables_of_zones_stay_the_same_within_a_year(tmp_path: Path) -> None:
    day = 86_400_000
    created = 1_800_000_000_000  # 15 January 2027
    with closing(SqliteStore.open(tmp_path / "tenant.sqlite")) as store:
        offers: list[tuple[str, dict[str, Any]]] = [
            ("a", {"id": "a", "zone": "Europe/Berlin", "hours": [9]}),
            ("b", {"id": "b", "zone": "Asia/Tokyo"}),
            ("c", {"id": "c"}),
        ]
        store.put_documents("offer", offers)

        def zones(now_ms: int) -> list[release_pb2.TimeZone]:
            expires_ms = now_ms + 30 * day
            schema = default_schema(490_000)
            made = assemble(store, schema, b"model", now_ms=now_ms, expires_ms=expires_ms)
            return list(release_pb2.OfferCatalogue.FromString(made["offers"]).zones)

        first = zones(created)
        assert [zone.name for zone in first] == ["Asia/Tokyo", "Europe/Berlin"]
        assert first == zones(created + 300 * day) != zones(created + 360 * day)
    begins, ends = first[1].from_ms[0], first[1].from_ms[-1]
    assert begins < created - 2 * 365 * day
    assert ends > created + (30 + 10 * 365) * day
