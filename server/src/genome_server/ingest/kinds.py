"""What can be imported: one published JSON Schema per kind, with an example of every field.

The schema is the single source: readers find the columns of a CSV file in it,
rows are checked against it, `genome-server schema` prints it, and the reference
page is generated from it. Two keywords are our own and ignored by others:

    x-expected   the words for "what should stand here", for messages
    x-private    the value is in no message and no rejects file
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from genome_server.errors import UsageError
from genome_server.ingest.terms import (
    CELL,
    CELL_ITEM,
    MARKER,
    WORD,
    Schema,
    dna,
    field,
    free,
    id_,
    list_,
    number,
    object_,
    text,
    time,
    whole,
)

__all__ = ["KINDS", "Kind", "Schema", "kind_named"]


@dataclass(frozen=True)
class Kind:
    """One kind of row: its plural name, what it is for, and its JSON Schema.

    Of `alternatives`, groups of fields that exclude each other, a row has one.
    """

    name: str
    summary: str
    schema: Schema
    alternatives: tuple[tuple[str, ...], ...] = ()

    @property
    def properties(self) -> Mapping[str, Schema]:
        """The fields of a row."""
        fields: Mapping[str, Schema] = self.schema["properties"]
        return fields

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that a row cannot be without."""
        return tuple(self.schema["required"])


def _kind(
    name: str,
    summary: str,
    required: list[str],
    properties: dict[str, Schema],
    alternatives: tuple[tuple[str, ...], ...] = (),
) -> Kind:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:genome-edge:import:{name}",
        "title": name,
        "description": summary,
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }
    return Kind(name, summary, schema, alternatives)


_CUSTOMERS = _kind(
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
            "When this was last true. A row older than what is known changes nothing.",
            "2026-03-01T09:30:00+01:00",
        ),
    },
)

