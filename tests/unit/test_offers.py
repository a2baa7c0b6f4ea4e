"""Documents about offers and placements become messages, or say what is wrong and where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import h3.api.basic_int as h3
import pytest

from edge_sdk.engine.offers import (
    InvalidDocument,
    offer_from_document,
    placement_from_document,
    rings_of,
)
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


def test_windows_zone_sizes_and_cost() -> None:
    spec = offer_from_document(
        {
            "id": "a",
            "value": 5,
            "cost": 1.25,
            "category": "rides",
            "sizes": ["300X250", "a4"],
            "zone": "Europe/Berlin",
            "windows": [
                {"from": "2026-07-01T18:00", "until": "2026-07-01T20:00:00Z"},
                {"from": "2026-03-29T02:30", "until": "2026-03-29T05:00"},  # 02:30 does not exist
                {"from": "2026-07-01T19:00:00Z", "until": "2026-07-01T23:00"},  # overlaps the first
            ],
            "cool_down_hours": 6,
            "stop_after": {"convert": True},
            "caps": [
                {"limit": 2, "over": "campaign", "calendar": "day", "paced": True},
                {"limit": 9, "over": "group", "window_hours": 1},
            ],
        }
    )
    t = spec.targeting
    ms = [
        (
            datetime.fromisoformat(start).timestamp() * 1000,
            datetime.fromisoformat(end).timestamp() * 1000,
        )
        for start, end in [
            ("2026-03-29T03:30:00+02:00", "2026-03-29T05:00:00+02:00"),
            ("2026-07-01T18:00:00+02:00", "2026-07-01T23:00:00+02:00"),
        ]
    ]
    assert [(w.from_ms, w.until_ms) for w in t.windows] == ms
    assert (t.valid_from_ms, t.valid_until_ms) == (ms[0][0], ms[1][1])
    assert t.zone == "Europe/Berlin"
    assert (spec.value_micros, spec.cost_micros) == (5_000_000, 1_250_000)
    assert (spec.category, list(spec.sizes)) == ("rides", ["300x250", "a4"])
    assert (spec.cool_down_hours, spec.stop_after_convert) == (6, True)
    cap = release_pb2.Cap
    assert [(c.over, c.calendar, c.paced) for c in spec.caps] == [
        (cap.OVER_CAMPAIGN, cap.CALENDAR_DAY, True),
        (cap.OVER_GROUP, cap.CALENDAR_UNSPECIFIED, False),
    ]
    assert list(spec.required_features) == ["windows-1", "zones-1", "sizes-1", "caps-2"]


def test_one_window_is_a_validity_and_needs_no_feature() -> None:
    alone = {"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}
    assert offer_from_document({"id": "a", "windows": [alone]}) == offer_from_document(
        {"id": "a", "valid": alone}
    )
    touching = {"from": "2026-02-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"}
    joined = offer_from_document({"id": "a", "windows": [touching, alone]})
    assert not joined.targeting.windows
    assert not joined.required_features


def cells_of(spec: release_pb2.OfferSpec, resolution: int) -> set[int]:
    """The area of an offer in cells of one resolution."""
    cells = map(h3.str_to_int, spec.targeting.cells)
    return {fine for cell in cells for fine in h3.cell_to_children(cell, resolution)}


def test_rings_become_cells_and_near_rings_markers() -> None:
    cell = h3.str_to_int(CELL)
    ring = offer_from_document({"id": "a", "cells": [CELL], "rings": 1})
    assert {h3.str_to_int(c) for c in ring.targeting.cells} == set(h3.grid_disk(cell, 1))
    wide = offer_from_document({"id": "a", "areas": {"cells": [CELL], "rings": 12}})
    covered = cells_of(wide, h3.get_resolution(cell))
    assert covered == set(h3.grid_disk(cell, 12))
    assert len(wide.targeting.cells) < len(covered)
    near = offer_from_document({"id": "a", "near": ["hotel", "bar"], "near_rings": 2})
    assert list(near.targeting.near_places) == [
        "place:hotel",
        "place:bar",
        "around-2:hotel",
        "around-2:bar",
    ]
    assert rings_of("around-2:hotel") == ("place:hotel", 2)
    assert rings_of("place:hotel") is rings_of("around-0:hotel") is None


def test_rings_around_a_pentagon_and_across_the_date_line() -> None:
    pentagon = h3.get_pentagons(6)[0]
    spec = offer_from_document({"id": "a", "cells": [h3.int_to_str(pentagon)], "rings": 2})
    assert cells_of(spec, 6) == set(h3.grid_disk(pentagon, 2))
    fiji = h3.latlng_to_cell(-17.0, 179.999, 7)
    spec = offer_from_document({"id": "a", "cells": [h3.int_to_str(fiji)], "rings": 3})
    longitudes = [h3.cell_to_latlng(h3.str_to_int(c))[1] for c in spec.targeting.cells]
    assert min(longitudes) < -179 < 179 < max(longitudes)


@pytest.mark.parametrize(
    ("doc", "field", "words"),
    [
        ({"zone": "Europe/Berln"}, "zone", "did you mean 'Europe/Berlin'"),
        ({"zone": "Mars/Olympus"}, "zone", "no time zone"),
        ({"valid": {"from": "2026-07-01T18:00"}}, "valid.from", "offset"),
        ({"windows": [{"from": "2026-07-01T18:00"}]}, "windows[0].from", "offset"),
        ({"windows": [{"til": 1}]}, "windows[0].til", "until"),
        (
            {"windows": [{"until": "2026-07-01T18:00Z"}], "valid": {"until": "2026-07-01T18:00Z"}},
            "windows",
            "either",
        ),
        (
            {
                "windows": [
                    {"from": "2026-07-01T18:00Z", "until": "2026-07-02T18:00Z"},
                    {"from": "2026-08-01T18:00Z"},
                ]
            },
            "windows[1].until",
            "both ends",
        ),
        (
            {
                "windows": [
                    {"from": "2026-07-01T18:00Z", "until": "2026-07-01T18:00Z"},
                    {"from": "2026-08-01T18:00Z", "until": "2026-08-02T18:00Z"},
                ]
            },
            "windows[0].until",
            "after its from",
        ),
        ({"rings": 2}, "rings", "cells that the rings are around"),
        ({"areas": {"cells": [CELL], "rings": 101}}, "areas.rings", "0 to 100"),
        ({"near_rings": 2}, "near_rings", "kinds of place"),
        ({"near": ["hotel"], "near_rings": 0.5}, "near_rings", "whole"),
        ({"cost": -1}, "cost", "0"),
        ({"sizes": [""]}, "sizes[0]", "marker"),
        ({"cool_down_hours": -1}, "cool_down_hours", "0"),
        ({"caps": [{"limit": 1, "over": "all"}]}, "caps[0].over", "campaign"),
        ({"caps": [{"limit": 1, "calendar": "year"}]}, "caps[0].calendar", "month"),
        ({"caps": [{"limit": 1, "paced": True}]}, "caps[0].paced", "calendar"),
        (
            {"caps": [{"limit": 1, "calendar": "day", "window_hours": 3}]},
            "caps[0].window_hours",
            "either",
        ),
    ],
)
def test_a_wrong_field_of_the_richer_rules_is_named(
    doc: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidDocument) as caught:
        offer_from_document({"id": "a", **doc})
    assert caught.value.field == field
    assert words in str(caught.value)


def test_too_many_cells_of_rings_are_refused() -> None:
    apart = [h3.latlng_to_cell(lat, 10.0, 9) for lat in range(-50, 50, 5)]
    doc = {"id": "a", "cells": [h3.int_to_str(c) for c in apart], "rings": 100}
    with pytest.raises(InvalidDocument, match="more than 500,000") as caught:
        offer_from_document(doc)
    assert caught.value.field == "rings"
    with pytest.raises(InvalidDocument, match="at most 500,000"):
        offer_from_document({"id": "a", "cells": [CELL] * 500_001})


def test_placements_hold_out_vary_and_ask_for_worth() -> None:
    spec = placement_from_document(
        {
            "id": "feed",
            "sizes": ["A4"],
            "holdout": 0.05,
            "holdout_seed": "spring",
            "most_per_category": 2,
            "least_worth": -0.5,
        }
    )
    assert (spec.holdout_ppm, spec.holdout_seed) == (50_000, "spring")
    assert (spec.most_per_category, spec.least_worth_micros) == (2, -500_000)
    assert list(spec.sizes) == ["a4"]
    assert placement_from_document({"id": "feed", "least_worth": 0}).HasField("least_worth_micros")
    assert not placement_from_document({"id": "feed"}).HasField("least_worth_micros")
    for field, value in (("holdout", 1.5), ("most_per_category", -1), ("least_worth", "much")):
        with pytest.raises(InvalidDocument) as caught:
            placement_from_document({"id": "x", field: value})
        assert caught.value.field == field
