"""Who counts, and where they are: consent, links, homes, days; out of a tenant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h3.api.basic_int as h3
import pytest

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.log import LogReader
from genome_server.regions.crowd import UNIT, Crowd
from genome_server.regions.gather import Counted, gather
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    CustomerRow,
)
from tests.unit._genomes import (
    DNA_YAML,
    HOUR,
    LANDMARK_HOUR,
    NOW_MS,
    Happened,
    House,
    interaction,
    link,
    subject,
)
from tests.unit.regions_town import NEW_YORK, cells_around

BOTH = CONSENT_LEARNING | CONSENT_LOCATION
HERE, THERE = cells_around(2, 5)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path / "house") as made:
        yield made


def bought(who: int, hours: int, cell: int | None = HERE, product: str = "soap") -> Happened:
    region = f"{cell:x}" if cell else ""
    return interaction(who, hours, "buy", product=product, region=region)


def decided(who: int, hours: int, cell: int) -> Happened:
    said = event_pb2.DecisionRecord(region=f"{cell:x}")
    return Happened(who, hours, event_pb2.Event(decision=said), FrameKind.DECISION)


def found(house: House, now_ms: int = NOW_MS, days: int = 30) -> tuple[Crowd, Counted]:
    house.build()
    with LogReader(house.tenant.log_path) as log:
        return gather(house.store, log, now_ms=now_ms, days=days)


def places(crowd: Crowd) -> list[tuple[int, int, int]]:
    where = crowd.where
    return list(zip(where.person.tolist(), where.cell.tolist(), where.share.tolist(), strict=True))


@pytest.mark.parametrize(
    ("consents", "people", "located"),
    [
        (BOTH, 1, 1),
        (BOTH | CONSENT_PERSONALISATION, 1, 1),
        (CONSENT_LEARNING, 1, 0),
        (CONSENT_LOCATION, 0, 0),
        (CONSENT_LOCATION | CONSENT_PERSONALISATION, 0, 0),
        (0, 0, 0),
    ],
)
def test_only_who_agreed_counts(house: House, consents: int, people: int, located: int) -> None:
    house.customer(1, consents)
    house.log([bought(1, 10)])
    crowd, counted = found(house)
    assert (counted.genomes, counted.people, crowd.where.people) == (1, people, located)
    assert counted.no_learning == 1 - people
    assert counted.no_location == people - located
    assert counted.by_log == located


def test_where_somebody_was_counts_by_days(house: House) -> None:
    house.customer(1, BOTH)
    day = [bought(1, hour, HERE) for hour in (1, 2, 3)]
    others = [decided(1, 30, THERE), bought(1, 60, THERE), bought(1, 90, THERE), bought(1, 5, None)]
    house.log(day + others)
    crowd, _ = found(house)
    assert sorted(places(crowd)) == sorted([(0, HERE, 64), (0, THERE, 192)])


def test_what_is_long_ago_does_not_count(house: House) -> None:
    house.customer(1, BOTH)
    house.log([bought(1, 0, HERE), bought(1, 180, THERE)])
    crowd, _ = found(house, days=3)
    assert places(crowd) == [(0, THERE, 256)]
    nowhere, counted = found(house, now_ms=NOW_MS + 30 * 24 * HOUR, days=3)
    assert (nowhere.where.people, counted.no_place) == (0, 1)


def test_a_home_of_the_profile_counts_first(house: House) -> None:
    home = h3.cell_to_center_child(THERE, 8)
    house.customer(1, BOTH)
    house.store.extend_vocabulary([f"home:{home:x}", "home:somewhere"])
    markers = ((f"home:{home:x}", 256), ("home:somewhere", 256))
    for who, consents in ((1, BOTH), (2, CONSENT_LEARNING)):
        house.store.put_customers([CustomerRow(subject(who), markers, consents)])
    house.log([bought(1, 1, HERE), bought(2, 1, HERE)])
    crowd, counted = found(house)
    assert places(crowd) == [(0, home, 256)]
    assert (counted.by_home, counted.by_log, counted.no_location) == (1, 0, 1)
    assert dict(counted.coarse) == {8: 1}
    assert crowd.holders("brand:acme") == 1
    assert crowd.holders(f"home:{home:x}") == 0  # a place, not a taste


def test_a_home_that_was_derived_counts_before_where_somebody_was_seen(house: House) -> None:
    house.write_dna(DNA_YAML + "derive: [home]\n")
    for who, consents in ((1, BOTH), (2, CONSENT_LEARNING)):
        house.customer(who, consents | CONSENT_PERSONALISATION)
    evening = {"region": f"{THERE:x}", "context_markers": ["daypart:evening"]}
    events = [bought(who, 12 + 24 * day) for who in (1, 2) for day in range(7)]
    for who in (1, 2):
        events += [interaction(who, 24 * n, "view", product="soap", **evening) for n in range(5)]
    house.log(events)
    crowd, counted = found(house)
    assert places(crowd) == [(0, THERE, 256)]
    assert (counted.by_home, counted.no_location) == (1, 1)
    marker = f"insight:home-{THERE:x}"
    assert marker in house.store.vocabulary()
    assert crowd.holders(marker) == 0
    with LogReader(house.tenant.log_path) as log:
        seen, counted = gather(house.store, log, now_ms=NOW_MS, days=30, where="seen")
    assert sorted(places(seen)) == sorted([(0, HERE, 149), (0, THERE, 107)])
    assert (counted.by_home, counted.by_log) == (0, 1)
    assert seen.holders(marker) == 0


def test_linked_subjects_are_one_person(house: House) -> None:
    for who in (1, 2, 3):
        house.customer(who, BOTH)
    house.log([bought(1, 1, HERE), bought(2, 30, THERE), bought(3, 1, HERE), link(1, 10, 2)])
    crowd, counted = found(house)
    assert (counted.genomes, counted.people) == (3, 2)
    assert sorted(places(crowd)) == sorted([(0, HERE, 128), (0, THERE, 128), (1, HERE, 256)])
    assert crowd.holders("brand:acme") == 2
    house.log([link(1, 20, 2, linked=False)])
    apart, counted = found(house)
    assert counted.people == 3
    assert sorted(places(apart)) == sorted([(0, HERE, 256), (1, THERE, 256), (2, HERE, 256)])


def test_who_is_linked_to_somebody_who_did_not_agree(house: House) -> None:
    house.customer(1, BOTH)
    house.customer(2, CONSENT_LOCATION)
    house.customer(3, BOTH)
    house.customer(4, CONSENT_LEARNING)
    house.log([bought(1, 1), bought(2, 1, product="bread"), bought(3, 1), bought(4, 1, THERE)])
    _, counted = found(house)
    assert (counted.people, counted.no_learning) == (3, 1)
    house.log([link(1, 10, 2), link(3, 10, 4)])
    crowd, counted = found(house)
    assert (counted.people, counted.no_learning) == (2, 0)
    # What the second did counts nowhere; where the fourth was, nobody may know.
    assert sorted(places(crowd)) == [(0, HERE, 256), (1, HERE, 256)]
    assert (crowd.holders("brand:acme"), crowd.holders("brand:mill")) == (2, 0)


def test_strengths_have_faded(house: House) -> None:
    house.write_dna(DNA_YAML.replace("quantiser: 2", "quantiser: 1"))
    house.customer(1, BOTH)
    house.log([bought(1, 0)])
    at_once, _ = found(house, now_ms=LANDMARK_HOUR * HOUR, days=30)
    later, _ = found(house, now_ms=(LANDMARK_HOUR + 48) * HOUR, days=30)
    assert at_once.total("brand:acme") == 2 * UNIT * 256  # a purchase weighs 2
    assert later.total("brand:acme") == UNIT // 2 * 256  # two half-lives
    assert later.total("claim:organic") == pytest.approx(UNIT * 256 * 2**-0.2, rel=0.01)


def test_a_region_that_is_none_is_passed_over(house: House) -> None:
    house.customer(1, BOTH)
    house.log([interaction(1, 1, "buy", product="soap", region="85zz"), bought(1, 2, NEW_YORK)])
    crowd, _ = found(house)
    assert places(crowd) == [(0, NEW_YORK, 256)]
