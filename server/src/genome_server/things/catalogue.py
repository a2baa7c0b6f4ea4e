"""`dna learn`: what a catalogue teaches about its markers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.dna.markers import split
from genome_server.ingest.dna import product_dna
from genome_server.things.dna import Things
from genome_server.things.rarity import Counts, Rarity, brands_of, learn
from genome_server.things.settings import Settings

if TYPE_CHECKING:
    from genome_server.store.protocol import Store


@dataclass(frozen=True)
class NamespaceCount:
    """Of one namespace: how many products have a marker of it, how many markers there are, and
    how many are left out since too few products have them."""

    products: int
    markers: int
    left_out: int


@dataclass(frozen=True)
class Learnt:
    """What was counted, and what it makes of each namespace, the most frequent first."""

    counts: Counts
    namespaces: Mapping[str, NamespaceCount]

    @property
    def left_out(self) -> int:
        """Markers that are left out of DNA."""
        return sum(one.left_out for one in self.namespaces.values())


def learn_catalogue(
    store: Store, settings: Settings, on_product: Callable[[], None] = lambda: None
) -> Learnt:
    """Count the products in the store by marker, as their DNA is before rarity. Keeps nothing.

    Reads the products twice: first for the brands that they declare, which their texts are then
    searched for.
    """
    declared = (
        [name for name, _ in product_dna(document)] for _, document in store.documents("product")
    )
    brands = brands_of(declared, settings.rarity.least("brand"))
    things = Things(settings, Rarity(Counts(0, {}, tuple(brands)), settings.rarity))
    having: Counter[str] = Counter()

    def markers_of(document: Mapping[str, object]) -> list[str]:
        on_product()
        names = [part.marker for part in things.explain("product", document)]
        having.update({split(name)[0] for name in names})
        return names

    counts = learn((markers_of(document) for _, document in store.documents("product")), brands)
    rarity = Rarity(counts, settings.rarity)
    markers: Counter[str] = Counter(split(name)[0] for name in counts.markers)
    pruned = Counter(split(name)[0] for name in counts.markers if rarity.prunes(name))
    return Learnt(
        counts,
        {
            name: NamespaceCount(products, markers[name], pruned[name])
            for name, products in having.most_common()
        },
    )
