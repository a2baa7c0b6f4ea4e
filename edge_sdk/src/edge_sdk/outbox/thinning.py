"""How much of what is shown is given up where not all can be kept, so that the rest still counts.

Impressions go by independent flips of a coin, never by what they say or where they stand. Each
that stays stands for 1 / (1 - p) of its kind, p being the probability with which it could have
gone; flips add up: who survived two halvings stands for four. Probabilities are in millionths.
"""

from __future__ import annotations

import random
from typing import Final

CERTAIN: Final = 1_000_000
HALF: Final = CERTAIN // 2
# Beyond this one impression would stand for more than 64, and teach more noise than it is worth.
MOST: Final = CERTAIN - CERTAIN // 64


def combined(before: int, again: int) -> int:
    """The probability to be gone after both."""
    return CERTAIN - (CERTAIN - before) * (CERTAIN - again) // CERTAIN


def on_arrival(waiting: int, limit: int) -> int:
    """With which probability an impression is given up that comes while so many events wait for
    the disk: none below half of the limit, all at three quarters, which leaves room for others."""
    eighths = 8 * waiting // limit
    if eighths < 4:
        return 0
    return {4: HALF, 5: CERTAIN - CERTAIN // 8}.get(eighths, CERTAIN)


def is_gone(chance: random.Random, ppm: int) -> bool:
    """Flip the coin."""
    return ppm > 0 and chance.random() * CERTAIN < ppm
