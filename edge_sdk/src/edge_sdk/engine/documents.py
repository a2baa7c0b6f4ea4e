"""Readers of the fields of documents: each takes a value and its path, or says what is wrong.

Documents are plain mappings, as they come out of JSON, YAML or a CSV row with dotted headers; see
`edge_sdk.engine.offers`. What may be left out may also be null or empty text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NoReturn, TypeVar

from edge_sdk.arguments import shown
from edge_sdk.dna.markers import marker as marker_of
from edge_sdk.dna.markers import nearest_name
from edge_sdk.engine.cells import parse_cell
from edge_sdk.errors import UsageError
from edge_sdk.messages import dna_pb2

_T = TypeVar("_T")

MICROS: Final = 1_000_000
MAX_VALUE: Final = 1_000_000.0
_MAX_SALIENCE: Final = 16.0
_MAX_ID: Final = 128
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_DAY_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class InvalidDocument(UsageError):
    """A document breaks the format: `field` is the path, `value` what stood there."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {shown(value)} is not allowed; expected {allowed}")


def fail(field: str, value: object, allowed: str) -> NoReturn:
    """Raise InvalidDocument."""
    raise InvalidDocument(field, value, allowed)


def known(doc: Mapping[str, Any], fields: Sequence[str], prefix: str = "") -> None:
    """Refuse a field that is none of these, and name the nearest."""
    for name in doc:
        if name not in fields:
            near = nearest_name(str(name), fields)
            hint = f"did you mean {prefix}{near}?" if near else f"one of {', '.join(fields)}"
            fail(f"{prefix}{name}", doc[name], f"a known field: {hint}")


def each(value: object, field: str, read: Callable[[object, str], _T]) -> list[_T]:
    """Every item of a list."""
    return [read(item, f"{field}[{n}]") for n, item in enumerate(sequence(value, field))]


def sequence(value: object, field: str) -> Sequence[Any]:
    """A list."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        fail(field, value, "a list")
    return value


def mapping(value: object, field: str) -> Mapping[str, Any]:
    """A mapping."""
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        fail(field, value, "a mapping")
    return value


def content(value: object, field: str) -> dict[str, str]:
    """Texts by name."""
    said = mapping(value, field)
    for name, inner in said.items():
        if not isinstance(inner, str | int | float) or isinstance(inner, bool):
            fail(f"{field}.{name}", inner, "text")
    return {str(name): str(inner) for name, inner in said.items()}


def text(doc: Mapping[str, Any], field: str) -> str:
    """A name that may be left out."""
    value = doc.get(field)
    return identifier(value, field) if value not in (None, "") else ""


def strings(value: object, field: str) -> list[str]:
    """Names, each once."""
    return unique(each(value, field, identifier))


def identifier(value: object, field: str) -> str:
    """A name: 1 to 128 printable characters."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _MAX_ID
        or not value.isprintable()
        or value != value.strip()
    ):
        fail(field, value, f"1 to {_MAX_ID} printable characters without space at the ends")
    return value


def number(value: object, field: str, low: float, high: float) -> float:
    """A number between two others."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not low <= found <= high:
        fail(field, value, f"a number from {low:g} to {high:g}")
    return found


def integer(value: object, field: str, low: int, high: int) -> int:
    """A whole number between two others."""
    found = -math.inf
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            found = -math.inf
    if not low <= found <= high or found != int(found):
        fail(field, value, f"a whole number from {low} to {high}")
    return int(found)


def money(doc: Mapping[str, Any], field: str, otherwise: float, low: float = 0.0) -> int:
    """An amount in the tenant's currency unit, in millionths."""
    return round(number(doc.get(field, otherwise), field, low, MAX_VALUE) * MICROS)


