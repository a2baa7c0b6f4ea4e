"""The messages of the contract, each kind loaded when the first of it is read or made.

A device that decides from a compiled release makes its first decision without any: the library
that reads messages is a tenth of what a process loads until then. What such a device needs of a
message it knows beside it (`partly`), and of a lineage it reads without the library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from edge_sdk.lazy import later, lazy

if TYPE_CHECKING:
    from genome_edge.v1 import dna_pb2, event_pb2, release_pb2, stop_pb2, sync_pb2
else:
    dna_pb2 = later("genome_edge.v1.dna_pb2")
    event_pb2 = later("genome_edge.v1.event_pb2")
    release_pb2 = later("genome_edge.v1.release_pb2")
    stop_pb2 = later("genome_edge.v1.stop_pb2")
    sync_pb2 = later("genome_edge.v1.sync_pb2")

__all__ = [
    "dna_pb2", "event_pb2", "lineage_of", "partly", "release_pb2", "stop_pb2", "sync_pb2",
]  # fmt: skip

_LINEAGE: Final = (
    ("vocabulary_lineage", b""),
    ("vocabulary_size", 0),
    ("schema_epoch", 0),
    ("landmark_hour", 0),
    ("quantiser", 0),
)


class Partly:
    """A serialised message of which some fields are known; it is read when another is asked for."""

    def __init__(self, kind: tuple[str, str], data: bytes, known: dict[str, Any]) -> None:
        vars(self).update(known)
        self._kind, self._data = kind, data

    @lazy
    def _message(self) -> Any:
        module, name = self._kind
        return getattr(import_module(f"genome_edge.v1.{module}"), name).FromString(self._data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # nothing of a message; asked by who copies things
            raise AttributeError(name)
        return getattr(self._message, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._message == (other._message if isinstance(other, Partly) else other))

    __hash__ = None  # type: ignore[assignment]  # as messages


def partly(module: str, name: str, data: bytes, **known: Any) -> Any:
    """The message `name` of a module of the contract, of which `known` fields need no reading."""
    return Partly((module, name), data, known)


def lineage_of(data: bytes) -> dna_pb2.Lineage:
    """A serialised Lineage. Raises DecodeError where it is none."""
    fields = dict(_LINEAGE)
    try:
        for number, value in _flat(data):
            name, empty = _LINEAGE[number - 1]
            if type(value) is not type(empty):
                raise ValueError(name)
            fields[name] = value
    except (ValueError, IndexError):  # let the library say what it is
        return dna_pb2.Lineage.FromString(data)
    lineage: dna_pb2.Lineage = partly("dna_pb2", "Lineage", data, **fields)
    return lineage


def _flat(data: bytes) -> list[tuple[int, int | bytes]]:
    """Numbers and values of the fields of a message that holds numbers and bytes only.

    Raises ValueError and IndexError where it holds something else, or is cut.
    """
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value, at = _varint(data, at)
        if key & 7 == 2:
            if at + value > len(data):
                raise ValueError("it is cut")
            found.append((key >> 3, data[at : at + value]))
            at += value
        elif key & 7 == 0:
            found.append((key >> 3, value))
        else:
            raise ValueError("it holds something else")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            if number >> 63:  # below zero, or too long
                raise ValueError("a number is out of bounds")
            return number, at
