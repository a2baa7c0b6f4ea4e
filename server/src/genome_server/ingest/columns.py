"""Columns of flat files: from `context.weather` and `a|b` to the row that the schema describes.

A CSV or Parquet file names nested fields with dots. A cell is turned into what
the schema asks for where that can be done; where it cannot, it stays as it is,
and the check against the schema says what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_sdk.dna.markers import nearest_name
from genome_server.ingest.kinds import Kind, Schema

#: Another spelling of the columns below `attributes`.
_SHORT = "attr."
_LONG = "attributes."
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Column:
    """Where the cells of a column go: the path of keys, and the schema of what stands there."""

    name: str
    path: tuple[str, ...]
    schema: Schema


def known_columns(kind: Kind) -> list[str]:
    """The columns of a kind; `attributes.` stands for all that begin with it."""
    names: list[str] = []
    for name, schema in kind.properties.items():
        nested = schema.get("properties", {})
        if schema.get("type") == "object":
            names += [f"{name}.{inner}" for inner in nested] or [f"{name}."]
        else:
            names.append(name)
    return names


def column_of(kind: Kind, name: str) -> Column | None:
    """The column of this name, or None where the kind has none."""
    spelled = _LONG + name[len(_SHORT) :] if name.startswith(_SHORT) else name
    schema = kind.properties.get(spelled)
    if schema is not None:
        return Column(name, (spelled,), schema)
    first, dot, rest = spelled.partition(".")
    outer = kind.properties.get(first)
    if not dot or not rest or outer is None or outer.get("type") != "object":
        return None
    inner = outer.get("properties", {}).get(rest) or outer.get("additionalProperties")
    return Column(name, (first, rest), inner) if inner else None


def nearest_column(kind: Kind, name: str) -> str:
    """Words that help with an unknown column: the nearest one, or all."""
    known = known_columns(kind)
    near = nearest_name(name.lower(), known)
    if near is None and "." in name:
        near = nearest_name(name.split(".")[-1].lower(), known)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"{kind.name} have: {', '.join(known)}"


def assemble(columns: Sequence[Column], cells: Iterable[Any]) -> dict[str, Any]:
    """A row from the cells of its columns; empty cells and nulls are not said."""
    row: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        value = convert(cell, column.schema) if isinstance(cell, str) else cell
        if value is None:
            continue
        target = row
        for key in column.path[:-1]:
            inner = target.setdefault(key, {})
            if not isinstance(inner, dict):  # `context` and `context.place` both stand there
                break
            target = inner
        target[column.path[-1]] = value
    return row


def convert(cell: str, schema: Schema) -> Any:
    """What a cell of text says where the schema asks for something else; None where it is empty."""
    text = cell.strip()
    if not text:
        return None
    wanted = schema.get("type", "string")
    types = [wanted] if isinstance(wanted, str) else wanted
    if "array" in types and ("string" not in types or "|" in text):
        return _list(text, schema.get("items", {}))
    if "object" in types:
        return _json(text, Mapping)
    if "string" in types:
        return text
    if "boolean" in types:
        return _BOOLEANS.get(text.lower(), text)
    return _number(text, whole="number" not in types)


def _list(text: str, items: Schema) -> Any:
    if text.startswith(("[", "{")):
        return _json(text, Sequence if text.startswith("[") else Mapping)
    parts = [part for part in (part.strip() for part in text.split("|")) if part]
    if "marker" in items.get("properties", {}):
        return [_weighted(part) for part in parts]
    return [convert(part, items) for part in parts]


def _weighted(text: str) -> Any:
    marker, equals, salience = text.rpartition("=")
    number = _number(salience, whole=False) if equals else None
    return {"marker": marker, "salience": number} if isinstance(number, int | float) else text


def _number(text: str, *, whole: bool) -> Any:
    try:
        return int(text) if whole or text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return text


def _json(text: str, kind: type[Any]) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, kind) else text
