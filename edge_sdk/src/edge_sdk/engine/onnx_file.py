"""What a model file may hold, checked without the ONNX library and before any runtime sees it.

Rules
-----
1. Every operator is one of `_OPERATORS`, by domain: what models of offers are made of, as trainers
   export them. Nothing random, no loops, nothing that reads or decodes files, no custom operators.
2. No number lies in another file. A runtime that is given bytes still follows such a reference,
   relative to wherever the process runs.
3. No functions (export them inlined), no training graphs, no sparse tensors. The branches of an If
   are graphs like any other, a few deep.
4. A tensor declares no more numbers than the file can hold; no shape has more than 8 dimensions or
   one beyond 2^24. At most 10,000 nodes, 64 MiB.
5. What two readers could read differently is refused: a name given twice, a field whose number or
   kind is not the format's.

What a well-formed model does with memory and time when it runs cannot be seen in the file: for this
it is first run in a child process under limits (`sync.worker`).

`read_graph` gives the graph of such a file, for whoever can evaluate some graphs without a runtime.

The reader walks the message types of the ONNX format that can hold any of these, by field number;
everything else is skipped unread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import FormatError

MAX_BYTES: Final = 64 << 20
_MAX_NODES: Final = 10_000
_MAX_DEPTH: Final = 4
_MAX_RANK: Final = 8
_MAX_DIMENSION: Final = 1 << 24

_STANDARD: Final = frozenset(
    b"""Abs Add And ArgMax ArgMin BatchNormalization BitShift Cast CastLike Ceil Celu Clip Compress
    Concat Constant ConstantOfShape Cos CumSum DequantizeLinear Div Dropout
    DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish Identity If
    InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization MatMul MatMulInteger Max Mean MeanVarianceNormalization Min
    Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearMatMul QuantizeLinear Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu
    Shape Shrink Sigmoid Sign Sin Size Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub
    Sum Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor""".split()
)
_LEARNED: Final = frozenset(
    b"""ArrayFeatureExtractor Binarizer CastMap FeatureVectorizer Imputer LinearClassifier
    LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble
    TreeEnsembleClassifier TreeEnsembleRegressor""".split()
)
_OPERATORS: Final = {b"": _STANDARD, b"ai.onnx": _STANDARD, b"ai.onnx.ml": _LEARNED}

# The kind of an attribute that is one whole number.
_WHOLE: Final = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_self_contained(model: bytes) -> None:
    """Refuse a model that reaches outside itself, or holds what a model of offers never needs.

    Raises FormatError with the reason, also for bytes that are not a model at all.
    """
    if len(model) > MAX_BYTES:
        raise FormatError(f"the model has {len(model)} bytes; at most {MAX_BYTES}")
    _Check(len(model)).model(memoryview(model))


class Node(NamedTuple):
    """An operation of a graph, by the names of its values; `attributes` are whole numbers."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int]


class Tensor(NamedTuple):
    """Numbers of a graph as the file holds them."""

    shape: tuple[int, ...]
    kind: int
    data: bytes

    def array(self) -> npt.NDArray[Any] | None:
        """As an array of its shape; None where it holds neither float32 nor int64."""
        kind = {1: "<f4", 7: "<i8"}.get(self.kind)
        if kind is None or len(self.data) != np.dtype(kind).itemsize * np.prod(self.shape):
            return None
        return np.frombuffer(self.data, kind).reshape(self.shape)


