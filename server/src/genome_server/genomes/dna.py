"""The DNA behind the ids that events name, from the documents in the store.

An e-mail or a page stands where a product does, as `content:ID`, and a place as `place:ID`: in
events, in the table of products of a release, and in what an app imprints. A release has a place
there only where more is said of it than what kind of place it is: cities have tens of thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from edge_sdk.dna.schema import DnaSchema
from genome_server.ingest.dna import Dna
from genome_server.store.protocol import Store
from genome_server.things.dna import Things
from genome_server.things.kept import NEWEST_EPOCH, things_of

CONTENT: Final = "content:"
PLACE: Final = "place:"
"""What the id of a piece of content, and of a place, has before it where it stands in place of a
product."""

_KINDS: Final = {CONTENT: "content", PLACE: "place"}


def known_thing(store: Store, product_id: str) -> bool:
    """Whether there is such a product, or such a `content:ID` or `place:ID`."""
    return _document(store, product_id) is not None


def _document(store: Store, product_id: str) -> tuple[str, dict[str, Any]] | None:
    """What stands under an id, and of what kind it is; a product wins over what is spelled so."""
    kind, name = "product", product_id
    document = store.document(kind, name)
    before, colon, after = product_id.partition(":")
    if document is None and before + colon in _KINDS:
        kind, name = _KINDS[before + colon], after
        document = store.document(kind, name)
    return None if document is None else (kind, document)


class StoreDna:
    """Asks the store, by what the DNA of things goes by in the epoch of `schema` (left out: the
    newest epoch). Keeps no document: whoever asks often remembers the answers."""

    def __init__(self, store: Store, schema: DnaSchema | None = None) -> None:
        self._store = store
        epoch = schema.epoch if schema is not None else int(store.meta(NEWEST_EPOCH) or 1)
        self.things: Things = things_of(store, epoch)

    def product(self, product_id: str) -> Dna | None:
        """The DNA of a product, `content:ID` or `place:ID`; None where there is no such thing."""
        found = _document(self._store, product_id)
        return None if found is None else self._of(*found)

    def _of(self, kind: str, document: dict[str, Any]) -> Dna:
        of = {"product": self.things.product, "content": self.things.content}
        return of.get(kind, self.things.place)(document)

    def offer(self, offer_id: str) -> Dna | None:
        """The DNA of an offer; None where there is no such offer."""
        document = self._store.document("offer", offer_id)
        return None if document is None else self.things.offer(document)

    def products(self) -> Iterator[tuple[str, Dna]]:
        """(id, DNA) of every product, of every `content:ID`, and of every `place:ID` of which more
        is said than what kind of place it is; a product wins over another thing of that name."""
        known = set()
        for name, document in self._store.documents("product"):
            known.add(name)
            yield name, self.things.product(document)
        for before, kind in _KINDS.items():
            for name, document in self._store.documents(kind):
                dna = self._of(kind, document)
                plain = kind == "place" and all(marker.startswith(PLACE) for marker, _ in dna)
                if before + name not in known and not plain:
                    yield before + name, dna
