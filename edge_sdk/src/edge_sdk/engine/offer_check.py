"""Finds offers that can never be shown, before anybody wonders why they are not.

What an app may declare is not judged: it may name any place and any channel, whatever is imported.
So an offer is refused only where no moment and no customer could ever get it; see
`edge_sdk.engine.never` for the part that time plays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from edge_sdk.dna.markers import nearest_name, split
from edge_sdk.dna.schema import MAX_SALIENCE_Q8
from edge_sdk.engine.cells import parse_cell
from edge_sdk.engine.gates import fits
from edge_sdk.engine.never import Windows, impossible
from edge_sdk.engine.offers import rings_of
from edge_sdk.engine.zones import FOREVER_MS, zone_trouble
from edge_sdk.errors import InvalidContext, InvalidMarker
from edge_sdk.sync.trust import FEATURES
from genome_edge.v1 import dna_pb2, release_pb2


def check_offer(spec: release_pb2.OfferSpec, *, now_ms: int | None = None) -> list[str]:
    """Everything that is wrong with an offer, each as "field: sentence"; empty: it can be shown.

    Fields are named as in the documents that people write. With `now_ms` an offer whose time is
    over is a problem too.
    """
    times = list(_check_time(spec.targeting, now_ms))
    problems = [
        *_check_facts(spec),
        *_check_caps(spec),
        *_check_area(spec.targeting),
        *times,
        *_check_markers(spec.targeting),
    ]
    # Time that makes no sense of its own cannot be held against the rest.
    return problems if times else [*problems, *impossible(spec.targeting, _windows(spec, now_ms))]


def check_fit(
    spec: release_pb2.OfferSpec, placements: Sequence[release_pb2.PlacementSpec]
) -> list[str]:
    """Why none of the placements that there are can ever show an offer; empty where one can.

    Without placements nothing is checked.
    """
    asked = spec.targeting.placements
    arms = {arm.placement for one in placements if one.id in asked for arm in one.arms}
    own = [one for one in placements if not asked or one.id in asked or one.id in arms]
    if not placements:
        return []
    if not own:
        named = ", ".join(map(repr, asked))
        return [f"placements: {named} {'does' if len(asked) == 1 else 'do'} not exist"]
    fitting = [one for one in own if fits(spec, one.sizes)]
    if not fitting:
        taken = "; ".join(f"{one.id} takes {', '.join(one.sizes)}" for one in own)
        return [f"sizes: {', '.join(spec.sizes)} fits no placement of it ({taken})"]
    # A model's values are from 0 to 1.
    most = max(spec.value_micros - spec.cost_micros, 0)
    if all(one.HasField("least_worth_micros") and one.least_worth_micros > most for one in fitting):
        least = min(one.least_worth_micros for one in fitting) / 1_000_000
        return [
            f"value: less its cost it is {most / 1_000_000:g} at most; "
            f"every placement of it asks for {least:g} (least_worth)"
        ]
    return []


def _check_facts(spec: release_pb2.OfferSpec) -> Iterator[str]:
    if not spec.id:
        yield "id: is missing"
    if spec.value_micros < 0:
        yield "value: is below 0"
    if spec.cost_micros < 0:
        yield "cost: is below 0"
    for position, weighted in enumerate(spec.dna):
        yield from _check_marker(f"dna[{position}]", weighted.marker)
        if not 1 <= weighted.salience_q8 <= MAX_SALIENCE_Q8:
            yield f"dna[{position}].salience: must be from 1/256 to {MAX_SALIENCE_Q8 // 256}"
    if spec.purpose not in dna_pb2.ConsentPurpose.values():
        yield f"consent: purpose {spec.purpose} does not exist"
    for position, feature in enumerate(spec.required_features):
        if feature not in FEATURES:
            near = nearest_name(feature, FEATURES)
            hint = f"; did you mean {near!r}?" if near else ""
            yield f"required_features[{position}]: no SDK has {feature!r}{hint}"


def _check_caps(spec: release_pb2.OfferSpec) -> Iterator[str]:
    kinds = release_pb2.Cap
    for position, cap in enumerate(spec.caps):
        field = f"caps[{position}]"
        if not cap.limit:
            yield f"{field}.limit: 0 would never let it be shown"
        if cap.over == kinds.OVER_CAMPAIGN and not spec.campaign:
            yield f"{field}.over: the offer belongs to no campaign"
        if cap.over == kinds.OVER_GROUP and not spec.exclusivity_group:
            yield f"{field}.over: the offer belongs to no exclusivity_group"
        if cap.calendar not in kinds.Calendar.values() or cap.over not in kinds.Over.values():
            yield f"{field}: counts over what does not exist"
        if cap.paced and not cap.calendar:
            yield f"{field}.paced: without a calendar there is nothing to spread it over"


def _check_area(targeting: release_pb2.Targeting) -> Iterator[str]:
    for position, cell in enumerate(targeting.cells):
        try:
            parse_cell(cell)
        except InvalidContext:
            yield f"areas.cells[{position}]: {cell!r} is not an H3 cell"
    for position, place in enumerate(targeting.near_places):
        if rings_of(place) is None and not place.startswith("place:"):
            yield f"areas.near[{position}]: {place!r} is not a place; write place:{place}"
    near = set(targeting.near_places)
    if near and near <= set(targeting.none_of):
        yield "none_of: rules out every place of areas.near"


def _check_time(targeting: release_pb2.Targeting, now_ms: int | None) -> Iterator[str]:
    for position, day in enumerate(targeting.days):
        if not 1 <= day <= 7:
            yield f"days[{position}]: {day} is not a day from 1 (Monday) to 7 (Sunday)"
    for position, hour in enumerate(targeting.hours):
        if hour > 23:
            yield f"hours[{position}]: {hour} is not an hour from 0 to 23"
    if trouble := zone_trouble(targeting.zone):
        yield f"zone: {trouble}"
    until = targeting.valid_until_ms
    if targeting.windows:
        until = targeting.windows[-1].until_ms
        yield from _check_windows(targeting.windows)
    elif until and until <= targeting.valid_from_ms:
        yield "valid.until: is not after valid.from"
    elif until and now_ms is not None and until <= now_ms:
        yield "valid.until: is over"
    if targeting.windows and now_ms is not None and until <= now_ms:
        yield "windows: are over"


def _check_windows(windows: Sequence[release_pb2.Window]) -> Iterator[str]:
    for position, window in enumerate(windows):
        if window.until_ms <= window.from_ms:
            yield f"windows[{position}].until: is not after its from"
    for position, (earlier, later) in enumerate(pairwise(windows), start=1):
        if later.from_ms < earlier.until_ms:
            yield f"windows[{position}].from: is within the window before"


def _windows(spec: release_pb2.OfferSpec, now_ms: int | None) -> Windows:
    """From when until when an offer is valid, as far as that is not over."""
    targeting = spec.targeting
    found = [(one.from_ms, one.until_ms) for one in targeting.windows]
    found = found or [(targeting.valid_from_ms, targeting.valid_until_ms or FOREVER_MS)]
    if now_ms is None:
        return found
    return [(max(begins, now_ms), ends) for begins, ends in found if ends > now_ms]


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
