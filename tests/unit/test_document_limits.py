"""Documents with values at and beyond what can be held."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.engine.offer_check import check_offer
from edge_sdk.engine.offers import InvalidDocument, offer_from_document
from edge_sdk.engine.placements import placement_from_document

FAR = 10**5_000


@pytest.mark.parametrize("field", ["value", "cost", "priority", "cool_down_hours", "days"])
def test_numbers_beyond_all_numbers_are_named(field: str) -> None:
    value: Any = [FAR] if field == "days" else FAR
    with pytest.raises(InvalidDocument) as caught:
        offer_from_document({"id": "o", field: value})
    assert caught.value.field.startswith(field)
    assert len(str(caught.value)) < 300
    with pytest.raises(InvalidDocument, match="gamma"):
        placement_from_document({"id": "p", "gamma": FAR})


def test_the_first_moment_of_1970_is_a_moment() -> None:
    """Not the 0 that stands for nothing: such an offer would never end."""
    made = offer_from_document({"id": "o", "valid": {"until": "1970-01-01T00:00:00Z"}})
    assert made.targeting.valid_until_ms == 1
    assert check_offer(made, now_ms=2) == ["valid.until: is over"]


def test_one_window_that_ends_before_it_begins_is_named_as_it_was_written() -> None:
    window = {"from": "2026-06-02T00:00Z", "until": "2026-06-01T00:00Z"}
    with pytest.raises(InvalidDocument) as caught:
        offer_from_document({"id": "o", "windows": [window]})
    assert caught.value.field == "windows[0].until"
    for end in ("from", "until"):
        made = offer_from_document({"id": "o", "windows": [{end: window[end]}]})
        assert made.targeting.ByteSize()
