"""The files of a stock plan: which stores there are, and what is to be spread over them.

They are read like what is imported, and kept nowhere. A plan of half a file would be no plan: the
first row that is wrong refuses all of it, by file, line, column and cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_sdk.engine.cells import parse_cell
from edge_sdk.errors import InvalidContext
from genome_server.errors import ImportRefused
from genome_server.genomes.dna import StoreDna
from genome_server.genomes.rows import built_schema
from genome_server.ingest.check import RowError, check
from genome_server.ingest.kind import Kind, kind_of
from genome_server.ingest.nearest import KnownIds
from genome_server.ingest.readers import read_rows
from genome_server.ingest.terms import CELL, CELL_ITEM, free, id_, number, text, whole
from genome_server.regions.plan import Item
from genome_server.regions.stores import Shop

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

MOST_UNITS: Final = 1_000_000_000

STORES: Final = kind_of(
    "stores",
    "Stores: where units can go.",
    ["id"],
    {
        "id": id_("Your id of the store.", "store-17"),
        "cell": {**CELL_ITEM, "description": "The H3 cell where it is.", "examples": [CELL]},
        "place": text("Instead of `cell`: the id of an imported place.", "mall-3", maxLength=128),
        "capacity": whole(
            "How many units it holds in all, what is in stock included; left out: no limit.",
            400, 0, MOST_UNITS,
        ),
        "size": number("How large it is beside the others; 1 if left out.", 2.5, 0.001, 1_000_000),
        "sales": number("What it sold in the past, for `--by sales`.", 8200, 0, 1e12),
        "stock": free(
            "What it has already: units by product. In CSV: `stock.p-espresso`, or a JSON text.",
            {"p-espresso": 12},
            additionalProperties={"type": "integer", "minimum": 0, "maximum": MOST_UNITS},
        ),
    },
    alternatives=(("cell",), ("place",)),
)  # fmt: skip

INVENTORY: Final = kind_of(
    "inventory",
    "Inventory: what is to be spread over stores.",
    ["product", "quantity"],
    {
        "product": id_("The product's id, as imported.", "p-espresso"),
        "quantity": whole("How many units of it.", 500, 0, MOST_UNITS),
    },
)


def read_shops(path: Path, store: Store) -> list[Shop]:
    """The stores of a file, in its order.

    Raises ImportRefused with what is wrong, UsageError for a format that is not known.
    """
    shops: dict[str, Shop] = {}
    for line, row in _rows(path, STORES):
        try:
            shop = _shop(row, store)
            if shop.id in shops:
                raise RowError("id", f"{shop.id!r} stands twice")
        except RowError as error:
            raise _refused(path, line, error) from error
        shops[shop.id] = shop
    if not shops:
        raise ImportRefused(f"{path}: there is no store in it")
    return list(shops.values())


def read_inventory(path: Path, store: Store) -> list[Item]:
    """The products of a file with their DNA, in its order. Raises like `read_shops`."""
    things = StoreDna(store, built_schema(store)).things
    items: dict[str, Item] = {}
    known = KnownIds("product", (name for name, _ in store.documents("product")))
    for line, row in _rows(path, INVENTORY):
        product = str(row["product"])
        document = store.document("product", product)
        if document is None:
            raise _refused(path, line, RowError("product", known.unknown(product)))
        if product in items:
            raise _refused(path, line, RowError("product", f"{product!r} stands twice"))
        items[product] = Item(product, row["quantity"], things.product(document))
    if not items:
        raise ImportRefused(f"{path}: there is no product in it")
    return list(items.values())


def _rows(path: Path, kind: Kind) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for row in read_rows(path, kind):
        try:
            if row.error is not None:
                raise row.error
            check(kind, row.values)
        except RowError as error:
            raise _refused(path, row.line, error) from error
        yield row.line, row.values


def _refused(path: Path, line: int, error: RowError) -> ImportRefused:
    return ImportRefused(f"{path}:{line}: {error}")


def _shop(row: Mapping[str, Any], store: Store) -> Shop:
    if ("cell" in row) == ("place" in row):
        raise RowError("cell", "give it or 'place', one of the two")
    return Shop(
        id=str(row["id"]),
        cell=_cell(row["cell"]) if "cell" in row else _middle(str(row["place"]), store),
        capacity=row.get("capacity"),
        size=float(row.get("size", 1.0)),
        sales=row.get("sales"),
        stock=dict(row.get("stock", {})),
    )


def _cell(written: str) -> int:
    try:
        return parse_cell(written)
    except InvalidContext as error:
        raise RowError("cell", str(error)) from error


def _middle(place: str, store: Store) -> int:
    """The cell of a place that says most surely that one is there: the middle of its area."""
    document = store.document("place", place)
    if document is None:
        known = KnownIds("place", (name for name, _ in store.documents("place")))
        raise RowError("place", known.unknown(place))
    cells = document["cells"]
    saliences = document.get("saliences_q8") or [256] * len(cells)
    return parse_cell(cells[max(range(len(cells)), key=saliences.__getitem__)])
