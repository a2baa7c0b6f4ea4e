"""A whole decision: consent, place, eligibility, what is kept away, scores, draw, hold-out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from genome_edge.v1 import release_pb2
from tests.reference.slates import Candidate, Picked, arm, held_out, slate, worth_enough
from tests.reference.targeting import (
    FEATURES,
    Situation,
    eligible,
    inside,
    near,
    reasons,
    validity,
    withheld,
)

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAYPARTS = {"night": range(6), "morning": range(6, 11), "midday": range(11, 14)}
DAYPARTS |= {"afternoon": range(14, 18), "evening": range(18, 24)}
PERSONALISATION = 1 << 1
WITHHELD = ("STOPPED", "OFFLINE", "ASSETS")
Salience = Mapping[str, float]


@dataclass(frozen=True)
class World:
    """What a release holds. `value` is the model: an offer and the weights of all markers that the
    release knows to the probability of success, as a float32."""

    offers: Sequence[release_pb2.OfferSpec]
    placements: Mapping[str, release_pb2.PlacementSpec]
    value: Callable[[release_pb2.OfferSpec, Salience], float]
    #: Cell, place marker, salience.
    places: Sequence[tuple[int, str, float]] = ()
    products: Mapping[str, Salience] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """What is asked, when, and for whom. `declared` are the markers that the app said."""

    placement: str
    slots: int
    ms: int
    weekday: int
    hour: int
    seed: int
    cell: int | None = None
    declared: tuple[str, ...] = ()
    basket: tuple[str, ...] = ()
    channel: str = ""
    language: str = ""
    tier: str = "fresh"
    consents: int = 0
    genome: Salience | None = None
    subject: bytes = bytes(16)
    decision_id: bytes = bytes(16)
    #: What caps keep away.
    blocked: frozenset[str] = frozenset()
    #: How many of its campaign may be shown before an offer may not be, where caps say so.
    rooms: Mapping[str, int] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()
    offline_ms: int = 0
    held: frozenset[str] | None = None


@dataclass(frozen=True)
class Filled:
    """One slot: an offer's id or "", why, its score in 2^-16 and its chance in 2^-32."""

    offer: str
    reason: str
    score: int = 0
    chance: int = 1 << 32


@dataclass(frozen=True)
class Outcome:
    """What comes of a call. `losing`: by offer, every reason why it was not eligible or was kept
    away; `instead`: what the slots of a hold-out would have held."""

    reason: str
    slots: tuple[Filled, ...]
    candidates: tuple[str, ...] = ()
    scores: tuple[int, ...] = ()
    capped: frozenset[str] = frozenset()
    #: The candidates for which this decision leaves no room.
    used_up: frozenset[str] = frozenset()
    losing: Mapping[str, frozenset[str]] = field(default_factory=dict)
    held_out: bool = False
    instead: tuple[Filled, ...] = ()
    #: The placement that decided, and the one that was asked for where it has arms.
    placement: str = ""
    experiment: str = ""


def decide(world: World, call: Call) -> Outcome:
    """The decision."""
    asked = world.placements.get(call.placement)
    if asked is None or not asked.arms:
        return replace(_decide(world, call), placement=call.placement)
    shares = [(one.placement, one.share_ppm) for one in asked.arms]
    drawn = arm(asked.id, asked.experiment_seed, call.subject, call.decision_id, shares)
    outcome = _decide(world, replace(call, placement=drawn))
    return replace(outcome, placement=drawn, experiment=asked.id)


def _decide(world: World, call: Call) -> Outcome:
    if call.placement not in world.placements:
        return Outcome("UNKNOWN_PLACEMENT", (Filled("", "UNKNOWN_PLACEMENT"),) * call.slots)
    placement = world.placements[call.placement]
    if call.tier == "house":
        return Outcome("EXPIRED", _nothing(world, call, placement, "EXPIRED"))
    moment = markers(world, call, placement)
    now = situation(world, call, placement, moment)
    losing = {one.id: frozenset({*reasons(one, now), *withheld(one, now)}) for one in world.offers}
    chosen = _choose(world, call, placement, now, moment)
    if not held_out(
        placement.id,
        placement.holdout_seed,
        call.subject,
        call.decision_id,
        placement.holdout_ppm,
    ):
        return replace(chosen, losing=losing)
    slots = _nothing(world, call, placement, "HELD_OUT")
    return replace(
        chosen, losing=losing, reason="HELD_OUT", slots=slots, held_out=True, instead=chosen.slots
    )


