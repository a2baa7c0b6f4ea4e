"""How much a placement explores that does not say so itself. Free of I/O.

SquareCB draws an offer whose score is behind the best one by `gap` with about 1 / (A + gamma · gap)
among A offers. How far a gap may be trusted depends on how much the model has seen: a number that
holds for ever explores too little at first or too much for good. Where a placement says no
`gamma`, publishing works one out:

    gamma = SLOPE · √examples / worth

`examples` is how many the model was trained on, as its file says (1 where it does not: what is
worth more is then shown more before anything was learned). `worth` is what a success is worth in
the middle of the offers, because gaps are in the same unit. Where a placement says no `floor`,
FLOOR is spread evenly.

What is worked out is a number in the release like any other: devices record it, and propensities
are as exact as ever. What a placement does say, counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import median
from typing import Any, Final

from genome_edge.v1 import release_pb2
from genome_server.documents import placement_spec

#: gamma after one example, of offers worth 1. docs/exploration.md has what others came to.
SLOPE: Final = 100.0
#: The share of the decisions that is spread evenly.
FLOOR: Final = 0.01
_MOST: Final = 1e6
_MICROS: Final = 1_000_000


def explored(
    documents: Iterable[Mapping[str, Any]],
    offers: Sequence[release_pb2.OfferSpec],
    examples: int,
) -> list[release_pb2.PlacementSpec]:
    """The placements as devices get them, with a model of so many examples. Raises
    InvalidDocument."""
    gamma = default_gamma(examples, typical_worth(offers))
    found = []
    for document in documents:
        spec = placement_spec(document)
        if spec.explorer == "squarecb":
            if document.get("gamma") is None:
                spec.gamma = gamma
            if document.get("floor") is None:
                spec.floor = FLOOR
        found.append(spec)
    return found


def default_gamma(examples: int, worth: float) -> float:
    """gamma for a model of so many examples and offers that are worth `worth` > 0; whole."""
    return float(round(min(_MOST, SLOPE * sqrt(max(examples, 1)) / worth)))


def typical_worth(offers: Iterable[release_pb2.OfferSpec]) -> float:
    """What a success is worth in the middle of the offers that are worth something; 1 of none."""
    worth = (abs(offer.value_micros - offer.cost_micros) / _MICROS for offer in offers)
    return median([one for one in worth if one > 0] or [1.0])
