"""How likely each offer is taken, by whom, when: known exactly, so that regret is exact.

    logit = clipped( said_not_done                             fewer do than said they would
                   + trees(person, moment, kind of offer)      what everybody shares, from real data
                   + taste(person, theme of the offer, time)   what only own history reveals
                   + crowd(theme, time)                        what the crowd likes just now
                   + appeal(offer) )                           what only trying it tells
    chance = 1 / (1 + exp(-logit))

Tastes turn slowly: each is a mixture of two that are drawn once, and goes from the first towards
the second by TURN of a right angle until the end. Every part is bounded, and so is the sum: chances
lie between 1 / (1 + exp(LIMIT)) and the rest of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.bench.world.covariates import Covariates, Floats, Ints

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
#: The largest log odds, either way: chances lie between 0.03 and 0.97.
LIMIT: Final = 3.5
THEMES: Final = (
    "italian", "asian", "mexican", "vegan", "sweet", "craft", "family", "live-music",
)  # fmt: skip
#: Standard deviations, in log odds; what is drawn is cut at twice that.
TASTE: Final = 1.2
CROWD: Final = 0.3
APPEAL: Final = 0.3
#: How far tastes turn from the beginning to the end: 1 is a right angle, where nothing is left.
TURN: Final = 0.6
#: How often crowds change their minds until the end.
WAVES: Final = 1.5


@dataclass(frozen=True)
class Offer:
    """An offer of a world: its kind, its theme, and from when until when it is there."""

    id: str
    dna: tuple[str, ...]
    kind: int
    theme: int
    from_ms: int
    until_ms: int


@dataclass(frozen=True, eq=False)
class World:
    """The truth. Times are Unix milliseconds, from `begin_ms` until `end_ms`.

    `tastes` float64[2, people, themes] are the first and the second of each taste, `waves`
    float64[3, themes] height, speed and phase of what the crowd likes, `appeal` float64[offers].
    """

    real: Covariates
    offers: tuple[Offer, ...]
    begin_ms: int
    end_ms: int
    tastes: Floats
    waves: Floats
    appeal: Floats

    def live(self, at_ms: int) -> Ints:
        """The offers that are there at a moment, as positions in `offers`."""
        there = [i for i, one in enumerate(self.offers) if one.from_ms <= at_ms < one.until_ms]
        return np.array(there, np.int64)

    def parts(self, row: int, at_ms: int) -> dict[str, Floats]:
        """The parts of the log odds of every offer, float64[offers] each, before they are cut."""
        share = (at_ms - self.begin_ms) / (self.end_ms - self.begin_ms)
        kinds = np.array([one.kind for one in self.offers])
        themes = np.array([one.theme for one in self.offers])
        angle = TURN * share * np.pi / 2
        first, second = self.tastes[:, self.real.person[row]]
        taste = np.cos(angle) * first + np.sin(angle) * second
        height, speed, phase = self.waves
        crowd = height * np.sin(speed * share * 2 * np.pi + phase)
        return {
            "trees": self.real.said_not_done + self.real.logit[row, kinds],
            "taste": taste[themes],
            "crowd": crowd[themes],
            "appeal": self.appeal,
        }

    def chances(self, row: int, at_ms: int) -> Floats:
        """How likely each offer is taken in the moment of a row at a time, float64[offers]."""
        logit = sum(self.parts(row, at_ms).values(), np.zeros(len(self.offers)))
        return 1.0 / (1.0 + np.exp(-np.clip(logit, -LIMIT, LIMIT)))


def cut_normal(rng: np.random.Generator, scale: float, size: Sequence[int]) -> Floats:
    """Normal numbers of this standard deviation, cut at twice that."""
    return np.clip(rng.standard_normal(size), -2.0, 2.0) * scale


def make_world(
    real: Covariates, seed: int, begin_ms: int, days: int, *, lasting: int = 10, passing: int = 20
) -> World:
    """A world of some days. The same arguments give the same one.

    `lasting` offers are there from the beginning to the end; `passing` ones begin at the midnights
    of days that are drawn and stay for a fourth to a half of all days.
    """
    rng = np.random.default_rng([seed, 1])
    end_ms = begin_ms + days * DAY_MS
    total = lasting + passing
    kinds = np.concatenate([rng.permutation(len(real.kinds)) for _ in range(1 + total)])[:total]
    themes = np.concatenate([rng.permutation(len(THEMES)) for _ in range(1 + total)])[:total]
    offers = []
    for number, (kind, theme) in enumerate(zip(kinds.tolist(), themes.tolist(), strict=True)):
        from_ms, until_ms = begin_ms, end_ms
        if number >= lasting:
            stays = max(1, round(days * rng.uniform(0.25, 0.5)))
            first = int(rng.integers(0, max(1, days - stays // 2)))
            from_ms = begin_ms + first * DAY_MS
            until_ms = min(end_ms, from_ms + stays * DAY_MS)
        name = f"offer-{number:02}"
        dna = (*real.kinds[kind], f"theme:{THEMES[theme]}", f"title:{name}")
        offers.append(Offer(name, dna, kind, theme, from_ms, until_ms))
    people = len(real.people)
    return World(
        real=real,
        offers=tuple(offers),
        begin_ms=begin_ms,
        end_ms=end_ms,
        tastes=cut_normal(rng, TASTE, (2, people, len(THEMES))),
        waves=np.stack(
            [
                np.full(len(THEMES), CROWD),
                np.full(len(THEMES), WAVES),
                rng.uniform(0, 2 * np.pi, len(THEMES)),
            ]
        ),
        appeal=cut_normal(rng, APPEAL, (total,)),
    )
