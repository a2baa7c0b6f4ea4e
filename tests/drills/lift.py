"""What lift says holds: no effect where there is none, the truth inside, enough when it says so.

A round draws a campaign in each world, looks at it every day as `genome-server lift` would, and
once on its last day. A world fails where the interval of every look lets the truth out at any of
them in more than 5 % of the rounds, where that of the planned look does in more than 7 %, or where
groups that were drawn fairly are called unfair in more than 0.1 % (in a short form: in so many more
that chance does not explain it). A promise is asked for on one day: how often the difference was
told on the day that was promised must be at least 75 %, where 80 % are promised. Of customers with
two ids, A/A holds by the rules and would not if who met both groups were left out. Beside these
it is told how often the interval for one planned look errs where somebody looks every day.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from genome_server.lift.balance import UNFAIR
from genome_server.lift.estimates import ERROR
from genome_server.lift.judging import Verdict, judge
from genome_server.lift.rules import Rows
from genome_server.times import DAY_MS
from tests.drills.findings import Findings
from tests.drills.lift_worlds import BEGIN_MS, World, linked, until

SHORT: Final = 8
LONG: Final = 2_000
UNIT: Final = "rounds"

WORLDS: Final = (
    World("A/A, a fifth held out, 5 % buy", 0.2, 0.05, day=150),
    World("A/A, a twentieth held out, 20 % buy", 0.05, 0.2, day=150),
    World("A/A, half held out, 1 % buy", 0.5, 0.01, day=300),
    World("A/A, two placements", 0.1, 0.05, day=150, two=True),
    World("A/A, amounts", 0.2, 0.1, day=100, spread=1.2),
    World("30 % more, amounts", 0.3, 0.1, day=150, effect=0.3, spread=0.8),
    World("twice as many, two placements", 0.2, 0.1, day=60, effect=1.0, two=True),
)
PROMISES: Final = (
    World("promise: 30 % more of 10 %", 0.3, 0.1, day=60, effect=0.3),
    World("promise: 50 % more of 5 %", 0.5, 0.05, day=60, effect=0.5),
)
DAYS: Final = 28
ASKED: Final = 21
PLANNED: Final = 0.07
PROMISED: Final = 0.75
_PEOPLE: Final = 1_000
_MOST_DAYS: Final = 400
_CHANCE: Final = 4.0  # standard deviations


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Round k draws in each world by dice of its own."""
    found = Findings()
    wrong: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for number in range(first, first + rounds):
        for at, world in enumerate(WORLDS):
            wrong[world.name].update(_looks(world, np.random.default_rng([seed, at, number])))
        for at, world in enumerate(PROMISES, start=len(WORLDS)):
            wrong[world.name].update(_promise(world, np.random.default_rng([seed, at, number])))
        wrong["two ids"].update(_linked(np.random.default_rng([seed, 99, number])))
        found.tried += 1
        progress(found.tried)
    limits = {"always": ERROR, "planned": PLANNED, "unfair": UNFAIR, "late": 1 - PROMISED}
    for name, counts in wrong.items():
        told = []
        for what in sorted({one.partition("/")[0] for one in counts}):
            share, times = counts[what] / counts[f"{what}/"], counts[f"{what}/"]
            told.append(f"{what} {share:.1%}")
            limit = limits.get(what.split()[0], 1.0)
            slack = 0.0 if rounds >= LONG else _CHANCE * np.sqrt(limit * (1 - limit) / times)
            if share > limit + slack + (what == "unfair") * 2 / times:
                found.fail(0, f"{name}: {what} wrong in {share:.1%} of {times}")
        found.note(f"{name}: wrong {', '.join(told)}")
    return found


def _looks(world: World, dice: np.random.Generator) -> Counter[str]:
    """Every day, and once in the end."""
    rows, counts = world.draw(dice, DAYS), Counter[str]()
    names = ("share", "amount") if world.spread else ("share",)
    out, daily = dict.fromkeys(names, False), dict.fromkeys(names, False)
    unfair = False
    for day in range(8, DAYS + 8):
        verdict = _judge(world, rows, day)
        unfair |= not all(one.fair for one in verdict.balances)
        for name in names:
            one = verdict.outcome(name)
            if one is not None:
                low, high = one.contrast.always
                out[name] |= not low <= world.truth[name][0] <= high
                low, high = one.contrast.planned
                daily[name] |= not low <= world.truth[name][0] <= high
    for name in names:
        one = verdict.outcome(name)
        if one is None:
            continue
        truth, base = world.truth[name]
        low, high = one.contrast.planned
        counts.update({f"planned {name}": not low <= truth <= high, f"planned {name}/": 1})
        counts.update({f"always {name}": out[name], f"always {name}/": 1})
        counts.update({f"looked at daily {name}": daily[name], f"looked at daily {name}/": 1})
        lifts = one.contrast.lift_planned
        if lifts is not None:
            held = lifts.low <= truth / base <= lifts.high
            counts.update({f"planned lift of {name}": not held, f"planned lift of {name}/": 1})
    counts.update({"unfair": unfair, "unfair/": 1})
    return counts


def _promise(world: World, dice: np.random.Generator) -> Counter[str]:
    """Whether the difference is told on the day that was promised on day ASKED."""
    rows, counts = world.draw(dice, _MOST_DAYS), Counter[str]()
    verdict = _judge(world, rows, ASKED)
    outcome = verdict.outcome("share")
    due = outcome.stated if outcome is not None else None
    counts.update({"no day": due is None or due.at_ms is None, "no day/": 1})
    if due is not None and due.at_ms is not None:
        day = (due.at_ms - BEGIN_MS) / DAY_MS
        later = _judge(world, rows, day).outcome("share")
        told = later is not None and later.contrast.always.low > 0
        counts.update({"late": not told, "late/": 1})
    return counts


def _judge(world: World, rows: Rows, day: float) -> Verdict:
    as_of_ms = BEGIN_MS + round(day * DAY_MS)
    known = until(rows, as_of_ms)
    effect = world.effect or 0.1
    return judge(known, world.campaign, as_of_ms, effect=effect, money=bool(world.spread))


def _linked(dice: np.random.Generator) -> Counter[str]:
    """By the rules, and as one might think."""
    counts = Counter[str]()
    world = World("two ids", 0.2, 0.1, day=1)
    for what, rows in zip(("planned share", "without both"), linked(dice, _PEOPLE), strict=True):
        as_of_ms = BEGIN_MS + 30 * DAY_MS
        verdict = judge(rows, world.campaign, as_of_ms, effect=0.1, money=False)
        outcome = verdict.outcome("share")
        if outcome is not None:
            low, high = outcome.contrast.planned
            counts.update({what: not low <= 0 <= high, f"{what}/": 1})
    return counts
