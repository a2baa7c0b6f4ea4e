"""Purchases without a decision's id: to which decision each is credited, and what is learned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engine.offers import InvalidDocument, placement_from_document
from genome_edge.v1 import release_pb2
from genome_server import documents
from genome_server.dna_file import load_schema
from genome_server.learning.credit import Bought, CreditRules, Showing
from genome_server.learning.dataset import Counts, load_examples
from genome_server.learning.examples import Examples
from genome_server.learning.survey import Person, survey
from genome_server.releases.assemble import assemble
from tests.unit._learning import VOCABULARY, Log, at, who
from tests.unit.ingesting import new_tenant, run, write

HOUR = 3_600_000
ANN, BOB = who(1), who(2)
DAY = CreditRules(frozenset({"screen", "feed"}), {"soap": frozenset({"spa"})})


def learned(log: Log, rules: CreditRules = DAY) -> tuple[Examples, Counts]:
    sources = log.sources()
    sources = type(sources)(**{**vars(sources), "credit": rules})
    return load_examples(sources, survey(sources), VOCABULARY, now_ms=at(10_000))


def labels(log: Log, rules: CreditRules = DAY) -> list[tuple[str, float]]:
    """What is learned, in order of time: (offer, success)."""
    examples, _ = learned(log, rules)
    return [
        (examples.offers.ids[offer], float(label))
        for offer, label in zip(examples.offer, examples.label, strict=True)
    ]


@pytest.fixture
def log() -> Log:
    found = Log()
    found.agreed(ANN)
    return found


# Which decision --------------------------------------------------------------------------------


def test_nothing_is_credited_unless_the_placement_says_so(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.did(ANN, 12, "redeem", product="soap")
    assert labels(log, CreditRules()) == [("spa", 0)]
    assert labels(log, CreditRules(frozenset({"feed"}), DAY.offers_of)) == [("spa", 0)]
    assert labels(log) == [("spa", 1)]


def test_a_purchase_of_the_offer_is_the_decisions_and_no_answer_of_its_own(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.did(ANN, 12, "redeem", offer="spa")
    assert labels(log, CreditRules()) == [("spa", 0), ("spa", 1)]
    examples, counts = learned(log)
    assert examples.label.tolist() == [1]
    assert (counts.credited, counts.decisions, counts.answers, counts.successes) == (1, 1, 0, 1)


def test_only_what_is_for_the_product_is_credited(log: Log) -> None:
    log.decided(1, 10, "taxi", "spa", subject=ANN)
    log.did(ANN, 12, "redeem", product="soap")
    assert labels(log) == [("taxi", 0), ("spa", 1)]


@pytest.mark.parametrize(("hours", "credited"), [(9.9, 0), (10, 1), (34, 1), (34.1, 0)])
def test_it_must_be_within_the_window(log: Log, hours: float, credited: int) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.did(ANN, hours, "redeem", product="soap")
    assert labels(log) == [("spa", credited)]


def test_only_what_is_a_success_is_a_purchase(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.did(ANN, 12, "view", product="soap")
    log.did(ANN, 12, "dismiss", product="soap")
    log.did(ANN, 12, "unheard-of", product="soap")
    assert labels(log) == [("spa", 0)]


def test_it_must_be_the_same_person(log: Log) -> None:
    log.agreed(BOB)
    log.decided(1, 10, "spa", subject=ANN)
    log.decided(2, 10, "spa")  # nobody in particular
    log.did(BOB, 12, "redeem", product="soap")
    log.did(bytes(16), 12, "redeem", product="soap")
    assert labels(log) == [("spa", 0), ("spa", 0)]
    log.linked(BOB, ANN, 40)
    assert labels(log) == [("spa", 1), ("spa", 0)]


def test_who_did_not_agree_to_learning_teaches_nothing_by_what_they_buy(log: Log) -> None:
    log.persons[BOB] = Person((), False)
    log.decided(1, 10, "spa", subject=ANN)
    log.did(BOB, 12, "redeem", product="soap")
    log.linked(BOB, ANN, 1)
    examples, counts = learned(log)
    assert examples.label.tolist() == [0]
    assert counts.credited == 0


def test_the_last_that_showed_it_is_credited(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.decided(2, 11, "spa", subject=ANN)
    log.decided(3, 12, "taxi", subject=ANN)
    log.decided(4, 14, "spa", subject=ANN)  # after it
    log.did(ANN, 13, "redeem", product="soap")
    assert labels(log) == [("spa", 0), ("spa", 1), ("taxi", 0), ("spa", 0)]


def test_of_one_moment_the_one_logged_last_counts_and_then_the_first_slot(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.decided(2, 10, "spa", "spa", subject=ANN)
    log.did(ANN, 13, "redeem", product="soap")
    assert labels(log) == [("spa", 0), ("spa", 1), ("spa", 0)]


def test_what_counts_when_viewed_is_credited_only_once_it_was_seen(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN, placement="feed")
    log.decided(2, 11, "spa", subject=ANN, placement="feed")
    log.did(ANN, 13, "redeem", product="soap")
    assert labels(log) == []  # nobody saw either, so that neither teaches anything
    log.followed(1, 12, "view")
    assert labels(log) == [("spa", 1)]
    log.followed(2, 14, "view")  # seen too late
    assert labels(log) == [("spa", 1), ("spa", 0)]


def test_each_slot_is_seen_by_itself(log: Log) -> None:
    log.decided(1, 10, "spa", "taxi", subject=ANN, placement="feed")
    log.followed(1, 11, "view", slot=1)
    log.did(ANN, 13, "redeem", product="soap")
    assert labels(log) == [("taxi", 0)]


def test_of_what_is_viewed_the_one_seen_last_counts(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN, placement="feed")
    log.decided(2, 11, "spa", subject=ANN, placement="screen")
    log.followed(1, 12, "view")
    log.did(ANN, 13, "redeem", product="soap")
    assert labels(log) == [("spa", 1), ("spa", 0)]


def test_what_had_succeeded_is_what_was_bought_and_nothing_earlier_gets_it(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.decided(2, 11, "spa", subject=ANN)
    log.followed(2, 12, "redeem", subject=ANN)
    log.did(ANN, 12, "redeem", product="soap")
    log.did(ANN, 13, "redeem", offer="spa")
    assert labels(log) == [("spa", 0), ("spa", 1)]


def test_what_came_twice_is_one_purchase(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.did(ANN, 11, "redeem", product="soap", interaction_id="one")
    log.decided(2, 12, "spa", subject=ANN)
    log.did(ANN, 13, "redeem", product="soap", interaction_id="one")
    assert labels(log) == [("spa", 1), ("spa", 0)]


def test_a_purchase_after_a_refusal_is_a_success(log: Log) -> None:
    log.decided(1, 10, "spa", subject=ANN)
    log.followed(1, 11, "dismiss", subject=ANN)
    log.did(ANN, 12, "redeem", product="soap")
    assert labels(log) == [("spa", 1)]


def test_what_is_credited_to_nothing_stays_an_answer(log: Log) -> None:
    log.did(ANN, 12, "redeem", offer="spa")
    log.decided(1, 13, "spa", subject=ANN)
    assert labels(log) == [("spa", 1), ("spa", 0)]


# Rules over many ---------------------------------------------------------------------------------

OFFERS = ("a", "b")
SHOWN = st.tuples(
    st.sampled_from(OFFERS), st.integers(0, 40), st.integers(0, 12), st.integers(1, 10)
)
BOUGHT = st.tuples(st.integers(0, 60), st.sets(st.sampled_from(OFFERS)), st.integers(0, 12))


@given(st.lists(SHOWN, max_size=12), st.lists(BOUGHT, max_size=12), st.booleans())
def test_each_purchase_counts_once_and_for_what_was_shown_last(
    shown: list[tuple[str, int, int, int]], bought: list[tuple[int, set[str], int]], late: bool
) -> None:
    """Against the same said naively, in whatever order all was logged."""
    showing = Showing()
    slots: list[dict[str, Any]] = []
    for number, (offer, decided_ms, wait, window_ms) in enumerate(shown):
        seen_ms = None if wait == 12 else decided_ms + wait
        key = number.to_bytes(16)
        showing.add(
            offer, key, 0,
            decided_ms=decided_ms, seen_ms=seen_ms, window_ms=window_ms, number=number,
        )  # fmt: skip
        if seen_ms is not None:
            slots.append({"offer": offer, "order": (seen_ms, decided_ms, number), "id": key,
                          "from": seen_ms, "until": decided_ms + window_ms})  # fmt: skip
    purchases = [
        Bought(at_ms, 100 + number, key, offers)
        for number, (at_ms, offers, key) in enumerate(bought)
    ]
    found = showing.credit(list(reversed(purchases)) if late else purchases)
    assert len({credit.key for credit in found}) == len(found)
    assert [credit.at_ms for credit in found] == sorted(credit.at_ms for credit in found)
    expected = {}
    for one in purchases:
        if one.key in expected:
            continue
        fitting = [
            slot
            for slot in slots
            if slot["offer"] in one.offers and slot["from"] <= one.at_ms <= slot["until"]
        ]
        last = max(fitting, key=lambda slot: slot["order"], default=None)
        expected[one.key] = None if last is None else (last["id"], 0, one.at_ms)
    assert {credit.key: credit[1:] for credit in found} == {
        key: value for key, value in expected.items() if value is not None
    }


# Documents ---------------------------------------------------------------------------------------


def test_rules_are_read_from_the_documents() -> None:
    rules = CreditRules.of(
        [("a", {"credit": "last-shown"}), ("b", {"credit": "none"}), ("c", {})],
        [("taxi", {"products": ["p", "q"]}), ("spa", {"products": ["q"]}), ("bare", {})],
    )
    assert rules.placements == {"a"}
    assert rules.bought("q", "") == {"taxi", "spa"}
    assert rules.bought("q", "bus") == {"bus"}
    assert rules.bought("r", "") == frozenset()
    assert CreditRules.of([], [("taxi", {"products": ["p"]})]).bought("p", "") == frozenset()
    with pytest.raises(ValueError, match="sometimes"):
        CreditRules.of([("a", {"credit": "sometimes"})], [])


def test_devices_are_told_neither_credit_nor_products() -> None:
    placement: dict[str, Any] = {"id": "screen", "slots": 3}
    crediting = {**placement, "credit": "last-shown"}
    assert documents.placement_spec(crediting) == documents.placement_spec(placement)
    assert crediting["credit"] == "last-shown"
    with pytest.raises(InvalidDocument):
        placement_from_document(crediting)  # which is why it is set aside
    offer: dict[str, Any] = {"id": "spa", "value": 3}
    assert documents.offer_spec({**offer, "products": ["soap"]}) == documents.offer_spec(offer)


def test_what_is_imported_is_kept_and_no_release_says_it(tmp_path: Path) -> None:
    with new_tenant(tmp_path / "home") as (tenant, store):
        placements = [{"id": "screen", "credit": "last-shown"}, {"id": "x", "credit": "all"}]
        report = run(tenant, store, "placements", write(tmp_path / "p.jsonl", placements))
        assert [one.column for one in report.rejects] == ["credit"]
        run(tenant, store, "products", write(tmp_path / "g.jsonl", [{"id": "soap"}]))
        offers = [
            {"id": "spa", "products": ["soap"]},
            {"id": "bus", "products": ["soap", "soup"]},
        ]
        report = run(tenant, store, "offers", write(tmp_path / "o.jsonl", offers))
        (wrong,) = report.rejects
        assert wrong.column == "products[1]"
        assert "did you mean 'soap'?" in wrong.cause
        rules = CreditRules.of(store.documents("placement"), store.documents("offer"))
        assert rules == CreditRules(frozenset({"screen"}), {"soap": frozenset({"spa"})})
        parts = assemble(store, load_schema(tenant.dna_path, store), b"", dry_run=True)
        told = release_pb2.PlacementList.FromString(parts["placements"]).placements
        assert [one.id for one in told] == ["screen"]


def test_messages_of_documents_are_made_in_one_room() -> None:
    """Else a placement that credits purchases breaks a command."""
    source = Path(documents.__file__).parent
    users = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*.py")
        if re.search(r"(offer|placement)_from_document", file.read_text())
    }
    assert users == {"documents.py"}
