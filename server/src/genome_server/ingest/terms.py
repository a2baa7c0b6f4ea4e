"""The words that the schemas of imports are made of: small pieces of JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

MARKER_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9 _-]*:.{1,120}$"
CELL: Final = "8a2a100d2d57fff"


def field(kind: str | list[str], says: str, *examples: Any, **more: Any) -> Schema:
    """A field of a JSON type, with what it says and examples."""
    return {"type": kind, "description": says, "examples": list(examples), **more}


def id_(says: str, example: str) -> Schema:
    """An id: text, or a whole number that is kept as text."""
    return field(
        ["string", "integer"],
        says,
        example,
        minLength=1,
        maxLength=128,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        **{"x-expected": "1 to 128 printable characters"},
    )


def text(says: str, *examples: str, **more: Any) -> Schema:
    """Text."""
    return field("string", says, *examples, **{"maxLength": 4096, **more})


def number(says: str, example: float, low: float, high: float) -> Schema:
    """A number between two others."""
    return field("number", says, example, minimum=low, maximum=high)


def whole(says: str, example: int, low: int, high: int) -> Schema:
    """A whole number between two others."""
    return field("integer", says, example, minimum=low, maximum=high)


def list_(says: str, items: Schema, *example: Any, **more: Any) -> Schema:
    """A list of items."""
    return field("array", says, list(example), items=items, **more)


def time(says: str, example: str) -> Schema:
    """A time with its offset."""
    return text(says, example, **{"x-expected": "a time with its offset, such as " + example})


def object_(says: str, properties: dict[str, Schema], **more: Any) -> Schema:
    """An object that has these properties and no others."""
    closed = {"additionalProperties": False}
    return {"type": "object", "description": says, "properties": properties, **closed, **more}


WORD: Final = {"type": ["string", "integer"], "maxLength": 128}
MARKER: Final = {
    "type": "string",
    "pattern": MARKER_PATTERN,
    "x-expected": "a marker such as claim:organic",
}
CELL_ITEM: Final = {
    "type": "string",
    "pattern": "^[0-9A-Fa-f]{15,16}$",
    "x-expected": f"an H3 cell such as {CELL}",
}
SCALAR: Final = {"type": ["string", "number", "boolean"], "maxLength": 120}
SCALARS: Final = {
    "type": ["string", "number", "boolean", "array"],
    "maxLength": 120,
    "items": SCALAR,
}


def dna(says: str, *example: Any) -> Schema:
    """DNA: markers, with or without saliences."""
    weighted = object_(
        "A marker with its salience.",
        {
            "marker": MARKER,
            "salience": {"type": "number", "minimum": 1 / 256, "maximum": 16},
        },
        required=["marker"],
    )
    return field(
        ["array", "object"],
        says + " A salience left out is 1.0; in CSV, `marker=0.5|marker`.",
        list(example),
        items={**MARKER, **weighted, "type": ["string", "object"]},
        additionalProperties={"type": "number", "minimum": 1 / 256, "maximum": 16},
    )


def free(says: str, example: Mapping[str, Any], **more: Any) -> Schema:
    """An object with names of any kind, each a marker or a few."""
    return {
        "type": "object",
        "description": says,
        "examples": [dict(example)],
        "additionalProperties": SCALARS,
        **more,
    }
