"""Offers that can never be shown are found before anybody wonders."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.engine.offer_check import check_offer
from edge_sdk.engine.offers import offer_from_document
from genome_edge.v1 import release_pb2

DAY = 86_400_000


def test_a_good_offer_has_no_problems() -> None:
    offer = offer_from_document(
        {
            "id": "taxi",
            "dna": ["ride:taxi"],
            "near": ["hotel"],
            "cells": ["8a2a1072b59ffff"],
            "valid": {"from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"},
            "all_of": ["activity:flight-search"],
            "any_of": ["a:b", "a:c"],
            "none_of": ["a:c"],
            "caps": [{"limit": 1}],
            "placements": ["lobby"],
        }
    )
    found = check_offer(offer, now_ms=0)
    assert found == []


def built(**fields: Any) -> release_pb2.OfferSpec:
    targeting = release_pb2.Targeting()
    offer = release_pb2.OfferSpec(id="o")
    for name, value in fields.items():
        holder = targeting if name in targeting.DESCRIPTOR.fields_by_name else offer
        if isinstance(value, list):
            getattr(holder, name).extend(value)
        else:
            setattr(holder, name, value)
    offer.targeting.CopyFrom(targeting)
    return offer


@pytest.mark.parametrize(
    ("offer", "problem"),
    [
        (built(id=""), "id: is missing"),
        (built(value_micros=-1), "value: is below 0"),
        (built(valid_from_ms=DAY, valid_until_ms=DAY), "valid.until: is not after"),
        (built(valid_until_ms=DAY), "valid.until: is over"),
        (built(all_of=["a:b", "a:c"], none_of=["a:c"]), "all_of[1]: 'a:c' is in none_of"),
        (built(any_of=["a:b"], none_of=["a:b", "a:c"]), "any_of: every marker"),
        (built(none_of=["nonsense"]), "none_of[0]: 'nonsense' is not a marker"),
        (built(cells=["8a2a1072b59ffff", "zz"]), "areas.cells[1]: 'zz'"),
        (built(near_places=["hotel"]), "areas.near[0]: 'hotel' is not a place"),
        (built(near_places=["place:hotel"], none_of=["place:hotel"]), "none_of: rules out"),
        (built(days=[0]), "days[0]"),
        (built(hours=[3, 24]), "hours[1]: 24"),
        (built(caps=[release_pb2.Cap()]), "caps[0].limit"),
        (built(purpose=9), "consent: purpose 9"),
        (built(required_features=["square-cb"]), "required_features[0]: no SDK has"),
    ],
)
def test_a_problem_is_named_with_its_field(offer: release_pb2.OfferSpec, problem: str) -> None:
    found = check_offer(offer, now_ms=2 * DAY)
    assert any(problem in text for text in found), found


def test_time_that_is_over_is_looked_at_only_where_it_is_asked() -> None:
    assert check_offer(built(valid_until_ms=1)) == []
