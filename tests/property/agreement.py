"""One random decision, made by the engine and by the reference, and where the two differ."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st

from edge_sdk.context import Context
from edge_sdk.decision import Decision, Tier
from edge_sdk.engine.cap_views import Rooms
from edge_sdk.engine.decide import check_replay, decide, explain, replay
from edge_sdk.engine.policy import Floats, Indices
from edge_sdk.engine.record import recorded_scores
from edge_sdk.engine.release import Release
from edge_sdk.engine.withheld import InForce, Terms, Withholding
from genome_edge.v1 import event_pb2
from tests.candidates import candidate_ids
from tests.property.earth import ZONES, cells, millis, moments
from tests.property.worlds import (
    ARMS,
    CHANNELS,
    FILES,
    KNOWN,
    MARKERS,
    PLACEMENTS,
    Made,
    releases,
)
from tests.reference import decisions as reference
from tests.reference.calendars import EPOCH

HOUR_MS = 3_600_000
BEATEN = {"SCORE", "PRIORITY", "EXCLUSIVE", "CATEGORY", "TOO_LITTLE", "HELD_OUT"}
CAPPED = {"CAPPED", "COOL_DOWN", "PACED", "REDEEMED", "CONVERTED", "DISMISSED", "BUDGET"}


class Genome:
    """A genome by name."""

    def __init__(self, release: Release, markers: dict[str, float]) -> None:
        named = sorted((release.vocabulary.index(name) or 0, w) for name, w in markers.items())
        self._features = (
            np.array([index for index, _ in named], np.int64),
            np.array([weight for _, weight in named], np.float32),
        )

    def features(self, now_hour: int) -> tuple[Indices, Floats]:
        return self._features


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """What is asked: the context, and the arguments of a `reference.Call` that it is."""
    at = draw(moments())
    zone = draw(st.sampled_from([*ZONES, None]))
    tz = ZoneInfo(zone) if zone else timezone(timedelta(minutes=draw(st.integers(-720, 840))))
    free = draw(st.lists(st.sampled_from(MARKERS), max_size=2, unique=True))
    attributes: dict[str, list[str]] = {}
    for name in free:
        namespace, _, value = name.partition(":")
        attributes.setdefault(namespace, []).append(value)
    owned = st.dictionaries(st.sampled_from(KNOWN), st.sampled_from([0.5, 1.0, 2.0]), max_size=3)
    return {
        "context": Context(
            cell=draw(st.none() | cells()),
            place=draw(st.sampled_from([None, None, "hotel", "bar"])),
            time=at.astimezone(tz),
            channel=draw(st.sampled_from([None, *CHANNELS])),
            basket=draw(st.sampled_from([(), (), ("beans",), ("plain", "ghost")])),
            language=draw(st.sampled_from([None, None, "de", "de-CH"])),
            attributes=attributes,
        ),
        "placement": draw(st.sampled_from([*PLACEMENTS * 6, *ARMS, "nowhere"])),
        "slots": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "tier": draw(
            st.sampled_from([*["fresh"] * 6, "stale", "restricted", "restricted", "house"])
        ),
        "consents": draw(st.sampled_from([0, 2, 6, 14])),
        "genome": draw(st.none() | owned),
        "subject": draw(st.sampled_from([bytes(16), bytes([1] * 16), bytes([2] * 16)])),
        "decision_id": draw(st.sampled_from([bytes(15) + b"\1", bytes(range(16)), b"x" * 16])),
        "blocked": draw(st.frozensets(st.sampled_from(["o0", "o1", "o4", "ghost"]), max_size=2)),
        "rooms": draw(
            st.dictionaries(st.sampled_from(["o0", "o1", "o2", "o3"]), st.integers(1, 2))
        ),
        "stopped": draw(st.frozensets(st.sampled_from(["o0", "o2", "ghost"]), max_size=1)),
        "offline_ms": draw(st.sampled_from([0, HOUR_MS, HOUR_MS + 1, 25 * HOUR_MS])),
        "held": draw(st.none() | st.frozensets(st.sampled_from(FILES))),
    }


def decisions() -> dict[str, st.SearchStrategy[Any]]:
    """A release and what is asked of it, as `agree` takes them."""
    return {"asked": _asked()}


@st.composite
def _asked(draw: st.DrawFn) -> tuple[Made, list[dict[str, Any]]]:
    """One or two calls, and the first at other times: what is remembered of it has an end."""
    made = draw(releases())
    found = draw(st.lists(calls(), min_size=1, max_size=2))
    edges = [EPOCH + timedelta(milliseconds=ms) for ms in _edges(made)]
    times = draw(st.lists(moments(), max_size=2))
    everywhere: bool = draw(st.booleans())
    if edges and everywhere:
        times += draw(st.permutations(edges))[:6]
    for at in times:
        context = found[0]["context"]
        found.append({**found[0], "context": context.at(at.astimezone(context.time.tzinfo))})
    return made, found


def _edges(made: Made) -> list[int]:
    """The moments at which an offer begins or ends to be valid."""
    found: set[int] = set()
    for spec in made.world.offers:
        found |= {spec.targeting.valid_from_ms, spec.targeting.valid_until_ms}
        for window in spec.targeting.windows:
            found |= {window.from_ms, window.until_ms, window.until_ms - 1}
    return sorted(found - {0})


def agree(asked: tuple[Made, list[dict[str, Any]]]) -> None:
    """The engine decides as the rules say: also the second time, out of its caches."""
    made, calls = asked
    for one in [*calls, *calls]:
        found = differences(made, one)
        assert not found, found


def differences(made: Made, asked: dict[str, Any]) -> list[str]:
    """What the engine says otherwise than the reference; empty: nothing."""
    decision, record = _decided(made, asked)
    proto = event_pb2.DecisionRecord.FromString(record.to_proto().SerializeToString())
    wanted = reference.decide(made.world, call_of(asked))
    found = [
        *_apart("placement", decision.placement, wanted.placement),
        *_apart("experiment", decision.experiment, wanted.experiment),
        *_apart("reason", decision.reason.value, wanted.reason),
        *_apart("slots", slots_of(decision), wanted.slots),
    ]
    if decision.reason.value not in ("UNKNOWN_PLACEMENT", "EXPIRED"):
        found += _apart("candidates", tuple(candidate_ids(proto, made.release)), wanted.candidates)
        found += _apart("scores", tuple(recorded_scores(proto).tolist()), wanted.scores)
        found += _apart("capped", frozenset(proto.capped), wanted.capped)
        found += _apart("held out", proto.held_out, wanted.held_out)
    instead = tuple(
        reference.Filled(s.offer, s.reason, s.score, round(s.propensity * 2**32))
        for s in proto.instead
    )
    found += _apart("instead", instead, wanted.instead)
    return found + _again(made, decision, proto, wanted, asked["subject"])


def _decided(made: Made, asked: dict[str, Any]) -> Any:
    release = made.release
    in_force = InForce(asked["stopped"], 7, asked["held"])
    withholding = Withholding(release.catalogue, in_force)
    genome = None if asked["genome"] is None else Genome(release, asked["genome"])
    return decide(
        release,
        asked["context"],
        asked["placement"],
        asked["slots"],
        genome=genome,
        consents=asked["consents"],
        blocked=asked["blocked"],
        rooms=_by_campaign(made, asked["rooms"]),
        seed=asked["seed"],
        terms=Terms(Tier(asked["tier"]), withholding, asked["offline_ms"]),
        decision_id=asked["decision_id"],
        subject=asked["subject"],
    )


def _by_campaign(made: Made, rooms: dict[str, int]) -> Rooms:
    """As the engine is told."""
    found: dict[str, tuple[tuple[int, frozenset[str]], ...]] = {}
    for one in made.world.offers:
        if one.campaign and one.id in rooms:
            limit = (rooms[one.id], frozenset([one.id]))
            found[one.campaign] = (*found.get(one.campaign, ()), limit)
    return found


def call_of(asked: dict[str, Any]) -> reference.Call:
    """The same as the reference is asked it."""
    context: Context = asked["context"]
    assert context.time is not None
    kept = {name: asked[name] for name in asked if name != "context"}
    return reference.Call(
        **kept,
        ms=millis(context.time),
        weekday=context.time.isoweekday(),
        hour=context.time.hour,
        cell=context.cell,
        declared=context.declared,
        basket=context.basket,
        channel=context.channel or "",
        language=context.language or "",
    )


def slots_of(decision: Decision) -> tuple[reference.Filled, ...]:
    """The slots as the reference writes them."""
    return tuple(
        reference.Filled(
            slot.offer.id if slot.offer is not None else "",
            slot.reason.value,
            round(slot.score * 65536),
            round(slot.propensity * 2**32),
        )
        for slot in decision.slots
    )


def _again(
    made: Made,
    decision: Decision,
    proto: event_pb2.DecisionRecord,
    wanted: reference.Outcome,
    subject: bytes,
) -> list[str]:
    """Replayed and explained from its record alone."""
    found = _apart("replay", replay(made.release, proto), decision) if proto.local_weekday else []
    found += check_replay(made.release, proto, subject)
    if wanted.reason in ("UNKNOWN_PLACEMENT", "EXPIRED"):
        return found
    explanation = explain(made.release, proto)
    shown = {slot.offer.id for slot in decision.slots if slot.offer is not None}
    found += _apart("losers", {one.offer for one in explanation.losers}, set(wanted.losing) - shown)
    capped = {one.offer for one in explanation.losers if not CAPPED.isdisjoint(one.reasons)}
    found += _apart("kept away", capped, {*wanted.capped, *wanted.used_up} - shown)
    for loser in explanation.losers:
        reasons = {reason.value for reason in loser.reasons}
        if not reasons:
            found.append(f"{loser.offer} loses for no reason")
        why = reasons - BEATEN - CAPPED
        found += _apart(f"why not {loser.offer}", why, set(wanted.losing[loser.offer]))
    return found


def _apart(what: str, found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{what}: the engine says {found}, the rules {wanted}"]
