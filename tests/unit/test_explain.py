"""Why a decision came out as it did, and whether it can be made again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import h3.api.basic_int as h3
import pytest

from edge_sdk.context import Context
from edge_sdk.decision import Reason, Tier
from edge_sdk.engine.decide import check_replay, coarse, decide, explain, replay
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.record import recorded_scores
from edge_sdk.engine.withheld import Terms
from edge_sdk.errors import TrustError, UsageError
from genome_edge.v1 import event_pb2
from tests.candidates import candidate_ids
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


def test_house_defaults_have_no_carriers() -> None:
    decision, _ = decide(town(), AT_HOTEL, "screen", terms=Terms(Tier.HOUSE))
    assert decision.offer is not None
    assert decision.explain().carriers == ()


def test_a_model_that_is_gone_explains_nothing() -> None:
    release = town()
    decision, _ = decide(release, AT_HOTEL, "lobby")

    release._scoring = TrustError("gone", "MODEL")
    assert decision.explain().carriers == ()


# -- replay


def recorded(placement: str = "feed", slots: int = 3, **more: Any) -> event_pb2.DecisionRecord:
    release = town()
    genome = Genome(release, drink__beer=5.0)
    _, record = decide(release, AT_HOTEL, placement, slots, genome=genome, consents=AGREED, **more)
    return record.to_proto()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"blocked": frozenset(["taxi"])},
        {"terms": Terms(Tier.HOUSE)},
        {"terms": Terms(Tier.RESTRICTED)},
        {"terms": Terms(Tier.STALE)},
        {"placement": "nowhere"},
        {"placement": "screen", "slots": 5, "terms": Terms(Tier.HOUSE)},
        {"blocked": frozenset(["taxi", "beer", "coffee"])},
    ],
)
def test_every_kind_of_decision_can_be_made_again(more: dict[str, Any]) -> None:
    record = recorded(**more)
    again = replay(town(), record)
    assert check_replay(town(), record) == []
    assert again.id == record.decision_id.hex()
    assert [slot.reason for slot in again.slots] == [slot.reason for slot in record.slots]
    assert [slot.offer.id if slot.offer else "" for slot in again.slots] == [
        slot.offer for slot in record.slots
    ]


def test_records_that_cannot_be_replayed() -> None:
    with pytest.raises(UsageError, match="release 1; this is release 2"):
        replay(town(version=2), recorded())
    with pytest.raises(UsageError, match="coarse"):
        replay(town(), coarse(recorded()))
    odd = recorded()
    odd.tier = "sleepy"
    with pytest.raises(UsageError, match="sleepy"):
        replay(town(), odd)


def raise_score(record: event_pb2.DecisionRecord, by: int) -> None:
    """Change the recorded score of the first candidate."""
    scores = recorded_scores(record)
    scores[0] += by
    record.scores = scores.tobytes()


def test_differences_are_told_in_sentences() -> None:
    record = recorded()
    record.slots[0].propensity = 0.5
    (said,) = check_replay(town(), record)
    assert said.startswith("slot 0 is ")
    assert "0.500000" in said

    record = recorded()
    record.candidate_runs.extend([5, 1])
    assert any("candidates" in said for said in check_replay(town(), record))

    record = recorded()
    record.capped.append("taxi")
    assert check_replay(town(), record) != []

    record = recorded("lobby", 1)
    raise_score(record, 3)  # still the best, so only the model can tell
    record.slots[0].score += 3
    (said,) = check_replay(town(), record)
    assert "scores taxi" in said

    raise_score(record, -2)
    record.slots[0].score -= 2  # another processor may round otherwise
    assert check_replay(town(), record) == []


def test_scores_of_other_candidates_are_not_used() -> None:
    record = recorded("lobby", 1)
    assert candidate_ids(record, town())[0] == "taxi"
    record.candidate_runs[0] += 1
    raise_score(record, -recorded_scores(record)[0])
    again = replay(town(), record)
    assert again.offer is not None
    assert again.offer.id == "taxi"


def test_the_seed_decides() -> None:
    record = recorded()
    outcomes = set()
    for seed in range(30):
        record.seed = seed
        outcomes.add(tuple(s.offer.id for s in replay(town(), record).slots if s.offer))
    assert len(outcomes) > 2
