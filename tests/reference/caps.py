"""What has happened, and what it keeps away: everything is kept, and counted anew each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from genome_edge.v1 import release_pb2
from tests.reference.calendars import HOUR_MS, period

NOBODY = bytes(16)
NEVER = inf
Cap = release_pb2.Cap


@dataclass(frozen=True)
class Happened:
    """Something that was done with an offer: view, redeem, dismiss, or a kind of success."""

    at_ms: int
    subject: bytes
    offer: str
    kind: str


@dataclass(frozen=True)
class Held:
    """A view that a decision keeps a place for, until it is seen or lapses. `claim`: the decision
    and its slot."""

    from_ms: int
    until_ms: int
    subject: bytes
    offer: str
    claim: tuple[bytes, int]


@dataclass
class History:
    """Everything that happened on a device. `converting`: the kinds that are a success."""

    happened: list[Happened] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    converting: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cause:
    """Why an offer is kept away, and until which moment (NEVER: for ever)."""

    reason: str
    until_ms: float


def causes(
    offer: release_pb2.OfferSpec,
    offers: Sequence[release_pb2.OfferSpec],
    history: History,
    subject: bytes,
    now_ms: int,
) -> list[Cause]:
    """Everything that keeps an offer away from somebody now; empty: nothing does."""
    found = _stops(offer, history, subject)
    if offer.cool_down_hours > 0:
        seen = [h.at_ms for h in history.happened if _is(h, {offer.id}, "view", subject)]
        found += [
            Cause("COOL_DOWN", at + offer.cool_down_hours * HOUR_MS)
            for at in seen
            if now_ms < at + offer.cool_down_hours * HOUR_MS
        ]
    for cap in offer.caps:
        cause = cap_reached(cap, offer, offers, history, subject, now_ms)
        if cause is not None:
            found.append(cause)
    return found


def cap_reached(
    cap: Cap,
    offer: release_pb2.OfferSpec,
    offers: Sequence[release_pb2.OfferSpec],
    history: History,
    subject: bytes,
    now_ms: int,
) -> Cause | None:
    """Why one of its caps keeps an offer away now; None: it does not."""
    return _reached(cap, offer, _counted(cap, offer, offers), history, subject, now_ms)


def room(
    offer: release_pb2.OfferSpec,
    offers: Sequence[release_pb2.OfferSpec],
    history: History,
    subject: bytes,
    now_ms: int,
    slots: int,
) -> int | None:
    """How many offers of its campaign somebody may be shown at once before its caps over the
    campaign keep this one away; None: as many as there are, or as there are slots."""
    campaign = [one for one in offers if offer.campaign and one.campaign == offer.campaign]
    trial = History(list(history.happened), list(history.held), history.converting)
    for number in range(1, min(slots, len(campaign))):
        trial.happened.append(Happened(now_ms, subject, offer.id, "view"))
        caps = [one for one in offer.caps if one.over == Cap.OVER_CAMPAIGN]
        views = [one for one in caps if one.count != Cap.COUNT_REDEEM]
        if any(cap_reached(one, offer, offers, trial, subject, now_ms) for one in views):
            return number
    return None


def _stops(offer: release_pb2.OfferSpec, history: History, subject: bytes) -> list[Cause]:
    """What a customer did once and for all. Nobody in particular is not a customer."""
    if subject == NOBODY:
        return []
    done = {h.kind for h in history.happened if h.offer == offer.id and h.subject == subject}
    found = []
    if offer.stop_after_redeem and "redeem" in done:
        found.append(Cause("REDEEMED", NEVER))
    if offer.stop_after_dismiss and "dismiss" in done:
        found.append(Cause("DISMISSED", NEVER))
    if offer.stop_after_convert and done & history.converting:
        found.append(Cause("CONVERTED", NEVER))
    return found


def _counted(
    cap: Cap, offer: release_pb2.OfferSpec, offers: Sequence[release_pb2.OfferSpec]
) -> set[str]:
    """The offers that a cap counts together."""
    if cap.over == Cap.OVER_CAMPAIGN and offer.campaign:
        return {one.id for one in offers if one.campaign == offer.campaign}
    if cap.over == Cap.OVER_GROUP and offer.exclusivity_group:
        return {one.id for one in offers if one.exclusivity_group == offer.exclusivity_group}
    return {offer.id}


def _is(event: Happened | Held, offers: set[str], kind: str, subject: bytes | None) -> bool:
    """`subject` None: whoever it was."""
    return (
        event.offer in offers
        and (subject is None or event.subject == subject)
        and (isinstance(event, Held) or event.kind == kind)
    )


def _reached(
    cap: Cap,
    offer: release_pb2.OfferSpec,
    counted: set[str],
    history: History,
    subject: bytes,
    now_ms: int,
) -> Cause | None:
    """Why a cap keeps the offer away now; None: it does not."""
    who = None if cap.scope == Cap.SCOPE_DEVICE else subject
    kind = "redeem" if cap.count == Cap.COUNT_REDEEM else "view"
    times = sorted(h.at_ms for h in history.happened if _is(h, counted, kind, who))
    held = []
    if kind == "view":
        held = [h.until_ms for h in history.held if _is(h, counted, kind, who)]
    limit = max(cap.limit, 1)
    calendar, zone = cap.calendar, offer.targeting.zone

    def window(at_ms: int) -> tuple[int, int]:
        """The calendar's period. A paced cap's is that of what was counted last, which lies ahead
        where the clock was set back since."""
        return period(max([at_ms, *times]) if cap.paced else at_ms, calendar, zone)

    def full(at_ms: int) -> bool:
        """Whether the cap is reached at a moment, if nothing else happens until then."""
        ahead = sum(until > at_ms for until in held)
        if not calendar:
            slides = cap.window_hours * HOUR_MS
            return sum(at_ms < at + slides or not slides for at in times) + ahead >= limit
        begin, end = window(at_ms)
        share = limit
        if cap.paced:
            share = max(1, -(-limit * (at_ms - begin) // (end - begin)))
        return sum(at >= begin for at in times) + ahead >= share

    if not full(now_ms):
        return None
    moments = {at + cap.window_hours * HOUR_MS for at in times} | set(held)
    if calendar:
        moments = {period(at, calendar, zone)[1] for at in (now_ms, *times)} | set(held)
    if calendar and cap.paced:
        # From just after each share of the window has passed, one more is allowed.
        begin, end = window(now_ms)
        moments |= {begin + number * (end - begin) // limit + 1 for number in range(limit)}
    later = sorted(at for at in moments if at > now_ms and not full(at))
    if calendar and cap.paced:
        used = sum(at >= begin for at in times) + sum(until > now_ms for until in held)
        return Cause("PACED" if used < limit else "CAPPED", later[0] if later else NEVER)
    return Cause("CAPPED", later[0] if later else NEVER)
