"""Random releases: offers that ask for much and little, placements, places, products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import h3.api.basic_int as h3
import numpy as np
from hypothesis import strategies as st

from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.release import Release
from genome_edge.v1 import release_pb2
from tests.property.earth import ZONES, areas, cells, millis, moments, table
from tests.reference.decisions import Salience, World

#: Those of no vocabulary are conditions by name.
KNOWN = ["brand:a", "brand:b", "claim:c", "weather:sunny"]
MARKERS = [*KNOWN, "rare:x"]
PLACES = ["place:hotel", "place:bar"]
TIMES = ["daypart:morning", "weekday:monday", "weekend:yes", "channel:kiosk", "language:de"]
CHANNELS = ["kiosk", "app"]
PLACEMENTS = ["lobby", "feed"]
#: Placements that may be arms of one of those.
ARMS = ["bold", "quiet"]
SIZES = ["300x250", "a4", "voice"]
CAMPAIGNS = ["", "", "spring", "autumn"]
GROUPS = ["", "", "", "g", "h"]
CATEGORIES = ["", "food", "drink"]
FILES = ["p0", "p1", "p2"]
TONGUES = ["", "de", "de-CH", "fr"]
PRODUCTS: dict[str, dict[str, float]] = {"beans": {"brand:a": 1.0, "claim:c": 0.5}, "plain": {}}


def some(values: Sequence[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


_CONDITIONS = some([*MARKERS, *PLACES, *TIMES])


@st.composite
def windows(draw: st.DrawFn) -> list[release_pb2.Window]:
    """Ascending and apart, as a catalogue has them."""
    times = draw(st.lists(moments(), min_size=2, max_size=6, unique=True))
    edges = sorted(millis(at) for at in times)
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return [release_pb2.Window(from_ms=begin, until_ms=end) for begin, end in pairs]


def _window(spec: release_pb2.OfferSpec, found: list[release_pb2.Window]) -> None:
    spec.targeting.windows.extend(found)
    spec.targeting.valid_from_ms = found[0].from_ms
    spec.targeting.valid_until_ms = found[-1].until_ms


_TARGETING: dict[str, st.SearchStrategy[Any]] = {
    "cells": areas(),
    "near_places": some(PLACES),
    "valid_from_ms": moments().map(millis),
    "valid_until_ms": moments().map(millis),
    "windows": windows(),
    "days": st.lists(st.integers(1, 7), min_size=1, max_size=5, unique=True),
    "hours": st.lists(st.integers(0, 23), min_size=1, max_size=20, unique=True),
    "all_of": _CONDITIONS,
    "any_of": _CONDITIONS,
    "none_of": _CONDITIONS,
    "channels": some(CHANNELS),
    "placements": some([*PLACEMENTS, *ARMS]),
}
_OFFER: dict[str, st.SearchStrategy[Any]] = {
    "purpose": st.integers(1, 3),
    "required_features": st.sampled_from([["squarecb"], ["time-travel"], ["windows-1"]]),
    "sizes": some(SIZES),
    "max_offline_age_hours": st.sampled_from([1, 24]),
    "assets": st.lists(
        st.builds(
            release_pb2.OfferAsset,
            name=st.sampled_from(["image", "audio"]),
            language=st.sampled_from(TONGUES),
            part=st.sampled_from(FILES),
        ),
        min_size=1,
        max_size=2,
        unique_by=lambda asset: (asset.name, asset.language),
    ),
}


@st.composite
def offers(draw: st.DrawFn, least: int = 0, most: int = 8) -> list[release_pb2.OfferSpec]:
    """Each offer asks for some of all this: one that asks for everything is never eligible."""
    asks = [*sorted([*_TARGETING, *_OFFER]), "windows", "windows"]  # which have most edges
    made = []
    for number in range(draw(st.integers(least, most))):
        spec = release_pb2.OfferSpec(
            id=f"o{number}",
            value_micros=draw(st.sampled_from([0, 1_000_000, 2_500_000, 999_999_999])),
            cost_micros=draw(st.sampled_from([0, 0, 500_000, 3_000_000])),
            priority=draw(st.sampled_from([0, 0, 0, 1, -1])),
            exclusivity_group=draw(st.sampled_from(GROUPS)),
            category=draw(st.sampled_from(CATEGORIES)),
            campaign=draw(st.sampled_from(CAMPAIGNS)),
        )
        for name in draw(st.lists(st.sampled_from(KNOWN), max_size=2, unique=True)):
            spec.dna.add(marker=name, salience_q8=draw(st.sampled_from([256, 512])))
        for ask in draw(st.lists(st.sampled_from(asks), max_size=3, unique=True)):
            _ask(spec, ask, draw({**_TARGETING, **_OFFER}[ask]))
        if spec.targeting.days or spec.targeting.hours:
            spec.targeting.zone = draw(st.sampled_from(["", *ZONES]))
        made.append(spec)
    return made


def _ask(spec: release_pb2.OfferSpec, name: str, value: Any) -> None:
    of = spec if name in _OFFER else spec.targeting
    if name == "windows":
        _window(spec, value)
    elif name.startswith("valid_") and spec.targeting.windows:
        return  # windows say it all
    elif isinstance(value, list):
        getattr(of, name).extend(value)
    else:
        setattr(of, name, value)


@st.composite
def placements(draw: st.DrawFn, ids: Sequence[str]) -> list[release_pb2.PlacementSpec]:
    """Placements with rules of their own; `ids` are offers that may be the house default."""
    made = []
    for name in (*PLACEMENTS, *ARMS):
        spec = release_pb2.PlacementSpec(
            id=name,
            max_slots=draw(st.integers(1, 3)),
            channel=draw(st.sampled_from(["", "", "kiosk"])),
            house_offer=draw(st.sampled_from(["", *ids])),
            explorer=draw(st.sampled_from(["greedy", "squarecb"])),
            gamma=draw(st.sampled_from([0.0, 9.0, 1000.0])),
            floor=draw(st.sampled_from([0.0, 0.1, 1.0])),
            most_per_category=draw(st.sampled_from([0, 0, 1, 2])),
            holdout_ppm=draw(st.sampled_from([0, 0, 0, 300_000, 1_000_000])),
            holdout_seed=draw(st.sampled_from(["", "again"])),
            sizes=draw(st.sampled_from([[], [], ["a4"], ["a4", "voice"]])),
        )
        least = draw(st.sampled_from([None, None, None, 0, 700_000, -100_000]))
        if least is not None:
            spec.least_worth_micros = least
        made.append(spec)
    for name in ARMS:
        of = draw(st.sampled_from([None, *made[: len(PLACEMENTS)]]))
        if of is not None:
            of.arms.add(placement=name, share_ppm=draw(st.sampled_from([0, 500_000, 500_000])))
            of.experiment_seed = draw(st.sampled_from(["", "again"]))
    return made


@st.composite
def place_rows(draw: st.DrawFn) -> list[tuple[int, str, float]]:
    """Cells that are at a kind of place."""
    kinds = st.tuples(cells(8), st.sampled_from(PLACES), st.sampled_from([0.25, 0.5, 1.0]))
    return draw(st.lists(kinds, max_size=3))


@dataclass(frozen=True)
class Made:
    """A release, and the same world as the reference reads it."""

    release: Release
    world: World

    def __repr__(self) -> str:
        offers = "\n".join(f"{one}" for one in self.world.offers)
        placed = "\n".join(f"{one}" for one in self.world.placements.values())
        return f"offers:\n{offers}\nplacements:\n{placed}\nplaces: {self.world.places}"


@st.composite
def releases(draw: st.DrawFn) -> Made:
    """A whole release."""
    specs = draw(offers())
    placed = draw(placements([spec.id for spec in specs]))
    return made_of(specs, placed, draw(place_rows()))


def made_of(
    specs: Sequence[release_pb2.OfferSpec],
    placed: Sequence[release_pb2.PlacementSpec],
    rows: Sequence[tuple[int, str, float]] = (),
) -> Made:
    """The release of these messages; documents cannot say everything that messages can."""
    plain = _plain()
    zones = sorted({spec.targeting.zone for spec in specs} - {""})
    release = Release(
        plain.manifest,
        schema=plain.schema,
        vocabulary=plain.vocabulary,
        offers=release_pb2.OfferCatalogue(offers=specs, zones=[table(zone) for zone in zones]),
        placements=release_pb2.PlacementList(placements=placed),
        products=plain_products(),
        places=_place_table(rows),
        golden=release_pb2.GoldenVectors(),
        scorer=lambda: plain.scorer,
    )
    world = World(specs, {one.id: one for one in placed}, shared_dna, rows, PRODUCTS)
    return Made(release, world)


@cache
def _plain() -> Release:
    return release_from_documents([], products=PRODUCTS, markers=[*KNOWN, *PLACES])


@cache
def plain_products() -> release_pb2.ProductTable:
    """The assortment, against the vocabulary of every release here."""
    words = _plain().vocabulary
    table = release_pb2.ProductTable()
    for name, dna in sorted(PRODUCTS.items()):
        table.ids.append(name)
        table.counts.append(len(dna))
        table.indices.extend(words.index(marker) or 0 for marker in dna)
        table.saliences_q8.extend(int(salience * 256) for salience in dna.values())
    return table


def _place_table(rows: Sequence[tuple[int, str, float]]) -> release_pb2.PlaceTable:
    ordered = sorted(rows)
    return release_pb2.PlaceTable(
        cells=[cell for cell, _, _ in ordered],
        kinds=[PLACES.index(kind) for _, kind, _ in ordered],
        saliences_q8=[int(salience * 256) for _, _, salience in ordered],
        markers=PLACES,
        resolutions=sorted({h3.get_resolution(cell) for cell, _, _ in ordered}),
    )


def shared_dna(offer: release_pb2.OfferSpec, weights: Salience) -> float:
    """What the model of the tests says, by name: 0.5 + s / (2 · (1 + |s|)) in float32, where s is
    what offer and query share. Weights are short binary fractions, so that s is exact."""
    known = {*KNOWN, *PLACES}
    shared = np.float32(
        sum(
            one.salience_q8 / 256 * weights.get(one.marker, 0.0)
            for one in offer.dna
            if one.marker in known
        )
    )
    two = np.float32(2) * (np.float32(1) + abs(shared))
    return float(np.float32(0.5) + shared / two)
