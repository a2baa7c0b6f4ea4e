"""FakeEdge is an EdgeClient: what is tested with it holds for the real one."""

from __future__ import annotations

import inspect
import logging
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from edge_sdk import (
    ClientClosed,
    Context,
    EdgeClient,
    IdentifyResult,
    Purpose,
    Reason,
    RedemptionReason,
    UnknownDecision,
    UsageError,
)
from edge_sdk.testing import FakeEdge, Report

OFFERS: list[dict[str, Any]] = [
    {
        "id": "taxi",
        "near": ["hotel"],
        "all_of": ["activity:flight-search"],
        "dna": ["ride:taxi"],
        "content": {"title": "A taxi to the airport"},
        "value": 3,
    },
    {"id": "beer", "dna": ["drink:beer"], "hours": ["17-23"], "stop_after": {"dismiss": True}},
    {"id": "coffee", "dna": ["drink:coffee"], "caps": [{"limit": 2, "window_hours": 24}]},
]
AT_HOTEL = Context(place="hotel", activity="flight-search")


def shown(edge: EdgeClient, context: Context | None = None, **more: Any) -> str | None:
    offer = edge.decide(context or Context(), "screen", **more).offer
    return offer.id if offer else None


class Clock:
    """Local time at a desk in Paris, in summer."""

    def __init__(self, hour: int) -> None:
        self.now = datetime(2026, 7, 1, hour, tzinfo=timezone(timedelta(hours=2)))

    def __call__(self) -> datetime:
        return self.now


def test_it_is_an_edge_client() -> None:
    assert issubclass(FakeEdge, EdgeClient)
    for name in ("decide", "session", "report", "imprint", "redeem", "set_consent", "on_change",
                 "flush", "close", "status", "wait_ready", "genome"):  # fmt: skip
        assert inspect.getattr_static(FakeEdge, name) is inspect.getattr_static(EdgeClient, name)


def test_a_durable_decision_is_taken_like_any() -> None:
    edge = FakeEdge(OFFERS[2:])
    seen = [shown(edge, customer="ann", durable=True) for _ in range(3)]
    assert seen == ["coffee", "coffee", None], "caps count"
    with edge.session() as visit:
        assert visit.decide(Context(), "screen", durable=True).offer is not None
    assert [event.WhichOneof("payload") for event in edge.events] == ["decision"] * 4
    edge.force("coffee")
    assert edge.decide(Context(), "screen", customer="bob", durable=True).reason is Reason.FORCED
    edge.force(None)
    assert [shown(edge, customer="bob") for _ in range(2)] == ["coffee", None]


def test_the_example_of_the_module() -> None:
    edge = FakeEdge([{"id": "taxi", "near": ["hotel"], "content": {"title": "A taxi"}}])
    decision = edge.decide(Context(place="hotel"), "lobby")
    assert decision.offer is not None
    assert decision.offer.id == "taxi"


def test_the_real_engine_decides() -> None:
    with FakeEdge(OFFERS, clock=Clock(10)) as edge:
        assert edge.wait_ready(0)
        assert edge.status.release == 1
        assert shown(edge, AT_HOTEL) == "taxi"
        assert shown(edge, Context(place="hotel")) == "coffee"
        decision = edge.decide(AT_HOTEL, "screen", 3)
        reasons = [slot.reason for slot in decision.slots]
        assert reasons == [Reason.CHOSEN, Reason.CHOSEN, Reason.NO_MORE]
        assert [loser.offer for loser in decision.explain().losers] == ["beer"]
        assert edge.status.reasons["CHOSEN"] == 3


def test_the_clock_is_the_tests() -> None:
    clock = Clock(16)
    edge = FakeEdge(OFFERS, clock=clock)
    assert shown(edge) == "coffee"
    clock.now += timedelta(hours=1)
    assert {shown(edge), shown(edge)} == {"beer"}
    # A context with a time of its own keeps it.
    assert shown(edge, Context(time=datetime(2026, 7, 1, 9, tzinfo=UTC))) == "coffee"


def test_caps_follow_the_clock() -> None:
    clock = Clock(9)
    edge = FakeEdge([OFFERS[2]], clock=clock)
    assert [shown(edge) for _ in range(3)] == ["coffee", "coffee", None]
    clock.now += timedelta(hours=24)
    assert shown(edge) == "coffee"


