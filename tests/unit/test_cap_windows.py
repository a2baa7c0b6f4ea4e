"""Hours, days, weeks and months of the calendar, and everything that caps ask for, against the
reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.caps import NEVER, CapLedger, rules_of
from edge_sdk.engine.windows import period
from edge_sdk.engine.zones import UTC_ZONE, tables_for, zone_table, zones_of
from genome_edge.v1 import release_pb2
from tests.reference import calendars
from tests.reference.caps import Happened, Held, History, causes, room

HOUR = 3_600_000
DAY = 24 * HOUR
ANN, BOB = bytes([1]) * 16, bytes([2]) * 16
# From Boxing Day 2025 on: two changes of clocks, a new year, months of each length.
BEGIN = 1_766_700_000_000
END = BEGIN + 330 * DAY
ZONES = ("", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo")
Cap = release_pb2.Cap
CALENDARS = (Cap.CALENDAR_HOUR, Cap.CALENDAR_DAY, Cap.CALENDAR_WEEK, Cap.CALENDAR_MONTH)
TABLES = zones_of([zone_table(name, BEGIN - 400 * DAY, END + 400 * DAY) for name in ZONES if name])


@settings(max_examples=150, deadline=None)
@given(
    at=st.integers(BEGIN, END),
    calendar=st.sampled_from(CALENDARS),
    zone=st.sampled_from(ZONES),
)
@example(at=1_774_746_000_000, calendar=Cap.CALENDAR_HOUR, zone="Europe/Berlin")  # forward
@example(at=1_792_889_999_999, calendar=Cap.CALENDAR_HOUR, zone="Europe/Berlin")  # back
@example(at=1_792_893_600_000, calendar=Cap.CALENDAR_DAY, zone="Europe/Berlin")
@example(at=1_777_050_000_000, calendar=Cap.CALENDAR_DAY, zone="Africa/Cairo")  # from one o'clock
@example(at=1_775_314_800_000, calendar=Cap.CALENDAR_HOUR, zone="Australia/Lord_Howe")
def test_a_period_is_the_calendars(at: int, calendar: int, zone: str) -> None:
    found = period(calendar, at, TABLES.get(zone, UTC_ZONE))
    assert found == calendars.period(at, calendar, zone)


def test_the_day_on_which_clocks_are_put_back_is_longer() -> None:
    begin, end = period(Cap.CALENDAR_DAY, 1_792_893_600_000, TABLES["Europe/Berlin"])
    assert end - begin == 25 * HOUR
    begin, end = period(Cap.CALENDAR_WEEK, begin, TABLES["Europe/Berlin"])
    assert end - begin == 7 * DAY + HOUR


@st.composite
def caps(draw: st.DrawFn) -> release_pb2.Cap:
    calendar = draw(st.sampled_from((Cap.CALENDAR_UNSPECIFIED, *CALENDARS)))
    return release_pb2.Cap(
        scope=draw(st.sampled_from((Cap.SCOPE_CUSTOMER, Cap.SCOPE_DEVICE))),
        count=draw(st.sampled_from((Cap.COUNT_VIEW, Cap.COUNT_VIEW, Cap.COUNT_REDEEM))),
        limit=draw(st.integers(1, 5)),
        window_hours=0 if calendar else draw(st.sampled_from((0, 1, 5, 24, 200))),
        over=draw(st.sampled_from((Cap.OVER_OFFER, Cap.OVER_CAMPAIGN, Cap.OVER_GROUP))),
        calendar=calendar,
        paced=bool(calendar) and draw(st.booleans()),
    )


@st.composite
def offers(draw: st.DrawFn) -> list[release_pb2.OfferSpec]:
    made = []
    for name in ("a", "b", "c"):
        spec = release_pb2.OfferSpec(
            id=name,
            campaign=draw(st.sampled_from(("", "spring"))),
            exclusivity_group=draw(st.sampled_from(("", "rides"))),
            caps=draw(st.lists(caps(), max_size=2)),
            cool_down_hours=draw(st.sampled_from((0, 0, 3))),
            stop_after_redeem=draw(st.booleans()),
            stop_after_dismiss=draw(st.booleans()),
            stop_after_convert=draw(st.booleans()),
        )
        spec.targeting.zone = draw(st.sampled_from(ZONES))
        made.append(spec)
    return made


events = st.lists(
    st.tuples(
        st.integers(0, 40 * 24).map(lambda quarter: BEGIN + 90 * DAY + quarter * HOUR // 4),
        st.sampled_from((ANN, BOB, NOBODY)),
        st.sampled_from(("a", "b", "c")),
        st.sampled_from(("view", "view", "view", "redeem", "dismiss", "convert")),
    ),
    max_size=20,
)
held = st.lists(
    st.tuples(
        st.integers(0, 400_000),
        st.sampled_from((ANN, BOB, NOBODY)),
        st.sampled_from(("a", "b", "c")),
    ),
    max_size=4,
)


@settings(max_examples=250, deadline=None)
@given(
    specs=offers(),
    happened=events,
    holds=held,
    later=st.integers(0, 30 * 24),
    slots=st.integers(1, 4),
)
def test_the_ledger_agrees_with_the_reference(
    specs: list[release_pb2.OfferSpec],
    happened: list[Any],
    holds: list[Any],
    later: int,
    slots: int,
) -> None:
    happened.sort(key=lambda event: event[0])
    last = happened[-1][0] if happened else BEGIN + 90 * DAY
    moments = sorted([last, last + 1, last + 200_000, last + later * HOUR // 4])
    elapsed = 0
    ledger = CapLedger(
        rules_of(specs, zones_of(tables_for(specs, BEGIN - DAY, END))), elapsed=lambda: elapsed
    )
    for number, (at, subject, offer, kind) in enumerate(happened):
        ledger.record(subject, offer, kind, at, b"%d" % number)
    history = History(
        [Happened(*event[:1], *event[1:]) for event in happened],
        [],
        converting=frozenset({"convert"}),
    )
    for number, (lasts, subject, offer) in enumerate(holds):
        rows, failed = ledger.take(subject, [(b"h%d" % number, offer)], last, lapse=1 + lasts)
        assert bool(failed) == bool(causes(_spec(specs, offer), specs, history, subject, last))
        if rows:
            claim = (b"h%d" % number, 0)
            history.held.append(Held(last, last + 1 + lasts, subject, offer, claim))
    for now in moments:
        elapsed = now - last
        for subject in (ANN, BOB, NOBODY):
            found = ledger.blocking(subject, now, slots)
            for spec in specs:
                why = causes(spec, specs, history, subject, now)
                assert (spec.id in found.offers) == bool(why), (spec, now)
                if not why:
                    left = room(spec, specs, history, subject, now, slots)
                    limits = found.rooms.get(spec.campaign, ())
                    assert left == min((n for n, of in limits if spec.id in of), default=None)
                if why:
                    reason, until = found.why[spec.id]
                    assert reason in {cause.reason for cause in why}
                    most = max(cause.until_ms for cause in why)
                    assert until == (NEVER if math.isinf(most) else most) or _held_later(
                        history, now, until
                    )
    elapsed = END - last  # nothing is held any more
    assert ledger.prune(END) is not None
    again = CapLedger(rules_of(specs, zones_of(tables_for(specs, BEGIN - DAY, END))), ledger.rows())
    for subject in (ANN, BOB, NOBODY):
        assert again.blocked(subject, END) == ledger.blocked(subject, END)


def _spec(specs: list[release_pb2.OfferSpec], name: str) -> release_pb2.OfferSpec:
    return next(spec for spec in specs if spec.id == name)


def _held_later(history: History, now: int, until: int) -> bool:
    """What is held when a window ends counts in the next one: then only the block must agree."""
    return any(hold.until_ms > now for hold in history.held) and until > now


@pytest.mark.parametrize("back", [1, HOUR, 40 * DAY])
def test_a_clock_that_is_set_back_lifts_nothing(back: int) -> None:
    spec = release_pb2.OfferSpec(id="taxi", cool_down_hours=2, stop_after_convert=True)
    caps_of = [
        release_pb2.Cap(limit=1, calendar=Cap.CALENDAR_DAY),
        release_pb2.Cap(limit=3, calendar=Cap.CALENDAR_MONTH, paced=True),
        release_pb2.Cap(limit=1, window_hours=1),
    ]
    for cap in (None, *caps_of):
        one = release_pb2.OfferSpec()
        one.CopyFrom(spec)
        if cap is not None:
            one.cool_down_hours, one.stop_after_convert = 0, False
            one.caps.append(cap)
        ledger = CapLedger(rules_of([one]))
        at = BEGIN + 100 * DAY
        ledger.record(ANN, "taxi", "view", at)
        assert ledger.blocked(ANN, at + 1) == {"taxi"}
        assert ledger.blocked(ANN, at - back) == {"taxi"}


def test_a_paced_cap_gives_its_share() -> None:
    spec = release_pb2.OfferSpec(
        id="taxi",
        caps=[
            release_pb2.Cap(limit=4, calendar=Cap.CALENDAR_DAY, paced=True, scope=Cap.SCOPE_DEVICE)
        ],
    )
    ledger = CapLedger(rules_of([spec]))
    day = BEGIN // DAY * DAY
    shown = []
    for minute in range(0, 24 * 60, 10):
        now = day + minute * 60_000
        if "taxi" not in ledger.blocked(ANN, now):
            ledger.record(ANN, "taxi", "view", now)
            shown.append(minute)
        else:
            reason, until = ledger.blocking(ANN, now).why["taxi"]
            assert (reason, until > now) == ("CAPPED" if len(shown) == 4 else "PACED", True)
    assert shown == [0, 370, 730, 1090], "one at once, the next as each quarter has passed"


def test_what_is_held_when_a_paced_window_ends_counts_in_the_next_one() -> None:
    spec = release_pb2.OfferSpec(
        id="taxi", caps=[release_pb2.Cap(limit=2, calendar=Cap.CALENDAR_HOUR, paced=True)]
    )
    at = 0
    ledger = CapLedger(rules_of([spec]), elapsed=lambda: at)
    end = BEGIN // HOUR * HOUR + HOUR
    assert ledger.take(ANN, [(b"c" * 17, "taxi")], end - 1_000, lapse=300_000)[0]
    at = 999
    assert ledger.blocked(ANN, end - 1) == frozenset()
    at = 1_000
    assert ledger.blocked(ANN, end) == {"taxi"}
    assert ledger.take(ANN, [(b"d" * 17, "taxi")], end, lapse=300_000)[1]
    at = 300_000
    assert ledger.blocked(ANN, end + 299_000) == frozenset()
    assert ledger.take(ANN, [(b"e" * 17, "taxi")], end + 299_000)[0]


def test_a_withdrawn_offer_still_counts_for_its_campaign() -> None:
    cap = release_pb2.Cap(limit=2, over=Cap.OVER_CAMPAIGN)
    both = [release_pb2.OfferSpec(id=name, campaign="spring", caps=[cap]) for name in ("a", "b")]
    ledger = CapLedger(rules_of(both))
    ledger.record(ANN, "a", "view", 1)
    ledger.rebind(rules_of(both[1:]))
    ledger.record(ANN, "b", "view", 2)
    assert ledger.blocked(ANN, 3) == {"b"}
    unlimited = release_pb2.OfferSpec(id="c", campaign="spring")
    ledger = CapLedger(rules_of([both[0], unlimited]))
    for at in range(2):
        assert ledger.record(ANN, "c", "view", at) is not None
    assert ledger.blocked(ANN, 3) == {"a"}, "who sets no limit of its own still counts"


def test_what_is_held_counts_in_the_window_before_where_a_clock_is_set_back_into_it() -> None:
    spec = release_pb2.OfferSpec(
        id="taxi", caps=[release_pb2.Cap(limit=2, calendar=Cap.CALENDAR_HOUR, paced=True)]
    )
    now = [10 * HOUR]
    ledger = CapLedger(rules_of([spec]), elapsed=lambda: now[0])  # it has no clock but this one
    ledger.take(ANN, [(b"1", "taxi")], now[0], lapse=now[0] + HOUR // 12)
    assert ledger.blocked(ANN, now[0]) == {"taxi"}
    now[0] -= 1  # of two an hour both may be shown by now
    assert ledger.blocked(ANN, now[0]) == frozenset()
