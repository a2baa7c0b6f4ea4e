"""What can be imported of offers and placements; see `genome_server.ingest.kinds`."""

from __future__ import annotations

from typing import Final

from edge_sdk.engine.covers import MAX_RINGS
from edge_sdk.engine.offers import MAX_NEAR_RINGS
from genome_server.ingest.kind import kind_of
from genome_server.ingest.terms import (
    CELL,
    CELL_ITEM,
    MARKER,
    WORD,
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
from genome_server.ingest.worth import MAX_WORTH

_FRIDAY: Final = ("2035-06-01T17:00:00+02:00", "2035-06-01T22:00:00+02:00")
_SATURDAY: Final = ("2035-06-02T17:00:00+02:00", "2035-06-02T22:00:00+02:00")

OFFERS: Final = kind_of(
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
        "value": number(
            "What a success is worth, in your currency's unit, or in a larger one that all offers "
            f"and placements share: less the cost it is at most {MAX_WORTH:,}.",
            4.5,
            0,
            1_000_000,
        ),
        "cost": number(
            "What a success costs you: the discount, the goods. An offer is worth its value less "
            f"its cost, which is at least -{MAX_WORTH:,}.",
            1.5,
            0,
            1_000_000,
        ),
        "price": number(
            "What it is sold for where nothing is taken off. Of price, margin, discount and ladder "
            "devices are told what follows: a value and a cost.",
            7.5,
            0,
            1_000_000,
        ),
        "margin": number(
            "What remains of the price where nothing is taken off, 0 to 1: where `value` is left "
            "out it is price x margin.",
            0.6,
            0,
            1,
        ),
        "discount": number(
            "What is taken off the price, 0 to 1: it costs price x discount beside `cost`, and "
            "becomes DNA, a marker `discount-at-least:…` for each step up to its depth.",
            0.2,
            0,
            1,
        ),
        "ladder": text(
            "Offers of one ladder are the same but for their `discount`; at most one of them is "
            "shown at a time.",
            "airport-rides",
            maxLength=120,
        ),
        "priority": whole(
            "Higher comes first whatever the score; 0 unless there is a reason.", 0, -1000, 1000
        ),
        "areas": object_(
            "Where it may be shown; left out: everywhere.",
            {
                "cells": list_("In these H3 cells, of any resolution.", CELL_ITEM, CELL),
                "rings": whole(
                    "And so many rings of cells around each of them, in cells of its size.",
                    2,
                    0,
                    MAX_RINGS,
                ),
                "near": list_("At these kinds of place.", WORD, "hotel"),
                "near_rings": whole(
                    "And so many rings of cells around such places, in cells of the places' size. "
                    "A place that the app declares still counts.",
                    1,
                    0,
                    MAX_NEAR_RINGS,
                ),
            },
        ),
        "near": list_("The same as `areas.near`.", WORD, "hotel"),
        "near_rings": whole("The same as `areas.near_rings`.", 1, 0, MAX_NEAR_RINGS),
        "cells": list_("The same as `areas.cells`.", CELL_ITEM, CELL),
        "rings": whole("The same as `areas.rings`.", 2, 0, MAX_RINGS),
        "valid": object_(
            "When it may be shown; left out: always.",
            {
                "from": time("From this moment on.", "2026-01-01T00:00:00+01:00"),
                "until": time("Until just before this moment.", "2036-01-01T00:00:00+01:00"),
            },
        ),
        "windows": list_(
            "In place of `valid`, where it is more than one time: each with `from` and `until`. "
            "Those that overlap are joined. A JSON text in CSV.",
            object_(
                "One window.",
                {"from": time("From.", _FRIDAY[0]), "until": time("Until.", _FRIDAY[1])},
            ),
            {"from": _FRIDAY[0], "until": _FRIDAY[1]},
            {"from": _SATURDAY[0], "until": _SATURDAY[1]},
        ),
        "zone": text(
            "The time zone (IANA) by whose clocks `days` and `hours` are meant, calendars of caps "
            "run, and times without an offset are read; without one days and hours are those of "
            "the moment, wherever it is.",
            "Europe/Vienna",
            maxLength=64,
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
        "sizes": list_(
            "The sizes in which it can be shown; a placement that names sizes takes only offers "
            "in one of them.",
            WORD,
            "300x250",
            "a4",
        ),
        "caps": list_(
            "How often one customer (or device) may see or redeem it: within the last "
            "`window_hours` (0: ever), or since the `calendar`'s hour, day, week or month began. "
            "Counts the offer, or with `over` all offers of its campaign or exclusivity group "
            "together. `paced` spreads a calendar's limit over it. A JSON text in CSV.",
            object_(
                "One limit.",
                {
                    "count": {"enum": ["view", "redeem"]},
                    "limit": {"type": "integer", "minimum": 1, "maximum": 100_000},
                    "window_hours": {"type": "integer", "minimum": 0, "maximum": 24 * 3660},
                    "scope": {"enum": ["customer", "device"]},
                    "over": {"enum": ["offer", "campaign", "group"]},
                    "calendar": {"enum": ["hour", "day", "week", "month"]},
                    "paced": {"type": "boolean"},
                },
                required=["limit"],
            ),
            {"count": "view", "limit": 3, "window_hours": 24, "scope": "customer"},
            {"limit": 40, "scope": "device", "over": "campaign", "calendar": "day", "paced": True},
        ),
        "cool_down_hours": whole(
            "Not shown again to a customer for so many hours after it was shown.",
            4,
            0,
            24 * 3660,
        ),
        "exclusivity_group": text("At most one offer of a group is shown at a time.", "rides"),
        "category": text(
            "Of which a placement shows at most so many (`most_per_category`).",
            "transport",
            maxLength=128,
        ),
        "products": list_(
            "The products that it is for: where a placement says so (`credit`), who buys one of "
            "them took the offer. Devices are not told.",
            WORD,
            "p-espresso",
        ),
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
                "convert": field(
                    "boolean",
                    "After it succeeded: an outcome of it, or an interaction that names it, of a "
                    "kind that the DNA schema counts as a success.",
                    False,
                ),
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
    alternatives=(("valid",), ("windows",)),
)

PLACEMENTS: Final = kind_of(
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
        "mode": field(
            "string",
            "`online` (if left out) shows what is chosen; `log-only` and `apprentice` show nothing "
            "of it and record what would have been shown. As an apprentice, the model learns from "
            "what the app shows by itself and reports.",
            "online",
            enum=["online", "apprentice", "log-only"],
        ),
        "gamma": number(
            "squarecb: how fast a lower score becomes rarer; if left out, it follows from how many "
            "examples the model was trained on.",
            100.0,
            0,
            1_000_000,
        ),
        "floor": number(
            "squarecb: least share of the decisions spread evenly; 0.01 if left out.", 0.01, 0, 1
        ),
        "outcome_window_hours": whole(
            "Hours in which what follows is credited to a decision.", 24, 1, 24 * 366
        ),
        "goal": list_(
            "The kinds of interaction that are a success here, of those that dna.yaml calls one: "
            "`buy` alone, where a click is not what counts. Left out: all of them. What else "
            "dna.yaml calls a success tells no more than that it was seen. Devices are not told.",
            WORD,
            "buy",
            "redeem",
        ),
        "credit": field(
            "string",
            "What becomes of a purchase that names no decision: `none` (if left out) credits none; "
            "`last-shown` the last one here that showed the person what the purchase is of, within "
            "`outcome_window_hours`. Devices are not told.",
            "last-shown",
            enum=["none", "last-shown"],
        ),
        "slot_effects": field(
            "string",
            "What a slot's success may depend on, for estimates of what another policy would have "
            "earned: `cascade` (if left out) its own offer and those before it, `joint` all offers "
            "of the decision. Devices are not told.",
            "cascade",
            enum=["cascade", "joint"],
        ),
        "sizes": list_("Sizes that fit; left out: any.", WORD, "300x250"),
        "holdout": number(
            "Share of customers (of decisions for nobody) who are shown nothing of what is chosen "
            "for them, so that its effect can be measured.",
            0.05,
            0,
            1,
        ),
        "holdout_seed": text("Change it to hold out others.", "2026", maxLength=128),
        "most_per_category": whole(
            "At most so many offers of one category in a decision; 0 if left out: no such limit.",
            2,
            0,
            64,
        ),
        "least_worth": number(
            "Offers that are expected to be worth less than this, in the unit of their values, are "
            f"not shown; from -{MAX_WORTH:,} to {MAX_WORTH:,}.",
            0.02,
            -1_000_000,
            1_000_000,
        ),
        "experiment": object_(
            "Other placements that decide for shares of the customers, so that they are compared.",
            {
                "seed": text("Change it to draw others.", "autumn", maxLength=128),
                "arms": free(
                    "By placement its share of the customers (of decisions for nobody); the rest "
                    "stay. An arm is imported in the same file, before or behind, or earlier; it "
                    "has none itself.",
                    {"lobby-screen-2": 0.2},
                    additionalProperties={"type": "number", "minimum": 0, "maximum": 1},
                ),
            },
        ),
    },
    alternatives=(("experiment",), ()),
)