def test_the_same_seed_gives_the_same_decisions() -> None:
    placements = [{"id": "screen", "slots": 2, "explorer": "squarecb", "gamma": 5, "floor": 0.5}]

    def run(seed: int) -> list[Any]:
        edge = FakeEdge(OFFERS, seed=seed, clock=Clock(20), placements=placements)
        return [edge.decide(AT_HOTEL, "screen", 2) for _ in range(20)]

    assert run(1) == run(1)
    assert [d.id for d in run(1)] == [d.id for d in run(1)]
    assert [d.slots for d in run(1)] != [d.slots for d in run(2)]


def test_reports_are_kept() -> None:
    edge = FakeEdge(OFFERS)
    decision = edge.decide(AT_HOTEL, "screen")
    name = edge.report(decision, "view")
    edge.report(decision.id, "click", value=2.5, event_id="click-1")
    edge.report(decision.id, "click", value=2.5, event_id="click-1")  # said twice is once
    assert edge.reports == [
        Report("view", "taxi", decision.id, 0, "screen", 0.0, name),
        Report("click", "taxi", decision.id, 0, "screen", 2.5, "click-1"),
    ]
    assert [event.WhichOneof("payload") for event in edge.events] == [
        "decision", "outcome", "outcome",
    ]  # fmt: skip
    with pytest.raises(UnknownDecision):
        edge.report("nonsense", "view")
    with pytest.raises(UsageError, match="did you mean 'view'"):
        edge.report(decision, "viewed")


def test_redeeming_is_granted_once() -> None:
    edge = FakeEdge(OFFERS)
    decision = edge.decide(AT_HOTEL, "screen")
    assert edge.redeem(decision)
    again = edge.redeem(decision)
    assert (again.granted, again.reason) == (False, RedemptionReason.ALREADY_REDEEMED)
    assert edge.redeem("ab" * 16).reason == RedemptionReason.UNKNOWN_DECISION
    assert [report.kind for report in edge.reports] == ["redeem"]


def test_what_a_customer_does_counts_once_they_agreed() -> None:
    edge = FakeEdge(OFFERS, clock=Clock(20))
    edge.imprint("ann", "buy", dna={"drink:coffee": 1.0})
    assert shown(edge, customer="ann") == "beer"
    assert edge.genome("ann") is None
    edge.set_consent("ann", Purpose.PERSONALISATION, True)
    assert shown(edge, customer="ann") == "coffee"
    assert edge.genome("ann") == pytest.approx({"drink:coffee": 2.0})
    edge.set_consent("ann", "personalisation", False)
    assert shown(edge, customer="ann") == "beer"
    assert shown(edge, customer="bob") == "beer"


def test_a_visit_of_a_customer_is_of_that_customer() -> None:
    edge = FakeEdge(OFFERS, clock=Clock(20))
    edge.set_consent("ann", "personalisation", True)
    edge.imprint("ann", "buy", dna={"drink:coffee": 1.0})
    with edge.session("ann") as visit:
        decision = visit.decide(Context(), "screen")
        assert decision.offer is not None
        assert (decision.offer.id, decision.genome_used) == ("coffee", True)
        visit.imprint("buy", dna={"drink:coffee": 1.0})
    assert edge.genome("ann") == pytest.approx({"drink:coffee": 4.0}), "done by the same"


def test_a_refusal_stops_an_offer_for_that_customer() -> None:
    edge = FakeEdge(OFFERS, clock=Clock(20))
    decision = edge.decide(Context(), "screen", customer="ann")
    edge.report(decision, "dismiss")
    assert shown(edge, customer="ann") == "coffee"
    assert shown(edge, customer="bob") == "beer"


