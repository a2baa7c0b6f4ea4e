"""E-mails and pages of the made-up town, who opened them, and which places people went to.

Synthetic, as the town is. It shows what rows of `contents` look like, and interactions that name
one (`content`) or a place (`place`): people open what they like, and go where they like it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from examples.adapters.writing import Row

DAYS = 60

CONTENTS: tuple[Row, ...] = (
    {"id": "mail-coffee", "subject": "Fair trade espresso, roasted this morning",
     "body": "<p>Whole beans, and <b>cold brew</b> for warm days. 20 % off until Sunday.</p>",
     "products": ["acme-espresso-beans", "acme-cold-brew"], "attributes": {"occasion": "weekend"}},
    {"id": "mail-organic", "subject": "Organic week: apples, carrots, lentils",
     "body": "<p>Locally grown and vegan; carried to your door.</p>",
     "products": ["acme-apples", "harbour-carrots", "northwind-lentils"]},
    {"id": "mail-sweets", "subject": "Chocolate for two",
     "body": "<p>Dark chocolate with hazelnut, and fudge.</p>",
     "products": ["acme-dark-chocolate", "harbour-fudge"], "attributes": {"occasion": "valentine"}},
    {"id": "page-crime-night", "subject": "A night of crime novels",
     "body": "<h1>Three authors read</h1> from their new books at the bookshop.",
     "products": ["acme-crime-novel"], "dna": [{"marker": "mood:thrill", "salience": 0.5}]},
    {"id": "page-stretching", "subject": "Ten minutes of stretching for runners",
     "body": "All that you need is a mat, <i>and ten minutes</i>.",
     "products": ["acme-running-socks", "harbour-yoga-mat"]},
    {"id": "page-gin", "subject": "What goes with gin, and without alcohol",
     "body": "Tonic and lemon; and three drinks that are alcohol-free.",
     "products": ["acme-gin", "harbour-tonic-case"]},
)  # fmt: skip
#: What each of them is liked for; see `town.TASTES`.
_LIKED = ("coffee", "organic", "sweets", "books", "sport", "nightlife")

#: What is special about some places of the town, by id.
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "cafe-1": {"serves": ["oat-drink", "cold-brew"]},
    "bar-1": {"music": "jazz"},
    "bookshop-1": {"readings": "crime"},
    "gym-1": {"sport": ["swimming", "yoga"]},
    "grocery-1": {"claim": "organic"},
    "bakery-1": {"claim": "gluten-free"},
}
_TASTE_OF = {"cafe": "coffee", "bar": "nightlife", "bookshop": "books", "gym": "sport",
             "grocery": "organic", "bakery": "sweets"}  # fmt: skip


def opened(
    rng: random.Random, tastes: Mapping[str, Mapping[str, float]], until: datetime
) -> list[Row]:
    """Who opened which e-mail, and read which page for how long."""
    rows: list[Row] = []
    for person, likes in tastes.items():
        for content, taste in zip(CONTENTS, _LIKED, strict=True):
            if rng.random() < likes[taste] ** 2:
                row = _row(rng, f"{person}-{content['id']}", person, until)
                row |= {"kind": "open", "content": content["id"]}
                if str(content["id"]).startswith("page-"):
                    row |= {"kind": "browse", "dwell_ms": rng.randint(5_000, 240_000)}
                rows.append(row)
    return rows


def went(
    rng: random.Random, tastes: Mapping[str, Mapping[str, float]], until: datetime
) -> list[Row]:
    """Who went to which of the places that are special."""
    rows: list[Row] = []
    for person, likes in tastes.items():
        for place in SPECIAL:
            if rng.random() < likes[_TASTE_OF[place.split("-")[0]]] ** 2:
                row = _row(rng, f"{person}-{place}", person, until)
                rows.append({**row, "kind": "consume", "place": place})
    return rows


def _row(rng: random.Random, what: str, person: str, until: datetime) -> dict[str, Any]:
    at = until - timedelta(hours=rng.randint(1, 24 * DAYS))
    return {
        "interaction_id": f"town-{what}",
        "customer": person,
        "time": at.isoformat(),
    }


def special(rows: Sequence[Row]) -> list[Row]:
    """Places with what is special about them."""
    return [
        {**row, "attributes": SPECIAL[row["id"]]} if row["id"] in SPECIAL else row for row in rows
    ]
