"""From the store to the parts of a release. Reads the store, writes nothing but markers.

The same store and model give the same bytes: what did not change is not sent again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.cells import format_cell, parse_cell, resolution
from edge_sdk.engine.covers import compacted, with_rings
from edge_sdk.engine.offers import rings_of
from edge_sdk.engine.zones import tables_for, zone_trouble
from edge_sdk.errors import UsageError
from genome_edge.v1 import release_pb2
from genome_server.documents import offer_spec
from genome_server.errors import Refused
from genome_server.genomes.consents import for_devices
from genome_server.genomes.dna import StoreDna
from genome_server.ingest.dna import Dna, offer_markers
from genome_server.learning.export import examples_of
from genome_server.releases.exploring import explored
from genome_server.store.protocol import Store
from genome_server.things.dna import Things

# How long before a release is made, and after it expires, tables of time zones hold.
_YEARS_BEFORE = 2
_YEARS_AFTER = 10
_LAST_YEAR = 9998
_FULL_Q8 = 256


def assemble(
    store: Store,
    schema: DnaSchema,
    model: bytes,
    *,
    dry_run: bool = False,
    now_ms: int | None = None,
    expires_ms: int | None = None,
) -> dict[str, bytes]:
    """Return all parts but "golden", serialised, by name.

    Markers that offers, products and places use get their indices here; with
    `dry_run` only in what is returned. The homes of customers have no name in it. `now_ms` and
    `expires_ms` (now, where left out) are those of the release: tables of time zones cover them. An
    offer of a zone that this machine no longer knows is in the parts without a table, see
    `without_tables`. How much placements explore that do not say it is in `exploring`.
    Raises Refused where rings around places make more cells than there may be.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    documents = store.documents("offer")
    dna = StoreDna(store, schema)
    offers = [_offer(document, dna.things) for _, document in documents]
    asked = [document for _, document in store.documents("placement")]
    placements = explored(asked, offers, examples_of(model))
    products = list(dna.products())
    places = _place_table(store, _rings_asked(offers), dna.things)
    wanted = [
        *BUILTIN_MARKERS,
        *(name for offer in offers for name in offer_markers(offer)),
        *(name for _, dna in products for name, _ in dna),
        *(f"channel:{placement.channel}" for placement in placements if placement.channel),
        *places.markers,
    ]
    vocabulary = store.vocabulary().extend(wanted) if dry_run else store.extend_vocabulary(wanted)
    for offer in offers:
        cells = compacted(map(parse_cell, offer.targeting.cells))
        offer.targeting.cells[:] = [format_cell(cell) for cell in cells]
    zoned = [offer for offer in offers if not zone_trouble(offer.targeting.zone)]
    zones = tables_for(zoned, *_zoned(now_ms, expires_ms or now_ms))
    messages = {
        "schema": schema.to_proto(),
        "vocabulary": for_devices(vocabulary, wanted).to_proto(),
        "offers": release_pb2.OfferCatalogue(offers=offers, zones=zones),
        "placements": release_pb2.PlacementList(placements=placements),
        "products": _product_table(products, vocabulary),
        "places": places,
    }
    parts = {
        name: message.SerializeToString(deterministic=True) for name, message in messages.items()
    }
    return {**parts, "model": model}


def _offer(document: Mapping[str, Any], things: Things) -> release_pb2.OfferSpec:
    """An offer with the DNA that it has to the genomes."""
    spec = offer_spec(document, taken=True)
    if things.settings.offers:
        del spec.dna[:]
        for marker, salience_q8 in things.offer(document):
            spec.dna.add(marker=marker, salience_q8=salience_q8)
    return spec


def without_offers(parts: Mapping[str, bytes], names: Collection[str]) -> dict[str, bytes]:
    """The same parts without some offers."""
    catalogue = release_pb2.OfferCatalogue.FromString(parts["offers"])
    kept = [offer for offer in catalogue.offers if offer.id not in names]
    left = release_pb2.OfferCatalogue(offers=kept, zones=catalogue.zones)
    return {**parts, "offers": left.SerializeToString(deterministic=True)}


def without_tables(parts: Mapping[str, bytes]) -> list[str]:
    """The offers whose zone has no table; no device could read them."""
    catalogue = release_pb2.OfferCatalogue.FromString(parts["offers"])
    there = {"", *(zone.name for zone in catalogue.zones)}
    return [offer.id for offer in catalogue.offers if offer.targeting.zone not in there]


def _zoned(created_ms: int, expires_ms: int) -> tuple[int, int]:
    """From when until when tables of time zones are made: whole years, so that they stay the same
    from one release to the next."""
    first = datetime.fromtimestamp(created_ms / 1000, UTC).year - _YEARS_BEFORE
    last = datetime.fromtimestamp(expires_ms / 1000, UTC).year + _YEARS_AFTER + 1
    starts = (datetime(min(year, _LAST_YEAR), 1, 1, tzinfo=UTC) for year in (first, last))
    begins, ends = (round(start.timestamp() * 1000) for start in starts)
    return begins, ends


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


def _rings_asked(offers: Iterable[release_pb2.OfferSpec]) -> dict[str, tuple[str, int]]:
    """The markers of rings around places that offers name, each with its place and its rings."""
    named = {name for offer in offers for name in offer.targeting.near_places}
    found = {name: rings_of(name) for name in sorted(named)}
    return {name: ringed for name, ringed in found.items() if ringed is not None}


def _place_table(
    store: Store, rings_asked: Mapping[str, tuple[str, int]], things: Things
) -> release_pb2.PlaceTable:
    """The table of all places and of the rings around them that are asked for.

    Where two of a kind overlap, the greater salience counts; within rings it is always full.
    """
    best: dict[tuple[int, str], int] = {}
    for _, document in store.documents("place"):
        kinds = things.place_kinds(document)
        for cell, salience_q8 in _place_cells(document):
            for kind, own_q8 in kinds:
                salience = max(1, salience_q8 * own_q8 // _FULL_Q8)
                best[cell, kind] = max(salience, best.get((cell, kind), 0))
    around: dict[tuple[int, str], int] = {}
    for marker, (place, rings) in rings_asked.items():
        try:
            area = with_rings((cell for cell, kind in best if kind == place), rings)
        except UsageError as error:
            raise Refused(f"the {rings} rings around every {place} are {error}") from error
        around.update(dict.fromkeys(((cell, marker) for cell in compacted(area)), _FULL_Q8))
    best |= around
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
