"""Genomes at the marker frequencies of a real grocer, for as many customers as wanted.

The households of Complete Journey are bootstrapped: a customer has as many lines as one of them,
half of them drawn from that household's own and half from everybody's, each at its own time. A
line imprints what is known of its product: manufacturer, department, brand, category, type, size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edge_sdk.dna.columns import Columns
from edge_sdk.dna.genome import STRENGTHS
from edge_sdk.dna.schema import HOUR_MS, MOST_DISTINCT, ONE_Q24, DnaSchema, default_schema
from examples.datasets import find
from genome_edge.v1 import dna_pb2
from genome_server.genomes.distinct import Counted, ranks, table, weights_of
from genome_server.learning.metrics import auc
from tests.bench.segment import auc_difference

SEED: Final = 7
_NAMESPACES: Final = {
    "manufacturer_id": "brand",
    "department": "category",
    "brand": "label",
    "product_category": "category",
    "product_type": "type",
    "package_size": "size",
}
_AT_ONCE: Final = 5_000
_FAINTEST: Final = 2.0**-10
# Of each household the set has some lines only; those with fewer than this would have fewer
# markers than a year of shopping leaves behind.
_LEAST_LINES: Final = 24
# Customers by whom it is measured what is lost, and products that each is shown of either kind.
JUDGED: Final = 40_000
_SHOWN: Final = 2
_CONSENTS: Final = 1 << dna_pb2.CONSENT_PURPOSE_PERSONALISATION

Array = npt.NDArray[Any]


class Lines(NamedTuple):
    """What was bought, line by line: household, hours since the landmark, weight, markers."""

    schema: DnaSchema
    names: list[str]
    half_lives: Array  # float64[markers], hours
    household: Array  # int64[n], 0 .. households - 1
    hours: Array  # int64[n]
    weights: Array  # float64[n]
    markers: Array  # int64[n, 6], -1: the product has none


def read_lines() -> Lines:
    """Read the data set. Raises DataSetMissing where it is not on this machine."""
    folder = find("complete_journey")
    bought = pq.read_table(folder / "transactions_sample.parquet").sort_by("transaction_timestamp")
    products = pq.read_table(folder / "products.parquet")
    number = {one: i for i, one in enumerate(products["product_id"].to_pylist())}
    of = np.array([number.get(one, -1) for one in bought["product_id"].to_pylist()])
    bought, of = bought.filter(pa.array(of >= 0)), of[of >= 0]
    vocabulary: dict[str, int] = {}
    attributes = {name: products[name].to_pylist() for name in _NAMESPACES}
    rows = []
    for product in of.tolist():
        row = []
        for name, namespace in _NAMESPACES.items():
            value = attributes[name][product]
            marker = f"{namespace}:{str(value).lower()}"
            row.append(-1 if value is None else vocabulary.setdefault(marker, len(vocabulary)))
        rows.append(row)
    stamps = pc.cast(bought["transaction_timestamp"].cast(pa.timestamp("ms")), pa.int64())
    hours = stamps.to_numpy() // HOUR_MS
    schema = default_schema(int(hours.min()) - 24)
    _, household = np.unique(bought["household_id"].to_numpy(), return_inverse=True)
    paid = bought["sales_value"].to_numpy()
    names = list(vocabulary)
    return Lines(
        schema=schema,
        names=names,
        half_lives=np.array([schema.half_life(name.partition(":")[0]) for name in names], float),
        household=household,
        hours=hours - schema.landmark_hour,
        weights=2.0 + 0.25 * np.log2(1.0 + np.floor(paid)),
        markers=np.array(rows),
    )


class Part(NamedTuple):
    """Genomes of some customers, numbered from 0, ascending by customer and marker."""

    who: Array  # int64[m]
    marker: Array  # int64[m]
    value: Array  # float64[m], what has grown since the landmark
    newest: Array  # int64[n], hours since the landmark
    household: Array  # int64[n], like which each customer is


def customers(
    lines: Lines, count: int, seed: int = SEED, *, distinctive: bool = False
) -> Iterator[Part]:
    """So many customers, some at a time, each with the 64 markers that a device sees: the
    strongest, or those that tell customers apart."""
    distinct = distinct_of(lines, np.arange(len(lines.hours))) if distinctive else b""
    rng = np.random.default_rng(seed)
    order = np.argsort(lines.household, kind="stable")
    sizes = np.bincount(lines.household)
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    for start in range(0, count, _AT_ONCE):
        n = min(_AT_ONCE, count - start)
        like = rng.choice(np.flatnonzero(sizes >= _LEAST_LINES), n)
        of = np.repeat(np.arange(n), sizes[like])
        own = order[firsts[like[of]] + rng.integers(0, sizes[like[of]])]
        line = np.where(rng.random(len(of)) < 0.5, own, rng.integers(0, len(lines.hours), len(of)))
        part, now = genomes(lines, like, of, line)
        yield kept(part, ranked(part, now, distinct), lines.schema.max_markers)


def genomes(lines: Lines, like: Array, of: Array, line: Array) -> tuple[Part, Array]:
    """Whole genomes of customers like these households, of whom `of` bought `line`; and how strong
    each marker is at the customer's newest line."""
    newest = np.zeros(len(like), np.int64)
    np.maximum.at(newest, of, lines.hours[line])
    marker = lines.markers[line].ravel()
    who = np.repeat(of, lines.markers.shape[1])
    hour = np.repeat(lines.hours[line], lines.markers.shape[1])
    weight = np.repeat(lines.weights[line], lines.markers.shape[1])
    known = marker >= 0
    key = who[known] * len(lines.names) + marker[known]
    grown = weight[known] * np.exp2(hour[known] / lines.half_lives[marker[known]])
    keys, at = np.unique(key, return_inverse=True)
    value = np.bincount(at, grown)
    who, marker = np.divmod(keys, len(lines.names))
    now = value * np.exp2(-newest[who] / lines.half_lives[marker])
    seen = now >= _FAINTEST
    return Part(who[seen], marker[seen], value[seen], newest, like), now[seen]


