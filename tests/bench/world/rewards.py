"""Members and moments of the Starbucks programme: who receives an offer, and who completes it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from examples.datasets import find
from tests.bench.world.covariates import Covariates, Floats, fitted_logits

_CHANNELS: Final = ("email", "mobile", "social", "web")
_GENDERS: Final = {"F": 0.0, "M": 1.0, "O": 2.0}
#: Of all members so many are read: those whose ids come first.
_MEMBERS: Final = 3_000
_NOT_SAID: Final = 118
_WEEK_H: Final = 168


def _dna(offer: Mapping[str, Any]) -> tuple[str, ...]:
    facts = [f"{name}:{offer[name]:g}" for name in ("reward", "difficulty", "duration")]
    return (f"type:{offer['offer_type']}", *facts)


def _thing(offer: Mapping[str, Any]) -> list[float]:
    facts = [float(offer[name]) for name in ("reward", "difficulty", "duration")]
    kind = float(offer["offer_type"] == "bogo")
    return [kind, *facts, *(float(name in offer["channels"]) for name in _CHANNELS)]


def _profile(member: Mapping[str, Any]) -> tuple[tuple[str, ...], list[float]]:
    """Markers and numbers of a member; what was not said has no marker."""
    age = None if member["age"] == _NOT_SAID else member["age"]
    income, gender = member["income"], member["gender"]
    markers = [f"member-since:{member['became_member_on'][:4]}"]
    if age is not None:
        markers.append(f"age:{age // 10 * 10}")
    if income is not None:
        markers.append(f"income:{int(income // 20_000) * 20_000}")
    if gender is not None:
        markers.append(f"gender:{gender.lower()}")
    since = float(member["became_member_on"])
    numbers = [age, income, _GENDERS.get(gender), since]
    return tuple(sorted(markers)), [np.nan if one is None else float(one) for one in numbers]


def _spent(paid: list[tuple[int, float]], hour: int) -> float:
    return float(np.log1p(sum(amount for at, amount in paid if hour - _WEEK_H <= at < hour)))


@lru_cache(maxsize=1)
def covariates() -> Covariates:
    """Every receipt of an offer that can be completed; what is known is known at receipt.

    An answer is yes where the offer was viewed and then completed in its time. The hours of the day
    are made up (receipts come at whole days): by a member's number. Raises DataSetMissing.
    """
    folder = find("starbucks_rewards")
    with (folder / "portfolio.jsonl").open(encoding="utf-8") as lines:
        known = [json.loads(line) for line in lines]
    offers = [offer for offer in known if offer["offer_type"] != "informational"]
    number = {offer["id"]: at for at, offer in enumerate(offers)}
    members = sorted(pq.read_table(folder / "profile.parquet").to_pylist(), key=_id)[:_MEMBERS]
    place = {member["id"]: at for at, member in enumerate(members)}
    paid: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    happened: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    received: list[tuple[str, int, str]] = []
    for event in pq.read_table(folder / "transcript.parquet").to_pylist():
        who, hour, offer = event["person"], event["time"], event["offer_id"]
        if who not in place:
            continue
        if event["event"] == "transaction":
            paid[who].append((hour, event["amount"]))
        elif offer in number:
            happened[who, event["event"], offer].append(hour)
            if event["event"] == "offer received":
                received.append((who, hour, offer))
    profiles = [_profile(member) for member in members]
    spent = [_spent(paid[who], hour) for who, hour, _ in received]
    who_said = np.array([profiles[place[who]][1] for who, _, _ in received])
    things = np.array([_thing(offer) for offer in offers])
    of = np.array([number[offer] for _, _, offer in received])

    def asked(kinds: Any) -> Floats:
        columns = [who_said, np.array(spent)[:, None], things[kinds]]
        return np.concatenate([np.broadcast_to(one, (len(of), one.shape[1])) for one in columns], 1)

    label = np.array([_completed(happened, offers[number[o]], who, at) for who, at, o in received])
    return Covariates(
        name="rewards",
        place="cafe",
        people=tuple(markers for markers, _ in profiles),
        person=np.array([place[who] for who, _, _ in received]),
        hour=np.array([7 + place[who] % 14 for who, _, _ in received]),
        context=tuple({"spent-lately": str(round(value))} for value in spent),
        kinds=tuple(_dna(offer) for offer in offers),
        logit=fitted_logits(asked(of), label, lambda kind: asked([kind]), len(offers)),
    )


def _id(member: Mapping[str, Any]) -> str:
    return str(member["id"])


def _completed(
    happened: Mapping[tuple[str, str, str], list[int]],
    offer: Mapping[str, Any],
    who: str,
    hour: int,
) -> float:
    """1 where the offer was viewed and then completed before its time was over, else 0."""
    end = hour + round(offer["duration"] * 24)
    name = offer["id"]
    views = [at for at in happened.get((who, "offer viewed", name), ()) if hour <= at <= end]
    done = happened.get((who, "offer completed", name), ())
    return float(bool(views) and any(min(views) <= at <= end for at in done))
