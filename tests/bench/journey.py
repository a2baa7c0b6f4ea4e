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
from edge_sdk.dna.schema import HOUR_MS, DnaSchema, default_schema
from examples.datasets import find
from genome_edge.v1 import dna_pb2
from genome_server.learning.metrics import auc

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


def customers(lines: Lines, count: int, seed: int = SEED) -> Iterator[Part]:
    """So many customers, some at a time."""
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
        newest = np.zeros(n, np.int64)
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
        ranked = np.lexsort((marker, -now, who))
        place = np.arange(len(keys)) - np.searchsorted(who[ranked], who[ranked])
        kept = np.sort(ranked[(place < lines.schema.max_markers) & (now[ranked] >= _FAINTEST)])
        yield Part(who[kept], marker[kept], value[kept], newest, like)


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


class Worth(NamedTuple):
    """How well genomes tell what their customers buy next."""

    exact: float
    quantised: float


def worth(lines: Lines, parts: Sequence[Part], seed: int = SEED) -> Worth:
    """AUC with strengths as they are and with their codes, of customers that were not learned from.

    Each customer is shown one product of a household like theirs and one of anybody. The model is
    a logistic regression over the genome's weights of the product's six markers, fitted to the
    first half of the customers once with strengths as they are and once with codes.
    """
    rng = np.random.default_rng([seed, 2])
    order = np.argsort(lines.household, kind="stable")
    sizes = np.bincount(lines.household)
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    shown: list[list[Array]] = [[], []]
    bought = []
    for part in parts:
        like = part.household
        own = order[firsts[like] + rng.integers(0, sizes[like])]
        other = rng.integers(0, len(lines.hours), len(like))
        product = lines.markers[np.concatenate([own, other])]
        who = np.tile(np.arange(len(like)), 2)
        bought.append(np.repeat([1.0, 0.0], len(like)))
        fade = np.exp2(-part.newest[part.who] / lines.half_lives[part.marker])
        keys = part.who * len(lines.names) + part.marker
        wanted = who[:, None] * len(lines.names) + product
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        there = (keys[at] == wanted) & (product >= 0)
        for kept, value in zip(shown, (part.value, STRENGTHS[2][codes(part.value)]), strict=True):
            kept.append(np.where(there, np.log2(1.0 + value * fade)[at], 0.0))
    half = len(parts) // 2
    labels = np.concatenate(bought[:half]), np.concatenate(bought[half:])
    found = []
    for kept in shown:
        model = _fitted(np.concatenate(kept[:half]), labels[0])
        found.append(auc(labels[1], _scores(np.concatenate(kept[half:]), model)) or 0.0)
    return Worth(*found)


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
