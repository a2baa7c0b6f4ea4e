"""The default architecture of a model, evaluated without a runtime.

What trainers export by default is always the same small graph with other numbers in it. Such a
file is recognised by its graph, which must be that one to the last name and attribute; its numbers
are taken out and evaluated here. Every other graph is for the general runtime, and so is one of
this architecture with sizes for which that is faster. What is computed, with relu(x) = max(x, 0):

    x     = sum of weight · query_table[query_row[index]] + query_bias     as (members, width)
    h     = relu(relu(x) · hidden_weight + hidden_bias)                    (members, 1, hidden)
    q     = h · output_weight + output_bias                                flat: (dimension,)
    value = sigmoid(offer_vector · q) = (tanh(offer_vector · q / 2) + 1) / 2
    vector = sum of weight · offer_table[offer_row[index]] + offer_constant

Both ways agree to 1e-5; `Release` proves that for each release before it relies on it, and goes on
with the runtime where it is not so. docs/adr/0013 has the measurements.

Products are made in pieces that one thread multiplies; see `stacks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import ref

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import CONTRACT, Floats, Indices
from edge_sdk.engine.stacks import ALONE, alone, stack
from edge_sdk.errors import FormatError
from edge_sdk.lazy import later
from edge_sdk.slices import rest

if TYPE_CHECKING:
    from edge_sdk.engine import onnx_file
    from edge_sdk.engine.onnx_file import Node, Tensor
else:
    onnx_file = later("edge_sdk.engine.onnx_file")

# Columns of the sum of a query that are added up at once.
_STRIP: Final = 64
_MOST_MARKERS: Final = ALONE // _STRIP - 1
_BATCH: Final = 2048
# The operators mean the same from the first of these sets to the last.
_OPSETS: Final = range(13, 22)
# As arrays: a number of its own has to be made one each time, which takes as long as the work.
_HALF: Final = np.array(0.5, np.float32)
_ONE: Final = np.array(1.0, np.float32)
_ZERO: Final = np.array(0.0, np.float32)


_FLOAT, _INT64 = 1, 7
_INPUTS: Final = (
    ("query_index", _INT64, 1),
    ("query_weight", _FLOAT, 1),
    ("offer_index", _INT64, 2),
    ("offer_weight", _FLOAT, 2),
    ("offer_vector", _FLOAT, 2),
)
_OUTPUTS: Final = (("vector", _FLOAT, 2), ("value", _FLOAT, 1))
_TABLES: Final = ("query_row", "query_table", "query_bias", "hidden_weight", "hidden_bias",
    "output_weight", "output_bias", "offer_row", "offer_table", "offer_constant",
)  # fmt: skip


class _Towers(NamedTuple):
    """The numbers of a model: rows int64[V], everything else float32."""

    query_row: npt.NDArray[np.int64]
    query_table: Floats
    query_bias: Floats
    hidden_weight: Floats
    hidden_bias: Floats
    output_weight: Floats
    output_bias: Floats
    offer_row: npt.NDArray[np.int64]
    offer_table: Floats
    offer_constant: Floats


class TowerScorer:
    """A model of the default architecture. Thread-safe; made by `read_towers`."""

    #: What `DecisionRecord.scored_by` says of it.
    runtime = f"numpy {np.__version__}"

    def __init__(self, towers: _Towers) -> None:
        self.vocabulary_size = len(towers.query_row)
        self.dimension = len(towers.offer_constant)
        # One entry more, for every marker that the model does not know.
        self._query_row = np.append(towers.query_row, 0)
        self._query_table = np.vstack((towers.query_table, np.zeros_like(towers.query_table[:1])))
        self._query_row[-1] = len(towers.query_table)
        members, width, _ = towers.hidden_weight.shape
        self._query_bias = towers.query_bias.reshape(-1, _STRIP)
        self._wide = (members, 1, width)
        self._hidden_weight, self._hidden_bias = towers.hidden_weight, towers.hidden_bias
        # Halved, so that what comes out is what tanh takes: exact, it is a power of two.
        self._output_weight = towers.output_weight * _HALF
        self._output_bias = towers.output_bias * _HALF
        self._offers = towers
        self._sums: dict[int, tuple[ref[Floats], Floats]] = {}
        self._stacks: dict[int, tuple[ref[Floats], Floats]] = {}
        self._piece = alone(self.dimension)

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        """Each offer's DNA, (marker index, weight), as one row: float32[m, d]."""
        towers = self._offers
        out = np.zeros((len(dna), self.dimension), np.float32)
        for begin in range(0, len(dna), _BATCH):
            rest()
            part = dna[begin : begin + _BATCH]
            flat = [
                (row, marker, weight)
                for row, markers in enumerate(part, start=begin)
                for marker, weight in markers
                if marker < self.vocabulary_size
            ]
            if flat:
                rows, markers, weights = zip(*flat, strict=True)
                table = towers.offer_table[towers.offer_row[np.array(markers)]]
                table *= np.array(weights, np.float32)[:, None]
                at = np.array(rows)
                starts = np.flatnonzero(np.diff(at, prepend=-1))
                out[at[starts]] = np.add.reduceat(table, starts)
        out += towers.offer_constant
        return out

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        """Probability of success, float32[k], for a query of n markers and vectors[k, d]."""
        wide = self._query_bias + self._sum(indices, weights)
        return self._doubles(wide, vectors) * _HALF

    def doubles_of(self, parts: Sequence[tuple[Indices, Floats]], vectors: Floats) -> Floats:
        """Twice that (exactly) for a query of one or more parts, in arrays that nobody changes.

        What a part adds up to is remembered for as long as its weights are in use: those of a
        genome are for an hour, those of a moment come again and again.
        """
        wide: Floats | None = None
        for indices, weights in parts:
            key = id(weights) if wide is None else ~id(weights)
            known = self._sums.get(key)
            if known is None or known[0]() is not weights:
                known = self._remember(key, indices, weights)
            wide = known[1] if wide is None else wide + known[1]
        return self._doubles(self._query_bias if wide is None else wide, vectors)

    def _remember(self, key: int, indices: Indices, weights: Floats) -> tuple[ref[Floats], Floats]:
        sums, found = self._sums, self._sum(indices, weights)
        if key >= 0:  # the first part brings the bias
            found += self._query_bias
        # With the weights goes what they add up to: a visit that is wiped leaves nothing here.
        known = sums[key] = (ref(weights, lambda _: sums.pop(key, None)), found)
        return known

    def _doubles(self, wide: Floats, vectors: Floats) -> Floats:
        first = np.maximum(wide, _ZERO)
        hidden = np.matmul(first.reshape(self._wide), self._hidden_weight)
        hidden += self._hidden_bias
        np.maximum(hidden, _ZERO, out=hidden)
        query = np.matmul(hidden, self._output_weight)
        query += self._output_bias
        query = query.reshape(self.dimension)  # halved, like the weights
        number = len(vectors)
        values: Floats
        if number <= self._piece:
            values = np.matmul(vectors, query)
        else:
            known = self._stacks.get(id(vectors))
            if known is None or known[0]() is not vectors:
                known = self._remember_stack(vectors)
            values = np.matmul(known[1], query).ravel()
        np.tanh(values, out=values)
        values += _ONE
        return values if len(values) == number else values[:number]

    def _remember_stack(self, vectors: Floats) -> tuple[ref[Floats], Floats]:
        key, stacks = id(vectors), self._stacks
        known = stacks[key] = (ref(vectors, lambda _: stacks.pop(key, None)), stack(vectors))
        return known

    def _sum(self, indices: Indices, weights: Floats) -> Floats:
        """What the markers of a query add up to, float32[members * width] in strips."""
        rows = self._query_row.take(indices, mode="clip")
        found = self._query_table.take(rows, axis=0, mode="clip")
        strips = found.reshape(len(rows), len(self._query_bias), _STRIP).transpose(1, 0, 2)
        if len(rows) <= _MOST_MARKERS:
            few: Floats = np.matmul(weights, strips)
            return few
        wide = np.zeros_like(self._query_bias)
        for at in range(0, len(rows), _MOST_MARKERS):
            end = at + _MOST_MARKERS
            wide += np.matmul(weights[at:end], strips[:, at:end])
        return wide


