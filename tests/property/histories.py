"""One random life of a device, lived by the engine and by the reference, and how they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from edge_sdk import Context, Decision
from edge_sdk.engine.record import Record
from edge_sdk.engine.runs import rows_of_runs
from edge_sdk.testing import FakeEdge
from genome_edge.v1 import event_pb2, release_pb2
from tests.property.agreement import slots_of
from tests.property.earth import ZONES, millis, moments
from tests.property.worlds import PLACEMENTS, Made, made_of, offers, placements
from tests.reference import decisions as reference
from tests.reference.caps import NEVER
from tests.reference.devices import Device, latest

Cap = release_pb2.Cap
NEVER_MS = (1 << 63) - 1
CUSTOMERS = [None, "anna", "ben"]
#: That are a success; `click` of an offer is one, too.
CONVERTING = frozenset({"click", "consume", "accept", "redeem", "buy"})
KINDS = ["view", "view", "view", "dismiss", "click", "buy", "open"]
_SECOND, _HOUR = 1_000, 3_600_000
# By what a clock is set back.
_SET = [-_SECOND, -_HOUR, -24 * _HOUR]
WAITS = [
    0, 1, 7 * _SECOND, 5 * 60_000 - 1, 5 * 60_000, 30 * 60_000, _HOUR - 1, _HOUR, 5 * _HOUR,
    24 * _HOUR - 1, 24 * _HOUR, 7 * 24 * _HOUR, 31 * 24 * _HOUR,
]  # fmt: skip


@st.composite
def _caps(draw: st.DrawFn) -> release_pb2.Cap:
    cap = Cap(
        scope=draw(st.sampled_from([Cap.SCOPE_CUSTOMER, Cap.SCOPE_CUSTOMER, Cap.SCOPE_DEVICE])),
        count=draw(st.sampled_from([Cap.COUNT_VIEW, Cap.COUNT_VIEW, Cap.COUNT_REDEEM])),
        limit=draw(st.sampled_from([1, 1, 2, 3, 5])),
        over=draw(st.sampled_from([Cap.OVER_OFFER, Cap.OVER_CAMPAIGN, Cap.OVER_GROUP])),
    )
    if draw(st.booleans()):
        cap.window_hours = draw(st.sampled_from([0, 1, 24, 168]))
    else:
        hour, day, week = Cap.CALENDAR_HOUR, Cap.CALENDAR_DAY, Cap.CALENDAR_WEEK
        cap.calendar = draw(st.sampled_from([hour, day, day, week, Cap.CALENDAR_MONTH]))
        cap.paced = draw(st.booleans())
    return cap


@st.composite
def _releases(draw: st.DrawFn) -> Made:
    specs = draw(offers(1, 5))
    # Two offers of a campaign often have the same cap.
    shared = draw(_caps())
    # In some worlds they compete for the slots of one decision.
    crowded: bool = draw(st.booleans())
    if crowded:
        shared.over, shared.limit = Cap.OVER_CAMPAIGN, draw(st.sampled_from([1, 2, 3, 4, 70]))
    for spec in specs:
        if crowded:
            spec.campaign = draw(st.sampled_from(["spring", "spring", "autumn"]))
        if draw(st.integers(0, 3)) or crowded:
            _open(spec)
        spec.caps.extend(draw(st.lists(st.one_of(st.just(shared), _caps()), max_size=2)))
        spec.cool_down_hours = draw(st.sampled_from([0, 0, 0, 1, 24]))
        spec.stop_after_redeem = draw(st.sampled_from([False, False, True]))
        spec.stop_after_dismiss = draw(st.sampled_from([False, False, True]))
        spec.stop_after_convert = draw(st.sampled_from([False, False, True]))
        if any(cap.calendar for cap in spec.caps):
            spec.targeting.zone = draw(st.sampled_from(["", *ZONES]))
    placed = draw(placements([spec.id for spec in specs]))
    for place in placed:
        shown = [release_pb2.PlacementSpec.SHOWN_ON_DECIDE, release_pb2.PlacementSpec.SHOWN_ON_VIEW]
        place.shown = draw(st.sampled_from(shown))
        if crowded:
            place.max_slots, place.most_per_category = 4, 0
    return made_of(specs, placed)


def _open(spec: release_pb2.OfferSpec) -> None:
    """For every moment, so that caps are what keeps it away."""
    spec.ClearField("targeting")
    spec.ClearField("purpose")
    spec.ClearField("required_features")


_ARGUMENTS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "wait": (st.sampled_from([*WAITS * 2, *_SET]),),
    "decide": (st.sampled_from(CUSTOMERS), st.sampled_from(PLACEMENTS), st.integers(1, 4)),
    "report": (st.integers(0, 2), st.integers(0, 1), st.sampled_from(KINDS)),
    "redeem": (st.integers(0, 2), st.integers(0, 1)),
    "imprint": (
        st.sampled_from(CUSTOMERS[1:]),
        st.sampled_from(["buy", "browse"]),
        st.sampled_from(["o0", "o1"]),
    ),
}
_OFTEN = [*["decide"] * 6, *["report"] * 4, "wait", "wait", "redeem", "redeem", "imprint"]


@st.composite
def _steps(draw: st.DrawFn) -> tuple[Any, ...]:
    what = draw(st.sampled_from(_OFTEN))
    return what, *(draw(argument) for argument in _ARGUMENTS[what])


def histories() -> dict[str, st.SearchStrategy[Any]]:
    """A release and a life with it, as `live` takes them."""
    return {
        "made": _releases(),
        "begin": moments(),
        "offset": st.integers(-720, 840),
        "steps": st.lists(_steps(), min_size=5, max_size=20),
    }


@dataclass
class _Clock:
    """What time it is, in UTC, and on the clocks around."""

    now: datetime
    zone: timezone

    def local(self) -> datetime:
        return self.now.astimezone(self.zone)


@dataclass
class _Life:
    """Both sides of it."""

    edge: FakeEdge
    device: Device
    clock: _Clock
    decisions: list[Decision] = field(default_factory=list)
    #: Of the decision that was made last.
    record: Record | None = None

    @property
    def now_ms(self) -> int:
        return millis(self.clock.now)


def live(made: Made, begin: datetime, offset: int, steps: list[tuple[Any, ...]]) -> None:
    """Whatever happens, the engine decides, grants and refuses as the rules say."""
    zone = timezone(timedelta(minutes=offset))
    clock = _Clock(begin.astimezone(UTC), zone)
    placed = [{"id": name} for name in PLACEMENTS]
    edge = FakeEdge([], clock=clock.local, placements=placed)
    with edge:
        edge._desk.room.adopt(made.release)
        life = _Life(edge, Device(made.world, CONVERTING), clock)
        _listen(life)
        for step in steps:
            found = _DO[step[0]](life, *step[1:])
            assert not found, f"{step}: {found}"


def _listen(life: _Life) -> None:
    """Keep the record of each decision: a client shows only what is reported of it."""
    choose: Callable[..., tuple[Decision, Record]] = life.edge._desk.choose

    def noting(*arguments: Any, **named: Any) -> tuple[Decision, Record]:
        decision, record = choose(*arguments, **named)
        life.record = record
        return decision, record

    life.edge._desk.choose = noting  # type: ignore[method-assign]


def _wait(life: _Life, ms: int) -> list[str]:
    life.clock.now += timedelta(milliseconds=ms)
    return []


def _decide(life: _Life, customer: str | None, placement: str, slots: int) -> list[str]:
    subject = bytes(16)
    if customer is not None:
        subject = hashlib.blake2b(customer.encode(), digest_size=16).digest()
    away = life.device.away(subject, life.now_ms)
    rooms = life.device.rooms(subject, life.now_ms, slots)
    decision = life.edge.decide(Context(), placement, slots, customer=customer)
    life.decisions.append(decision)
    local = life.clock.local()
    call = reference.Call(
        placement=placement,
        slots=slots,
        ms=life.now_ms,
        weekday=local.isoweekday(),
        hour=local.hour,
        seed=decision.seed,
        subject=subject,
        decision_id=bytes.fromhex(decision.id),
    )
    wanted = life.device.decide(call, life.now_ms)
    assert life.record is not None
    proto = event_pb2.DecisionRecord.FromString(life.record.to_proto().SerializeToString())
    found = []
    if decision.reason.value != wanted.reason:
        found.append(f"reason {decision.reason}, the rules say {wanted.reason}")
    if slots_of(decision) != wanted.slots:
        found.append(f"slots {slots_of(decision)}, the rules say {wanted.slots}")
    if frozenset(proto.capped) != wanted.capped:
        found.append(f"capped {list(proto.capped)}, the rules say {sorted(wanted.capped)}")
    release = life.record.release
    assert release is not None
    ids = release.catalogue.ids
    left = {ids[row]: one.room for one in proto.rooms for row in rows_of_runs(one.runs).tolist()}
    if left != {name: room for name, room in rooms.items() if name in wanted.candidates}:
        found.append(f"room is {left}, the rules say {rooms} for {wanted.candidates}")
    for name, why, until in zip(
        proto.capped, proto.capped_reasons, proto.capped_until_ms, strict=True
    ):
        causes = away.get(name, [])
        if why not in {cause.reason for cause in causes}:
            found.append(f"{name} is kept away by {why}, the rules say {causes}")
        last = latest(causes)
        if until != (NEVER_MS if last == NEVER else last):
            found.append(f"{name} is kept away until {until}, the rules say {causes}")
    return found


def _report(life: _Life, back: int, slot: int, kind: str) -> list[str]:
    decision = _earlier(life, back, slot)
    if decision is not None:
        life.edge.report(decision, kind, slot=slot)
        life.device.report(bytes.fromhex(decision.id), slot, kind, life.now_ms)
    return []


def _redeem(life: _Life, back: int, slot: int) -> list[str]:
    decision = _earlier(life, back, slot)
    if decision is None:
        return []
    given = life.edge.redeem(decision, slot=slot).reason.value
    wanted = life.device.redeem(bytes.fromhex(decision.id), slot, life.now_ms)
    return [] if given == wanted else [f"redeem {given}, the rules say {wanted}"]


def _imprint(life: _Life, customer: str, kind: str, offer: str) -> list[str]:
    life.edge.imprint(customer, kind, offer=offer)
    if kind in CONVERTING:
        subject = hashlib.blake2b(customer.encode(), digest_size=16).digest()
        life.device.bought(subject, offer, life.now_ms)
    return []


def _earlier(life: _Life, back: int, slot: int) -> Decision | None:
    """The decision `back` before the last one, where it has such a slot."""
    if back >= len(life.decisions):
        return None
    decision = life.decisions[-1 - back]
    return decision if slot < len(decision.slots) else None


_DO: dict[str, Callable[..., list[str]]] = {
    "wait": _wait,
    "decide": _decide,
    "report": _report,
    "redeem": _redeem,
    "imprint": _imprint,
}
