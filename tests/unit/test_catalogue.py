"""The compiled catalogue against the plain reading of the rules, and what it costs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.catalogue import Catalogue, Where
from edge_sdk.engine.cells import ancestors
from edge_sdk.engine.offers import offer_from_document
from edge_sdk.errors import FormatError
from genome_edge.v1 import release_pb2
from tests.reference.targeting import Situation, candidates

HOUR = 3_600_000
HERE = h3.latlng_to_cell(40.758, -73.985, 11)
CELLS = ancestors(HERE)
ELSEWHERE = [
    h3.latlng_to_cell(40.70 + step / 50, -74.0, res) for step in range(4) for res in (5, 7, 9)
]
# Two of them are in no vocabulary: conditions work by name.
MARKERS = ["brand:a", "brand:b", "claim:c", "weather:sunny", "kids:true", "rare:x", "rare:y"]
PLACES = ["place:hotel", "place:bar", "place:airport"]
WORDS = Vocabulary(bytes(16), [*MARKERS[:5], *PLACES])
MOMENTS = [0, 5 * HOUR, 10 * HOUR, 15 * HOUR]


def texts(values: list[str], most: int = 2) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


# Each offer gets some of these and not all: one that asks for everything is never eligible.
ASKS: dict[str, st.SearchStrategy[Any]] = {
    "purpose": st.integers(1, 3),
    "required_features": st.sampled_from([["squarecb"], ["time-travel"]]),
    "cells": texts([h3.int_to_str(c) for c in (*CELLS[5:12:2], *ELSEWHERE)], 3),
    "near_places": texts(PLACES),
    "valid_from_ms": st.sampled_from(MOMENTS),
    "valid_until_ms": st.sampled_from(MOMENTS[1:]),
    "days": st.lists(st.integers(1, 7), min_size=1, max_size=4, unique=True),
    "hours": st.lists(st.sampled_from([0, 8, 9, 23]), min_size=1, max_size=3, unique=True),
    "all_of": texts(MARKERS),
    "any_of": texts(MARKERS),
    "none_of": texts(MARKERS),
    "channels": texts(["kiosk", "app"]),
    "placements": texts(["lobby", "feed"]),
}


@st.composite
def offers(draw: st.DrawFn) -> list[release_pb2.OfferSpec]:
    made = []
    for number in range(draw(st.integers(1, 12))):
        spec = release_pb2.OfferSpec(id=f"o{number}", value_micros=1_000_000)
        for name in draw(st.lists(st.sampled_from(sorted(ASKS)), max_size=3, unique=True)):
            value = draw(ASKS[name])
            of = spec if name in ("purpose", "required_features") else spec.targeting
            if isinstance(value, list):
                getattr(of, name).extend(value)
            else:
                setattr(of, name, value)
        made.append(spec)
    return made


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    cell = draw(st.sampled_from([None, HERE, HERE, CELLS[8], CELLS[4], *ELSEWHERE[:4]]))
    names = st.frozensets(st.sampled_from(MARKERS), max_size=4)
    return Situation(
        cell=cell,
        ms=draw(st.sampled_from([m + d for m in MOMENTS for d in (0, 1)])),
        weekday=draw(st.integers(1, 7)),
        hour=draw(st.sampled_from([0, 8, 9, 23])),
        channel=draw(st.sampled_from(["", "kiosk", "app", "radio"])),
        placement=draw(st.sampled_from(["lobby", "feed", "door"])),
        context=draw(names) | draw(st.frozensets(st.sampled_from(PLACES), max_size=2)),
        genome=draw(st.none() | st.frozensets(st.sampled_from(MARKERS[:5]), max_size=3)),
        consents=draw(st.sampled_from([0, 2, 4, 6, 14])),
        restricted=draw(st.sampled_from([False, False, True])),
    )


def where(catalogue: Catalogue, now: Situation) -> Where:
    return Where(
        catalogue.regions(now.cell),
        frozenset(name for name in now.context if name.startswith("place:")),
        now.ms,
        now.weekday,
        now.hour,
        now.channel,
        now.placement,
        now.restricted,
    )


def found(catalogue: Catalogue, now: Situation) -> list[str]:
    conditions = [catalogue.condition(name) for name in sorted(now.context)]
    genome = sorted(WORDS.index(name) or 0 for name in now.genome or ())
    eligible = catalogue.near(where(catalogue, now)).eligible(
        [number for number in conditions if number is not None],
        np.array(genome, np.int64),
        now.consents,
    )
    return [catalogue.ids[row] for row in eligible.rows.tolist()]


@settings(max_examples=150, deadline=None)
@given(specs=offers(), now=st.lists(situations(), min_size=1, max_size=6))
def test_the_compiled_catalogue_says_what_the_rules_say(
    specs: list[release_pb2.OfferSpec], now: list[Situation]
) -> None:
    catalogue = Catalogue(specs, WORDS)
    # Every situation twice, in both orders: the second time out of the caches. And as others, who
    # must not get what was cached for the first.
    now += [replace(situation, consents=14, genome=None) for situation in now]
    for situation in [*now, *reversed(now)]:
        assert found(catalogue, situation) == candidates(specs, situation)


def spec(name: str, **doc: Any) -> release_pb2.OfferSpec:
    return offer_from_document({"id": name, **doc})


def test_a_block_ends_when_an_offer_begins_or_ends() -> None:
    specs = [
        spec("always"),
        spec("later", valid={"from": "1970-01-01T05:00:00+00:00"}),
        spec("until", valid={"until": "1970-01-01T10:00:00+00:00"}),
    ]
    catalogue = Catalogue(specs, WORDS)
    assert found(catalogue, Situation(ms=0)) == ["always", "until"]
    assert found(catalogue, Situation(ms=5 * HOUR - 1)) == ["always", "until"]
    assert found(catalogue, Situation(ms=5 * HOUR)) == ["always", "later", "until"]
    assert found(catalogue, Situation(ms=10 * HOUR)) == ["always", "later"]
    assert found(catalogue, Situation(ms=0)) == ["always", "until"]  # and back again


def test_blocks_are_shared_by_what_offers_can_tell_apart() -> None:
    specs = [
        spec("area", areas={"cells": [h3.int_to_str(CELLS[7])]}),
        spec("morning", hours=["8-11"]),
    ]
    catalogue = Catalogue(specs, WORDS)
    near = [h3.cell_to_center_child(CELLS[7], res) for res in (8, 9, 11)]
    blocks = {
        id(catalogue.near(where(catalogue, Situation(cell=cell, hour=hour, channel=channel))))
        for cell in near
        for hour in (8, 9, 10)
        for channel in ("app", "kiosk")
    }
    assert len(blocks) == 1
    other = catalogue.near(where(catalogue, Situation(cell=near[0], hour=12)))
    assert id(other) not in blocks


def test_a_record_finds_the_same_regions_by_the_parents() -> None:
    specs = [spec(f"o{n}", areas={"cells": [h3.int_to_str(CELLS[n])]}) for n in (5, 7, 9)]
    catalogue = Catalogue(specs, WORDS)
    assert catalogue.parents(HERE) == (CELLS[5], CELLS[7], CELLS[9])
    assert catalogue.regions_of(catalogue.parents(HERE)) == catalogue.regions(HERE) != ()
    assert catalogue.parents(CELLS[8]) == (CELLS[5], CELLS[7])
    assert catalogue.regions(None) == ()
    assert Catalogue([], WORDS).regions(HERE) == ()


def test_genome_indices_of_a_newer_vocabulary_are_no_conditions() -> None:
    catalogue = Catalogue([spec("rare", all_of=["rare:x"])], WORDS)
    beyond = np.arange(len(WORDS), len(WORDS) + 40)
    block = catalogue.near(where(catalogue, Situation()))
    assert len(block.eligible([], beyond, 0).rows) == 0
    number = catalogue.condition("rare:x")
    assert number is not None
    assert len(block.eligible([number], beyond, 0).rows) == 1


def test_offers_that_cannot_be_read() -> None:
    with pytest.raises(FormatError, match="'a' stands twice"):
        Catalogue([spec("a"), spec("a")], WORDS)
    broken = release_pb2.OfferSpec(id="b")
    broken.targeting.cells.append("no cell")
    with pytest.raises(FormatError, match="'b'"):
        Catalogue([broken], WORDS)


def test_days_and_hours_that_do_not_exist_are_none() -> None:
    wrong = release_pb2.OfferSpec(id="w")
    wrong.targeting.days.append(0)
    wrong.targeting.hours.append(77)
    catalogue = Catalogue([wrong], WORDS)
    assert found(catalogue, Situation(weekday=7, hour=23)) == []


def test_caches_stay_bounded() -> None:
    specs = [spec(f"o{n}", any_of=["brand:a", "brand:b"]) for n in range(3000)]
    catalogue = Catalogue(specs, WORDS)
    for n in range(3000):
        now = Situation(placement=f"p{n}", cell=h3.latlng_to_cell(n / 100, n / 50, 11))
        assert len(found(catalogue, now)) == 0
        assert len(found(catalogue, Situation(context=frozenset(["brand:a"])))) == 3000
    assert len(catalogue._blocks) < 50
    assert len(catalogue._areas._known) <= 4096


def test_the_cost_follows_what_is_near() -> None:
    """Fifty times as many offers far away may not even double the time, caches aside."""

    def took(far: int) -> float:
        cells = [h3.int_to_str(c) for c in h3.grid_disk(h3.latlng_to_cell(52, 13, 8), 80)]
        specs = [spec(f"far{n}", areas={"cells": [cells[n % len(cells)]]}) for n in range(far)]
        specs += [spec(f"near{n}", areas={"cells": [h3.int_to_str(CELLS[8])]}) for n in range(300)]
        catalogue = Catalogue(specs, WORDS)
        best = float("inf")
        for n in range(30):
            started = time.perf_counter()
            # Each time another channel and cell: nothing is found ready.
            catalogue._blocks = {}
            now = Situation(cell=h3.cell_to_center_child(CELLS[9], 10 + n % 5))
            assert len(found(catalogue, now)) == 300
            best = min(best, time.perf_counter() - started)
        return best

    few, many = took(200), took(10_000)
    assert many < 2 * few, (few, many)
