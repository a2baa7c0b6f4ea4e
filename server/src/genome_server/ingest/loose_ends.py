"""Names in offers and placements that nothing answers to.

None of them is a reason to set a row aside: files may come in any order, and an app may declare
kinds of place that no place is of. `import` says them of all that the store holds, `offers check`
of its files, in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_sdk.engine.offers import rings_of
from edge_sdk.engine.zones import zone_trouble
from genome_edge.v1 import release_pb2
from genome_server.ingest.dna import declared_dna
from genome_server.ingest.nearest import KnownIds


@dataclass(frozen=True)
class Names:
    """What offers and placements may name."""

    offers: KnownIds
    placements: KnownIds
    places: KnownIds

    @classmethod
    def of(
        cls,
        offers: Iterable[release_pb2.OfferSpec],
        placements: Iterable[release_pb2.PlacementSpec],
        places: Iterable[tuple[str, Mapping[str, Any]]],
    ) -> Names:
        """From offers, placements, and the documents of places with their ids."""
        return cls(
            KnownIds("offer", (one.id for one in offers)),
            KnownIds("placement", (one.id for one in placements)),
            KnownIds("place", (kind for _, document in places for kind in _kinds(document))),
        )

    def unknown_placements(self, spec: release_pb2.OfferSpec) -> Iterator[str]:
        """Placements of an offer that do not exist, each as "field: sentence"."""
        for position, name in enumerate(spec.targeting.placements):
            if name not in self.placements:
                yield f"placements[{position}]: {self.placements.unknown(name)}"

    def unknown_places(self, spec: release_pb2.OfferSpec) -> Iterator[str]:
        """Kinds of place of an offer that no place is of, each as "field: sentence".

        None where there are no places at all: then the app says all of them.
        """
        if not self.places:
            return
        named = [name for name in spec.targeting.near_places if rings_of(name) is None]
        for position, name in enumerate(named):
            kind = _kind(name)
            if kind not in self.places:
                near = self.places.nearest(kind)
                hint = f"; did you mean {near!r}?" if near else ""
                yield (
                    f"areas.near[{position}]: no place is a {kind!r}, so it shows only where the "
                    f"app says so{hint}"
                )

    def unknown_house(self, spec: release_pb2.PlacementSpec) -> Iterator[str]:
        """The house default of a placement where there is no such offer, as "field: sentence"."""
        if spec.house_offer and spec.house_offer not in self.offers:
            yield f"house_offer: {self.offers.unknown(spec.house_offer)}"


def loose_ends(
    offers: Iterable[release_pb2.OfferSpec],
    placements: Iterable[release_pb2.PlacementSpec],
    names: Names,
) -> list[str]:
    """Everything that is loose, as sentences that say of what they speak."""
    notes = []
    for offer in offers:
        zone = zone_trouble(offer.targeting.zone)
        told = [f"zone: {zone}"] if zone else []
        told += names.unknown_placements(offer)
        told += names.unknown_places(offer)
        notes += [f"offer {offer.id!r}: {one}" for one in told]
    notes += [
        f"placement {placement.id!r}: {one}"
        for placement in placements
        for one in names.unknown_house(placement)
    ]
    return notes


def _kinds(document: Mapping[str, Any]) -> Iterator[str]:
    """The kinds of place that are at a place."""
    yield _kind(document["kind"])
    for name, _ in declared_dna(document.get("dna"), "dna"):
        if name.startswith("place:"):
            yield _kind(name)


def _kind(place: str) -> str:
    """A kind of place as people write it. What all begin with makes none like another."""
    return place.removeprefix("place:")
