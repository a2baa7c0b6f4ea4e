"""Models as ONNX files of the contract "genome-edge/offer/1", and the proof that one is right.

Inputs   query_index int64[n], query_weight float32[n]      genome and context; n may be 0
         offer_index int64[m,w], offer_weight float32[m,w]  offers' markers, padded with weight 0
         offer_vector float32[k,d]                          what `vector` gave for offers
Outputs  vector float32[m,d]                                from offer_index, offer_weight
         value  float32[k]                                  probability of success

A caller asks for one output and feeds empty arrays to what the other one needs. All
weights are inside the file. `metadata_props` says what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genome_server.errors import Refused
from genome_server.learning.towers import Floats, Indices, Shape, Towers

CONTRACT = "genome-edge/offer/1"
OPSET = 17
# The intermediate representation that came with opset 17 … 20; newer ones are
# refused by the runtimes that devices have.
IR_VERSION = 9
# Largest difference between the trainer's probability and the file's.
TOLERANCE = 1e-5


class ExportError(Refused):
    """The file does not do what the trainer does, or breaks the contract."""


@dataclass(frozen=True)
class ModelFacts:
    """What `metadata_props` says about a model."""

    vocabulary_lineage: bytes
    vocabulary_size: int
    # Time of the newest thing learned from, milliseconds since the Unix epoch; 0: nothing.
    # Not the time of training: the same log and seed then give the same file.
    trained_ms: int = 0
    auc_by_person: float | None = None
    # How many examples it was trained on; 0: not said. How far its scores are trusted follows.
    examples: int = 0


@dataclass(frozen=True)
class Probe:
    """One input to compare the trainer and the file on: a query and m offers of w markers."""

    query_index: Indices  # (n,)
    query_weight: Floats  # (n,)
    offer_index: Indices  # (m, w)
    offer_weight: Floats  # (m, w)


@dataclass(frozen=True)
class Parity:
    """What the proof found."""

    probes: int
    max_difference: float


def untrained_model(facts: ModelFacts) -> bytes:
    """Return a model that says 0.5 for every offer: the prior before anything was learned."""
    nodes = [
        _node("Shape", ["offer_index"], "offers_shape", start=0, end=1),
        _node("Concat", ["offers_shape", "dimension"], "vector_shape", axis=0),
        _node("ConstantOfShape", ["vector_shape"], "vector", value=_scalar(0.0)),
        _node("Shape", ["offer_vector"], "value_shape", start=0, end=1),
        _node("ConstantOfShape", ["value_shape"], "value", value=_scalar(0.5)),
    ]
    return _model(nodes, {"dimension": np.array([1], np.int64)}, facts, dimension=1)


def tower_model(towers: Towers, facts: ModelFacts) -> bytes:
    """Return `towers` as an ONNX file.

    The mean over the members, their biases and the offers' are folded into one inner
    product: an offer's vector holds, for each member, embedding / members, 1 / members
    and bias / members; the query's holds q, its bias and 1.

    Raises ExportError where `facts` and `towers` disagree on the vocabulary.
    """
    if facts.vocabulary_size != towers.vocabulary_size:
        raise ExportError(
            f"the model was trained on {towers.vocabulary_size} markers, "
            f"but is said to know {facts.vocabulary_size}"
        )
    shape = towers.shape
    e, d = shape.members, shape.dimension
    rows = len(towers.offer_table)
    offer_table = np.zeros((rows, e, d + 2), np.float32)
    offer_table[:, :, :d] = towers.offer_table[:, :, :d] / e
    offer_table[:, :, d + 1] = towers.offer_table[:, :, d] / e
    offer_constant = np.zeros((e, d + 2), np.float32)
    offer_constant[:, d] = 1 / e
    output_weight = np.zeros((e, shape.hidden, d + 2), np.float32)
    output_weight[:, :, : d + 1] = towers.output_weight
    output_bias = np.zeros((e, 1, d + 2), np.float32)
    output_bias[:, 0, : d + 1] = towers.output_bias
    output_bias[:, 0, d + 1] = 1

    nodes = [
        _node("Gather", ["query_row", "query_index"], "query_rows", axis=0),
        _node("Gather", ["query_table", "query_rows"], "query_embeddings", axis=0),
        _node("Unsqueeze", ["query_weight", "axis_0"], "query_line"),
        _node("MatMul", ["query_line", "query_embeddings"], "query_sum"),
        _node("Add", ["query_sum", "query_bias"], "query_shifted"),
        _node("Relu", ["query_shifted"], "query_flat"),
        _node("Reshape", ["query_flat", "members_shape"], "query_wide"),
        _node("MatMul", ["query_wide", "hidden_weight"], "hidden_product"),
        _node("Add", ["hidden_product", "hidden_bias"], "hidden_shifted"),
        _node("Relu", ["hidden_shifted"], "hidden"),
        _node("MatMul", ["hidden", "output_weight"], "output_product"),
        _node("Add", ["output_product", "output_bias"], "output"),
        _node("Reshape", ["output", "flat_shape"], "query_vector"),
        # One column, not a vector: onnxruntime fails to multiply an empty matrix by a vector.
        _node("MatMul", ["offer_vector", "query_vector"], "logit"),
        _node("Sigmoid", ["logit"], "probability"),
        _node("Squeeze", ["probability", "axis_1"], "value"),
        _node("Gather", ["offer_row", "offer_index"], "offer_rows", axis=0),
        _node("Gather", ["offer_table", "offer_rows"], "offer_embeddings", axis=0),
        _node("Unsqueeze", ["offer_weight", "axis_2"], "offer_column"),
        _node("Mul", ["offer_embeddings", "offer_column"], "offer_weighted"),
        _node("ReduceSum", ["offer_weighted", "axis_1"], "offer_sum", keepdims=0),
        _node("Add", ["offer_sum", "offer_constant"], "vector"),
    ]
    weights: dict[str, NDArray[Any]] = {
        "query_row": towers.query_row.astype(np.int64),
        "query_table": towers.query_table.reshape(len(towers.query_table), -1),
        "query_bias": towers.query_bias.reshape(-1),
        "hidden_weight": towers.hidden_weight,
        "hidden_bias": towers.hidden_bias[:, None, :],
        "output_weight": output_weight,
        "output_bias": output_bias,
        "offer_row": towers.offer_row.astype(np.int64),
        "offer_table": offer_table.reshape(rows, -1),
        "offer_constant": offer_constant.reshape(-1),
        "members_shape": np.array([e, 1, shape.width], np.int64),
        "flat_shape": np.array([shape.vector, 1], np.int64),
        "axis_0": np.array([0], np.int64),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
    }
    return _model(nodes, weights, facts, dimension=shape.vector)


def towers_of(model: bytes) -> Towers:
    """Return the towers that `tower_model` wrote into a file.

    Raises ExportError where the file is of another architecture.
    """
    import onnx
    from onnx import numpy_helper

    facts = model_facts(model)
    graph = onnx.load_model_from_string(model).graph
    found = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    try:
        e, width, hidden = found["hidden_weight"].shape
        d = found["output_weight"].shape[2] - 2
        offers = found["offer_table"].reshape(-1, e, d + 2) * np.float32(e)
        towers = Towers(
            shape=Shape(e, width, hidden, d),
            query_row=found["query_row"],
            query_table=found["query_table"].reshape(-1, e, width),
            query_bias=found["query_bias"].reshape(e, width),
            hidden_weight=found["hidden_weight"],
            hidden_bias=found["hidden_bias"][:, 0],
            output_weight=found["output_weight"][:, :, : d + 1],
            output_bias=found["output_bias"][:, 0, : d + 1],
            offer_row=found["offer_row"],
            offer_table=np.concatenate([offers[:, :, :d], offers[:, :, d + 1 :]], axis=2),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ExportError(
            "this model is not of the default architecture: nothing can go on from it"
        ) from error
    if facts.get("vocabulary_size") != str(towers.vocabulary_size):
        raise ExportError("the model does not know as many markers as it says")
    return towers


def prove_parity(
    model: bytes, trainer: Callable[[Probe], Floats], probes: Iterable[Probe]
) -> Parity:
    """Compare `trainer`'s probabilities with the file's, through onnxruntime.

    Raises ExportError on the first probe where they differ by more than TOLERANCE.
    """
    session = open_session(model)
    worst, count = 0.0, 0
    for probe in probes:
        expected = trainer(probe)
        found = run_model(session, probe)
        if found.shape != expected.shape or not np.isfinite(found).all():
            raise ExportError(f"the file gives {found.shape} values that are not all numbers")
        difference = float(np.abs(found - expected).max(initial=0.0))
        if difference > TOLERANCE:
            raise ExportError(
                f"the exported file differs from the trainer by {difference:.2e} "
                f"(at most {TOLERANCE:.0e} is allowed)"
            )
        worst, count = max(worst, difference), count + 1
    return Parity(count, worst)


def open_session(model: bytes) -> Any:
    """Return an onnxruntime session over `model` that uses one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_model(session: Any, probe: Probe) -> Floats:
    """Return the value of each offer of `probe`, float32 (m,), in the two steps of a device."""
    (vector,) = session.run(
        ["vector"],
        {
            "query_index": np.zeros(0, np.int64),
            "query_weight": np.zeros(0, np.float32),
            "offer_index": probe.offer_index,
            "offer_weight": probe.offer_weight,
            "offer_vector": np.zeros((0, _dimension(session)), np.float32),
        },
    )
    (value,) = session.run(
        ["value"],
        {
            "query_index": probe.query_index,
            "query_weight": probe.query_weight,
            "offer_index": np.zeros((0, 0), np.int64),
            "offer_weight": np.zeros((0, 0), np.float32),
            "offer_vector": vector,
        },
    )
    return np.asarray(value, np.float32)


