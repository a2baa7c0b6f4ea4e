"""Synthetic interactions for the benchmark of builds: seeded, of any size, in columns.

Made up, with the shape of a grocer's year: some products, brands and customers are far more
popular than others, and a customer comes back to the same few aisles. A product has a brand, a
category, a type and two claims.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from edge_sdk.dna.imprint import explode
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema, default_schema
from genome_server.genomes import aggregate

EACH: Final = 20
"""Interactions for each customer, on the average."""

LANDMARK: Final = 490_000
SCHEMA: Final = default_schema(LANDMARK)
PRODUCTS: Final = 20_000
_AISLE: Final = 100
_SEED: Final = 11
CHUNK: Final = 2_000_000
_KINDS: Final = (("browse", 0.25), ("view", 0.35), ("cart", 0.1), ("buy", 0.27), ("dismiss", 0.03))

Ints = npt.NDArray[np.int64]


class Made(NamedTuple):
    """Where the interactions are, `aggregate.INTERACTIONS`, and the DNA of their things."""

    path: Path
    dna: pa.Table
    markers: int

    @classmethod
    def read(cls, folder: Path, interactions: int) -> Made:
        """What was made there."""
        return cls(folder / f"interactions-{interactions}.parquet", *_dna(SCHEMA))


def make(folder: Path, interactions: int) -> Made:
    """Write a history of this many interactions."""
    made = Made.read(folder, interactions)
    customers = max(interactions // EACH, 1)
    rng = np.random.default_rng(_SEED)
    # Every customer is drawn from a few aisles; how active one is spans three orders of magnitude.
    aisles = rng.integers(0, PRODUCTS // _AISLE, (customers, 3))
    activity = np.cumsum(rng.lognormal(0, 1, customers))
    activity /= activity[-1]
    schema = aggregate.INTERACTIONS
    with pq.ParquetWriter(made.path, schema, compression="zstd") as out:
        for begin in range(0, interactions, CHUNK):
            n = min(CHUNK, interactions - begin)
            out.write_table(
                pa.table(_chunk(rng, n, begin, interactions, aisles, activity), schema=schema)
            )
    return made


def _chunk(
    rng: np.random.Generator,
    n: int,
    begin: int,
    total: int,
    aisles: Ints,
    activity: Any,
) -> list[Any]:
    customer = np.minimum(np.searchsorted(activity, rng.random(n)), len(aisles) - 1)
    rank = np.minimum(rng.pareto(0.8, n), 1e6).astype(np.int64)
    own = aisles[customer, rng.integers(0, 3, n)] * _AISLE + rank % _AISLE
    product = np.where(rng.random(n) < 0.7, own, rank * 7919 % PRODUCTS)
    kinds = rng.choice(len(_KINDS), n, p=[share for _, share in _KINDS])
    numbers = {kind.name: i for i, kind in enumerate(SCHEMA.kinds)}
    kind = np.array([numbers[name] for name, _ in _KINDS])[kinds]
    dismissed = kind == numbers["dismiss"]
    units = np.where(kind == numbers["buy"], rng.lognormal(1.5, 1, n).astype(np.int64), 0)
    events = np.arange(begin, begin + n)
    # A year, in the order of the log.
    hours = events * 8_760 // total - 8_000
    thing = product + PRODUCTS * dismissed
    small = [column.astype(np.int32) for column in (customer, thing, kind, hours)]
    return [*small, units, events]


def _dna(schema: DnaSchema) -> tuple[pa.Table, int]:
    """The DNA of products, and of products as a dismissal imprints them; and how many markers."""
    rng = np.random.default_rng(_SEED + 1)
    facts = {
        "brand": rng.zipf(1.3, PRODUCTS) % 1_500,
        "category": np.arange(PRODUCTS) // _AISLE,
        "type": np.arange(PRODUCTS) // 32,
        "claim": rng.integers(0, 30, PRODUCTS),
    }
    more = 30 + rng.integers(0, 30, PRODUCTS)
    rows = []
    for kind in ("buy", "dismiss"):
        for product in range(PRODUCTS):
            dna = [(f"{space}:{values[product]}", 256) for space, values in facts.items()]
            dna.append((f"claim:{more[product]}", 128))
            rows += [
                (product + PRODUCTS * (kind == "dismiss"), name, half_life, salience)
                for name, salience, half_life in explode(schema, kind, dna)
            ]
    names = [name for _, name, _, _ in rows]
    vocabulary = Vocabulary(bytes(16), []).extend(names)
    columns = [
        [thing for thing, *_ in rows],
        [vocabulary.index(name) for name in names],
        [half_life for _, _, half_life, _ in rows],
        [salience for *_, salience in rows],
    ]
    return pa.table(columns, schema=aggregate.DNA), len(vocabulary)
