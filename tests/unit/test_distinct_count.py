"""`dna count` counts which markers tell customers apart; rows keep those from the next build on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.dna.schema import MOST_DISTINCT, DnaSchema
from genome_server.dna_file import load_schema
from genome_server.genomes.distinct import Counted, table
from genome_server.genomes.distinct_count import count as count_log
from genome_server.genomes.distinct_kept import NOTHING, Kept, keep
from genome_server.genomes.gather import Gathering
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import built_schema
from genome_server.log import LogReader
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION
from tests.unit._genomes import (
    DNA,
    DNA_YAML,
    NOW_MS,
    Happened,
    House,
    consent,
    fresh,
    interaction,
    subject,
)

BOTH = CONSENT_LEARNING | CONSENT_PERSONALISATION
HABIT = {"brand:mill", "category:food"}
RARE = {"brand:acme", "claim:organic"}


def week(people: range, each: int, salt: str = "") -> list[Happened]:
    """Everybody buys bread again and again, and one time in 25 soap; some of it is told twice."""
    told = [
        interaction(
            who,
            (n * 7) % 190,
            "buy",
            product="soap" if (n + who) % 25 == 0 else "bread",
            interaction_id=f"{salt}{who}-{n}",
        )
        for who in people
        for n in range(each)
    ]
    return [*told, *told[::9]]


def counted_by_hand(house: House, told: list[Happened], learnt: range) -> bytes:
    once = {e.payload.interaction.interaction_id: e for e in told if e.who in learnt}
    times = Counter(name for e in once.values() for name, _ in DNA[e.payload.interaction.product])
    counts = [times[name] for name in house.store.vocabulary()]
    return table(Counted(len(once), len(learnt), np.array(counts, np.int64)))


def count(house: House) -> Counted:
    """As the command does."""
    schema = load_schema(house.tenant.dna_path, house.store)
    with LogReader(house.tenant.log_path) as log:
        found = count_log(house.store, log, schema, house.dir)
    keep(house.store, Kept(found.interactions, table(found)))
    return found


def schema_of(house: House) -> DnaSchema:
    found = built_schema(house.store)
    assert found is not None
    return found


def kept_by(house: House, who: int) -> set[str]:
    return set(house.rows()[subject(who)][2])


@pytest.fixture
def town(tmp_path: Path) -> Iterator[House]:
    """Thirty customers with a week behind them, of whom a device sees two markers each."""
    with fresh(tmp_path) as house:
        house.write_dna(DNA_YAML + "max_markers: 2\n")
        for who in range(1, 31):
            house.customer(who, BOTH)
        house.log(week(range(1, 31), 50))
        yield house


def test_what_tells_customers_apart_stays(town: House) -> None:
    before = town.build()
    assert kept_by(town, 1) == HABIT
    found = count(town)
    assert (found.interactions, found.people) == (1500, 30)
    assert kept_by(town, 1) == HABIT
    report = town.build()
    assert report.epoch == before.epoch + 1
    assert kept_by(town, 1) == RARE
    by_hand = counted_by_hand(town, week(range(1, 31), 50), range(1, 31))
    assert schema_of(town).distinct == by_hand
    count(town)
    again = town.build()
    assert (again.epoch, again.changed) == (report.epoch, 0)


def test_forgotten_the_strongest_stay_again(town: House) -> None:
    before = town.build()
    rows = town.rows()
    count(town)
    town.build()
    keep(town.store, NOTHING)
    assert town.build().epoch == before.epoch + 2
    assert town.rows() == rows


def test_they_are_counted_of_those_who_agreed_to_learning_alone(town: House) -> None:
    for who in range(31, 41):
        town.customer(who, CONSENT_PERSONALISATION)
    more = week(range(31, 41), 60)
    # The log may know better than the store, which takes words in at the end of a build.
    town.log([*more, consent(25, 80, 2, False), consent(31, 80, 2, True)])
    told = [*week(range(1, 31), 50), *more]
    learnt = [*range(1, 25), *range(26, 32)]
    found = count(town)
    assert found.people == len(learnt)
    town.build()
    by_hand = counted_by_hand(town, [e for e in told if e.who in learnt], range(1, 41))
    assert schema_of(town).distinct == by_hand
    assert kept_by(town, 40) == RARE


def test_increments_and_nights_go_by_the_count_of_the_epoch(town: House) -> None:
    count(town)
    before = town.build()
    for who in range(31, 61):
        town.customer(who, BOTH)
    town.log([interaction(who, 90, "buy", product="soap") for who in range(31, 61)] * 60)
    town.log(week(range(31, 61), 50, "a"))
    with closing(LiveConsumer(town.tenant, now_ms=lambda: NOW_MS)) as live:
        while live.catch_up(500):
            pass
    # Soap is common by now, and counts as rare until somebody counts again.
    assert kept_by(town, 40) == RARE
    same = town.build()
    assert (same.epoch, same.changed) == (before.epoch, 0)
    count(town)
    assert town.build().epoch == before.epoch + 1


def test_where_somebody_lives_is_not_counted(town: House) -> None:
    town.store.put_documents("product", [("mat", {"dna": [{"marker": "home:x"}]})])
    town.log([interaction(1, 20, "buy", product="mat") for _ in range(400)])
    count(town)
    town.build()
    home = town.store.vocabulary().index("home:x")
    assert home is not None
    assert schema_of(town).distinct[home] == MOST_DISTINCT


def test_markers_that_a_server_meets_meanwhile_are_not_counted(
    town: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Gathering.carrying

    def meanwhile(self: Gathering, subjects: Collection[bytes]) -> Counted:
        found = real(self, subjects)
        town.store.extend_vocabulary(["home:y", "brand:new"])
        return found

    monkeypatch.setattr(Gathering, "carrying", meanwhile)
    found = count(town)
    assert len(found.markers) == len(town.store.vocabulary()) - 2
    town.build()
    assert kept_by(town, 1) == RARE
