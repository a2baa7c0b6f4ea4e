"""Intervals of estimates of other policies hold the truth as often as they say.

A round draws a log in each of the regimes and asks what another policy would have earned, and how
much more than the one that made the log: SNIPS and DR, as `genome_server.offpolicy` answers by
default. The truth is summed over all that can happen. A regime fails where the intervals of the
answers hold the truth in less than 93 % of the rounds (in a short form: in so many fewer that
chance does not explain it), where half of what should be answered is refused, or where a tenth of
what should be refused is answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from genome_server.offpolicy.estimate import compare, evaluate
from tests.drills.estimates_worlds import Regime, World
from tests.drills.findings import Findings

SHORT: Final = 16
LONG: Final = 2_000
UNIT: Final = "rounds"

REGIMES: Final = (
    Regime("0.5 % clicks, mild shift", 0.005, strong=False, persons=8_000),
    Regime("0.5 % clicks, strong shift", 0.005, strong=True, persons=16_000),
    Regime("5 % clicks, mild shift", 0.05, strong=False, persons=1_200),
    Regime("5 % clicks, strong shift", 0.05, strong=True, persons=2_000),
    Regime("30 % clicks, mild shift", 0.3, strong=False, persons=400),
    Regime("30 % clicks, strong shift", 0.3, strong=True, persons=800),
    Regime("5 % clicks, 3 slots, mild shift", 0.05, False, persons=1_500, offers=6, slots=3),
    Regime("5 % clicks, 3 slots, strong shift", 0.05, True, persons=8_000, offers=6, slots=3),
    Regime("30 % clicks, 3 slots, mild shift", 0.3, False, persons=600, offers=6, slots=3),
)
#: Near the thresholds: of these up to two thirds are refused, and the rest must hold.
EDGE: Final = (
    Regime("0.5 % clicks, at the threshold", 0.005, strong=False, persons=900),
    Regime("5 % clicks, at the threshold", 0.05, strong=True, persons=350),
    Regime("30 % clicks, at the threshold", 0.3, strong=True, persons=450),
)
#: Of these there is too little to conclude.
THIN: Final = (
    Regime("too few clicks", 0.005, strong=False, persons=300),
    Regime("too few persons", 0.3, strong=True, persons=60),
)
WORLDS: Final = 5
WANTED: Final = 0.93
_HALF: Final = 0.5
_MOSTLY: Final = 0.9
_CHANCE: Final = 4.0  # standard deviations


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Round k draws in world k % WORLDS of each regime."""
    found = Findings()
    regimes = REGIMES + EDGE + THIN
    worlds = [
        [World(regime, np.random.default_rng([seed, at, number])) for number in range(WORLDS)]
        for at, regime in enumerate(regimes)
    ]
    held: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    widths: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    refused: Counter[str] = Counter()
    for number in range(first, first + rounds):
        for at, regime in enumerate(regimes):
            world = worlds[at][number % WORLDS]
            drawn = world.draw(np.random.default_rng([seed, at, WORLDS + number]))
            answers = {
                "": (evaluate(drawn.logged, drawn.target), world.truth),
                "gain, ": (
                    compare(drawn.logged, drawn.target, drawn.itself),
                    world.truth - world.truth_of_log,
                ),
            }
            refused[regime.name] += not answers[""][0].concludes
            for kind, (answer, truth) in answers.items():
                for name in ("snips", "dr") if answer.concludes else ():
                    said = answer.estimates[name]
                    held[regime.name, kind + name].append(said.low <= truth <= said.high)
                    widths[regime.name, kind + name].append((said.high - said.low) / world.truth)
        found.tried += 1
        progress(found.tried)
    for at, regime in enumerate(regimes):
        share = refused[regime.name] / rounds
        wrong = {n: 1 - np.mean(t) for (r, n), t in held.items() if r == regime.name}
        told = ", ".join(
            f"{name} {1 - off:.3f} (± {np.median(widths[regime.name, name]) / 2:.0%})"
            for name, off in wrong.items()
        )
        found.note(f"{regime.name}: {share:.1%} refused; held by {told or 'nobody'}")
        if regime in THIN:
            if share < _MOSTLY:
                found.fail(at, f"{regime.name}: only {share:.1%} refused")
            continue
        if regime in REGIMES and share > _HALF:
            found.fail(at, f"{regime.name}: {share:.1%} refused")
        for name, off in wrong.items():
            times = held[regime.name, name]
            slack = 0.0 if rounds >= LONG else _CHANCE * np.sqrt(WANTED * (1 - WANTED) / len(times))
            if 1 - off < WANTED - slack:
                found.fail(at, f"{regime.name}: {name} held in {1 - off:.1%} of {len(times)}")
    return found
