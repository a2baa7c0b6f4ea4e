"""The closed loop on a world with a known truth: docs/closed-loop.md says what is simulated.

    python -m tests.bench --only regret           one seed, a few days
    python -m tests.bench --only regret --long    three seeds: the figures of the documentation

Regret is exact: the chance of the best offer less that of the one shown, in acceptances lost per
1,000 decisions. The plot goes to build/regret.svg. What was played is kept, see `regret_runs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from examples.datasets import DataSetMissing
from tests.bench.figures import ROOT, Figures
from tests.bench.regret_plot import plot
from tests.bench.regret_runs import POLICIES, Run, judge_of, played
from tests.bench.regret_sure import run as sure
from tests.bench.world.covariates import Floats

PLOT: Final = ROOT / "build" / "regret.svg"


@dataclass(frozen=True)
class Form:
    """How much is played."""

    seeds: tuple[int, ...]
    days: int
    per_day: int


SHORT: Final = Form((1,), 3, 300)
OTHER: Final = Form((1,), 7, 700)
LONG: Final = Form((1, 2, 3), 7, 700)
#: The seed on which settings were looked for; it is in no figure of regret.
ELSEWHERE: Final = 101
FEWER: Final = ("random", "vw", "ours", "segments", "nothing")


def lost_by(
    form: Form, names: Sequence[str] = tuple(POLICIES), world: str = "coupon"
) -> dict[str, list[Floats]]:
    """What each policy lost in each moment of each seed, float64[n]. Raises DataSetMissing."""
    runs = [
        Run(world, seed, form.days, form.per_day, name) for seed in form.seeds for name in names
    ]
    found = played(runs)
    return {name: [found[run] for run in runs if run.policy == name] for name in names}


def tell(figures: Figures, world: str, found: Mapping[str, Sequence[Floats]]) -> None:
    """Means over seeds; spreads are from the least to the most."""
    mean = {name: 1000 * np.array([run.mean() for run in runs]) for name, runs in found.items()}
    late = {
        name: 1000 * np.array([run[2 * len(run) // 3 :].mean() for run in runs])
        for name, runs in found.items()
    }
    for name in found:
        label = f"regret.{world}.{name}"
        figures.add(f"{label}.per_1000", float(mean[name].mean()), "lost")
        figures.add(f"{label}.per_1000.low", float(mean[name].min()), "lost")
        figures.add(f"{label}.per_1000.high", float(mean[name].max()), "lost")
        figures.add(f"{label}.final_third.per_1000", float(late[name].mean()), "lost")
    for label, one in (("", mean), (".final_third", late)):
        ratio = one["ours"] / one["vw"]
        figures.add(f"regret.{world}.ours_to_vw{label}.ratio", float(ratio.mean()), "ratio")
        figures.add(f"regret.{world}.ours_to_vw{label}.ratio.low", float(ratio.min()), "ratio")
        figures.add(f"regret.{world}.ours_to_vw{label}.ratio.high", float(ratio.max()), "ratio")
        gain = one["random"] - one["ours"]
        for rival in ("segments", "nothing"):
            share = (one[rival] - one["ours"]) / gain
            name = f"regret.{world}.gain_over_{rival}{label}"
            figures.add(f"{name}.share", float(share.mean()), "share")
            figures.add(f"{name}.share.low", float(share.min()), "share")
            figures.add(f"{name}.share.high", float(share.max()), "share")


def run(figures: Figures) -> None:
    """Play all policies on the same streams."""
    form = LONG if figures.long else SHORT
    try:
        found = lost_by(form)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    tell(figures, "coupon", found)
    draw(form, found)
    if not figures.long:
        return
    try:
        found = lost_by(OTHER, FEWER, "rewards")
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    tell(figures, "rewards", found)
    sure(figures, judge_of("coupon", ELSEWHERE, OTHER.days, OTHER.per_day))


def draw(form: Form, found: Mapping[str, Sequence[Floats]]) -> None:
    """Write the plot of the coupon world."""
    played_by = f"{len(form.seeds)} seeds, {form.per_day} decisions a day"
    title = f"Coupon world: {played_by}; beside the names: per 1,000"
    PLOT.parent.mkdir(exist_ok=True)
    drawn = {name: runs for name, runs in found.items() if name != "oracle"}
    PLOT.write_text(plot(title, form.days, drawn), encoding="utf-8")
    print(f"  plot: {PLOT.relative_to(ROOT)}")
