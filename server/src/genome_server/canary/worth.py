"""What offers were worth in the releases that decisions were made from: a thin shell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Final

from genome_edge.v1 import release_pb2
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.releases.publish import manifest_of, part_content
from genome_server.store.protocol import Store

Worths = Callable[[Mapping[int, Collection[str]]], Mapping[int, Mapping[str, float]]]
"""From offers by release (its version) to what each is worth there, in the tenant's unit: value
less cost. What is not known is left out: a release that is gone, an offer that it does not have."""

_MICRO: Final = 1e-6


def worths_of(tenant: Tenant, store: Store) -> Worths:
    """Worths as the releases of a tenant have them."""

    def worths(shown: Mapping[int, Collection[str]]) -> Mapping[int, Mapping[str, float]]:
        # Many releases have the same offers, and a catalogue is large: each is read once, and of it
        # only what was shown is kept.
        alike: defaultdict[bytes, list[tuple[int, release_pb2.Part]]] = defaultdict(list)
        for version in shown:
            row = store.release(version)
            for part in manifest_of(row).parts if row is not None else ():
                if part.name == "offers":
                    alike[part.sha256].append((version, part))
        found: dict[int, Mapping[str, float]] = {}
        for same in alike.values():
            asked = {name for version, _ in same for name in shown[version]}
            try:
                content = part_content(tenant, same[0][1])
            except Refused:
                continue
            offers = release_pb2.OfferCatalogue.FromString(content).offers
            worth = {
                one.id: (one.value_micros - one.cost_micros) * _MICRO
                for one in offers
                if one.id in asked
            }
            found.update((version, worth) for version, _ in same)
        return found

    return worths
