"""What is reported and imprinted: once, at once, by any process."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import (
    Context,
    EdgeClient,
    UnknownDecision,
    UsageError,
)
from edge_sdk.engine.record import candidate_rows, recorded_scores
from genome_edge.v1 import event_pb2, sync_pb2
from tests.unit.device_client import FAST, MOMENT, events, kinds, store_of
from tests.unit.device_town import (
    Town,
    commit_rows,
    customer,
    filled,
    row,
    subject,
    until,
)

# Imprints ---------------------------------------------------------------------------------------


def test_an_imprint_counts_at_once(edge: EdgeClient) -> None:
    before = edge.genome(customer(1))
    assert before is not None
    name = edge.imprint(customer(1), "buy", product="poems", amount=12.5, currency="EUR")
    after = edge.genome(customer(1))
    assert after is not None
    assert set(after) - set(before) == {"category:book"}
    edge.imprint(customer(1), "buy", dna={"brand:acme": 1.0, "made:up": 0.5})
    later = edge.genome(customer(1))
    assert later is not None
    assert later["brand:acme"] > after["brand:acme"]
    (first, second) = (e.interaction for e in events(edge) if e.HasField("interaction"))
    assert (first.interaction_id, first.product, first.amount_micros) == (name, "poems", 12_500_000)
    assert [(m.marker, m.salience_q8) for m in second.dna] == [
        ("brand:acme", 256),
        ("made:up", 128),
    ]


def test_the_same_interaction_twice_is_one(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    genomes = []
    for _ in range(2):
        with EdgeClient(tmp_path / "store", config=FAST) as edge:
            edge.wait_ready(10)
            for _ in range(2):
                edge.imprint(customer(1), "buy", product="poems", interaction_id="order-1")
            genome = edge.genome(customer(1))
            assert genome is not None
            genomes.append(round(genome["category:book"], 3))
            edge.flush(0)
    assert genomes[0] == genomes[1]
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert kinds(edge) == ["interaction"]


def test_a_repetition_of_what_the_row_includes_changes_nothing(edge: EdgeClient) -> None:
    edge.imprint(customer(1), "buy", product="poems", interaction_id="order-1")
    edge.flush(0)
    store, town = store_of(edge), Town()
    lane = edge._keeper.open.writer.lanes[1]  # type: ignore[union-attr]
    mark = sync_pb2.LaneMark(epoch=store.epoch(), lane=lane, sequence=1)
    commit_rows(store, [], town, full=False, included=[mark])
    until(lambda: "category:book" not in (edge.genome(customer(1)) or {}))
    edge.imprint(customer(1), "buy", product="poems", interaction_id="order-1")
    edge.flush(0)
    until(lambda: "category:book" not in (edge.genome(customer(1)) or {}))


def test_what_the_row_includes_is_dropped_and_the_rest_stays_on_top(edge: EdgeClient) -> None:
    edge.imprint(customer(1), "buy", product="poems")
    edge.flush(0)
    edge.imprint(customer(1), "buy", dna=["service:taxi"])
    edge.flush(0)
    store, town = store_of(edge), Town()
    lane = edge._keeper.open.writer.lanes[1]  # type: ignore[union-attr]
    mark = sync_pb2.LaneMark(epoch=store.epoch(), lane=lane, sequence=1)
    newer = row(1, markers={"category:book": 120}, town=town)
    commit_rows(store, [newer], town, full=False, included=[mark])
    until(lambda: set(edge.genome(customer(1)) or {}) == {"category:book", "service:taxi"})


def test_wrong_facts_are_said(edge: EdgeClient) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("did you mean 'buy'", {"kind": "byu", "product": "poems"}),
        ("did you mean 'amount'", {"product": "poems", "amuont": 1}),
        ("one thing", {}),
        ("one thing", {"product": "poems", "dna": ["brand:acme"]}),
        ("amount", {"product": "poems", "amount": "a lot"}),
        ("amount", {"product": "poems", "amount": float("nan")}),
        ("a marker", {"dna": ["acme"]}),
        ("no marker", {"dna": []}),
        ("interaction_id", {"product": "poems", "interaction_id": ""}),
        ("Context", {"product": "poems", "context": "hotel"}),
    ]
    for message, facts in wrong:
        kind = facts.pop("kind", "buy")
        with pytest.raises(UsageError, match=message):
            edge.imprint(customer(1), kind, **facts)
    assert kinds(edge) == []


def test_an_unknown_product_is_taken_down_and_said(
    edge: EdgeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        edge.imprint(customer(1), "buy", product="poem")
        until(lambda: "did you mean 'poems'" in caplog.text)
    assert edge.status.reasons["unknown_product"] == 1
    assert kinds(edge) == ["interaction"]


def test_a_moment_goes_with_an_imprint_as_markers_and_region(edge: EdgeClient) -> None:
    here = Context(lat=40.758896, lng=-73.985130, activity="walk")
    edge.imprint(customer(1), "view", product="poems", context=here)
    (event,) = events(edge)
    assert "activity:walk" in event.interaction.context_markers
    assert event.interaction.region == here.region


# Reports ----------------------------------------------------------------------------------------


def test_outcomes_name_the_decision_the_offer_and_the_customer(edge: EdgeClient) -> None:
    decision = edge.decide(MOMENT, "lobby", 2, customer=customer(1))
    name = edge.report(decision, "click", slot=1, value=2.5)
    made, outcome = events(edge)
    assert made.decision.decision_id.hex() == decision.id == outcome.outcome.decision_id.hex()
    assert outcome.outcome.offer == decision.slots[1].offer.id  # type: ignore[union-attr]
    assert (outcome.outcome.kind, outcome.outcome.slot) == ("click", 1)
    assert (outcome.outcome.value_micros, outcome.outcome.event_id) == (2_500_000, name)
    assert outcome.outcome.placement == "lobby"


def test_what_is_reported_is_coarse_and_what_stays_is_full(edge: EdgeClient) -> None:
    from edge_sdk.store.state import find_decision

    here = Context(cell="8a2a1072b59ffff", activity="walk")
    decision = edge.decide(here, "lobby", customer=customer(1))
    (reported,) = events(edge)
    assert reported.decision.region == here.region
    assert not reported.decision.genome_indices
    assert not reported.decision.scores
    assert not reported.decision.decided_ms
    with store_of(edge).read() as connection:
        frame = find_decision(connection, bytes.fromhex(decision.id))
    assert frame is not None
    assert frame.subject == subject(1)
    full = event_pb2.Event.FromString(frame.body).decision
    assert full.genome_indices
    assert candidate_rows(full).tolist() == candidate_rows(reported.decision).tolist() == [0, 1, 2]
    assert len(recorded_scores(full)) == 3


def test_a_decision_can_be_replayed_from_the_store(edge: EdgeClient) -> None:
    from edge_sdk.engine.decide import check_replay
    from edge_sdk.store.state import find_decision

    decision = edge.decide(MOMENT, "feed", 3, customer=customer(1))
    edge.flush(0)
    with store_of(edge).read() as connection:
        frame = find_decision(connection, bytes.fromhex(decision.id))
    assert frame is not None
    release = edge._desk.room.live.release
    assert release is not None
    assert check_replay(release, event_pb2.Event.FromString(frame.body).decision) == []


def test_a_decision_is_known_in_another_process_hours_later(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as one:
        one.wait_ready(10)
        decision = one.decide(MOMENT, "lobby", customer=customer(1))
    with EdgeClient(tmp_path / "store", config=FAST) as two:
        two.wait_ready(10)
        two.report(decision.id, "view")
        outcome = events(two)[-1].outcome
        assert outcome.offer == decision.offer.id  # type: ignore[union-attr]
        assert two.redeem(decision.id)


def test_an_id_that_nobody_knows_yet_is_recorded_by_id(edge: EdgeClient) -> None:
    began = time.monotonic()
    edge.report("0" * 31 + "1", "view")
    assert 0.15 < time.monotonic() - began < 1.0
    (event,) = events(edge)
    assert event.outcome.decision_id.hex() == "0" * 31 + "1"
    assert event.outcome.offer == ""


@pytest.mark.parametrize("wrong", ["", "taxi", "0" * 31, "g" * 32, 7, None])
def test_what_is_no_id_is_refused(edge: EdgeClient, wrong: Any) -> None:
    for call in (edge.redeem, lambda d: edge.report(d, "view")):
        with pytest.raises(UnknownDecision):
            call(wrong)


def test_reports_that_make_no_sense_are_refused(edge: EdgeClient) -> None:
    decision = edge.decide(MOMENT, "lobby")
    with pytest.raises(UsageError, match="did you mean 'click'"):
        edge.report(decision, "clikc")
    for slot in (1, -1, "0"):
        with pytest.raises(UsageError, match="slot"):
            edge.report(decision, "view", slot=slot)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="value"):
        edge.report(decision, "view", value=True)
    with pytest.raises(UsageError, match="event_id"):
        edge.report(decision, "view", event_id="")


def test_the_same_event_twice_is_one(edge: EdgeClient) -> None:
    decision = edge.decide(MOMENT, "lobby", customer=customer(1))
    for durable in (False, True, False):
        assert edge.report(decision, "click", event_id="tap-1", durable=durable) == "tap-1"
    edge.report(decision, "dismiss", event_id="tap-1")  # another kind is another event
    assert kinds(edge) == ["decision", "outcome", "outcome"]


def test_an_outcome_imprints_the_offers_dna(edge: EdgeClient) -> None:
    decision = edge.decide(MOMENT, "lobby", customer=customer(1))
    assert decision.offer is not None
    marker = {"taxi": "service:taxi", "train": "service:train", "book": "category:book"}
    for durable in (False, True):
        before = edge.genome(customer(1)) or {}
        edge.report(decision, "click", durable=durable)
        after = edge.genome(customer(1)) or {}
        name = marker[decision.offer.id]
        assert after[name] > before.get(name, 0.0)
    edge.flush(0)
    assert not edge._desk.room.local._unwritten, "all of it is on disk"
