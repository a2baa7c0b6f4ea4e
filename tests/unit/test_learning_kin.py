"""How strongly a genome meets an offer and a moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema, KindRule, default_schema
from genome_server.learning.columns import Columns
from genome_server.learning.examples import Examples, ExamplesBuilder, OfferTable
from genome_server.learning.kin import Entries, Kin, meetings

NAMES = (
    "coupon:bar", "coupon:meal", "not-coupon:bar", "took-coupon:bar", "company:alone",
    "company:kids", "not-company:alone", "took-company:alone", "took-company:kids", "age:26",
)  # fmt: skip
VOCABULARY = Vocabulary(b"v" * 16, NAMES)
AT = {name: number for number, name in enumerate(NAMES)}


def schema() -> DnaSchema:
    kinds = (
        KindRule("view", 1),
        KindRule("redeem", 1, marker_prefix="took-", label=1, beside=("company",)),
        KindRule("dismiss", 1, marker_prefix="not-", label=-1, beside=("company",)),
        KindRule("pass", 1, marker_prefix="not-"),
    )
    return replace(default_schema(0), kinds=kinds)


KIN = Kin.build(schema(), VOCABULARY)


def met(
    person: dict[str, float], moment: list[str], offer: dict[str, float]
) -> dict[tuple[str, str], float]:
    """What one genome meets, by prefix (`all`: wanted less not wanted) and by what it meets."""
    names = [*person, *moment]
    entries = Entries(
        np.zeros(len(names), np.int64),
        np.array([AT[name] for name in names], np.int64),
        np.array([*person.values(), *(1.0 for _ in moment)], np.float32),
        np.arange(len(names)) < len(person),
    )
    dna = np.zeros((1, len(NAMES)), np.float32)
    for name, salience in offer.items():
        dna[0, AT[name]] = salience
    (found,) = meetings(KIN, entries, np.zeros(1, np.int64), dna)
    keys = [(prefix, what) for prefix in ("", "took-", "not-", "all") for what in ("offer", "now")]
    return {key: float(value) for key, value in zip(keys, found, strict=True) if value}


def test_kinds_give_prefixes_and_what_they_say() -> None:
    assert KIN.sign.tolist() == [1, 1, -1]
    plain, took, not_ = KIN.of
    assert plain.tolist() == list(range(len(NAMES)))
    assert took[AT["took-coupon:bar"]] == AT["coupon:bar"]
    assert not_[AT["not-company:alone"]] == AT["company:alone"]
    assert (took >= 0).sum() == 3
    assert (not_ >= 0).sum() == 2
    assert np.flatnonzero(KIN.met >= 0).tolist() == [AT["company:alone"], AT["company:kids"]]


def test_the_tenants_own_schema_has_wanted_and_unwanted() -> None:
    kin = Kin.build(default_schema(0), Vocabulary(b"v" * 16, ["a:b", "not-a:b"]))
    assert dict(zip(kin.sign.tolist(), kin.of.tolist(), strict=True)) == {1: [0, 1], -1: [-1, 0]}
    assert not (kin.met >= 0).any()  # its kinds imprint nothing of the moment


def test_the_genome_meets_the_offer_as_strongly_as_both_are() -> None:
    person = {"took-coupon:bar": 3.0, "not-coupon:bar": 1.0, "coupon:meal": 5.0, "age:26": 1.0}
    found = met(person, [], {"coupon:bar": 0.5})
    assert found == {("took-", "offer"): 1.5, ("not-", "offer"): 0.5, ("all", "offer"): 1.0}
    assert met(person, [], {"coupon:meal": 1.0})[("", "offer")] == 5.0


def test_the_genome_meets_what_goes_on_now_and_nothing_else() -> None:
    person = {"took-company:alone": 2.0, "took-company:kids": 4.0, "not-company:alone": 3.0}
    assert met(person, ["company:alone"], {}) == {
        ("took-", "now"): 2.0, ("not-", "now"): 3.0, ("all", "now"): -1.0,
    }  # fmt: skip
    assert met(person, ["company:kids"], {}) == {("took-", "now"): 4.0, ("all", "now"): 4.0}
    assert met(person, [], {}) == {}


def test_the_moment_does_not_meet_itself() -> None:
    assert met({}, ["company:alone"], {"company:alone": 1.0}) == {}


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9), max_size=6),
            st.lists(st.sampled_from(["company:alone", "company:kids"]), unique=True),
            st.integers(0, 1),
        ),
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_many_at_once_are_as_each_alone(cases: list[tuple[dict[str, int], list[str], int]]) -> None:
    offers = ({"coupon:bar": 1.0}, {"coupon:meal": 0.5, "coupon:bar": 0.25})
    dna = np.zeros((2, len(NAMES)), np.float32)
    for number, offer in enumerate(offers):
        for name, salience in offer.items():
            dna[number, AT[name]] = salience
    flat = [
        (row, AT[name], weight, of_person)
        for row, (person, moment, _) in enumerate(cases)
        for of_person, part in ((True, person), (False, dict.fromkeys(moment, 1)))
        for name, weight in part.items()
    ]
    rows, markers, weights, who = zip(*flat, strict=True) if flat else ((), (), (), ())
    entries = Entries(
        np.array(rows, np.int64),
        np.array(markers, np.int64),
        np.array(weights, np.float32),
        np.array(who, bool),
    )
    found = meetings(KIN, entries, np.array([case[2] for case in cases], np.int64), dna)
    for row, (person, moment, offer_row) in enumerate(cases):
        alone = met({name: float(w) for name, w in person.items()}, moment, offers[offer_row])
        assert sorted(value for value in found[row].tolist() if value) == pytest.approx(
            sorted(alone.values())
        )


def examples(kin: Kin | None) -> Examples:
    builder = ExamplesBuilder()
    for number in range(40):
        query = [(AT["took-coupon:bar"], float(number % 5), 0.0), (AT["company:alone"], 1.0, 1.0)]
        builder.add(
            query, offer=0, label=True, propensity=1.0, person=number, time_ms=number, of_person=1
        )
    table = OfferTable.build({"a": [(AT["coupon:bar"], 1.0)]})
    return builder.build(table, np.zeros(len(NAMES), np.int32), kin)


def test_trees_may_ask_how_strongly_a_genome_meets_an_offer() -> None:
    rows = np.arange(40)
    with_kin, without = (
        Columns.of(examples(kin), rows, 1).table(examples(kin), rows, np.zeros(40, bool))
        for kin in (KIN, None)
    )
    new = with_kin[:, without.shape[1] :]
    assert new.shape[1] >= 6  # took-, and wanted less not wanted, at three strengths or more
    assert not new[rows % 5 == 0].any()
    assert (new[rows % 5 == 4].sum(1) > new[rows % 5 == 1].sum(1)).all()
    cold = Columns.of(examples(KIN), rows, 1).table(examples(KIN), rows, np.ones(40, bool))
    assert not cold[:, without.shape[1] :].any()  # a stranger meets nothing
