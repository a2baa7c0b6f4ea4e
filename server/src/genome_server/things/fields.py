"""The fields of dna.yaml: what a section holds, and what is wrong with it. Free of I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_sdk.dna.markers import nearest_name, split
from edge_sdk.errors import InvalidMarker


class FieldError(Exception):
    """A field that is not what it should be: "field: cause"."""


def mapping(value: object, path: str) -> Mapping[str, Any]:
    """What a field at `path` holds; empty where it is left out. Raises FieldError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise FieldError(f"{path}: must be a mapping of names")
    return value


def only(fields: Mapping[str, Any], names: Sequence[str], prefix: str) -> None:
    """Refuse a field that is none of `names`: FieldError with the nearest."""
    for name in fields:
        if name not in names:
            near = nearest_name(str(name), names)
            hint = f"did you mean {prefix}{near}?" if near else f"known: {', '.join(names)}"
            raise FieldError(f"{prefix}{name}: unknown field; {hint}")


def namespace(name: object, path: str) -> str:
    """A namespace of markers. Raises FieldError."""
    try:
        return split(f"{name}:x")[0]
    except InvalidMarker as error:
        raise FieldError(f"{path}: {error}") from error