def test_customers_of_the_test() -> None:
    edge = FakeEdge(
        OFFERS,
        clock=Clock(20),
        customers={
            "ann": {"genome": {"drink:coffee": 4.0}, "consent": ["personalisation"]},
            "bob": {"genome": ["drink:coffee"]},
        },
    )
    assert edge.status.genomes == 2
    assert shown(edge, customer="ann") == "coffee"
    assert shown(edge, customer="bob") == "beer"
    stranger = edge.decide(Context(), "screen", customer="eve")
    assert [(one.kind, one.name) for one in stranger.unknown] == [("customer", "eve")]
    assert edge.status.reasons["unknown_customer"] == 1
    with edge.session() as visit:
        assert visit.identify("ann") is IdentifyResult.LOCAL
        assert visit.decide(Context(), "screen").offer.id == "coffee"  # type: ignore[union-attr]
    with edge.session() as visit:
        assert visit.identify("eve", 0.5) is IdentifyResult.OFFLINE
    refused: list[dict[str, dict[str, Any]]] = [
        {"ann": {"genom": {}}},
        {"ann": {"consent": ["everything"]}},
    ]
    for wrong in refused:
        with pytest.raises(UsageError):
            FakeEdge(OFFERS, customers=wrong)


def test_force() -> None:
    edge = FakeEdge(OFFERS, clock=Clock(9))
    edge.force("beer")
    decision = edge.decide(AT_HOTEL, "screen", 2)
    assert decision.offer is not None
    assert [slot.offer.id for slot in decision.slots if slot.offer] == ["beer", "taxi"]
    assert decision.reason == decision.slots[0].reason == Reason.FORCED
    edge.report(decision, "click")
    assert edge.reports[0].offer == "beer"
    edge.force("taxi")
    twice = [slot.offer.id for slot in edge.decide(AT_HOTEL, "screen", 2).slots if slot.offer]
    assert twice == ["taxi", "coffee"]
    edge.force(None)
    assert shown(edge) == "coffee"
    with pytest.raises(UsageError, match="did you mean 'taxi'"):
        edge.force("taxy")


def test_placements_of_the_test(caplog: pytest.LogCaptureFixture) -> None:
    anywhere = FakeEdge(OFFERS)
    assert anywhere.decide(AT_HOTEL, "any name", 2).reason == Reason.CHOSEN
    edge = FakeEdge(OFFERS, placements=[{"id": "lobby"}])
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        wrong = edge.decide(AT_HOTEL, "loby")
        edge.decide(AT_HOTEL, "loby")
    assert wrong.reason == Reason.UNKNOWN_PLACEMENT
    assert [record.message for record in caplog.records] == [
        "unknown placement 'loby'; did you mean 'lobby'?"
    ]
    assert edge.status.reasons["unknown_placement"] == 2


def test_publish_swaps_the_offers_and_calls_back() -> None:
    edge = FakeEdge(OFFERS, clock=Clock(9))
    heard = []
    end = edge.on_change(lambda: heard.append(edge.status.release))
    edge.publish([{"id": "tea"}])
    end()
    edge.publish([{"id": "water"}])
    assert heard == [2]
    assert shown(edge) == "water"


def test_products_and_basket() -> None:
    edge = FakeEdge(
        [{"id": "a", "dna": ["claim:organic"]}, {"id": "b"}],
        products={"P-1": ["claim:organic"], "P-2": ["claim:cheap"]},
    )
    assert shown(edge, Context(basket=["P-1"])) == "a"
    edge.set_consent("ann", "personalisation", True)
    edge.imprint("ann", "buy", product="P-2", amount=3.0)
    assert list(edge.genome("ann") or {}) == ["claim:cheap"]


def test_the_end() -> None:
    edge = FakeEdge(OFFERS)
    assert edge.flush(1.0) == 0
    edge.close()
    edge.close()
    with pytest.raises(ClientClosed):
        edge.decide(Context(), "screen")


def test_no_thread_is_started() -> None:
    before = set(threading.enumerate())
    edge = FakeEdge(OFFERS)
    shown(edge)
    assert before.issuperset(threading.enumerate())  # those of tests before this one may end


def test_threads_may_share_it() -> None:
    edge = FakeEdge(OFFERS, clock=Clock(20))

    def work() -> None:
        for _ in range(100):
            edge.report(edge.decide(AT_HOTEL, "screen"), "view")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(edge.reports) == 400
    assert len({report.decision for report in edge.reports}) == 400


@pytest.mark.parametrize("offers", [[{"id": "a", "colour": "red"}], [{}], [{"id": "a"}] * 2])
def test_offers_that_are_wrong(offers: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError):
        FakeEdge(offers)
