"""Windows, zones and sizes in the compiled catalogue against the plain reading with zoneinfo."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.context import Context
from edge_sdk.decision import Reason
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.catalogue import Catalogue, Where
from edge_sdk.engine.decide import decide
from edge_sdk.engine.explain import check_replay, explain_record
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.gates import fits, untimely
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.engine.zones import HOUR_MS, tables_for
from edge_sdk.errors import FormatError
from genome_edge.v1 import release_pb2

WORDS = Vocabulary(bytes(16), [])
ZONES = ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


# Around the jumps of clocks in Berlin and on Lord Howe, a leap day, and a year's end.
TURNS = [
    ms("2027-03-28T01:00:00+00:00"),
    ms("2027-10-31T01:00:00+00:00"),
    ms("2027-04-03T15:00:00+00:00"),
    ms("2027-10-02T15:30:00+00:00"),
    ms("2028-02-29T12:00:00+00:00"),
    ms("2027-12-31T23:59:59.999+00:00"),
]
MOMENTS = st.builds(
    lambda turn, step, apart: turn + step * HOUR_MS // 2 + apart,
    st.sampled_from(TURNS),
    st.integers(-60, 60),
    st.sampled_from([-1, 0, 0, 1, 1_234_567]),
)
PLACEMENTS = [
    placement_from_document(doc)
    for doc in ({"id": "small", "sizes": ["s"]}, {"id": "both", "sizes": ["s", "m"]}, {"id": "any"})
]
SIZES = {one.id: list(one.sizes) for one in PLACEMENTS}


@st.composite
def offers(draw: st.DrawFn) -> list[release_pb2.OfferSpec]:
    made = []
    for number in range(draw(st.integers(1, 8))):
        spec = release_pb2.OfferSpec(id=f"o{number}")
        t = spec.targeting
        t.zone = draw(st.sampled_from(["", *ZONES]))
        t.days.extend(draw(st.lists(st.integers(1, 7), max_size=3, unique=True)))
        t.hours.extend(draw(st.lists(st.integers(0, 23), max_size=12, unique=True)))
        edges = sorted(draw(st.lists(MOMENTS, max_size=6, unique=True)))
        if len(edges) >= 4:
            for begins, ends in zip(edges[::2], edges[1::2], strict=False):
                t.windows.add(from_ms=begins, until_ms=ends)
            t.valid_from_ms, t.valid_until_ms = t.windows[0].from_ms, t.windows[-1].until_ms
        elif edges:
            t.valid_from_ms = edges[0]
            t.valid_until_ms = edges[1] if len(edges) > 1 else 0
        spec.sizes.extend(draw(st.lists(st.sampled_from(["s", "m", "l"]), max_size=2, unique=True)))
        made.append(spec)
    return made


@dataclass(frozen=True)
class Now:
    ms: int
    own_hour: int  # of the week, on whatever clock the moment was given
    placement: str


NOWS = st.builds(Now, MOMENTS, st.integers(0, 167), st.sampled_from(sorted(SIZES)))


def reasons(spec: release_pb2.OfferSpec, now: Now) -> set[Reason]:
    """Why an offer is not for a moment, the plain way."""
    t = spec.targeting
    day, hour = now.own_hour // 24 + 1, now.own_hour % 24
    if t.zone:
        local = datetime.fromtimestamp(now.ms / 1000, UTC).astimezone(zoneinfo.ZoneInfo(t.zone))
        day, hour = local.isoweekday(), local.hour
    found = set()
    if len(t.windows):
        inside = any(w.from_ms <= now.ms < w.until_ms for w in t.windows)
        before, after = now.ms < t.windows[0].from_ms, now.ms >= t.windows[-1].until_ms
        if not inside:
            found.add(Reason.NOT_STARTED if before else Reason.ENDED if after else Reason.BETWEEN)
    else:
        if now.ms < t.valid_from_ms:
            found.add(Reason.NOT_STARTED)
        if t.valid_until_ms and now.ms >= t.valid_until_ms:
            found.add(Reason.ENDED)
    if len(t.days) and day not in t.days:
        found.add(Reason.DAY)
    if len(t.hours) and hour not in t.hours:
        found.add(Reason.HOUR)
    if len(spec.sizes) and SIZES[now.placement] and not set(spec.sizes) & set(SIZES[now.placement]):
        found.add(Reason.SIZE)
    return found


def where(now: Now, *, restricted: bool = False) -> Where:
    day, hour = now.own_hour // 24 + 1, now.own_hour % 24
    return Where((), frozenset(), now.ms, day, hour, "", now.placement, restricted)


def catalogue_of(specs: list[release_pb2.OfferSpec]) -> Catalogue:
    zones = tables_for(specs, ms("2025-01-01T00:00:00Z"), ms("2037-01-01T00:00:00Z"))
    return Catalogue(specs, WORDS, zones=zones, placements=PLACEMENTS)


def found(catalogue: Catalogue, at: Where) -> list[str]:
    eligible = catalogue.near(at).eligible([], np.zeros(0, np.int64), 0)
    return [catalogue.ids[row] for row in eligible.rows.tolist()]


@settings(max_examples=300, deadline=None)
@given(offers(), st.lists(NOWS, min_size=1, max_size=8))
def test_the_compiled_catalogue_says_what_the_rules_say(
    specs: list[release_pb2.OfferSpec], nows: list[Now]
) -> None:
    catalogue = catalogue_of(specs)
    # In both orders: the second time out of the caches, which time has passed in between.
    for now in [*nows, *reversed(nows)]:
        why = {spec.id: reasons(spec, now) for spec in specs}
        assert found(catalogue, where(now)) == [name for name, some in why.items() if not some]
        ends = {spec.id for spec in specs if spec.targeting.valid_until_ms}
        assert set(found(catalogue, where(now, restricted=True))) == ends & {
            name for name, some in why.items() if not some
        }
        for row, spec in enumerate(specs):
            said = set(untimely(spec.targeting, where(now), catalogue.zones))
            if not fits(spec, SIZES[now.placement]):
                said.add(Reason.SIZE)
            assert said == why[spec.id]
            valid = not why[spec.id] & {Reason.NOT_STARTED, Reason.BETWEEN, Reason.ENDED}
            assert catalogue.presentable(row, now.ms) == valid


def spec(**doc: Any) -> release_pb2.OfferSpec:
    return offer_from_document({"id": "o", **doc})


def test_blocks_come_again_with_the_hour_in_a_zone() -> None:
    catalogue = catalogue_of([spec(zone="Europe/Berlin", hours=["8-9"])])
    day = 24 * HOUR_MS
    eight = ms("2027-06-01T08:00:00+02:00")
    blocks = {
        at: id(catalogue.near(where(Now(at, 0, "any"))))
        for at in (eight, eight + 2 * HOUR_MS - 1, eight - 1, eight + 2 * HOUR_MS, eight + day)
    }
    assert len(set(blocks.values())) == 2
    assert blocks[eight] == blocks[eight + 2 * HOUR_MS - 1] == blocks[eight + day]


def test_blocks_are_shared_by_placements_that_offers_cannot_tell_apart() -> None:
    placements = [
        placement_from_document({"id": name, "sizes": sizes})
        for name, sizes in (("a", ["s"]), ("b", ["s"]), ("c", ["m"]), ("d", []))
    ]
    for doc, different in (({"sizes": ["s"]}, 3), ({}, 1), ({"placements": ["a"]}, 2)):
        catalogue = Catalogue([spec(**doc)], WORDS, placements=placements)
        blocks = {id(catalogue.near(where(Now(0, 0, name)))) for name in "abcd"}
        assert len(blocks) == different


def test_worth_is_net_of_cost_and_categories_are_numbered() -> None:
    specs = [
        offer_from_document({"id": "a", "value": 3, "cost": 1, "category": "x"}),
        offer_from_document({"id": "b", "value": 1, "cost": 2}),
        offer_from_document({"id": "c", "category": "y"}),
        offer_from_document({"id": "d", "category": "x"}),
    ]
    catalogue = Catalogue(specs, WORDS)
    assert (catalogue.worth / 65536).tolist() == [2.0, -1.0, 1.0, 1.0]
    assert catalogue.categories.tolist() == [1, 0, 2, 1]
    block = catalogue.near(where(Now(0, 0, "any")))
    eligible = block.eligible([], np.zeros(0, np.int64), 0)
    assert eligible.categories is not None
    assert eligible.categories.tolist() == [1, 0, 2, 1]
    plain = Catalogue(specs[1:2], WORDS).near(where(Now(0, 0, "any")))
    assert plain.eligible([], np.zeros(0, np.int64), 0).categories is None


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(FormatError, match="'o' is of a zone without a table: Europe/Berlin"):
        Catalogue([spec(zone="Europe/Berlin")], WORDS)
    for windows in ([(5, 5), (6, 7)], [(5, 9), (8, 10)], [(8, 9), (5, 6)]):
        broken = release_pb2.OfferSpec(id="o")
        for begins, ends in windows:
            broken.targeting.windows.add(from_ms=begins, until_ms=ends)
        with pytest.raises(FormatError, match="'o': windows are empty or not in order"):
            Catalogue([broken], WORDS)


def test_an_explanation_tells_between_windows_and_sizes_and_hours_of_a_zone() -> None:
    release = release_from_documents(
        [
            {
                "id": "windows",
                "windows": [
                    {"from": "2027-06-01T00:00Z", "until": "2027-06-02T00:00Z"},
                    {"from": "2027-06-05T00:00Z", "until": "2027-06-06T00:00Z"},
                ],
            },
            {"id": "zone", "zone": "Asia/Tokyo", "hours": [9], "days": ["thu"]},
            {"id": "size", "sizes": ["m"]},
            {"id": "shown", "sizes": ["s", "l"], "zone": "Asia/Kathmandu", "hours": [5]},
        ],
        [{"id": "small", "sizes": ["s"]}],
    )
    at = datetime(2027, 6, 3, 20, 0, tzinfo=timezone(-timedelta(hours=4)))  # 05:45 in Kathmandu
    decision, record = decide(release, Context(time=at), "small")
    explained = explain_record(record, decision)
    assert [slot.offer.id for slot in decision.slots if slot.offer] == ["shown"]
    assert {one.offer: set(one.reasons) for one in explained.losers} == {
        "windows": {Reason.BETWEEN},
        "zone": {Reason.DAY},  # it is Friday in Tokyo already
        "size": {Reason.SIZE},
    }
    assert not check_replay(release, record.to_proto())
