"""Whole decisions: the engine against the reference. `make drill ONLY=rules` takes thousands."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from tests.property.agreement import agree, decisions
from tests.property.worlds import Made


@settings(max_examples=100, deadline=None)
@given(**decisions())
def test_a_decision_is_what_the_rules_say(asked: tuple[Made, list[dict[str, Any]]]) -> None:
    agree(asked)
