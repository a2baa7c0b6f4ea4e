"""What must hold before a release is signed: a device could load it and decide from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.products import ProductLookup
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.arms import bases
from edge_sdk.engine.catalogue import Catalogue
from edge_sdk.engine.offer_check import check_fit, check_offer
from edge_sdk.engine.places import PlaceLayer
from edge_sdk.engine.policy import explorer
from edge_sdk.engine.release import Release
from edge_sdk.engine.scoring import OnnxScorer
from edge_sdk.errors import EdgeError
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.errors import Refused
from genome_server.ingest.worth import beyond_offer, beyond_placement

# Offers that one message names.
_TOLD = 20


def check_parts(parts: Mapping[str, bytes]) -> None:
    """Read each part as a device would. Raises Refused, naming the first part that fails."""
    vocabulary: list[Vocabulary] = []

    def read_vocabulary(content: bytes) -> None:
        vocabulary.append(Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(content)))

    def read_placements(content: bytes) -> None:
        placements = release_pb2.PlacementList.FromString(content).placements
        for placement in placements:
            explorer(placement.explorer, placement.gamma, placement.floor)
        bases(placements)

    def read_offers(content: bytes) -> None:
        Catalogue.compile(release_pb2.OfferCatalogue.FromString(content), vocabulary[0])

    readers: dict[str, Callable[[bytes], object]] = {
        "schema": lambda content: DnaSchema.from_proto(dna_pb2.DnaSchema.FromString(content)),
        "vocabulary": read_vocabulary,
        "offers": read_offers,
        "placements": read_placements,
        "products": lambda content: ProductLookup.from_proto(
            release_pb2.ProductTable.FromString(content)
        ),
        "places": lambda content: PlaceLayer.from_proto(release_pb2.PlaceTable.FromString(content)),
        "model": lambda content: OnnxScorer(content, vocabulary[0]),
    }
    for name, read in readers.items():
        if name not in parts:
            raise Refused(f"the release lacks its part {name!r}")
        try:
            read(parts[name])
        except (EdgeError, DecodeError) as error:
            raise Refused(f"part {name!r} of the release is wrong: {error}") from error


def load_as_device(manifest: release_pb2.Manifest, parts: Mapping[str, bytes]) -> Release:
    """Load the release as a device would, model and golden vectors included.

    Raises Refused.
    """
    try:
        release = Release.from_parts(manifest, parts)
        release.warm()
        release.check_golden()
    except EdgeError as error:
        raise Refused(f"devices would refuse this release: {error}") from error
    return release


def never_shown(parts: Mapping[str, bytes], now_ms: int) -> dict[str, list[str]]:
    """The offers of a release that nobody could ever get from it, each with the reasons.

    An offer whose time is over is none of them, whatever became of its placements since: it was
    shown, and what follows is still accepted. A house default asks nothing of its placement.
    """
    offers = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
    placements = release_pb2.PlacementList.FromString(parts["placements"]).placements
    houses = {one.house_offer for one in placements}
    found = {
        offer.id: check_offer(offer)
        or ([] if offer.id in houses or _over(offer, now_ms) else check_fit(offer, placements))
        for offer in offers
    }
    return {name: problems for name, problems in found.items() if problems}


def _over(offer: release_pb2.OfferSpec, now_ms: int) -> bool:
    windows = offer.targeting.windows
    until_ms = windows[-1].until_ms if windows else offer.targeting.valid_until_ms
    return 0 < until_ms <= now_ms


def refuse_placements(parts: Mapping[str, bytes]) -> None:
    """Raise Refused for the first placement that asks for more than a score holds."""
    for placement in release_pb2.PlacementList.FromString(parts["placements"]).placements:
        for problem in beyond_placement(placement):
            raise Refused(f"placement {placement.id!r}: {problem}")


def unfit(parts: Mapping[str, bytes], now_ms: int) -> dict[str, str]:
    """The offers that must not go out, each with why: those that are worth more than a score holds,
    and those that nobody could ever get."""
    offers = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
    found = {
        name: f"it can never be shown: {'; '.join(problems)}"
        for name, problems in never_shown(parts, now_ms).items()
    }
    beyond = ((offer.id, "; ".join(beyond_offer(offer))) for offer in offers)
    return {**found, **{name: problem for name, problem in beyond if problem}}


def refuse_unfit(offers: Mapping[str, str]) -> None:
    """Refuse to publish them. Raises Refused that names the first and how many there are."""
    if not offers:
        return
    told = [f"offer {name!r}: {why}" for name, why in offers.items()]
    more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
    raise Refused(
        "these offers cannot be published; mend them, or leave them out with --leave-out:\n"
        + "\n".join([*told[:_TOLD], *more])
    )


def references(parts: Mapping[str, bytes]) -> list[str]:
    """Return sentences on names that offers and placements use and that are not there.

    None of them stops a release: the placement may come with the next import.
    """
    offers = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
    placements = release_pb2.PlacementList.FromString(parts["placements"]).placements
    offer_ids, placement_ids = {o.id for o in offers}, {p.id for p in placements}
    said = [
        f"offer {offer.id!r} is for placement {name!r}, which does not exist"
        for offer in offers
        for name in offer.targeting.placements
        if name not in placement_ids
    ]
    said += [
        f"placement {p.id!r} has house offer {p.house_offer!r}, which does not exist"
        for p in placements
        if p.house_offer and p.house_offer not in offer_ids
    ]
    return said
