"""What a model answers: whether devices could believe it. No input or output.

Everything goes through the devices' own scorer. Two answers count as the same up to 1e-5, as golden
vectors do; the same question asked twice must have the same answer to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from edge_sdk.engine.policy import Scorer
from genome_server.learning.towers import Floats, Indices
from genome_server.models.findings import BAD, WARNING, Finding
from genome_server.models.golden import Golden
from genome_server.models.samples import OfferDna, Samples

_SAME: Final = 1e-5
#: How far beyond 0 … 1 rounding may take a value.
_BEYOND: Final = 1e-6
_RANDOM_QUERIES: Final = 65
_RANDOM_OFFERS: Final = 32
_CHUNK: Final = 64
_TIMED_OFFERS: Final = 1000
_TIMED_MARKERS: Final = 74
_ROUNDS: Final = 200
_SECONDS: Final = 1.0
#: No genome and no moment weighs a marker more.
_STRONGEST: Final = 40.0
_SAID: Final = 300

Query = tuple[Indices, Floats]


class _Failed(Exception):
    """The model gave no answer, or one that is none; the finding says which."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.cause)
        self.finding = finding


def answer_findings(scorer: Scorer, known: int, samples: Samples) -> Iterator[Finding]:
    """Yield what is wrong with what a model answers, each kind once.

    `known` is how many markers it says that it knows (its `vocabulary_size`).
    """
    try:
        vectors = _vectors(scorer, known, samples)
    except _Failed as failed:
        yield failed.finding  # without vectors there is nothing to value
        return
    queries = _queries(known, samples)
    empty = list(_empty(scorer, queries, vectors))
    yield from empty
    told = {one.name for one in empty}
    if "empty-query" in told:
        queries = [query for query in queries if len(query[0])]
    checks: Sequence[Callable[[], Iterator[Finding]]] = (
        lambda: _markers(scorer, known, vectors),
        lambda: _values(scorer, queries, vectors),
        lambda: _dependence(scorer, queries, vectors),
        lambda: _padding(scorer, known, samples),
    )
    for check in checks:
        try:
            found = list(check())
        except _Failed as failed:
            found = [failed.finding]
        for finding in found:
            if finding.name not in told:
                told.add(finding.name)
                yield finding


def golden_findings(scorer: Scorer, vectors: Sequence[Golden], where: str) -> Iterator[Finding]:
    """Yield what of golden vectors does not come true; `where` says whose they are."""
    off, worst, said = 0, 0.0, ""
    for number, one in enumerate(vectors):
        try:
            offers = _ask(
                partial(scorer.vectors, one.offers), len(one.offers), "golden offers", vectors=True
            )
            found = _value(scorer, (one.indices, one.weights), offers)
        except _Failed as failed:
            yield failed.finding
            return
        apart = np.abs(found.astype(np.float64) - one.values)
        at = int(apart.argmax())
        off += bool(apart[at] > _SAME)
        if apart[at] > max(worst, _SAME):
            worst = float(apart[at])
            said = (
                f"most of all vector {number}, offer {at}: it answers {found[at]:.7g}, and "
                f"{one.values[at]:.7g} is expected"
            )
    if off:
        yield Finding(
            "golden",
            BAD,
            f"{off} of {len(vectors)} golden vectors {where} are off, by up to {worst:.2g} "
            f"({_SAME:g} is allowed); {said}",
            "compare the file with what it was made from: columns in another order, a threshold in "
            "float64, a step that is missing",
        )


