"""Turn the documents that people write about offers into the contract's messages.

One definition serves the server's import, `FakeEdge` and anybody's tests. A document is a plain
mapping, as it comes out of JSON, YAML or a CSV row with dotted headers:

    {"id": "taxi", "content": {"title": "A taxi to the airport"}, "dna": ["ride:taxi"],
     "near": ["hotel"], "all_of": ["activity:flight-search"], "value": 4.5}

`near`, `cells` and their rings may stand at the top or in `areas`. `assets` names parts of the
release: `image`, or `image.de` for one language. Everything but `id` may be left out. A field
that is not known, or whose value is not allowed, raises `InvalidDocument` with the field's path.
Whether an offer can ever be shown is another question: see `edge_sdk.engine.offer_check`.

`rings` become cells here. `near_rings` become markers of their own: `around-2:hotel` is at most two
cells away from a hotel; whoever makes the place layer puts them there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, tzinfo
from itertools import chain
from typing import Any, Final

from edge_sdk.engine import documents as read
from edge_sdk.engine.cells import format_cell
from edge_sdk.engine.covers import MAX_CELLS, MAX_RINGS, compacted, with_rings
from edge_sdk.engine.documents import InvalidDocument, dna_from_document
from edge_sdk.engine.placements import (
    DEFAULT_GAMMA,
    DEFAULT_OUTCOME_WINDOW_HOURS,
    MAX_SLOTS,
    placement_from_document,
)
from edge_sdk.engine.zones import known_zone
from edge_sdk.errors import UsageError
from genome_edge.v1 import dna_pb2, release_pb2

__all__ = [
    "DEFAULT_GAMMA",
    "DEFAULT_OUTCOME_WINDOW_HOURS",
    "MAX_SLOTS",
    "InvalidDocument",
    "around",
    "dna_from_document",
    "offer_from_document",
    "placement_from_document",
    "rings_of",
]

MAX_NEAR_RINGS: Final = 20
_AROUND: Final = re.compile(r"around-([1-9][0-9]?):(.+)")
_MAX_HOURS: Final = 24 * 3660

_CONSENTS: Final = {
    "personalisation": dna_pb2.CONSENT_PURPOSE_PERSONALISATION,
    "learning": dna_pb2.CONSENT_PURPOSE_LEARNING,
    "location": dna_pb2.CONSENT_PURPOSE_LOCATION,
}
_COUNTS: Final = {
    "view": release_pb2.Cap.COUNT_VIEW,
    "redeem": release_pb2.Cap.COUNT_REDEEM,
}
_SCOPES: Final = {
    "customer": release_pb2.Cap.SCOPE_CUSTOMER,
    "device": release_pb2.Cap.SCOPE_DEVICE,
}
_OVER: Final = {
    "offer": release_pb2.Cap.OVER_UNSPECIFIED,  # what earlier devices count
    "campaign": release_pb2.Cap.OVER_CAMPAIGN,
    "group": release_pb2.Cap.OVER_GROUP,
}
_CALENDARS: Final = {
    "hour": release_pb2.Cap.CALENDAR_HOUR,
    "day": release_pb2.Cap.CALENDAR_DAY,
    "week": release_pb2.Cap.CALENDAR_WEEK,
    "month": release_pb2.Cap.CALENDAR_MONTH,
}
_FIELDS: Final = (
    "id",
    "campaign",
    "content",
    "dna",
    "value",
    "cost",
    "priority",
    "areas",
    "near",
    "near_rings",
    "cells",
    "rings",
    "valid",
    "windows",
    "zone",
    "days",
    "hours",
    "any_of",
    "all_of",
    "none_of",
    "channels",
    "placements",
    "sizes",
    "caps",
    "cool_down_hours",
    "exclusivity_group",
    "category",
    "consent",
    "required_features",
    "stop_after",
    "max_offline_age_hours",
    "texts",
    "assets",
)
_AREA_FIELDS: Final = ("cells", "rings", "near", "near_rings")
_CAP_FIELDS: Final = ("count", "limit", "window_hours", "scope", "over", "calendar", "paced")


def offer_from_document(doc: Mapping[str, Any], *, taken: bool = False) -> release_pb2.OfferSpec:
    """The offer that `doc` describes.

    What it needs of an SDK is among its `required_features`. `taken`: it was found good before, and
    a zone that this machine no longer knows is left for `check_offer` to name. Raises
    InvalidDocument with the path of the first field that is wrong.
    """
    read.known(doc, _FIELDS)
    spec = release_pb2.OfferSpec(
        id=read.identifier(doc.get("id"), "id"),
        campaign=read.text(doc, "campaign"),
        content=read.content(doc.get("content"), "content"),
        dna=dna_from_document(doc.get("dna"), "dna"),
        value_micros=read.money(doc, "value", 1.0),
        cost_micros=read.money(doc, "cost", 0.0),
        priority=read.integer(doc.get("priority", 0), "priority", -1000, 1000),
        targeting=_targeting(doc, taken),
        exclusivity_group=read.text(doc, "exclusivity_group"),
        category=read.text(doc, "category"),
        sizes=read.unique(read.each(doc.get("sizes"), "sizes", read.size)),
    )
    if doc.get("consent"):
        spec.purpose = read.one_of(doc["consent"], "consent", _CONSENTS)
    spec.caps.extend(read.each(doc.get("caps"), "caps", _cap))
    pause = doc.get("cool_down_hours", 0)
    spec.cool_down_hours = read.integer(pause, "cool_down_hours", 0, _MAX_HOURS)
    stops = read.mapping(doc.get("stop_after"), "stop_after")
    read.known(stops, ("redeem", "dismiss", "convert"), "stop_after.")
    spec.stop_after_redeem = read.flag(stops.get("redeem", False), "stop_after.redeem")
    spec.stop_after_dismiss = read.flag(stops.get("dismiss", False), "stop_after.dismiss")
    spec.stop_after_convert = read.flag(stops.get("convert", False), "stop_after.convert")
    age = doc.get("max_offline_age_hours", 0)
    spec.max_offline_age_hours = read.integer(age, "max_offline_age_hours", 0, 24 * 366)
    for language, content in read.mapping(doc.get("texts"), "texts").items():
        field = f"texts.{language}"
        said = read.content(content, field)
        spec.texts.add(language=read.language(language, field), content=said)
    for key, part in read.mapping(doc.get("assets"), "assets").items():
        spec.assets.append(_asset(str(key), part))
    asked = read.strings(doc.get("required_features"), "required_features")
    spec.required_features[:] = read.unique([*asked, *_needed(spec)])
    return spec


def around(place: str, rings: int) -> str:
    """The marker of what is at most so many cells away from such a place: `around-2:hotel`."""
    return f"around-{rings}:{place.removeprefix('place:')}"


def rings_of(marker: str) -> tuple[str, int] | None:
    """The place marker and the rings of a marker that `around` made; None for any other."""
    found = _AROUND.fullmatch(marker)
    return (f"place:{found[2]}", int(found[1])) if found else None


def _needed(spec: release_pb2.OfferSpec) -> Iterator[str]:
    """What an SDK must be able to do, so that it does not show the offer against its rules."""
    if spec.assets:
        yield "assets-1"
    if spec.max_offline_age_hours:
        yield "offline-age-1"
    if spec.targeting.windows:
        yield "windows-1"
    if spec.targeting.zone:
        yield "zones-1"
    if spec.sizes:
        yield "sizes-1"
    beyond = any(cap.over or cap.calendar or cap.paced for cap in spec.caps)
    if beyond or spec.cool_down_hours or spec.stop_after_convert:
        yield "caps-2"


def _targeting(doc: Mapping[str, Any], taken: bool) -> release_pb2.Targeting:
    zone, name = _zone(doc.get("zone"), taken)
    windows = _windows(doc, zone)
    several = windows if len(windows) > 1 else ()
    return release_pb2.Targeting(
        cells=_cells(doc),
        near_places=_near(doc),
        valid_from_ms=windows[0].from_ms,
        valid_until_ms=windows[-1].until_ms,
        windows=several,
        zone=name,
        days=sorted(set(read.each(doc.get("days"), "days", read.day))),
        hours=sorted(
            {h for some in read.each(doc.get("hours"), "hours", read.hours) for h in some}
        ),
        any_of=read.unique(read.each(doc.get("any_of"), "any_of", read.marker)),
        all_of=read.unique(read.each(doc.get("all_of"), "all_of", read.marker)),
        none_of=read.unique(read.each(doc.get("none_of"), "none_of", read.marker)),
        channels=read.unique(read.each(doc.get("channels"), "channels", read.channel)),
        placements=read.strings(doc.get("placements"), "placements"),
    )


def _area(doc: Mapping[str, Any], name: str) -> list[tuple[object, str]]:
    """What a field of areas says, in `areas` and at the top, with the path of each."""
    areas = read.mapping(doc.get("areas"), "areas")
    read.known(areas, _AREA_FIELDS, "areas.")
    return [(areas.get(name), f"areas.{name}"), (doc.get(name), name)]


def _cells(doc: Mapping[str, Any]) -> list[str]:
    said = [*chain(*(read.each(value, path, read.cell) for value, path in _area(doc, "cells")))]
    rings, path = _rings(doc, "rings", MAX_RINGS)
    if len(said) > MAX_CELLS:
        read.fail("cells", f"{len(said):,} cells", f"at most {MAX_CELLS:,} cells")
    if rings and not said:
        read.fail(path, rings, "cells that the rings are around")
    if rings:
        try:
            said = compacted(with_rings(said, rings))
        except UsageError as error:
            raise InvalidDocument(path, rings, f"fewer: they make {error}") from error
    return read.unique(map(format_cell, said))


def _near(doc: Mapping[str, Any]) -> list[str]:
    said = [*chain(*(read.each(value, path, read.place) for value, path in _area(doc, "near")))]
    rings, path = _rings(doc, "near_rings", MAX_NEAR_RINGS)
    if rings and not said:
        read.fail(path, rings, "kinds of place (near) that the rings are around")
    return read.unique((*said, *(around(place, rings) for place in said if rings)))


def _rings(doc: Mapping[str, Any], name: str, most: int) -> tuple[int, str]:
    """How many rings, and where it says so; the most where it is said twice."""
    return max((read.integer(value or 0, path, 0, most), path) for value, path in _area(doc, name))


def _zone(value: object, taken: bool) -> tuple[tzinfo | None, str]:
    """A time zone and its name; databases of zones lose names, so one `taken` may be gone."""
    if value is None or value == "":
        return None, ""
    name = read.identifier(value, "zone")
    try:
        return known_zone(name), name
    except UsageError as error:
        if taken:
            return UTC, name
        raise InvalidDocument("zone", value, f"the name of a time zone ({error})") from error


def _windows(doc: Mapping[str, Any], zone: tzinfo | None) -> list[release_pb2.Window]:
    """When the offer is valid, ascending and apart; one window may be open at both ends (0)."""

    def window(value: object, field: str) -> release_pb2.Window:
        said = read.mapping(value, field)
        read.known(said, ("from", "until"), f"{field}.")
        return release_pb2.Window(
            from_ms=read.instant(said.get("from"), f"{field}.from", zone),
            until_ms=read.instant(said.get("until"), f"{field}.until", zone),
        )

    found = read.each(doc.get("windows"), "windows", window)
    if not found:
        return [window(doc.get("valid"), "valid")]
    if doc.get("valid"):
        read.fail("windows", doc["windows"], "either valid or windows")
    for position, one in enumerate(found):
        if len(found) > 1 and not (one.from_ms and one.until_ms):
            end = "until" if one.from_ms else "from"
            read.fail(f"windows[{position}].{end}", None, "a time: several windows have both ends")
        if one.until_ms and one.from_ms >= one.until_ms:
            said = doc["windows"][position]
            read.fail(f"windows[{position}].until", said["until"], "a time after its from")
    joined: list[release_pb2.Window] = []
    for one in sorted(found, key=lambda window: window.from_ms):
        if joined and one.from_ms <= joined[-1].until_ms:
            joined[-1].until_ms = max(joined[-1].until_ms, one.until_ms)
        else:
            joined.append(one)
    return joined


def _cap(value: object, field: str) -> release_pb2.Cap:
    cap = read.mapping(value, field)
    read.known(cap, _CAP_FIELDS, f"{field}.")
    window = cap.get("window_hours", 0)
    made = release_pb2.Cap(
        scope=read.one_of(cap.get("scope") or "customer", f"{field}.scope", _SCOPES),
        count=read.one_of(cap.get("count") or "view", f"{field}.count", _COUNTS),
        limit=read.integer(cap.get("limit"), f"{field}.limit", 1, 100_000),
        window_hours=read.integer(window, f"{field}.window_hours", 0, _MAX_HOURS),
        over=read.one_of(cap.get("over") or "offer", f"{field}.over", _OVER),
        paced=read.flag(cap.get("paced", False), f"{field}.paced"),
    )
    if cap.get("calendar"):
        made.calendar = read.one_of(cap["calendar"], f"{field}.calendar", _CALENDARS)
        if made.window_hours:
            read.fail(f"{field}.window_hours", made.window_hours, "either window_hours or calendar")
    elif made.paced:
        read.fail(f"{field}.paced", True, "a calendar (hour, day, week, month) to spread it over")
    return made


def _asset(key: str, part: object) -> release_pb2.OfferAsset:
    field = f"assets.{key}"
    name, dot, language = key.partition(".")
    return release_pb2.OfferAsset(
        name=read.identifier(name, field),
        language=read.language(language, field) if dot else "",
        part=read.identifier(part, field),
    )
