"""One kind of row that can be imported; see `genome_server.ingest.kinds` for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genome_server.ingest.terms import Schema


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of row: its plural name, what it is for, and its JSON Schema.

    Of `alternatives`, groups of fields that exclude each other, a row has one (of an empty one:
    none).
    """

    name: str
    summary: str
    schema: Schema
    alternatives: tuple[tuple[str, ...], ...] = ()

    @property
    def properties(self) -> Mapping[str, Schema]:
        """The fields of a row."""
        fields: Mapping[str, Schema] = self.schema["properties"]
        return fields

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that a row cannot be without."""
        return tuple(self.schema["required"])


def kind_of(
    name: str,
    summary: str,
    required: list[str],
    properties: dict[str, Schema],
    alternatives: tuple[tuple[str, ...], ...] = (),
) -> Kind:
    """A kind of these fields."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:genome-edge:import:{name}",
        "title": name,
        "description": summary,
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }
    return Kind(name, summary, schema, alternatives)
