"""Write proto/vectors/exploration.json: what every implementation must draw.

    python -m tools.make_exploration_vectors            # write
    python -m tools.make_exploration_vectors --check    # exit 1 where the committed file differs

The values come from fractions and Python's exact integers, step by step as docs/wire.md says.
Nothing is imported from the SDK, so that the vectors check it. Numbers beyond 2^53 are strings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "proto" / "vectors" / "exploration.json"

WHOLE = 2**32
ONE = 2**16
GOLDEN = 0x9E3779B97F4A7C15


def split_mix(seed: int, number: int) -> int:
    """Output `number` (from 0) of SplitMix64 as published, one state after the other."""
    state = seed
    for _ in range(number + 1):
        state = (state + GOLDEN) % 2**64
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def square_cb(scores: Sequence[int], gamma: float, floor: float) -> list[int]:
    """The chance of every candidate in 2^-32."""
    n = len(scores)
    best = scores.index(max(scores))
    chances = []
    for i, score in enumerate(scores):
        gap = scores[best] - score
        # The one product of floats: gamma is a double, and so is the product before its floor.
        share = Fraction(WHOLE * ONE, n * ONE + math.floor(gamma * gap))
        least = Fraction(math.floor(Fraction(floor) * WHOLE), n)
        chances.append(0 if i == best else max(math.floor(share), math.floor(least)))
    chances[best] = WHOLE - sum(chances)
    return chances


def draw(chances: Sequence[int], number: int) -> int:
    """The first candidate whose running total exceeds `number`."""
    total = 0
    for position, chance in enumerate(chances):
        total += chance
        if total > number:
            return position
    raise ValueError("the chances do not add up to 2^32")


def slots_of(
    scores: Sequence[int],
    priorities: Sequence[int],
    groups: Sequence[int],
    seed: int,
    slots: int,
    explorer: tuple[float, float] | None,
    categories: Sequence[int] = (),
    most: int = 0,
    campaigns: Sequence[int] = (),
    rooms: Sequence[int] = (),
) -> list[tuple[int, int]]:
    """(candidate, chance in 2^-32) of every slot; `explorer` is (gamma, floor), None is greedy.

    At most `most` candidates of one of `categories` (0: none) are picked; 0: as many as there are.
    A candidate is out once as many of its campaign (0: none) are picked as its room (0: any).
    """
    left = list(range(len(scores)))
    picked = []
    for slot in range(slots):
        if not left:
            break
        highest = max(priorities[i] for i in left)
        pool = [i for i in left if priorities[i] == highest]
        inside = [scores[i] for i in pool]
        if explorer is None:
            at, chance = inside.index(max(inside)), WHOLE
        else:
            chances = square_cb(inside, *explorer)
            at = draw(chances, split_mix(seed, slot) >> 32)
            chance = chances[at]
        chosen = pool[at]
        picked.append((chosen, chance))
        left = [i for i in left if i != chosen and not (groups[i] and groups[i] == groups[chosen])]
        if most and categories[chosen]:
            mine = categories[chosen]
            if sum(categories[at] == mine for at, _ in picked) == most:
                left = [i for i in left if categories[i] != mine]
        if campaigns and campaigns[chosen]:
            same = campaigns[chosen]
            number = sum(campaigns[at] == same for at, _ in picked)
            left = [i for i in left if campaigns[i] != same or not rooms[i] or number < rooms[i]]
    return picked


def is_held_out(placement: str, seed: str, drawn_by: bytes, ppm: int) -> bool:
    """Whether a customer, or for nobody a decision, of 16 bytes is held out of a placement."""
    key = b"genome-edge/holdout/v1\n" + placement.encode() + b"\n" + seed.encode() + b"\n"
    digest = hashlib.sha256(key + drawn_by).digest()
    return Fraction(int.from_bytes(digest[:4], "big") * 1_000_000 // WHOLE) < ppm


def arm_number(placement: str, seed: str, drawn_by: bytes) -> int:
    """Where in 0 to 999,999 a customer lies among the arms."""
    key = b"genome-edge/experiment/v1\n" + placement.encode() + b"\n" + seed.encode() + b"\n"
    digest = hashlib.sha256(key + drawn_by).digest()
    return int.from_bytes(digest[:4], "big") * 1_000_000 // WHOLE


def arm_of(placement: str, seed: str, drawn_by: bytes, arms: Sequence[tuple[str, int]]) -> str:
    """The placement that decides for a customer, or for nobody of a decision, of 16 bytes; `arms`
    are names and shares in millionths."""
    at = arm_number(placement, seed, drawn_by)
    for name, ppm in arms:
        if at < ppm:
            return name
        at -= ppm
    return placement


def least_score(micros: int) -> int:
    """The least score, in 2^-16, of what is worth so many millionths."""
    return max(-(2**31), math.ceil(Fraction(micros, 1_000_000) * ONE))


def document() -> dict[str, Any]:
    """The whole file."""
    rng, other, third = random.Random(20), random.Random(21), random.Random(22)
    seeds = [0, 1, 42, 2**63, 2**64 - 1]
    edges = [[7], [5, 5, 5], [-(2**31), 2**31 - 1], [0, -1], [65536, 0, 65536, 30000]]
    lists = [*edges, *([rng.randrange(-ONE, 4 * ONE) for _ in range(n)] for n in (2, 3, 10, 100))]
    settings = [(0.0, 0.0), (1.0, 0.0), (100.0, 0.05), (12.5, 1.0), (1e6, 0.001)]
    return {
        "about": "docs/wire.md, section Exploration. Scores in 2^-16, chances in 2^-32.",
        "splitmix64": [
            {"seed": str(seed), "slot": slot, "output": str(split_mix(seed, slot))}
            for seed in seeds
            for slot in (0, 1, 63)
        ],
        "distribution": [
            {
                "scores": scores,
                "gamma": gamma,
                "floor": floor,
                "chances": square_cb(scores, gamma, floor),
            }
            for scores in lists
            for gamma, floor in settings
        ],
        "slots": [
            *(_slots_case(rng, number) for number in range(60)),
            *(_slots_case(other, number, rooms=True) for number in range(40, 80)),
        ],
        "held_out": [_held_out_case(rng, number) for number in range(20)],
        "arms": [_arm_case(third, edge) for edge in (*[None] * 20, 0, 1)],
        "least_score": [
            {"least_worth_micros": micros, "least_score": least_score(micros)}
            for micros in (0, 1, -1, 1_000_000, 250_000, 15, 16, -16, -2_000_000, 32_767_999_984)
        ],
    }


def _held_out_case(rng: random.Random, number: int) -> dict[str, Any]:
    placement, seed = (
        rng.choice(("lobby", "feed", "Schaufenster-ü")),
        rng.choice(("", "spring", "2")),
    )
    drawn_by = rng.randbytes(16)
    ppm = (0, 1, 500_000, 999_999, 1_000_000)[number % 5]
    return {
        "placement": placement,
        "holdout_seed": seed,
        "drawn_by": drawn_by.hex(),
        "holdout_ppm": ppm,
        "held_out": is_held_out(placement, seed, drawn_by, ppm),
    }


def _arm_case(rng: random.Random, edge: int | None) -> dict[str, Any]:
    """With `edge` the first arm ends so far behind where the customer lies."""
    placement, seed = rng.choice(("lobby", "Schaufenster-ü")), rng.choice(("", "autumn"))
    drawn_by = rng.randbytes(16)
    shares = rng.choice(((500_000,), (200_000, 300_000), (1, 999_999), (333_333, 0, 333_333)))
    if edge is not None:
        shares = (arm_number(placement, seed, drawn_by) + edge,)
    arms = [(f"{placement}-{n}", ppm) for n, ppm in enumerate(shares)]
    return {
        "placement": placement,
        "experiment_seed": seed,
        "drawn_by": drawn_by.hex(),
        "arms": [{"placement": name, "share_ppm": ppm} for name, ppm in arms],
        "drawn": arm_of(placement, seed, drawn_by, arms),
    }


def _slots_case(rng: random.Random, number: int, *, rooms: bool = False) -> dict[str, Any]:
    n = rng.randrange(1, 12)
    scores = [rng.randrange(0, 2 * ONE) for _ in range(n)]
    priorities = [rng.choice((0, 0, 0, 1)) for _ in range(n)]
    groups = [rng.choice((0, 0, 1, 2)) for _ in range(n)]
    explorer = None if number % 5 == 0 else rng.choice([(100.0, 0.05), (2.0, 0.0), (0.0, 0.3)])
    seed, slots = rng.getrandbits(64), rng.randrange(1, 6)
    most = rng.choice((0, 1, 1, 2)) if number >= 40 else 0
    categories = [rng.choice((0, 1, 1, 2)) for _ in range(n)] if most else []
    campaigns = [rng.choice((0, 1, 1, 1, 2)) for _ in range(n)] if rooms else []
    left = [rng.choice((0, 1, 1, 2, 3)) for _ in range(n)] if rooms else []
    picked = slots_of(
        scores, priorities, groups, seed, slots, explorer, categories, most, campaigns, left
    )
    return {
        "scores": scores,
        "priorities": priorities,
        "groups": groups,
        "explorer": "greedy" if explorer is None else "squarecb",
        "gamma": 0.0 if explorer is None else explorer[0],
        "floor": 0.0 if explorer is None else explorer[1],
        "seed": str(seed),
        "slots": slots,
        "categories": categories,
        "most_per_category": most,
        "campaigns": campaigns,
        "rooms": left,
        "picked": [{"candidate": at, "chance": chance} for at, chance in picked],
    }


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    text = json.dumps(document(), ensure_ascii=False) + "\n"
    if not parser.parse_args().check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        print(f"out of date; run python -m tools.make_exploration_vectors:\n  {TARGET}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
