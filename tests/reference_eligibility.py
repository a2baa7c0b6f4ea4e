"""Eligibility the plain way: one offer after the other, by name, nothing compiled.

An independent reading of the rules, slow and obvious. It shares no code with the catalogue, the
blocks or the explanation of `edge_sdk.engine`; cells are taken apart with the H3 library and not
with bit operations. (The plain reading of the draw is tools/make_exploration_vectors.py.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import h3.api.basic_int as h3

from genome_edge.v1 import release_pb2

FEATURES = {
    "assets-1",
    "genome-content-1",
    "offer-model-1",
    "offline-age-1",
    "quantiser-1",
    "quantiser-2",
    "squarecb",
    "trust-roles-1",
}


@dataclass(frozen=True)
class Situation:
    """Everything that eligibility looks at."""

    cell: int | None = None
    ms: int = 0
    weekday: int = 1
    hour: int = 0
    channel: str = ""
    placement: str = ""
    context: frozenset[str] = frozenset()
    genome: frozenset[str] | None = None
    consents: int = 0
    restricted: bool = False
    blocked: frozenset[str] = field(default_factory=frozenset)
    stopped: frozenset[str] = field(default_factory=frozenset)
    offline_ms: int = 0
    held: frozenset[str] | None = None  # None: whatever an offer could need
    language: str = ""


def eligible(offer: release_pb2.OfferSpec, now: Situation) -> bool:  # noqa: C901
    t = offer.targeting
    markers = set(now.context)
    if now.genome is not None:
        markers |= now.genome
    for feature in offer.required_features:
        if feature not in FEATURES:
            return False
    if now.restricted and t.valid_until_ms == 0:
        return False
    if len(t.cells) > 0 and not any(inside(now.cell, h3.str_to_int(c)) for c in t.cells):
        return False
    if len(t.near_places) > 0 and not any(place in now.context for place in t.near_places):
        return False
    if t.valid_from_ms != 0 and now.ms < t.valid_from_ms:
        return False
    if t.valid_until_ms != 0 and now.ms >= t.valid_until_ms:
        return False
    if len(t.days) > 0 and now.weekday not in list(t.days):
        return False
    if len(t.hours) > 0 and now.hour not in list(t.hours):
        return False
    if len(t.channels) > 0 and now.channel not in list(t.channels):
        return False
    if len(t.placements) > 0 and now.placement not in list(t.placements):
        return False
    if offer.purpose != 0 and not now.consents & (1 << offer.purpose):
        return False
    for marker in t.all_of:
        if marker not in markers:
            return False
    if len(t.any_of) > 0 and not any(marker in markers for marker in t.any_of):
        return False
    return all(marker not in markers for marker in t.none_of)


def withheld(offer: release_pb2.OfferSpec, now: Situation) -> list[str]:
    """Why an offer may not be shown on this device, whatever it asks of the moment."""
    reasons = []
    if offer.id in now.stopped:
        reasons.append("STOPPED")
    if offer.max_offline_age_hours > 0 and now.offline_ms > offer.max_offline_age_hours * 3600_000:
        reasons.append("OFFLINE")
    if now.held is not None:
        for name in {asset.name for asset in offer.assets}:
            part = spoken({a.language.lower(): a.part for a in offer.assets if a.name == name}, now)
            if part is None or part not in now.held:
                reasons.append("ASSETS")
                break
    return reasons


def spoken(by_language: dict[str, str], now: Situation) -> str | None:
    """What there is in the language of the moment: de-CH, else de, else for every language."""
    language = now.language.lower()
    while language:
        if language in by_language:
            return by_language[language]
        language = language[: language.rfind("-")] if "-" in language else ""
    return by_language.get("")


def inside(cell: int | None, area: int) -> bool:
    if cell is None or h3.get_resolution(area) > h3.get_resolution(cell):
        return False
    parent: int = h3.cell_to_parent(cell, h3.get_resolution(area))
    return parent == area


def candidates(offers: Iterable[release_pb2.OfferSpec], now: Situation) -> list[str]:
    return [
        o.id
        for o in offers
        if eligible(o, now) and o.id not in now.blocked and not withheld(o, now)
    ]
