"""Documents about offers and placements become messages, or say what is wrong and where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from edge_sdk.engine.offers import InvalidDocument, offer_from_document, placement_from_document
from edge_sdk.errors import UsageError
from genome_edge.v1 import dna_pb2, release_pb2

CELL = "8a2a1072b59ffff"


def test_the_least_that_an_offer_is() -> None:
    offer = offer_from_document({"id": "taxi"})
    assert offer == release_pb2.OfferSpec(
        id="taxi", value_micros=1_000_000, targeting=release_pb2.Targeting()
    )


def test_everything_that_an_offer_can_be() -> None:
    offer = offer_from_document(
        {
            "id": "taxi",
            "campaign": "rides",
            "content": {"title": "A taxi", "price": 25},
            "dna": [{"marker": "Ride:Taxi", "salience": 0.5}, "claim:fast"],
            "value": 4.5,
            "priority": "2",
            "areas": {"cells": [CELL.upper()], "near": ["Hotel"]},
            "valid": {"from": "2026-06-01T00:00:00+02:00", "until": "2026-07-01T00:00:00Z"},
            "days": [1, "sat", "Sunday"],
            "hours": [9, "22-1"],
            "any_of": ["activity:flight-search"],
            "all_of": ["place:hotel"],
            "none_of": ["ride:own car"],
            "channels": ["channel:kiosk", "app"],
            "placements": ["lobby"],
            "caps": [
                {"limit": 3, "window_hours": 24},
                {"limit": 1, "count": "redeem", "scope": "device"},
            ],
            "exclusivity_group": "rides",
            "consent": "location",
            "required_features": ["squarecb"],
            "stop_after": {"redeem": True, "dismiss": "false"},
        }
    )  # fmt: skip
    t = offer.targeting
    assert dict(offer.content) == {"title": "A taxi", "price": "25"}
    assert [(m.marker, m.salience_q8) for m in offer.dna] == [
        ("ride:taxi", 128),
        ("claim:fast", 256),
    ]
    assert (offer.value_micros, offer.priority) == (4_500_000, 2)
    assert list(t.cells) == [CELL]
    assert list(t.near_places) == ["place:hotel"]
    assert t.valid_from_ms == datetime(2026, 5, 31, 22, tzinfo=UTC).timestamp() * 1000
    assert t.valid_until_ms == datetime(2026, 7, 1, tzinfo=UTC).timestamp() * 1000
    assert list(t.days) == [1, 6, 7]
    assert list(t.hours) == [0, 1, 9, 22, 23]
    assert list(t.none_of) == ["ride:own-car"]
    assert list(t.channels) == ["kiosk", "app"]
    assert offer.purpose == dna_pb2.CONSENT_PURPOSE_LOCATION
    assert (offer.stop_after_redeem, offer.stop_after_dismiss) == (True, False)
    cap = release_pb2.Cap
    assert list(offer.caps) == [
        cap(scope=cap.SCOPE_CUSTOMER, count=cap.COUNT_VIEW, limit=3, window_hours=24),
        cap(scope=cap.SCOPE_DEVICE, count=cap.COUNT_REDEEM, limit=1, window_hours=0),
    ]


def test_texts_assets_and_age_name_the_features_that_they_need() -> None:
    spec = offer_from_document(
        {
            "id": "a",
            "required_features": ["squarecb", "assets-1"],
            "texts": {"pt-BR": {"title": "Táxi", "price": 4}},
            "assets": {"image": "asset/0", "image.pt-BR": "asset/1"},
            "max_offline_age_hours": 12,
        }
    )
    assert list(spec.required_features) == ["squarecb", "assets-1", "offline-age-1"]
    assert spec.texts[0].language == "pt-BR"
    assert dict(spec.texts[0].content) == {"title": "Táxi", "price": "4"}
    assert [(one.name, one.language, one.part) for one in spec.assets] == [
        ("image", "", "asset/0"),
        ("image", "pt-BR", "asset/1"),
    ]
    assert spec.max_offline_age_hours == 12
    assert not offer_from_document({"id": "a", "texts": {"de": {}}}).required_features


def test_near_and_cells_may_stand_at_the_top_and_dna_may_be_a_mapping() -> None:
    short = offer_from_document({"id": "a", "near": ["bar"], "cells": [CELL], "dna": {"a:b": 2}})
    long = offer_from_document(
        {
            "id": "a",
            "areas": {"near": ["place:bar"], "cells": [CELL]},
            "dna": [{"marker": "a:b", "salience": 2.0}],
        }
    )
    assert short == long


@pytest.mark.parametrize(
    ("doc", "field", "words"),
    [
        ({}, "id", "1 to 128"),
        ({"id": "a b\n"}, "id", "printable"),
        ({"id": "a", "tilte": 1}, "tilte", "one of"),
        ({"id": "a", "contents": {}}, "contents", "did you mean content"),
        ({"id": "a", "content": {"title": None}}, "content.title", "text"),
        ({"id": "a", "content": "x"}, "content", "mapping"),
        ({"id": "a", "dna": ["organic"]}, "dna[0]", "claim:organic"),
        ({"id": "a", "dna": [{"marker": "a:b", "salience": 17}]}, "dna[0].salience", "16"),
        ({"id": "a", "dna": [{"marker": "a:b", "weight": 1}]}, "dna[0].weight", "salience"),
        ({"id": "a", "dna": "a:b"}, "dna", "list"),
        ({"id": "a", "value": "much"}, "value", "number"),
        ({"id": "a", "value": -1}, "value", "0"),
        ({"id": "a", "value": True}, "value", "number"),
        ({"id": "a", "priority": 0.5}, "priority", "whole number"),
        ({"id": "a", "areas": {"cells": ["zz"]}}, "areas.cells[0]", "H3 cell"),
        ({"id": "a", "cells": [CELL, 17]}, "cells[1]", "H3 cell"),
        ({"id": "a", "areas": {"cell": []}}, "areas.cell", "did you mean areas.cells"),
        ({"id": "a", "valid": {"from": "2026-06-01"}}, "valid.from", "offset"),
        ({"id": "a", "valid": {"until": "soon"}}, "valid.until", "offset"),
        ({"id": "a", "days": [8]}, "days[0]", "Monday"),
        ({"id": "a", "hours": [24]}, "hours[0]", "0 to 23"),
        ({"id": "a", "hours": ["9-"]}, "hours[0]", "0 to 23"),
        ({"id": "a", "any_of": [3]}, "any_of[0]", "marker"),
        ({"id": "a", "caps": [{"count": "view"}]}, "caps[0].limit", "whole number"),
        ({"id": "a", "caps": [{"limit": 1, "count": "click"}]}, "caps[0].count", "view, redeem"),
        ({"id": "a", "caps": [{"limit": 1, "scope": "all"}]}, "caps[0].scope", "device"),
        ({"id": "a", "consent": "all"}, "consent", "personalisation"),
        ({"id": "a", "stop_after": {"redeem": 1}}, "stop_after.redeem", "true or false"),
        ({"id": "a", "stop_after": {"view": True}}, "stop_after.view", "dismiss"),
    ],
)
def test_a_wrong_field_is_named(doc: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        offer_from_document(doc)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_placements() -> None:
    least = placement_from_document({"id": "lobby"})
    assert (least.max_slots, least.explorer, least.shown) == (
        1,
        "greedy",
        release_pb2.PlacementSpec.SHOWN_ON_DECIDE,
    )
    full = placement_from_document(
        {
            "id": "feed",
            "slots": 3,
            "channel": "App",
            "shown": "view",
            "house_offer": "hello",
            "explorer": "squarecb",
            "gamma": 50,
            "floor": "0.1",
            "outcome_window_hours": 48,
        }
    )
    assert full == release_pb2.PlacementSpec(
        id="feed",
        max_slots=3,
        channel="app",
        shown=release_pb2.PlacementSpec.SHOWN_ON_VIEW,
        house_offer="hello",
        explorer="squarecb",
        gamma=50,
        floor=0.1,
        outcome_window_hours=48,
    )
    for field, value in (("slots", 65), ("explorer", "ucb"), ("floor", 1.5), ("shown", "never")):
        with pytest.raises(InvalidDocument) as caught:
            placement_from_document({"id": "x", field: value})
        assert caught.value.field == field


@pytest.mark.parametrize(
    ("doc", "field"),
    [
        ({"texts": {"german!": {}}}, "texts.german!"),
        ({"texts": {"de": {"title": ["x"]}}}, "texts.de.title"),
        ({"assets": {"image.": "x"}}, "assets.image."),
        ({"assets": {".de": "x"}}, "assets..de"),
        ({"assets": {"image": ""}}, "assets.image"),
        ({"max_offline_age_hours": -1}, "max_offline_age_hours"),
    ],
)
def test_a_wrong_text_asset_or_age_is_named(doc: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        offer_from_document({"id": "a", **doc})
    assert caught.value.field == field
