"""Decisions: what is looked at, what comes back, and that it always does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest

from edge_sdk.context import Context
from edge_sdk.decision import Decision, Reason, Tier
from edge_sdk.engine.decide import coarse, decide, replay
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.policy import Floats, Indices
from edge_sdk.engine.release import Release
from edge_sdk.engine.withheld import Terms
from edge_sdk.errors import TrustError, UsageError
from genome_edge.v1 import release_pb2
from tests.candidates import candidate_ids, ids_of

NOON = int(datetime(2026, 6, 24, 12, tzinfo=UTC).timestamp() * 1000)
WEDNESDAY_NOON = datetime(2026, 6, 24, 12, tzinfo=UTC)
HERE = h3.latlng_to_cell(40.758, -73.985, 11)
AGREED = 1 << 1


class Genome:
    """A genome by name; counts how often it is read."""

    def __init__(self, release: Release, **markers: float) -> None:
        named = {name.replace("__", ":").replace("_", "-"): w for name, w in markers.items()}
        indices = sorted((release.vocabulary.index(name) or 0, w) for name, w in named.items())
        self.indices = np.array([i for i, _ in indices], np.int64)
        self.weights = np.array([w for _, w in indices], np.float32)
        self.hours: list[int] = []

    def features(self, now_hour: int) -> tuple[Indices, Floats]:
        self.hours.append(now_hour)
        return self.indices, self.weights


TOWN: list[dict[str, Any]] = [
    {
        "id": "taxi",
        "content": {"title": "A taxi to the airport"},
        "dna": ["ride:taxi", "activity:flight-search"],
        "near": ["hotel"],
        "value": 2.0,
    },
    {"id": "coffee", "dna": ["drink:coffee", "daypart:morning"]},
    {"id": "beer", "dna": ["drink:beer"], "none_of": ["diet:dry"], "hours": ["12-23"]},
    {"id": "members", "dna": ["club:gold"], "all_of": ["club:gold"], "consent": "personalisation"},
]
PLACES = [
    {"id": "lobby", "slots": 1},
    {"id": "feed", "slots": 3, "explorer": "squarecb", "gamma": 20, "floor": 0.1},
    {"id": "screen", "slots": 2, "channel": "screen", "house_offer": "coffee"},
]


def town(**more: Any) -> Release:
    return release_from_documents(TOWN, PLACES, markers=["diet:dry", "weather:sunny"], **more)


def shown(decision: Decision) -> list[str | None]:
    return [slot.offer.id if slot.offer else None for slot in decision.slots]


AT_HOTEL = Context(place="hotel", activity="flight-search", time=WEDNESDAY_NOON)


def test_the_guest_is_offered_the_taxi() -> None:
    decision, _ = decide(town(), AT_HOTEL, "lobby")
    assert decision.offer is not None
    assert decision.offer.id == "taxi"
    assert decision.offer.content["title"] == "A taxi to the airport"
    assert decision.reason == decision.slots[0].reason == Reason.CHOSEN
    assert decision.slots[0].propensity == 1.0
    assert decision.slots[0].score == pytest.approx(2.0 * 0.75)  # one marker shared, worth 2
    assert (decision.release, decision.tier, decision.genome_used) == (1, Tier.FRESH, False)
    assert len(bytes.fromhex(decision.id)) == 16
    assert "taxi" in str(decision)


def test_ids_and_seeds_are_random_unless_given() -> None:
    release = town()
    made = [decide(release, AT_HOTEL, "lobby")[0] for _ in range(20)]
    assert len({decision.id for decision in made}) == 20
    assert len({decision.seed for decision in made}) == 20
    given_id, _ = decide(release, AT_HOTEL, "lobby", seed=2**64 - 1, decision_id=bytes(16))
    assert (given_id.id, given_id.seed) == ("00" * 16, 2**64 - 1)


def test_no_consent_no_genome() -> None:
    release = town()
    genome = Genome(release, drink__beer=5.0, club__gold=1.0)
    at_bar = Context(time=WEDNESDAY_NOON)
    without, record = decide(release, at_bar, "lobby", genome=genome, consents=0b1100)
    assert genome.hours == []
    assert not without.genome_used
    assert list(record.to_proto().genome_indices) == []
    assert "members" not in ids_of(record)
    agreed, record = decide(release, at_bar, "lobby", genome=genome, consents=AGREED)
    assert genome.hours == [NOON // 3_600_000]
    assert agreed.genome_used
    assert shown(agreed) == ["beer"]
    assert "members" in ids_of(record)


def test_what_a_genome_holds_can_rule_an_offer_out() -> None:
    release = town()
    context = Context(time=WEDNESDAY_NOON)
    dry = Genome(release, diet__dry=0.1)
    _, record = decide(release, context, "lobby", genome=dry, consents=AGREED)
    assert ids_of(record) == ["coffee"]
    _, record = decide(release, context, "lobby")
    assert ids_of(record) == ["coffee", "beer"]


def test_there_are_always_as_many_slots_as_asked_for() -> None:
    release = town()
    for asked in (1, 2, 3, 7):
        decision, _ = decide(release, AT_HOTEL, "feed", asked)
        assert len(decision.slots) == asked
    reasons = [slot.reason for slot in decision.slots]
    assert reasons[3:] == [Reason.TOO_MANY_SLOTS] * 4
    few, _ = decide(release, Context(time=WEDNESDAY_NOON), "feed", 3)
    assert [slot.reason for slot in few.slots][2] == Reason.NO_MORE
    assert len(set(shown(few)[:2])) == 2


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"terms": Terms(Tier.HOUSE)}, Reason.EXPIRED),
        ({"terms": Terms(Tier.RESTRICTED)}, Reason.NOT_ELIGIBLE),
        ({"blocked": frozenset(["taxi", "beer", "coffee", "ghost"])}, Reason.CAPPED),
    ],
)
def test_nothing_may_be_shown(kwargs: dict[str, Any], reason: Reason) -> None:
    decision, _ = decide(town(), AT_HOTEL, "feed", 2, **kwargs)
    assert decision.reason == reason
    assert shown(decision) == [None, None]
    assert decision.offer is None
    # Where there is a house default it is shown, and the reason stays.
    at_home, _ = decide(town(), AT_HOTEL, "screen", 2, **kwargs)
    assert at_home.reason == reason
    assert shown(at_home) == ["coffee", None]
    assert [slot.reason for slot in at_home.slots] == [Reason.HOUSE, reason]


def test_nothing_is_near() -> None:
    release = release_from_documents([{"id": "a", "cells": [h3.int_to_str(HERE)]}], PLACES)
    assert decide(release, Context(), "lobby")[0].reason == Reason.NOTHING_NEAR
    assert decide(release, Context(cell=HERE), "lobby")[0].reason == Reason.CHOSEN


def test_a_house_default_that_has_ended_is_not_shown() -> None:
    offers = [{"id": "hello", "valid": {"until": "2026-06-24T12:00:00Z"}}]
    release = release_from_documents(offers, [{"id": "p", "house_offer": "hello"}])
    before = Context(time=datetime(2026, 6, 24, 11, 59, tzinfo=UTC))
    assert shown(decide(release, before, "p", terms=Terms(Tier.HOUSE))[0]) == ["hello"]
    assert shown(
        decide(release, Context(time=WEDNESDAY_NOON), "p", terms=Terms(Tier.HOUSE))[0]
    ) == [None]
    # Nor is one that is not in the catalogue, or needs a newer SDK.
    newer = [{"id": "hello", "required_features": ["holograms"]}]
    for placement in ({"id": "p", "house_offer": "hello"}, {"id": "p", "house_offer": "ghost"}):
        release = release_from_documents(newer, [placement])
        assert shown(decide(release, before, "p")[0]) == [None]


def test_restricted_shows_only_what_vouches_for_itself() -> None:
    offers: list[dict[str, Any]] = [
        {"id": "open"},
        {"id": "dated", "valid": {"until": "2027-01-01T00:00:00Z"}},
    ]
    release = release_from_documents(offers, PLACES)
    decision, record = decide(release, AT_HOTEL, "lobby", terms=Terms(Tier.RESTRICTED))
    assert shown(decision) == ["dated"]
    assert ids_of(record) == ["dated"]


def test_without_a_release() -> None:
    decision, record = decide(None, AT_HOTEL, "lobby", 2)
    assert decision.reason == Reason.NO_RELEASE
    assert (len(decision.slots), decision.release, decision.tier) == (2, 0, Tier.EMPTY)
    assert decision.unknown == ()
    assert decision.explain().losers == ()
    assert record.to_proto().release_version == 0


def test_an_unknown_placement_names_the_nearest() -> None:
    decision, _ = decide(town(), AT_HOTEL, "loby", 2)
    assert decision.reason == Reason.UNKNOWN_PLACEMENT
    assert shown(decision) == [None, None]
    (unknown,) = decision.unknown
    assert (unknown.kind, unknown.name, unknown.nearest) == ("placement", "loby", "lobby")
    assert "did you mean 'lobby'" in str(unknown)


def test_unknown_markers_and_products_are_named_and_ignored() -> None:
    release = town(products={"P-1001": ["drink:beer"]})
    context = Context(
        place="hotel", basket=["P-1001", "P-1002"], attributes={"weather": "suny", "mood": "good"}
    )
    decision, _ = decide(release, context, "lobby")
    assert decision.offer is not None
    assert [(u.kind, u.name, u.nearest) for u in decision.unknown] == [
        ("marker", "weather:suny", "weather:sunny"),
        ("marker", "mood:good", None),
        ("product", "P-1002", "P-1001"),
    ]
    assert decide(release, AT_HOTEL, "lobby")[0].unknown == ()


def test_the_basket_counts() -> None:
    release = town(products={"P-1": {"drink:coffee": 3.0}})
    decision, record = decide(release, Context(time=WEDNESDAY_NOON, basket=["P-1"]), "lobby")
    assert shown(decision) == ["coffee"]
    proto = record.to_proto()
    at = list(proto.context_markers).index("drink:coffee")
    assert at >= 0
    weights = dict(zip(proto.context_indices, proto.context_weights, strict=True))
    assert weights[release.vocabulary.index("drink:coffee") or 0] == 3.0


def test_a_placement_gives_its_channel_unless_the_context_has_one() -> None:
    release = release_from_documents([{"id": "a", "channels": ["screen"]}], PLACES)
    assert shown(decide(release, Context(), "screen")[0]) == ["a"]
    assert shown(decide(release, Context(channel="app"), "screen")[0]) == [None]
    assert shown(decide(release, Context(channel="screen"), "lobby")[0]) == ["a"]
    assert shown(decide(release, Context(), "lobby")[0]) == [None]
    _, record = decide(release, Context(), "screen")
    assert "channel:screen" in record.to_proto().context_markers


def test_a_declared_place_wins_over_the_place_layer() -> None:
    table = release_pb2.PlaceTable(
        cells=[HERE], kinds=[0], saliences_q8=[128], markers=["place:hotel"], resolutions=[11]
    )
    release = town(places=table)
    _, record = decide(release, Context(cell=HERE), "lobby")
    proto = record.to_proto()
    assert "place:hotel" in proto.context_markers
    assert "taxi" in candidate_ids(proto, release)
    assert 0.5 in proto.context_weights
    _, record = decide(release, Context(cell=HERE, place="bar"), "lobby")
    assert "place:hotel" not in record.to_proto().context_markers
    assert "taxi" not in ids_of(record)

    class Beach:
        def resolve(self, cell: int) -> list[tuple[str, float]]:
            assert cell == HERE
            return [("place:beach", 1.0)]

    _, record = decide(release, Context(cell=HERE), "lobby", places=Beach())
    assert "place:beach" in record.to_proto().context_markers


def test_priority_comes_before_score_and_groups_exclude() -> None:
    offers = [
        {"id": "a", "value": 9, "exclusivity_group": "g"},
        {"id": "b", "value": 5, "exclusivity_group": "g"},
        {"id": "c", "value": 1},
        {"id": "d", "value": 0.5, "priority": 1},
    ]
    release = release_from_documents(offers, [{"id": "p", "slots": 4}])
    decision, _ = decide(release, Context(), "p", 4)
    assert shown(decision) == ["d", "a", "c", None]


class Broken:
    """A model that fails when it is asked."""

    def vectors(self, dna: Any) -> Floats:
        return np.zeros((len(dna), 1), np.float32)

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        raise RuntimeError("out of order")


def test_a_model_that_fails_does_not_keep_a_decision_from_coming() -> None:
    release = town(scorer=Broken())
    decision, record = decide(release, AT_HOTEL, "lobby")
    assert shown(decision) == ["taxi"]  # worth the most
    assert decision.reason == Reason.UNSCORED
    assert replay(release, record.to_proto()) == decision

    def unreadable() -> Any:
        raise TrustError("no model", "MODEL")

    release = town()
    release._make_scorer = unreadable
    assert decide(release, AT_HOTEL, "lobby")[0].reason == Reason.UNSCORED
    with pytest.raises(TrustError):
        release.warm()


@pytest.mark.parametrize(
    "call",
    [
        {"context": {"place": "hotel"}},
        {"placement_id": 7},
        {"slots": 0},
        {"slots": 65},
        {"slots": "2"},
    ],
)
def test_only_the_callers_mistakes_are_raised(call: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        decide(town(), **{"context": AT_HOTEL, "placement_id": "lobby", **call})


def test_exploration_follows_its_propensities() -> None:
    release = town()
    counts: Counter[str] = Counter()
    chances: dict[str, float] = {}
    for seed in range(3000):
        slot = decide(release, AT_HOTEL, "feed", seed=seed * 0x1234567)[0].slots[0]
        assert slot.offer is not None
        counts[slot.offer.id] += 1
        chances[slot.offer.id] = slot.propensity
        assert (slot.reason == Reason.CHOSEN) == (slot.offer.id == "taxi")
    assert sum(chances.values()) == 1.0
    for name, chance in chances.items():
        assert counts[name] / 3000 == pytest.approx(chance, abs=0.03)


def test_stages_are_told_in_order() -> None:
    told: list[str] = []
    decide(town(), AT_HOTEL, "feed", stage=told.append)
    assert told == ["context", "near", "eligible", "caps", "score", "explore", "record"]


def test_what_leaves_the_device_is_coarse() -> None:
    release = release_from_documents([{"id": "a", "cells": [h3.int_to_str(HERE)]}], PLACES)
    context = Context(cell=HERE, time=WEDNESDAY_NOON)
    _, record = decide(
        release, context, "feed", genome=Genome(release, daypart__midday=1.0), consents=AGREED
    )
    full = record.to_proto()
    assert list(full.regions) == [HERE]
    sent = coarse(full)
    assert all(field.number < 20 for field, _ in sent.ListFields())
    assert h3.get_resolution(h3.str_to_int(sent.region)) == 5
    assert candidate_ids(sent, release) == ["a"]
    assert full.decided_ms == NOON  # the copy was thinned, not the record
    hidden = h3.int_to_str(HERE).encode(), HERE.to_bytes(8, "little")
    assert not any(needle in sent.SerializeToString() for needle in hidden)


def test_files_are_found_by_name_in_the_language_of_the_moment(tmp_path: Path) -> None:
    release = release_from_documents([{"id": "a", "content": {"title": "x"}}], PLACES)
    spec = release.catalogue.offers[0]
    spec.assets.add(name="image", part="logo.png")
    spec.assets.add(name="image", part="bild.png", language="de")
    release.assets = {"logo.png": tmp_path / "abc", "bild.png": tmp_path / "def"}
    offer = decide(release, Context(), "lobby")[0].offer
    assert offer is not None
    assert offer.asset("image") == tmp_path / "abc"
    offer = decide(release, Context(language="de-CH"), "lobby")[0].offer
    assert offer is not None
    assert offer.asset("image") == tmp_path / "def"
    with pytest.raises(UsageError, match="has no file 'sound'; it has: image"):
        offer.asset("sound")
    with pytest.raises(UsageError, match="BCP 47"):
        Context(language="Deutsch, bitte")