_PRODUCTS = _kind(
    "products",
    "Products: what customers look at, buy and use. Their DNA is what interactions imprint.",
    ["id"],
    {
        "id": id_("Your id of the product.", "p-espresso"),
        "title": text("Its name, for people.", "Espresso beans"),
        "brand": text("Becomes the marker `brand:…`.", "Acme", maxLength=120),
        "category": text("Becomes the marker `category:…`.", "coffee", maxLength=120),
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

_OFFERS = _kind(
    "offers",
    "Offers: what can be shown, to whom, when and where.",
    ["id"],
    {
        "id": id_("Your id of the offer.", "taxi-to-airport"),
        "campaign": text("What the offer belongs to.", "hotel", maxLength=128),
        "content": free(
            "What the app shows, by name: title, body, image, link.",
            {"title": "A taxi to the airport", "body": "Ready in five minutes"},
            additionalProperties={"type": ["string", "number"], "maxLength": 4096},
        ),
        "dna": dna("The offer's own DNA.", {"marker": "service:taxi", "salience": 1.0}),
        "value": number("What a success is worth, in your currency's unit.", 4.5, 0, 1_000_000),
        "priority": whole(
            "Higher comes first whatever the score; 0 unless there is a reason.", 0, -1000, 1000
        ),
        "areas": object_(
            "Where it may be shown; left out: everywhere.",
            {
                "cells": list_("In these H3 cells, of any resolution.", CELL_ITEM, CELL),
                "near": list_("At these kinds of place.", WORD, "hotel"),
            },
        ),
        "near": list_("The same as `areas.near`.", WORD, "hotel"),
        "cells": list_("The same as `areas.cells`.", CELL_ITEM, CELL),
        "valid": object_(
            "When it may be shown; left out: always.",
            {
                "from": time("From this moment on.", "2026-01-01T00:00:00+01:00"),
                "until": time("Until just before this moment.", "2027-01-01T00:00:00+01:00"),
            },
        ),
        "days": list_("On these days, local: 1 (Monday) to 7, or names.", WORD, "sat", "sun"),
        "hours": list_("At these hours, local: 0 to 23, or ranges.", WORD, "17-21"),
        "any_of": list_(
            "Shown only with at least one of these markers, of the moment or of the genome.",
            MARKER,
            "activity:flight-search",
            "place:airport",
        ),
        "all_of": list_("Shown only with all of these markers.", MARKER, "place:hotel"),
        "none_of": list_("Never shown with any of these markers.", MARKER, "service:own-car"),
        "channels": list_("Only in these channels.", WORD, "kiosk"),
        "placements": list_("Only in these placements.", WORD, "lobby-screen"),
        "caps": list_(
            "How often one customer (or device) may see or redeem it. A JSON text in CSV.",
            object_(
                "One limit.",
                {
                    "count": {"enum": ["view", "redeem"]},
                    "limit": {"type": "integer", "minimum": 1, "maximum": 100_000},
                    "window_hours": {"type": "integer", "minimum": 0, "maximum": 24 * 3660},
                    "scope": {"enum": ["customer", "device"]},
                },
                required=["limit"],
            ),
            {"count": "view", "limit": 3, "window_hours": 24, "scope": "customer"},
        ),
        "exclusivity_group": text("At most one offer of a group is shown at a time.", "rides"),
        "consent": field(
            "string",
            "Shown only to customers who agreed to this.",
            "personalisation",
            enum=["personalisation", "learning", "location"],
        ),
        "required_features": list_("What an SDK must be able to do to show it.", WORD, "squarecb"),
        "stop_after": object_(
            "Never shown again to a customer after this.",
            {
                "redeem": field("boolean", "After it was redeemed.", True),
                "dismiss": field("boolean", "After it was dismissed.", False),
            },
        ),
        "max_offline_age_hours": whole(
            "Not shown by a device that has not heard from the server for longer than this; "
            "0 if left out: no such limit.",
            48,
            0,
            24 * 366,
        ),
        "texts": free(
            "Content in other languages, by language (`de`, `pt-BR`), over `content` name by "
            "name. A JSON text in CSV: `texts.de`.",
            {"de": {"title": "Ein Taxi zum Flughafen"}},
            additionalProperties={
                "type": "object",
                "additionalProperties": {"type": ["string", "number"], "maxLength": 4096},
            },
        ),
        "assets": free(
            "Files that must be on a device before it shows the offer: by what the app asks for, "
            "the file's path beside or below the imported file. `image.de` is for one language, "
            "`image` for all that have none of their own.",
            {"image": "images/taxi.png", "image.de": "images/taxi-de.png"},
            additionalProperties={"type": "string", "maxLength": 512},
        ),
    },
)

_PLACEMENTS = _kind(
    "placements",
    "Placements: where offers are shown.",
    ["id"],
    {
        "id": id_("Your id of the placement; what an app passes to `decide`.", "lobby-screen"),
        "slots": whole("The most offers at a time; 1 if left out.", 1, 1, 64),
        "channel": text("The channel it belongs to.", "kiosk", maxLength=120),
        "shown": field(
            "string",
            "When an offer counts as shown: when it is decided, or when a view is reported.",
            "view",
            enum=["decide", "view"],
        ),
        "house_offer": text("What is shown when nothing else may be.", "welcome", maxLength=128),
        "explorer": field(
            "string",
            "`greedy` shows the best; `squarecb` also tries others, which is how it learns.",
            "squarecb",
            enum=["greedy", "squarecb"],
        ),
        "gamma": number("squarecb: how fast a lower score becomes rarer.", 100.0, 0, 1_000_000),
        "floor": number("squarecb: least share of the decisions spread evenly.", 0.1, 0, 1),
        "outcome_window_hours": whole(
            "Hours in which what follows is credited to a decision.", 24, 1, 24 * 366
        ),
    },
)

_PLACES = _kind(
    "places",
    "Places: areas that are, or are at, a kind of place. Coordinates become cells while they "
    "are read and are not kept.",
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
    },
    alternatives=(("lat", "lng", "radius_m"), ("cells",)),
)

_INTERACTIONS = _kind(
    "interactions",
    "Interactions: what customers did. At most one of product, offer and dna.",
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
        "dna": dna("The DNA of what it was about, where it is neither.", "claim:organic"),
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
    alternatives=(("product",), ("offer",), ("dna",)),
)

#: In the order in which a newcomer imports them: what is named before what names it.
KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (_PRODUCTS, _PLACES, _PLACEMENTS, _OFFERS, _CUSTOMERS, _INTERACTIONS)
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
