"""Documents of offers and placements: what devices are told of them, and what they are not.

The store keeps what was imported. Some fields say how the server learns from what happens and are
nobody else's business: they are in no release, and older devices never hear of them. Whoever makes
the contract's messages of a document does it here, where those fields are set aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from edge_sdk.engine import documents as read
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from genome_edge.v1 import release_pb2
from genome_server.value.pricing import priced

CREDIT: Final = "credit"
PRODUCTS: Final = "products"
GOAL: Final = "goal"
MODE: Final = "mode"
SLOT_EFFECTS: Final = "slot_effects"
#: Modes in which nothing of what is chosen is shown to anybody: devices hold everybody out.
SILENT: Final = ("apprentice", "log-only")

_MODES: Final = {name: name for name in ("online", *SILENT)}
_EFFECTS: Final = {name: name for name in ("cascade", "joint")}
_EVERYBODY: Final = 1_000_000


def offer_spec(document: Mapping[str, Any], *, taken: bool = False) -> release_pb2.OfferSpec:
    """The offer that a document describes, as `edge_sdk.engine.offers.offer_from_document` makes
    it, worth what its price, margin and discount come to; those, and the products that it is for,
    stay here. Raises InvalidDocument."""
    return offer_from_document(_without(priced(document), PRODUCTS), taken=taken)


def placement_spec(document: Mapping[str, Any]) -> release_pb2.PlacementSpec:
    """The placement that a document describes; its goal, how it credits purchases and how its slots
    influence each other stay here, and of its mode devices are told what it comes to: that
    everybody is held out. Raises InvalidDocument.
    """
    spec = placement_from_document(_without(document, CREDIT, GOAL, MODE, SLOT_EFFECTS))
    read.one_of(document.get(SLOT_EFFECTS) or "cascade", SLOT_EFFECTS, _EFFECTS)
    mode = read.one_of(document.get(MODE) or "online", MODE, _MODES)
    if mode != "online":
        if spec.holdout_ppm:
            stated = document.get("holdout")
            read.fail("holdout", stated, f"none: in mode {mode} everybody is held out")
        spec.holdout_ppm = _EVERYBODY
    return spec


def goals_of(placements: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, frozenset[str]]:
    """By placement the kinds that are a success there, of those that say; others go by the DNA
    schema alone."""
    return {
        name: frozenset(map(str, document[GOAL]))
        for name, document in placements
        if document.get(GOAL)
    }


def joint_placements(placements: Iterable[tuple[str, Mapping[str, Any]]]) -> frozenset[str]:
    """The placements in which an offer's success may depend on all offers beside it; elsewhere it
    depends on its own and those before it."""
    return frozenset(name for name, document in placements if document.get(SLOT_EFFECTS) == "joint")


def _without(document: Mapping[str, Any], *fields: str) -> Mapping[str, Any]:
    if not any(field in document for field in fields):
        return document
    return {name: value for name, value in document.items() if name not in fields}
