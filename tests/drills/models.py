"""Hostile models for the drill `model`: crafted by name, and mutated from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def crafted(model: bytes, bait: Path) -> dict[str, tuple[bytes, str]]:
    """Models by name, each with the outcomes that are right for it."""
    made: dict[str, tuple[bytes, str]] = {}

    def add(name: str, change: Callable[[Any], None], expected: str = "refused") -> None:
        proto = onnx.load_model_from_string(model)
        change(proto)
        made[name] = (proto.SerializeToString(), expected)

    for name, change in (*_files(bait), *_structures(), *_shapes()):
        add(name, change)
    for name, change in _bombs():
        add(name, change, "refused failed died loaded")
    for name, data in _raw(model):
        made[name] = (data, "refused")
    return made


def _files(bait: Path) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """References to files, from every place that can hold a tensor."""
    places = {
        "relative": "secret.bin",
        "dotted": "./secret.bin",
        "climbing": f"../{bait.name}/secret.bin",
        "absolute": str(bait / "secret.bin"),
        "pipe": "pipe",
        "url": f"file://{bait}/secret.bin",
    }
    for name, location in places.items():
        for where in ("initializer", "attribute", "list", "branch"):

            def change(proto: Any, location: str = location, where: str = where) -> None:
                tensor = _taken(proto)
                tensor.data_location = TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value=location)
                _put(proto, tensor, where)

            yield f"file-{name}-{where}", change

    def silent(proto: Any) -> None:
        tensor = _taken(proto)
        tensor.external_data.add(key="location", value="secret.bin")  # location stays DEFAULT
        _put(proto, tensor, "initializer")

    yield "file-undeclared", silent


def _taken(proto: Any) -> Any:
    """Take a tensor of numbers out of the graph that needs it, without the numbers."""
    tensor = onnx.TensorProto()
    found = next(one for one in proto.graph.initializer if one.data_type == TensorProto.FLOAT)
    tensor.CopyFrom(found)
    proto.graph.initializer.remove(found)
    tensor.ClearField("raw_data")
    return tensor


def _put(proto: Any, tensor: Any, where: str) -> None:
    """Put it back where it is used, in one of the places that can hold it."""
    if where == "initializer":
        proto.graph.initializer.append(tensor)
    elif where == "attribute":
        proto.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    elif where == "list":
        node = onnx.NodeProto(op_type="Constant", output=[tensor.name])
        node.attribute.add(name="value", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)
        proto.graph.node.insert(0, node)
    else:
        inner = onnx.GraphProto(name="inner")
        inner.initializer.append(tensor)
        inner.output.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, None))
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        node = onnx.NodeProto(op_type="If", input=["yes"], output=[tensor.name])
        for branch in ("then_branch", "else_branch"):
            node.attribute.append(helper.make_attribute(branch, inner))
        proto.graph.node.insert(0, node)


def _structures() -> Iterator[tuple[str, Callable[[Any], None]]]:
    for kind in ("Loop", "Scan", "RandomNormal", "Multinomial", "ImageDecoder", "SequenceMap"):

        def operator(proto: Any, kind: str = kind) -> None:
            proto.graph.node[0].op_type = kind

        yield f"operator-{kind}", operator
    for domain in ("com.microsoft", "ai.onnx.training", "ai.onnx.preview", "", "local"):

        def foreign(proto: Any, domain: str = domain) -> None:
            node = proto.graph.node[0]
            node.domain, node.op_type = domain, "CustomThing"

        yield f"domain-{domain or 'standard'}", foreign

    def function(proto: Any) -> None:
        proto.functions.add(name="f", domain="local").node.add(op_type="f", domain="local")

    def training(proto: Any) -> None:
        proto.training_info.add()

    def sparse(proto: Any) -> None:
        proto.graph.sparse_initializer.add()

    def sparse_attribute(proto: Any) -> None:
        proto.graph.node[0].attribute.add(name="s").sparse_tensor.SetInParent()

    def deep(proto: Any) -> None:
        graph = proto.graph
        for _ in range(50):
            node = graph.node.add(op_type="If", output=["c"])
            graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g

    def many(proto: Any) -> None:
        for number in range(11_000):
            proto.graph.node.add(op_type="Identity", input=["query_weight"], output=[f"i{number}"])

    yield from {
        "function": function,
        "training": training,
        "sparse": sparse,
        "sparse-attribute": sparse_attribute,
        "deep": deep,
        "many-nodes": many,
    }.items()


def _shapes() -> Iterator[tuple[str, Callable[[Any], None]]]:
    for name, dims in {
        "vast": [1 << 40],
        "product": [1 << 20, 1 << 20],
        "negative": [-1],
        "rank": [1] * 64,
    }.items():

        def declared(proto: Any, dims: list[int] = dims) -> None:
            proto.graph.initializer.add(name="w", dims=dims, data_type=TensorProto.FLOAT)

        yield f"tensor-{name}", declared

    def shape(proto: Any) -> None:
        info = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1 << 40])
        proto.graph.value_info.append(info)

    yield "shape-vast", shape


def _bombs() -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Well-formed models that ask for far too much when they are folded or run."""

    def sized(kind: str) -> Callable[[Any], None]:
        def change(proto: Any) -> None:
            graph = proto.graph
            vast = numpy_helper.from_array(np.array([1 << 36], np.int64), "vast")
            one = numpy_helper.from_array(np.ones(1, np.float32), "one-float")
            ends = [numpy_helper.from_array(np.array(n, np.int64), f"end{n}") for n in (0, 1)]
            limit = numpy_helper.from_array(np.array(1 << 36, np.int64), "limit")
            graph.initializer.extend([vast, one, *ends, limit])
            inputs = {
                "ConstantOfShape": ["vast"],
                "Expand": ["one-float", "vast"],
                "Tile": ["one-float", "vast"],
                "Range": ["end0", "limit", "end1"],
            }[kind]
            graph.node.add(op_type=kind, input=inputs, output=["bomb"])
            # Used, so that it is not left out: the values become their sum with its size.
            graph.node.add(op_type="Shape", input=["bomb"], output=["bomb-shape"])
            graph.node.add(op_type="ReduceMax", input=["bomb"], output=["bomb-max"])
            graph.output.append(helper.make_tensor_value_info("bomb-max", TensorProto.FLOAT, None))

        return change

    for kind in ("ConstantOfShape", "Expand", "Tile", "Range"):
        yield f"bomb-{kind}", sized(kind)

    def doubling(proto: Any) -> None:
        proto.graph.node.add(op_type="Identity", input=["query_weight"], output=["d0"])
        for number in range(40):
            proto.graph.node.add(
                op_type="Concat", input=[f"d{number}"] * 2, output=[f"d{number + 1}"]
            ).attribute.append(helper.make_attribute("axis", 0))
        proto.graph.node.add(op_type="ReduceSum", input=["d40"], output=["sum"])
        value = next(node for node in proto.graph.node if "value" in node.output)
        value.output[0] = "value-before"
        proto.graph.node.add(op_type="Add", input=["value-before", "sum"], output=["value"])

    yield "bomb-doubling", doubling


