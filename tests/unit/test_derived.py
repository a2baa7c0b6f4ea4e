"""What builds derive: against a plain count, row by row; and that it adds up, and can be undone."""

from __future__ import annotations

from collections import Counter, defaultdict
from copy import deepcopy
from statistics import median_low
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.imprint import ilog2_q8
from edge_sdk.errors import FormatError
from genome_server.derived.columns import LEAST_PRICES, Interactions, summarise
from genome_server.derived.insights import LEAST_PEOPLE, NAMES, Insights
from genome_server.derived.summary import Summary
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    CustomerRow,
)

CURRENCIES = ["USD", "EUR"]
SLOTS, CHANNELS, TENDERS, REGIONS = (
    ["weekday-morning", "weekend-night"], ["app", "web"], ["card", "coupon"], ["85a", "85b"],
)  # fmt: skip
ALL = CONSENT_PERSONALISATION | CONSENT_LOCATION

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "subject": st.integers(0, 3),
            "day": st.integers(20_000, 20_009),
            "bought": st.booleans(),
            "promoted": st.booleans(),
            "at_home": st.booleans(),
            "amount": st.sampled_from([0, -2_000_000, 1_500_000, 4_000_000, 64_000_000]),
            "quantity": st.sampled_from([0, 1_000, 2_000, 500]),
            "currency": st.integers(-1, 1),
            "category": st.integers(-1, 1),
            "slot": st.integers(-1, 1),
            "channel": st.integers(-1, 1),
            "tender": st.integers(-1, 1),
            "region": st.integers(-1, 1),
        }
    ),
    max_size=60,
)
COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), max_size=3)
SUMMARIES = st.builds(
    Summary,
    baskets=st.integers(0, 3), first_day=st.integers(1, 5), last_day=st.integers(5, 9),
    spend_micros=st.integers(-(10**9), 10**9), bought=st.integers(0, 9), promoted=st.integers(0, 9),
    price_q8=st.integers(-900, 900), priced=st.integers(0, 9),
    slots=COUNTS, channels=COUNTS, tenders=COUNTS, homes=COUNTS,
).map(lambda s: s if s.baskets else Summary(slots=s.slots, homes=s.homes))  # fmt: skip


def in_columns(rows: list[dict[str, Any]], subjects: int = 4) -> Interactions:
    flags = ("bought", "promoted", "at_home")
    names = [
        "subject", "day", *flags, "amount", "quantity", "currency", "category", "slot", "channel",
        "tender", "region",
    ]  # fmt: skip
    columns = {
        name: np.array([row[name] for row in rows], bool if name in flags else np.int64)
        for name in names
    }
    lists = {
        "currencies": CURRENCIES,
        "slots": SLOTS,
        "channels": CHANNELS,
        "tenders": TENDERS,
        "regions": REGIONS,
    }
    return Interactions(subjects, **columns, **lists)  # type: ignore[arg-type]


