"""The DNA of a grocer's products: markers before and after, and what they tell of the next basket.

docs/dna.md states the method. Complete Journey has no titles: its product types, which read like
those of a till ("ICE - CRUSHED/CUBED"), stand for them, and its package sizes are read as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from examples.datasets import DataSetMissing, find
from genome_server.ingest.dna import Dna
from genome_server.learning.metrics import auc
from genome_server.things.catalogue import learn_catalogue
from genome_server.things.dna import Things
from genome_server.things.rarity import Rarity
from genome_server.things.settings import Settings, read_settings
from tests.bench.figures import Figures

SEED: Final = 7
#: Products that were not bought, for each that was.
OTHERS: Final = 50
_TEST_SHARE: Final = 4
_DRAWS: Final = 1_000
READ: Final = {"text": {"products": ["title", "size"]}}

Array = npt.NDArray[Any]
Document = dict[str, Any]


class Shelf:
    """Products as the store gives them."""

    def __init__(self, documents: Mapping[str, Document]) -> None:
        self.products = documents

    def documents(self, kind: str) -> Iterator[tuple[str, Document]]:
        """(id, document) of the products."""
        return iter(self.products.items() if kind == "product" else ())


def shelf(*, sizes_declared: bool) -> Shelf:
    """The catalogue: sizes as attributes, as who reads no text would import them, or as texts."""
    found = {}
    for row in pq.read_table(find("complete_journey") / "products.parquet").to_pylist():
        said = {"department": row["department"], "label": row["brand"], "type": row["product_type"]}
        if sizes_declared:
            said["size"] = row["package_size"]
        document = {
            "brand": row["manufacturer_id"],
            "category": row["product_category"],
            "attributes": {name: value for name, value in said.items() if value},
        }
        if not sizes_declared:
            document |= {"title": row["product_type"], "size": row["package_size"]}
        found[row["product_id"]] = {name: value for name, value in document.items() if value}
    return Shelf(found)


def run(figures: Figures) -> None:
    """Take the figures."""
    try:
        plain, read = shelf(sizes_declared=True), shelf(sizes_declared=False)
    except DataSetMissing as missing:
        print(f"left out: {missing}")
        return
    made: dict[str, dict[str, Dna]] = {}
    for name, products, said in (("declared", plain, {}), ("read", read, READ)):
        settings = read_settings(said)
        learnt = learn_catalogue(products, settings)  # type: ignore[arg-type]
        weighed = Things(settings, Rarity(learnt.counts, settings.rarity))
        made[name] = _all(products, Things(settings))
        begun = time.process_time()
        made[f"{name}_weighed"] = _all(products, weighed)
        taken = time.process_time() - begun
        figures.add(f"things.{name}.markers", _markers(made[name]), "markers")
        figures.add(f"things.{name}.markers_kept", _markers(made[f"{name}_weighed"]), "markers")
        figures.add(f"things.{name}.us_per_product", 1e6 * taken / len(_ids(made)), "us")
        for space in ("brand", "size", "pack", "claim", "flavour", "form", "word"):
            one = learnt.namespaces.get(space)
            if one is not None:
                share = one.products / learnt.counts.products
                figures.add(f"things.{name}.share.{space}", share, "share")
        if name == "read":
            figures.add("things.read.sizes_understood", _understood(products, settings), "share")
    _foretell(figures, made)


def _ids(made: Mapping[str, Mapping[str, Dna]]) -> Sequence[str]:
    """The ids of the products, in one order."""
    return list(next(iter(made.values())))


def _all(products: Shelf, things: Things) -> dict[str, Dna]:
    return {name: things.product(document) for name, document in products.documents("product")}


def _markers(dna: Mapping[str, Dna]) -> int:
    return len({marker for one in dna.values() for marker, _ in one})


def _understood(products: Shelf, settings: Settings) -> float:
    """Of the products with a package size, those of which an amount is known."""
    things = Things(settings)
    amounts = ("size:", "pack:", "loads:")
    having = [d for _, d in products.documents("product") if "size" in d]
    known = (any(m.startswith(amounts) for m, _ in things.product(d)) for d in having)
    return sum(known) / len(having)


# -- the next basket


def _foretell(figures: Figures, made: Mapping[str, Mapping[str, Dna]]) -> None:
    """How well a household's DNA so far tells what it buys for the first time."""
    ids = _ids(made)
    number = {name: at for at, name in enumerate(ids)}
    lines = pq.read_table(find("complete_journey") / "transactions_sample.parquet")
    lines = lines.sort_by("transaction_timestamp")
    of = np.array([number.get(name, -1) for name in lines["product_id"].to_pylist()])
    _, whose = np.unique(lines["household_id"].to_numpy(), return_inverse=True)
    stamps = pc.cast(lines["transaction_timestamp"].cast(pa.timestamp("ms")), pa.int64()).to_numpy()
    early = stamps < np.quantile(stamps, 1 - 1 / _TEST_SHARE)
    known = of >= 0
    cases = list(_cases(of[known], whose[known], early[known]))
    figures.add("things.basket.households", len(cases), "households")
    results = {}
    for name, dna in made.items():
        rows = _Rows([dna[one] for one in ids])
        results[name] = np.array([_case(rows, *case) for case in cases])
        low, high = _interval(results[name])
        figures.add(f"things.basket.{name}.auc", float(results[name].mean()), "auc")
        figures.add(f"things.basket.{name}.auc_low", low, "auc")
        figures.add(f"things.basket.{name}.auc_high", high, "auc")
    for name in ("declared_weighed", "read", "read_weighed"):
        gained = results[name] - results["declared"]
        low, high = _interval(gained)
        figures.add(f"things.basket.{name}.gain", float(gained.mean()), "auc")
        figures.add(f"things.basket.{name}.gain_low", low, "auc")
        figures.add(f"things.basket.{name}.gain_high", high, "auc")


