"""A small town that does not exist, made from a seed. Everything in it is synthetic.

It serves where no data set is at hand: customers with profiles, a shop's products,
offers, placements, places, e-mails and pages, and two months in which the people of
the town bought things, took or refused offers, hotel guests included (`hotel` says
how), opened mails and went to places (`mails`). It lies on Null Island, in the open
sea where the equator meets the prime meridian, so that nobody takes it for a real place.

The same seed and day give the same files, byte for byte. The first twenty customers
have never been to the hotel: they are there for demonstrations to begin with.

    python -m examples.adapters.town OUT_DIR
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h3

from examples.adapters import hotel, mails
from examples.adapters.writing import Row, Written, write_csv, write_jsonl

CENTRE = "8b754e649929fff"
DAYS = 60
NEVER_AT_THE_HOTEL = 20
SAYS = "a synthetic town, made from a seed; nobody in it exists"

# What people can like; the likes are hidden from the software, which sees what they do.
TASTES = ("coffee", "nightlife", "books", "sport", "organic", "sweets")
_AGES = ("18-29", "30-44", "45-59", "60-plus")
_SHIFTS: Mapping[str, Mapping[str, float]] = {
    "18-29": {"nightlife": 0.3, "sport": 0.15, "books": -0.1},
    "30-44": {"coffee": 0.15, "organic": 0.1},
    "45-59": {"organic": 0.15, "nightlife": -0.15},
    "60-plus": {"books": 0.3, "nightlife": -0.3, "sweets": 0.1},
}
# kind → how many, and how far around the middle of each its area goes (in rings of cells)
_PLACES = {"hotel": (2, 1), "station": (1, 2), "cafe": (5, 1), "bar": (4, 1), "bookshop": (1, 1),
           "grocery": (2, 1), "gym": (2, 1), "bakery": (3, 0), "park": (1, 3)}  # fmt: skip
_SHELVES: Mapping[str, tuple[str, float, tuple[str, ...]]] = {
    # category → (taste, price, things)
    "coffee": ("coffee", 7.5, ("espresso beans", "filter coffee", "oat drink", "cold brew")),
    "spirits": ("nightlife", 19.0, ("gin", "tonic case", "vermouth", "craft beer")),
    "books": ("books", 14.0, ("crime novel", "poems", "atlas", "cookery book")),
    "sports": ("sport", 32.0, ("running socks", "yoga mat", "protein bars", "swim goggles")),
    "produce": ("organic", 5.0, ("apples", "carrots", "lentils", "yoghurt")),
    "confectionery": ("sweets", 4.0, ("dark chocolate", "fudge", "liquorice", "almond cake")),
}
_BRANDS = ("acme", "harbour", "northwind")


def _offer(offer_id: str, title: str, taste: str, dna: Sequence[str], **more: Any) -> Row:
    return {
        "id": offer_id,
        "campaign": "town",
        "content": {"title": title},
        "dna": [{"marker": marker, "salience": 1.0} for marker in (f"category:{taste}", *dna)],
        "value": 1.0,
        "placements": ["feed", "phone", "till", "kiosk-screen"],
        **more,
    }


OFFERS: tuple[Row, ...] = (
    _offer("second-cup", "The second cup is on us", "coffee", ["treat:cup"]),
    _offer("happy-hour", "Two for one until eight", "spirits", ["treat:drinks"], hours=["16-23"]),
    _offer("book-of-the-month", "Book of the month, half price", "books", ["treat:book"]),
    _offer("gym-day-pass", "A day at the gym", "sports", ["treat:day-pass"]),
    _offer("organic-box", "A box of what is ripe", "produce", ["claim:organic"]),
    _offer("bakery-bag", "Six for the price of four", "confectionery", ["treat:bag"],
           caps=[{"count": "view", "limit": 20, "window_hours": 24, "scope": "customer"}]),
    _offer("umbrella", "An umbrella to borrow", "umbrellas", ["service:loan"],
           any_of=["weather:rainy"]),
    {"id": "welcome", "campaign": "house", "content": {"title": "Welcome"}, "value": 0.001,
     "dna": [{"marker": "category:greeting", "salience": 1.0}], "placements": ["kiosk-screen"]},
)  # fmt: skip

PLACEMENTS: tuple[Row, ...] = (
    *hotel.PLACEMENTS,
    {"id": "feed", "slots": 5, "channel": "mobile", "shown": "view", "explorer": "squarecb",
     "gamma": 200.0, "floor": 0.1, "outcome_window_hours": 48},
    {"id": "phone", "slots": 3, "channel": "mobile", "shown": "decide", "explorer": "greedy"},
    {"id": "till", "slots": 1, "channel": "till", "shown": "decide", "explorer": "squarecb",
     "gamma": 200.0, "floor": 0.1, "outcome_window_hours": 24},
    {"id": "kiosk-screen", "slots": 3, "channel": "kiosk", "shown": "decide",
     "house_offer": "welcome", "explorer": "greedy", "outcome_window_hours": 2},
)  # fmt: skip


def places() -> list[Row]:
    """The town's places as areas of cells that do not touch; the same whatever the seed."""
    rng = random.Random("places")
    free = set(h3.grid_disk(CENTRE, 14))
    rows: list[Row] = []
    for kind, (count, rings) in _PLACES.items():
        for number in range(1, count + 1):
            inside = [spot for spot in sorted(free) if free.issuperset(h3.grid_disk(spot, rings))]
            middle = rng.choice(inside)
            free.difference_update(h3.grid_disk(middle, rings + 1))
            cells = sorted(h3.grid_disk(middle, rings))
            rows.append({"id": f"{kind}-{number}", "kind": kind, "cells": cells})
    # Airports are wide: a disk of bigger cells, out of town.
    runway = max(h3.grid_ring(h3.cell_to_parent(CENTRE, 9), 8))
    rows.append({"id": "airport", "kind": "airport", "cells": sorted(h3.grid_disk(runway, 2))})
    return rows


