"""By which fields offers and placements of releases differ."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.engine.offers import offer_from_document
from edge_sdk.engine.placements import placement_from_document
from genome_server.releases.differences import differences

OFFER: dict[str, Any] = {"id": "spa", "dna": ["service:spa", "brand:acme"], "value": 2}
PLACEMENT: dict[str, Any] = {"id": "screen"}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, {}),
        ({"value": 2.5, "cost": 1}, {"value": (2.0, 2.5), "cost": (0.0, 1.0)}),
        ({"dna": [{"marker": "brand:acme", "salience": 0.5}]},
         {"dna.service:spa": (1.0, None), "dna.brand:acme": (1.0, 0.5)}),
        ({"days": [1], "channels": ["kiosk"]}, {"days": ([], [1]), "channels": ([], ["kiosk"])}),
        ({"content": {"title": "A"}}, {"content.title": (None, "A")}),
        ({"stop_after": {"redeem": True}}, {"stop_after.redeem": (False, True)}),
        ({"category": "rides"}, {"category": ("", "rides")}),
    ],
)  # fmt: skip
def test_of_an_offer(document: dict[str, Any], said: dict[str, Any]) -> None:
    before, after = (offer_from_document({**OFFER, **more}) for more in ({}, document))
    found = differences(before, after)
    assert {one["field"]: (one["before"], one["after"]) for one in found} == said
    assert [one["field"] for one in found] == sorted(said)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"slots": 2, "holdout": 0.25}, {"slots": (1, 2), "holdout": (0.0, 0.25)}),
        ({"least_worth": 0}, {"least_worth": (None, 0.0)}),
        ({"shown": "view"}, {"shown": ("shown_on_decide", "shown_on_view")}),
        ({"experiment": {"arms": {"bold": 0.2}}}, {"experiment.arms.bold": (None, 0.2)}),
    ],
)
def test_of_a_placement(document: dict[str, Any], said: dict[str, Any]) -> None:
    before, after = (placement_from_document({**PLACEMENT, **more}) for more in ({}, document))
    found = differences(before, after)
    assert {one["field"]: (one["before"], one["after"]) for one in found} == said
