"""Whole decisions against the plain reading of the rules, and their replay, to the bit."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.context import Context
from edge_sdk.decision import Tier
from edge_sdk.engine.decide import decide, explain, replay
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.policy import ONE, P
from edge_sdk.engine.record import recorded_scores
from edge_sdk.engine.release import Release
from edge_sdk.engine.withheld import InForce, Terms, Withholding
from genome_edge.v1 import event_pb2, release_pb2
from tests.candidates import candidate_ids
from tests.reference.targeting import Situation, candidates, eligible, spoken, withheld
from tests.unit.test_catalogue import HERE, PLACES
from tests.unit.test_catalogue import offers as random_offers
from tests.unit.test_engine import AGREED, Genome, shown
from tools.make_exploration_vectors import slots_of

HOUR = 3_600_000
KEPT_BACK = {"STOPPED", "OFFLINE", "ASSETS"}
MARKERS = ["brand:a", "brand:b", "claim:c", "weather:sunny", "kids:true"]


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    free = draw(st.lists(st.sampled_from(MARKERS), max_size=3, unique=True))
    attributes: dict[str, list[str]] = {}
    for name in free:
        namespace, _, value = name.partition(":")
        attributes.setdefault(namespace, []).append(value)
    return {
        "context": Context(
            cell=draw(st.sampled_from([None, HERE])),
            place=draw(st.sampled_from([None, "hotel", "bar"])),
            time=datetime(1970, 1, 1, draw(st.sampled_from([0, 8, 9, 23])), tzinfo=UTC),
            channel=draw(st.sampled_from([None, "kiosk", "app"])),
            language=draw(st.sampled_from([None, None, "de", "de-CH", "FR-fr"])),
            attributes=attributes,
        ),
        "placement_id": draw(st.sampled_from(["lobby", "feed"])),
        "slots": draw(st.integers(1, 4)),
        "consents": draw(st.sampled_from([0, 2, 6, 14])),
        "blocked": draw(st.frozensets(st.sampled_from(["o0", "o1", "o5", "ghost"]), max_size=2)),
        "seed": draw(st.integers(0, 2**64 - 1)),
    }


TONGUES = ["", "de", "de-CH", "fr"]
FILES = ["p0", "p1", "p2"]


def withhold(spec: release_pb2.OfferSpec, data: st.DataObject) -> None:
    """Give an offer what may keep it back."""
    spec.max_offline_age_hours = data.draw(st.sampled_from([0, 0, 0, 1, 24]))
    spec.content["title"] = f"{spec.id} plain"
    for language in data.draw(st.lists(st.sampled_from(TONGUES[1:]), max_size=2, unique=True)):
        spec.texts.add(language=language, content={"title": f"{spec.id} {language}"})
    kinds = st.tuples(st.sampled_from(["image", "audio"]), st.sampled_from(TONGUES))
    for name, language in data.draw(st.lists(kinds, max_size=2, unique=True)):
        spec.assets.add(name=name, language=language, part=data.draw(st.sampled_from(FILES)))


@settings(max_examples=150, deadline=None)
@given(
    specs=random_offers(),
    call=asked(),
    owned=st.frozensets(st.sampled_from(MARKERS)),
    data=st.data(),
)
def test_decisions_are_what_the_rules_say_and_replay_to_the_bit(
    specs: list[release_pb2.OfferSpec],
    call: dict[str, Any],
    owned: frozenset[str],
    data: st.DataObject,
) -> None:
    for spec in specs:
        spec.priority = data.draw(st.sampled_from([0, 0, 1]))
        spec.exclusivity_group = data.draw(st.sampled_from(["", "", "g"]))
        spec.value_micros = data.draw(st.integers(0, 3_000_000))
        for name in data.draw(st.lists(st.sampled_from(MARKERS), max_size=2, unique=True)):
            spec.dna.add(marker=name, salience_q8=512)
        withhold(spec, data)
    release = release_of(specs)
    stopped = data.draw(st.frozensets(st.sampled_from(["o0", "o2", "ghost"]), max_size=2))
    held = data.draw(st.none() | st.frozensets(st.sampled_from(FILES)))
    default = data.draw(st.sampled_from(["", "de", "de-CH"]))
    offline_ms = data.draw(st.sampled_from([0, HOUR, HOUR + 1, 25 * HOUR]))
    withholding = Withholding(release.catalogue, InForce(stopped, 7, held))
    release.assets = {part: Path(part) for part in (FILES if held is None else held)}
    call["terms"] = Terms(Tier.FRESH, withholding, offline_ms, default)
    genome = Genome(release, **{name.replace(":", "__"): 1.0 for name in owned})
    decision, record = decide(release, genome=genome, **call)
    proto = event_pb2.DecisionRecord.FromString(record.to_proto().SerializeToString())

    context = call["context"]
    local = context.local_time(0)
    language = context.language or default.lower()
    now = Situation(
        cell=context.cell,
        ms=local.ms,
        weekday=local.weekday,
        hour=local.hour,
        channel=context.channel or "",
        placement=call["placement_id"],
        context=frozenset(name for name, _ in context.markers())
        | frozenset([f"language:{language}"] if language else []),
        genome=owned if call["consents"] & AGREED else None,
        consents=call["consents"],
        blocked=call["blocked"],
        stopped=stopped,
        offline_ms=offline_ms,
        held=held,
        language=language,
    )
    assert proto.stop_list_version == 7
    wanted = candidates(specs, now)
    assert candidate_ids(proto, release) == wanted

    by_id = {spec.id: spec for spec in specs}
    markers = Counter(now.context)
    markers.update(now.genome or ())
    assert recorded_scores(proto).tolist() == [score(by_id[name], markers) for name in wanted]

    squarecb = call["placement_id"] == "feed"
    picked = slots_of(
        recorded_scores(proto).tolist(),
        [by_id[name].priority for name in wanted],
        [int(by_id[name].exclusivity_group == "g") for name in wanted],
        call["seed"],
        min(call["slots"], 3 if squarecb else 2),
        (9.0, 0.0) if squarecb else None,
    )
    assert [name for name in shown(decision) if name] == [wanted[at] for at, _ in picked]
    for slot, (at, chance) in zip(decision.slots, picked, strict=False):
        assert slot.propensity == chance / P
        assert slot.score * ONE == recorded_scores(proto)[at]
        assert slot.offer is not None
        shown_spec = by_id[slot.offer.id]
        titles = {"": f"{shown_spec.id} plain"}
        titles |= {text.language.lower(): text.content["title"] for text in shown_spec.texts}
        assert slot.offer.content["title"] == spoken(titles, now)
        for asset in shown_spec.assets if held is not None else ():
            same = {a.language.lower(): a.part for a in shown_spec.assets if a.name == asset.name}
            assert slot.offer.asset(asset.name) == Path(spoken(same, now) or "?")
    again = replay(release, proto)
    assert again == decision
    for slot, other in zip(decision.slots, again.slots, strict=True):
        assert slot.offer is None or slot.offer._assets == other.offer._assets  # type: ignore[union-attr]
    if decision.reason in KEPT_BACK:
        allowed = [spec for spec in specs if eligible(spec, now)]
        assert allowed
        assert all(withheld(spec, now) for spec in allowed)
        assert decision.reason in {why for spec in allowed for why in withheld(spec, now)}

    # Every offer that is not shown is explained, and by the reasons that the rules give.
    explanation = explain(release, proto)
    assert explanation.decision == decision
    names = {loser.offer for loser in explanation.losers}
    assert names == set(by_id) - {name for name in shown(decision) if name}
    for loser in explanation.losers:
        assert loser.reasons
        assert (loser.score is not None) == (loser.offer in wanted)
        kept_back = KEPT_BACK.intersection(loser.reasons)
        assert kept_back == set(withheld(by_id[loser.offer], now))
        beaten = {"SCORE", "PRIORITY", "EXCLUSIVE", "CAPPED", *KEPT_BACK}
        assert beaten.issuperset(loser.reasons) == eligible(by_id[loser.offer], now)


def score(spec: release_pb2.OfferSpec, markers: Counter[str]) -> int:
    """What SharedDna says, by name: each marker of the offer has weight 2."""
    shared = np.float32(sum(2 * markers[one.marker] for one in spec.dna))
    value = np.float32(0.5) + shared / (2 * (1 + shared))
    return round(float(value) * (spec.value_micros / 1_000_000 * 65536))


def release_of(specs: list[release_pb2.OfferSpec]) -> Release:
    """A release of these offers; documents cannot say everything that a message can."""
    plain = release_from_documents([], markers=[*MARKERS, *PLACES])
    kinds = release_pb2.PlacementList(
        placements=[
            release_pb2.PlacementSpec(id="lobby", max_slots=2, explorer="greedy"),
            release_pb2.PlacementSpec(id="feed", max_slots=3, explorer="squarecb", gamma=9),
        ]
    )
    return Release(
        plain.manifest,
        schema=plain.schema,
        vocabulary=plain.vocabulary,
        offers=release_pb2.OfferCatalogue(offers=specs),
        placements=kinds,
        products=release_pb2.ProductTable(),
        places=release_pb2.PlaceTable(),
        golden=release_pb2.GoldenVectors(),
        scorer=lambda: plain.scorer,
    )
