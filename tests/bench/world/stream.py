"""Who comes when, at which device, and what becomes of each answer on its way. Seeded.

All of it is drawn before anybody decides, and is the same for every policy: whether an offer is
taken follows from its chance and one number of the moment, so that policies differ by what they
show and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tests.bench.world.covariates import Floats, Ints
from tests.bench.world.truth import DAY_MS, HOUR_MS, World

MINUTE_MS: Final = 60_000
#: Of all answers so many never reach anybody.
LOST: Final = 0.05
#: Who takes an offer does so after half an hour in the middle; one in twenty after six hours.
DELAY_MEDIAN_MS: Final = 30 * MINUTE_MS
DELAY_SPREAD: Final = 1.5
LONGEST_DELAY_MS: Final = 3 * DAY_MS
#: Of those who do not take it so many say so, within minutes; the others stay silent.
SAYS_NO: Final = 0.5
NO_DELAY_MS: Final = 2 * MINUTE_MS
#: A device has a line every six hours on average.
SYNC_EVERY_MS: Final = 6 * HOUR_MS
#: Of the moments so many happen at another device than the person's own.
ELSEWHERE: Final = 0.1

TAKEN: Final = "redeem"
REFUSED: Final = "dismiss"


@dataclass(frozen=True, eq=False)
class Stream:
    """n moments in order of time, and when devices have a line.

    `at_ms` int64[n], `row` int64[n] of the covariates, `device` int64[n]; `takes`, `draws` and
    `turns` float64[n] are uniform numbers: whether the offer is taken, what a policy draws, and
    whether a refusal is said. `delay_ms` int64[n] is that of a yes, `no_delay_ms` of a no. What is
    `lost` bool[n] reaches nobody. `syncs` are (time, device) in order of time.
    """

    world: World
    devices: int
    at_ms: Ints
    row: Ints
    device: Ints
    takes: Floats
    draws: Floats
    turns: Floats
    delay_ms: Ints
    no_delay_ms: Ints
    lost: npt.NDArray[np.bool_]
    syncs: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.at_ms)

    def person(self, moment: int) -> int:
        """Whose moment it is."""
        return int(self.world.real.person[self.row[moment]])

    def answer(self, moment: int, chance: float) -> tuple[str, int] | None:
        """What is heard of an offer with this chance that is shown in a moment, and when.

        TAKEN or REFUSED and Unix milliseconds; None where nothing is ever heard.
        """
        if self.lost[moment]:
            return None
        at = int(self.at_ms[moment])
        if self.takes[moment] < chance:
            return TAKEN, at + int(self.delay_ms[moment])
        if self.turns[moment] < SAYS_NO:
            return REFUSED, at + int(self.no_delay_ms[moment])
        return None


def make_stream(world: World, seed: int, per_day: int, people: int, devices: int) -> Stream:
    """A stream of so many moments a day of `people` people at `devices` devices.

    People are drawn once; some come more often than others. The same arguments give the same one.
    """
    rng = np.random.default_rng([seed, 2])
    rows_of = world.real.rows_of()
    everybody = rng.permutation(len(rows_of)).tolist()
    chosen = np.sort([one for one in everybody if len(rows_of[one])][:people])
    often = rng.gamma(2.0, size=len(chosen))
    days = (world.end_ms - world.begin_ms) // DAY_MS
    total = days * per_day
    who = chosen[rng.choice(len(chosen), total, p=often / often.sum())]
    row = np.array([rng.choice(rows_of[one]) for one in who.tolist()])
    day = np.repeat(np.arange(days), per_day)
    within = world.real.hour[row] * HOUR_MS + rng.integers(0, HOUR_MS, total)
    at_ms = world.begin_ms + day * DAY_MS + within
    order = np.argsort(at_ms, kind="stable")
    home = np.zeros(len(rows_of), np.int64)
    home[chosen] = rng.integers(0, devices, len(chosen))
    away = rng.random(total) < ELSEWHERE
    device = np.where(away, rng.integers(0, devices, total), home[who])
    delay = DELAY_MEDIAN_MS * np.exp(DELAY_SPREAD * rng.standard_normal(total))
    return Stream(
        world=world,
        devices=devices,
        at_ms=at_ms[order],
        row=row[order],
        device=device[order],
        takes=rng.random(total),
        draws=rng.random(total),
        turns=rng.random(total),
        delay_ms=np.minimum(delay, LONGEST_DELAY_MS).astype(np.int64),
        no_delay_ms=(NO_DELAY_MS * rng.exponential(size=total)).astype(np.int64),
        lost=rng.random(total) < LOST,
        syncs=_syncs(rng, world, devices),
    )


def _syncs(rng: np.random.Generator, world: World, devices: int) -> tuple[tuple[int, int], ...]:
    found = []
    for device in range(devices):
        at = world.begin_ms + rng.exponential(SYNC_EVERY_MS)
        while at < world.end_ms:
            found.append((int(at), device))
            at += rng.exponential(SYNC_EVERY_MS)
    return tuple(sorted(found))