def _cases(of: Array, whose: Array, early: Array) -> Iterator[tuple[Array, Array, Array]]:
    """By household with both: what it bought, what it bought for the first time, and others.

    The others are drawn as often as they are bought, so that to be popular is no help.
    """
    rng = np.random.default_rng(SEED)
    for household in range(whose.max() + 1):
        own = whose == household
        before = of[own & early]
        new = np.setdiff1d(of[own & ~early], before)
        if len(before) and len(new):
            drawn = rng.choice(of, size=OTHERS * len(new))
            others = drawn[~np.isin(drawn, of[own])]
            if len(others):
                yield before, new, others


class _Rows:
    """DNA as rows of markers: indices and saliences, one after the other."""

    def __init__(self, dna: Sequence[Dna]) -> None:
        vocabulary: dict[str, int] = {}
        for one in dna:
            for marker, _ in one:
                vocabulary.setdefault(marker, len(vocabulary))
        self.size = len(vocabulary)
        self.begin = np.cumsum([0, *(len(one) for one in dna)])
        self.index = np.array([vocabulary[marker] for one in dna for marker, _ in one])
        self.salience = np.array([q8 / 256 for one in dna for _, q8 in one])

    def scores(self, weights: Array, rows: Array) -> Array:
        """The cosine of some rows with a vector, but for the vector's length."""
        found = np.zeros(len(rows))
        for at, row in enumerate(rows.tolist()):
            part = slice(self.begin[row], self.begin[row + 1])
            own = self.salience[part]
            length = np.sqrt(own @ own)
            found[at] = own @ weights[self.index[part]] / length if length else 0.0
        return found


def _case(rows: _Rows, before: Array, new: Array, others: Array) -> float:
    weights = np.zeros(rows.size)
    for row in before.tolist():
        part = slice(rows.begin[row], rows.begin[row + 1])
        weights[rows.index[part]] += rows.salience[part]
    labels = np.concatenate([np.ones(len(new)), np.zeros(len(others))])
    found = auc(labels, rows.scores(np.log1p(weights), np.concatenate([new, others])))
    if found is None:
        raise ValueError("a household without one of the two is no case")
    return found


def _interval(values: Array) -> tuple[float, float]:
    """95 % of the mean, over households drawn with replacement."""
    rng = np.random.default_rng(SEED)
    means = [rng.choice(values, len(values)).mean() for _ in range(_DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