@lru_cache(maxsize=1)
def _nodes() -> tuple[Node, ...]:
    """The graph of the default architecture."""

    def node(kind: str, inputs: str, output: str, **attributes: int) -> Node:
        return onnx_file.Node(kind, tuple(inputs.split()), (output,), attributes)

    return (
        node("Gather", "query_row query_index", "query_rows", axis=0),
        node("Gather", "query_table query_rows", "query_embeddings", axis=0),
        node("Unsqueeze", "query_weight axis_0", "query_line"),
        node("MatMul", "query_line query_embeddings", "query_sum"),
        node("Add", "query_sum query_bias", "query_shifted"),
        node("Relu", "query_shifted", "query_flat"),
        node("Reshape", "query_flat members_shape", "query_wide"),
        node("MatMul", "query_wide hidden_weight", "hidden_product"),
        node("Add", "hidden_product hidden_bias", "hidden_shifted"),
        node("Relu", "hidden_shifted", "hidden"),
        node("MatMul", "hidden output_weight", "output_product"),
        node("Add", "output_product output_bias", "output"),
        node("Reshape", "output flat_shape", "query_vector"),
        node("MatMul", "offer_vector query_vector", "logit"),
        node("Sigmoid", "logit", "probability"),
        node("Squeeze", "probability axis_1", "value"),
        node("Gather", "offer_row offer_index", "offer_rows", axis=0),
        node("Gather", "offer_table offer_rows", "offer_embeddings", axis=0),
        node("Unsqueeze", "offer_weight axis_2", "offer_column"),
        node("Mul", "offer_embeddings offer_column", "offer_weighted"),
        node("ReduceSum", "offer_weighted axis_1", "offer_sum", keepdims=0),
        node("Add", "offer_sum offer_constant", "vector"),
    )