def distinct_of(lines: Lines, some: Array) -> bytes:
    """Which markers tell customers apart, counted over some of the lines as `dna count` does."""
    there = lines.markers[some]
    counts = np.bincount(there[there >= 0], minlength=len(lines.names))
    return table(Counted(len(some), len(np.unique(lines.household[some])), counts))


def ranked(part: Part, now: Array, distinct: bytes) -> Array:
    """How markers of such strengths rank in the rows of devices."""
    weights = weights_of(distinct, len(distinct))  # of every marker, or of none
    return ranks((now * ONE_Q24).astype(np.int64), part.marker, weights)


def kept(part: Part, rank: Array, most: int) -> Part:
    """Of each genome the markers that rank highest, ties to the smaller index, at most so many."""
    who, marker = part.who, part.marker
    order = np.lexsort((marker, -rank, who))
    place = np.arange(len(who)) - np.searchsorted(who[order], who[order])
    stay = np.sort(order[place < most])
    return part._replace(who=who[stay], marker=marker[stay], value=part.value[stay])


def codes(value: Array) -> Array:
    """Quantiser 2's codes of grown strengths, uint8."""
    found: Array = np.floor(2 * np.log2(value * 2.0**24)).astype(np.uint8) + np.uint8(1)
    return found


def columns_of(parts: Sequence[Part], lookups: bool = False, seed: int = SEED) -> Columns:
    """The rows of customers under quantiser 2, with random subjects, and random ids of an app."""
    rng = np.random.default_rng([seed, 1])
    counts = np.concatenate([np.bincount(p.who, minlength=len(p.newest)) for p in parts])
    n = len(counts)
    rows = Columns(
        high=np.sort(rng.integers(0, 1 << 64, n, np.uint64)),
        low=rng.integers(0, 1 << 64, n, np.uint64),
        consents=rng.choice(np.array([_CONSENTS, _CONSENTS | 4], np.uint32), n),
        as_of_hours=np.zeros(n, np.int32),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64),
        indices=np.concatenate([part.marker.astype(np.uint16) for part in parts]),
        codes=np.concatenate([codes(part.value) for part in parts]),
    )
    if not lookups:
        return rows
    whose = rng.permutation(n)
    return replace(
        rows,
        hash_high=np.sort(rng.integers(0, 1 << 64, n, np.uint64)),
        hash_low=rng.integers(0, 1 << 64, n, np.uint64),
        owner_high=rows.high[whose],
        owner_low=rows.low[whose],
    )


class Arm(NamedTuple):
    """How well one way of keeping genomes tells what their customers buy next."""

    auc: float
    lost: float  # of the AUC of whole genomes
    low: float  # of its 95 % interval, over households drawn again
    high: float


class _Judged(NamedTuple):
    """What was asked in one draw, and what the models said of it."""

    labels: Array
    household: Array
    half: Array  # numbered on from draw to draw: each has a model of its own
    said: dict[str, Array]