def flag(value: object, field: str) -> bool:
    """True or false."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        fail(field, value, "true or false")
    return value


def one_of(value: object, field: str, choices: Mapping[str, _T]) -> _T:
    """What one of a few words stands for."""
    if not isinstance(value, str) or value not in choices:
        fail(field, value, f"one of {', '.join(choices)}")
    return choices[value]


def language(value: object, field: str) -> str:
    """A language."""
    if not isinstance(value, str) or not _LANGUAGE.fullmatch(value):
        fail(field, value, "a language, for example de or pt-BR")
    return value


def marker(value: object, field: str) -> str:
    """A marker in its one spelling."""
    if not isinstance(value, str) or ":" not in value:
        fail(field, value, "a marker, for example claim:organic")
    namespace, _, said = value.partition(":")
    try:
        return marker_of(namespace, said)
    except UsageError as error:
        raise InvalidDocument(
            field, value, f"a marker, for example claim:organic ({error})"
        ) from error


def word(value: object, field: str, namespace: str) -> str:
    """The value of a marker of `namespace`, given with or without the namespace."""
    if not isinstance(value, str):
        fail(field, value, "text")
    prefix = f"{namespace}:"
    name = marker(value if value.startswith(prefix) else prefix + value, field)
    return name[len(prefix) :]


def channel(value: object, field: str) -> str:
    """A channel, without its namespace."""
    return word(value, field, "channel")


def size(value: object, field: str) -> str:
    """A size: 300x250, a4, voice."""
    return word(value, field, "size")


def place(value: object, field: str) -> str:
    """A place marker, given with or without the namespace."""
    return "place:" + word(value, field, "place")


def cell(value: object, field: str) -> int:
    """An H3 cell."""
    try:
        return parse_cell(str(value))
    except UsageError as error:
        raise InvalidDocument(field, value, "an H3 cell, for example 892a1072b5bffff") from error


def day(value: object, field: str) -> int:
    """A day of the week, 1 (Monday) to 7."""
    if isinstance(value, str) and len(value) >= 3:
        for position, name in enumerate(_DAY_NAMES, start=1):
            if name.startswith(value.lower()):
                return position
    try:
        return integer(value, field, 1, 7)
    except InvalidDocument:
        fail(field, value, "1 (Monday) to 7 (Sunday), or a name such as sat")


def hours(value: object, field: str) -> list[int]:
    """One hour, or an inclusive range such as 17-21 (or 22-2, across midnight)."""
    first, dash, last = str(value).partition("-")
    try:
        start = integer(first, field, 0, 23)
        stop = integer(last, field, 0, 23) if dash else start
    except InvalidDocument:
        fail(field, value, "an hour from 0 to 23, or a range such as 17-21")
    return [(start + step) % 24 for step in range((stop - start) % 24 + 1)]


def instant(value: object, field: str, zone: tzinfo | None = None) -> int:
    """Milliseconds since the Unix epoch; 0 where nothing was said.

    A time without an offset is local time in `zone`: the earlier one where it comes twice; where
    clocks jump over it, as many minutes after the jump as it is after the jump's beginning.
    """
    if value is None or value == "":
        return 0
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime) or (moment.tzinfo is None and zone is None):
        fail(field, value, "a time with its offset (2026-06-30T18:00:00+02:00) or a zone beside it")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        # 0 says that nothing was said, so the first millisecond of 1970 is the one after it.
        return round(moment.astimezone(UTC).timestamp() * 1000) or 1
    except OverflowError:  # the first or the last day that there is, in another zone
        fail(field, value, "a time between the years 1 and 9999")


def unique(values: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(values))


def dna_from_document(value: object, field: str) -> list[dna_pb2.WeightedMarker]:
    """DNA as written: markers, {marker, salience} entries, or one {marker: salience} mapping.

    A salience left out is 1.0; it may be from 1/256 to 16. Raises InvalidDocument.
    """
    if isinstance(value, Mapping):
        value = [{"marker": name, "salience": salience} for name, salience in value.items()]
    out: dict[str, int] = {}
    for position, entry in enumerate(sequence(value, field)):
        path = f"{field}[{position}]"
        if isinstance(entry, Mapping):
            known(entry, ("marker", "salience"), f"{path}.")
            name = marker(entry.get("marker"), f"{path}.marker")
            given = entry.get("salience", 1.0)
            salience = number(given, f"{path}.salience", 1 / 256, _MAX_SALIENCE)
        else:
            name, salience = marker(entry, path), 1.0
        out[name] = max(out.get(name, 0), round(salience * 256))
    return [dna_pb2.WeightedMarker(marker=name, salience_q8=q8) for name, q8 in out.items()]