def read_towers(model: bytes, vocabulary: Vocabulary) -> TowerScorer | None:
    """The scorer of a model of the default architecture; None for every other model, and for one
    that does not fit the vocabulary: the runtime's scorer says what is wrong with it.

    `model` has been looked at by `check_self_contained`.
    """
    try:
        graph = onnx_file.read_graph(model)
    except FormatError:
        return None
    if (
        graph.nodes != _nodes()
        or graph.inputs != _INPUTS
        or graph.outputs != _OUTPUTS
        or graph.opsets.keys() - {"ai.onnx"} != {""}
        or graph.opsets[""] not in _OPSETS
    ):
        return None
    towers = _towers(graph.tensors)
    if towers is None or not _fits(towers, graph.metadata, vocabulary):
        return None
    return TowerScorer(towers)


def _fits(towers: _Towers, facts: Mapping[str, str], vocabulary: Vocabulary) -> bool:
    return (
        facts.get("contract") == CONTRACT
        and facts.get("vocabulary_lineage") == vocabulary.lineage.hex()
        and facts.get("vocabulary_size") == str(len(towers.query_row))
        and facts.get("dimension") == str(len(towers.offer_constant))
        and len(towers.query_row) <= len(vocabulary)
    )


def _towers(tensors: Mapping[str, Tensor]) -> _Towers | None:
    """The numbers, where they have the shapes that belong together; None where not."""
    read = {name: tensor.array() for name, tensor in tensors.items()}
    arrays = {name: array for name, array in read.items() if array is not None}
    if not arrays.keys() >= set(_TABLES):
        return None
    found = [arrays[name] for name in _TABLES]
    towers = _Towers(*found)
    if towers.hidden_weight.ndim != 3 or towers.output_weight.ndim != 3:
        return None
    members, width, hidden = towers.hidden_weight.shape
    each = towers.output_weight.shape[2]
    known, rows = len(towers.query_row), len(towers.query_table)
    offer_rows = len(towers.offer_table)
    dimension = members * each
    shapes = (
        (known,), (rows, members * width), (members * width,), (members, width, hidden),
        (members, 1, hidden), (members, hidden, each), (members, 1, each),
        (known,), (offer_rows, dimension), (dimension,),
    )  # fmt: skip
    constants = {
        "members_shape": [members, 1, width],
        "flat_shape": [dimension, 1],
        **{f"axis_{axis}": [axis] for axis in range(3)},
    }
    if (
        any(array.shape != shape for array, shape in zip(found, shapes, strict=True))
        or any(
            array.dtype != (np.int64 if name.endswith("_row") else np.float32)
            for name, array in zip(_TABLES, found, strict=True)
        )
        or arrays.keys() != {*_TABLES, *constants}
        or any(arrays[name].tolist() != wanted for name, wanted in constants.items())
        or not (known and rows and offer_rows and 0 < dimension < ALONE)
        or max(width * hidden, hidden * each) >= ALONE
        or (members * width) % _STRIP
        or not all(bool(np.isfinite(array).all()) for array in found)
        or not _within(towers.query_row, rows)
        or not _within(towers.offer_row, offer_rows)
    ):
        return None
    return towers


def _within(rows: npt.NDArray[np.int64], number: int) -> bool:
    return bool((rows >= 0).all() and (rows < number).all())
