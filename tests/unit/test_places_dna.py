"""The DNA of places: declared, explained, imprinted on who goes there; kinds are at their cells."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.products import ProductLookup
from edge_sdk.dna.schema import default_schema
from edge_sdk.engine.cells import parse_cell
from edge_sdk.engine.places import PlaceLayer
from genome_edge.v1 import dna_pb2, event_pb2, release_pb2
from genome_server.genomes.dna import StoreDna, known_thing
from genome_server.genomes.rows import row_of
from genome_server.ingest.loose_ends import Names
from genome_server.log import LogReader
from genome_server.releases.assemble import assemble
from genome_server.things.dna import Things
from genome_server.things.settings import Settings
from tests.unit.server_shell import Shell

CELL = "8a2a100d2d57fff"
WHEN = "2026-03-01T18:05:00+01:00"
GRAND: dict[str, Any] = {
    "id": "grand",
    "kind": "hotel",
    "name": "Grand Hotel, vegan kitchen",
    "cells": [CELL],
    "attributes": {"stars": 4, "cuisine": ["thai", "vegan"]},
    "dna": [{"marker": "place:bar", "salience": 0.5}, {"marker": "cuisine:thai", "salience": 2}],
}
INN = {"id": "inn", "kind": "hotel", "cells": ["8a2a100d2d5ffff"]}
DNA = {"place:hotel": 256, "stars:4": 256, "cuisine:thai": 512, "cuisine:vegan": 256}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    rows = [*map(json.dumps, (GRAND, INN))]
    made.call("import", "places", made.file("places.jsonl", "\n".join(rows) + "\n"))
    people = '{"id": "anna", "consent": ["personalisation"]}\n'
    made.call("import", "customers", made.file("customers.jsonl", people))
    return made


def went(shell: Shell, code: int = 0, **row: Any) -> Any:
    row = {"customer": "anna", "kind": "consume", "time": WHEN, **row}
    return shell.json("import", "interactions", shell.file("i.jsonl", json.dumps(row)), code=code)


def test_what_a_place_declares_is_its_dna() -> None:
    document = {**GRAND, "kind": "place:hotel"}
    assert dict(Things().place(document)) == {**DNA, "place:bar": 128}
    assert Things().place_kinds(document) == [("place:hotel", 256), ("place:bar", 128)]
    parts = {part.marker: part for part in Things().explain("place", document)}
    assert (parts["stars:4"].field, parts["cuisine:thai"].field) == ("attributes", "dna")
    # Declared DNA also wins over the kind; what the name says is read only where that is asked.
    surely = {"kind": "place:hotel", "dna": {"place:hotel": 0.25}}
    assert Things().place(surely) == [("place:hotel", 64)]
    read = dict(Things(Settings(places={"name": 256})).place({**document, "attributes": {}}))
    assert read["claim:vegan"] == 256


def test_dna_show_explains_a_place(shell: Shell) -> None:
    shown = shell.json("dna", "show", "place:grand")
    found = {one["marker"]: one["weighed"] for one in shown["dna"]}
    assert found == {**{name: q8 / 256 for name, q8 in DNA.items()}, "place:bar": 0.5}


def test_a_marker_that_is_none_sets_the_row_aside(shell: Shell) -> None:
    row = {**GRAND, "attributes": {"stars": "★" * 300}}
    told = shell.json("import", "places", shell.file("p.jsonl", json.dumps(row)), code=1)
    assert "attributes.stars" in json.dumps(told)


def test_who_goes_to_a_place_is_imprinted_with_it(shell: Shell) -> None:
    went(shell, place="grand")
    went(shell, place="inn", time="2026-03-02T18:05:00+01:00")
    built = shell.json("build")
    assert (built["imprints"], built["skipped"]) == (2, {})
    with closing(shell.tenant.open_store()) as store:
        (record,) = store.genomes()
        words, row = store.vocabulary(), row_of(record)
        names = {words.name(index) for index in row.indices.tolist()}
        assert names == {*DNA, "place:bar"}
        # Live increments and the build ask the same.
        assert dict(StoreDna(store).product("place:grand") or ()) == {**DNA, "place:bar": 128}
        assert StoreDna(store).product("place:inn") == [("place:hotel", 256)]
        known = [known_thing(store, f"{one}grand") for one in ("place:", "content:", "")]
        assert known == [True, False, False]


def test_a_place_must_be_known_and_be_the_only_thing(shell: Shell) -> None:
    assert "did you mean 'grand'" in json.dumps(went(shell, 1, place="grnd"))
    assert "exclude each other" in json.dumps(went(shell, 1, place="grand", dna=["a:b"]))


def test_a_release_has_places_as_things_where_more_is_said_than_their_kind(shell: Shell) -> None:
    with closing(shell.tenant.open_store()) as store:
        parts = assemble(store, default_schema(490_000), b"model")
    table = release_pb2.ProductTable.FromString(parts["products"])
    words = Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(parts["vocabulary"]))
    assert list(table.ids) == ["place:grand"]
    dna = ProductLookup.from_proto(table).dna("place:grand") or []
    assert {words.name(index): q8 for index, q8 in dna} == {**DNA, "place:bar": 128}
    # At its cells a device finds kinds of place and nothing else.
    layer = PlaceLayer.from_proto(release_pb2.PlaceTable.FromString(parts["places"]))
    assert layer.resolve(parse_cell(CELL)) == (("place:hotel", 1.0), ("place:bar", 0.5))


def test_imports_find_the_same_kinds_at_a_cell(shell: Shell) -> None:
    went(shell, cell=CELL, dna=["a:b"])
    with LogReader(shell.tenant.log_path) as log:
        (frame,) = log.frames()
    markers = event_pb2.Event.FromString(frame.body).interaction.context_markers
    found = {name for name in markers if name.startswith(("place:", "stars:", "cuisine:"))}
    assert found == {"place:hotel", "place:bar"}


def test_an_offer_may_name_a_kind_that_is_declared_as_dna() -> None:
    offer = release_pb2.OfferSpec(
        id="cocktails", targeting=release_pb2.Targeting(near_places=["place:bar", "place:baar"])
    )
    names = Names.of([offer], [], [("grand", {**GRAND, "kind": "place:hotel"})])
    (told,) = names.unknown_places(offer)
    assert "did you mean 'bar'" in told
