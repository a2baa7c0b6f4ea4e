"""What counts of a campaign where nobody says it: the goal of its placements."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule
from genome_server.errors import UsageError
from genome_server.lift.campaigns import arms_of, find_campaign, find_experiment, kinds_of


def schema_of(*kinds: KindRule) -> DnaSchema:
    return DnaSchema(
        epoch=1, landmark_hour=490_000, namespaces=(), kinds=kinds, default_half_life_hours=240
    )


VIEW = KindRule("view", ONE_Q24 // 4)
SCHEMA = schema_of(VIEW, KindRule("click", ONE_Q24, label=1), KindRule("buy", 2 * ONE_Q24, label=1))
ALL = ("buy", "click")
PLACEMENTS: dict[str, dict[str, Any]] = {
    "till": {"holdout": 0.1, "goal": ["buy"]},
    "app": {"holdout": 0.1, "goal": ["buy"]},
    "screen": {"goal": ["click"]},
    "lobby": {"holdout": 0.1},
    "shop": {"goal": ["buy"], "experiment": {"seed": "a", "arms": {"screen": 0.5}}},
}
OFFERS = {"taxi": {"id": "taxi", "campaign": "rides"}}


def counted(name: str, without: str = "", said: tuple[str, ...] = ()) -> tuple[str, ...]:
    placements = {one: doc for one, doc in PLACEMENTS.items() if one != without}
    return kinds_of(said, find_campaign(name, placements, OFFERS), SCHEMA)


def test_a_placement_counts_its_goal() -> None:
    assert counted("till") == ("buy",)
    assert counted("screen") == ("click",)
    assert counted("lobby") == ALL


def test_offers_count_what_all_that_hold_out_agree_on() -> None:
    assert counted("taxi") == counted("rides") == ALL  # the lobby states none
    assert counted("taxi", without="lobby") == counted("rides", without="lobby") == ("buy",)


def test_what_is_said_counts() -> None:
    assert counted("till", said=("view", "click", "view")) == ("view", "click")
    with pytest.raises(UsageError, match="no kind 'wink'; it has buy, click, view"):
        counted("till", said=("wink",))
    with pytest.raises(UsageError, match="no kind of the DNA schema is a success"):
        kinds_of((), find_campaign("till", PLACEMENTS, OFFERS), schema_of(VIEW))


def test_arms_are_judged_by_the_goal_of_their_placement() -> None:
    experiment = find_experiment("shop", PLACEMENTS)
    (arm,) = arms_of(experiment, ())
    assert arm.name == "screen"
    assert kinds_of((), arm, SCHEMA) == kinds_of((), experiment, SCHEMA) == ("buy",)


def test_a_goal_that_the_schema_calls_no_success_any_more_is_none() -> None:
    placements = {"till": {"goal": ["view"]}}
    assert kinds_of((), find_campaign("till", placements, {}), SCHEMA) == ALL
