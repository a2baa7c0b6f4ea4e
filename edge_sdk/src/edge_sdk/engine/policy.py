"""The policy: how offers are scored, and how one is drawn.

Scores. A model gives every candidate a value, the probability of success. Times what a success is
worth, in 16.16 fixed point, that is its score. Floats end here: the choice and its propensity are
pure functions of int32 scores and a 64-bit seed, in integers, and are the same everywhere.

Drawing. With P = 2^32, A candidates and the gap of each to the best score, inverse gap weighting
(SquareCB) gives candidate a the chance

    p_a = max( P · 65536 // (A · 65536 + floor(gamma · gap_a)),  floor(floor · P) // A )

and the best (ties: the first) what is left of P, which is never less than P // A. The draw for
slot k is the upper half of the k-th number of the SplitMix64 sequence that starts at the seed; it
picks the first candidate whose running total exceeds it. Propensities are therefore exact.

proto/vectors/exploration.json holds vectors for every other implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.onnx_file import check_self_contained
from edge_sdk.errors import FormatError, TrustError
from edge_sdk.slices import rest
from edge_sdk.sync.trust import Refusal

CONTRACT: Final = "genome-edge/offer/1"
P: Final = 1 << 32
ONE: Final = 1 << 16
SCORE_MIN: Final = -(1 << 31)
SCORE_MAX: Final = (1 << 31) - 1

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1
_BATCH: Final = 2048

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.int32]

_INPUTS: Final = {
    "query_index": ("tensor(int64)", 1),
    "query_weight": ("tensor(float)", 1),
    "offer_index": ("tensor(int64)", 2),
    "offer_weight": ("tensor(float)", 2),
    "offer_vector": ("tensor(float)", 2),
}
_OUTPUTS: Final = {"vector": ("tensor(float)", 2), "value": ("tensor(float)", 1)}


class Scorer(Protocol):
    """Values offers for a moment. Thread-safe; `values` must not block."""

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        """Each offer's DNA, (marker index, weight), as one row: float32[m, d]."""
        ...

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        """Probability of success, float32[k], for a query of n markers and vectors[k, d]."""
        ...


class OnnxScorer:
    """A model of the contract "genome-edge/offer/1" in ONNX Runtime, on one thread.

    `model` is the file's bytes. Markers at or beyond the model's `vocabulary_size` are ignored.
    Raises TrustError MODEL, with the reason, for a model that is cut, keeps another contract,
    numbers its markers otherwise or reaches outside itself.
    """

    def __init__(self, model: bytes, vocabulary: Vocabulary) -> None:
        try:
            check_self_contained(model)
        except FormatError as error:
            raise _refuse(str(error)) from error
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


class Drawn(NamedTuple):
    """A draw: which candidate, its chance in 2^-32, and which one had the best score."""

    position: int
    chance: int
    best: int


class Explorer(Protocol):
    """Draws one of the candidates. A pure function of the scores and a number."""

    name: str
    gamma: float
    floor: float

    def distribution(self, scores: Scores) -> npt.NDArray[np.int64]:
        """Chance of every candidate in 2^-32, int64[A], for int32[A]; they add up to 2^32."""
        ...

    def draw(self, scores: Scores, number: int) -> Drawn:
        """One of A >= 1 candidates; `number` is uniform in 0 … 2^32 - 1."""
        ...


class Greedy:
    """Always the best score; of equal ones the first."""

    name = "greedy"
    gamma = 0.0
    floor = 0.0

    def distribution(self, scores: Scores) -> npt.NDArray[np.int64]:
        """All of it on the best: int64[A]."""
        chances = np.zeros(len(scores), np.int64)
        chances[int(scores.argmax())] = P
        return chances

    def draw(self, scores: Scores, number: int) -> Drawn:  # noqa: ARG002 the protocol's
        """The best."""
        best = int(scores.argmax())
        return Drawn(best, P, best)


class SquareCB:
    """Inverse gap weighting over all candidates, with a floor.

    `gamma` (0 to 1e6): how fast the chance falls with the gap to the best score. `floor` (0 to 1):
    the least that every candidate gets, times their number.
    """

    name = "squarecb"

    def __init__(self, gamma: float, floor: float) -> None:
        if not 0.0 <= gamma <= 1e6 or not 0.0 <= floor <= 1.0:
            raise FormatError(f"SquareCB takes gamma 0 to 1e6 and floor 0 to 1: {gamma}, {floor}")
        self.gamma = gamma
        self.floor = floor
        self._floor_p = math.floor(floor * P)

    def distribution(self, scores: Scores) -> npt.NDArray[np.int64]:
        """Chance of every candidate in 2^-32, int64[A], for int32[A]; they add up to 2^32."""
        return self._chances(scores, int(scores.argmax()))

    def draw(self, scores: Scores, number: int) -> Drawn:
        """One of A >= 1 candidates; `number` is uniform in 0 … 2^32 - 1."""
        best = int(scores.argmax())
        if len(scores) == 1:
            return Drawn(0, P, 0)
        chances = self._chances(scores, best)
        position = int(chances.cumsum().searchsorted(number, side="right"))
        return Drawn(position, int(chances[position]), best)

    def _chances(self, scores: Scores, best: int) -> npt.NDArray[np.int64]:
        number = len(scores)
        # A gap is below 2^32 and gamma at most 1e6: exact in float64 up to the product, whose
        # rounding is the same on every machine.
        gaps = int(scores[best]) - scores.astype(np.int64)
        shares: npt.NDArray[np.int64] = (gaps * self.gamma).astype(np.int64)
        shares += number * ONE
        np.floor_divide(P * ONE, shares, out=shares)
        np.maximum(shares, self._floor_p // number, out=shares)
        shares[best] = 0
        shares[best] = P - int(shares.sum())
        return shares


def explorer(name: str, gamma: float, floor: float) -> Explorer:
    """The explorer that a placement names ("greedy" or "squarecb"; empty is greedy).

    Raises FormatError for a name or numbers that cannot be.
    """
    if name in ("", "greedy"):
        return Greedy()
    if name == "squarecb":
        return SquareCB(gamma, floor)
    raise FormatError(f"explorer {name!r} is not known; known are greedy and squarecb")


def splitmix64(state: int) -> int:
    """The number that a SplitMix64 generator in this state (uint64) gives next."""
    z = (state + _GOLDEN) & _MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return z ^ z >> 31


def draw_number(seed: int, slot: int) -> int:
    """The uniform number, 0 … 2^32 - 1, that decides slot `slot` under a uint64 seed."""
    return splitmix64((seed + slot * _GOLDEN) & _MASK) >> 32


def fixed_scores(values: Floats, worth: npt.NDArray[np.float64]) -> Scores:
    """Scores, int32[k] in 16.16 fixed point: value float32[k] times worth float64[k] (in 2^-16).

    What is not a number scores least, so that it is drawn last and never breaks a draw.
    """
    products = np.rint(values * worth)
    np.fmax(products, SCORE_MIN, out=products)
    np.fmin(products, SCORE_MAX, out=products)
    return products.astype(np.int32)


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
