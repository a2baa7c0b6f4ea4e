"""What a model is tried with: real genomes and offers of a tenant, as devices would give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from edge_sdk.dna.genome import Genome
from genome_server.dna_file import load_schema
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.rows import built_schema, row_of
from genome_server.home import Tenant
from genome_server.learning.towers import Floats, Indices
from genome_server.store.protocol import CONSENT_PERSONALISATION, Store

_GENOMES = 64
_OFFERS = 256

#: An offer's DNA: marker index and salience (1.0 is plain).
OfferDna = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Samples:
    """Real offers, and real queries: marker indices int64[n] and weights float32[n] of each."""

    offers: tuple[OfferDna, ...] = ()
    queries: tuple[tuple[Indices, Floats], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        return {
            "offers": self.offers,
            "queries": [(indices.tolist(), weights.tolist()) for indices, weights in self.queries],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Samples:
        """What `to_json` gave."""
        return cls(
            tuple(tuple((int(i), float(w)) for i, w in offer) for offer in data["offers"]),
            tuple(
                (np.array(indices, np.int64), np.array(weights, np.float32))
                for indices, weights in data["queries"]
            ),
        )


def samples_of(tenant: Tenant, store: Store) -> Samples:
    """Return up to 256 offers and 64 genomes of a tenant: those of customers who agreed to
    personalisation, in which case alone a device gives them to a model."""
    vocabulary = store.vocabulary()
    dna = StoreDna(store, load_schema(tenant.dna_path, store))
    offers = []
    for name, _ in islice(store.documents("offer"), _OFFERS):
        known = (
            (vocabulary.index(marker), salience_q8 / 256)
            for marker, salience_q8 in dna.offer(name) or ()
        )
        offers.append(tuple((at, weight) for at, weight in known if at is not None))
    return Samples(tuple(offers), tuple(_queries(store)))


def _queries(store: Store) -> Iterator[tuple[Indices, Floats]]:
    schema = built_schema(store)
    if schema is None:  # nothing was built yet: there are no genomes either
        return
    vocabulary = store.vocabulary()
    rows = (row_of(record) for record in store.genomes())
    agreed = (row for row in rows if row.consents & CONSENT_PERSONALISATION)
    for row in islice(agreed, _GENOMES):
        indices, weights = Genome(row, schema, vocabulary).features(row.as_of_hour)
        yield indices.astype(np.int64), weights.astype(np.float32)
