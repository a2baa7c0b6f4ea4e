"""What would have been decided otherwise, and that nothing else changes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.context import Context
from edge_sdk.decision import Reason, Tier
from edge_sdk.engine.decide import coarse, decide
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.release import Release
from edge_sdk.engine.what_if import _FIELDS, _WORDS, what_if
from edge_sdk.engine.withheld import InForce, Terms, Withholding
from edge_sdk.errors import UsageError
from genome_edge.v1 import release_pb2
from tests.unit.test_engine import AGREED, HERE, Genome, shown

NOON = datetime(2026, 6, 24, 12, tzinfo=UTC)
THERE = h3.latlng_to_cell(48.2, 16.37, 11)
OFFERS: list[dict[str, Any]] = [
    {"id": "taxi", "near": ["hotel"], "value": 3, "dna": ["activity:flight-search"]},
    {"id": "beer", "near": ["bar"], "dna": ["drink:beer"], "hours": ["12-23"]},
    {"id": "coffee", "dna": ["drink:coffee", "daypart:morning"], "value": 0.9},
    {"id": "club", "all_of": ["club:gold"], "consent": "personalisation", "value": 4},
    {"id": "sun", "all_of": ["weather:sunny"], "value": 2},
    {"id": "map", "cells": [h3.int_to_str(h3.cell_to_parent(THERE, 7))], "value": 5},
    {"id": "app", "channels": ["app"], "value": 6},
]
PLACES = [
    {"id": "lobby", "slots": 2},
    {"id": "feed", "slots": 3, "channel": "app"},
]
TABLE = release_pb2.PlaceTable(
    cells=[THERE], kinds=[0], saliences_q8=[128], markers=["place:bar"], resolutions=[11]
)


def town(offers: list[dict[str, Any]] = OFFERS, **more: Any) -> Release:
    return release_from_documents(
        offers, PLACES, markers=["weather:rainy"], products={"P-1": ["drink:beer"]}, places=TABLE,
        **more,
    )  # fmt: skip


AT_HOTEL = Context(
    cell=HERE, place="hotel", activity="flight-search", time=NOON, attributes={"weather": "sunny"}
)


def changed(changes: dict[str, str], context: Context = AT_HOTEL, **asked: Any) -> list[str | None]:
    """What is shown with changes, from a record in memory and from one on disk alike."""
    release = town()
    placement, slots = asked.pop("placement", "lobby"), asked.pop("slots", 2)
    genome = Genome(release, **asked.pop("genome")) if "genome" in asked else None
    decision, record = decide(release, context, placement, slots, seed=1, genome=genome, **asked)
    made = what_if(release, record.to_proto(), changes)
    assert made.before.decision == decision
    assert what_if(release, record, changes) == made
    same = what_if(release, record.to_proto(), {})
    assert (same.differences, same.after) == ((), same.before)
    return shown(made.after.decision)


def test_what_another_moment_would_have_brought() -> None:
    assert changed({}) == ["taxi", "sun"]
    assert changed({"place": "bar"}) == ["sun", "beer"]
    assert changed({"place": "bar", "weather": ""}) == ["beer", "coffee"]
    assert changed({"place": ""}) == ["sun", "coffee"]
    assert changed({"weather": "rainy"}) == ["taxi", "coffee"]
    assert changed({"weather": "rainy,sunny"}) == ["taxi", "sun"]
    assert changed({"attr.weather": "rainy"}) == ["taxi", "coffee"]
    assert changed({"attr.plce": "bar"}) == ["taxi", "sun"], "an attribute, where that is said"
    assert changed({"channel": "app"}) == ["app", "taxi"]
    assert changed({"slots": "1"}) == ["taxi"]
    assert changed({"slots": "3"}) == ["taxi", "sun", None]
    assert changed({"placement": "feed"}) == ["app", "taxi"]
    assert changed({"channel": "", "placement": "feed"}) == ["taxi", "sun"]
    both = {"channel": "app", "placement": "lobby"}
    assert changed(both, placement="feed", slots=1) == ["app"], "what is said wins"
    assert changed({"placement": "feed", "slots": "3"}) == ["app", "taxi", "sun"]
    assert changed({}, Context(time=NOON, channel="app")) == ["app", "coffee"]
    assert changed({"placement": "lobby"}, Context(time=NOON), placement="feed", slots=1) == [
        "coffee"
    ]


def test_the_clock_and_its_markers_move_together() -> None:
    at_bar = Context(place="bar", time=NOON)
    assert changed({}, at_bar) == ["beer", "coffee"]
    morning = changed({"time": "2026-06-24T08:00:00+00:00"}, at_bar)
    assert morning == ["coffee", None], "no beer so early"
    release = town()
    _, record = decide(release, at_bar, "lobby")
    made = what_if(release, record, {"time": "2026-06-27T20:00:00+02:00"})
    now = set(made.after.moment) - set(made.before.moment)
    assert now == {"daypart:evening", "weekday:saturday", "weekend:yes"}
    assert "weekday:wednesday" not in made.after.moment


def test_another_cell_brings_its_places_and_areas() -> None:
    there = h3.int_to_str(THERE)
    assert changed({"cell": there}) == ["map", "sun"]
    # A place that is said wins over those of the cell, in whichever order.
    assert changed({"place": "hotel", "cell": there}) == ["map", "taxi"]
    assert changed({"cell": there, "place": "hotel"}) == ["map", "taxi"]
    assert changed({"cell": there, "weather": "", "slots": "2"}, Context(time=NOON)) == [
        "map", "beer",
    ]  # fmt: skip
    assert changed({"cell": ""}, Context(cell=THERE, time=NOON)) == ["coffee", None]


def test_what_another_genome_would_have_brought() -> None:
    plain = Context(time=NOON)
    known: dict[str, Any] = {"genome": {"club__gold": 1.0}, "consents": AGREED}
    assert changed({}, plain, **known) == ["club", "coffee"]
    for change in ("genome.club:gold=0", "genome=none", "consent.personalisation=no"):
        key, _, value = change.partition("=")
        assert changed({key: value}, plain, **known) == ["coffee", None], change
    assert changed({"genome.club:gold": "1"}, plain, consents=AGREED) == ["club", "coffee"]
    assert changed({"genome.club:gold": "1"}, plain) == ["coffee", None], "nobody agreed"
    assert changed({"genome.club:gold": "1", "consent.personalisation": "yes"}, plain) == [
        "club", "coffee",
    ]  # fmt: skip
    in_bar = Context(place="bar", time=NOON)
    assert changed({"genome.not-drink:beer": "5"}, in_bar, consents=AGREED) == ["coffee", "beer"]
    assert changed({"genome.drink:coffee": "0"}, in_bar, consents=AGREED) == ["beer", "coffee"]


def test_the_basket_grows() -> None:
    release = town()
    _, record = decide(release, Context(time=NOON), "lobby")
    made = what_if(release, record, {"basket": "P-1"})
    assert set(made.after.moment) - set(made.before.moment) == {"drink:beer"}


def test_another_release_and_what_it_makes_of_the_record() -> None:
    release = town()
    other = town([{"id": "new", "value": 7, "cells": [h3.int_to_str(HERE)]}, *reversed(OFFERS)],
                 version=2)  # fmt: skip
    terms = Terms(withholding=Withholding(release.catalogue, InForce(frozenset(["sun"]), 3)))
    genome = Genome(release, club__gold=1.0)
    decision, record = decide(
        release, AT_HOTEL, "lobby", 2, terms=terms, genome=genome, consents=AGREED
    )
    assert shown(decision) == ["taxi", "club"]
    made = what_if(release, record, {}, other=other)
    assert shown(made.after.decision) == ["new", "taxi"]
    assert made.after.decision.release == 2
    assert {one.offer: one.reasons for one in made.after.losers}["sun"] == (Reason.STOPPED,)
    assert made.after.notes == ()
    assert made.differences[0].startswith("slot 0: new (CHOSEN, score 3.5000) instead of taxi")
    assert made.differences[-1] == "club is not shown: SCORE"
    # On disk there is no finer cell than the release's areas ask for.
    stored = what_if(release, record.to_proto(), {}, other=other)
    assert shown(stored.after.decision) == ["taxi", "club"]
    (note,) = stored.after.notes
    assert "the cell is known only as far" in note


def test_caps_hold_out_and_seed() -> None:
    release = release_from_documents(
        [{"id": "a", "value": 2}, {"id": "b"}],
        [{"id": "p", "holdout": 1, "explorer": "squarecb", "gamma": 1}],
    )
    _, record = decide(release, Context(), "p", blocked=frozenset("a"), seed=5)
    made = what_if(release, record.to_proto(), {"holdout": "no"})
    assert made.before.decision.reason is Reason.HELD_OUT
    assert shown(made.after.decision) == ["b"], "what was capped stays so"
    assert made.differences == (
        "the reason is CHOSEN instead of HELD_OUT",
        "slot 0: b (CHOSEN, score 0.5000) instead of nothing (HELD_OUT)",
    )
    _, record = decide(release, Context(), "p", seed=5)
    drawn = {
        shown(what_if(release, record, {"holdout": "no", "seed": str(seed)}).after.decision)[0]
        for seed in range(30)
    }
    assert drawn == {"a", "b"}


@pytest.mark.parametrize(
    ("asked", "changes", "said"),
    [
        (1, {"slots": "2"}, ["slot 1: sun (CHOSEN, score 1.0000) instead of not asked for"]),
        (
            2,
            {"slots": "3"},
            ["slot 2: beyond what the placement has (TOO_MANY_SLOTS) instead of not asked for"],
        ),
        (
            3,
            {"slots": "2"},
            ["slot 2: not asked for instead of beyond what the placement has (TOO_MANY_SLOTS)"],
        ),
        (
            2,
            {"slots": "1"},
            [
                "slot 1: not asked for instead of sun (CHOSEN, score 1.0000)",
                "sun is not shown: SCORE",
            ],
        ),
        (
            3,
            {"placement": "feed", "channel": "kiosk"},
            [
                "slot 2: coffee (CHOSEN, score 0.4500) instead of beyond what the placement has "
                "(TOO_MANY_SLOTS)"
            ],
        ),
    ],
)
def test_slots_that_are_not_asked_for_or_not_there_are_called_so(
    asked: int, changes: dict[str, str], said: list[str]
) -> None:
    release = town()
    _, record = decide(release, AT_HOTEL, "lobby", asked, seed=1)
    for form in (record, record.to_proto()):
        assert list(what_if(release, form, changes).differences) == said


def test_the_language_and_what_is_not_there() -> None:
    release = town()
    release.catalogue.offers[0].texts.add(language="de", content={"title": "Ein Taxi"})
    _, record = decide(release, AT_HOTEL, "lobby")
    offer = what_if(release, record, {"language": "de-AT"}).after.decision.offer
    assert offer is not None
    assert offer.content == {"title": "Ein Taxi"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"time": "noon"}, "ISO 8601"),
        ({"cell": "nonsense"}, "H3 cell"),
        ({"slots": "0"}, "from 1 to 64"),
        ({"slots": "many"}, "from 1 to 64"),
        ({"slots": "9" * 5_000}, "from 1 to 64"),
        ({"seed": "9" * 5_000}, "from 0 to"),
        ({"seed": "-1"}, "2^64"),
        ({"placement": "loby"}, "did you mean 'lobby'"),
        ({"basket": "P-2"}, "did you mean 'P-1'"),
        ({"genome": "all"}, "genome.MARKER=WEIGHT"),
        ({"plce": "bar"}, "what if plce: did you mean 'place'"),
        ({"activty": "x"}, "An attribute of that name is attr.activty"),
        ({"chanel": "app"}, "did you mean 'channel'"),
        ({"genome.drink:ber": "1"}, "did you mean 'drink:beer'"),
        ({"genome.drink:beer": "much"}, "a weight"),
        ({"genome.drink:beer": "-1"}, "a weight"),
        ({"consent.everything": "yes"}, "personalisation, learning, location"),
        ({"consent.location": "maybe"}, "yes or no"),
        ({"holdout": "0"}, "yes or no"),
        ({"stage": "never"}, "one of before, during, after"),
        ({"lat": "48.2"}, "lat"),
        ({"store-lng": "48.2"}, "would be recorded"),
    ],
)
def test_changes_that_make_no_sense_are_refused(changes: dict[str, str], said: str) -> None:
    release = town()
    _, record = decide(release, AT_HOTEL, "lobby")
    with pytest.raises(UsageError) as caught:
        what_if(release, record, changes)
    assert said in str(caught.value)


def test_records_that_cannot_be_made_again() -> None:
    release = town()
    proto = decide(release, AT_HOTEL, "lobby")[1].to_proto()
    with pytest.raises(UsageError, match="coarse"):
        what_if(release, coarse(proto), {})
    with pytest.raises(UsageError, match="release 1; this is release 2"):
        what_if(town(version=2), proto, {})
    house = decide(release, AT_HOTEL, "lobby", terms=Terms(Tier.HOUSE))[1]
    assert what_if(release, house, {"place": "bar"}).differences == ()
    nowhere = decide(release, AT_HOTEL, "nowhere")[1]
    found = what_if(release, nowhere, {"placement": "lobby", "place": "bar"})
    assert found.after.decision.reason is Reason.UNKNOWN_PLACEMENT or found.differences


CHANGES = {
    "place": ["hotel", "bar", ""],
    "weather": ["sunny", "rainy", ""],
    "channel": ["app", ""],
    "time": ["2026-06-24T08:00:00+00:00", "2026-06-24T12:00:00+00:00"],
    "placement": ["lobby", "feed"],
}


@settings(max_examples=150, deadline=None)
@given(
    one=st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in CHANGES.items()}),
    two=st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in CHANGES.items()}),
)
def test_what_if_is_what_the_engine_decides_of_such_a_moment(
    one: dict[str, str], two: dict[str, str]
) -> None:
    """A record changed into another moment gives what that moment gives when it is asked for."""
    release = town()

    def asked(said: dict[str, str]) -> tuple[Context, str]:
        weather = said.get("weather", "sunny")
        context = Context(
            place=said.get("place", "hotel") or None,
            channel=said.get("channel") or None,
            time=datetime.fromisoformat(said.get("time", "2026-06-24T12:00:00+00:00")),
            attributes={"weather": weather} if weather else {},
        )
        return context, said.get("placement", "lobby")

    after = {**one, **two}
    if one.get("channel") and one.get("placement", "lobby") != after.get("placement", "lobby"):
        return  # a record does not say whether a channel was asked for or was the placement's own
    if after.get("placement", "lobby") == "feed" and after.get("channel") == "":
        return  # nobody can ask for no channel where the placement has one
    _, record = decide(release, *asked(one), 2, seed=9, decision_id=bytes(16))
    wanted, _ = decide(release, *asked(after), 2, seed=9, decision_id=bytes(16))
    assert what_if(release, record.to_proto(), two).after.decision == wanted


def test_every_change_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text(encoding="utf-8")
    table = page.partition("## What if")[2]
    for key in (*_FIELDS, *_WORDS, "language", "genome.", "consent."):
        assert f"`{key}" in table, key