def worth(lines: Lines, count: int = JUDGED, seed: int = SEED, draws: int = 1) -> dict[str, Arm]:
    """AUC by what is kept of a genome; nobody is judged by a household that was learned from.

    Customers are made as above, of lines of the first three quarters of each household's. Each is
    shown products of the last quarter: two that a household like theirs bought and two of anybody.
    The model is a logistic regression over the genome's weights of the product's six markers, as
    they are and times how distinct each marker is, so that it knows of rarity whatever it is shown.
    It is fitted to each half of the households and judged by the other. What is kept:

    - `whole`: every marker, exactly;
    - `pruned`: the strongest 64, exactly;
    - `wire`: the same as a device gets them, in quantiser 2's codes;
    - `distinctive`: the 64 that tell customers apart, exactly;
    - `distinctive_wire`: the same in codes.

    What is distinct is counted over the lines that genomes are made of. Customers, questions and
    halves are drawn anew `draws` times, because one draw moves an AUC by a thousandth.
    """
    parts = [_draw(lines, count, seed + number, 2 * number) for number in range(draws)]
    labels = np.concatenate([part.labels for part in parts])
    household = np.concatenate([part.household for part in parts])
    half = np.concatenate([part.half for part in parts])
    said = {name: np.concatenate([part.said[name] for part in parts]) for name in parts[0].said}
    found = {}
    for name, score in said.items():
        own_auc = _mean_auc(labels, score, half)
        lost = _mean_auc(labels, said["whole"], half) - own_auc
        low, high = auc_difference(labels, said["whole"], score, household)
        found[name] = Arm(own_auc, lost, low, high)
    return found


def _draw(lines: Lines, count: int, seed: int, first_half: int) -> _Judged:
    rng = np.random.default_rng([seed, 2])
    order = np.lexsort((lines.hours, lines.household))
    sizes = np.bincount(lines.household)
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    early = sizes * 3 // 4
    later = np.arange(len(order)) >= (firsts[:-1] + early)[lines.household[order]]
    known, asked = order[~later], order[later]
    distinct = distinct_of(lines, known)
    # A product that has no marker of a namespace (-1) has no weight there.
    telling = np.append(np.frombuffer(distinct, np.uint8) / MOST_DISTINCT, 0.0)
    shown: dict[str, list[Array]] = {}
    bought, households = [], []
    for start in range(0, count, _AT_ONCE):
        n = min(_AT_ONCE, count - start)
        like = rng.choice(np.flatnonzero(sizes >= _LEAST_LINES), n)
        of = np.repeat(np.arange(n), sizes[like])
        own = order[firsts[like[of]] + rng.integers(0, early[like[of]])]
        line = np.where(rng.random(len(of)) < 0.5, own, rng.choice(known, len(of)))
        part, now = genomes(lines, like, of, line)
        ways = {"whole": (part, part.value)}
        for name, by in (("pruned", now), ("distinctive", ranked(part, now, distinct))):
            some = kept(part, by, lines.schema.max_markers)
            wire = "wire" if name == "pruned" else f"{name}_wire"
            ways |= {name: (some, some.value), wire: (some, STRENGTHS[2][codes(some.value)])}
        who = np.repeat(np.arange(n), _SHOWN)
        theirs = order[firsts[like[who]] + rng.integers(early[like[who]], sizes[like[who]])]
        product = lines.markers[np.concatenate([theirs, rng.choice(asked, len(who))])]
        bought.append(np.repeat([1.0, 0.0], len(who)))
        households.append(np.tile(like[who], 2))
        for name, (some, value) in ways.items():
            weights = _weights(lines, some, value, np.tile(who, 2), product)
            shown.setdefault(name, []).append(np.hstack([weights, weights * telling[product]]))
    labels, household = np.concatenate(bought), np.concatenate(households)
    half = rng.permutation(len(sizes))[household] % 2
    said = {name: _judged(np.concatenate(some), labels, half) for name, some in shown.items()}
    return _Judged(labels, household, half + first_half, said)


def _weights(lines: Lines, part: Part, value: Array, who: Array, product: Array) -> Array:
    """The weights that genomes of `who` give the six markers of each product, 0 where none."""
    fade = np.exp2(-part.newest[part.who] / lines.half_lives[part.marker])
    keys = part.who * len(lines.names) + part.marker
    wanted = who[:, None] * len(lines.names) + product
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: Array = np.where(
        (keys[at] == wanted) & (product >= 0), np.log2(1.0 + value * fade)[at], 0.0
    )
    return found


def _judged(features: Array, labels: Array, half: Array) -> Array:
    """What a model says that was fitted to the other half of the households."""
    said = np.zeros(len(labels))
    for judged in (0, 1):
        model = _fitted(features[half != judged], labels[half != judged])
        said[half == judged] = _scores(features[half == judged], model)
    return said


def _mean_auc(labels: Array, said: Array, half: Array) -> float:
    return float(np.mean([auc(labels[half == one], said[half == one]) for one in np.unique(half)]))


def _scores(features: Array, model: Array) -> Array:
    scores: Array = features @ model[1:] + model[0]
    return scores


def _fitted(features: Array, labels: Array) -> Array:
    """Logistic regression by Newton's method: float64[1 + features]."""
    inputs = np.column_stack([np.ones(len(features)), features])
    model = np.zeros(inputs.shape[1])
    for _ in range(8):
        chance = 1.0 / (1.0 + np.exp(-inputs @ model))
        weight = chance * (1.0 - chance)
        model += np.linalg.solve((inputs.T * weight) @ inputs, inputs.T @ (labels - chance))
    return model
