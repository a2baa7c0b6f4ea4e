"""`genome-server genomes stock`: spread an inventory over stores by the genomes near them."""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from genome_server.cli.genomes_regions import about, crowd_options, gathered
from genome_server.cli.output import Console, common_options

if TYPE_CHECKING:
    from genome_server.regions.gather import Where
    from genome_server.regions.plan import By, StockPlan

_SHOWN: Final = 40
_DRAWN: Final = 3
_COLUMNS: Final = ("store", "product", "stock", "units", "plain", "wanted", "drawn_by")


@click.command("stock")
@click.option(
    "--stores",
    "stores_path",
    required=True,
    type=click.Path(path_type=Path),
    help="Stores: id, cell or place; capacity, size, sales, stock.",
)
@click.option(
    "--inventory",
    "inventory_path",
    required=True,
    type=click.Path(path_type=Path),
    help="What is to be spread: product, quantity.",
)
@crowd_options
@click.option(
    "--by",
    type=click.Choice(["customers", "sales"]),
    default="customers",
    show_default=True,
    help="What the plain plan, to compare with, goes by.",
)
@click.option(
    "--reach-km",
    type=click.FloatRange(0, min_open=True),
    help="Nobody goes to a store that is farther away.  [default: everybody goes somewhere]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the plan as CSV.",
)
@common_options
def command(
    console: Console,
    stores_path: Path,
    inventory_path: Path,
    resolution: int,
    least: int,
    days: int,
    where: Where,
    by: By,
    reach_km: float | None,
    out: Path | None,
) -> None:
    """Spread whole units over stores, so that they meet the genomes near each.

    What people in a region want is sought in the stores around, by their size
    and the square of the distance. Each store's stock comes as near as whole
    units, capacities and what is there already allow to its share of what is
    wanted. Beside it stands the plain plan, which gives every product alike.

    \b
    genome-server genomes stock --stores stores.csv --inventory units.csv --out plan.csv
    """
    from genome_server.regions.files import read_inventory, read_shops
    from genome_server.regions.plan import plan_stock

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        shops = read_shops(stores_path, store)
        items = read_inventory(inventory_path, store)
        crowd, counted = gathered(console, tenant, store, days, where)
    plan = plan_stock(
        crowd,
        shops,
        items,
        resolution=resolution,
        least=least,
        reach_km=reach_km,
        by=by,
    )
    rows = _rows(plan)
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows({**row, "drawn_by": _spoken(row["drawn_by"], 9)} for row in rows)
    summary, stores = _summary(plan), _stores(plan)
    console.result(
        {
            "resolution": resolution,
            "least": least,
            "by": by,
            **about(counted, crowd),
            "plan": rows,
            "stores": stores,
            "products": summary,
            "out": str(out) if out else None,
        },
        lambda: _print(console, plan, rows, stores, summary, out),
    )


def _rows(plan: StockPlan) -> list[dict[str, Any]]:
    """One row for each store and product."""
    return [
        {
            "store": shop.id,
            "product": item.product,
            "stock": int(plan.stock[store, at]),
            "units": int(plan.units[store, at]),
            "plain": int(plan.plain[store, at]),
            "wanted": round(float(plan.wanted[store, at]), 2),
            "drawn_by": [
                {"marker": draw.marker, "units": round(draw.units, 2)}
                for draw in plan.draws.get((store, at), ())
            ],
        }
        for store, shop in enumerate(plan.shops)
        for at, item in enumerate(plan.items)
    ]


def _stores(plan: StockPlan) -> list[dict[str, Any]]:
    """One row for each store: all units, and which markers drew them over all products."""
    rows = []
    for store, shop in enumerate(plan.shops):
        drawn: dict[str, float] = {}
        for at in range(len(plan.items)):
            for draw in plan.draws.get((store, at), ()):
                drawn[draw.marker] = drawn.get(draw.marker, 0.0) + draw.units
        strongest = sorted(drawn.items(), key=lambda pair: (-abs(pair[1]), pair[0]))
        rows.append(
            {
                "store": shop.id,
                "capacity": shop.capacity,
                "stock": sum(shop.stock.values()),
                "units": int(plan.units[store].sum()),
                "plain": int(plan.plain[store].sum()),
                "drawn_by": [
                    {"marker": marker, "units": round(units, 2)} for marker, units in strongest
                ],
            }
        )
    return rows


def _summary(plan: StockPlan) -> list[dict[str, Any]]:
    """One row for each product: what either plan would sell if all is wanted as the genomes say."""
    ours, plain = plan.sales(plan.units), plan.sales(plan.plain)
    return [
        {
            "product": item.product,
            "quantity": item.units,
            "left_over": int(plan.left_over[at]),
            "plain_left_over": int(plan.plain_left_over[at]),
            "met": round(float(ours[at]), 2),
            "plain_met": round(float(plain[at]), 2),
            "by_customers": item.product in plan.by_customers,
            "out_of_reach_or_withheld": float(plan.nobodys[at]),
        }
        for at, item in enumerate(plan.items)
    ]


def _spoken(draws: list[dict[str, Any]], most: int) -> str:
    return ", ".join(f"{one['units']:+.1f} {one['marker']}" for one in draws[:most])


def _told(rows: list[dict[str, Any]], *names: str) -> list[tuple[str, ...]]:
    """Rows of a table: what they are of, their units, and what drew them."""
    return [
        (
            *(row[name] for name in names),
            *(f"{row[name]:,}" for name in ("stock", "units", "plain")),
            _spoken(row["drawn_by"], _DRAWN),
        )
        for row in rows[:_SHOWN]
    ]


def _print(
    console: Console,
    plan: StockPlan,
    rows: list[dict[str, Any]],
    stores: list[dict[str, Any]],
    summary: list[dict[str, Any]],
    out: Path | None,
) -> None:
    plain = "past sales" if plan.by == "sales" else "customers near"
    units = ("in stock", "units", f"plain ({plain})")
    console.table(("store", *units, "drawn by, over all products"), _told(stores, "store"))
    console.print()
    console.table(("store", "product", *units, "drawn by"), _told(rows, "store", "product"))
    if len(rows) > _SHOWN:
        console.print(f"and {len(rows) - _SHOWN:,} more rows; see --out or --json")
    console.print()
    console.table(
        ("product", "units", "left over", "met", "met by the plain plan"),
        [
            (
                one["product"],
                f"{one['quantity']:,}",
                f"{one['left_over']:,}",
                f"{one['met']:,.1f}",
                f"{one['plain_met']:,.1f}",
            )
            for one in summary
        ],
    )
    console.print("met: units that are where they are wanted, if all is wanted as the genomes say")
    for product in plan.by_customers:
        console.print(
            f"{product}: no genome that may be shown shares a marker with it; "
            "it goes by the plain shares"
        )
    if out is not None:
        console.print(f"wrote {out}")