def model_facts(model: bytes) -> dict[str, str]:
    """Return `metadata_props` of a model.

    Raises ExportError when the bytes are not an ONNX model of the contract.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(model)
    except DecodeError as error:
        raise ExportError(f"this is not an ONNX file: {error}") from error
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    if facts.get("contract") != CONTRACT:
        raise ExportError(
            f"the model keeps the contract {facts.get('contract')!r}, not {CONTRACT!r}"
        )
    return facts


def learned_until(content: bytes) -> int | None:
    """The time of the newest thing that a model learned from; None where it does not say."""
    said = model_facts(content).get("trained_ms", "")
    return int(said) if said.isdecimal() else None


def examples_of(model: bytes) -> int:
    """Return how many examples a model says it was trained on; 0 where it does not say.

    What is no model of the contract says nothing; a release with it is refused for that.
    """
    try:
        said = model_facts(model).get("examples", "")
    except ExportError:
        return 0
    return int(said) if said.isdecimal() else 0


def _dimension(session: Any) -> int:
    return int(session.get_modelmeta().custom_metadata_map["dimension"])


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, list(inputs), [output], name=output, **attributes)


def _scalar(value: float) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([value], np.float32))


def _model(
    nodes: Sequence[Any],
    weights: Mapping[str, NDArray[Any]],
    facts: ModelFacts,
    *,
    dimension: int,
) -> bytes:
    """Assemble and check the file. `weights` become initializers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def tensor(name: str, kind: int, *size: str | int) -> Any:
        return helper.make_tensor_value_info(name, kind, list(size))

    integer, real = TensorProto.INT64, TensorProto.FLOAT
    graph = helper.make_graph(
        list(nodes),
        "genome-edge-offer",
        [
            tensor("query_index", integer, "n"),
            tensor("query_weight", real, "n"),
            tensor("offer_index", integer, "m", "w"),
            tensor("offer_weight", real, "m", "w"),
            tensor("offer_vector", real, "k", dimension),
        ],
        [tensor("vector", real, "m", dimension), tensor("value", real, "k")],
        [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in weights.items()
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="genome-edge",
    )
    helper.set_model_props(
        model,
        {
            "contract": CONTRACT,
            "vocabulary_lineage": facts.vocabulary_lineage.hex(),
            "vocabulary_size": str(facts.vocabulary_size),
            "dimension": str(dimension),
            "trained_ms": str(facts.trained_ms),
            **(
                {}
                if facts.auc_by_person is None
                else {"auc_by_person": f"{facts.auc_by_person:.4f}"}
            ),
            **({"examples": str(facts.examples)} if facts.examples else {}),
        },
    )
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the exported file is not valid ONNX: {error}") from error
    return bytes(model.SerializeToString(deterministic=True))
