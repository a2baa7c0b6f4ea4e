"""Whether demand by region tells where things are wanted, and what a stock plan by it brings.

*Planted.* Regions whose people have known tastes for scents and brands; products are pairs of both
that nobody has bought yet. The figure is how much of what the plain plan fails to sell, under the
true demand, the plan by genomes sells.

*New York* (Foursquare): genomes are the categories of the first four fifths of the check-ins,
whereabouts their cells; told is where the last fifth of each of the common categories goes, by the
20 cells in which most is going on. The figure is the share that is told wrongly (total variation),
over categories.

*Complete Journey* has stores and no geography: each store stands for a region of its own here. Told
is in which of the 60 largest a product is bought in the last quarter. The figure is the loss per
purchase (nats) beyond what past sales of all products say: below 0 is better than that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import h3.api.basic_int as h3
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from examples.adapters import places_nyc
from examples.datasets import DataSetMissing, find
from genome_server.regions.crowd import UNIT, Crowd, Whereabouts, whereabouts
from genome_server.regions.demand import Demand, Survey
from genome_server.regions.plan import Item, plan_stock
from genome_server.regions.stores import Reach, Shop, pull
from tests.bench.figures import Figures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BUY: Final = 2 * UNIT
_TASTES: Final = 4
_REGIONS: Final = 6
_STORES: Final = 60
_DOUBTS: Final = (0, 5, 20, 50, 200)
_CATEGORIES: Final = 30
# How much of a prediction is past sales, so that no store is impossible.
_FLOOR: Final = 0.02
_COLUMNS: Final = ("department", "product_category", "product_type", "brand", "manufacturer_id")


def run(figures: Figures) -> None:
    """Take the figures of this section."""
    planted(figures)
    speed(figures)
    for of_real in (new_york, journey):
        try:
            of_real(figures)
        except DataSetMissing as missing:
            print(f"  left out: {str(missing).splitlines()[0]}")


# -- planted


def far_apart(count: int, level: int = 5) -> list[int]:
    """Cells of which no two share a parent of resolution 3."""
    coarse = sorted(c for base in sorted(h3.get_res0_cells()) for c in h3.cell_to_children(base, 3))
    return [h3.cell_to_center_child(cell, level) for cell in coarse[: 7 * count : 7]]


def planted(figures: Figures, seeds: int = 10) -> None:
    """Of the sales that the plain plan misses: how much the plan by genomes makes."""
    found = [planted_once(seed) for seed in range(seeds)]
    ours, plain, best = (sum(column) for column in zip(*found, strict=True))
    figures.add("regions.planted.found_of_missed", (ours - plain) / (best - plain), "share")
    figures.add("regions.planted.plain_met", plain / best, "share")
    figures.add("regions.planted.genomes_met", ours / best, "share")


def planted_once(seed: int) -> tuple[float, float, float]:
    """Units sold under the true demand: by genomes, by the plain plan, and at best."""
    rng = np.random.default_rng(seed)
    cells = far_apart(_REGIONS)
    sizes = rng.integers(100, 500, _REGIONS)
    scents = rng.dirichlet([1.0] * _TASTES, _REGIONS)
    brands = rng.dirichlet([1.0] * _TASTES, _REGIONS)
    people = np.repeat(np.arange(_REGIONS), sizes)
    bought = rng.poisson(8, len(people))
    counts = np.hstack(
        [rng.multinomial(bought, scents[people]), rng.multinomial(bought, brands[people])]
    )
    names = [f"scent:{n}" for n in range(_TASTES)] + [f"brand:{n}" for n in range(_TASTES)]
    person, marker = np.nonzero(counts)
    where = Whereabouts(
        np.arange(len(people)), np.array(cells, np.uint64)[people], np.full(len(people), 256)
    )
    crowd = Crowd(len(people), names, person, marker, counts[person, marker] * _BUY, where)
    items = [
        Item(f"{s}-{b}", 100, [(f"scent:{s}", 256), (f"brand:{b}", 256)])
        for s in range(_TASTES)
        for b in range(_TASTES)
    ]
    shops = [Shop(f"s-{n}", cell) for n, cell in enumerate(cells)]
    plan = plan_stock(crowd, shops, items, resolution=5, reach_km=1.0)
    wants = (sizes[:, None, None] * scents[:, :, None] * brands[:, None, :]).reshape(_REGIONS, -1)
    truth = 100 * wants / wants.sum(axis=0)
    return (
        float(plan.sales(plan.units, truth).sum()),
        float(plan.sales(plan.plain, truth).sum()),
        float(truth.sum()),
    )


def speed(figures: Figures) -> None:
    """One demand over 200,000 people, and a plan of 200 stores and 100 products with limits."""
    rng = np.random.default_rng(1)
    people, each, markers = 200_000, 20, 2_000
    person = np.repeat(np.arange(people), each)
    marker = rng.integers(0, markers, people * each)
    keys = np.unique(person * markers + marker)
    cells = np.array(far_apart(500), np.uint64)
    where = Whereabouts(
        np.arange(people), cells[rng.integers(0, len(cells), people)], np.full(people, 256)
    )
    names = [f"m:{n}" for n in range(markers)]
    strength = rng.integers(1, 9_999, len(keys))
    crowd = Crowd(people, names, keys // markers, keys % markers, strength, where)
    survey = Survey(crowd, 5)
    started = time.perf_counter()
    for n in range(10):
        survey.demand([(names[8 * n + k], 256) for k in range(8)])
    figures.add("regions.demand_200k.ms", 100 * (time.perf_counter() - started), "ms")
    shops = [Shop(f"s-{n}", int(cell), capacity=110) for n, cell in enumerate(cells[:200])]
    items = [
        Item(f"p-{n}", 200, [(names[int(m)], 256) for m in rng.choice(markers, 8, replace=False)])
        for n in range(100)
    ]
    started = time.perf_counter()
    plan_stock(crowd, shops, items, resolution=5)
    figures.add("regions.plan_200_stores.s", time.perf_counter() - started, "s")


# -- New York


def new_york(figures: Figures) -> None:
    """Where the last fifth of each category goes."""
    table = places_nyc.read_checkins(find("foursquare_nyc")).sort_by("utc_date_time")
    spots = zip(table["lat"].to_pylist(), table["lon"].to_pylist(), strict=True)
    fine = np.array([h3.latlng_to_cell(*spot, 8) for spot in spots], np.uint64)
    user = np.unique(table["user"].to_numpy(), return_inverse=True)[1]
    kinds, kind = np.unique(table["category_name"].to_numpy().astype(str), return_inverse=True)
    cut = len(user) * 4 // 5
    keys, counts = np.unique(user[:cut] * len(kinds) + kind[:cut], return_counts=True)
    names = [f"category:{name.lower()}" for name in kinds]
    where = whereabouts(user[:cut].astype(np.int64), fine[:cut], np.ones(cut))
    crowd = Crowd(
        int(user.max()) + 1, names, keys // len(kinds), keys % len(kinds), counts * _BUY, where
    )
    # What is nobody's business is left out of the figures.
    known = [n for n in range(len(kinds)) if places_nyc.kind_of(kinds[n]) is not None]
    sizes = np.bincount(kind[:cut], minlength=len(kinds))
    common = sorted(known, key=lambda n: -int(sizes[n]))[:_CATEGORIES]
    coffee = int(np.flatnonzero(kinds == "Coffee Shop")[0])
    for level in (5, 6, 7):
        cells = np.array([h3.cell_to_parent(cell, level) for cell in fine.tolist()], np.uint64)
        busiest, visits = np.unique(cells[:cut], return_counts=True)
        top = busiest[np.argsort(-visits, kind="stable")[:20]]
        reach = Reach([Shop(str(n), int(cell)) for n, cell in enumerate(top)])
        survey = Survey(crowd, level)
        told = _told(survey, reach, names, cells, kind, cut, [*common, coffee])
        for n, what in enumerate(("genomes", "customers", "all_checkins", "own_history")):
            missed = float(np.mean([row[n] for row in told[:-1]]))
            figures.add(f"regions.new_york.r{level}.{what}.missed", missed, "share")
        figures.add(f"regions.new_york.r{level}.coffee.genomes.missed", told[-1][0], "share")
        figures.add(f"regions.new_york.r{level}.coffee.customers.missed", told[-1][1], "share")
        better = float(np.mean([row[0] < row[1] for row in told[:-1]]))
        figures.add(f"regions.new_york.r{level}.categories_better", better, "share")


def _told(
    survey: Survey,
    reach: Reach,
    names: Sequence[str],
    cells: npt.NDArray[np.uint64],
    kind: Ints,
    cut: int,
    asked: Sequence[int],
) -> list[list[float]]:
    """For each category, how much is told wrongly: by genomes, and by what it is compared with."""

    def at_stores(some: npt.NDArray[np.uint64]) -> Floats:
        found, counts = np.unique(some, return_counts=True)
        share = counts @ reach.shares(found)
        return np.asarray(share / share.sum())

    plain = pull(survey.everybody(), reach)
    assert plain is not None
    all_of_it = at_stores(cells[:cut])
    rows = []
    for n in asked:
        felt = pull(survey.demand([(names[n], 256)]), reach, plain.share)
        assert felt is not None
        truth = at_stores(cells[cut:][kind[cut:] == n])
        own = at_stores(cells[:cut][kind[:cut] == n])
        told = (felt.share, plain.share, all_of_it, own)
        rows.append([float(np.abs(share - truth).sum()) / 2 for share in told])
    return rows


# -- Complete Journey


def journey(figures: Figures) -> None:
    """In which store a product is bought next quarter."""
    folder = find("complete_journey")
    products = {
        row["product_id"]: [(f"{c}:{row[c]}", 256) for c in _COLUMNS if row[c] is not None]
        for row in pq.read_table(folder / "products.parquet").to_pylist()
    }
    rows = pq.read_table(folder / "transactions_sample.parquet").sort_by("transaction_timestamp")
    lines = [line for line in rows.to_pylist() if line["quantity"] > 0]
    counts: dict[int, int] = {}
    for line in lines:
        counts[line["store_id"]] = counts.get(line["store_id"], 0) + 1
    largest = sorted(counts, key=lambda store: (-counts[store], store))[:_STORES]
    number = {store: n for n, store in enumerate(largest)}
    lines = [line for line in lines if line["store_id"] in number]
    quarter = [int(str(line["transaction_timestamp"])[5:7]) for line in lines]
    for what, first, last in (("chosen", 6, 9), ("measured", 9, 12)):
        before = [line for line, month in zip(lines, quarter, strict=True) if month <= first]
        after = [line for line, month in zip(lines, quarter, strict=True) if first < month <= last]
        _next_quarter(figures, what, products, number, before, after)


def _next_quarter(
    figures: Figures,
    what: str,
    products: Mapping[str, list[tuple[str, int]]],
    number: Mapping[int, int],
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
) -> None:
    households = sorted({line["household_id"] for line in before})
    at = {household: n for n, household in enumerate(households)}
    cells = far_apart(_STORES)
    person = np.array([at[line["household_id"]] for line in before], np.int64)
    store = np.array([number[line["store_id"]] for line in before], np.int64)
    where = whereabouts(person, np.array(cells, np.uint64)[store], np.ones(len(before)))
    votes: dict[tuple[int, str], int] = {}
    for line in before:
        for name, _ in products.get(line["product_id"], ()):
            key = (at[line["household_id"]], name)
            votes[key] = votes.get(key, 0) + _BUY
    names = sorted({name for _, name in votes})
    index = {name: n for n, name in enumerate(names)}
    crowd = Crowd(
        len(households),
        names,
        np.array([p for p, _ in votes], np.int64),
        np.array([index[name] for _, name in votes], np.int64),
        np.array(list(votes.values()), np.int64),
        where,
    )
    sales = np.bincount(store, minlength=_STORES) / len(store)
    sold_before = {line["product_id"] for line in before}
    bought: dict[str, Ints] = {}
    for line in after:
        counts = bought.setdefault(line["product_id"], np.zeros(_STORES, np.int64))
        counts[number[line["store_id"]]] += 1
    # The definition itself is measured, without the threshold that privacy asks for.
    survey = Survey(crowd, 5, least=1)
    customers = _by_store(survey.everybody(), cells)[:, 0]
    losses: dict[str, list[tuple[float, int]]] = {}
    for product, counts in bought.items():
        felt = survey.demand(products.get(product, ()))
        parts = _by_store(felt, cells)
        holders = np.array([crowd.holders(name) for name in felt.weights], np.float64)
        weights = np.array(list(felt.weights.values()))
        told = {"customers": customers}
        for doubt in _DOUBTS:
            heard = holders / (holders + doubt)
            told[f"doubt_{doubt}"] = parts @ heard + (1.0 - weights @ heard) * customers
        for by, share in told.items():
            loss = _loss(share, sales, counts)
            losses.setdefault(by, []).append(loss)
            if product not in sold_before:
                losses.setdefault(f"new.{by}", []).append(loss)
    for by, found in losses.items():
        mean = sum(loss for loss, _ in found) / sum(count for _, count in found)
        figures.add(f"regions.journey.{what}.{by}.loss", mean, "nats")


def _by_store(felt: Demand, cells: Sequence[int]) -> Floats:
    """The parts of a demand, float64[stores, markers]."""
    parts = np.zeros((len(cells), max(len(felt.weights), 1)))
    place = {cell: n for n, cell in enumerate(cells)}
    for row, cell in enumerate(felt.cell.tolist()):
        parts[place[cell], : felt.parts.shape[1]] = felt.parts[row]
    return parts if felt.weights else np.zeros((len(cells), 0))


def _loss(share: Floats, sales: Floats, counts: Ints) -> tuple[float, int]:
    """The loss on these purchases beyond that of past sales, and how many they are."""
    told = (1.0 - _FLOOR) * share + _FLOOR * sales
    return float(counts @ (np.log(sales) - np.log(told))), int(counts.sum())
