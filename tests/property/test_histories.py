"""Decisions one after the other, and what follows them: the engine against the reference."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import given, settings

from tests.property.histories import histories, live
from tests.property.worlds import Made


@settings(max_examples=60, deadline=None)
@given(**histories())
def test_a_device_keeps_away_what_the_rules_say(
    made: Made, begin: datetime, offset: int, steps: list[tuple[Any, ...]]
) -> None:
    live(made, begin, offset, steps)
