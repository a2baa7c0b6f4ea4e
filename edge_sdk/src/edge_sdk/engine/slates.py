"""What of the candidates fills the slots of a decision, and whether it is shown at all.

Rules
-----
- Slots are filled one after the other, each from what the slots before left. No offer is shown
  twice, no two of an exclusivity group together, and of one category no more than the placement
  allows. Where a cap over its campaign leaves an offer less room than there are slots, it is out
  once as many of its campaign are picked as it has room for. The chance of a draw is that among
  what was left, so it is exact for its slot given the slots before; the chance of a whole slate is
  the product.
- While an offer of a higher priority is left, lower ones are not drawn.
- Where a placement says what an offer must be worth at least, those that are worth less (by their
  score) are no candidates.
- A share of the customers may be held out: everything is chosen as ever, and nothing of it is
  shown. Who is held out follows from the placement, its seed and the customer (for nobody: from the
  decision), so a customer stays held out on every device, and with another seed others are.

What few placements ask for is in a `Slate`; one that asks for nothing of it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.policy import ONE, SCORE_MAX, SCORE_MIN, Drawn, Explorer, Scores, draw_number

if TYPE_CHECKING:
    from genome_edge.v1 import release_pb2

Numbers = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int64]

_HOLDOUT: Final = "genome-edge/holdout/v1"
MILLION: Final = 1_000_000


class Slate(NamedTuple):
    """What a placement asks of its decisions beyond the ordinary.

    `least` is the least score that a candidate may have (None: any); `most` how many offers of one
    category a decision may show (0: as many as there are); `holdout_ppm` how many of a million are
    held out, drawn by what starts with `holdout_key`.
    """

    least: np.int64 | None
    most: int
    holdout_ppm: int
    holdout_key: bytes

    @classmethod
    def of(cls, spec: release_pb2.PlacementSpec) -> Slate | None:
        """The slate of a placement; None where it asks for nothing of it."""
        least = None
        if spec.HasField("least_worth_micros"):
            score = -(-spec.least_worth_micros * ONE // MILLION)  # rounded up
            least = np.int64(min(max(score, SCORE_MIN), SCORE_MAX + 1))
        if least is None and not spec.most_per_category and not spec.holdout_ppm:
            return None
        key = f"{_HOLDOUT}\n{spec.id}\n{spec.holdout_seed}\n".encode()
        return cls(least, spec.most_per_category, spec.holdout_ppm, key)

    def holds_out(self, subject: bytes, decision_id: bytes) -> bool:
        """Whether a customer (16 bytes; zeros: nobody) is held out of this decision."""
        if not self.holdout_ppm:
            return False
        return millionth(self.holdout_key, subject, decision_id) < self.holdout_ppm

    def worthy(self, scores: Scores) -> Positions | None:
        """The positions of the candidates that are worth enough, ascending; None: all of them."""
        if self.least is None:
            return None
        enough = scores >= self.least
        return None if enough.all() else np.flatnonzero(enough)


def millionth(key: bytes, subject: bytes, decision_id: bytes) -> int:
    """The number from 0 to 999,999 by which a customer is drawn; nobody (zeros) by the decision."""
    from hashlib import sha256  # only where somebody is drawn

    drawn_by = decision_id if subject == NOBODY else subject
    return int.from_bytes(sha256(key + drawn_by).digest()[:4], "big") * MILLION >> 32


def select(
    scores: Scores,
    priorities: Numbers | None,
    groups: Numbers | None,
    explorer: Explorer,
    seed: int,
    count: int,
    *,
    categories: Numbers | None = None,
    most: int = 0,
    spent: Callable[[Sequence[int]], Positions | None] | None = None,
    pools: list[Positions | None] | None = None,
) -> list[Drawn]:
    """Draw up to `count` of the candidates, in order of slots; fewer where they run out.

    `priorities`, `groups` and `categories` (0: none; at most `most` of each are shown) are int32
    like `scores`, or None where they make no difference. `spent` says of the positions that were
    picked what may not stand beside them for the sake of the last one (None: nothing). `pools`
    takes what each slot drew from: positions among the candidates, ascending; None: all. Pure: the
    same numbers and seed give the same picks everywhere.
    """
    left = np.ones(len(scores), bool)
    shown: dict[int, int] = {}
    picks: list[Drawn] = []
    picked: list[int] = []
    for slot in range(count):
        pool = np.flatnonzero(left)
        if not len(pool):
            break
        if priorities is not None:
            highest = priorities[pool]
            pool = pool[highest == highest.max()]
        drawn = explorer.draw(scores[pool], draw_number(seed, slot))
        position = int(pool[drawn.position])
        if pools is not None:
            pools.append(pool)
        picks.append(Drawn(position, drawn.chance, int(pool[drawn.best])))
        left[position] = False
        picked.append(position)
        if groups is not None and groups[position]:
            left &= groups != groups[position]
        if categories is not None and categories[position]:
            category = int(categories[position])
            shown[category] = shown.get(category, 0) + 1
            if shown[category] >= most:
                left &= categories != category
        if spent is not None and slot + 1 < count and (out := spent(picked)) is not None:
            left[out] = False
    return picks
