"""Caps against a plain count of what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_holds import Hold
from edge_sdk.engine.cap_rulebook import Rulebook
from edge_sdk.engine.caps import NEVER, CapLedger, CapRow, CapRule
from edge_sdk.engine.offers import offer_from_document

HOUR = 3_600_000
ANN, BOB = bytes([1]) * 16, bytes([2]) * 16


def rules(**offers: dict[str, Any]) -> dict[str, CapRule]:
    made = {
        name: CapRule.of(offer_from_document({"id": name, **doc})) for name, doc in offers.items()
    }
    return {name: rule for name, rule in made.items() if rule is not None}


def views(limit: int, hours: int, scope: str = "customer", count: str = "view") -> dict[str, Any]:
    return {"caps": [{"limit": limit, "window_hours": hours, "scope": scope, "count": count}]}


def test_the_window_slides() -> None:
    ledger = CapLedger(rules(taxi=views(2, 24)))
    for at in (0, 10):
        assert ledger.blocked(ANN, at * HOUR) == frozenset()
        assert ledger.record(ANN, "taxi", "view", at * HOUR) == CapRow(
            ANN, "taxi", "view", at * HOUR
        )
    assert ledger.blocked(ANN, 10 * HOUR) == {"taxi"}
    assert ledger.blocked(BOB, 10 * HOUR) == frozenset()
    assert ledger.blocked(ANN, 24 * HOUR - 1) == {"taxi"}
    assert ledger.blocked(ANN, 24 * HOUR) == frozenset()
    ledger.record(ANN, "taxi", "view", 24 * HOUR)
    assert ledger.blocked(ANN, 34 * HOUR - 1) == {"taxi"}
    assert ledger.blocked(ANN, 34 * HOUR) == frozenset()


def test_a_window_of_zero_is_for_ever() -> None:
    ledger = CapLedger(rules(once=views(1, 0, count="redeem")))
    assert ledger.record(ANN, "once", "view", 5) is None
    ledger.record(ANN, "once", "redeem", 5)
    assert ledger.blocked(ANN, NEVER - 1) == {"once"}


def test_the_device_counts_everybody() -> None:
    ledger = CapLedger(rules(screen=views(2, 1, scope="device")))
    ledger.record(ANN, "screen", "view", 0)
    ledger.record(BOB, "screen", "view", 0)
    assert ledger.blocked(bytes([9]) * 16, 1) == {"screen"}
    assert ledger.blocked(NOBODY, HOUR) == frozenset()


def test_nobody_is_counted_together_and_never_stopped() -> None:
    ledger = CapLedger(rules(shown=views(1, 1), stop={"stop_after": {"dismiss": True}}))
    ledger.record(NOBODY, "shown", "view", 0)
    ledger.record(NOBODY, "stop", "dismiss", 0)
    assert ledger.blocked(NOBODY, 1) == {"shown"}
    assert ledger.blocked(ANN, 1) == frozenset()


def test_stops_are_for_ever() -> None:
    ledger = CapLedger(rules(stop={"stop_after": {"dismiss": True, "redeem": False}}))
    assert ledger.record(ANN, "stop", "redeem", 0) is None
    ledger.record(ANN, "stop", "dismiss", 0)
    assert ledger.blocked(ANN, NEVER - 1) == {"stop"}
    assert ledger.blocked(BOB, 1) == frozenset()


def test_offers_without_rules_are_not_recorded() -> None:
    ledger = CapLedger({})
    assert ledger.record(ANN, "any", "view", 0) is None
    assert list(ledger.rows()) == []


def test_a_clock_set_back_lifts_nothing() -> None:
    ledger = CapLedger(rules(taxi=views(1, 1)))
    ledger.record(ANN, "taxi", "view", 100 * HOUR)
    assert ledger.blocked(ANN, 50 * HOUR) == {"taxi"}
    assert ledger.blocked(ANN, 101 * HOUR) == frozenset()
    assert ledger.blocked(ANN, 100 * HOUR) == {"taxi"}


def test_rows_make_the_ledger_again() -> None:
    known = rules(taxi=views(2, 24), screen=views(1, 0, scope="device"))
    ledger = CapLedger(known)
    for at in range(5):
        ledger.record(ANN, "taxi", "view", at)
    ledger.record(BOB, "screen", "view", 3)
    again = CapLedger(known, ledger.rows())
    for subject in (ANN, BOB, NOBODY):
        assert again.blocked(subject, 10) == ledger.blocked(subject, 10)
    assert sorted(again.rows()) == sorted(ledger.rows())
    assert len(list(ledger.rows())) == 6  # a later release may raise a limit: all of them count


def test_another_release_has_other_rules() -> None:
    ledger = CapLedger(rules(taxi=views(1, 24)))
    ledger.record(ANN, "taxi", "view", 0)
    ledger.rebind(rules(taxi=views(2, 24)))
    assert ledger.blocked(ANN, 1) == frozenset()
    ledger.rebind({})
    assert ledger.blocked(ANN, 1) == frozenset()
    ledger.rebind(rules(taxi=views(1, 24)))
    assert ledger.blocked(ANN, 1) == {"taxi"}


def test_rows_before_their_release_count_when_it_comes() -> None:
    ledger = CapLedger({}, [CapRow(ANN, "taxi", "view", at) for at in (1, 2, 3)])
    ledger.rebind(rules(taxi=views(3, 0)))
    assert ledger.blocked(ANN, 9) == {"taxi"}


def test_what_no_longer_counts_is_given_up() -> None:
    ledger = CapLedger(rules(taxi=views(2, 24), once=views(1, 0)))
    for at in (0, 1, 2):
        ledger.record(ANN, "taxi", "view", at)
    ledger.record(ANN, "once", "view", 0)
    assert ledger.prune(10 * HOUR) == []
    assert ledger.prune(24 * HOUR + 1) == [CapRow(ANN, "taxi", "view", at) for at in (0, 1)]
    assert [row.at_ms for row in ledger.rows() if row.offer == "taxi"] == [2]
    assert ledger.prune(10**15) == [CapRow(ANN, "taxi", "view", 2)]
    assert ledger.blocked(ANN, 10**15) == {"once"}


def test_nobody_waits_while_it_looks_for_what_no_longer_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = CapLedger(rules(taxi=views(1, 24)))
    ledger.record(ANN, "taxi", "view", 0)
    ledger.record(BOB, "taxi", "view", 0)
    looks = Rulebook.ended
    meanwhile: list[Callable[[], object]] = [
        lambda: ledger.forget(ANN),
        lambda: ledger.rebind(rules(taxi=views(1, 48))),
        lambda: ledger.record(ANN, "taxi", "view", 26 * HOUR),
    ]

    def looked(book: Rulebook, *asked: Any) -> Any:
        found = looks(book, *asked)
        meanwhile.pop(0)()  # would hang under the lock
        return found

    monkeypatch.setattr(Rulebook, "ended", looked)
    assert [row.subject for row in ledger.prune(25 * HOUR)] == [BOB]  # ann's row is another now
    ledger.record(BOB, "taxi", "view", 0)
    assert ledger.prune(25 * HOUR) == []  # by the rules that hold now it counts
    assert ledger.blocked(BOB, 25 * HOUR) == {"taxi"}
    assert [row.subject for row in ledger.prune(48 * HOUR)] == [b"", BOB]
    assert ledger.blocked(ANN, 49 * HOUR) == {"taxi"}
    monkeypatch.undo()
    assert [row.subject for row in ledger.prune(74 * HOUR)] == [ANN]


def test_a_subject_is_forgotten() -> None:
    ledger = CapLedger(rules(taxi=views(1, 0), screen=views(1, 0, scope="device")))
    ledger.record(ANN, "taxi", "view", 0)
    ledger.record(ANN, "screen", "view", 0)
    assert ledger.blocked(ANN, 1) == {"taxi", "screen"}
    ledger.forget(ANN)
    assert ledger.blocked(ANN, 1) == {"screen"}
    assert {row.subject for row in ledger.rows()} == {b""}, "nobody's any more"
    ledger.rebind(rules(taxi=views(1, 0), screen=views(1, 0, scope="device")))
    assert ledger.blocked(ANN, 1) == {"screen"}


events = st.lists(
    st.tuples(
        st.sampled_from([ANN, BOB, NOBODY]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["view", "redeem", "dismiss"]),
        st.integers(0, 30).map(lambda hours: hours * HOUR),
    ),
    max_size=25,
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    cap = st.fixed_dictionaries(
        {
            "limit": st.integers(1, 4),
            "window_hours": st.sampled_from([0, 1, 5, 24]),
            "scope": st.sampled_from(["customer", "device"]),
            "count": st.sampled_from(["view", "redeem"]),
        }
    )
    stop = st.fixed_dictionaries({"redeem": st.booleans(), "dismiss": st.booleans()})
    return {"caps": draw(st.lists(cap, max_size=3)), "stop_after": draw(stop)}


def plain(
    offers: dict[str, dict[str, Any]], happened: list[Any], subject: bytes, now: int
) -> set[str]:
    blocked = set()
    for name, doc in offers.items():
        mine = [e for e in happened if e[1] == name]
        own = [e for e in mine if e[0] == subject]
        for cap in doc["caps"]:
            of = mine if cap["scope"] == "device" else own
            window = cap["window_hours"] * HOUR
            inside = [e for e in of if e[2] == cap["count"] and (not window or e[3] + window > now)]
            if len(inside) >= cap["limit"]:
                blocked.add(name)
        for kind, stops in doc["stop_after"].items():
            if stops and subject != NOBODY and any(e[2] == kind for e in own):
                blocked.add(name)
    return blocked


@settings(max_examples=200, deadline=None)
@given(
    offers=st.fixed_dictionaries({"a": documents(), "b": documents()}),
    happened=events,
    asks=st.lists(st.integers(0, 60).map(lambda hours: hours * HOUR), max_size=4),
    prune_at=st.integers(0, 25),
)
def test_the_ledger_counts_like_anybody_would(
    offers: dict[str, Any], happened: list[Any], asks: list[int], prune_at: int
) -> None:
    known = rules(**offers)
    ledger = CapLedger(known)
    for number, event in enumerate(happened):
        ledger.record(*event)
        if number == prune_at:
            ledger.prune(0)
    asks.sort()
    for now in asks:
        for subject in (ANN, BOB, NOBODY):
            assert ledger.blocked(subject, now) == plain(offers, happened, subject, now)
        ledger.prune(now)
    again = CapLedger(known, ledger.rows())
    last = max(asks, default=0)
    for subject in (ANN, BOB):
        own = {name for name in ("a", "b") if not any(r.device for r in limits(known, name))}
        assert again.blocked(subject, last) & own == ledger.blocked(subject, last) & own


def limits(known: dict[str, CapRule], name: str) -> Any:
    return known[name].limits if name in known else ()


def test_threads_may_read_while_others_write() -> None:
    ledger = CapLedger(rules(**{f"o{n}": views(1, 1) for n in range(50)}))
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                for subject in (ANN, BOB):
                    ledger.blocked(subject, 1)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(2000):
        ledger.record(ANN if n % 2 else BOB, f"o{n % 50}", "view", n)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert ledger.blocked(ANN, 2000) == {f"o{n}" for n in range(1, 50, 2)}


def test_a_limit_that_is_raised_counts_what_has_happened() -> None:
    ledger = CapLedger(rules(taxi=views(2, 24)))
    for at in range(6):
        ledger.record(ANN, "taxi", "view", at)
    ledger.prune(10)
    ledger.rebind(rules(taxi=views(5, 24)))
    assert ledger.blocked(ANN, 10) == {"taxi"}
    ledger.rebind(rules(taxi=views(7, 24)))
    assert ledger.blocked(ANN, 10) == frozenset()


def test_the_same_claim_counts_once() -> None:
    ledger = CapLedger(rules(taxi=views(2, 0)))
    assert ledger.record(ANN, "taxi", "view", 1, b"claim") is not None
    assert ledger.record(ANN, "taxi", "view", 2, b"claim") is None
    ledger.apply([CapRow(ANN, "taxi", "view", 3, b"claim")])
    assert ledger.blocked(ANN, 5) == frozenset()
    ledger.apply([CapRow(ANN, "taxi", "view", 3, b"another")])
    assert ledger.blocked(ANN, 5) == {"taxi"}


@pytest.mark.parametrize("kind", ["view", "redeem", "dismiss", "click"])
def test_what_is_counted(kind: str) -> None:
    known = rules(
        o={"caps": [{"limit": 7, "window_hours": 2}], "stop_after": {"redeem": True}}, free={}
    )
    ledger = CapLedger(known)
    assert ledger.counts("o", kind) == (kind in ("view", "redeem"))
    assert not ledger.counts("free", kind)
    assert ledger.counts("o", kind, NOBODY) == (kind == "view"), "a stop is for a customer"


@pytest.mark.parametrize(
    "cap",
    [
        {"limit": 1, "window_hours": 24},
        {"limit": 24, "calendar": "day", "scope": "device", "paced": True},
    ],
)
def test_what_another_process_holds_counts_before_anything_was_asked(cap: dict[str, Any]) -> None:
    known, now, since_boot = rules(taxi={"caps": [cap]}), 20_000 * 24 * HOUR + 5_000, 10_000
    one = CapLedger(known, elapsed=lambda: since_boot)
    two = CapLedger(known, elapsed=lambda: since_boot)
    assert one.take(ANN, [(b"c" * 17, "taxi")], now, lapse=since_boot + 300_000)[0]
    two.hold(Hold(b"c" * 17, ANN, "taxi", since_boot + 300_000))
    assert two.blocking(ANN, now) == one.blocking(ANN, now)
    assert two.blocking(ANN, now).why["taxi"][1] == now + 300_000
    assert two.take(ANN, [(b"d" * 17, "taxi")], now, lapse=since_boot + 300_000)[1]
    assert two.blocking(ANN, now + 30_000).why["taxi"][1] == now + 330_000, "the clock was set"
