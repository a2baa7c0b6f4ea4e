"""The DNA behind the ids that events name, from the documents in the store."""

from __future__ import annotations

from edge_sdk.engine.offers import dna_from_document
from genome_server.genomes.events import Dna
from genome_server.ingest.dna import product_dna
from genome_server.store.protocol import Store


class StoreDna:
    """Asks the store. Keeps nothing: whoever asks often remembers the answers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def product(self, product_id: str) -> Dna | None:
        """The DNA of a product; None where there is no such product."""
        document = self._store.document("product", product_id)
        return None if document is None else product_dna(document)

    def offer(self, offer_id: str) -> Dna | None:
        """The DNA of an offer; None where there is no such offer."""
        document = self._store.document("offer", offer_id)
        if document is None:
            return None
        dna = dna_from_document(document.get("dna"), "dna")
        return [(item.marker, item.salience_q8) for item in dna]
