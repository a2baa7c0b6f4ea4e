"""Genomes at the marker frequencies of a real grocer, for as many customers as wanted.

The households of Complete Journey are bootstrapped: a customer has as many lines as one of them,
half of them drawn from that household's own and half from everybody's, each at its own time. A
line imprints what is known of its product: manufacturer, department, brand, category, type, size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edge_sdk.dna.columns import Columns
from edge_sdk.dna.schema import HOUR_MS, DnaSchema, default_schema
from examples.datasets import find
from genome_edge.v1 import dna_pb2

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


def strengths(lines: Lines, customers: int, seed: int = SEED) -> Iterator[tuple[Array, ...]]:
    """(customer, marker, value, hour): the strongest markers of each customer, some at a time.

    Ascending by customer and marker; `value` is what has grown since the landmark, float64, and
    `hour` the customer's newest line. Customers are numbered from 0 in each part.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(lines.household, kind="stable")
    sizes = np.bincount(lines.household)
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    for start in range(0, customers, _AT_ONCE):
        n = min(_AT_ONCE, customers - start)
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
        yield who[kept], marker[kept], value[kept], newest


def columns(lines: Lines, customers: int, seed: int = SEED) -> Columns:
    """The rows of so many customers under quantiser 2, with random subjects."""
    rng = np.random.default_rng([seed, 1])
    counts, indices, codes = [], [], []
    for who, marker, value, newest in strengths(lines, customers, seed):
        counts.append(np.bincount(who, minlength=len(newest)))
        indices.append(marker.astype(np.uint16))
        codes.append(np.floor(2 * np.log2(value * 2.0**24)).astype(np.uint8) + np.uint8(1))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    high = np.sort(rng.integers(0, 1 << 64, customers, np.uint64))
    return Columns(
        high=high,
        low=rng.integers(0, 1 << 64, customers, np.uint64),
        consents=rng.choice(np.array([_CONSENTS, _CONSENTS | 4], np.uint32), customers),
        as_of_hours=np.zeros(customers, np.int32),
        starts=starts.astype(np.uint64),
        indices=np.concatenate(indices),
        codes=np.concatenate(codes),
    )
