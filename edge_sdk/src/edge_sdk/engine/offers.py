"""Turn the documents that people write about offers and placements into the contract's messages.

One definition serves the server's import, `FakeEdge` and anybody's tests. A document is a plain
mapping, as it comes out of JSON, YAML or a CSV row with dotted headers:

    {"id": "taxi", "content": {"title": "A taxi to the airport"}, "dna": ["ride:taxi"],
     "near": ["hotel"], "all_of": ["activity:flight-search"], "value": 4.5}

`near` and `cells` may stand at the top or in `areas`. `assets` names parts of the release: `image`,
or `image.de` for one language. Everything but `id` may be left out. A field
that is not known, or whose value is not allowed, raises `InvalidDocument` with the field's path.
Whether an offer can ever be shown is another question: see `edge_sdk.engine.catalogue.check_offer`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar

from edge_sdk.dna.markers import marker, nearest_name
from edge_sdk.engine.cells import format_cell, parse_cell
from edge_sdk.errors import UsageError
from genome_edge.v1 import dna_pb2, release_pb2

_T = TypeVar("_T")

DEFAULT_GAMMA: Final = 100.0
DEFAULT_OUTCOME_WINDOW_HOURS: Final = 24
MAX_SLOTS: Final = 64
_MICROS: Final = 1_000_000
_MAX_SALIENCE: Final = 16.0
_MAX_VALUE: Final = 1_000_000.0
_MAX_ID: Final = 128
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

_DAY_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
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
_SHOWN: Final = {
    "decide": release_pb2.PlacementSpec.SHOWN_ON_DECIDE,
    "view": release_pb2.PlacementSpec.SHOWN_ON_VIEW,
}
_EXPLORERS: Final = {"greedy": "greedy", "squarecb": "squarecb"}

_OFFER_FIELDS: Final = (
    "id",
    "campaign",
    "content",
    "dna",
    "value",
    "priority",
    "areas",
    "near",
    "cells",
    "valid",
    "days",
    "hours",
    "any_of",
    "all_of",
    "none_of",
    "channels",
    "placements",
    "caps",
    "exclusivity_group",
    "consent",
    "required_features",
    "stop_after",
    "max_offline_age_hours",
    "texts",
    "assets",
)
_PLACEMENT_FIELDS: Final = (
    "id",
    "slots",
    "channel",
    "shown",
    "house_offer",
    "explorer",
    "gamma",
    "floor",
    "outcome_window_hours",
)


class InvalidDocument(UsageError):
    """A document breaks the format: `field` is the path, `value` what stood there."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {value!r} is not allowed; expected {allowed}")


def offer_from_document(doc: Mapping[str, Any]) -> release_pb2.OfferSpec:
    """The offer that `doc` describes.

    Raises InvalidDocument with the path of the first field that is wrong.
    """
    _known(doc, _OFFER_FIELDS, "")
    spec = release_pb2.OfferSpec(
        id=_identifier(doc.get("id"), "id"),
        campaign=_text(doc, "campaign"),
        content=_content(doc.get("content"), "content"),
        dna=dna_from_document(doc.get("dna"), "dna"),
        value_micros=round(_number(doc.get("value", 1.0), "value", 0.0, _MAX_VALUE) * _MICROS),
        priority=_integer(doc.get("priority", 0), "priority", -1000, 1000),
        targeting=_targeting(doc),
        exclusivity_group=_text(doc, "exclusivity_group"),
        required_features=_strings(doc.get("required_features"), "required_features"),
    )
    if doc.get("consent"):
        spec.purpose = _one_of(doc["consent"], "consent", _CONSENTS)
    for position, cap in enumerate(_sequence(doc.get("caps"), "caps")):
        spec.caps.append(_cap(cap, f"caps[{position}]"))
    stops = _mapping(doc.get("stop_after"), "stop_after")
    _known(stops, ("redeem", "dismiss"), "stop_after.")
    spec.stop_after_redeem = _flag(stops.get("redeem", False), "stop_after.redeem")
    spec.stop_after_dismiss = _flag(stops.get("dismiss", False), "stop_after.dismiss")
    age = doc.get("max_offline_age_hours", 0)
    spec.max_offline_age_hours = _integer(age, "max_offline_age_hours", 0, 24 * 366)
    for language, content in _mapping(doc.get("texts"), "texts").items():
        field = f"texts.{language}"
        spec.texts.add(language=_language(language, field), content=_content(content, field))
    for key, part in _mapping(doc.get("assets"), "assets").items():
        spec.assets.append(_asset(str(key), part))
    needed = [*spec.required_features, *(("assets-1",) if spec.assets else ())]
    needed += ["offline-age-1"] if spec.max_offline_age_hours else []
    spec.required_features[:] = _unique(needed)
    return spec


