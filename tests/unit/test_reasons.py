"""Every reason can come out, and every reason is documented."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.decision import NEVER_MS, Decision, Reason, Tier
from edge_sdk.engine.decide import decide, explain
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.withheld import InForce, Terms, Withholding
from edge_sdk.testing import FakeEdge
from tests.unit.test_engine import Broken
from tests.unit.test_explain import FAR, NOON, ONE_FOR_EACH

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"
HOUR = 3_600_000


def told(decision: Decision) -> set[Reason]:
    """Every reason that a decision and its explanation give."""
    losers = [reason for loser in decision.explain().losers for reason in loser.reasons]
    return {decision.reason, *(slot.reason for slot in decision.slots), *losers}


def one(offer: dict[str, Any] | None = None, *more: dict[str, Any], **asked: Any) -> Decision:
    """A decision about an offer and others, at a placement with two slots."""
    placement = {"id": "p", "slots": 2, **asked.pop("placement", {})}
    scorer = asked.pop("scorer", None)
    offers = [{"id": "a", **(offer or {})}, *more]
    release = release_from_documents(offers, [placement], scorer=scorer)
    in_force = asked.pop("in_force", None)
    if in_force is not None:
        withholding = Withholding(release.catalogue, in_force)
        asked["terms"] = Terms(withholding=withholding, offline_ms=2 * HOUR)
    decision, record = decide(release, NOON, asked.pop("at", "p"), asked.pop("slots", 1), **asked)
    if decision.reason is not Reason.UNKNOWN_PLACEMENT:
        assert explain(release, record.to_proto()) == decision.explain()
    return decision


def blocked(reason: str) -> Decision:
    return one(blocked=frozenset("a"), why_blocked={"a": (reason, NEVER_MS)})


def lacking_a_file() -> Decision:
    release = release_from_documents([{"id": "a"}], [{"id": "p"}])
    release.catalogue.offers[0].assets.add(name="image", part="x.png")
    release.catalogue.assets[0] = release.catalogue.offers[0].assets
    terms = Terms(withholding=Withholding(release.catalogue, InForce(held=frozenset())))
    return decide(release, NOON, "p", terms=terms)[0]


def forced() -> Decision:
    edge = FakeEdge([{"id": "a"}, {"id": "b"}])
    edge.force("b")
    return edge.decide(NOON, "p")


def explored() -> Decision:
    placement = {"explorer": "squarecb", "gamma": 0}
    made = (one({}, {"id": "b"}, placement=placement, seed=seed) for seed in range(50))
    return next(decision for decision in made if decision.reason is Reason.EXPLORED)


HOUSE = {"house_offer": "hello"}
HELLO = {"id": "hello", "placements": ["elsewhere"]}
SIBLING = {"exclusivity_group": "g"}
TWO_TIMES = [
    {"from": "2026-06-01T00:00:00Z", "until": "2026-06-02T00:00:00Z"},
    {"from": "2026-07-01T00:00:00Z", "until": "2026-07-02T00:00:00Z"},
]
CASES: dict[Reason, Callable[[], Decision]] = {
    Reason.CHOSEN: one,
    Reason.EXPLORED: explored,
    Reason.UNSCORED: lambda: one(scorer=Broken()),
    Reason.HOUSE: lambda: one({"days": ["mon"]}, HELLO, placement=HOUSE),
    Reason.FORCED: forced,
    Reason.NO_RELEASE: lambda: decide(None, NOON, "p")[0],
    Reason.EXPIRED: lambda: one(terms=Terms(Tier.HOUSE)),
    Reason.UNKNOWN_PLACEMENT: lambda: one(at="elsewhere"),
    Reason.NOTHING_NEAR: lambda: one({"cells": [FAR]}),
    Reason.NOT_ELIGIBLE: lambda: one({"days": ["mon"]}),
    Reason.NO_MORE: lambda: one(slots=2),
    Reason.TOO_MANY_SLOTS: lambda: one(slots=3),
    Reason.HELD_OUT: lambda: one(placement={"holdout": 1}),
    Reason.TOO_LITTLE: lambda: one(placement={"least_worth": 0.6}),
    Reason.STOPPED: lambda: one(in_force=InForce(frozenset("a"), 1)),
    Reason.OFFLINE: lambda: one({"max_offline_age_hours": 1}, in_force=InForce()),
    Reason.ASSETS: lacking_a_file,
    Reason.TIER: lambda: one(terms=Terms(Tier.RESTRICTED)),
    Reason.BETWEEN: lambda: one({"windows": TWO_TIMES}),
    Reason.SIZE: lambda: one({"sizes": ["a4"]}, placement={"sizes": ["300x250"]}),
    Reason.EXCLUSIVE: lambda: one(SIBLING, {"id": "b", **SIBLING}),
    Reason.CATEGORY: lambda: one(
        {"category": "c"}, {"id": "b", "category": "c"}, placement={"most_per_category": 1}
    ),
    Reason.PRIORITY: lambda: one({"priority": 1}, {"id": "b"}),
    Reason.SCORE: lambda: one({}, {"id": "b"}),
    **{
        reason: lambda reason=reason: blocked(reason.value)  # type: ignore[misc]
        for reason in (
            Reason.CAPPED, Reason.COOL_DOWN, Reason.PACED, Reason.REDEEMED, Reason.CONVERTED,
            Reason.DISMISSED, Reason.BUDGET,
        )
    },
    **{
        reason: lambda doc=doc: one(doc)  # type: ignore[misc]
        for reason, doc in ONE_FOR_EACH.items()
        if reason not in (Reason.CAPPED, Reason.EXCLUSIVE, Reason.PRIORITY, Reason.SCORE)
    },
}  # fmt: skip


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_comes_out_of_some_decision(reason: Reason) -> None:
    assert reason in told(CASES[reason]())


def test_the_page_lists_every_reason_and_no_other() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) == {reason.value for reason in Reason}


def test_losers_reasons_stand_in_the_order_of_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## An offer is not shown")[2]
    order = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    awful = {
        "cells": [FAR], "near": ["airport"], "days": ["mon"], "hours": ["1"], "channels": ["app"],
        "placements": ["x"], "consent": "location", "all_of": ["kids:true"],
        "any_of": ["kids:no"], "none_of": ["weather:sunny"], "required_features": ["holograms"],
    }  # fmt: skip
    decision = one(awful, in_force=InForce(frozenset("a"), 1))
    (loser,) = decision.explain().losers
    assert len(loser.reasons) == 12
    assert [reason for reason in order if reason in loser.reasons] == list(loser.reasons)
