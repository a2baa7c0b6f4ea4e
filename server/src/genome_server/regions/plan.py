"""A stock plan: what the genomes near each store want, beside the plain proportional plan.

Free of I/O. The plain plan gives every product by one share for each store: its past sales, or how
many of the located people are near it. The plan by genomes begins with these shares and goes as far
from them as the product's markers are believed. Both keep the same limits and count the same stock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from genome_server.errors import Refused
from genome_server.regions.cells import Floats, Ints
from genome_server.regions.crowd import Crowd
from genome_server.regions.demand import LEAST, OTHER, Dna, Survey
from genome_server.regions.stock import NO_LIMIT, allocate, quotas
from genome_server.regions.stores import Pull, Reach, Shop, pull

By = Literal["customers", "sales"]
"""What the plain plan goes by."""
_LEAST_DRAWN: Final = 0.05


class Item(NamedTuple):
    """So many units of a product, and its DNA."""

    product: str
    units: int
    dna: Dna


class Draw(NamedTuple):
    """Units, whole or parts, that a marker draws to a store (below 0: keeps away), against the
    plain share."""

    marker: str
    units: float


@dataclass(frozen=True, eq=False)
class StockPlan:
    """Whole units by store and product: int64[stores, products].

    `units` are to be sent by the genomes, `plain` by the plain shares, `stock` is there already;
    `left_over` and `plain_left_over`, int64[products], found no room. `wanted` float64[stores,
    products] is what the genomes want of all that there will be; `plain_share` float64[stores] the
    plain plan's shares, against which `draws` are; `nobodys` float64[products] the share (0 to 1)
    that no store's reach has or that is withheld. `draws` says, by (store, product), which
    markers made the difference, the strongest first. `by_customers` are the products with which no
    genome shares a marker that may be shown: they go by the plain shares.
    """

    shops: tuple[Shop, ...]
    items: tuple[Item, ...]
    units: Ints
    plain: Ints
    left_over: Ints
    plain_left_over: Ints
    stock: Ints
    wanted: Floats
    plain_share: Floats
    by: By
    draws: Mapping[tuple[int, int], tuple[Draw, ...]]
    nobodys: Floats
    by_customers: tuple[str, ...]

    def sales(self, units: Ints, wanted: Floats | None = None) -> Floats:
        """Units of each product, float64[products], that are sold where so many are wanted.

        `units` int64 and `wanted` (default: the plan's) are of [stores, products].
        """
        sold: Floats = np.minimum(self.stock + units, self.wanted if wanted is None else wanted)
        return np.asarray(sold.sum(axis=0))


def plan_stock(
    crowd: Crowd,
    shops: Sequence[Shop],
    items: Sequence[Item],
    *,
    resolution: int,
    least: int = LEAST,
    reach_km: float | None = None,
    by: By = "customers",
) -> StockPlan:
    """Spread the items over the shops.

    Raises Refused where the plain shares cannot be worked out: nobody is near, or no sales are
    given.
    """
    reach = Reach(shops, reach_km)
    survey = Survey(crowd, resolution, least)
    plain = _plain_share(survey, shops, reach, by, least)
    stock = np.array([[shop.stock.get(i.product, 0) for i in items] for shop in shops], np.int64)
    stock = stock.reshape(len(shops), len(items))
    units = np.array([item.units for item in items], np.int64)
    supply = units + stock.sum(axis=0)
    room = np.array([_room(shop) for shop in shops], np.int64)
    share = np.tile(plain[:, None], (1, len(items)))
    nobodys = np.zeros(len(items))
    draws: dict[tuple[int, int], tuple[Draw, ...]] = {}
    alone = []
    for at, item in enumerate(items):
        felt = survey.demand(item.dna)
        pulled = pull(felt, reach, plain)
        if pulled is None:
            alone.append(item.product)
            continue
        share[:, at], nobodys[at] = pulled.share, pulled.nobodys
        names = [*felt.weights, OTHER]
        weights = [*(w * h for w, h in zip(felt.weights.values(), felt.heard, strict=True)), 0.0]
        for store in range(len(shops)):
            draws[store, at] = _draws(
                pulled, store, names, weights, float(plain[store]), int(supply[at])
            )
    wanted = share * supply
    found, left = allocate(quotas(share, supply), units, stock, room)
    even = np.tile(plain[:, None], (1, len(items)))
    plainly, plainly_left = allocate(quotas(even, supply), units, stock, room)
    return StockPlan(
        tuple(shops), tuple(items), found, plainly, left, plainly_left, stock, wanted, plain, by,
        draws, nobodys, tuple(alone),
    )  # fmt: skip


def _plain_share(survey: Survey, shops: Sequence[Shop], reach: Reach, by: By, least: int) -> Floats:
    if by == "sales":
        sales = np.array([shop.sales or 0.0 for shop in shops], np.float64)
        if sales.sum() <= 0.0:
            raise Refused("no store has past sales: give a column 'sales', or compare by customers")
        return np.asarray(sales / sales.sum())
    pulled = pull(survey.everybody(), reach)
    if pulled is None:
        raise Refused(
            f"nowhere within reach of a store are there {least} customers whose place is known; "
            "see: genome-server genomes regions"
        )
    return pulled.share


def _room(shop: Shop) -> int:
    if shop.capacity is None:
        return NO_LIMIT
    return max(0, shop.capacity - sum(shop.stock.values()))


def _draws(
    pulled: Pull,
    store: int,
    names: Sequence[str],
    weights: Sequence[float],
    plain: float,
    supply: int,
) -> tuple[Draw, ...]:
    """Of each marker, as far as it is believed: what it gives this store, less its plain part.

    Together they are the difference between what is wanted and the plain share. Where a marker may
    not be told of everywhere, its plain part counts with it all the same, and the others make up.
    """
    found = [
        Draw(name, supply * (float(part) - weight * plain))
        for name, weight, part in zip(names, weights, pulled.parts[store].tolist(), strict=True)
    ]
    kept = [draw for draw in found if abs(draw.units) >= _LEAST_DRAWN]
    return tuple(sorted(kept, key=lambda draw: (-abs(draw.units), draw.marker)))
