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
from typing import Any, Final

from genome_server.errors import UsageError

Schema = dict[str, Any]

_MARKER_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9 _-]*:.{1,120}$"
_CELL: Final = "8a2a100d2d57fff"


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


def _field(kind: str | list[str], says: str, *examples: Any, **more: Any) -> Schema:
    return {"type": kind, "description": says, "examples": list(examples), **more}


def _id(says: str, example: str) -> Schema:
    return _field(
        ["string", "integer"],
        says,
        example,
        minLength=1,
        maxLength=128,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        **{"x-expected": "1 to 128 printable characters"},
    )


def _text(says: str, *examples: str, **more: Any) -> Schema:
    return _field("string", says, *examples, **{"maxLength": 4096, **more})


def _number(says: str, example: float, low: float, high: float) -> Schema:
    return _field("number", says, example, minimum=low, maximum=high)


def _whole(says: str, example: int, low: int, high: int) -> Schema:
    return _field("integer", says, example, minimum=low, maximum=high)


def _list(says: str, items: Schema, *example: Any) -> Schema:
    return _field("array", says, list(example), items=items)


def _time(says: str, example: str) -> Schema:
    return _text(says, example, **{"x-expected": "a time with its offset, such as " + example})


def _object(says: str, properties: dict[str, Schema], **more: Any) -> Schema:
    closed = {"additionalProperties": False}
    return {"type": "object", "description": says, "properties": properties, **closed, **more}


_WORD: Final = {"type": ["string", "integer"], "maxLength": 128}
_MARKER: Final = {
    "type": "string",
    "pattern": _MARKER_PATTERN,
    "x-expected": "a marker such as claim:organic",
}
_CELL_ITEM: Final = {
    "type": "string",
    "pattern": "^[0-9A-Fa-f]{15,16}$",
    "x-expected": f"an H3 cell such as {_CELL}",
}
_SCALAR: Final = {"type": ["string", "number", "boolean"], "maxLength": 120}
_SCALARS: Final = {
    "type": ["string", "number", "boolean", "array"],
    "maxLength": 120,
    "items": _SCALAR,
}


def _dna(says: str, *example: Any) -> Schema:
    weighted = _object(
        "A marker with its salience.",
        {
            "marker": _MARKER,
            "salience": {"type": "number", "minimum": 1 / 256, "maximum": 16},
        },
        required=["marker"],
    )
    return _field(
        ["array", "object"],
        says + " A salience left out is 1.0; in CSV, `marker=0.5|marker`.",
        list(example),
        items={**_MARKER, **weighted, "type": ["string", "object"]},
        additionalProperties={"type": "number", "minimum": 1 / 256, "maximum": 16},
    )


