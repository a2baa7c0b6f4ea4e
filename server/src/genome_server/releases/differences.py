"""By which fields two offers, or two placements, of releases differ. Pure.

Fields are named as in the documents that are imported, where what devices get is not another thing:
`value_micros` is `value`, and `targeting.days` is `days`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_PARTS: Final = {"_micros": 1e6, "_ppm": 1e6, "_q8": 256.0}
"""Endings of names of whole numbers, and how many of them are 1."""
_NAMES: Final = {
    "max_slots": "slots",
    "purpose": "consent",
    "near_places": "areas.near",
    "cells": "areas.cells",
    "valid_from_ms": "valid.from_ms",
    "valid_until_ms": "valid.until_ms",
    "stop_after_redeem": "stop_after.redeem",
    "stop_after_dismiss": "stop_after.dismiss",
    "stop_after_convert": "stop_after.convert",
    "arms": "experiment.arms",
    "experiment_seed": "experiment.seed",
}
_WITHOUT: Final = frozenset({"targeting"})
"""Messages whose fields stand beside those of the document."""
_BY_FIRST: Final = frozenset({"dna", "arms"})
"""Lists of pairs of a name and a number, a field for each."""


def differences(before: Message, after: Message) -> list[dict[str, Any]]:
    """The fields whose values differ, by name: `field`, `before` and `after` as plain data, None
    where one has none."""
    old, new = dict(_fields(before)), dict(_fields(after))
    names = sorted({*old, *new})
    return [
        {"field": name, "before": old.get(name), "after": new.get(name)}
        for name in names
        if old.get(name) != new.get(name)
    ]


def _fields(message: Message, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that is not of a message, by its name in documents, with its value."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        name, parts = _named(field)
        if field.is_repeated:
            if isinstance(value, Mapping):
                yield from ((f"{prefix}{name}.{key}", each) for key, each in value.items())
            elif field.name in _BY_FIRST:
                for each in value:
                    (_, key), (_, said) = _fields(each)
                    yield f"{prefix}{name}.{key}", said
            else:
                yield prefix + name, [_plain(field, each, parts) for each in value]
        elif field.has_presence and not message.HasField(field.name):
            yield prefix + name, None
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inside = prefix if field.name in _WITHOUT else f"{prefix}{name}."
            yield from _fields(value, inside)
        else:
            yield prefix + name, _plain(field, value, parts)


def _named(field: Any) -> tuple[str, float]:
    """The name of a field in documents, and how many of its unit are 1 there."""
    for ending, parts in _PARTS.items():
        if field.name.endswith(ending):
            return field.name.removesuffix(ending), parts
    return _NAMES.get(field.name, field.name), 1


def _plain(field: Any, value: Any, parts: float) -> Any:
    """A value as JSON has it."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return dict(_fields(value))
    if field.type == FieldDescriptor.TYPE_ENUM:
        return str(field.enum_type.values_by_number[value].name).lower()
    if isinstance(value, bytes):
        return value.hex()
    return value / parts if parts != 1 else value
