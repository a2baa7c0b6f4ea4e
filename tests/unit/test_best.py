"""The best customer genome: planted truths found again, and what worth is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genome_server.compare.best import Best, best_of, closeness, steps_closer
from genome_server.compare.best_made import Valued
from genome_server.compare.reading import read_genomes
from genome_server.compare.segments import LEAST_PEOPLE
from genome_server.compare.spending import Worth, read_worth
from genome_server.genomes.rows import needed_schema
from genome_server.log import LogReader
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION, CONSENT_PERSONALISATION
from tests.unit._genomes import House, fresh, interaction, subject

ALL = CONSENT_PERSONALISATION | CONSENT_LEARNING | CONSENT_LOCATION
HERE, THERE = "851e15b7fffffff", "851fb467fffffff"
PEOPLE = 200


def planted(house: House) -> None:
    """Who buys cheese pays most; who buys tea leaves most. Salt is bought by all, and here by few.

    There those who buy rum leave most. Costs are such that spend and profit disagree.
    """
    house.store.put_documents(
        "product",
        [
            ("cheese", {"category": "cheese", "cost": 95.0}),
            ("tea", {"category": "tea", "margin": 0.9}),
            ("rum", {"category": "rum", "cost": 1.0}),
            ("salt", {"category": "salt", "cost": 0.9}),
        ],
    )
    events = []
    for who in range(1, PEOPLE + 1):
        there = who > PEOPLE // 2
        house.customer(who, ALL)

        def buys(product: str, amount: float, who: int = who, there: bool = there) -> Any:
            return interaction(
                *(who, who, "buy"), product=product, amount_micros=round(amount * 1e6),
                currency="EUR", quantity_milli=1000, region=THERE if there else HERE,
                interaction_id=f"{who}-{product}",
            )  # fmt: skip

        events.append(buys("salt", 1.0))
        if who % 4 == 0:
            events.append(buys("cheese", 100.0))
        elif who % 4 == 1:
            events.append(buys("rum", 45.0) if there else buys("tea", 40.0))
    house.log(events)
    house.build()


def valued(house: House, basis: str | None = None) -> Valued:
    genomes = read_genomes(house.store)
    with LogReader(house.tenant.log_path) as log:
        worth = read_worth(house.store, log, needed_schema(house.store), genomes, basis=basis)
    return Valued.of(genomes, worth, len(house.store.vocabulary()))


def named(house: House, best: Best | None) -> list[str]:
    assert best is not None
    return [house.store.vocabulary().name(int(one)) for one in best.markers]


def test_the_planted_best_genome_is_found_by_profit_and_not_by_spend(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        planted(house)
        by_profit = valued(house)
        assert (by_profit.worth.basis, by_profit.worth.cost_known) == ("profit", 1.0)
        found = named(house, by_profit.best(share=0.25))
        assert sorted(found) == ["category:rum", "category:tea"]
        assert named(house, valued(house, "spend").best(share=0.2)) == ["category:cheese"]
        regions = by_profit.by_region(share=0.2)
        assert {cell: named(house, best) for cell, best in regions.items()} == {
            HERE: ["category:tea"],
            THERE: ["category:rum"],
        }


def test_closeness_and_what_would_bring_closer(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        planted(house)
        made = valued(house)
        best = made.by_region(share=0.2)[HERE]
        near = made.closeness(best)
        tea, salt = made.genomes.row_of(subject(1)), made.genomes.row_of(subject(2))
        assert tea is not None
        assert salt is not None
        assert near[tea] > 0.8 > 0.1 > near[salt]
        (step,) = steps_closer(*made.raw_row(salt), best)
        vocabulary = house.store.vocabulary()
        assert (vocabulary.name(step.marker), step.there) == ("category:tea", False)
        # The gain is what closeness would be with that marker, worked out anew.
        markers, raw = made.raw_row(salt)
        typical = float(best.typical[list(best.markers).index(step.marker)])
        length = np.sqrt((raw**2).sum() + typical**2)
        assert step.gain == pytest.approx(typical * 1.0 / length - near[salt], abs=1e-6)
        assert list(markers) == [vocabulary.index("category:salt")]


def test_a_group_too_small_has_no_best_genome(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        planted(house)
        made = valued(house)
        few = np.arange(LEAST_PEOPLE - 1)
        assert made.best(few) is None
        assert made.best(share=0.2, least=PEOPLE) is None
        nobody = best_of(made.weights, made.raw, np.arange(PEOPLE), np.zeros(PEOPLE))
        assert nobody is None, "who is worth nothing is no top"


def test_only_those_who_agreed_to_learning_make_it(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        planted(house)
        for who in range(1, PEOPLE + 1, 4):
            house.store.set_consents(subject(who), CONSENT_PERSONALISATION)
        assert named(house, valued(house).best(share=0.2)) == ["category:cheese"]


def worth_of(house: House) -> Worth:
    return valued(house).worth


def test_what_worth_is_made_of(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.store.put_documents(
            "product",
            [("tea", {"category": "tea", "cost": 2.0}), ("cake", {"category": "cake"})],
        )
        for who in (1, 2, 3, 4):
            house.customer(who, CONSENT_LEARNING)
        euro = {"currency": "EUR", "region": HERE}
        house.log(
            [
                interaction(1, 1, "buy", product="tea", amount_micros=10_000_000,
                            quantity_milli=3000, interaction_id="a", **euro),
                interaction(1, 2, "buy", product="tea", amount_micros=10_000_000,
                            quantity_milli=3000, interaction_id="a", **euro),
                interaction(1, 3, "buy", product="tea", amount_micros=-5_000_000, **euro),
                interaction(2, 3, "buy", product="cake", amount_micros=2_000_000, **euro),
                interaction(2, 3, "buy", product="tea", amount_micros=9_000_000, currency="CZK"),
                interaction(3, 3, "view", product="tea", amount_micros=9_000_000, **euro),
            ]
        )  # fmt: skip
        house.build()
        worth = worth_of(house)
        assert (worth.left_out, worth.currency) == (1, "EUR")
        assert np.array_equal(worth.spend, [5.0, 2.0, np.nan, np.nan], equal_nan=True)
        assert worth.cost_known == pytest.approx(15 / 17)
        # 10 - 3 * 2, and a refund of 5 brings one back: 4 - (5 - 2) = 1 of 5 remains; cake like it.
        assert worth.basis == "profit"
        assert worth.worth[:2] == pytest.approx([1.0, 2.0 * 1 / 5])
        assert worth.regions == [""] * 4, "nobody agreed to location"


def test_closeness_lies_between_nothing_and_all() -> None:
    import scipy.sparse as sp

    best = Best(
        markers=np.array([2, 0]),
        weights=np.array([0.8, 0.6]),
        share_of_top=np.ones(2),
        share_of_all=np.ones(2),
        typical=np.array([2.0, 2.0]),
        top=np.arange(3),
        people=9,
        least_worth=1.0,
    )
    rows = sp.csr_array(np.array([[0.6, 0, 0.8], [0, 1.0, 0], [1.0, 0, 0], [0, 0, 0]]))
    assert closeness(rows, best) == pytest.approx([1.0, 0.0, 0.6, 0.0])
    steps = steps_closer(np.array([0], np.int32), np.array([2.0]), best)
    assert [(step.marker, step.there) for step in steps] == [(2, False)]
    assert steps[0].gain == pytest.approx((2 * 0.6 + 2 * 0.8) / np.sqrt(8) - 0.6)
