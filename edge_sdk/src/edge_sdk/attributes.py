"""The free attributes of a moment or of a customer, and the markers that they become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, cast

from edge_sdk.arguments import shown_plain
from edge_sdk.dna.markers import marker
from edge_sdk.errors import InvalidContext, InvalidMarker

MAX_ATTRIBUTES: Final = 64
_MAX_VALUES: Final = 16
# The text of a whole number beyond it would be no marker.
_LARGEST: Final = 10**100

# Said by fields of their own, or worked out from the time.
_RESERVED: Final = {
    "place": "place=",
    "activity": "activity=",
    "channel": "channel=",
    "stage": "stage=",
    "daypart": "time=",
    "weekday": "time=",
    "weekend": "time=",
    "cell": "cell=",
    "basket": "basket=",
}
# An attribute is recorded and reported; coordinates must not get there by this door.
_COORDINATES: Final = frozenset(
    {"coordinates", "coords", "gps", "geo", "geolocation", "latlng", "latlon", "location"}
)
# Also as part of a name: `store-lat`.
_DEGREES: Final = frozenset({"lat", "lng", "lon", "latitude", "longitude"})

# Their items are no values of their own.
_NO_LISTS: Final = (str, bytes, bytearray, memoryview)

Scalar = str | int | float | bool


def wrong(name: str, value: object, allowed: str) -> InvalidContext:
    """What to raise where a field of a context holds what it cannot."""
    return InvalidContext(f"{name}={shown_plain(value)} is not allowed: {allowed}")


@lru_cache(maxsize=4096)
def made_marker(namespace: str, text: str) -> str:
    """`marker`, remembered. Raises InvalidMarker."""
    return marker(namespace, text)


def read_attributes(
    value: Mapping[str, Scalar | Sequence[Scalar]] | None,
) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """The attributes that an app gave, lists as tuples. Raises InvalidContext."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong("attributes", value, "a mapping such as {'weather': 'sunny'}")
    if len(value) > MAX_ATTRIBUTES:
        raise InvalidContext(f"attributes holds {len(value)} entries; at most {MAX_ATTRIBUTES}")
    free: dict[str, Scalar | tuple[Scalar, ...]] = {}
    for name, given in value.items():
        if not isinstance(name, str):
            raise wrong("attributes", name, "names are text")
        plain = name.strip().lower().replace("_", "-")
        if plain in _RESERVED:
            raise InvalidContext(f"attributes: {name!r} has a field of its own, {_RESERVED[plain]}")
        if plain in _COORDINATES or _DEGREES.intersection(plain.split("-")):
            raise InvalidContext(
                f"attributes: {name!r} would be recorded; give lat= and lng= to the context, "
                "which keeps only the cell"
            )
        if isinstance(given, Sequence) and not isinstance(given, _NO_LISTS):
            if len(given) > _MAX_VALUES:
                raise InvalidContext(f"attributes[{name!r}]: at most {_MAX_VALUES} values")
            free[name] = tuple(given)
        else:
            free[name] = cast(
                "Scalar", given
            )  # what it is not is refused where it is made a marker
    return free


def attribute_marker(name: str, value: object) -> str:
    """The marker of a free attribute: `weather:sunny`. Imports use it too, so that what was
    learned and what is decided on are called the same. Raises InvalidContext."""
    field_name = f"attributes[{name!r}]"
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float) and math.isfinite(value):
        text = f"{value:g}"
    elif isinstance(value, str) or (isinstance(value, int) and abs(value) < _LARGEST):
        text = str(value)
    else:
        raise wrong(field_name, value, "text, a whole or finite number, or true or false")
    try:
        return made_marker(name, text)
    except InvalidMarker as error:
        raise wrong(field_name, value, str(error)) from None
