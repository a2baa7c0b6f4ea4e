"""Why a decision came out as it did, and whether it can be made again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import h3.api.basic_int as h3
import pytest

from edge_sdk.context import Context
from edge_sdk.decision import NEVER_MS, Reason, Tier
from edge_sdk.engine.decide import decide, explain
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.policy import draw_number
from edge_sdk.engine.withheld import InForce, Terms, Withholding
from edge_sdk.errors import TrustError
from edge_sdk.explanation import Considered
from tests.unit.test_engine import AGREED, AT_HOTEL, PLACES, Genome, town

HERE = h3.latlng_to_cell(40.758, -73.985, 11)
NOON = Context(
    cell=HERE,
    place="bar",
    channel="kiosk",
    time=datetime(2026, 6, 24, 12, tzinfo=UTC),
    attributes={"weather": "sunny"},
)
FAR = h3.int_to_str(h3.latlng_to_cell(10, 10, 7))

ONE_FOR_EACH: dict[Reason, dict[str, Any]] = {
    Reason.FEATURE: {"required_features": ["holograms"]},
    Reason.AREA: {"cells": [FAR]},
    Reason.NEAR_PLACE: {"near": ["airport"]},
    Reason.NOT_STARTED: {"valid": {"from": "2026-06-24T12:00:01Z"}},
    Reason.ENDED: {"valid": {"until": "2026-06-24T12:00:00Z"}},
    Reason.DAY: {"days": ["monday"]},
    Reason.HOUR: {"hours": ["13-11"]},
    Reason.CHANNEL: {"channels": ["app"]},
    Reason.PLACEMENT: {"placements": ["feed"]},
    Reason.CONSENT: {"consent": "location"},
    Reason.ALL_OF: {"all_of": ["weather:sunny", "kids:true"]},
    Reason.ANY_OF: {"any_of": ["weather:rainy", "kids:true"]},
    Reason.NONE_OF: {"none_of": ["weather:sunny"]},
    Reason.CAPPED: {},
    Reason.EXCLUSIVE: {"exclusivity_group": "g"},
    Reason.PRIORITY: {"priority": -1},
    Reason.SCORE: {"value": 0.5},
}


def test_every_loser_has_its_reason() -> None:
    offers = [{"id": reason.value, **doc} for reason, doc in ONE_FOR_EACH.items()]
    offers[list(ONE_FOR_EACH).index(Reason.HOUR)]["hours"] = ["13-23", "0-11"]
    offers.append({"id": "winner", "value": 3, "exclusivity_group": "g"})
    release = release_from_documents(offers, PLACES)
    decision, record = decide(release, NOON, "lobby", blocked=frozenset(["CAPPED"]))
    assert decision.offer is not None
    assert decision.offer.id == "winner"
    explanation = explain(release, record.to_proto())
    assert explanation == decision.explain()
    assert {loser.offer: loser.reasons for loser in explanation.losers} == {
        reason.value: (reason,) for reason in ONE_FOR_EACH
    }
    # Those that were scored come first, the best first.
    assert [loser.offer for loser in explanation.losers][:3] == ["EXCLUSIVE", "PRIORITY", "SCORE"]
    assert all((loser.score is None) == (n >= 3) for n, loser in enumerate(explanation.losers))
    assert "not AREA: AREA" in str(explanation)


def test_several_reasons_are_all_told() -> None:
    offers = [{"id": "a", "cells": [FAR], "days": ["mon"], "none_of": ["weather:sunny"]}]
    release = release_from_documents(offers, PLACES)
    (loser,) = decide(release, NOON, "lobby")[0].explain().losers
    assert loser.reasons == (Reason.AREA, Reason.DAY, Reason.NONE_OF)


def test_tiers_are_reasons_too() -> None:
    release = release_from_documents([{"id": "a"}], PLACES)
    (loser,) = decide(release, NOON, "lobby", terms=Terms(Tier.RESTRICTED))[0].explain().losers
    assert loser.reasons == (Reason.TIER,)
    (loser,) = decide(release, NOON, "lobby", terms=Terms(Tier.HOUSE))[0].explain().losers
    assert loser.reasons == (Reason.EXPIRED,)
    assert decide(release, NOON, "nowhere")[0].explain().losers == ()


def test_carriers_say_which_markers_did_it() -> None:
    release = release_from_documents(
        [{"id": "a", "dna": {"drink:beer": 2.0, "weather:sunny": 0.5}, "value": 2}],
        PLACES,
        markers=["drink:tea"],
    )
    genome = Genome(release, drink__beer=1.0, drink__tea=1.0, not_drink__beer=0.5)
    decision, _ = decide(release, NOON, "lobby", genome=genome, consents=AGREED)
    carriers = {c.marker: c for c in decision.explain().carriers}
    strongest = decision.explain().carriers[0]
    assert (strongest.marker, strongest.source, strongest.weight) == ("drink:beer", "genome", 1.0)
    # What is shared, less what was refused: 2 · 1 + 0.5 - 2 · 0.5 = 1.5, and -0.5 without the beer.
    assert strongest.difference == pytest.approx(2 * ((0.5 + 1.5 / 5) - (0.5 - 0.5 / 3)))
    assert carriers["weather:sunny"].source == "context"
    assert carriers["weather:sunny"].difference > 0
    assert carriers["not-drink:beer"].difference < 0
    assert carriers["drink:tea"].difference == 0.0


def test_every_slot_says_what_carried_it_and_how_it_was_drawn() -> None:
    offers: list[dict[str, Any]] = [
        {"id": "a", "dna": {"drink:beer": 2.0, "weather:sunny": 0.5}, "value": 2},
        {"id": "b", "dna": ["drink:beer"], "exclusivity_group": "g"},
        {"id": "c", "dna": ["drink:tea"], "exclusivity_group": "g"},
        {"id": "d", "cells": [FAR]},
    ]
    release = release_from_documents(
        offers, [{"id": "p", "slots": 4, "explorer": "squarecb", "gamma": 5, "floor": 0.2}]
    )
    genome = Genome(release, drink__beer=1.0)
    decision, record = decide(
        release, NOON, "p", 5, genome=genome, consents=AGREED, seed=3, blocked=frozenset(["x"])
    )
    told = explain(release, record.to_proto())
    assert told == decision.explain()
    assert [one.slot for one in told.slots] == list(decision.slots)
    assert told.considered == Considered(4, 3, 3, 0, 0, 0, 3)
    assert "place:bar" in told.moment
    left = {"a", "b", "c"}
    for number, one in enumerate(told.slots[:2]):
        assert one.slot.offer is not None
        assert one.draw is not None
        chances = dict(one.draw.chances)
        assert set(chances) == left
        assert sum(chances.values()) == 1.0
        assert chances[one.slot.offer.id] == one.slot.propensity
        assert list(chances.values()) == sorted(chances.values(), reverse=True)
        assert one.draw.number == draw_number(3, number)
        assert (one.draw.best == one.slot.offer.id) == (one.slot.reason is Reason.CHOSEN)
        left -= {"a"} if one.slot.offer.id == "a" else {"b", "c"}
        # By hand: the value is 0.5 where nothing is shared.
        worth = {"a": 2.0}.get(one.slot.offer.id, 1.0)
        assert one.unmarked == pytest.approx(0.5 * worth)
        for carrier in one.own:
            assert carrier.source == "offer"
            spec = next(doc for doc in offers if doc["id"] == one.slot.offer.id)
            assert carrier.marker in spec["dna"]
    of_a = next(one for one in told.slots if one.slot.offer and one.slot.offer.id == "a")
    own = {carrier.marker: carrier for carrier in of_a.own}
    # Beer 2 and sun 0.5 are shared; without its beer only the sun is.
    assert own["drink:beer"].difference == pytest.approx(2 * (2.5 / 7 - 0.5 / 3))
    assert own["weather:sunny"].difference == pytest.approx(2 * (2.5 / 7 - 2 / 6), abs=1e-6)
    for empty in told.slots[2:]:
        assert (empty.carriers, empty.own, empty.draw) == ((), (), None)
    assert "slot 0: " in str(told)
    assert "3 to draw from" in str(told)


def test_a_greedy_draw_has_one_chance() -> None:
    decision, _ = decide(town(), AT_HOTEL, "lobby")
    (one,) = decision.explain().slots
    assert one.draw is not None
    assert one.draw.chances == (("taxi", 1.0),)


def test_losers_say_more_than_a_code() -> None:
    offers: list[dict[str, Any]] = [
        {"id": "winner", "value": 9, "exclusivity_group": "g"},
        {"id": "sibling", "exclusivity_group": "g"},
        {"id": "later", "valid": {"from": "2026-06-25T12:00:00Z"}},
        {"id": "over", "valid": {"until": "2026-06-24T11:00:00Z"}},
        {"id": "evening", "hours": ["18-23"], "zone": "Asia/Tokyo", "days": ["thu"]},
        {"id": "kids", "all_of": ["weather:sunny", "kids:true"]},
        {"id": "dry", "none_of": ["weather:sunny"]},
        {"id": "other", "channels": ["app"], "placements": ["feed"], "near": ["airport"]},
        {"id": "asks", "consent": "location"},
        {"id": "seen"},
        {"id": "gone"},
        {"id": "low", "priority": -1},
        {"id": "new", "required_features": ["holograms"]},
        {"id": "many", "any_of": [f"kids:{n}" for n in range(8)]},
    ]
    release = release_from_documents(offers, PLACES)
    until = 1_782_388_800_000
    why = {"seen": ("COOL_DOWN", until), "gone": ("CONVERTED", NEVER_MS)}
    decision, record = decide(release, NOON, "lobby", blocked=frozenset(why), why_blocked=why)
    told = {one.offer: one for one in decision.explain().losers}
    assert explain(release, record.to_proto()).losers == decision.explain().losers
    said = {name: str(one) for name, one in told.items()}
    assert said == {
        "sibling": "EXCLUSIVE (winner of g is shown)",
        "later": "NOT_STARTED (from 2026-06-25T12:00:00Z)",
        "over": "ENDED (until 2026-06-24T11:00:00Z)",
        "evening": "DAY (it is Wednesday, 21 h in Asia/Tokyo)",
        "kids": "ALL_OF (without kids:true)",
        "dry": "NONE_OF (with weather:sunny)",
        "other": "NEAR_PLACE (for place:airport), CHANNEL (kiosk here; for app), "
        "PLACEMENT (for feed)",
        "asks": "CONSENT (to location)",
        "seen": "COOL_DOWN (until 2026-06-25T12:00:00Z)",
        "gone": "CONVERTED (for good)",
        "low": "PRIORITY (-1; what is shown has 0)",
        "new": "FEATURE (needs holograms)",
        "many": "ANY_OF (asks for one of kids:0, kids:1, kids:2, kids:3, kids:4 and 3 more)",
    }
    assert (told["seen"].until_ms, told["gone"].until_ms) == (until, NEVER_MS)
    assert told["sibling"].until_ms == 0
    assert str(explain(release, record.to_proto(), ["dry", "asks"])).count("  not ") == 2


def test_what_is_considered_is_counted_stage_by_stage() -> None:
    offers: list[dict[str, Any]] = [
        {"id": "far", "cells": [FAR]},
        {"id": "not-now", "days": ["mon"]},
        {"id": "stopped"},
        {"id": "capped"},
        {"id": "cheap", "value": 0.1},
        {"id": "a", "value": 9},
        {"id": "b", "value": 8},
    ]
    release = release_from_documents(offers, [{"id": "p", "least_worth": 1}])
    terms = Terms(withholding=Withholding(release.catalogue, InForce(frozenset(["stopped"]), 4)))
    decision, _ = decide(release, NOON, "p", blocked=frozenset(["capped"]), terms=terms)
    told = decision.explain()
    assert told.considered == Considered(7, 6, 5, 1, 1, 1, 2)
    losers = {one.offer: str(one) for one in told.losers}
    assert losers["stopped"] == "STOPPED (stop list 4)"
    assert losers["cheap"] == "TOO_LITTLE (worth 0.0500; at least 1.0000 is asked)"
    assert decide(release, NOON, "p", terms=Terms(Tier.HOUSE))[0].explain().considered == (
        Considered(7)
    )


def test_house_defaults_have_no_carriers() -> None:
    decision, _ = decide(town(), AT_HOTEL, "screen", terms=Terms(Tier.HOUSE))
    assert decision.offer is not None
    assert decision.explain().carriers == ()


def test_a_model_that_is_gone_explains_nothing() -> None:
    release = town()
    decision, _ = decide(release, AT_HOTEL, "lobby")

    release._scoring = TrustError("gone", "MODEL")
    assert decision.explain().carriers == ()
