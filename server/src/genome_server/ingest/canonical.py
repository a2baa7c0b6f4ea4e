"""One spelling for what formats write differently, so that equal rows are equal.

CSV knows only text, YAML tells 1 from 1.0, Parquet has no mixed lists. After
the check and before anything is compared or kept, a row is put into one form:
numbers where the schema wants numbers, text where it takes either, DNA as a list
of markers with their saliences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from genome_server.ingest.check import RowError
from genome_server.ingest.kinds import Kind, Schema


def canonical(kind: Kind, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row in its one form. `row` has passed the check.

    Raises RowError for infinity, and for a number that is too long for the text it becomes.
    """
    made = {name: _value(kind.properties[name], value) for name, value in row.items()}
    for name, value in made.items():
        longest = kind.properties[name].get("maxLength")
        if longest is not None and isinstance(value, str) and len(value) > longest:
            raise RowError(name, f"has {len(value):,} digits; {longest} are allowed")
    return made


def _value(schema: Schema, value: Any) -> Any:
    wanted = schema.get("type", "string")
    types = {wanted} if isinstance(wanted, str) else set(wanted)
    if types == {"array", "object"}:
        return _dna(value)
    if isinstance(value, Mapping):
        return {name: _value(_inner(schema, name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        items = [_value(schema.get("items", {}), item) for item in value]
        # Where one value may stand alone, a list of one is that value.
        return items[0] if "string" in types and len(items) == 1 else items
    if "string" in types:
        # An id that came as 1e16 keeps all its digits: `:g` would make many of them one.
        whole = "integer" in types and isinstance(value, float)
        return _text(int(value) if whole else value)
    if types == {"number"}:
        return float(value)
    return int(value) if types == {"integer"} else value


def _inner(schema: Schema, name: str) -> Schema:
    found: Schema = schema.get("properties", {}).get(name) or schema["additionalProperties"]
    return found


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError("", "holds a number that is too large")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _dna(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        value = [{"marker": name, "salience": salience} for name, salience in value.items()]
    return [
        {"marker": item["marker"], "salience": float(item.get("salience", 1.0))}
        if isinstance(item, Mapping)
        else {"marker": item, "salience": 1.0}
        for item in value
    ]