def one_by_one(rows: list[dict[str, Any]]) -> list[Summary]:
    made = [Summary() for _ in range(4)]
    bought = [row for row in rows if row["bought"]]
    paid = Counter(row["currency"] for row in bought if row["amount"] and row["currency"] >= 0)
    usual = min(paid, key=lambda c: (-paid[c], CURRENCIES[c])) if paid else -1
    days: dict[int, set[int]] = defaultdict(set)
    prices: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    spend: Counter[int] = Counter()
    for row in bought:
        one = made[row["subject"]]
        days[row["subject"]].add(row["day"])
        one.bought += 1
        one.promoted += row["promoted"]
        if row["currency"] in (usual, -1):
            spend[row["subject"]] += row["amount"]
        if row["tender"] >= 0:
            name = TENDERS[row["tender"]]
            one.tenders[name] = one.tenders.get(name, 0) + 1
        if row["amount"] > 0 and row["category"] >= 0:
            unit = max(row["amount"] // (row["quantity"] or 1_000), 1)
            currency = usual if row["currency"] < 0 else row["currency"]
            prices[row["category"], currency].append((row["subject"], unit))
    for number, one in enumerate(made):
        one.spend_micros = spend[number]
        if days[number]:
            one.baskets = len(days[number])
            one.first_day, one.last_day = min(days[number]), max(days[number])
    for found in prices.values():
        if len(found) >= LEAST_PRICES:
            middle = median_low([unit for _, unit in found])
            for number, unit in found:
                made[number].price_q8 += ilog2_q8(unit) - ilog2_q8(middle)
                made[number].priced += 1
    for field, names, column, wanted in (
        ("slots", SLOTS, "slot", "bought"),
        ("homes", REGIONS, "region", "at_home"),
    ):
        for number, _, name in {
            (r["subject"], r["day"], r[column]) for r in rows if r[wanted] and r[column] >= 0
        }:
            counts = getattr(made[number], field)
            counts[names[name]] = counts.get(names[name], 0) + 1
    for row in rows:
        if row["channel"] >= 0:
            counts = made[row["subject"]].channels
            name = CHANNELS[row["channel"]]
            counts[name] = counts.get(name, 0) + 1
    return made


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_in_columns_it_is_what_a_plain_count_gives(rows: list[dict[str, Any]]) -> None:
    assert summarise(in_columns(rows)) == one_by_one(rows)


@given(SUMMARIES, SUMMARIES, SUMMARIES)
def test_summaries_add_up_in_any_order(a: Summary, b: Summary, c: Summary) -> None:
    def total(*parts: Summary) -> Summary:
        made = Summary()
        for part in parts:
            made.merge(part)
        return made

    before = deepcopy((a, b, c))
    assert total(a, b, c) == total(c, a, b) == total(total(b, c), a)
    assert (a, b, c) == before, "parts stay as they are"


@given(SUMMARIES)
def test_a_summary_is_read_as_it_was_written(one: Summary) -> None:
    text = one.to_text()
    again = Summary.from_text(text)
    assert again == one
    again.slots["x"] = 1
    again.baskets += 1
    assert Summary.from_text(text) == one, "what is remembered is not what is handed out"
    assert (text == "") == (one == Summary())


@pytest.mark.parametrize("text", ["{", "[1]", '{"what": 1}'])
def test_what_is_no_summary_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        Summary.from_text(text)


def person(*summaries: Summary, consents: int = ALL, **profile: str) -> list[CustomerRow]:
    markers = tuple((f"{name}:{value}", 256) for name, value in profile.items())
    return [
        CustomerRow(bytes([n]) * 16, markers, consents, 0, one.to_text())
        for n, one in enumerate(summaries)
    ]


def values(insights: Insights, customers: list[CustomerRow]) -> set[str]:
    return {name.removeprefix("insight:") for name, _ in insights.facts(customers)}


def spender(n: int) -> Summary:
    return Summary(
        baskets=n, first_day=1, last_day=n, spend_micros=n * 10**6, bought=n, promoted=n // 2
    )


def test_levels_are_fifths_of_the_population() -> None:
    people = [spender(n) for n in range(1, 101)]
    insights = Insights.learn(["rfm"], people)
    counted = Counter(
        name for one in people for name in values(insights, person(one)) if "spend" in name
    )
    assert counted == {f"spend-{level}": 20 for level in range(1, 6)}
    assert values(insights, person(spender(100))) == {"recency-5", "frequency-5", "spend-5"}
    assert values(insights, person(Summary(baskets=30, first_day=1, last_day=99))) == {
        "recency-5", "frequency-2",
    }  # fmt: skip


def test_where_most_have_nothing_they_are_the_lowest() -> None:
    people = [Summary(bought=4, promoted=max(n - 80, 0) // 5) for n in range(100)]
    insights = Insights.learn(["promotion"], people)
    assert values(insights, person(people[0])) == {"promotion-1"}
    assert values(insights, person(people[99])) == {"promotion-5"}


def test_few_people_teach_nothing() -> None:
    people = [spender(n) for n in range(1, LEAST_PEOPLE)]
    assert Insights.learn(["rfm"], people).limits == {}
    assert values(Insights.learn(["rfm"], people), person(people[0])) == set()


def test_habits_stand_out_or_are_none() -> None:
    insights = Insights(tuple(NAMES))
    regular = Summary(
        baskets=5, first_day=0, last_day=28, channels={"app": 6, "web": 2},
        slots={"weekend-morning": 3, "weekday-evening": 3}, tenders={"coupon": 4},
        homes={"852a": 5},
    )  # fmt: skip
    assert values(insights, person(regular)) == {
        "rhythm-weekly", "channel-app", "routine-weekday-evening", "home-852a",
    }  # fmt: skip
    torn = Summary(channels={"a": 2, "b": 2, "c": 2})
    assert values(insights, person(torn)) == set()


def test_linked_subjects_are_one_person() -> None:
    insights = Insights(("channel", "tender"))
    halves = [Summary(channels={"app": 3}), Summary(channels={"app": 2}, tenders={"card": 5})]
    assert values(insights, person(*halves)) == {"channel-app", "tender-card"}
    assert values(insights, person(halves[0])) == set()


def test_only_who_agreed_counts() -> None:
    insights = Insights(("channel", "home", "life-stage"))
    told = Summary(channels={"app": 9}, homes={"852a": 9})
    everything = {"channel-app", "home-852a", "life-stage-adult"}
    assert values(insights, person(told, age="30")) == everything
    agreed = person(told, consents=CONSENT_PERSONALISATION, age="30")
    assert values(insights, agreed) == everything - {"home-852a"}
    assert values(insights, person(told, consents=CONSENT_LEARNING, age="30")) == set()


@pytest.mark.parametrize(
    ("profile", "stages"),
    [
        ({"age": "17"}, set()),
        ({"age": "17", "children": "1"}, set()),
        ({"age": "18"}, {"young-adult"}),
        ({"age": "60", "children": "0"}, {"senior"}),
        ({"age": "45", "children": "2"}, {"midlife", "family"}),
        ({"age": "about 40"}, set()),
        ({"children": "yes"}, set()),
    ],
)
def test_a_life_stage_follows_from_attributes_alone(
    profile: dict[str, str], stages: set[str]
) -> None:
    found = values(Insights(("life-stage",)), person(Summary(), consents=ALL, **profile))
    assert found == {f"life-stage-{stage}" for stage in stages}


@given(st.lists(SUMMARIES, max_size=30), st.sets(st.sampled_from(sorted(NAMES))))
def test_every_marker_that_can_be_is_in_the_vocabulary(
    summaries: list[Summary], names: set[str]
) -> None:
    insights = Insights.from_text(Insights.learn(names, summaries).to_text())
    known = set(insights.vocabulary(summaries))
    for size in (1, 2, 5):
        for at in range(0, len(summaries), size):
            people = person(*summaries[at : at + size], age="30", children="1")
            assert {name for name, _ in insights.facts(people)} <= known
