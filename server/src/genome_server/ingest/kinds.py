"""What can be imported: one published JSON Schema per kind, with an example of every field.

The schema is the single source: readers find the columns of a CSV file in it,
rows are checked against it, `genome-server schema` prints it, and the reference
page is generated from it. Two keywords are our own and ignored by others:

    x-expected   the words for "what should stand here", for messages
    x-private    the value is in no message and no rejects file
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genome_server.errors import UsageError
from genome_server.ingest.kind import Kind, kind_of
from genome_server.ingest.kinds_contents import CONTENTS
from genome_server.ingest.kinds_offers import OFFERS, PLACEMENTS
from genome_server.ingest.kinds_sources import SOURCES
from genome_server.ingest.terms import (
    CELL,
    CELL_ITEM,
    Schema,
    dna,
    free,
    id_,
    list_,
    number,
    text,
    time,
    whole,
)

__all__ = ["KINDS", "Kind", "Schema", "kind_named"]


_CUSTOMERS = kind_of(
    "customers",
    "Customers: who they are to you, what they told about themselves, what they agreed to.",
    ["id"],
    {
        "id": id_("Your id of the customer. It stays in one table and goes nowhere.", "c-1001"),
        "source": text(
            "Whose id it is, where several systems have ids of their own; `app` if left out.",
            "app",
            pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
            **{"x-expected": "lower-case letters, digits and hyphens"},
        ),
        "attributes": free(
            "What is known of the customer; `age: 26` becomes the profile marker `age:26`. "
            "A list gives one marker each. Profile markers never fade.",
            {"age": "26", "interest": ["cycling", "opera"]},
        ),
        "markers": dna(
            "Profile markers as they are, where an attribute does not say it.",
            "age-at-least:21",
        ),
        "consent": list_(
            "What the customer agreed to; without it no genome is used. Left out: nothing is "
            "said, which is no consent for a new customer. `none` takes it back.",
            {"enum": ["personalisation", "learning", "location", "none"]},
            "personalisation",
            "learning",
        ),
        "updated": time(
            "When this was last true. A row older than what is known changes no profile; its "
            "consents count where nothing later was said of them.",
            "2026-03-01T09:30:00+01:00",
        ),
    },
)

_PRODUCTS = kind_of(
    "products",
    "Products: what customers look at, buy and use. Their DNA is what interactions imprint.",
    ["id"],
    {
        "id": id_("Your id of the product.", "p-espresso"),
        "title": text("Its name, for people; dna.yaml says whether it is read.", "Espresso beans"),
        "description": text("More about it.", "Dark roast, 500 g, fair trade"),
        "size": text("How much of it there is.", "500 g", maxLength=120),
        "brand": text("Becomes the marker `brand:…`.", "Acme", maxLength=120),
        "category": text("Becomes the marker `category:…`.", "coffee", maxLength=120),
        "cost": number(
            "What one costs you, in the currency of its sales; for the best customer genome, and "
            "on no device.",
            7.4,
            0,
            1e9,
        ),
        "margin": number(
            "What remains of its price, 0 to 1, where the cost is not given.", 0.42, -10, 1
        ),
        "attributes": free(
            "Each becomes a marker `name:value`; a list gives one marker each.",
            {"claim": ["organic", "fair-trade"], "roast": "dark"},
        ),
        "dna": dna(
            "Further markers with their salience; one that is given here wins over the same "
            "marker from a field above.",
            {"marker": "scent:chocolate", "salience": 0.5},
        ),
    },
)

_PLACES = kind_of(
    "places",
    "Places: areas that are, or are at, a kind of place. Coordinates become cells while they "
    "are read and are not kept. Their DNA is what interactions with them imprint.",
    ["id", "kind"],
    {
        "id": id_("Your id of the place.", "hotel-1"),
        "kind": text(
            "What it is; becomes the marker `place:…`.", "hotel", minLength=1, maxLength=120
        ),
        "name": text("Its name, for people.", "Grand Hotel"),
        "lat": {
            **number("Latitude of its middle in degrees; needs `lng`.", 48.2, -90, 90),
            "x-private": True,
        },
        "lng": {
            **number("Longitude of its middle in degrees.", 16.37, -180, 180),
            "x-private": True,
        },
        "radius_m": number("How far it reaches, in metres; 50 if left out.", 80, 1, 50_000),
        "cells": list_("Its area as H3 cells, instead of coordinates.", CELL_ITEM, CELL),
        "salience": number(
            "How surely who is there is at the place; 1.0 if left out. Around coordinates it "
            "falls with the distance.",
            1.0,
            1 / 256,
            1,
        ),
        "attributes": free(
            "What is special about it; each becomes a marker `name:value`, a list gives one "
            "marker each. They say nothing of the moment: what an interaction names the place "
            "for is imprinted with them.",
            {"cuisine": ["thai", "vegan"], "stars": 4},
        ),
        "dna": dna(
            "Further markers with their salience; one that is given here wins over the same "
            "marker from a field above. Of them, kinds of place (`place:…`) are at its cells, "
            "too.",
            {"marker": "place:restaurant", "salience": 0.5},
        ),
    },
    alternatives=(("lat", "lng", "radius_m"), ("cells",)),
)

_INTERACTIONS = kind_of(
    "interactions",
    "Interactions: what customers did. At most one of product, offer, content, place and dna.",
    ["customer", "kind", "time"],
    {
        "interaction_id": id_(
            "Makes it count once, however often it is imported or reported. Left out, it is "
            "made from the row.",
            "order-77-line-1",
        ),
        "customer": id_("The customer's id.", "c-1001"),
        "source": text(
            "Whose id it is; `app` if left out.",
            "app",
            pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
            **{"x-expected": "lower-case letters, digits and hyphens"},
        ),
        "kind": text(
            "A kind of the DNA schema (dna.yaml): view, wish, cart, buy, redeem, dismiss …",
            "buy",
            maxLength=64,
        ),
        "product": id_("The product's id.", "p-espresso"),
        "offer": id_("The offer's id.", "taxi-to-airport"),
        "content": id_("The id of the e-mail or page, where it was about one.", "mail-spring"),
        "place": id_(
            "The id of the place, where it was about one: a visit, a booking. Where somebody was "
            "meanwhile is said by `cell` or `context.place`.",
            "hotel-1",
        ),
        "dna": dna("The DNA of what it was about, where it is none of them.", "claim:organic"),
        "time": time("When it happened, local time with its offset.", "2026-03-01T18:05:00+01:00"),
        "amount": number("What was paid, in `currency`.", 12.9, -1e9, 1e9),
        "currency": text(
            "Three letters.", "EUR", pattern="^[A-Z]{3}$", **{"x-expected": "a code such as EUR"}
        ),
        "quantity": number("How many.", 2, -1e6, 1e6),
        "tender": text("How it was paid.", "coupon", maxLength=120),
        "dwell_ms": whole("How long it was looked at, in milliseconds.", 1500, 0, 86_400_000_000),
        "cell": {
            **CELL_ITEM,
            "description": "The H3 cell where it happened; only its region is kept.",
            "examples": [CELL],
        },
        "context": free(
            "The moment: place, activity, channel, stage (before, during, after), or anything "
            "else; each becomes a marker.",
            {"place": "hotel", "activity": "flight-search", "weather": "rainy"},
        ),
    },
    alternatives=(("product",), ("offer",), ("content",), ("place",), ("dna",)),
)

#: In the order in which a newcomer imports them: what is named before what names it.
KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        *(_PRODUCTS, CONTENTS, _PLACES, PLACEMENTS, OFFERS),
        *(_CUSTOMERS, *SOURCES, _INTERACTIONS),
    )
}


def kind_named(name: str) -> Kind:
    """The kind of this name. Raises UsageError that names the nearest."""
    kind = KINDS.get(name)
    if kind is None:
        from edge_sdk.dna.markers import nearest_name

        near = nearest_name(name, KINDS)
        hint = f"did you mean {near!r}?" if near else f"one of {', '.join(KINDS)}"
        raise UsageError(f"{name!r} is no kind of import: {hint}")
    return kind
