"""The closed loop on a world with a known truth: docs/closed-loop.md says what is simulated.

    python -m tests.bench --only regret           one seed, a few days
    python -m tests.bench --only regret --long    three seeds: the figures of the documentation

Regret is exact: the chance of the best offer less that of the one shown, in acceptances lost per
1,000 decisions. The plot goes to build/regret.svg.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from examples.datasets import DataSetMissing
from tests.bench.figures import ROOT, Figures
from tests.bench.regret_house import DEFAULT, GREEDY, NOTHING, ONLY_SEGMENTS, House
from tests.bench.regret_loop import Judge, Oracle, Policy, Random, play
from tests.bench.regret_plot import plot
from tests.bench.regret_wabbit import Setting, Wabbit
from tests.bench.world import coupon, rewards
from tests.bench.world.covariates import Covariates, Floats
from tests.bench.world.stream import make_stream
from tests.bench.world.truth import make_world

BEGIN_MS: Final = 1_772_409_600_000  # 2026-03-02, a Monday
PEOPLE, DEVICES = 300, 200
#: Not a default: what becomes of ours where it explores a tenth as much.
CALMER: Final = {"explorer": "squarecb", "gamma": 1000.0, "floor": 0.01}
#: What the rival was set up with was found on the world of another seed, see the documentation.
BEST_OF_WABBIT: Final = Setting()
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

POLICIES: Final[Mapping[str, Callable[[Judge], Policy]]] = {
    "oracle": Oracle,
    "random": Random,
    "vw": lambda judge: Wabbit(judge, BEST_OF_WABBIT),
    "ours": lambda judge: House(judge, DEFAULT),
    "segments": lambda judge: House(judge, DEFAULT, ONLY_SEGMENTS),
    "nothing": lambda judge: House(judge, DEFAULT, NOTHING),
    "greedy": lambda judge: House(judge, GREEDY),
    "calmer": lambda judge: House(judge, CALMER),
}


def played(
    form: Form,
    names: Sequence[str] = tuple(POLICIES),
    covariates: Callable[[], Covariates] = coupon.covariates,
) -> dict[str, list[Floats]]:
    """What each policy lost in each moment of each seed, float64[n]. Raises DataSetMissing."""
    found: dict[str, list[Floats]] = {name: [] for name in names}
    real = covariates()
    for seed in form.seeds:
        world = make_world(real, seed, BEGIN_MS, form.days)
        judge = Judge.of(make_stream(world, seed, form.per_day, PEOPLE, DEVICES))
        for name in names:
            found[name].append(judge.regret(play(judge, POLICIES[name](judge))))
            print(f"    seed {seed} {name:<10} {1000 * found[name][-1].mean():8.1f}", flush=True)
    return found


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
        found = played(form)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    tell(figures, "coupon", found)
    draw(form, found)
    if not figures.long:
        return
    try:
        found = played(OTHER, ("random", "vw", "ours", "segments", "nothing"), rewards.covariates)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    tell(figures, "rewards", found)


def draw(form: Form, found: Mapping[str, Sequence[Floats]]) -> None:
    """Write the plot of the coupon world."""
    played_by = f"{len(form.seeds)} seeds, {form.per_day} decisions a day"
    title = f"Coupon world: {played_by}; beside the names: per 1,000"
    PLOT.parent.mkdir(exist_ok=True)
    drawn = {name: runs for name, runs in found.items() if name != "oracle"}
    PLOT.write_text(plot(title, form.days, drawn), encoding="utf-8")
    print(f"  plot: {PLOT.relative_to(ROOT)}")
