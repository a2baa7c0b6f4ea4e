"""Units over stores: conserved, within capacities, the cheapest plan, and worth it."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genome_server.errors import Refused
from genome_server.regions.cells import kilometres, middles
from genome_server.regions.demand import OTHER, Survey
from genome_server.regions.plan import Item, StockPlan, plan_stock
from genome_server.regions.stock import NO_LIMIT, SCALE, allocate, quotas
from genome_server.regions.stores import Reach, Shop, pull
from tests.unit.regions_town import cells_around, crowd_of


@st.composite
def problems(draw: st.DrawFn, most: int = 4) -> tuple[np.ndarray, ...]:
    """Quotas, units, stock and room of a few stores and products."""
    stores, products = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    units = np.array(draw(st.lists(st.integers(0, most), min_size=products, max_size=products)))
    cell = st.integers(0, 3)
    stock = np.array([[draw(cell) for _ in range(products)] for _ in range(stores)], np.int64)
    weights = np.array(
        [[draw(st.integers(0, 7)) for _ in range(products)] for _ in range(stores)], np.float64
    )
    sums = weights.sum(axis=0)
    share = np.where(sums > 0, weights / np.where(sums > 0, sums, 1), 1 / stores)
    room = np.array(
        draw(st.lists(st.sampled_from([NO_LIMIT, 0, 1, 2, 3, 9]), min_size=stores, max_size=stores))
    )
    return quotas(share, units + stock.sum(axis=0)), units, stock, room


def cost(plan: np.ndarray, quota: np.ndarray, stock: np.ndarray) -> int:
    """The objective, in 2^-40."""
    return sum(int(d) ** 2 for d in ((plan + stock) * SCALE - quota).ravel())


def every_split(units: int, stores: int) -> list[tuple[int, ...]]:
    """All ways to put at most so many units into stores."""
    return [s for s in itertools.product(range(units + 1), repeat=stores) if sum(s) <= units]


@settings(max_examples=150, deadline=None)
@given(problems())
def test_no_plan_is_cheaper(problem: tuple[np.ndarray, ...]) -> None:
    quota, units, stock, room = problem
    plan, left = allocate(quota, units, stock, room)
    stores = len(room)
    splits = [every_split(int(count), stores) for count in units]
    best = None
    for chosen in itertools.product(*splits):
        tried = np.array(chosen, np.int64).T.reshape(stores, len(units))
        if any(r != NO_LIMIT and load > r for r, load in zip(room, tried.sum(axis=1), strict=True)):
            continue
        key = (int(units.sum() - tried.sum()), cost(tried, quota, stock))
        best = key if best is None else min(best, key)
    assert (int(left.sum()), cost(plan, quota, stock)) == best


@settings(deadline=None)
@given(problems(most=400))
def test_units_are_conserved_and_capacities_kept(
    problem: tuple[np.ndarray, ...],
) -> None:
    quota, units, stock, room = problem
    plan, left = allocate(quota, units, stock, room)
    assert np.all(plan >= 0)
    assert np.all(left >= 0)
    assert (plan.sum(axis=0) + left).tolist() == units.tolist()
    limited = room != NO_LIMIT
    assert np.all(plan.sum(axis=1)[limited] <= room[limited])
    if left.any():
        assert np.all(limited)
        assert plan.sum(axis=1).tolist() == room.tolist()  # nothing is left over beside empty room


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.integers(0, 300))
def test_without_stock_and_limits_it_is_largest_remainder(weights: list[int], units: int) -> None:
    share = np.array(weights, np.float64)[:, None] / sum(weights)
    plan, left = allocate(
        quotas(share, np.array([units])),
        np.array([units]),
        np.zeros((len(weights), 1), np.int64),
        np.full(len(weights), NO_LIMIT),
    )
    exact = [Fraction(w * units, sum(weights)) for w in weights]
    assert int(left[0]) == 0
    assert all(math.floor(q) <= x <= math.ceil(q) for q, x in zip(exact, plan[:, 0], strict=True))
    up = [q - math.floor(q) for q, x in zip(exact, plan[:, 0], strict=True) if x > math.floor(q)]
    stay = [q - math.floor(q) for q, x in zip(exact, plan[:, 0], strict=True) if x == math.floor(q)]
    # Quotas are rounded to 2^-20.
    assert not up or not stay or min(up) >= max(stay) - Fraction(2, SCALE)


def test_a_large_plan_keeps_its_limits() -> None:
    rng = np.random.default_rng(5)
    share = rng.dirichlet([0.5] * 40, 60).T
    units = rng.integers(20, 80, 60)
    room = np.full(40, int(units.sum() * 1.02) // 40)
    stock = np.zeros((40, 60), np.int64)
    quota = quotas(share, units)
    plan, left = allocate(quota, units, stock, room)
    assert left.sum() == 0
    assert plan.sum(axis=0).tolist() == units.tolist()
    assert np.all(plan.sum(axis=1) <= room)
    # No swap of two units between two stores would be cheaper, nor a move to one that has room.
    more = 2 * (plan * SCALE - quota) + SCALE
    back = np.where(plan > 0, more - 2 * SCALE, -(1 << 60))
    for a, b in itertools.permutations(range(40), 2):
        there = (more[b] - back[a]).min()
        assert there + (more[a] - back[b]).min() >= 0
        assert plan[b].sum() == room[b] or there >= 0


# -- reach


def test_demand_goes_to_stores_by_size_and_distance() -> None:
    a, b, c = cells_around(3, 6, apart=5)
    shops = [Shop("near", a), Shop("far", b), Shop("large", b, size=3.0)]
    shares = Reach(shops).shares(np.array([a, c], np.uint64))
    assert shares.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
    km = kilometres(middles(np.array([c], np.uint64)), middles(np.array([a, b], np.uint64)))[0]
    pulls = [1 / km[0] ** 2, 1 / km[1] ** 2, 3 / km[1] ** 2]
    assert shares[1].tolist() == pytest.approx([p / sum(pulls) for p in pulls])
    assert shares[0, 0] > 0.8


def test_nobody_goes_beyond_reach() -> None:
    a, b = cells_around(2, 6, apart=9)
    shares = Reach([Shop("a", a)], reach_km=5.0).shares(np.array([a, b], np.uint64))
    assert shares.tolist() == [[1.0], [0.0]]


def test_what_may_not_be_told_apart_goes_to_the_others() -> None:
    (cell,) = cells_around(1, 5)
    genomes = [{"a:1": 1.0}] * 30 + [{"b:1": 5.0}] * 3
    survey = Survey(crowd_of(genomes, [{cell: 1.0}] * 33), 5)
    found = survey.demand([("a:1", 256), ("b:1", 256)])
    felt = pull(found, Reach([Shop("only", cell)]))
    assert felt is not None
    assert felt.share.tolist() == [1.0]
    assert felt.parts[0].tolist() == pytest.approx([0.0, 0.0, 1.0])


# -- plans


def planted(seed: int) -> tuple[list[int], np.ndarray, np.ndarray, list[list[tuple[str, int]]]]:
    """Cells, people in each, tastes of each over (scent, brand) and products of two markers."""
    rng = np.random.default_rng(seed)
    cells = cells_around(6, 5)
    sizes = rng.integers(80, 300, 6)
    tastes = np.stack([rng.dirichlet([0.5] * 4, 6), rng.dirichlet([0.5] * 4, 6)], axis=1)
    products = [[(f"scent:{s}", 256), (f"brand:{b}", 256)] for s in range(4) for b in range(4)]
    return cells, sizes, tastes, products


def made_plan(seed: int, **more: object) -> tuple[StockPlan, np.ndarray]:
    """A plan for products that nobody has bought yet as they are, and what is truly wanted."""
    cells, sizes, tastes, products = planted(seed)
    rng = np.random.default_rng(seed + 1)
    genomes, places = [], []
    for cell, size, (scent, brand) in zip(cells, sizes, tastes, strict=True):
        for _ in range(size):
            mine: dict[str, float] = {}
            for _ in range(rng.poisson(8)):
                s, b = rng.choice(4, p=scent), rng.choice(4, p=brand)
                for name in (f"scent:{s}", f"brand:{b}"):
                    mine[name] = mine.get(name, 0.0) + 2.0
            genomes.append(mine)
            places.append({cell: 1.0})
    items = [Item(f"p-{at}", 120, dna) for at, dna in enumerate(products)]
    shops = [Shop(f"s-{at}", cell) for at, cell in enumerate(cells)]
    crowd = crowd_of(genomes, places)
    plan = plan_stock(crowd, shops, items, resolution=5, reach_km=1.0, **more)  # type: ignore[arg-type]
    wants = sizes[:, None, None] * tastes[:, 0, :, None] * tastes[:, 1, None, :]
    wants = wants.reshape(len(cells), -1)
    return plan, 120 * wants / wants.sum(axis=0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_plan_sells_more_than_the_plain_one_under_the_true_demand(seed: int) -> None:
    plan, truth = made_plan(seed)
    ours, plain = plan.sales(plan.units, truth).sum(), plan.sales(plan.plain, truth).sum()
    best = truth.sum()
    assert plan.units.sum(axis=0).tolist() == plan.plain.sum(axis=0).tolist() == [120] * 16
    assert ours > plain
    # Of what the plain plan misses, the genomes find more than a third.
    assert (ours - plain) / (best - plain) > 1 / 3


def test_what_draws_the_units_adds_up() -> None:
    plan, _ = made_plan(1)
    for (store, at), draws in plan.draws.items():
        differs = float(plan.wanted[store, at]) - 120 * float(plan.plain_share[store])
        assert sum(draw.units for draw in draws) == pytest.approx(differs, abs=0.2)
        assert {draw.marker for draw in draws} <= {*dict(plan.items[at].dna), OTHER}


def test_a_product_that_no_genome_speaks_of_goes_by_customers() -> None:
    cells = cells_around(2, 5)
    crowd = crowd_of([{"a:1": 1.0}] * 40, [{cells[0]: 1.0}] * 30 + [{cells[1]: 1.0}] * 10)
    shops = [Shop("one", cells[0]), Shop("two", cells[1])]
    plan = plan_stock(crowd, shops, [Item("new", 8, [("z:1", 256)])], resolution=5, reach_km=1.0)
    assert plan.by_customers == ("new",)
    assert plan.units.tolist() == plan.plain.tolist() == [[6], [2]]


def test_the_plain_plan_by_past_sales() -> None:
    cells = cells_around(2, 5)
    crowd = crowd_of([{"a:1": 1.0}] * 40, [{cells[0]: 1.0}] * 20 + [{cells[1]: 1.0}] * 20)
    items = [Item("p", 8, [("a:1", 256)])]
    shops = [Shop("one", cells[0], sales=3.0), Shop("two", cells[1], sales=1.0)]
    plan = plan_stock(crowd, shops, items, resolution=5, reach_km=1.0, by="sales")
    assert plan.plain.tolist() == [[6], [2]]
    # Forty people have the marker: it is believed 40 / 60, and says a half; the rest says 3/4.
    assert plan.wanted[:, 0].tolist() == pytest.approx([8 * 7 / 12, 8 * 5 / 12])
    assert plan.units.tolist() == [[5], [3]]
    with pytest.raises(Refused, match="no store has past sales"):
        plan_stock(crowd, [Shop("one", cells[0])], items, resolution=5, by="sales")


def test_stock_that_is_there_counts() -> None:
    cells = cells_around(2, 5)
    crowd = crowd_of([{"a:1": 1.0}] * 40, [{cells[0]: 1.0}] * 20 + [{cells[1]: 1.0}] * 20)
    shops = [Shop("one", cells[0], capacity=10, stock={"p": 6, "q": 2}), Shop("two", cells[1])]
    plan = plan_stock(crowd, shops, [Item("p", 10, [("a:1", 256)])], resolution=5, reach_km=1.0)
    assert plan.units.tolist() == [[2], [8]]
    assert plan.stock.tolist() == [[6], [0]]
    full = plan_stock(crowd, shops, [Item("p", 30, [("a:1", 256)])], resolution=5, reach_km=1.0)
    assert full.units.tolist() == [[2], [28]]  # eight of ten are there already


def test_nobody_near_is_refused() -> None:
    cells = cells_around(2, 5)
    crowd = crowd_of([{"a:1": 1.0}] * 40, [{cells[0]: 1.0}] * 40)
    far = Shop("far", h3.latlng_to_cell(48.2, 16.4, 7))
    with pytest.raises(Refused, match="nowhere within reach of a store are there 10 customers"):
        plan_stock(crowd, [far], [Item("p", 1, [("a:1", 256)])], resolution=5, reach_km=5.0)