def placement_from_document(doc: Mapping[str, Any]) -> release_pb2.PlacementSpec:
    """The placement that `doc` describes.

    Left out, a placement has one slot, counts an offer as shown when it is decided, chooses
    greedily and credits outcomes for 24 hours. Raises InvalidDocument.
    """
    _known(doc, _PLACEMENT_FIELDS, "")
    window = doc.get("outcome_window_hours", DEFAULT_OUTCOME_WINDOW_HOURS)
    return release_pb2.PlacementSpec(
        id=_identifier(doc.get("id"), "id"),
        max_slots=_integer(doc.get("slots", 1), "slots", 1, MAX_SLOTS),
        channel=_word(doc["channel"], "channel", "channel") if doc.get("channel") else "",
        shown=_one_of(doc.get("shown") or "decide", "shown", _SHOWN),
        house_offer=_text(doc, "house_offer"),
        explorer=_one_of(doc.get("explorer") or "greedy", "explorer", _EXPLORERS),
        gamma=_number(doc.get("gamma", DEFAULT_GAMMA), "gamma", 0.0, 1e6),
        floor=_number(doc.get("floor", 0.0), "floor", 0.0, 1.0),
        outcome_window_hours=_integer(window, "outcome_window_hours", 1, 24 * 366),
    )


def dna_from_document(value: object, field: str) -> list[dna_pb2.WeightedMarker]:
    """DNA as written: markers, {marker, salience} entries, or one {marker: salience} mapping.

    A salience left out is 1.0; it may be from 1/256 to 16. Raises InvalidDocument.
    """
    if isinstance(value, Mapping):
        value = [{"marker": name, "salience": salience} for name, salience in value.items()]
    out: dict[str, int] = {}
    for position, entry in enumerate(_sequence(value, field)):
        path = f"{field}[{position}]"
        if isinstance(entry, Mapping):
            _known(entry, ("marker", "salience"), f"{path}.")
            name = _marker(entry.get("marker"), f"{path}.marker")
            given = entry.get("salience", 1.0)
            salience = _number(given, f"{path}.salience", 1 / 256, _MAX_SALIENCE)
        else:
            name, salience = _marker(entry, path), 1.0
        out[name] = max(out.get(name, 0), round(salience * 256))
    return [dna_pb2.WeightedMarker(marker=name, salience_q8=q8) for name, q8 in out.items()]


def _targeting(doc: Mapping[str, Any]) -> release_pb2.Targeting:
    areas = _mapping(doc.get("areas"), "areas")
    _known(areas, ("cells", "near"), "areas.")
    valid = _mapping(doc.get("valid"), "valid")
    _known(valid, ("from", "until"), "valid.")
    cells = [*_each(areas.get("cells"), "areas.cells", _cell)]
    cells += _each(doc.get("cells"), "cells", _cell)
    near = [*_each(areas.get("near"), "areas.near", _place)]
    near += _each(doc.get("near"), "near", _place)
    return release_pb2.Targeting(
        cells=_unique(cells),
        near_places=_unique(near),
        valid_from_ms=_instant(valid.get("from"), "valid.from"),
        valid_until_ms=_instant(valid.get("until"), "valid.until"),
        days=sorted(set(_each(doc.get("days"), "days", _day))),
        hours=sorted({h for some in _each(doc.get("hours"), "hours", _hours) for h in some}),
        any_of=_unique(_each(doc.get("any_of"), "any_of", _marker)),
        all_of=_unique(_each(doc.get("all_of"), "all_of", _marker)),
        none_of=_unique(_each(doc.get("none_of"), "none_of", _marker)),
        channels=_unique(_each(doc.get("channels"), "channels", _channel)),
        placements=_unique(_each(doc.get("placements"), "placements", _identifier)),
    )


def _cap(value: object, field: str) -> release_pb2.Cap:
    cap = _mapping(value, field)
    _known(cap, ("count", "limit", "window_hours", "scope"), f"{field}.")
    return release_pb2.Cap(
        scope=_one_of(cap.get("scope") or "customer", f"{field}.scope", _SCOPES),
        count=_one_of(cap.get("count") or "view", f"{field}.count", _COUNTS),
        limit=_integer(cap.get("limit"), f"{field}.limit", 1, 100_000),
        window_hours=_integer(cap.get("window_hours", 0), f"{field}.window_hours", 0, 24 * 3660),
    )


def _asset(key: str, part: object) -> release_pb2.OfferAsset:
    field = f"assets.{key}"
    name, dot, language = key.partition(".")
    return release_pb2.OfferAsset(
        name=_identifier(name, field),
        language=_language(language, field) if dot else "",
        part=_identifier(part, field),
    )


def _language(value: object, field: str) -> str:
    if not isinstance(value, str) or not _LANGUAGE.fullmatch(value):
        _fail(field, value, "a language, for example de or pt-BR")
    return value