def measure_latency(scorer: Scorer, known: int, samples: Samples) -> float:
    """Return the median time to value 1,000 offers for a query of 74 markers, in microseconds."""
    vectors = _vectors(scorer, known, samples)
    many = np.ascontiguousarray(np.resize(vectors, (_TIMED_OFFERS, vectors.shape[1])))
    indices, weights = _random_query(np.random.default_rng(0), known, _TIMED_MARKERS)
    taken: list[float] = []
    until = time.perf_counter() + _SECONDS
    while len(taken) < _ROUNDS and (len(taken) < 5 or time.perf_counter() < until):
        begun = time.perf_counter_ns()
        scorer.values(indices, weights, many)
        taken.append((time.perf_counter_ns() - begun) / 1000)
    return float(np.median(taken[len(taken) // 5 :]))


def _offers(known: int, samples: Samples) -> list[OfferDna]:
    """Random offers of 1 … 8 markers, one without any, and the tenant's."""
    rng = np.random.default_rng(1)
    offers: list[OfferDna] = [()]
    for number in range(_RANDOM_OFFERS if known else 0):
        width = 1 + number % 8
        offers.append(
            tuple(
                (int(at), float(weight))
                for at, weight in zip(
                    rng.integers(0, known, width), rng.exponential(1.0, width), strict=True
                )
            )
        )
    return [*offers, *samples.offers]


def _queries(known: int, samples: Samples) -> list[Query]:
    """Random queries of 0 … 64 markers, one of the strongest markers that can be, and real ones."""
    rng = np.random.default_rng(2)
    queries = [_random_query(rng, known, number) for number in range(_RANDOM_QUERIES)]
    indices, weights = queries[-1]
    strong = (indices, np.full_like(weights, _STRONGEST))
    return [*queries, strong, *samples.queries]


def _random_query(rng: np.random.Generator, known: int, number: int) -> Query:
    number = min(number, known)
    indices = np.sort(rng.choice(known, number, replace=False)) if number else np.zeros(0)
    return indices.astype(np.int64), rng.exponential(1.0, number).astype(np.float32)


def _vectors(scorer: Scorer, known: int, samples: Samples) -> Floats:
    """The vectors of all offers that it is tried with, and of one for every marker."""
    _ask(partial(scorer.vectors, [()]), 1, "an offer of no markers")
    for begin in range(0, known, _CHUNK):
        markers = range(begin, min(begin + _CHUNK, known))
        some = [[(marker, 1.0)] for marker in markers]
        try:
            _ask(partial(scorer.vectors, some), len(some), "offers of one marker")
        except _Failed:
            for marker, one in zip(markers, some, strict=True):
                what = f"an offer of marker {marker} (it says that it knows {known:,})"
                _ask(partial(scorer.vectors, [one]), 1, what, "marker")
            raise
    offers = _offers(known, samples)
    found = _ask(partial(scorer.vectors, offers), len(offers), f"{len(offers)} offers")
    return np.ascontiguousarray(found)


def _ask(
    question: Callable[[], Any], rows: int, what: str, name: str = "", *, vectors: bool = True
) -> Floats:
    """The answer to a question about some offers. Raises _Failed where it is none."""
    tensor = "vector" if vectors else "value"
    try:
        with np.errstate(all="ignore"):  # what is not a number is told below
            found = question()
    except Exception as error:  # noqa: BLE001 a model fails in its runtime's own ways
        said = " ".join(str(error).split())[:_SAID]
        raise _Failed(
            Finding(
                name or "fails",
                BAD,
                f"`{tensor}` fails for {what}: {said}",
                _ADVICE.get(
                    name,
                    "the runtime works out both outputs each time: let a query of no markers and "
                    "no rows of offer_vector pass where `vector` is asked for, and no rows of "
                    "offer_index where `value` is",
                ),
            )
        ) from None
    if len(found.shape) != 1 + vectors or len(found) != rows:
        raise _Failed(
            Finding(
                "rows",
                BAD,
                f"`{tensor}` has the shape {list(found.shape)} for {what}",
                "give one row for each offer, in the order in which they came",
            )
        )
    if not np.isfinite(found).all():
        raise _Failed(
            Finding(
                "not-a-number",
                BAD,
                f"`{tensor}` is not a number for {what}",
                "look for divisions by zero, logarithms of zero and exponentials of large numbers; "
                f"weights go up to {_STRONGEST:.0f}",
            )
        )
    return np.asarray(found, np.float32)


_ADVICE: Final = {
    "empty-query": "let a query of no markers pass: nobody in particular, in an unknown moment",
    "empty-offers": "let no offers pass: nothing may be near",
    "marker": "let every index below vocabulary_size pass, or say a smaller one; devices leave out "
    "the indices from there on",
}


def _value(scorer: Scorer, query: Query, vectors: Floats, what: str = "", name: str = "") -> Floats:
    what = what or f"a query of {len(query[0])} markers and {len(vectors)} offers"
    return _ask(partial(scorer.values, *query, vectors), len(vectors), what, name, vectors=False)


def _empty(scorer: Scorer, queries: Sequence[Query], vectors: Floats) -> Iterator[Finding]:
    nobody, somebody = queries[0], queries[-1]
    for query, offers, name in (
        (nobody, vectors, "empty-query"),
        (somebody, vectors[:0], "empty-offers"),
        (nobody, vectors[:0], "empty-offers"),
    ):
        try:
            _value(scorer, query, offers, name=name)
        except _Failed as failed:
            yield failed.finding
            return


def _markers(scorer: Scorer, known: int, vectors: Floats) -> Iterator[Finding]:
    """Whether it takes every marker that it says that it knows, in a query."""
    few = vectors[:2]
    for begin in range(0, known, _CHUNK):
        indices = np.arange(begin, min(begin + _CHUNK, known))
        ones = np.ones(len(indices), np.float32)
        try:
            _value(scorer, (indices, ones), few)
        except _Failed as failed:
            for marker in indices.tolist():
                what = f"a query of marker {marker} (it says that it knows {known:,})"
                _value(scorer, (np.array([marker]), ones[:1]), few, what, "marker")
            yield failed.finding
            return


def _values(scorer: Scorer, queries: Sequence[Query], vectors: Floats) -> Iterator[Finding]:
    """Whether values are probabilities, and the same when asked again."""
    answers = []
    for query in queries:
        found = _value(scorer, query, vectors)
        low, high = float(found.min()), float(found.max())
        if low < -_BEYOND or high > 1 + _BEYOND:
            yield Finding(
                "out-of-range",
                BAD,
                f"`value` is {low if low < 0 else high:.6g} for a query of {len(query[0])} markers",
                "give the probability of success, 0 to 1: end with Sigmoid where it gives logits",
            )
        if not np.array_equal(found, _value(scorer, query, vectors)):
            yield Finding(
                "not-repeatable",
                BAD,
                f"`value` differs when the same query of {len(query[0])} markers is asked twice",
                "leave nothing to chance in the model: decisions are replayed, and devices draw "
                "by themselves",
            )
        answers.append(found)
    values = np.array(answers)
    if len(vectors) > 1 and float(np.ptp(values, axis=1).max()) <= _SAME:
        yield Finding(
            "ignores-offers",
            WARNING,
            "every offer has the same value, whoever asks",
            "see that `value` uses offer_vector, and that `vector` tells offers apart",
        )
    if float(np.ptp(values, axis=0).max()) <= _SAME:
        yield Finding(
            "ignores-query",
            WARNING,
            "every query has the same answer: customer and moment make no difference",
            "see that `value` uses query_index and query_weight",
        )


def _dependence(scorer: Scorer, queries: Sequence[Query], vectors: Floats) -> Iterator[Finding]:
    """Whether a value depends on nothing but the query and its own offer."""
    rng = np.random.default_rng(3)
    for query in queries[1 :: max(1, len(queries) // 16)]:
        indices, weights = query
        found = _value(scorer, query, vectors)
        shuffled = rng.permutation(len(vectors))
        other = _value(scorer, query, np.ascontiguousarray(vectors[shuffled]))
        if not np.allclose(other, found[shuffled], rtol=0, atol=_SAME):
            yield _depends(
                "offer-order", "the order of the offers", other - found[shuffled], "its own offer"
            )
        alone = np.concatenate([_value(scorer, query, vectors[i : i + 1]) for i in range(4)])
        if not np.allclose(alone, found[:4], rtol=0, atol=_SAME):
            yield _depends(
                "other-offers", "which other offers there are", alone - found[:4], "its own offer"
            )
        turned = _value(scorer, (indices[::-1].copy(), weights[::-1].copy()), vectors)
        if not np.allclose(turned, found, rtol=0, atol=_SAME):
            yield _depends(
                "query-order", "the order of the query's markers", turned - found, "which they are"
            )


def _padding(scorer: Scorer, known: int, samples: Samples) -> Iterator[Finding]:
    """Whether an offer's vector depends on nothing but its markers."""
    offers = [offer for offer in _offers(known, samples) if offer][:16]
    together = scorer.vectors(offers)
    for row, offer in enumerate(offers):
        if not np.allclose(scorer.vectors([offer])[0], together[row], rtol=1e-5, atol=_SAME):
            yield _depends(
                "padding",
                "the padding of its row, or on the other offers,",
                scorer.vectors([offer])[0] - together[row],
                "markers with a weight other than 0",
                tensor="vector",
            )
            return
        if not np.allclose(scorer.vectors([offer[::-1]])[0], together[row], rtol=1e-5, atol=_SAME):
            yield _depends(
                "offer-marker-order",
                "the order of the offer's markers",
                scorer.vectors([offer[::-1]])[0] - together[row],
                "which they are",
                tensor="vector",
            )
            return


def _depends(
    name: str, what: str, differences: Floats, on: str, *, tensor: str = "value"
) -> Finding:
    return Finding(
        name,
        BAD,
        f"`{tensor}` depends on {what} (by up to {float(np.abs(differences).max()):.2g})",
        f"let `{tensor}` depend on {on} only",
    )
