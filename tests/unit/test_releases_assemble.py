from __future__ import annotations

from contextlib import closing
from pathlib import Path

import h3.api.basic_int as h3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.products import ProductLookup
from edge_sdk.dna.schema import default_schema
from edge_sdk.engine.cells import cell_from_latlng, format_cell
from edge_sdk.engine.places import PlaceLayer
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.releases.assemble import assemble, compacted
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
    small = [int(text, 16) for text in compacted(format_cell(c) for c in given_cells)]
    assert small == sorted(small)
    assert len(small) <= len(given_cells)
    assert {c for cell in small for c in h3.cell_to_children(cell, 8)} == cells


def test_a_whole_parent_becomes_one_cell() -> None:
    assert compacted(format_cell(c) for c in FINE) == [format_cell(ROOT)]
    mixed = [c for c in FINE if h3.cell_to_parent(c, 6) != h3.cell_to_parent(FINE[0], 6)]
    mixed.append(h3.cell_to_parent(FINE[0], 6))
    assert compacted(format_cell(c) for c in mixed) == [format_cell(ROOT)]


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


def test_overlapping_places_of_a_kind_are_one(parts: dict[str, bytes]) -> None:
    layer = PlaceLayer.from_proto(release_pb2.PlaceTable.FromString(parts["places"]))
    assert layer.resolve(FINE[0]) == (("place:hotel", 1.0), ("place:cafe", 10 / 256))
    assert layer.resolve(FINE[1]) == (("place:hotel", 0.5),)
    assert layer.resolve(FINE[2]) == ()