def _fail(field: str, value: object, allowed: str) -> NoReturn:
    raise InvalidDocument(field, value, allowed)


def _known(doc: Mapping[str, Any], fields: Sequence[str], prefix: str) -> None:
    for name in doc:
        if name not in fields:
            near = nearest_name(str(name), fields)
            hint = f"did you mean {prefix}{near}?" if near else f"one of {', '.join(fields)}"
            _fail(f"{prefix}{name}", doc[name], f"a known field: {hint}")


def _each(value: object, field: str, read: Callable[[object, str], _T]) -> list[_T]:
    return [read(item, f"{field}[{n}]") for n, item in enumerate(_sequence(value, field))]


def _sequence(value: object, field: str) -> Sequence[Any]:
    if value is None or value == "":
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        _fail(field, value, "a list")
    return value


def _mapping(value: object, field: str) -> Mapping[str, Any]:
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        _fail(field, value, "a mapping")
    return value


def _content(value: object, field: str) -> dict[str, str]:
    content = _mapping(value, field)
    for name, text in content.items():
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            _fail(f"{field}.{name}", text, "text")
    return {str(name): str(text) for name, text in content.items()}


def _text(doc: Mapping[str, Any], field: str) -> str:
    value = doc.get(field)
    return _identifier(value, field) if value not in (None, "") else ""


def _strings(value: object, field: str) -> list[str]:
    return _unique(_each(value, field, _identifier))


def _identifier(value: object, field: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _MAX_ID
        or not value.isprintable()
        or value != value.strip()
    ):
        _fail(field, value, f"1 to {_MAX_ID} printable characters without space at the ends")
    return value


def _number(value: object, field: str, low: float, high: float) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        _fail(field, value, f"a number from {low:g} to {high:g}")
    return number


def _integer(value: object, field: str, low: int, high: int) -> int:
    number = -math.inf
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = -math.inf
    if not low <= number <= high or number != int(number):
        _fail(field, value, f"a whole number from {low} to {high}")
    return int(number)


def _flag(value: object, field: str) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        _fail(field, value, "true or false")
    return value


def _one_of(value: object, field: str, choices: Mapping[str, _T]) -> _T:
    if not isinstance(value, str) or value not in choices:
        _fail(field, value, f"one of {', '.join(choices)}")
    return choices[value]


def _marker(value: object, field: str) -> str:
    if not isinstance(value, str) or ":" not in value:
        _fail(field, value, "a marker, for example claim:organic")
    namespace, _, text = value.partition(":")
    try:
        return marker(namespace, text)
    except UsageError as error:
        raise InvalidDocument(
            field, value, f"a marker, for example claim:organic ({error})"
        ) from error


def _word(value: object, field: str, namespace: str) -> str:
    """The value of a marker of `namespace`, given with or without the namespace."""
    if not isinstance(value, str):
        _fail(field, value, "text")
    prefix = f"{namespace}:"
    name = _marker(value if value.startswith(prefix) else prefix + value, field)
    return name[len(prefix) :]


def _channel(value: object, field: str) -> str:
    return _word(value, field, "channel")


def _place(value: object, field: str) -> str:
    return "place:" + _word(value, field, "place")


def _cell(value: object, field: str) -> str:
    try:
        return format_cell(parse_cell(str(value)))
    except UsageError as error:
        raise InvalidDocument(field, value, "an H3 cell, for example 892a1072b5bffff") from error


def _day(value: object, field: str) -> int:
    if isinstance(value, str) and len(value) >= 3:
        for number, name in enumerate(_DAY_NAMES, start=1):
            if name.startswith(value.lower()):
                return number
    try:
        return _integer(value, field, 1, 7)
    except InvalidDocument:
        _fail(field, value, "1 (Monday) to 7 (Sunday), or a name such as sat")


def _hours(value: object, field: str) -> list[int]:
    """One hour, or an inclusive range such as 17-21 (or 22-2, across midnight)."""
    first, dash, last = str(value).partition("-")
    try:
        start = _integer(first, field, 0, 23)
        stop = _integer(last, field, 0, 23) if dash else start
    except InvalidDocument:
        _fail(field, value, "an hour from 0 to 23, or a range such as 17-21")
    return [(start + step) % 24 for step in range((stop - start) % 24 + 1)]


def _instant(value: object, field: str) -> int:
    """Milliseconds since the Unix epoch; 0 where nothing was said."""
    if value is None or value == "":
        return 0
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        _fail(field, value, "a time with its offset, for example 2026-06-30T18:00:00+02:00")
    try:
        return round(moment.astimezone(UTC).timestamp() * 1000)
    except OverflowError:  # the first or the last day that there is, in another zone
        _fail(field, value, "a time between the years 1 and 9999")


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
