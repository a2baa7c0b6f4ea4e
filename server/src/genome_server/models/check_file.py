"""What is wrong with the bytes of a model file, before anything runs it.

The rules are the devices' own: `edge_sdk.engine.onnx_file` says what a file may hold, and gives the
first reason against it. Where it gives one, the file is taken apart and each piece is asked about
alone, so that all reasons are told and none of them is a second opinion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from edge_sdk.engine.onnx_file import check_self_contained
from edge_sdk.errors import FormatError
from genome_server.models.findings import BAD, WARNING, Budgets, Finding

#: The newest that the oldest runtime reads that devices may have (onnxruntime 1.27).
NEWEST_IR: Final = 13
NEWEST_OPSETS: Final = {"": 26, "ai.onnx": 26, "ai.onnx.ml": 5}
#: The contract's oldest.
OLDEST_OPSET: Final = 17

# Part of what the devices' check says → name and advice. The first that fits counts.
_SAID: Final = (
    ("model is cut", "cut", "write the file again; compare its size with the exporter's"),
    ("are not a model", "not-onnx", "give the .onnx file that the exporter wrote"),
    ("no model graph", "not-onnx", "give the .onnx file that the exporter wrote"),
    ("in another file", "external-data",
     "save all numbers inside: onnx.save(model, FILE, save_as_external_data=False)"),
    ("uses the operator", "operator",
     "write it with the operators that docs/models.md lists; there is no plug-in on devices"),
    ("needs operators of", "operator-domain",
     "export for ONNX Runtime without custom or vendor operators"),
    ("holds functions", "functions", "export with functions inlined (onnx.inliner)"),
    ("training graph", "training-graph", "export for inference only"),
    ("sparse", "sparse", "write tensors densely"),
    ("nested", "nested", "take the branches of If apart, or use Where"),
    ("nodes", "nodes", "write the model with fewer and larger operations"),
    ("declare", "shape", "declare the shapes that the numbers have"),
    ("twice", "ambiguous", "write each name once"),
    (" bytes; at most", "too-large-for-devices", "make the model smaller"),
)  # fmt: skip


def parse(content: bytes) -> Any | None:
    """The file as onnx reads it (ModelProto); None where it reads none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_model_from_string(content)
    except (DecodeError, ValueError):
        return None


def file_findings(content: bytes, proto: Any | None, budgets: Budgets) -> Iterator[Finding]:
    """Yield what is wrong with the file as such. `proto` is what `parse` gave."""
    if not content:
        yield Finding("not-onnx", BAD, "the file is empty", "give the file that was exported")
        return
    yield from _refused(content, proto)
    if len(content) > budgets.max_bytes:
        yield Finding(
            "size",
            BAD,
            f"the file has {len(content):,} bytes; the budget is {budgets.max_bytes:,}",
            "know fewer markers, or store numbers smaller; every device fetches and keeps it "
            "(--max-bytes sets the budget)",
        )
    if proto is not None:
        yield from _versions(proto)


def _refused(content: bytes, proto: Any | None) -> Iterator[Finding]:
    """What the devices' own check has against the file, and against each piece of it."""
    whole = _reason(content)
    if whole is None:
        return
    reasons = [] if proto is None else [_reason(piece) for piece in _pieces(proto)]
    # Each once, in the order of the file; the whole's own first where no piece has it.
    told = dict.fromkeys(reason for reason in [*reasons, whole] if reason)
    for reason in told:
        fits = (one for one in _SAID if one[0] in reason)
        _, name, advice = next(fits, ("", "file", "see docs/models.md"))
        yield Finding(name, BAD, reason, advice)


def _reason(content: bytes) -> str | None:
    try:
        check_self_contained(content)
    except FormatError as error:
        return str(error)
    return None


def _pieces(proto: Any) -> Iterator[bytes]:
    """Every piece of a model as a model of its own."""
    import onnx

    def alone(**graph: Any) -> bytes:
        return bytes(onnx.ModelProto(graph=onnx.GraphProto(**graph)).SerializeToString())

    for opset in proto.opset_import:
        bare = onnx.ModelProto(opset_import=[opset], graph=onnx.GraphProto())
        yield bytes(bare.SerializeToString())
    for graph in _graphs(proto.graph):
        for node in graph.node:
            yield alone(node=[node])
        for tensor in graph.initializer:
            yield alone(initializer=[tensor])
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield alone(input=[value])
        for sparse in graph.sparse_initializer:
            yield alone(sparse_initializer=[sparse])
    for function in proto.functions:
        only = onnx.ModelProto(functions=[function], graph=onnx.GraphProto())
        yield bytes(only.SerializeToString())
    for training in proto.training_info:
        only = onnx.ModelProto(training_info=[training], graph=onnx.GraphProto())
        yield bytes(only.SerializeToString())


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + [*attribute.graphs]:
                yield from _graphs(inner)


def _versions(proto: Any) -> Iterator[Finding]:
    if proto.ir_version > NEWEST_IR:
        yield Finding(
            "ir-version",
            BAD,
            f"it is written in version {proto.ir_version} of the format; devices read up to "
            f"{NEWEST_IR}",
            "set model.ir_version = 9, or export with an older onnx",
        )
    for opset in proto.opset_import:
        newest = NEWEST_OPSETS.get(opset.domain)
        shown = opset.domain or "ai.onnx"
        if newest is not None and opset.version > newest:
            yield Finding(
                "opset",
                BAD,
                f"it needs opset {opset.version} of {shown}; devices read up to {newest}",
                "export with opset 17, or another that devices read",
            )
        elif opset.domain in ("", "ai.onnx") and opset.version < OLDEST_OPSET:
            yield Finding(
                "opset-old",
                WARNING,
                f"it needs opset {opset.version} of {shown}; the contract says {OLDEST_OPSET} or "
                "later",
                "export with opset 17: that the newest runtimes read older ones is not promised",
            )
