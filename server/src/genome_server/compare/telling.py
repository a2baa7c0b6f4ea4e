"""How many have something, told so that nobody stands alone. Free of I/O.

Rules.
- Counts of people are told to the nearest `STEP`, and shares are made of such counts. So neither
  the few who lack what nearly all have, nor a group less a part of it, nor what is told a little
  earlier or of a little more, comes down to one person.
- Of fewer than a least number of people nothing is said at all; whoever asks here has seen to it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from genome_server.compare.matrix import Floats, Ints

STEP: Final = 5
"""What counts of people are rounded to."""


def roughly(count: int) -> int:
    """A count of people, to the nearest step."""
    return (count + STEP // 2) // STEP * STEP


def shares(counts: Ints, people: int) -> Floats:
    """Which share of so many people each of some counts is, 0 to 1; of rounded counts."""
    steps = (counts + STEP // 2) // STEP * STEP
    found: Floats = np.minimum(steps / max(roughly(people), STEP), 1.0)
    return found


def share(count: int, people: int) -> float:
    """Which share of so many people a count is; of rounded counts."""
    return min(roughly(count) / max(roughly(people), STEP), 1.0)
