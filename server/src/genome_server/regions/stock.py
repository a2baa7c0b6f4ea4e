"""Spreading whole units over stores. Free of I/O.

Objective. Of product p there are U(p) units to spread, and I(s, p) lie in store s already. The
store's quota is its share of the demand, of all there will be: q(s, p) = share(s, p) · (U(p) +
Σ I(·, p)). Sought are whole numbers x(s, p) ≥ 0 that minimise

    Σ (I(s, p) + x(s, p) − q(s, p))²      with Σ over s of x(s, p) = U(p)
                                          and Σ over p of x(s, p) ≤ room(s) for stores with a limit.

Without stock and limits this is the method of largest remainders. Units for which there is no room
anywhere are left over; as few as can be. Of equal plans, the one that gives to the store that
stands first.

How. Quotas are whole numbers of 2^-20 units. Without limits each product is on its own: the next
unit always goes where its cost is lowest, and since costs grow with every unit, that is found by
bisecting for the last cost that is paid. Then units move out of stores that are too full, each
along the cheapest chain of moves (a unit of one product from here to there, a unit of another one
from there onwards): successive shortest paths, which keep the plan a cheapest one at every step.
Where there is too little room in all, what is too dear at one price for all products begins there.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from genome_server.regions.cells import Floats, Ints

SCALE: Final = 1 << 20
NO_LIMIT: Final = -1
_LEFT_OVER: Final = 1 << 52
_FAR: Final = 1 << 60


def quotas(share: Floats, supply: Ints) -> Ints:
    """Quotas in 2^-20 units: share float64[stores, products], supply int64[products] in units."""
    scaled: Ints = np.rint(share * supply[None, :] * SCALE).astype(np.int64)
    return scaled


def allocate(quota: Ints, units: Ints, stock: Ints, room: Ints) -> tuple[Ints, Ints]:
    """The cheapest plan: (x int64[stores, products], left over int64[products]).

    `quota` and `stock` are int64[stores, products], the former in 2^-20 units; `units`
    int64[products]; `room` int64[stores], NO_LIMIT where there is none.
    """
    limited = room != NO_LIMIT
    kept = np.zeros(len(units), np.int64)
    if limited.all():
        kept = _kept(quota, units, stock, int(units.sum() - room.sum()))
    plan = _unlimited(quota, units - kept, stock)
    if np.any(plan.sum(axis=1)[limited] > room[limited]):
        return _Chains(plan, kept, quota, stock, room).solve()
    return plan, kept


def _kept(quota: Ints, units: Ints, stock: Ints, most: int) -> Ints:
    """Units of each product, at most so many in all, that are too dear for any store.

    They are what costs at least some price, one for all products: so it is no gain to have other
    ones left over instead.
    """
    if most <= 0 or not len(quota):
        return np.zeros(len(units), np.int64)
    low = int(np.min(2 * stock * SCALE - 2 * quota))
    high = int(np.max(2 * (stock + units) * SCALE - 2 * quota)) + 2 * SCALE
    while high - low > 1:
        middle = (low + high) >> 1
        few = _too_dear(middle, quota, units, stock).sum() <= most
        low, high = (low, middle) if few else (middle, high)
    return _too_dear(high, quota, units, stock)


def _too_dear(price: int, quota: Ints, units: Ints, stock: Ints) -> Ints:
    cost = np.full(len(units), price, np.int64)
    return np.asarray(np.maximum(units - _below(cost, quota, stock).sum(axis=0), 0))


def _unlimited(quota: Ints, units: Ints, stock: Ints) -> Ints:
    """Each product on its own."""
    if not len(quota):
        return np.zeros_like(quota)
    # The k-th unit in a store costs 2·k·SCALE − 2·quota + SCALE, k counted from 0.
    low = np.min(2 * stock * SCALE - 2 * quota + SCALE, axis=0)
    high = np.max(2 * (stock + units) * SCALE - 2 * quota + SCALE, axis=0) + 1
    while np.any(high - low > 1):
        middle = (low + high) >> 1
        enough = _below(middle, quota, stock).sum(axis=0) > units
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    # Everything that costs less than `low` is paid; of what costs just that, the first stores get.
    plan = _below(low, quota, stock)
    next_cost = 2 * (stock + plan) * SCALE - 2 * quota + SCALE
    ready = next_cost == low
    left = units - plan.sum(axis=0)
    plan += ready & (np.cumsum(ready, axis=0) <= left)
    return plan


def _below(cost: Ints, quota: Ints, stock: Ints) -> Ints:
    """How many units each store gets where all that cost less are bought."""
    first = -((-(cost[None, :] + 2 * quota - SCALE)) // (2 * SCALE))
    counts: Ints = np.maximum(first - stock, 0)
    return counts


class _Chains:
    """Moves units out of stores that are too full, one by one."""

    def __init__(self, plan: Ints, kept: Ints, quota: Ints, stock: Ints, room: Ints) -> None:
        stores, products = plan.shape
        # The last row is the depot: what is left over lies there, at a price that is too high.
        self._plan = np.vstack((plan, kept[None, :]))
        self._base = np.vstack((2 * stock * SCALE - 2 * quota, np.zeros((1, products), np.int64)))
        self._room = np.append(np.where(room == NO_LIMIT, _FAR, room), _FAR)
        self._load = self._plan.sum(axis=1)
        self._cost = np.full((stores + 1, stores + 1), _FAR, np.int64)
        self._product = np.zeros((stores + 1, stores + 1), np.int64)
        self._gain = np.empty_like(self._plan)
        self._loss = np.empty_like(self._plan)
        for store in range(stores + 1):
            self._price(store)
        for store in range(stores + 1):
            self._refresh(store)

    def solve(self) -> tuple[Ints, Ints]:
        """The cheapest plan in which every store has room, and what is left over."""
        while True:
            over = np.flatnonzero(self._load > self._room)
            if not len(over):
                return self._plan[:-1], self._plan[-1]
            self._move(self._cheapest(over))

    def _price(self, store: int) -> None:
        """What one more unit of each product costs in a store, and what one less gives back."""
        plan, depot = self._plan[store], store == len(self._plan) - 1
        more = self._base[store] + (2 * plan + 1) * SCALE
        back = more - 2 * SCALE
        if depot:
            more = back = np.full_like(plan, _LEFT_OVER)
        self._gain[store] = more
        self._loss[store] = np.where(plan > 0, back, -_FAR)

    def _refresh(self, store: int) -> None:
        """The cheapest product to move from this store to each other, and from each to it."""
        out = self._gain - self._loss[store]
        best = out.argmin(axis=1)
        self._product[store] = best
        self._cost[store] = _possible(out[np.arange(len(out)), best])
        into = self._gain[store] - self._loss
        best = into.argmin(axis=1)
        self._product[:, store] = best
        self._cost[:, store] = _possible(into[np.arange(len(into)), best])
        self._cost[store, store] = _FAR

    def _cheapest(self, over: Ints) -> list[int]:
        """The cheapest chain of stores from one that is too full to one that has room."""
        count = len(self._load)
        distance = np.full(count, _FAR, np.int64)
        distance[over] = 0
        before = np.full(count, -1, np.int64)
        for _ in range(count):
            through = _possible(_possible(distance)[:, None] + self._cost)
            best = through.argmin(axis=0)
            value = through[best, np.arange(count)]
            better = value < distance
            if not better.any():
                break
            distance[better] = value[better]
            before[better] = best[better]
        free = np.flatnonzero(self._load < self._room)
        chain = [int(free[distance[free].argmin()])]
        while before[chain[0]] >= 0:
            chain.insert(0, int(before[chain[0]]))
        return chain

    def _move(self, chain: list[int]) -> None:
        for here, there in pairwise(chain):
            product = self._product[here, there]
            self._plan[here, product] -= 1
            self._plan[there, product] += 1
        self._load[chain[0]] -= 1
        self._load[chain[-1]] += 1
        for store in chain:
            self._price(store)
        for store in chain:
            self._refresh(store)


def _possible(cost: Ints) -> Ints:
    """Costs with every one that stands for "cannot be" at _FAR, so that no sum looks cheaper."""
    return np.where(cost > _FAR >> 1, _FAR, cost)
