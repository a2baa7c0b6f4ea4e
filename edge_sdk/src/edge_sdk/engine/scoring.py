"""Models as scorers: what is in the file decides how it is evaluated.

A model of the default architecture is evaluated here (`scoring_towers`), every other one in ONNX
Runtime. The contract is the same, and so are the reasons for which a file is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.onnx_file import check_self_contained
from edge_sdk.engine.policy import CONTRACT, Floats, Indices, Scorer
from edge_sdk.engine.scoring_towers import read_towers
from edge_sdk.errors import FormatError, TrustError
from edge_sdk.slices import rest
from edge_sdk.sync.trust import Refusal

_BATCH: Final = 2048

_INPUTS: Final = {
    "query_index": ("tensor(int64)", 1),
    "query_weight": ("tensor(float)", 1),
    "offer_index": ("tensor(int64)", 2),
    "offer_weight": ("tensor(float)", 2),
    "offer_vector": ("tensor(float)", 2),
}
_OUTPUTS: Final = {"vector": ("tensor(float)", 2), "value": ("tensor(float)", 1)}


def open_scorer(model: bytes, vocabulary: Vocabulary) -> Scorer:
    """The fastest scorer for a model of the contract "genome-edge/offer/1".

    Raises TrustError MODEL, with the reason, for a file that no device may use.
    """
    _check_file(model)
    return read_towers(model, vocabulary) or OnnxScorer(model, vocabulary)


def _check_file(model: bytes) -> None:
    try:
        check_self_contained(model)
    except FormatError as error:
        raise _refuse(str(error)) from error


class OnnxScorer:
    """A model of the contract "genome-edge/offer/1" in ONNX Runtime, on one thread.

    `model` is the file's bytes. Markers at or beyond the model's `vocabulary_size` are ignored.
    Raises TrustError MODEL, with the reason, for a model that is cut, keeps another contract,
    numbers its markers otherwise or reaches outside itself.
    """

    def __init__(self, model: bytes, vocabulary: Vocabulary) -> None:
        _check_file(model)
        self._session = _open(model)
        self.metadata = _metadata(self._session)
        self._check(vocabulary)
        self.vocabulary_size = int(self.metadata["vocabulary_size"])
        self.dimension = int(self.metadata["dimension"])
        nothing = np.zeros((0, 0), np.float32)
        # Everything that `value` does not need, and everything that `vector` does not need.
        self._no_offers = {"offer_index": nothing.astype(np.int64), "offer_weight": nothing}
        self._no_query = {
            "query_index": np.zeros(0, np.int64),
            "query_weight": np.zeros(0, np.float32),
            "offer_vector": np.zeros((0, self.dimension), np.float32),
        }
        self._values = ["value"]

    @property
    def runtime(self) -> str:
        """What `DecisionRecord.scored_by` says of it."""
        import onnxruntime  # loaded already: the session is its

        return f"onnxruntime {onnxruntime.__version__}"

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        """Each offer's DNA, (marker index, weight), as one row: float32[m, d]."""
        out = np.zeros((len(dna), self.dimension), np.float32)
        for begin in range(0, len(dna), _BATCH):
            part = [
                [pair for pair in markers if pair[0] < self.vocabulary_size]
                for markers in dna[begin : begin + _BATCH]
            ]
            width = max(1, *(len(markers) for markers in part))
            index = np.zeros((len(part), width), np.int64)
            weight = np.zeros((len(part), width), np.float32)
            for row, markers in enumerate(part):
                rest()
                for column, (marker, salience) in enumerate(markers):
                    index[row, column], weight[row, column] = marker, salience
            feed = {**self._no_query, "offer_index": index, "offer_weight": weight}
            out[begin : begin + len(part)] = self._session.run(["vector"], feed)[0]
        return out

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        """Probability of success, float32[k], for a query of n markers and vectors[k, d]."""
        if len(indices) and indices.max() >= self.vocabulary_size:
            known = indices < self.vocabulary_size
            indices, weights = indices[known], weights[known]
        feed = {
            **self._no_offers,
            "query_index": indices,
            "query_weight": weights,
            "offer_vector": vectors,
        }
        values: Floats = self._session.run(self._values, feed)[0]
        return values

    def _check(self, vocabulary: Vocabulary) -> None:
        facts = self.metadata
        if facts.get("contract") != CONTRACT:
            raise _refuse(f"it keeps the contract {facts.get('contract')!r}, not {CONTRACT!r}")
        if facts.get("vocabulary_lineage") != vocabulary.lineage.hex():
            raise _refuse("it was trained on another vocabulary than the release's")
        for name in ("vocabulary_size", "dimension"):
            if not facts.get(name, "").isdecimal():
                raise _refuse(f"it does not say its {name}")
        if int(facts["vocabulary_size"]) > len(vocabulary):
            raise _refuse(
                f"it was trained on {facts['vocabulary_size']} markers; the release's vocabulary "
                f"has {len(vocabulary)}"
            )
        _check_tensors("input", self._session.get_inputs(), _INPUTS)
        _check_tensors("output", self._session.get_outputs(), _OUTPUTS)
        shape = next(i.shape for i in self._session.get_inputs() if i.name == "offer_vector")
        if not 1 <= int(facts["dimension"]) <= 4096 or shape[1] != int(facts["dimension"]):
            raise _refuse(f"it says dimension {facts['dimension']} and takes vectors of {shape[1]}")


def _open(model: bytes) -> Any:
    import onnxruntime  # a tenth of a second: only where a model is used

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen types of its own
        raise _refuse(f"the runtime cannot read it: {error}") from error


def _metadata(session: Any) -> dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)


def _check_tensors(what: str, found: Sequence[Any], wanted: dict[str, tuple[str, int]]) -> None:
    given = {tensor.name: (tensor.type, len(tensor.shape)) for tensor in found}
    for name, (kind, rank) in wanted.items():
        if name not in given:
            raise _refuse(f"it has no {what} {name!r}")
        if given[name] != (kind, rank):
            raise _refuse(
                f"its {what} {name!r} is {given[name][0]} of rank {given[name][1]}; the contract "
                f"says {kind} of rank {rank}"
            )
    extra = sorted(set(given) - set(wanted))
    if what == "input" and extra:
        raise _refuse(f"it asks for inputs that nobody gives: {', '.join(extra)}")


def _refuse(why: str) -> TrustError:
    return TrustError(f"the model was refused: {why}", Refusal.MODEL)
