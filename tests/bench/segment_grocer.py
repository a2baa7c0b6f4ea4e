"""Complete Journey: the next category, and who redeems a coupon of a campaign."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edge_sdk.dna.schema import MAX_MARKERS
from examples.datasets import find
from genome_server.foresee.columns import NOTHING, Events
from genome_server.foresee.meeting import Meeting, category_dna
from genome_server.foresee.mixture import fit_weights
from genome_server.foresee.model import Meet, fit_tilt, tilted
from genome_server.foresee.rivals import interval
from genome_server.ingest.dna import product_dna
from tests.bench import foresee_sets as sets
from tests.bench.figures import Figures
from tests.bench.foresee import Told, wanted_after
from tests.bench.segment import Array, Cases, Did, Genomes, common, dense, fold_of, schema_of

JUDGED_FROM: Final = "2017-10-01"
PROFILE: Final = ("age", "income", "household_comp", "kids_count")
_LEAST: Final = 40
_MIXED_IN: Final = 10.0

Dna = tuple[tuple[str, int], ...]


def dna_of(row: dict[str, Any]) -> Dna:
    """The DNA of a product, as the import makes it of these columns."""
    named = {
        "department": row["department"],
        "label": row["brand"],
        "type": row["product_type"],
        "size": row["package_size"],
    }
    document = {
        "brand": row["manufacturer_id"],
        "category": row["product_category"],
        "attributes": {name: value for name, value in named.items() if value},
    }
    return tuple(product_dna(document))


def catalogue(folder: Path) -> dict[str, tuple[str | None, Dna]]:
    """Product id → category and DNA."""
    rows = pq.read_table(folder / "products.parquet").to_pylist()
    return {str(row["product_id"]): (row["product_category"], dna_of(row)) for row in rows}


def purchases(lines: pa.Table, products: dict[str, tuple[str | None, Dna]]) -> dict[int, list[Did]]:
    """What each household bought, and that it used coupons."""
    did: dict[int, list[Did]] = defaultdict(list)
    names = ("household_id", "hour", "product_id", "sales_value", "coupon_disc")
    for who, hour, product, paid, coupon in zip(
        *(lines[name].to_pylist() for name in names), strict=True
    ):
        _, dna = products.get(product, (None, ()))
        did[who].append(Did(hour, "buy", dna, paid))
        if coupon:
            did[who].append(Did(hour, "redeem", (("tender:coupon", 256),)))
    return did


def profiles(folder: Path) -> dict[int, dict[str, str]]:
    """What is known of some households."""
    rows = pq.read_table(folder / "demographics.parquet").to_pylist()
    return {row["household_id"]: {name: row[name] or "" for name in PROFILE} for row in rows}


def next_category(figures: Figures) -> None:
    """Popularity, segment and genome on the test part of `foresee`. Raises DataSetMissing."""
    lines = sets.grocer_lines()
    one = sets.complete_journey(lines, "product_category", "complete_journey")
    told, who = judge_category(one, lines, sets.cuts_of(one.events))
    for metric, unit in (
        ("accuracy_at_1", "share"), ("accuracy_at_5", "share"), ("log_loss", "nats"),
    ):  # fmt: skip
        for name, each in told.items():
            figures.add(f"segment.category.{metric}.{name}", each.figures()[metric], unit)
    for other in ("segment", "popularity"):
        gains = np.concatenate(told[other].loss) - np.concatenate(told["genome"].loss)
        low, high = interval(gains, who)
        figures.add(f"segment.category.genome_over_{other}.low", low, "nats")
        figures.add(f"segment.category.genome_over_{other}.high", high, "nats")


def meet_of(one: sets.Set, lines: pa.Table, cuts: sets.Cuts) -> Meet:
    """How well genomes meet categories at the events that are asked about after `cuts.fitting`."""
    products = catalogue(find("complete_journey"))
    genomes = Genomes(schema_of(int(one.events.hour.min()) - 24), purchases(lines, products))
    things = ((category, dna) for category, dna in products.values() if category)
    meeting = Meeting(category_dna(things), one.symbols)
    rows = np.flatnonzero(wanted_after(one.events, cuts.fitting, cuts.end))
    table = _meets(one.events, rows, genomes, meeting)
    return lambda wanted: table[np.searchsorted(rows, wanted)]


def judge_category(
    one: sets.Set, lines: pa.Table, cuts: sets.Cuts
) -> tuple[dict[str, Told], Array]:
    """What each way says of the lines after `cuts.test`, and whose lines these are."""
    known = profiles(find("complete_journey"))
    events = one.events
    meet = meet_of(one, lines, cuts)
    fitted, asked = (
        np.flatnonzero(wanted_after(events, after, until))
        for after, until in ((cuts.fitting, cuts.test), (cuts.test, cuts.end))
    )
    popular = [_popular(events, until) for until in (cuts.fitting, cuts.test)]
    tilt = fit_tilt(popular[0], meet(fitted), events.symbol[fitted])
    genome = tilted(popular[1], meet(asked), tilt)
    held = [_by_profile(events, known, until) for until in (cuts.fitting, cuts.test)]
    likely = held[0](fitted)[np.arange(len(fitted)), :, events.symbol[fitted]]
    described = np.array([int(w in known) for w in events.who.tolist()])
    weights = fit_weights(likely, described[fitted], 2)
    segment = np.einsum("nks,nk->ns", held[1](asked), weights[described[asked]])
    told = {name: Told() for name in ("popularity", "segment", "genome")}
    happened = events.symbol[asked]
    told["popularity"].take(np.tile(popular[1], (len(asked), 1)), happened)
    told["segment"].take(segment, happened)
    told["genome"].take(genome, happened)
    return told, events.who[asked]


def _meets(events: Events, rows: Array, genomes: Genomes, meeting: Meeting) -> Array:
    """How well each row's customer met each category before its hour, float64[n, symbols]."""
    found = np.zeros((len(rows), events.symbols))
    by_person: dict[int, list[int]] = defaultdict(list)
    for place, row in enumerate(rows.tolist()):
        by_person[int(events.who[row])].append(place)
    for person, places in by_person.items():
        hours, at = np.unique(events.hour[rows[places]], return_inverse=True)
        met = np.stack(
            [
                meeting.meets((genomes.vocabulary.name(m), w) for m, w in weights.items())
                for weights in genomes.at(person, hours.tolist())
            ]
        )
        found[places] = met[at]
    return found


