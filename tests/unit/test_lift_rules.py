"""Who is compared in a hold-out, and what counts: a test for each rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.doings.reading import doings
from genome_server.genomes.events import ConsentSaid, LinkSaid
from genome_server.lift.rules import BASE, NEVER, Done, Entered, Meetings, Met, Rows, enter
from genome_server.log.reader import LoggedFrame
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION, CustomerRow
from genome_server.times import DAY_MS

T = 1_780_300_800_000
LEARNING = CONSENT_LEARNING.bit_length() - 1


def who(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def agreed(*names: str) -> dict[bytes, CustomerRow]:
    return {who(name): CustomerRow(who(name), consents=CONSENT_LEARNING) for name in names}


class Log:
    """Meetings that are written down by name and hour."""

    def __init__(self, since_ms: int = 0) -> None:
        self.meetings = Meetings(since_ms)
        self._number = 0

    def met(
        self, name: str, hour: float, *, held: bool = False, hit: bool = True, placement: int = 0
    ) -> None:
        self._number += 1
        at_ms, id_ = T + round(hour * 3_600_000), self._number.to_bytes(16)
        met = Met(at_ms, id_, hit, self._number, who(name))
        self.meetings.meet(placement, met, group=held)

    def link(self, one: str, other: str, hour: float = 0, *, linked: bool = True) -> None:
        time_ms = T + round(hour * 3_600_000)
        self.meetings.hear(LinkSaid(who(one), who(other), linked=linked, time_ms=time_ms))

    def enter(self, customers: dict[bytes, CustomerRow], **more: Any) -> Entered:
        return enter(self.meetings, customers, **more)


def named(entered: Entered) -> dict[str, bool]:
    """Who is held out, by the name under which they entered."""
    names = [one.rstrip(b".").decode() for one in entered.subject]
    return dict(zip(names, entered.held.tolist(), strict=True))


def test_the_first_decision_says_the_group_and_the_moment() -> None:
    log = Log()
    log.met("ann", 5, held=True)
    log.met("ann", 3, held=True)
    log.met("bob", 4)
    entered = log.enter(agreed("ann", "bob"))
    assert named(entered) == {"ann": True, "bob": False}
    assert (entered.at_ms - T).tolist() == [3 * 3_600_000, 4 * 3_600_000]
    assert entered.offset.tolist() == [2, 3]
    assert entered.other_ms.tolist() == [NEVER, NEVER]


def test_who_meets_both_groups_stays_in_the_first_and_is_known() -> None:
    log = Log()
    log.met("ann", 3, held=True)
    log.met("ann", 9)
    log.met("ann", 7)
    entered = log.enter(agreed("ann"))
    assert named(entered) == {"ann": True}
    assert entered.other_ms.tolist() == [T + 7 * 3_600_000]


def test_linked_ids_are_one_person_with_the_doings_of_both() -> None:
    log = Log()
    log.met("ann", 8, held=True)
    log.met("card", 2)
    log.link("ann", "card")
    log.link("card", "mail")
    entered = log.enter(agreed("ann", "card", "mail"))
    assert named(entered) == {"card": False}
    assert entered.other_ms.tolist() == [T + 8 * 3_600_000]
    assert entered.ids == [(who("ann"), who("card"), who("mail"))]
    log.link("ann", "card", 1, linked=False)
    log.meetings.persons = type(log.meetings.persons)()
    assert named(log.enter(agreed("ann", "card", "mail"))) == {"card": False, "ann": True}


def test_only_what_ids_did_that_agreed_to_learning_counts() -> None:
    log = Log()
    for name in ("ann", "bob", "eve"):
        log.met(name, 1)
    log.met("card", 0.5, held=True)
    log.link("ann", "card")
    customers = agreed("ann") | {
        who("bob"): CustomerRow(who("bob"), consents=CONSENT_PERSONALISATION),
        who("card"): CustomerRow(who("card"), consents=0),
    }
    entered = log.enter(customers)
    assert named(entered) == {"ann": False}
    assert entered.ids == [(who("ann"),)], "the card refused"
    assert entered.left_out.without_consent == 2


def test_a_word_of_the_log_on_consent_counts_before_the_store_has_heard_it() -> None:
    log = Log()
    log.met("ann", 1)
    log.met("bob", 1)
    log.meetings.hear(ConsentSaid(who("ann"), LEARNING, granted=False, time_ms=T))
    log.meetings.hear(ConsentSaid(who("bob"), LEARNING, granted=True, time_ms=T))
    assert named(log.enter(agreed("ann"))) == {"bob": False}
    log.meetings.hear(ConsentSaid(who("bob"), LEARNING, granted=False, time_ms=T))
    assert not len(log.enter(agreed("ann"))), "of two words at one moment the careful one counts"


def test_a_silent_id_lets_enter_only_once_the_link_is_known() -> None:
    log = Log()
    log.met("stranger", 1, held=True)
    log.met("stranger", 6)
    log.link("stranger", "ann", 4)
    silent = agreed("ann") | {who("stranger"): CustomerRow(who("stranger"), silent=True)}
    entered = log.enter(silent)
    # The held out one of before the link is the first of its group and says nothing.
    assert named(entered) == {"stranger": False}
    assert entered.at_ms.tolist() == [T + 6 * 3_600_000]
    assert entered.ids == [(who("ann"), who("stranger"))]
    assert named(log.enter(agreed("ann", "stranger"))) == {"stranger": True}


def test_of_a_campaign_the_first_decision_of_a_placement_decides() -> None:
    log = Log()
    log.met("ann", 1)
    log.met("bob", 1, hit=False)
    log.met("bob", 2)  # another group would have seen it here by now, or never
    log.met("eve", 1, hit=False)
    log.met("eve", 3, placement=1, held=True)  # drawn anew
    log.met("kim", 1, hit=False)
    entered = log.enter(agreed("ann", "bob", "eve", "kim"))
    assert named(entered) == {"ann": False, "eve": True}
    assert entered.placement.tolist() == [0, 1]
    assert entered.left_out.later == 1, "bob met it, kim never did"


def test_placements_without_a_hold_out_say_nothing() -> None:
    log = Log()
    log.met("ann", 1)
    log.met("ann", 2, placement=1, held=True)
    assert named(log.enter(agreed("ann"), placements={1})) == {"ann": True}
    assert log.meetings.placements(BASE) == {1}


def test_decisions_of_before_count_for_nothing_and_are_told() -> None:
    log = Log(T + 3_600_000)
    log.met("ann", 0.5, held=True)
    log.met("ann", 2)
    log.met("bob", 2)
    log.met("eve", 0.5)
    entered = log.enter(agreed("ann", "bob", "eve"))
    assert named(entered) == {"ann": False, "bob": False}
    assert dict(zip(named(entered), entered.earlier.tolist(), strict=True)) == {
        "ann": True,
        "bob": False,
    }


# -- what counts


def did(name: str, hours: float, *, outcome: bool = False, **said: Any) -> LoggedFrame:
    at_ms = T + round(hours * 3_600_000)
    time = event_pb2.EventTime(wall_ms=at_ms, offset_known=True)
    if outcome:
        event = event_pb2.Event(time=time, outcome=event_pb2.Outcome(**said))
    else:
        event = event_pb2.Event(time=time, interaction=event_pb2.Interaction(**said))
    kind = FrameKind.OUTCOME if outcome else FrameKind.INTERACTION
    body = event.SerializeToString()
    return LoggedFrame(0, "till", b"e" * 16, 0, 1, who(name), kind, at_ms, at_ms, body)


def counted(*frames: LoggedFrame, products: frozenset[str] | None = None) -> Rows:
    """Ann (with a card) enters at hour 0, Bob at hour 24; a window of two days."""
    log = Log()
    log.met("ann", 0)
    log.met("bob", 24, held=True)
    log.link("ann", "card")
    entered = log.enter(agreed("ann", "bob", "card"))
    done = Done(entered, 2 * DAY_MS, ("buy", "click"), ("buy", "redeem"), products)
    for doing in doings(frames, done.whose, once=done.counts):
        done.take(doing)
    return done.rows()


def test_what_is_done_within_the_window_counts() -> None:
    rows = counted(
        did("ann", -0.1, kind="buy", interaction_id="before"),
        did("ann", 0, kind="buy", interaction_id="at once"),
        did("card", 47.9, kind="click", interaction_id="card"),
        did("ann", 48, kind="buy", interaction_id="over"),
        did("bob", 23, kind="buy", interaction_id="bob before"),
        did("bob", 71, kind="buy", interaction_id="bob"),
        did("bob", 30, kind="redeem", interaction_id="another kind"),
        did("eve", 30, kind="buy", interaction_id="somebody else"),
    )
    assert rows.times.tolist() == [2, 1]
    assert rows.newest_ms == T + 71 * 3_600_000
    assert rows.over(T + 2 * DAY_MS).tolist() == [True, False]
    assert rows.over(T + 3 * DAY_MS).tolist() == [True, True]
    assert rows.over(T + 2 * DAY_MS - 1).tolist() == [False, False]


def test_what_comes_twice_counts_once() -> None:
    buy = did("ann", 1, kind="buy", interaction_id="till-1", amount_micros=5_000_000)
    rows = counted(buy, buy, did("card", 2, kind="buy", interaction_id="till-1"))
    assert (rows.times.tolist(), rows.amount.tolist()) == ([1, 0], [5.0, 0.0])


def test_outcomes_do_not_count_and_are_told() -> None:
    rows = counted(did("ann", 1, outcome=True, kind="buy", event_id="x", value_micros=9_000_000))
    assert (rows.times.tolist(), rows.amount.sum(), rows.outcomes) == ([0, 0], 0, 1)


def test_money_is_in_the_usual_currency_and_refunds_are_taken_off() -> None:
    def buy(name: str, euros: float, currency: str) -> LoggedFrame:
        micros = round(euros * 1_000_000)
        return did(name, 30, kind="buy", amount_micros=micros, currency=currency)

    rows = counted(
        *(buy("ann", 10, "EUR"), buy("ann", 2.5, ""), buy("bob", 4, "EUR")),
        *(buy("bob", 100, "JPY"), buy("bob", -1.5, "EUR")),
        did("ann", 30, kind="click", amount_micros=7_000_000, currency="EUR"),
    )
    assert rows.currency == "EUR"
    assert rows.amount.tolist() == [12.5, 2.5]
    assert rows.elsewhere == 1
    # A refund is no purchase; one in another currency is.
    assert rows.times.tolist() == [3, 2]


def test_products_can_be_chosen() -> None:
    frames = (
        did("ann", 1, kind="buy", product="ride"),
        did("bob", 30, kind="buy", product="soap"),
        did("bob", 30, kind="buy"),
    )
    assert counted(*frames).times.tolist() == [1, 2]
    assert counted(*frames, products=frozenset({"ride"})).times.tolist() == [1, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_few_or_no_persons(count: int) -> None:
    log = Log()
    for number in range(count):
        log.met(f"p{number}", number)
    entered = log.enter(agreed(*(f"p{number}" for number in range(count))))
    rows = Done(entered, DAY_MS, ("buy",), ("buy",)).rows()
    assert len(rows) == len(entered) == count
    assert (rows.currency, rows.newest_ms) == ("", 0)
    assert rows.times.dtype == rows.entered.at_ms.dtype == np.int64
