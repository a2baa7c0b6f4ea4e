"""The DNA behind the ids that events name, from the documents in the store.

An e-mail or a page stands where a product does, as `content:ID`: in events, in the table of
products of a release, and in what an app imprints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_sdk.dna.schema import DnaSchema
from genome_server.ingest.dna import Dna
from genome_server.store.protocol import Store
from genome_server.things.dna import Things
from genome_server.things.kept import NEWEST_EPOCH, things_of

CONTENT: Final = "content:"
"""What the id of a piece of content has before it where it stands in place of a product."""


def known_thing(store: Store, product_id: str) -> bool:
    """Whether there is such a product, or such a `content:ID`."""
    if store.document("product", product_id) is not None:
        return True
    content = product_id.removeprefix(CONTENT)
    return content != product_id and store.document("content", content) is not None


class StoreDna:
    """Asks the store, by what the DNA of things goes by in the epoch of `schema` (left out: the
    newest epoch). Keeps no document: whoever asks often remembers the answers."""

    def __init__(self, store: Store, schema: DnaSchema | None = None) -> None:
        self._store = store
        epoch = schema.epoch if schema is not None else int(store.meta(NEWEST_EPOCH) or 1)
        self.things: Things = things_of(store, epoch)

    def product(self, product_id: str) -> Dna | None:
        """The DNA of a product, or of `content:ID`; None where there is no such thing."""
        document = self._store.document("product", product_id)
        if document is not None:
            return self.things.product(document)
        if not product_id.startswith(CONTENT):
            return None
        document = self._store.document("content", product_id.removeprefix(CONTENT))
        return None if document is None else self.things.content(document)

    def offer(self, offer_id: str) -> Dna | None:
        """The DNA of an offer; None where there is no such offer."""
        document = self._store.document("offer", offer_id)
        return None if document is None else self.things.offer(document)

    def products(self) -> Iterator[tuple[str, Dna]]:
        """(id, DNA) of every product and of every `content:ID`; a product wins over a content of
        the same name."""
        known = set()
        for name, document in self._store.documents("product"):
            known.add(name)
            yield name, self.things.product(document)
        for name, document in self._store.documents("content"):
            if CONTENT + name not in known:
                yield CONTENT + name, self.things.content(document)
