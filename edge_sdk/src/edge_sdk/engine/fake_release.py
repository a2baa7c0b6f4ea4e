"""A release out of plain documents, without a server, a signature or a model file.

For tests, of this project and of apps. Offers are scored by `SharedDna`, which learns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary, marker, split
from edge_sdk.dna.schema import DnaSchema, default_schema
from edge_sdk.engine.offers import (
    DEFAULT_OUTCOME_WINDOW_HOURS,
    MAX_SLOTS,
    dna_from_document,
    offer_from_document,
    placement_from_document,
)
from edge_sdk.engine.policy import Floats, Greedy, Indices, Scorer
from edge_sdk.engine.release import Placement, Release
from edge_sdk.engine.zones import tables_for
from genome_edge.v1 import dna_pb2, release_pb2

LINEAGE: Final = bytes(range(16))
_REFUSED: Final = "not-"
# Whatever a test's clock says: from 1970 until 2100.
_ZONED_MS: Final = (0, 4_102_444_800_000)


class SharedDna:
    """Scores an offer by the markers that it shares with the moment and the genome.

    With s the sum of the products of weights over shared markers (those of what the customer
    refused, `not-…`, count against it), the value is 0.5 + s / (2 · (1 + |s|)): 0.5 where nothing
    is shared, more for what is more alike. A vector has one entry for each marker.
    """

    #: What `DecisionRecord.scored_by` says of it.
    runtime = f"numpy {np.__version__}"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._size = len(vocabulary)
        self._refused = [vocabulary.index(_REFUSED + name) for name in vocabulary]

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        """Each offer's DNA as one row, float32[m, markers]."""
        out = np.zeros((len(dna), self._size), np.float32)
        for row, markers in enumerate(dna):
            for index, weight in markers:
                out[row, index] += weight
                refused = self._refused[index]
                if refused is not None:
                    out[row, refused] -= weight
        return out

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        """How much each offer shares with the query, float32[k] from 0 to 1."""
        query = np.zeros(self._size, np.float32)
        known = indices < self._size
        np.add.at(query, indices[known], weights[known])
        shared = vectors @ query
        values: Floats = 0.5 + shared / (2 * (1 + np.abs(shared)))
        return values


class Documents(NamedTuple):
    """What import documents say, in the form of a release's parts."""

    vocabulary: Vocabulary
    offers: release_pb2.OfferCatalogue
    placements: release_pb2.PlacementList
    products: release_pb2.ProductTable


def read_documents(
    offers: Iterable[Mapping[str, Any]],
    placements: Iterable[Mapping[str, Any]] = (),
    *,
    products: Mapping[str, object] | None = None,
    markers: Iterable[str] = (),
    known: Iterable[str] = BUILTIN_MARKERS,
) -> Documents:
    """The parts that these documents make.

    `products` gives the DNA of each product id. The vocabulary holds the `known` markers in their
    order, then every other that occurs, `markers` besides, and of each what refusing it imprints.
    Raises InvalidDocument.
    """
    specs = [offer_from_document(doc) for doc in offers]
    kinds = [placement_from_document(doc) for doc in placements]
    assortment = {
        name: dna_from_document(dna, f"products.{name}") for name, dna in (products or {}).items()
    }
    names = [*_markers_of(specs), *(m.marker for dna in assortment.values() for m in dna)]
    names += [*markers, *(marker("channel", kind.channel) for kind in kinds if kind.channel)]
    refused = [_REFUSED + name for name in names if not name.startswith(_REFUSED)]
    words = Vocabulary(LINEAGE, list(dict.fromkeys((*known, *names, *refused))))
    return Documents(
        words,
        release_pb2.OfferCatalogue(offers=specs, zones=tables_for(specs, *_ZONED_MS)),
        release_pb2.PlacementList(placements=kinds),
        _product_table(assortment, words),
    )


def release_from_documents(
    offers: Iterable[Mapping[str, Any]],
    placements: Iterable[Mapping[str, Any]] = (),
    *,
    products: Mapping[str, object] | None = None,
    places: release_pb2.PlaceTable | None = None,
    markers: Iterable[str] = (),
    schema: DnaSchema | None = None,
    scorer: Scorer | None = None,
    version: int = 1,
    expires_ms: int = (1 << 62) - 1,
) -> Release:
    """A release of these offers and placements, in the form of import documents.

    The rest is as `read_documents` says. Raises InvalidDocument.
    """
    named = [*(places.markers if places is not None else ()), *markers]
    made_of = read_documents(offers, placements, products=products, markers=named)
    known = made_of.vocabulary
    # Strengths as of an hour, since nothing grows from 1970 until today.
    schema = schema or replace(default_schema(0), quantiser=1)
    made = scorer or SharedDna(known)
    return Release(
        release_pb2.Manifest(
            format=1,
            tenant="test",
            version=version,
            created_ms=1,
            expires_ms=expires_ms,
            channel="stable",
            lineage=schema.lineage(known),
        ),
        schema=schema,
        vocabulary=known,
        offers=made_of.offers,
        placements=made_of.placements,
        products=made_of.products,
        places=places or release_pb2.PlaceTable(),
        golden=release_pb2.GoldenVectors(),
        scorer=lambda: made,
    )


def any_placement(name: str) -> Placement:
    """A placement of this name that shows up to 64 slots and chooses greedily."""
    return Placement(name, MAX_SLOTS, "", False, None, Greedy(), DEFAULT_OUTCOME_WINDOW_HOURS)


def _markers_of(specs: Iterable[release_pb2.OfferSpec]) -> list[str]:
    names: list[str] = []
    for spec in specs:
        targeting = spec.targeting
        names += [weighted.marker for weighted in spec.dna]
        for listed in (targeting.near_places, targeting.any_of, targeting.all_of):
            names += listed
        names += targeting.none_of
        names += [marker("channel", channel) for channel in targeting.channels]
    for name in names:
        split(name)
    return names


def _product_table(
    assortment: Mapping[str, Sequence[dna_pb2.WeightedMarker]], vocabulary: Vocabulary
) -> release_pb2.ProductTable:
    table = release_pb2.ProductTable()
    for name in sorted(assortment):
        pairs = [(vocabulary.index(m.marker), m.salience_q8) for m in assortment[name]]
        known = [(index, salience) for index, salience in pairs if index is not None]
        table.ids.append(name)
        table.counts.append(len(known))
        table.indices.extend(index for index, _ in known)
        table.saliences_q8.extend(salience for _, salience in known)
    return table