def _raw(model: bytes) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "zeros", bytes(1000)
    yield "text", b"not a model" * 50
    yield "cut", model[: len(model) // 2]
    yield "two-graphs", model + model
    yield "oversized", model + b"\x32\x80\x80\x80\x40" + bytes(80 << 20)
    yield "long-key", model + b"\xea\x80\x80\x80\x80\x01\x00"
    yield "group", model + b"\x0b\x0c"


# Mutations --------------------------------------------------------------------------------------


def mutate(rng: random.Random, model: bytes) -> tuple[str, bytes]:
    """A model that was changed somewhere; its name says how."""
    how = rng.choice([_bits, _splice, _cut, _double, _numbers, _operators, _attributes, _wires])
    name, data = how.__name__.strip("_"), bytearray(model)
    try:
        return f"{name}-mutated", how(rng, data)
    except ValueError:  # protobuf would not have it: then it is changed below protobuf
        return "bits-mutated", _bits(rng, data)


def _bits(rng: random.Random, data: bytearray) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        # Half of them where the structure is: most of a model is plain numbers.
        at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(600, len(data)))
        data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def _splice(rng: random.Random, data: bytearray) -> bytes:
    begin = rng.randrange(len(data))
    piece = bytes(data[begin : begin + rng.randrange(1, 200)])
    at = rng.randrange(len(data))
    return bytes(data[:at]) + piece + bytes(data[at + rng.choice([0, len(piece)]) :])


def _cut(rng: random.Random, data: bytearray) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def _double(rng: random.Random, data: bytearray) -> bytes:
    at = rng.randrange(len(data))
    return bytes(data) + bytes(data[at:])


def _numbers(rng: random.Random, data: bytearray) -> bytes:
    proto = onnx.load_model_from_string(bytes(data))
    tensor = rng.choice(proto.graph.initializer)
    if rng.random() < 0.5 and tensor.dims:
        at = rng.randrange(len(tensor.dims))
        tensor.dims[at] = rng.choice([0, 1, 2**16, 2**31, 2**62, -1])
    else:
        tensor.data_type = rng.randrange(0, 24)
    return bytes(proto.SerializeToString())


def _operators(rng: random.Random, data: bytearray) -> bytes:
    proto = onnx.load_model_from_string(bytes(data))
    kinds = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    for _ in range(rng.choice([1, 2])):
        rng.choice(proto.graph.node).op_type = rng.choice(kinds)
    return bytes(proto.SerializeToString())


def _attributes(rng: random.Random, data: bytearray) -> bytes:
    proto = onnx.load_model_from_string(bytes(data))
    node = rng.choice(proto.graph.node)
    value: Any = rng.choice([0, -1, 2**62, 1e30, "x", [2**40], [0.0] * 3, proto.graph])
    name = rng.choice(["axis", "axes", "shape", "value", "to", "keepdims", "body"])
    node.attribute.append(helper.make_attribute(name, value))
    return bytes(proto.SerializeToString())


def _wires(rng: random.Random, data: bytearray) -> bytes:
    proto = onnx.load_model_from_string(bytes(data))
    names = [name for node in proto.graph.node for name in (*node.input, *node.output)]
    node = rng.choice(proto.graph.node)
    side = node.input if node.input and rng.random() < 0.7 else node.output
    side[rng.randrange(len(side))] = rng.choice(names)
    return bytes(proto.SerializeToString())