def _free(says: str, example: Mapping[str, Any], **more: Any) -> Schema:
    return {
        "type": "object",
        "description": says,
        "examples": [dict(example)],
        "additionalProperties": _SCALARS,
        **more,
    }


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
        "id": _id("Your id of the customer. It stays in one table and goes nowhere.", "c-1001"),
        "source": _text(
            "Whose id it is, where several systems have ids of their own; `app` if left out.",
            "app",
            pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
            **{"x-expected": "lower-case letters, digits and hyphens"},
        ),
        "attributes": _free(
            "What is known of the customer; `age: 26` becomes the profile marker `age:26`. "
            "A list gives one marker each. Profile markers never fade.",
            {"age": "26", "interest": ["cycling", "opera"]},
        ),
        "markers": _dna(
            "Profile markers as they are, where an attribute does not say it.",
            "age-at-least:21",
        ),
        "consent": _list(
            "What the customer agreed to; without it no genome is used. Left out: nothing is "
            "said, which is no consent for a new customer. `none` takes it back.",
            {"enum": ["personalisation", "learning", "location", "none"]},
            "personalisation",
            "learning",
        ),
        "updated": _time(
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
        "id": _id("Your id of the product.", "p-espresso"),
        "title": _text("Its name, for people.", "Espresso beans"),
        "brand": _text("Becomes the marker `brand:…`.", "Acme", maxLength=120),
        "category": _text("Becomes the marker `category:…`.", "coffee", maxLength=120),
        "attributes": _free(
            "Each becomes a marker `name:value`; a list gives one marker each.",
            {"claim": ["organic", "fair-trade"], "roast": "dark"},
        ),
        "dna": _dna(
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
        "id": _id("Your id of the offer.", "taxi-to-airport"),
        "campaign": _text("What the offer belongs to.", "hotel", maxLength=128),
        "content": _free(
            "What the app shows, by name: title, body, image, link.",
            {"title": "A taxi to the airport", "body": "Ready in five minutes"},
            additionalProperties={"type": ["string", "number"], "maxLength": 4096},
        ),
        "dna": _dna("The offer's own DNA.", {"marker": "service:taxi", "salience": 1.0}),
        "value": _number("What a success is worth, in your currency's unit.", 4.5, 0, 1_000_000),
        "priority": _whole(
            "Higher comes first whatever the score; 0 unless there is a reason.", 0, -1000, 1000
        ),
        "areas": _object(
            "Where it may be shown; left out: everywhere.",
            {
                "cells": _list("In these H3 cells, of any resolution.", _CELL_ITEM, _CELL),
                "near": _list("At these kinds of place.", _WORD, "hotel"),
            },
        ),
        "near": _list("The same as `areas.near`.", _WORD, "hotel"),
        "cells": _list("The same as `areas.cells`.", _CELL_ITEM, _CELL),
        "valid": _object(
            "When it may be shown; left out: always.",
            {
                "from": _time("From this moment on.", "2026-01-01T00:00:00+01:00"),
                "until": _time("Until just before this moment.", "2027-01-01T00:00:00+01:00"),
            },
        ),
        "days": _list("On these days, local: 1 (Monday) to 7, or names.", _WORD, "sat", "sun"),
        "hours": _list("At these hours, local: 0 to 23, or ranges.", _WORD, "17-21"),
        "any_of": _list(
            "Shown only with at least one of these markers, of the moment or of the genome.",
            _MARKER,
            "activity:flight-search",
            "place:airport",
        ),
        "all_of": _list("Shown only with all of these markers.", _MARKER, "place:hotel"),
        "none_of": _list("Never shown with any of these markers.", _MARKER, "service:own-car"),
        "channels": _list("Only in these channels.", _WORD, "kiosk"),
        "placements": _list("Only in these placements.", _WORD, "lobby-screen"),
        "caps": _list(
            "How often one customer (or device) may see or redeem it. A JSON text in CSV.",
            _object(
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
        "exclusivity_group": _text("At most one offer of a group is shown at a time.", "rides"),
        "consent": _field(
            "string",
            "Shown only to customers who agreed to this.",
            "personalisation",
            enum=["personalisation", "learning", "location"],
        ),
        "required_features": _list("What an SDK must be able to do to show it.", _WORD, "squarecb"),
        "stop_after": _object(
            "Never shown again to a customer after this.",
            {
                "redeem": _field("boolean", "After it was redeemed.", True),
                "dismiss": _field("boolean", "After it was dismissed.", False),
            },
        ),
    },
)

_PLACEMENTS = _kind(
    "placements",
    "Placements: where offers are shown.",
    ["id"],
    {
        "id": _id("Your id of the placement; what an app passes to `decide`.", "lobby-screen"),
        "slots": _whole("The most offers at a time; 1 if left out.", 1, 1, 64),
        "channel": _text("The channel it belongs to.", "kiosk", maxLength=120),
        "shown": _field(
            "string",
            "When an offer counts as shown: when it is decided, or when a view is reported.",
            "view",
            enum=["decide", "view"],
        ),
        "house_offer": _text("What is shown when nothing else may be.", "welcome", maxLength=128),
        "explorer": _field(
            "string",
            "`greedy` shows the best; `squarecb` also tries others, which is how it learns.",
            "squarecb",
            enum=["greedy", "squarecb"],
        ),
        "gamma": _number("squarecb: how fast a lower score becomes rarer.", 100.0, 0, 1_000_000),
        "floor": _number("squarecb: least share of the decisions spread evenly.", 0.1, 0, 1),
        "outcome_window_hours": _whole(
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
        "id": _id("Your id of the place.", "hotel-1"),
        "kind": _text(
            "What it is; becomes the marker `place:…`.", "hotel", minLength=1, maxLength=120
        ),
        "name": _text("Its name, for people.", "Grand Hotel"),
        "lat": {
            **_number("Latitude of its middle in degrees; needs `lng`.", 48.2, -90, 90),
            "x-private": True,
        },
        "lng": {
            **_number("Longitude of its middle in degrees.", 16.37, -180, 180),
            "x-private": True,
        },
        "radius_m": _number("How far it reaches, in metres; 50 if left out.", 80, 1, 50_000),
        "cells": _list("Its area as H3 cells, instead of coordinates.", _CELL_ITEM, _CELL),
        "salience": _number(
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
        "interaction_id": _id(
            "Makes it count once, however often it is imported or reported. Left out, it is "
            "made from the row.",
            "order-77-line-1",
        ),
        "customer": _id("The customer's id.", "c-1001"),
        "source": _text(
            "Whose id it is; `app` if left out.",
            "app",
            pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
            **{"x-expected": "lower-case letters, digits and hyphens"},
        ),
        "kind": _text(
            "A kind of the DNA schema (dna.yaml): view, wish, cart, buy, redeem, dismiss …",
            "buy",
            maxLength=64,
        ),
        "product": _id("The product's id.", "p-espresso"),
        "offer": _id("The offer's id.", "taxi-to-airport"),
        "dna": _dna("The DNA of what it was about, where it is neither.", "claim:organic"),
        "time": _time("When it happened, local time with its offset.", "2026-03-01T18:05:00+01:00"),
        "amount": _number("What was paid, in `currency`.", 12.9, -1e9, 1e9),
        "currency": _text(
            "Three letters.", "EUR", pattern="^[A-Z]{3}$", **{"x-expected": "a code such as EUR"}
        ),
        "quantity": _number("How many.", 2, -1e6, 1e6),
        "tender": _text("How it was paid.", "coupon", maxLength=120),
        "dwell_ms": _whole("How long it was looked at, in milliseconds.", 1500, 0, 86_400_000_000),
        "cell": {
            **_CELL_ITEM,
            "description": "The H3 cell where it happened; only its region is kept.",
            "examples": [_CELL],
        },
        "context": _free(
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
        from edge_sdk.markers import nearest_name

        near = nearest_name(name, KINDS)
        hint = f"did you mean {near!r}?" if near else f"one of {', '.join(KINDS)}"
        raise UsageError(f"{name!r} is no kind of import: {hint}")
    return kind
