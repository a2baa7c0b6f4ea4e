"""Golden vectors that a model brings along: questions, and the answers of what it was made from.

Whoever exports a model knows what their library says; whether the file says the same shows only
where it is evaluated. So they write some questions down with their answers, as JSON beside the file
(`FILE.golden.json`) or in its `metadata_props` under `golden_vectors`, and every check plays them
through the devices' own scorer. No input or output.

    {"vectors": [{"query": {"index": [3, 17], "weight": [1.0, 2.5]},
                  "offers": [{"index": [40], "weight": [1.0]}],
                  "values": [0.125]}]}
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from genome_server.learning.towers import Floats, Indices
from genome_server.models.findings import BAD, Finding
from genome_server.models.golden_file import MAX_LENGTH
from genome_server.models.samples import OfferDna

#: The key in `metadata_props`.
FACT: Final = "golden_vectors"
_FORM: Final = (
    'write {"vectors": [{"query": {"index": [], "weight": []}, "offers": [{"index": [], '
    '"weight": []}], "values": []}]}, indices being those of vocabulary.json'
)
_FLOAT32: Final = float(np.finfo(np.float32).max)


class Golden(NamedTuple):
    """A question and its answers: a query (int64[n], float32[n]), k offers, and float64[k]."""

    indices: Indices
    weights: Floats
    offers: Sequence[OfferDna]
    values: np.ndarray[Any, np.dtype[np.float64]]


def read_golden(text: str, known: int) -> list[Golden]:
    """The vectors in a text, of a model that knows `known` markers.

    Raises ValueError, with the place, where it is anything else.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it has {len(text):,} characters; {MAX_LENGTH:,} are read")
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    vectors = said.get("vectors") if isinstance(said, dict) else None
    if not isinstance(vectors, list) or not vectors:
        raise ValueError("it has no list of vectors")
    return [_vector(one, f"vector {number}", known) for number, one in enumerate(vectors)]


def unreadable(where: str, error: Exception) -> Finding:
    """What is said of a text that holds no golden vectors."""
    return Finding("golden-unreadable", BAD, f"golden vectors {where}: {error}", _FORM)


def _vector(said: Any, where: str, known: int) -> Golden:
    if not isinstance(said, Mapping):
        raise ValueError(f"{where} is no object")
    index, weight = _bag(said.get("query"), f"{where}, query", known)
    offers, values = said.get("offers"), said.get("values")
    if not isinstance(offers, list) or not isinstance(values, list) or not offers:
        raise ValueError(f"{where} has no lists of offers and values")
    if len(offers) != len(values):
        raise ValueError(f"{where} has {len(offers)} offers and {len(values)} values")
    bags = [_bag(one, f"{where}, offer {at}", known) for at, one in enumerate(offers)]
    return Golden(
        np.array(index, np.int64),
        np.array(weight, np.float32),
        [tuple(zip(*bag, strict=True)) for bag in bags],
        np.array([_number(one, f"{where}, values") for one in values], np.float64),
    )


def _bag(said: Any, where: str, known: int) -> tuple[list[int], list[float]]:
    """Markers and their weights."""
    index = said.get("index") if isinstance(said, Mapping) else None
    weight = said.get("weight") if isinstance(said, Mapping) else None
    if not isinstance(index, list) or not isinstance(weight, list) or len(index) != len(weight):
        raise ValueError(f"{where} has no lists index and weight of one length")
    for one in index:
        if type(one) is not int or not 0 <= one < known:
            raise ValueError(
                f"{where}: {_quoted(one)} is no index of the {known} markers that it knows"
            )
    return index, [_weight(one, where) for one in weight]


def _weight(said: Any, where: str) -> float:
    found = _number(said, where)
    if abs(found) > _FLOAT32:
        raise ValueError(f"{where}: {_quoted(said)} is beyond float32, in which weights are asked")
    return found


def _number(said: Any, where: str) -> float:
    try:
        found = float(said) if type(said) in (int, float) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{where}: {_quoted(said)} is no number")
    return found


def _quoted(said: Any) -> str:
    """What stands there, as much as tells it: it may be lists in lists, as long as the file."""
    return f"{reprlib.repr(said):.40}"
