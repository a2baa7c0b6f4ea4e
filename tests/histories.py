"""Real data sets as histories of interactions, for whoever aggregates them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from edge_sdk.dna.imprint import explode
from edge_sdk.dna.markers import Vocabulary, marker
from edge_sdk.dna.schema import DnaSchema, default_schema
from examples.datasets import DataSetMissing, find
from tests.aggregations import Dna, Done, History

_ATTRIBUTES = {
    "manufacturer_id": "brand",
    "department": "category",
    "brand": "label",
    "product_category": "category",
    "product_type": "type",
    "package_size": "size",
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def complete_journey() -> History:
    """What the households of a grocer bought, and the coupons that they redeemed."""
    folder = _folder("complete_journey")
    bought = pq.read_table(folder / "transactions_sample.parquet")
    products = pq.read_table(folder / "products.parquet")
    products = products.filter(pc.is_in(products["product_id"], bought["product_id"]))
    dna: dict[Hashable, Dna] = {
        row["product_id"]: _dna((ns, row[name]) for name, ns in _ATTRIBUTES.items() if row[name])
        for row in products.to_pylist()
    }
    lines = bought.to_pylist()
    stamps = [_hour(row["transaction_timestamp"]) for row in lines]
    landmark = sorted(stamps)[len(stamps) // 2]  # half of what happened lies before it
    done = [
        Done(
            _subject(row["household_id"]),
            row["product_id"],
            "buy" if row["coupon_disc"] == 0 else "redeem",
            hour - landmark,
            round(row["sales_value"] * 1_000_000),
            _subject(f"{row['basket_id']} {row['product_id']}"),
        )
        for row, hour in zip(lines, stamps, strict=True)
        if dna.get(row["product_id"])
    ]
    return _history(default_schema(landmark), dna, done)


def starbucks_rewards() -> History:
    """Which offers the members of a programme received, viewed and completed."""
    folder = _folder("starbucks_rewards")
    with (folder / "portfolio.jsonl").open(encoding="utf-8") as file:
        offers = [json.loads(line) for line in file]
    dna: dict[Hashable, Dna] = {
        offer["id"]: [
            *_dna([("type", offer["offer_type"]), ("difficulty", offer["difficulty"])]),
            *((marker("channel", channel), 128) for channel in offer["channels"]),
        ]
        for offer in offers
    }
    kinds = {"offer received": "browse", "offer viewed": "view", "offer completed": "redeem"}
    events = pq.read_table(folder / "transcript.parquet").to_pylist()
    landmark = 490_000
    done = [
        Done(
            _subject(row["person"]),
            row["offer_id"],
            kinds[row["event"]],
            row["time"] - 300,
            round((row["reward"] or 0) * 1_000_000),
        )
        for row in events
        if row["event"] in kinds
    ]
    return _history(default_schema(landmark), dna, done)


def _folder(name: str) -> Any:
    try:
        return find(name)
    except DataSetMissing as missing:
        pytest.skip(str(missing))


def _history(schema: DnaSchema, dna: Mapping[Hashable, Dna], done: list[Done]) -> History:
    used = dict.fromkeys((one.thing, one.kind) for one in done)
    names = [name for thing, kind in used for name, *_ in explode(schema, kind, dna[thing])]
    return History(schema, Vocabulary(bytes(16), []).extend(names), dna, done)


def _dna(facts: Iterable[tuple[str, Any]]) -> list[tuple[str, int]]:
    return [(marker(namespace, str(value)), 256) for namespace, value in facts]


def _hour(stamp: str) -> int:
    moment = dt.datetime.fromisoformat(stamp).replace(tzinfo=dt.UTC)
    return (moment - _EPOCH) // dt.timedelta(hours=1)


def _subject(name: object) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=16).digest()
