"""A row against the schema of its kind, and the words for what is wrong with it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from edge_sdk.dna.markers import nearest_name
from genome_server.ingest.columns import nearest_column
from genome_server.ingest.kinds import Kind, Schema

_ARTICLES = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of names",
    "null": "nothing",
}
_SHOWN = 80
_REMEMBERED = 50_000
_SCALARS = frozenset({str, int, float, bool})


class RowError(Exception):
    """What is wrong with one row: in which column (empty: the row as a whole), and why."""

    def __init__(self, column: str, cause: str) -> None:
        super().__init__(f"{column}: {cause}" if column else cause)
        self.column = column
        self.cause = cause


def check(kind: Kind, row: Mapping[str, Any]) -> None:
    """Raise RowError for the first field, in the order of the row, that is not what it must be."""
    if _memory(kind).holds(row):
        return
    validator = _validator(kind)
    errors = sorted(validator.iter_errors(row), key=functools.partial(_rank, list(row)))
    if errors:
        raise _explain(kind, errors[0])


def shorten(value: object) -> str:
    """A value as it may stand in a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class _Memory:
    """Values of one schema that passed before: most fields say the same things over and over.

    Objects are looked at field by field. Says no only where the validator does,
    or where the values cannot be remembered.
    """

    def __init__(self, schema: Schema) -> None:
        self._validator = Draft202012Validator(schema)
        self._passed: set[Any] = set()
        self._fields: dict[str, _Memory] | None = None
        if schema.get("type") == "object":
            named: Mapping[str, Schema] = schema.get("properties", {})
            self._fields = {name: _Memory(inner) for name, inner in named.items()}
            free = schema.get("additionalProperties")
            self._free = _Memory(free) if free else None
            self._required = frozenset(schema.get("required", ()))

    def holds(self, value: Any) -> bool:
        """Whether a value is valid."""
        if self._fields is not None and type(value) is dict:
            for name, inner in value.items():
                field = self._fields.get(name, self._free)
                if field is None or not field.holds(inner):
                    return False
            return self._required <= value.keys()
        key = (type(value), value) if type(value) in _SCALARS else repr(value)
        if key in self._passed:
            return True
        if not self._validator.is_valid(value):
            return False
        if len(self._passed) >= _REMEMBERED:
            self._passed.clear()
        self._passed.add(key)
        return True


@functools.cache
def _memory(kind: Kind) -> _Memory:
    return _Memory(kind.schema)


@functools.cache
def _validator(kind: Kind) -> Draft202012Validator:
    return Draft202012Validator(kind.schema)


def _rank(order: list[str], error: ValidationError) -> tuple[int, int]:
    """What is unknown comes first, since it explains what is missing."""
    if error.validator == "additionalProperties":
        return (0, 0)
    first = error.absolute_path[0] if error.absolute_path else None
    return (1, order.index(str(first)) if first in order else len(order))


def _explain(kind: Kind, error: ValidationError) -> RowError:
    path = dotted(error.absolute_path)
    schema: Mapping[str, Any] = error.schema
    value = error.instance
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in value)
        return RowError(_join(path, missing), "is missing")
    if error.validator == "additionalProperties":
        return _unknown(kind, path, schema, value)
    expected = schema.get("x-expected") or _expected(error.validator, error.validator_value)
    if error.validator == "type" and "x-expected" not in schema:
        expected = _types(error.validator_value)
        if error.validator_value == "array" and type(value) in _SCALARS:
            expected += f", such as [{value}]"
    if _is_private(kind, path):
        return RowError(path, f"is not {expected} (the value is not repeated here)")
    hint = ""
    if error.validator == "enum" and isinstance(value, str):
        near = nearest_name(value, [str(choice) for choice in error.validator_value])
        hint = f"; did you mean {near!r}?" if near else ""
    return RowError(path, f"{shorten(value)} is not {expected}{hint}")


def _unknown(
    kind: Kind, path: str, schema: Mapping[str, Any], value: Mapping[str, Any]
) -> RowError:
    known = schema.get("properties", {})
    name = next(str(key) for key in value if key not in known)
    if not path:
        return RowError(name, f"is no column of {kind.name}; {nearest_column(kind, name)}")
    near = nearest_name(name, known)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
    return RowError(_join(path, name), f"is no field of {path}; {hint}")


def _expected(validator: object, wanted: Any) -> str:
    match validator:
        case "minimum":
            return f"{wanted:g} or more"
        case "maximum":
            return f"{wanted:g} or less"
        case "minLength":
            return f"{wanted} or more characters long"
        case "maxLength":
            return f"{wanted} or fewer characters long"
        case "enum":
            return f"one of {', '.join(map(str, wanted))}"
        case _:
            return "as the schema says"


def _types(wanted: str | Sequence[str]) -> str:
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if "number" in names and "integer" in names:
        names.remove("integer")
    return " or ".join(_ARTICLES[name] for name in names)


def dotted(path: Iterable[object]) -> str:
    """A path as it stands in messages: `caps[0].limit`."""
    out = ""
    for part in path:
        out = f"{out}[{part}]" if isinstance(part, int) else _join(out, str(part))
    return out


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_private(kind: Kind, path: str) -> bool:
    return bool(kind.properties.get(path.split(".")[0].split("[")[0], {}).get("x-private"))