def _choose(
    world: World,
    call: Call,
    placement: release_pb2.PlacementSpec,
    now: Situation,
    moment: Salience,
) -> Outcome:
    open_ = [one for one in world.offers if eligible(one, now)]
    if not open_:
        somewhere = any(near(one, now) for one in world.offers)
        why = "NOT_ELIGIBLE" if somewhere else "NOTHING_NEAR"
        return Outcome(why, _nothing(world, call, placement, why))
    capped = frozenset(one.id for one in open_ if one.id in call.blocked)
    kept = [one for one in open_ if one.id not in capped and not withheld(one, now)]
    if not kept:
        why = "CAPPED"
        if all(withheld(one, now) for one in open_):
            given = {reason for one in open_ for reason in withheld(one, now)}
            why = next(reason for reason in WITHHELD if reason in given)
        return Outcome(why, _nothing(world, call, placement, why), capped=capped)
    least = placement.least_worth_micros if placement.HasField("least_worth_micros") else None
    running = [
        Candidate(
            one.id,
            points,
            one.priority,
            one.exclusivity_group,
            one.category,
            one.campaign,
            call.rooms.get(one.id) if one.campaign else None,
        )
        for one in kept
        if worth_enough(points := score(world, call, one, moment), least)
    ]
    if not running:
        slots = _nothing(world, call, placement, "TOO_LITTLE")
        return Outcome("TOO_LITTLE", slots, capped=capped)
    count = min(call.slots, placement.max_slots)
    explorer = (placement.gamma, placement.floor) if placement.explorer == "squarecb" else None
    picked = slate(running, call.seed, count, explorer, placement.most_per_category)
    slots = tuple(_filled(one) for one in picked)
    slots += (Filled("", "NO_MORE"),) * (count - len(picked))
    slots += (Filled("", "TOO_MANY_SLOTS"),) * (call.slots - count)
    return Outcome(
        slots[0].reason,
        slots,
        tuple(one.id for one in running),
        tuple(one.score for one in running),
        capped,
        _used_up(running, picked),
    )


def _used_up(running: Sequence[Candidate], picked: Sequence[Picked]) -> frozenset[str]:
    drawn = {one.id for one in picked}
    campaigns = [one.campaign for one in running if one.id in drawn]
    return frozenset(
        one.id
        for one in running
        if one.id not in drawn
        and one.room is not None
        and campaigns.count(one.campaign) >= one.room
    )


def _filled(one: Picked) -> Filled:
    return Filled(one.id, "CHOSEN" if one.best else "EXPLORED", one.score, one.chance)


def _nothing(
    world: World, call: Call, placement: release_pb2.PlacementSpec, why: str
) -> tuple[Filled, ...]:
    """Empty slots, but for the house default in the first where it may be shown."""
    count = min(call.slots, placement.max_slots)
    slots = [Filled("", why)] * count + [Filled("", "TOO_MANY_SLOTS")] * (call.slots - count)
    for one in world.offers:
        if one.id == placement.house_offer and _presentable(one, call):
            slots[0] = Filled(one.id, "HOUSE")
    return tuple(slots)


def _presentable(offer: release_pb2.OfferSpec, call: Call) -> bool:
    now = Situation(
        stopped=call.stopped, offline_ms=call.offline_ms, held=call.held, language=call.language
    )
    known = all(feature in FEATURES for feature in offer.required_features)
    return known and not validity(offer, call.ms) and not withheld(offer, now)


def situation(
    world: World, call: Call, placement: release_pb2.PlacementSpec, moment: Salience
) -> Situation:
    """What eligibility looks at."""
    bases = [
        one.id
        for one in world.placements.values()
        for of in one.arms
        if of.placement == placement.id
    ]
    agreed = call.genome is not None and bool(call.consents & PERSONALISATION)
    return Situation(
        cell=call.cell,
        ms=call.ms,
        weekday=call.weekday,
        hour=call.hour,
        channel=call.channel or placement.channel,
        placement=call.placement,
        base=next(iter(bases), ""),
        sizes=frozenset(placement.sizes),
        context=frozenset(moment),
        genome=frozenset(call.genome or ()) if agreed else None,
        consents=call.consents,
        restricted=call.tier == "restricted",
        stopped=call.stopped,
        offline_ms=call.offline_ms,
        held=call.held,
        language=call.language,
    )


def markers(world: World, call: Call, placement: release_pb2.PlacementSpec) -> Salience:
    """The markers of the moment, each with its salience."""
    found = dict.fromkeys(call.declared, 1.0)

    def add(name: str, salience: float) -> None:
        found[name] = max(salience, found.get(name, 0.0))

    if call.cell is not None and not any(name.startswith("place:") for name in call.declared):
        for area, name, salience in world.places:
            if inside(call.cell, area):
                add(name, salience)
    add("daypart:" + next(name for name, hours in DAYPARTS.items() if call.hour in hours), 1.0)
    add(f"weekday:{WEEKDAYS[call.weekday - 1]}", 1.0)
    if call.weekday in (6, 7):
        add("weekend:yes", 1.0)
    if call.channel or placement.channel:
        add(f"channel:{call.channel or placement.channel}", 1.0)
    if call.language:
        add(f"language:{call.language}", 1.0)
    for product in call.basket:
        for name, salience in world.products.get(product, {}).items():
            add(name, salience)
    return found


def score(world: World, call: Call, offer: release_pb2.OfferSpec, moment: Salience) -> int:
    """Value times worth in 2^-16, rounded to the even one, within int32."""
    weights = dict(moment)
    if call.genome is not None and call.consents & PERSONALISATION:
        for name, weight in call.genome.items():
            weights[name] = weights.get(name, 0.0) + weight
    worth = (offer.value_micros - offer.cost_micros) / 1_000_000 * 65536
    return max(-(2**31), min(2**31 - 1, round(float(world.value(offer, weights)) * worth)))
