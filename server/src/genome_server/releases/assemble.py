"""From the store to the parts of a release. Reads the store, writes nothing but markers.

The same store and model give the same bytes: what did not change is not sent again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.cells import parse_cell, resolution
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from genome_edge.v1 import release_pb2
from genome_server.ingest.dna import Dna, offer_markers, product_dna
from genome_server.store.protocol import Store

# Below this an area is a handful of cells and gains nothing from larger ones.
_COMPACT_FROM = 7


def assemble(
    store: Store, schema: DnaSchema, model: bytes, *, dry_run: bool = False
) -> dict[str, bytes]:
    """Return all parts but "golden", serialised, by name.

    Markers that offers, products and places use get their indices here; with
    `dry_run` only in what is returned.
    """
    offers = [offer_from_document(document) for _, document in store.documents("offer")]
    placements = [placement_from_document(document) for _, document in store.documents("placement")]
    products = [(name, product_dna(document)) for name, document in store.documents("product")]
    places = _place_table(store)
    wanted = [
        *BUILTIN_MARKERS,
        *(name for offer in offers for name in offer_markers(offer)),
        *(name for _, dna in products for name, _ in dna),
        *(f"channel:{placement.channel}" for placement in placements if placement.channel),
        *places.markers,
    ]
    vocabulary = store.vocabulary().extend(wanted) if dry_run else store.extend_vocabulary(wanted)
    for offer in offers:
        cells = compacted(offer.targeting.cells)
        del offer.targeting.cells[:]
        offer.targeting.cells.extend(cells)
    messages = {
        "schema": schema.to_proto(),
        "vocabulary": vocabulary.to_proto(),
        "offers": release_pb2.OfferCatalogue(offers=offers),
        "placements": release_pb2.PlacementList(placements=placements),
        "products": _product_table(products, vocabulary),
        "places": places,
    }
    parts = {
        name: message.SerializeToString(deterministic=True) for name, message in messages.items()
    }
    return {**parts, "model": model}


def compacted(cells: Iterable[str]) -> list[str]:
    """Return the same area in as few cells as possible, in order of their numbers.

    Seven cells with one parent become the parent; cells inside others are left out.
    """
    numbers = sorted({parse_cell(text) for text in cells})
    if len(numbers) < _COMPACT_FROM:
        return [f"{number:x}" for number in numbers]
    import h3.api.basic_int as h3

    by_resolution: defaultdict[int, set[int]] = defaultdict(set)
    for number in numbers:
        by_resolution[resolution(number)].add(number)
    finest = max(by_resolution)
    for fine in range(finest, 0, -1):
        # Of one resolution at a time; what comes out coarser joins the coarser ones.
        made = h3.compact_cells(by_resolution.pop(fine, ()))
        for cell in made:
            by_resolution[resolution(cell)].add(cell)
    everything = {cell for some in by_resolution.values() for cell in some}
    kept = [
        cell
        for cell in everything
        if not any(h3.cell_to_parent(cell, r) in everything for r in range(resolution(cell)))
    ]
    return [f"{cell:x}" for cell in sorted(kept)]


def _product_table(
    products: Iterable[tuple[str, Dna]], vocabulary: Vocabulary
) -> release_pb2.ProductTable:
    table = release_pb2.ProductTable()
    for name, dna in sorted(products):
        pairs = [(vocabulary.index(marker), salience_q8) for marker, salience_q8 in dna]
        known = sorted((index, salience) for index, salience in pairs if index is not None)
        table.ids.append(name)
        table.counts.append(len(known))
        table.indices.extend(index for index, _ in known)
        table.saliences_q8.extend(salience for _, salience in known)
    return table


def _place_table(store: Store) -> release_pb2.PlaceTable:
    """The table of all places; where two of a kind overlap, the greater salience counts."""
    best: dict[tuple[int, str], int] = {}
    for _, document in store.documents("place"):
        for cell, salience_q8 in _place_cells(document):
            key = (cell, document["kind"])
            best[key] = max(salience_q8, best.get(key, 0))
    markers = sorted({kind for _, kind in best})
    number = {kind: at for at, kind in enumerate(markers)}
    table = release_pb2.PlaceTable(
        markers=markers, resolutions=sorted({resolution(cell) for cell, _ in best})
    )
    for (cell, kind), salience_q8 in sorted(best.items()):
        table.cells.append(cell)
        table.kinds.append(number[kind])
        table.saliences_q8.append(salience_q8)
    return table


def _place_cells(document: dict[str, list[str]]) -> Iterator[tuple[int, int]]:
    for text, salience_q8 in zip(document["cells"], document["saliences_q8"], strict=True):
        yield parse_cell(text), int(salience_q8)
