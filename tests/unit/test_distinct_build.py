"""Builds count which markers tell customers apart, and rows keep those."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.dna.schema import MOST_DISTINCT, DnaSchema
from genome_server.dna_file import read_schema
from genome_server.errors import SchemaFileError
from genome_server.genomes.distinct import FEWEST, Counted, table
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import built_schema
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
KEEP = DNA_YAML + "keep: distinctive\nmax_markers: 2\n"
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
    return table(Counted(len(once), np.array(counts, np.int64)))


def schema_of(house: House) -> DnaSchema:
    found = built_schema(house.store)
    assert found is not None
    return found


def kept_by(house: House, who: int) -> set[str]:
    return set(house.rows()[subject(who)][2])


def test_what_tells_customers_apart_stays(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        for who in range(1, 31):
            house.customer(who, BOTH)
        told = week(range(1, 31), 50)
        house.log(told)
        house.write_dna(KEEP.replace("keep: distinctive", "keep: strongest"))
        house.build()
        assert kept_by(house, 1) == HABIT
        house.write_dna(KEEP)
        report = house.build()
        assert report.distinct_renewed
        assert kept_by(house, 1) == RARE
        assert schema_of(house).distinct == counted_by_hand(house, told, range(1, 31))
        again = house.build()
        assert (again.epoch, again.changed, again.distinct_renewed) == (report.epoch, 0, False)


def test_they_are_counted_of_those_who_agreed_to_learning_alone(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        for who in range(1, 41):
            house.customer(who, BOTH if who < 26 else CONSENT_PERSONALISATION)
        told = week(range(1, 41), 60)
        # The log may know better than the store, which takes words in at the end of a build.
        words = [consent(25, 80, 2, False), consent(26, 80, 2, True)]
        house.log([*told, *words])
        house.write_dna(KEEP)
        house.build()
        learnt = [*range(1, 25), 26]
        by_hand = counted_by_hand(house, [e for e in told if e.who in learnt], range(1, 41))
        assert schema_of(house).distinct == by_hand
        assert kept_by(house, 40) == RARE


def test_until_there_is_enough_the_strongest_stay(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, BOTH)
        told = week(range(1, 2), FEWEST - 1)
        house.log(told)
        house.write_dna(KEEP)
        assert not house.build().distinct_renewed
        assert schema_of(house).distinct == b""
        assert kept_by(house, 1) == HABIT


def test_a_table_stays_while_the_log_grows_to_twice_as_much(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        for who in range(1, 61):
            house.customer(who, BOTH)
        first = week(range(1, 31), 50)
        house.log(first)
        house.write_dna(KEEP)
        before = house.build()
        distinct = schema_of(house).distinct
        house.log(week(range(31, 51), 50, "a"))
        with closing(LiveConsumer(house.tenant, now_ms=lambda: NOW_MS)) as live:
            while live.catch_up(500):
                pass
        # Somebody new, live: the same rule as the build's.
        assert kept_by(house, 40) == RARE
        same = house.build()
        assert (same.epoch, same.changed, same.distinct_renewed) == (before.epoch, 0, False)
        assert schema_of(house).distinct == distinct
        house.log([interaction(60, 90, "buy", product="soap") for _ in range(600)])
        grown = house.build()
        assert grown.distinct_renewed
        assert grown.epoch > before.epoch


def test_a_new_epoch_counts_anew(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        for who in range(1, 41):
            house.customer(who, BOTH)
        told = week(range(1, 31), 50)
        house.log(told)
        house.write_dna(KEEP)
        house.build()
        more = [interaction(who, 100, "buy", product="soap") for who in range(1, 41)] * 5
        house.log(more)
        house.build()
        distinct = schema_of(house).distinct
        house.write_dna(KEEP.replace("claim: 240h", "claim: 100h"))
        house.build()
        assert schema_of(house).distinct != distinct
        soap = house.store.vocabulary().index("claim:organic")
        assert soap is not None
        assert schema_of(house).distinct[soap] < distinct[soap]


def test_where_somebody_lives_is_not_counted(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        for who in range(1, 31):
            house.customer(who, BOTH)
        house.store.put_documents("product", [("mat", {"dna": [{"marker": "home:x"}]})])
        mats = [interaction(1, 20, "buy", product="mat") for _ in range(400)]
        house.log([*week(range(1, 31), 50), *mats])
        house.write_dna(KEEP)
        house.build()
        home = house.store.vocabulary().index("home:x")
        assert home is not None
        assert schema_of(house).distinct[home] == MOST_DISTINCT


def test_a_wrong_word_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dna.yaml"
    path.write_text(DNA_YAML + "keep: rarest\n")
    with pytest.raises(SchemaFileError, match="keep: 'rarest' is none of strongest, distinctive"):
        read_schema(path)
