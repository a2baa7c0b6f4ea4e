"""The sets on which foreseeing is measured, as columns: who, when, what.

Times are local where the set says so. Events stand in order of time and, within an hour, as the
set has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from examples.adapters import places_nyc
from examples.datasets import find
from genome_server.foresee.columns import Events, Ints, codes, events_of
from genome_server.foresee.moments import moments_of, states_of, visits_of

HOUR_MS: Final = 3_600_000
RECEIVED: Final = "offer received"

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Set:
    """One set: its events, what their symbols are called, and whether the hour is known.

    `state` int64[n] is what each event leaves behind; `own` bool[n] which are the customer's own.
    `row` int64[n] numbers the rows of the source, in their order there.
    """

    name: str
    events: Events
    symbols: list[str]
    timed: bool
    state: Ints
    own: Array
    row: Ints


def _set(
    name: str, who: Ints, hour: Ints, what: list[str | None], state: list[str | None], *,
    timed: bool, own: Array | None = None, occasion: Ints | None = None,
) -> Set:  # fmt: skip
    symbol, symbols = codes(what)
    after, states = codes(state)
    order = np.lexsort((np.arange(len(who)), hour, who))
    events = events_of(who, hour, symbol, after, len(symbols), len(states), occasion)
    all_own = np.ones(len(who), bool) if own is None else own
    return Set(name, events, symbols, timed, after[order], all_own[order], order)


def foursquare() -> Set:
    """Check-ins in New York by category. Raises DataSetMissing."""
    table = places_nyc.read_checkins(find("foursquare_nyc")).sort_by("utc_date_time")
    local = pc.cast(table["utc_date_time"].cast(pa.timestamp("ms")), pa.int64()).to_numpy()
    minutes = table["utc_offset_min"].to_numpy().astype(np.int64)
    names = table["category_name"].to_pylist()
    hour = (local + minutes * 60_000) // HOUR_MS
    # Whole seconds decide the order within an hour, which `events_of` keeps.
    return _set("foursquare", table["user"].to_numpy(), hour, names, names, timed=True)


def grocer_lines() -> pa.Table:
    """Complete Journey's lines with their products' columns, by household and time.

    `hour` is hours since 1970. Raises DataSetMissing.
    """
    folder = find("complete_journey")
    lines = pq.read_table(folder / "transactions_sample.parquet")
    products = pq.read_table(folder / "products.parquet")
    text = lines["product_id"].cast(pa.string())
    lines = lines.set_column(lines.column_names.index("product_id"), "product_id", text)
    products = products.set_column(0, "product_id", products["product_id"].cast(pa.string()))
    joined = lines.join(products, "product_id", join_type="left outer")
    stamp = joined["transaction_timestamp"].cast(pa.timestamp("s"))
    joined = joined.append_column("second", pc.cast(stamp, pa.int64()))
    ordered = joined.sort_by(
        [(name, "ascending") for name in ("household_id", "second", "basket_id", "product_id")]
    )
    hour = ordered["second"].to_numpy() // 3600
    return ordered.append_column("hour", pa.array(hour))


def complete_journey(lines: pa.Table, column: str, name: str) -> Set:
    """Lines of baskets by one column of their product; a basket is one occasion."""
    what = lines[column].to_pylist()
    _, basket = np.unique(lines["basket_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    who = lines["household_id"].to_numpy().astype(np.int64)
    return _set(name, who, lines["hour"].to_numpy(), what, what, timed=True, occasion=basket)


def portfolio(folder: Path) -> dict[str, dict[str, Any]]:
    """The offers of the rewards programme, by id."""
    rows = (json.loads(line) for line in (folder / "portfolio.jsonl").read_text().splitlines())
    return {row["id"]: row for row in rows}


def starbucks() -> Set:
    """What customers of the rewards programme do, and what they receive. Raises DataSetMissing."""
    folder = find("starbucks_rewards")
    offers = portfolio(folder)
    table = pq.read_table(folder / "transcript.parquet")
    _, who = np.unique(table["person"].to_numpy(zero_copy_only=False), return_inverse=True)
    kinds = table["event"].to_pylist()
    what = [None if kind == RECEIVED else kind for kind in kinds]
    types = (offers[o]["offer_type"] if o else "" for o in table["offer_id"].to_pylist())
    state = [f"{kind} {type_}".rstrip() for kind, type_ in zip(kinds, types, strict=True)]
    own = np.array([kind != RECEIVED for kind in kinds])
    hour = table["time"].to_numpy().astype(np.int64)
    return _set("starbucks", who, hour, what, list(state), timed=False, own=own)


def moments(one: Set) -> Iterator[Set]:
    """The part of the day and the weekday of every visit of a set whose hours are local."""
    order = np.argsort(one.events.hour, kind="stable")
    who, hour = one.events.who[order], one.events.hour[order]
    last = visits_of(who, hour)
    who, hour = who[last], hour[last]
    left: list[str | None] = list(states_of(hour))
    for name, what in zip(("daypart", "weekday"), zip(*moments_of(hour), strict=True), strict=True):
        yield _set(f"{one.name}.{name}", who, hour, list(what), left, timed=False)


def made_up_channels(people: int = 200, visits: int = 40, seed: int = 0) -> Set:
    """Visits over one of four channels: even customers have one of their own, in 80 of 100 visits.

    An accuracy of 0.525 is all that there is to know.
    """
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), visits)
    hour = 400_000 + np.sort(rng.integers(0, 24 * 300, (people, visits)), axis=1).ravel()
    own = rng.integers(0, 4, people)[who]
    other = (own + rng.integers(1, 4, len(who))) % 4
    preferred = np.where(rng.random(len(who)) < 0.8, own, other)
    over = np.where(who % 2 == 0, preferred, rng.integers(0, 4, len(who)))
    names: list[str | None] = [("app", "mail", "shop", "web")[i] for i in over.tolist()]
    return _set("made_up.channel", who, hour, names, names, timed=False)


@dataclass(frozen=True)
class Cuts:
    """The hours at which the fitting part and the test part begin (after them), and the end."""

    fitting: int
    test: int
    end: int


def cuts_of(events: Events) -> Cuts:
    """60, 20 and 20 % of the events, in order of time."""
    hours = np.sort(events.hour)
    return Cuts(
        int(hours[round(0.6 * len(hours)) - 1]),
        int(hours[round(0.8 * len(hours)) - 1]),
        int(hours[-1]),
    )


def before(events: Events, hour: int) -> Array:
    """Which events lie at or before an hour: what may be looked at while building."""
    there: Array = events.hour <= hour
    return there