def _popular(events: Events, until: int) -> Array:
    told = (events.symbol != NOTHING) & (events.hour <= until)
    counts = np.bincount(events.symbol[told], minlength=events.symbols) + 1.0 / events.symbols
    popular: Array = counts / counts.sum()
    return popular


def _by_profile(events: Events, known: dict[int, dict[str, str]], until: int) -> Any:
    """Gives popularity and the rates by each fact of a profile: float64[n, 1 + facts, symbols]."""
    popular = _popular(events, until)
    told = (events.symbol != NOTHING) & (events.hour <= until)
    numbers, tables = [], []
    for fact in PROFILE:
        values = [known.get(who, {}).get(fact, "") for who in events.who.tolist()]
        _, value = np.unique(values, return_inverse=True)
        count = int(value.max()) + 1
        flat = np.bincount(
            value[told] * events.symbols + events.symbol[told], minlength=count * events.symbols
        )
        table = flat.reshape(count, events.symbols) + _MIXED_IN * popular
        numbers.append(value)
        tables.append(table / table.sum(axis=1, keepdims=True))

    def of(rows: Array) -> Array:
        by_fact = [table[value[rows]] for value, table in zip(numbers, tables, strict=True)]
        return np.stack([np.tile(popular, (len(rows), 1)), *by_fact], axis=1)

    return of


