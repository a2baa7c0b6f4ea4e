"""What is drawn into the slots, with the chance of each, in 2^-32.

The draw of one slot is that of tools/make_exploration_vectors.py, which is as plain as this.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tools.make_exploration_vectors import WHOLE, draw, split_mix, square_cb

MILLION = 1_000_000


@dataclass(frozen=True)
class Candidate:
    """An offer that could be drawn; `score` in 2^-16."""

    id: str
    score: int
    priority: int = 0
    group: str = ""
    category: str = ""
    campaign: str = ""
    #: Once so many of its campaign are shown it may not be; None: it may.
    room: int | None = None


@dataclass(frozen=True)
class Picked:
    """What one slot drew, its chance in 2^-32, and whether nothing else had a better score."""

    id: str
    score: int
    chance: int
    best: bool


def slate(
    candidates: Sequence[Candidate],
    seed: int,
    slots: int,
    explorer: tuple[float, float] | None,
    most_per_category: int = 0,
) -> list[Picked]:
    """Slot by slot; `explorer` is (gamma, floor) of SquareCB, None is greedy."""
    left = list(candidates)
    picked: list[Picked] = []
    shown: Counter[str] = Counter()
    campaigns: Counter[str] = Counter()
    for slot in range(slots):
        if not left:
            break
        first = max(one.priority for one in left)
        pool = [one for one in left if one.priority == first]
        scores = [one.score for one in pool]
        best = scores.index(max(scores))
        if explorer is None:
            at, chance = best, WHOLE
        else:
            chances = square_cb(scores, *explorer)
            at = draw(chances, split_mix(seed, slot) >> 32)
            chance = chances[at]
        chosen = pool[at]
        picked.append(Picked(chosen.id, chosen.score, chance, at == best))
        shown[chosen.category] += 1
        left = [one for one in left if one.id != chosen.id]
        if chosen.group:
            left = [one for one in left if one.group != chosen.group]
        if (
            most_per_category > 0
            and chosen.category
            and shown[chosen.category] >= most_per_category
        ):
            left = [one for one in left if one.category != chosen.category]
        campaigns[chosen.campaign] += 1
        left = [one for one in left if one.room is None or campaigns[one.campaign] < one.room]
    return picked


def worth_enough(score: int, least_micros: int | None) -> bool:
    """Whether a score, in 2^-16 of the currency's unit, reaches what a placement asks at least."""
    return least_micros is None or score * MILLION >= least_micros * 65536


def held_out(placement: str, seed: str, subject: bytes, decision_id: bytes, ppm: int) -> bool:
    """Whether nothing of this decision is shown: by customer, by decision for nobody."""
    who = subject if any(subject) else decision_id
    text = f"genome-edge/holdout/v1\n{placement}\n{seed}\n".encode()
    number = int.from_bytes(hashlib.sha256(text + who).digest()[:4], "big")
    return number * MILLION >> 32 < ppm


def arm(
    placement: str, seed: str, subject: bytes, decision_id: bytes, arms: Sequence[tuple[str, int]]
) -> str:
    """The placement that decides; `arms` are names and shares in millionths."""
    who = subject if any(subject) else decision_id
    text = f"genome-edge/experiment/v1\n{placement}\n{seed}\n".encode()
    at = int.from_bytes(hashlib.sha256(text + who).digest()[:4], "big") * MILLION // 2**32
    ends = [sum(ppm for _, ppm in arms[: n + 1]) for n in range(len(arms))]
    return next((arms[n][0] for n, end in enumerate(ends) if at < end), placement)
