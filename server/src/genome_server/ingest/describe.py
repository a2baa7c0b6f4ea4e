"""A kind of row as people read it: its fields, and an example with every one of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from genome_server.ingest.kinds import Kind, Schema

_WIDTH = 88
# What names files: an example cannot bring them, so it holds as it stands without the field.
_FILES = frozenset({"assets"})
_SPOKEN = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true, false",
    "array": "list",
    "object": "object",
}


class Field(NamedTuple):
    """One column: as CSV names it, what it takes, and what it is for."""

    name: str
    takes: str
    required: bool
    description: str


def fields(kind: Kind) -> list[Field]:
    """The columns of a kind, in order; `attributes.*` stands for all that begin alike."""
    found = []
    for name, schema in kind.properties.items():
        if schema.get("type") != "object":
            found.append(_field(kind, name, schema))
        elif "properties" in schema:
            for key, deeper in schema["properties"].items():
                says = f"{schema['description']} {deeper['description']}"
                found.append(_field(kind, f"{name}.{key}", {**deeper, "description": says}))
        else:
            found.append(_field(kind, f"{name}.*", schema))
    return found


def _field(kind: Kind, column: str, schema: Schema) -> Field:
    spoken = takes(schema["additionalProperties"] if column.endswith(".*") else schema)
    return Field(column, spoken, column in kind.required, schema["description"])


def example_rows(kind: Kind) -> list[dict[str, Any]]:
    """Rows that together have every field; where fields exclude each other, one row for each.
    Fields that name files are empty: without the files the rows would be refused."""
    groups = kind.alternatives or ((),)
    exclusive = {name for group in groups for name in group}
    rows = []
    for number, group in enumerate(groups):
        row = {
            name: {} if name in _FILES else _example(schema)
            for name, schema in kind.properties.items()
            if name not in exclusive or name in group
        }
        for key in ("id", "interaction_id", "session"):
            if number and key in row:
                row[key] = f"{row[key]}-{number + 1}"
        rows.append(row)
    return rows


def example_csv(kind: Kind) -> str:
    """The example as CSV."""
    names = [column for name, schema in kind.properties.items() for column in _names(name, schema)]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
    writer.writeheader()
    for row in example_rows(kind):
        writer.writerow(dict(_flat(kind, row)))
    return out.getvalue()


def example_jsonl(kind: Kind) -> str:
    """The example as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in example_rows(kind))


def example_yaml(kind: Kind) -> str:
    """The example as YAML, every field with its comment where it stands first."""
    lines = [f"# {line}" for line in _wrapped(kind.summary, _WIDTH - 2)]
    told: set[str] = set()
    for row in example_rows(kind):
        lines.append("")
        for position, (name, value) in enumerate(row.items()):
            lead = "- " if position == 0 else "  "
            if name not in told:
                comment = kind.properties[name]["description"]
                indent = "" if position == 0 else "  "
                lines += [f"{indent}# {line}" for line in _wrapped(comment, _WIDTH - 4)]
                told.add(name)
                if name in _FILES:
                    lines.append(f"{indent}# Such as this, once the files are there:")
                    said = _yaml("", name, _example(kind.properties[name]))
                    lines += [f"{indent}# {line}" for line in said]
            lines += _yaml(lead, name, value)
    return "\n".join(lines) + "\n"


def comments(kind: Kind) -> str:
    """What the fields mean, for formats that have no comments."""
    lines = [f"# {line}" for line in _wrapped(kind.summary, _WIDTH - 2)]
    for field in fields(kind):
        need = ", required" if field.required else ""
        text = f"{field.name} ({field.takes}{need}): {field.description}"
        first, *more = _wrapped(text, _WIDTH - 4)
        lines += [f"#   {first}", *(f"#     {line}" for line in more)]
    return "\n".join(lines) + "\n"


def takes(schema: Schema) -> str:
    """What a field takes, in a few words."""
    if "enum" in schema:
        return " or ".join(schema["enum"])
    wanted = schema.get("type", "string")
    types = [wanted] if isinstance(wanted, str) else list(wanted)
    if types == ["array", "object"]:
        return "list of markers"
    if types == ["array"]:
        items = schema["items"]
        if "enum" in items:
            return "list of " + ", ".join(items["enum"])
        return "list of objects" if items.get("type") == "object" else "list"
    if "string" in types:
        return "text or list" if "array" in types else "text"
    return _SPOKEN[types[0]]


def cell(value: Any) -> str:
    """A value as it stands in a CSV cell."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        if any(isinstance(item, Mapping) and "marker" not in item for item in value):
            return json.dumps(value, ensure_ascii=False)
        return "|".join(_list_item(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _list_item(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"{item['marker']}={item.get('salience', 1.0):g}"
    return str(item)


def _example(schema: Schema) -> Any:
    if "properties" in schema and schema.get("type") == "object" and "examples" not in schema:
        return {name: _example(inner) for name, inner in schema["properties"].items()}
    return schema["examples"][0]


def _columns(name: str, schema: Schema) -> Iterator[tuple[str, Schema, Any]]:
    if schema.get("type") != "object":
        yield name, schema, _example(schema)
    elif "properties" in schema:
        for inner, deeper in schema["properties"].items():
            yield f"{name}.{inner}", deeper, _example(deeper)
    else:
        values = schema["additionalProperties"]
        for inner, value in _example(schema).items():
            yield f"{name}.{inner}", values, value


def _names(name: str, schema: Schema) -> list[str]:
    return [column for column, _, _ in _columns(name, schema)]


def _flat(kind: Kind, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        if kind.properties[name].get("type") == "object":
            for inner, deeper in value.items():
                yield f"{name}.{inner}", cell(deeper)
        else:
            yield name, cell(value)


def _yaml(lead: str, name: str, value: Any) -> list[str]:
    indent = " " * len(lead)
    if isinstance(value, Mapping) and value:
        inner = [
            line for key, deeper in value.items() for line in _yaml(f"{indent}  ", key, deeper)
        ]
        return [f"{lead}{name}:", *inner]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [f"{lead}{name}:", *(f"{indent}  - {json.dumps(item)}" for item in value)]
    return [f"{lead}{name}: {json.dumps(value, ensure_ascii=False)}"]


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