class Graph(NamedTuple):
    """A graph with the numbers that stand in it, and what the file says of the model.

    `inputs` and `outputs` are (name, kind of number, dimensions).
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[tuple[str, int, int], ...]
    outputs: tuple[tuple[str, int, int], ...]
    opsets: Mapping[str, int]
    metadata: Mapping[str, str]


def read_graph(model: bytes) -> Graph:
    """The graph of a model that `check_self_contained` let through.

    Raises FormatError where it holds what a `Graph` cannot: operators of other domains, attributes
    that are not whole numbers, tensors that are not written as bytes, names that are not text.
    """
    try:
        return _read_graph(model)
    except UnicodeDecodeError as error:
        raise FormatError("the graph has a name that is not text") from error


def _read_graph(model: bytes) -> Graph:
    nodes: list[Node] = []
    tensors: dict[str, Tensor] = {}
    declared: dict[int, list[tuple[str, int, int]]] = {11: [], 12: []}
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    for field, value in _fields(memoryview(model)):
        if field == 8:
            opsets[_one(_bytes(value), 1).decode()] = _number(_bytes(value), 2)
        elif field == 14:
            metadata[_one(_bytes(value), 1).decode()] = _one(_bytes(value), 2).decode()
        elif field == 7:
            for part, held in _fields(_bytes(value)):
                if part == 1:
                    nodes.append(_read_node(_bytes(held)))
                elif part == 5:
                    tensors[_one(_bytes(held), 8).decode()] = _read_tensor(_bytes(held))
                elif part in declared:
                    declared[part].append(_read_declared(_bytes(held)))
    return Graph(tuple(nodes), tensors, tuple(declared[11]), tuple(declared[12]), opsets, metadata)


def _read_declared(value_info: memoryview) -> tuple[str, int, int]:
    """Value info → type → tensor: its name, kind of number and how many dimensions it has."""
    tensor = _one_message(_one_message(value_info, 2), 1)
    shape = _one_message(tensor, 2)
    rank = sum(field == 1 for field, _ in _fields(shape))
    return _one(value_info, 1).decode(), _number(tensor, 1), rank


def _one_message(message: memoryview, number: int) -> memoryview:
    return memoryview(_one(message, number))


def _read_node(node: memoryview) -> Node:
    if _one(node, 7) not in (b"", b"ai.onnx"):
        raise FormatError("the graph uses operators of another domain")
    texts: dict[int, list[str]] = {1: [], 2: []}
    attributes = {}
    for field, value in _fields(node):
        if field in texts:
            texts[field].append(bytes(_bytes(value)).decode())
        elif field == 5:
            attribute = _bytes(value)
            if _number(attribute, 20) != _WHOLE:
                raise FormatError("the graph has an attribute that is not a whole number")
            attributes[_one(attribute, 1).decode()] = _number(attribute, 3)
    return Node(_one(node, 4).decode(), tuple(texts[1]), tuple(texts[2]), attributes)


def _read_tensor(tensor: memoryview) -> Tensor:
    shape: list[int] = []
    for field, value in _fields(tensor):
        if field == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif field not in (2, 8, 9):
            raise FormatError("the graph has a tensor that is not written as bytes")
    return Tensor(tuple(shape), _number(tensor, 2), _one(tensor, 9))


class _Check:
    """One walk over one file of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._nodes = 0

    def model(self, model: memoryview) -> None:
        graphs = 0
        for field, value in _fields(model):
            if field == 7:
                graphs += 1
                self._graph(_bytes(value), 0)
            elif field == 8:
                self._domain(_one(_bytes(value), 1))
            elif field == 20:
                raise FormatError("the model holds a training graph")
            elif field == 25:
                raise FormatError("the model holds functions; export it with them inlined")
        if graphs != 1:
            raise FormatError("the bytes hold no model graph")

    def _graph(self, graph: memoryview, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise FormatError(f"the model's graphs are nested more than {_MAX_DEPTH} deep")
        for field, value in _fields(graph):
            if field == 1:
                self._node(_bytes(value), depth)
            elif field == 5:
                self._tensor(_bytes(value))
            elif field in (11, 12, 13):
                _check_type(_bytes(value))
            elif field == 15:
                raise FormatError("the model holds sparse tensors")

    def _node(self, node: memoryview, depth: int) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise FormatError(f"the model has more than {_MAX_NODES} nodes")
        operators = self._domain(_one(node, 7))
        kind = _one(node, 4)
        if kind not in operators:
            raise FormatError(f"the model uses the operator {_shown(kind)}, which is not allowed")
        for field, value in _fields(node):
            if field == 5:
                self._attribute(_bytes(value), depth)

    def _attribute(self, attribute: memoryview, depth: int) -> None:
        for field, value in _fields(attribute):
            if field in (5, 10):
                self._tensor(_bytes(value))
            elif field in (6, 11):
                self._graph(_bytes(value), depth + 1)
            elif field in (22, 23):
                raise FormatError("the model holds sparse tensors")

    def _tensor(self, tensor: memoryview) -> None:
        numbers, rank = 1, 0
        for field, value in _fields(tensor):
            if field == 13 or (field == 14 and value != 0):
                raise FormatError("the model keeps numbers in another file")
            if field == 1:
                for dimension in [value] if isinstance(value, int) else _packed(value):
                    rank += 1
                    numbers *= _dimension(dimension)
        # The smallest numbers of the format take half a byte.
        if rank > _MAX_RANK or numbers > 2 * self._size:
            raise FormatError("the model declares a tensor of more numbers than it can hold")

    def _domain(self, domain: bytes) -> frozenset[bytes]:
        operators = _OPERATORS.get(domain)
        if operators is None:
            raise FormatError(f"the model needs operators of {_shown(domain)}")
        return operators


def _check_type(value_info: memoryview) -> None:
    """Check the shape that a value is declared with: value info → type → tensor → shape."""
    inner = [value_info]
    for wanted in (2, 1, 2):
        inner = [_bytes(v) for message in inner for field, v in _fields(message) if field == wanted]
    for shape in inner:
        sizes = [_bytes(dimension) for field, dimension in _fields(shape) if field == 1]
        if len(sizes) > _MAX_RANK:
            raise FormatError(f"the model declares a shape of {len(sizes)} dimensions")
        for size in sizes:
            for field, value in _fields(size):
                if field == 1 and isinstance(value, int):
                    _dimension(value)


def _dimension(value: int) -> int:
    if value > _MAX_DIMENSION:
        raise FormatError(f"the model declares a dimension of {value}; at most {_MAX_DIMENSION}")
    return value


def _one(message: memoryview, number: int) -> bytes:
    """The only text of a field; empty where there is none."""
    found = [bytes(_bytes(value)) for field, value in _fields(message) if field == number]
    if len(found) > 1:
        raise FormatError("the model names something twice")
    return found[0] if found else b""


def _number(message: memoryview, number: int) -> int:
    """The last number of a field; 0 where there is none."""
    found = 0
    for field, value in _fields(message):
        if field == number and isinstance(value, int):
            found = value
    return found


def _shown(name: bytes) -> str:
    return repr(name[:64].decode("utf-8", "replace"))


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise FormatError("the bytes are not a model")
    return value


def _packed(values: memoryview) -> Iterator[int]:
    at = 0
    while at < len(values):
        value, at = _varint(values, at)
        yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: number, and the number or bytes that it holds."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        # Beyond 32 bits a reader may cut a key down to another field's.
        if not 8 <= key < 1 << 32:
            raise FormatError("the bytes are not a model")
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