def coupon_cases(
    judged_from: str = JUDGED_FROM,
    judged_until: str = "9999",
    most: int = MAX_MARKERS,
    distinct: bool = False,
) -> Cases:
    """Every household that a campaign was sent to, whose genomes have so many markers at most: the
    strongest, or the most distinct by what was done before `judged_from`.

    Raises DataSetMissing.
    """
    folder = find("complete_journey")
    lines = sets.grocer_lines()
    products = catalogue(folder)
    did = purchases(lines, products)
    campaigns = {
        int(row["campaign_id"]): row
        for row in pq.read_table(folder / "campaign_descriptions.parquet").to_pylist()
    }
    coupons = pq.read_table(folder / "coupons.parquet").to_pylist()
    things = [
        (c["campaign_id"], products.get(str(c["product_id"]), (None, ()))[1]) for c in coupons
    ]
    dna = category_dna((str(int(campaign)), found) for campaign, found in things)
    meeting = Meeting(dna, [str(number) for number in sorted(campaigns)])
    place = {number: i for i, number in enumerate(sorted(campaigns))}
    redeemed = set()
    for row in pq.read_table(folder / "coupon_redemptions.parquet").to_pylist():
        household, campaign = row["household_id"], int(row["campaign_id"])
        redeemed.add((household, campaign))
        # Of the day alone: known from the next one on.
        hour = _hour(row["redemption_date"]) + 24
        did[household].append(Did(hour, "redeem", (("activity:coupon", 256),)))
    sent = pq.read_table(folder / "campaigns.parquet").to_pylist()
    what = sorted(
        (row["household_id"], campaigns[int(row["campaign_id"])]["start_date"],
         int(row["campaign_id"]))
        for row in sent
    )  # fmt: skip
    for household, start, campaign in what:
        kind = campaigns[campaign]["campaign_type"].lower().replace(" ", "-")
        did[household].append(Did(_hour(start), "receive", ((f"campaign:{kind}", 256),)))
    first = min(one.hour for events in did.values() for one in events)
    schema = replace(schema_of(first - 24), max_markers=most)
    genomes = Genomes(schema, did)
    if distinct:
        told = genomes.distinct(_hour(judged_from))
        genomes = Genomes(replace(schema, distinct=told), did)
    known = profiles(folder)
    rows: list[dict[int, float]] = []
    by_person: dict[int, list[int]] = defaultdict(list)
    for household, start, _ in what:
        by_person[household].append(_hour(start))
    for household, hours in by_person.items():
        rows += genomes.at(household, hours)
    names = genomes.vocabulary.name
    met = [
        meeting.meets((names(m), w) for m, w in row.items())[place[campaign]]
        for row, (_, _, campaign) in zip(rows, what, strict=True)
    ]
    starts = np.array([start for _, start, _ in what])
    ends = np.array([campaigns[campaign]["end_date"] for _, _, campaign in what])
    types = [campaigns[campaign]["campaign_type"] for _, _, campaign in what]
    _, type_ = np.unique(types, return_inverse=True)
    facts = [[known.get(h, {}).get(name, "") for name in PROFILE] for h, _, _ in what]
    profile = np.stack(
        [np.unique(column, return_inverse=True)[1] for column in zip(*facts, strict=True)], axis=1
    )
    _, cell = np.unique(profile[:, :3], axis=0, return_inverse=True)
    learn = ends < judged_from
    learned = [row for row, yes in zip(rows, learn.tolist(), strict=True) if yes]
    sizes = np.array([[len(row), sum(row.values())] for row in rows], np.float32)
    return Cases(
        person=np.array([household for household, _, _ in what]),
        label=np.array([(h, campaign) in redeemed for h, _, campaign in what], float),
        learn=learn,
        judge=(starts >= judged_from) & (starts < judged_until),
        fold=np.array([fold_of(household) for household, _, _ in what]),
        thing=type_[:, None].astype(float),
        profile=profile.astype(float),
        genome=np.concatenate(
            [dense(rows, common(learned, _LEAST)), sizes, np.array(met)[:, None]], axis=1
        ),
        base=type_,
        cell=cell.ravel(),
    )


def _hour(day: str) -> int:
    at = dt.datetime.fromisoformat(str(day)).replace(tzinfo=dt.UTC)
    return int(at.timestamp()) // 3600
