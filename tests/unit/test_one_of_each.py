"""One definition each of money and of where people are, whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.compare.reading import read_genomes
from genome_server.compare.spending import Worth, read_worth
from genome_server.derived.summary import Summary
from genome_server.genomes.rows import needed_schema
from genome_server.log import LogReader
from genome_server.regions.crowd import Whereabouts, whereabouts
from genome_server.regions.gather import gather
from genome_server.regions.places import lies_in, main_regions
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    CustomerRow,
)
from tests.unit._genomes import (
    DNA_YAML,
    NOW_MS,
    Happened,
    House,
    fresh,
    interaction,
    link,
    outcome,
    subject,
)
from tests.unit.regions_town import cells_around

ALL = CONSENT_PERSONALISATION | CONSENT_LEARNING | CONSENT_LOCATION
DERIVING = DNA_YAML + "derive: [rfm, home]\n"
HERE, THERE, FAR = cells_around(3, 5)


def worth_of(house: House, **options: Any) -> Worth:
    with LogReader(house.tenant.log_path) as log:
        schema = needed_schema(house.store)
        return read_worth(house.store, log, schema, read_genomes(house.store), **options)


def bought(who: int, hours: int, euros: float, **facts: Any) -> Happened:
    said = {"product": "soap", "currency": "EUR", **facts}
    return interaction(who, hours, "buy", amount_micros=round(euros * 1e6), **said)


def test_what_is_derived_and_what_is_best_count_the_same_money(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.write_dna(DERIVING)
        for who in range(1, 8):
            house.customer(who, ALL)
        redeem = DERIVING.replace("  dismiss:", "  redeem: {weight: 2, money: 0.25}\n  dismiss:")
        house.write_dna(redeem)
        house.log(
            [
                bought(1, 1, 10), bought(1, 2, -4),  # a refund
                bought(2, 1, 5), outcome(2, 2, "redeem", "spa", value_micros=7_000_000),
                bought(3, 1, 100, currency="USD"), bought(3, 2, 1),
                bought(4, 1, 8, interaction_id="x"), bought(4, 2, 8, interaction_id="x"),
                outcome(5, 1, "redeem", "spa", value_micros=3_000_000, event_id="e"),
                outcome(5, 2, "redeem", "spa", value_micros=3_000_000, event_id="e"),
                bought(6, 1, -2),  # brought back what was bought elsewhere
                bought(7, 1, 9, currency=""),
                interaction(7, 2, "view", product="soap", amount_micros=10**9, currency="EUR"),
            ]
        )  # fmt: skip
        house.build()
        worth = worth_of(house, basis="spend")
        genomes = read_genomes(house.store)
        derived = {
            one.subject: Summary.from_text(one.insight).spend_micros / 1e6
            for one in house.store.customers()
        }
        best = {}
        for who in range(1, 8):
            row = genomes.row_of(subject(who))
            assert row is not None
            best[subject(who)] = float(worth.spend[row])
        assert derived == best
        expected = [6, 12, 1, 8, 3, -2, 9]
        assert [best[subject(who)] for who in range(1, 8)] == expected
        assert (worth.currency, worth.left_out) == ("EUR", 1)


def evenings(who: int, cell: int, days: range) -> list[Happened]:
    facts = {"region": f"{cell:x}", "context_markers": ["daypart:evening"]}
    return [bought(who, 24 * day, 1, **facts) for day in days]


def people(house: House) -> None:
    """One whose profile says it, one of whom it is derived, two who were seen, and who hide."""
    stated = h3.cell_to_center_child(THERE, 8)
    house.store.extend_vocabulary([f"home:{stated:x}", f"home:{FAR:x}", "home:nowhere"])
    homes = ((f"home:{FAR:x}", 64), (f"home:{stated:x}", 256), ("home:nowhere", 999))
    rows = {
        1: (homes, ALL), 2: ((), ALL), 3: ((), ALL), 4: ((), ALL),
        5: (homes, CONSENT_LEARNING), 6: (homes, ALL), 7: ((), CONSENT_LEARNING),
    }  # fmt: skip
    house.store.put_customers(
        [CustomerRow(subject(who), markers, consents) for who, (markers, consents) in rows.items()]
    )
    lunch = [bought(who, 12 + 24 * n, 1, region=f"{HERE:x}") for who in (1, 2, 5) for n in range(7)]
    seen = event_pb2.DecisionRecord(region=f"{THERE:x}")
    house.log(
        [
            *lunch,
            *evenings(2, THERE, range(6)),
            *(bought(3, n, 1, region=f"{HERE:x}") for n in range(5)),  # a day in one
            bought(3, 50, 1, region=f"{FAR:x}"), bought(3, 80, 1, region=f"{FAR:x}"),
            bought(4, 1, 1),
            Happened(4, 2, event_pb2.Event(decision=seen), FrameKind.DECISION),
            bought(6, 1, 1), bought(7, 1, 1, region=f"{HERE:x}"), link(6, 2, 7),
        ]
    )  # fmt: skip
    house.build()


def test_the_best_of_a_region_and_demand_put_a_person_in_one_place(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.write_dna(DERIVING)
        people(house)
        genomes = read_genomes(house.store)
        regions = worth_of(house).regions
        with LogReader(house.tenant.log_path) as log:
            crowd, counted = gather(house.store, log, now_ms=NOW_MS, days=365)
        of_demand = main_regions(crowd.where, crowd.people)
        learnt = genomes.agreed(CONSENT_LEARNING).tolist()
        assert [regions[row] for row in learnt] == of_demand
        by_who = {}
        for who in range(1, 8):
            row = genomes.row_learnt(subject(who))
            assert row is not None
            by_who[who] = regions[row]
        assert by_who == {
            1: f"{THERE:x}", 2: f"{THERE:x}", 3: f"{FAR:x}", 4: f"{THERE:x}", 5: "",
            6: f"{THERE:x}", 7: f"{THERE:x}",
        }  # fmt: skip
        assert (counted.by_home, counted.by_log) == (3, 2)


def test_what_is_long_ago_tells_no_home_and_is_money_all_the_same(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, ALL)
        house.log([bought(1, 1, 2, region=f"{HERE:x}"), bought(1, 190, 3, region="nowhere")])
        house.build()
        assert worth_of(house).regions == [f"{HERE:x}"]
        late = worth_of(house, since_ms=NOW_MS - 24 * 3_600_000)
        assert late.regions == [""]
        assert late.spend.tolist() == [5.0]


def test_the_one_region_is_the_one_with_the_greatest_share() -> None:
    fine = [h3.cell_to_center_child(cell, 8) for cell in (THERE, THERE, HERE)]
    other = h3.cell_to_children(THERE, 8)[1]
    where = whereabouts(
        np.array([0, 0, 0, 2, 2]),
        np.array([fine[0], other, HERE, HERE, FAR], np.uint64),
        np.array([2.0, 2.0, 3.0, 1.0, 1.0]),
    )
    equal = min(f"{HERE:x}", f"{FAR:x}")
    assert main_regions(where, 4) == [f"{THERE:x}", "", equal, ""]
    coarse = h3.cell_to_parent(HERE, 3)
    nothing = np.zeros(0, np.int64)
    assert main_regions(Whereabouts(nothing, nothing.astype(np.uint64), nothing), 1) == [""]
    one = Whereabouts(np.array([0]), np.array([coarse], np.uint64), np.array([256]))
    assert main_regions(one, 1) == [f"{coarse:x}"]
    assert lies_in(f"{HERE:x}", coarse)
    assert not lies_in(f"{coarse:x}", HERE)
    assert not lies_in(f"{HERE:x}", THERE)