def products() -> list[Row]:
    """What the shop sells, by shelf and brand."""
    rows: list[Row] = []
    for category, (_, price, things) in _SHELVES.items():
        for number, thing in enumerate(things):
            brand = _BRANDS[number % len(_BRANDS)]
            rows.append(
                {
                    "id": f"{brand}-{thing.replace(' ', '-')}",
                    "title": f"{brand.title()} {thing}",
                    "brand": brand,
                    "category": category,
                    "margin": 0.35 if price > 10 else 0.6,
                    "attributes.price-band": "high" if price > 10 else "low",
                    "attributes.claim": "organic" if category == "produce" else "",
                }
            )
    return rows


def _people(rng: random.Random, count: int) -> tuple[list[Row], dict[str, dict[str, float]]]:
    """Customers as the import takes them, and their hidden tastes (0 to 1)."""
    rows: list[Row] = []
    tastes: dict[str, dict[str, float]] = {}
    for number in range(1, count + 1):
        person = f"customer-{number:03d}"
        age = rng.choice(_AGES)
        tastes[person] = {
            taste: min(1.0, max(0.0, rng.betavariate(1.2, 1.8) + _SHIFTS[age].get(taste, 0.0)))
            for taste in TASTES
        }
        draw = rng.random()
        # The first one agrees, so that there is always somebody to begin with.
        agreed = ["personalisation", "learning"] if draw < 0.85 or number == 1 else []
        rows.append(
            {
                "id": person,
                "attributes": {"age-band": age, "household": rng.choice(["one", "two", "family"])},
                "markers": [f"age-at-least:{step[:2]}" for step in _AGES[1 : _AGES.index(age) + 1]],
                "consent": ["learning"] if not agreed and draw > 0.95 else agreed,
            }
        )
    return rows, tastes


def _settle(
    rng: random.Random, people: Sequence[Row], tastes: Mapping[str, Mapping[str, float]]
) -> list[Row]:
    """The same customers; of those who agreed most say where they live, and agree to that, too.

    Each district draws people of one taste. The first customer says nothing of it.
    """
    districts = sorted(h3.grid_disk(h3.cell_to_parent(CENTRE, 7), 1))
    rows = [people[0]]
    for row in people[1:]:
        draws = [0.05 + tastes[row["id"]][TASTES[n % len(TASTES)]] ** 3 for n in range(7)]
        home, tells = rng.choices(districts, draws)[0], rng.random() < 0.7
        if tells and row["consent"] == ["personalisation", "learning"]:
            lives = {**row["attributes"], "home": home}
            rows.append({**row, "attributes": lives, "consent": [*row["consent"], "location"]})
        else:
            rows.append(row)
    return rows


# Where people are readiest to take each offer.
_AT_HOME = {
    "second-cup": "cafe", "happy-hour": "bar", "gym-day-pass": "gym", "bakery-bag": "bakery",
    "book-of-the-month": "bookshop", "organic-box": "grocery",
}  # fmt: skip


def _moment(rng: random.Random) -> dict[str, str]:
    return {
        "place": rng.choice(["street", "station", *_AT_HOME.values()]),
        "activity": rng.choice(["walk", "shopping", "commute"]),
        "weather": "rainy" if rng.random() < 0.25 else "dry",
        "channel": rng.choice(["mobile", "kiosk"]),
    }


