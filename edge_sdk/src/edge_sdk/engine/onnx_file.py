"""What a model file refers to, read without the ONNX library.

A runtime that is given a model as bytes still follows references in it: a tensor may say that its
numbers lie in a file, and the runtime then reads that file, relative to wherever the process runs.
Nothing that is signed by us does so, but a device proves it before it hands bytes to a runtime.
What a model of ours never needs is refused with it: operators that are not of the standard, nested
graphs (loops that need not end), functions, training graphs.

The reader walks the few message types of the ONNX format that can hold any of these, by field
number; everything else is skipped unread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_sdk.errors import FormatError

_STANDARD_DOMAINS: Final = (b"", b"ai.onnx")
_MAX_NODES: Final = 10_000

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_self_contained(model: bytes) -> None:
    """Refuse a model that reaches outside itself or outside the standard operators.

    Raises FormatError with the reason, also for bytes that are not a model at all.
    """
    nodes = 0
    graphs = 0
    for field, value in _fields(memoryview(model)):
        if field == 7:
            graphs += 1
            nodes += _check_graph(_bytes(value))
        elif field == 8:
            _check_domain(_bytes(value), 1)
        elif field == 20:
            raise FormatError("the model holds a training graph")
        elif field == 25:
            raise FormatError("the model holds functions")
    if graphs != 1:
        raise FormatError("the bytes hold no model graph")
    if nodes > _MAX_NODES:
        raise FormatError(f"the model has {nodes} nodes; at most {_MAX_NODES}")


def _check_graph(graph: memoryview) -> int:
    """Check one graph; returns how many nodes it has."""
    nodes = 0
    for field, value in _fields(graph):
        if field == 1:
            nodes += 1
            _check_node(_bytes(value))
        elif field == 5:
            _check_tensor(_bytes(value))
        elif field == 15:
            raise FormatError("the model holds sparse tensors")
    return nodes


def _check_node(node: memoryview) -> None:
    _check_domain(node, 7)
    for field, value in _fields(node):
        if field != 5:
            continue
        for inner, content in _fields(_bytes(value)):
            if inner in (5, 10):
                _check_tensor(_bytes(content))
            elif inner in (6, 11):
                raise FormatError("the model holds a nested graph")
            elif inner in (22, 23):
                raise FormatError("the model holds sparse tensors")


def _check_tensor(tensor: memoryview) -> None:
    for field, value in _fields(tensor):
        if field == 13 or (field == 14 and value != 0):
            raise FormatError("the model keeps numbers in another file")


def _check_domain(message: memoryview, number: int) -> None:
    for field, value in _fields(message):
        if field == number and bytes(_bytes(value)) not in _STANDARD_DOMAINS:
            name = bytes(_bytes(value)).decode("utf-8", "replace")
            raise FormatError(f"the model needs operators of {name!r}")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise FormatError("the bytes are not a model")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: number, and the number or bytes that it holds."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise FormatError("the bytes are not a model")
        if at + size > end:
            raise FormatError("the model is cut")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise FormatError("the model is cut")
