"""Estimates of another policy beside what it really earned: Open Bandit, men (docs/offpolicy.md).

Two policies showed the same 34 items in three positions: one at random, one by Bernoulli Thompson
sampling (BTS). From the log of each is told what the other would have earned in clicks by item
shown, and beside it stands what the other's own log says, with its interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from examples.datasets import DataSetMissing, find
from genome_server.offpolicy.direct import cell_means
from genome_server.offpolicy.estimate import evaluate
from genome_server.offpolicy.logged import Logged, Policy
from genome_server.offpolicy.needs import NOTHING
from tests.bench.figures import Figures

Array = npt.NDArray[Any]

POSITIONS: Final = 3
_NAME: Final = "offpolicy.open_bandit"


class Shown(NamedTuple):
    """A file of the set: where and what was shown, with which chance, and whether it was clicked.

    `position` and `item` int64[n] count from 0, `chance` and `click` are float64[n].
    """

    position: Array
    item: Array
    chance: Array
    click: Array


def read(path: Path) -> Shown:
    """A file of Open Bandit."""
    names = ("position", "item_id", "propensity_score", "click")
    columns = pq.read_table(path, columns=list(names))
    position, item, chance, click = (columns[name].to_numpy() for name in names)
    return Shown(position - 1, item, chance.astype(float), click.astype(float))


def frequencies(shown: Shown, items: int) -> Array:
    """How often a policy shows each item in each position, float64[positions, items]."""
    counts = np.zeros((POSITIONS, items))
    np.add.at(counts, (shown.position, shown.item), 1.0)
    found: Array = counts / counts.sum(axis=1, keepdims=True)
    return found


def asked(log: Shown, target: Array) -> tuple[Logged, Policy]:
    """A log, and what a policy of chances float64[positions, items] would have done in it.

    The model of DM and DR knows the mean of each item in each position, from other rows of the log.
    Rows do not say whose they are: each is taken for another person's.
    """
    number, items = len(log.click), target.shape[1]
    alone, once = np.arange(number), np.ones(number)
    cell = log.position * items + log.item
    model = cell_means(cell, log.click, alone, once, cells=target.size)
    here = model.mean.reshape(-1, *target.shape)[model.fold, log.position]
    return (
        Logged(log.click[:, None], log.chance[:, None], alone, once),
        Policy(
            target[log.position, log.item][:, None],
            here[alone, log.item][:, None],
            (here * target[log.position]).sum(axis=1, keepdims=True),
        ),
    )


def on_policy(log: Shown) -> tuple[Logged, Policy]:
    """What a policy earned by its own log."""
    number = len(log.click)
    ones = np.ones((number, 1))
    return Logged(log.click[:, None], ones, np.arange(number), np.ones(number)), Policy(ones)


def run(figures: Figures) -> None:
    """Random to BTS, and BTS to random."""
    try:
        folder = find("open_bandit")
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    random, bts = (read(folder / f"men_{name}.parquet") for name in ("random", "bts"))
    items = int(max(random.item.max(), bts.item.max())) + 1
    for name, log, other, target in (
        ("random_to_bts", random, bts, frequencies(bts, items)),
        ("bts_to_random", bts, random, np.full((POSITIONS, items), 1.0 / items)),
    ):
        logged, policy = asked(log, target)
        judged, told = evaluate(logged, policy), evaluate(logged, policy, needs=NOTHING)
        (overlap,) = judged.overlaps
        at = f"{_NAME}.{name}"
        truth = evaluate(*on_policy(other)).estimates["ips"]
        for what, estimate in {"truth": truth, **told.estimates}.items():
            figures.add(f"{at}.{what}", estimate.value, "clicks an item")
            figures.add(f"{at}.{what}.low", estimate.low, "clicks an item")
            figures.add(f"{at}.{what}.high", estimate.high, "clicks an item")
        figures.add(f"{at}.effective_decisions", overlap.effective_decisions, "decisions")
        figures.add(f"{at}.effective_answers", overlap.effective_answers, "clicks")
        figures.add(f"{at}.largest_weight", overlap.largest_weight, "x the mean")
        figures.add(f"{at}.mean_weight", overlap.mean_weight, "weight")
        figures.add(f"{at}.concludes", float(judged.concludes), "1 yes, 0 no")
        for lack in judged.lacks:
            print(f"    by default too little to conclude: {lack}")