def _takes(offer: str, taste: float, moment: Mapping[str, str], hour: int) -> float:
    """The made-up chance that somebody takes an offer of the town."""
    if offer == "umbrella":
        return 0.8 if moment["weather"] == "rainy" else 0.02
    lean = 4.5 * taste - 3.0
    lean += 2.6 if _AT_HOME.get(offer) == moment["place"] else 0.0
    lean += 1.0 if offer == "second-cup" and hour < 11 else 0.0
    return 1.0 / (1.0 + math.exp(-lean))


def _life(
    rng: random.Random, person: str, tastes: Mapping[str, float], until: datetime
) -> list[Row]:
    """Two months of one customer: purchases, looks, and offers taken or refused."""
    rows: list[Row] = []
    shelves = list(_SHELVES.items())
    offers = {str(row["id"]): row for row in OFFERS if row["campaign"] == "town"}
    by_category = {category: taste for category, (taste, _, _) in shelves}
    for number in range(rng.randint(18, 34)):
        hour = rng.randint(7, 22)
        day = until - timedelta(days=rng.randint(1, DAYS))
        at = day.replace(hour=hour) + timedelta(minutes=rng.randint(0, 59))
        row: dict[str, Any] = {
            "interaction_id": f"town-{person}-{number}",
            "customer": person,
            "time": at.isoformat(),
        }
        if rng.random() < 0.45:
            weights = [0.05 + tastes[taste] ** 2 for _, (taste, _, _) in shelves]
            category, (_, price, things) = rng.choices(shelves, weights)[0]
            which = rng.randrange(len(things))
            product = f"{_BRANDS[which % len(_BRANDS)]}-{things[which].replace(' ', '-')}"
            bought = rng.random() < 0.6
            row |= {"kind": "buy" if bought else "view", "product": product}
            if bought:
                row |= {"amount": round(price * rng.uniform(0.8, 1.6), 2), "currency": "EUR",
                        "tender": rng.choice(["card", "cash"])}  # fmt: skip
        else:
            moment = _moment(rng)
            offer = rng.choice(list(offers))
            category = str(offers[offer]["dna"][0]["marker"]).split(":")[1]
            taste = tastes.get(by_category.get(category, ""), 0.0)
            taken = rng.random() < _takes(offer, taste, moment, hour)
            row |= {"kind": "redeem" if taken else "dismiss", "offer": offer, "context": moment}
        rows.append(row)
    return rows


def write(
    out: Path, *, seed: int = 7, customers: int = 220, until: datetime | None = None
) -> Written:
    """Write the whole town into `out`; its two months end at `until` (default: today, 00:00 UTC).

    The dates follow the calendar so that what people did is still fresh in their genomes.
    """
    out.mkdir(parents=True, exist_ok=True)
    end = until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rng = random.Random(f"town:{seed}")
    people, tastes = _people(rng, customers)
    names = [str(row["id"]) for row in people]
    interactions = [row for name in names for row in _life(rng, name, tastes[name], end)]
    guests = rng.sample(
        names[NEVER_AT_THE_HOTEL:], max(0, customers - NEVER_AT_THE_HOTEL) * 9 // 10
    )
    interactions += hotel.moments(sorted(guests), end, seed=seed)
    also = random.Random(f"mails:{seed}")
    interactions += mails.opened(also, tastes, end) + mails.went(also, tastes, end)
    interactions.sort(key=lambda row: (str(row["time"]), str(row["interaction_id"])))
    people = _settle(random.Random(f"homes:{seed}"), people, tastes)
    shop = products()
    files = {
        "products.csv": write_csv(out / "products.csv", list(shop[0]), shop),
        "contents.jsonl": write_jsonl(out / "contents.jsonl", mails.CONTENTS),
        "places.jsonl": write_jsonl(out / "places.jsonl", mails.special(places())),
        "placements.jsonl": write_jsonl(out / "placements.jsonl", PLACEMENTS),
        "offers.jsonl": write_jsonl(out / "offers.jsonl", (*hotel.OFFERS, *OFFERS)),
        "customers.jsonl": write_jsonl(out / "customers.jsonl", people),
        "interactions.jsonl": write_jsonl(out / "interactions.jsonl", interactions),
    }
    return Written(out, f"{SAYS} (seed {seed})", files)


def cell_at(kind: str) -> str:
    """A cell in the middle of the town's first place of this kind. `KeyError` if it has none."""
    for row in places():
        if row["kind"] == kind:
            return str(row["cells"][len(row["cells"]) // 2])
    raise KeyError(kind)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.adapters.town",
        description="Write a small synthetic town as import files.",
    )
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--customers", type=int, default=220)
    arguments = parser.parse_args(argv)
    print(write(arguments.out, seed=arguments.seed, customers=arguments.customers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
