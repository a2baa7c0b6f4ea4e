"""The category of what somebody did, or of any namespace of markers. Free of I/O.

It is the most salient marker of the namespace in the DNA of what it was about: what the event
itself says, else its product's, else its offer's. Of equals the first by name.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_sdk.dna.markers import split
from edge_sdk.errors import InvalidMarker
from genome_edge.v1 import event_pb2
from genome_server.genomes.events import Dna

CATEGORY = "category"


class Categories:
    """Finds categories; `product_dna` and `offer_dna` give the DNA behind an id, None: not known.

    They are asked once for each id.
    """

    def __init__(
        self,
        product_dna: Callable[[str], Dna | None],
        offer_dna: Callable[[str], Dna | None],
        namespace: str = CATEGORY,
    ) -> None:
        self._sources = {"product": product_dna, "offer": offer_dna}
        self._namespace = namespace
        self._known: dict[tuple[str, str], str | None] = {}

    def of(self, said: event_pb2.Interaction) -> str | None:
        """The category of an interaction; None where there is none."""
        if said.dna:
            return strongest([(one.marker, one.salience_q8) for one in said.dna], self._namespace)
        if said.product:
            return self._behind("product", said.product)
        return self._behind("offer", said.offer) if said.offer else None

    def _behind(self, source: str, name: str) -> str | None:
        key = source, name
        if key not in self._known:
            self._known[key] = strongest(self._sources[source](name) or (), self._namespace)
        return self._known[key]


def strongest(dna: Dna, namespace: str) -> str | None:
    """The value of the most salient marker of a namespace; of equal ones the first by name."""
    found = []
    for name, salience in dna:
        try:
            where, value = split(name)
        except InvalidMarker:
            continue
        if where == namespace:
            found.append((-salience, value))
    return min(found)[1] if found else None
