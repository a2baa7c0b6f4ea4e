"""How much of what will be heard of a decision has been heard by its age. Free of I/O.

Whoever takes an offer is heard at once or hours later, when the device next has a line; whoever
does not often says nothing at all. Of young decisions the log therefore knows the good news first:
taken as they are, they make everything new look better than it is.

So each decision is taken as if somebody had looked at it with a chance F that knows its age and
nothing of what came of it. Where F(age) is the chance that a success has been heard by that age,

    a success    weighs 1, as it is heard with the chance F
    a refusal    weighs F(age)
    silence      weighs F(age) · (1 - p - r) / (1 - p · F(age) - r)

where p is the share of successes and r that of refusals: the fraction is the chance that who was
silent until that age stays so. Summed up, successes weigh F · p and failures F · (1 - p), whatever
F is: nothing is overrated, and nothing has to wait until its window is over.

F is estimated from the log itself, by placement. A delay is only seen where it is shorter than the
decision is old, so that the share among those seen would be too large; what is used is the
product-limit estimate for delays that are cut off on the right: F is 1 at the longest delay that
was seen, and falls below each delay d by the factor 1 - n / (N + 1), where n had this delay and N
had this or a shorter one although their age had let them have a longer. (The 1 keeps a handful of
old decisions from deciding all.) The same is done for the decisions themselves, because only those
are asked about that have arrived.

Ages are from when it was decided, by the device's clock as the log corrects it, until the log is
read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Decisions of a log that delays are estimated from; of more, a sample drawn by their ids.
MOST_SAMPLED: Final = 200_000
_ID_BYTES: Final = 8


@dataclass(frozen=True)
class Curve:
    """The share of delays up to each of `delays_ms` int64[k], ascending: `shares` float64[k]."""

    delays_ms: NDArray[np.int64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, delays_ms: Sequence[int], ages_ms: Sequence[int]) -> Curve:
        """Estimate it from n >= 0 delays, each at most as long as its age."""
        delays, ages = np.sort(np.array(delays_ms, np.int64)), np.sort(np.array(ages_ms, np.int64))
        seen, times = np.unique(delays, return_counts=True)
        # An age below d comes with a delay below d: those with d or less that could have had more.
        had = delays.searchsorted(seen, side="right")
        could_not = ages.searchsorted(seen, side="left")
        kept = 1.0 - times / (had - could_not + 1.0)
        after = np.append(kept[1:], 1.0)
        return cls(seen, np.cumprod(after[::-1])[::-1])

    def at(self, age_ms: int) -> float:
        """The share of all delays that are `age_ms` or shorter, 0 … 1; 1 where none is known."""
        if not len(self.delays_ms):
            return 1.0
        place = int(self.delays_ms.searchsorted(age_ms, side="right")) - 1
        return float(self.shares[place]) if place >= 0 else 0.0


@dataclass(frozen=True)
class Look:
    """What decisions of one placement weigh by their age."""

    successes: Curve
    arrivals: Curve
    share: float
    refused: float

    def chance(self, age_ms: int) -> float:
        """The chance F that a success has been heard of a decision that the log has, 0 … 1."""
        arrived = self.arrivals.at(age_ms)
        return min(1.0, self.successes.at(age_ms) / arrived) if arrived > 0 else 0.0

    def weight(self, age_ms: int, *, refused: bool) -> float:
        """What a decision weighs that has not succeeded up to its age, 0 … 1."""
        chance = self.chance(age_ms)
        if refused or chance == 1.0:
            return chance
        failure = max(0.0, 1.0 - self.share - self.refused)
        silent = 1.0 - self.share * chance - self.refused
        return chance * failure / silent if silent > failure else chance


@dataclass
class _Decided:
    placement: str
    at_ms: int
    received_ms: int


@dataclass
class Delays:
    """Collects when decisions and what was said of them reached the log, in any order."""

    most: int = MOST_SAMPLED
    _decided: dict[bytes, _Decided] = field(default_factory=dict)
    # Of each decision the first success of a kind and the first refusal (None): when it happened
    # and arrived.
    _heard: dict[bytes, dict[str | None, tuple[int, int]]] = field(default_factory=dict)
    _halvings: int = 0

    def decided(self, decision_id: bytes, placement: str, at_ms: int, received_ms: int) -> None:
        """Note a decision that showed something."""
        if self._sampled(decision_id):
            self._decided.setdefault(decision_id, _Decided(placement, at_ms, received_ms))
            if len(self._decided) > self.most:
                self._halve()

    def heard(
        self, decision_id: bytes, label: int, at_ms: int, received_ms: int, kind: str = ""
    ) -> None:
        """Note what was said of a decision: +1 a success, -1 a refusal; 0 is not noted."""
        if label and self._sampled(decision_id):
            said = self._heard.setdefault(decision_id, {})
            what = kind if label > 0 else None
            known = said.get(what)
            if known is None or received_ms < known[1]:
                said[what] = (at_ms, received_ms)

    def looks(
        self,
        windows_ms: Mapping[str, int],
        now_ms: int,
        goals: Mapping[str, Collection[str]] | None = None,
    ) -> dict[str, Look]:
        """What decisions weigh as of `now_ms`, by placement; `windows_ms` says how long each waits,
        `goals` which kinds are a success there, where it says.

        Of a placement of which no success is known there is none.
        """
        by_placement: dict[str, dict[bytes, _Decided]] = {name: {} for name in windows_ms}
        for decision_id, one in self._decided.items():
            if one.placement in by_placement:
                by_placement[one.placement][decision_id] = one
        found = {}
        for placement, mine in by_placement.items():
            window_ms, goal = windows_ms[placement], (goals or {}).get(placement)
            delays, ages, refused = [], [], 0
            for decision_id, one in mine.items():
                said = self._heard.get(decision_id, {})
                success = _first(said, goal)
                if success is not None and success[0] <= one.at_ms + window_ms:
                    delays.append(max(success[1] - one.at_ms, 0))
                    ages.append(max(now_ms - one.at_ms, delays[-1]))
                else:
                    refused += None in said
            if not delays:
                continue
            waited = [max(one.received_ms - one.at_ms, 0) for one in mine.values()]
            lived = [max(now_ms - one.at_ms, 0) for one in mine.values()]
            successes = Curve.of(delays, ages)
            arrivals = Curve.of(waited, [max(pair) for pair in zip(waited, lived, strict=True)])
            look = Look(successes, arrivals, 0.0, 0.0)
            looked = sum(look.chance(age_ms) for age_ms in lived)
            share = min(1.0, len(delays) / looked) if looked else 0.0
            found[placement] = Look(successes, arrivals, share, refused / len(mine))
        return found

    def _sampled(self, decision_id: bytes) -> bool:
        number = int.from_bytes(decision_id[-_ID_BYTES:], "little")
        return number % (1 << self._halvings) == 0

    def _halve(self) -> None:
        self._halvings += 1
        self._decided = {k: one for k, one in self._decided.items() if self._sampled(k)}
        self._heard = {k: one for k, one in self._heard.items() if self._sampled(k)}


def _first(
    said: Mapping[str | None, tuple[int, int]], goal: Collection[str] | None
) -> tuple[int, int] | None:
    """The success that arrived first: when it happened and arrived."""
    good = [
        times for kind, times in said.items() if kind is not None and (goal is None or kind in goal)
    ]
    return min(good, key=lambda times: times[1], default=None)
