"""Finds offers that can never be shown, before anybody wonders why they are not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from edge_sdk.dna.markers import nearest_name, split
from edge_sdk.dna.schema import MAX_SALIENCE_Q8
from edge_sdk.engine.cells import parse_cell
from edge_sdk.errors import InvalidContext, InvalidMarker
from edge_sdk.sync.trust import FEATURES
from genome_edge.v1 import dna_pb2, release_pb2


def check_offer(
    spec: release_pb2.OfferSpec,
    *,
    places: Collection[str] | None = None,
    placements: Collection[str] | None = None,
    now_ms: int | None = None,
) -> list[str]:
    """Everything that is wrong with an offer, each as "field: sentence"; empty: it can be shown.

    Fields are named as in the documents that people write. `places` are the place markers that
    exist and `placements` the placements; with `now_ms` an offer that has ended is a problem too.
    What is left out is not checked.
    """
    return [
        *_check_facts(spec),
        *_check_area(spec.targeting, places),
        *_check_time(spec.targeting, now_ms),
        *_check_markers(spec.targeting),
        *_check_names("placements", spec.targeting.placements, placements),
    ]


def _check_facts(spec: release_pb2.OfferSpec) -> Iterator[str]:
    if not spec.id:
        yield "id: is missing"
    if spec.value_micros < 0:
        yield "value: is below 0"
    for position, weighted in enumerate(spec.dna):
        yield from _check_marker(f"dna[{position}]", weighted.marker)
        if not 1 <= weighted.salience_q8 <= MAX_SALIENCE_Q8:
            yield f"dna[{position}].salience: must be from 1/256 to {MAX_SALIENCE_Q8 // 256}"
    for position, cap in enumerate(spec.caps):
        if not cap.limit:
            yield f"caps[{position}].limit: 0 would never let it be shown"
    if spec.purpose not in dna_pb2.ConsentPurpose.values():
        yield f"consent: purpose {spec.purpose} does not exist"
    for position, feature in enumerate(spec.required_features):
        if feature not in FEATURES:
            yield f"required_features[{position}]: no SDK has {feature!r}{_hint(feature, FEATURES)}"


def _check_area(targeting: release_pb2.Targeting, places: Collection[str] | None) -> Iterator[str]:
    for position, cell in enumerate(targeting.cells):
        try:
            parse_cell(cell)
        except InvalidContext:
            yield f"areas.cells[{position}]: {cell!r} is not an H3 cell"
    for position, place in enumerate(targeting.near_places):
        if not place.startswith("place:"):
            yield f"areas.near[{position}]: {place!r} is not a place; write place:{place}"
    yield from _check_names("areas.near", targeting.near_places, places)
    near = set(targeting.near_places)
    if near and near <= set(targeting.none_of):
        yield "none_of: rules out every place of areas.near"


def _check_time(targeting: release_pb2.Targeting, now_ms: int | None) -> Iterator[str]:
    until = targeting.valid_until_ms
    if until and until <= targeting.valid_from_ms:
        yield "valid.until: is not after valid.from"
    elif until and now_ms is not None and until <= now_ms:
        yield "valid.until: is over"
    for position, day in enumerate(targeting.days):
        if not 1 <= day <= 7:
            yield f"days[{position}]: {day} is not a day from 1 (Monday) to 7 (Sunday)"
    for position, hour in enumerate(targeting.hours):
        if hour > 23:
            yield f"hours[{position}]: {hour} is not an hour from 0 to 23"


def _check_markers(targeting: release_pb2.Targeting) -> Iterator[str]:
    for field in ("all_of", "any_of", "none_of"):
        for position, marker in enumerate(getattr(targeting, field)):
            yield from _check_marker(f"{field}[{position}]", marker)
    excluded = set(targeting.none_of)
    for position, marker in enumerate(targeting.all_of):
        if marker in excluded:
            yield f"all_of[{position}]: {marker!r} is in none_of too"
    wanted = set(targeting.any_of)
    if wanted and wanted <= excluded:
        yield "any_of: every marker of it is in none_of too"


def _check_marker(field: str, marker: str) -> Iterator[str]:
    try:
        split(marker)
    except InvalidMarker as error:
        yield f"{field}: {error}"


def _check_names(field: str, names: Iterable[str], known: Collection[str] | None) -> Iterator[str]:
    """One name that does not exist is a problem even beside others that do: it is a typo."""
    for position, name in enumerate(names):
        if known is not None and name not in known:
            yield f"{field}[{position}]: {name!r} does not exist{_hint(name, known)}"


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest_name(name, known)
    return f"; did you mean {near!r}?" if near else ""
