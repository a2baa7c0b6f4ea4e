"""Whether an offer is for a moment, and every reason why it is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import h3.api.basic_int as h3

from genome_edge.v1 import release_pb2
from tests.reference.calendars import HOUR_MS, local

FEATURES = {
    "assets-1",
    "caps-2",
    "experiments-1",
    "genome-content-1",
    "offer-model-1",
    "offline-age-1",
    "quantiser-1",
    "quantiser-2",
    "rings-1",
    "sizes-1",
    "slates-1",
    "squarecb",
    "trust-roles-1",
    "windows-1",
    "zones-1",
}


@dataclass(frozen=True)
class Situation:
    """Everything that eligibility looks at. `weekday` and `hour` are of the moment's own time."""

    cell: int | None = None
    ms: int = 0
    weekday: int = 1
    hour: int = 0
    channel: str = ""
    placement: str = ""
    #: The placement that `placement` is an arm of.
    base: str = ""
    sizes: frozenset[str] = frozenset()
    context: frozenset[str] = frozenset()
    genome: frozenset[str] | None = None
    consents: int = 0
    restricted: bool = False
    blocked: frozenset[str] = field(default_factory=frozenset)
    stopped: frozenset[str] = field(default_factory=frozenset)
    offline_ms: int = 0
    held: frozenset[str] | None = None  # None: whatever an offer could need
    language: str = ""


def reasons(offer: release_pb2.OfferSpec, now: Situation) -> set[str]:
    """Every reason why the offer is not eligible; empty: it is."""
    return {*_time_reasons(offer, now), *_place_reasons(offer, now), *_other_reasons(offer, now)}


def eligible(offer: release_pb2.OfferSpec, now: Situation) -> bool:
    return not reasons(offer, now)


def _time_reasons(offer: release_pb2.OfferSpec, now: Situation) -> set[str]:
    t = offer.targeting
    found = set()
    if now.restricted and t.valid_until_ms == 0:
        found.add("TIER")
    found |= validity(offer, now.ms)
    weekday, hour = now.weekday, now.hour
    if t.zone:
        there = local(now.ms, t.zone)
        weekday, hour = there.isoweekday(), there.hour
    if len(t.days) > 0 and weekday not in list(t.days):
        found.add("DAY")
    if len(t.hours) > 0 and hour not in list(t.hours):
        found.add("HOUR")
    return found


def validity(offer: release_pb2.OfferSpec, ms: int) -> set[str]:
    """NOT_STARTED, BETWEEN, ENDED (or two, of what is never valid); empty: it is valid then."""
    t = offer.targeting
    if len(t.windows) == 0:
        found = set()
        if t.valid_from_ms != 0 and ms < t.valid_from_ms:
            found.add("NOT_STARTED")
        if t.valid_until_ms != 0 and ms >= t.valid_until_ms:
            found.add("ENDED")
        return found
    if any(window.from_ms <= ms < window.until_ms for window in t.windows):
        return set()
    if all(ms < window.from_ms for window in t.windows):
        return {"NOT_STARTED"}
    if all(ms >= window.until_ms for window in t.windows):
        return {"ENDED"}
    return {"BETWEEN"}


def _place_reasons(offer: release_pb2.OfferSpec, now: Situation) -> set[str]:
    t = offer.targeting
    found = set()
    if len(t.cells) > 0 and not any(inside(now.cell, h3.str_to_int(c)) for c in t.cells):
        found.add("AREA")
    if len(t.near_places) > 0 and not any(place in now.context for place in t.near_places):
        found.add("NEAR_PLACE")
    if len(t.channels) > 0 and now.channel not in list(t.channels):
        found.add("CHANNEL")
    named = [name for name in t.placements if name in (now.placement, now.base)]
    if len(t.placements) > 0 and not named:
        found.add("PLACEMENT")
    if len(offer.sizes) > 0 and now.sizes and not now.sizes.intersection(offer.sizes):
        found.add("SIZE")
    return found


def _other_reasons(offer: release_pb2.OfferSpec, now: Situation) -> set[str]:
    t = offer.targeting
    found = set()
    markers = set(now.context)
    if now.genome is not None:
        markers |= now.genome
    if any(feature not in FEATURES for feature in offer.required_features):
        found.add("FEATURE")
    if offer.purpose != 0 and not now.consents & (1 << offer.purpose):
        found.add("CONSENT")
    if any(marker not in markers for marker in t.all_of):
        found.add("ALL_OF")
    if len(t.any_of) > 0 and not any(marker in markers for marker in t.any_of):
        found.add("ANY_OF")
    if any(marker in markers for marker in t.none_of):
        found.add("NONE_OF")
    return found


def near(offer: release_pb2.OfferSpec, now: Situation) -> bool:
    """Whether the offer is for this place: its area where it has one, else its kinds of place."""
    missing = _place_reasons(offer, now)
    if len(offer.targeting.cells) > 0:
        return "AREA" not in missing
    return "NEAR_PLACE" not in missing


def inside(cell: int | None, area: int) -> bool:
    """Whether a cell is an area's cell or lies in it."""
    if cell is None or h3.get_resolution(area) > h3.get_resolution(cell):
        return False
    parent: int = h3.cell_to_parent(cell, h3.get_resolution(area))
    return parent == area


def withheld(offer: release_pb2.OfferSpec, now: Situation) -> list[str]:
    """Why an offer may not be shown on this device, whatever it asks of the moment."""
    found = []
    if offer.id in now.stopped:
        found.append("STOPPED")
    if offer.max_offline_age_hours > 0 and now.offline_ms > offer.max_offline_age_hours * HOUR_MS:
        found.append("OFFLINE")
    if now.held is not None:
        for name in {asset.name for asset in offer.assets}:
            part = spoken({a.language.lower(): a.part for a in offer.assets if a.name == name}, now)
            if part is None or part not in now.held:
                found.append("ASSETS")
                break
    return found


def spoken(by_language: dict[str, str], now: Situation) -> str | None:
    """What there is in the language of the moment: de-CH, else de, else for every language."""
    language = now.language.lower()
    while language:
        if language in by_language:
            return by_language[language]
        language = language[: language.rfind("-")] if "-" in language else ""
    return by_language.get("")


def candidates(offers: Iterable[release_pb2.OfferSpec], now: Situation) -> list[str]:
    """Ids of the offers that may be drawn."""
    return [
        o.id
        for o in offers
        if eligible(o, now) and o.id not in now.blocked and not withheld(o, now)
    ]
