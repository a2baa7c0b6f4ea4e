"""How well what a customer does next is foretold, and when: docs/foresee.md states it all.

Three real sets, each split in time: the crowd warms up, weights are fitted on the next part, and
the last part is asked once. Everybody who is compared knows the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from examples.datasets import DataSetMissing
from genome_server.foresee import pauses
from genome_server.foresee.columns import NOTHING, Events, Ints
from genome_server.foresee.model import Forecaster, Meet, fit
from genome_server.foresee.rivals import interval, plain, plain_pauses
from genome_server.learning.metrics import calibration_error
from tests.bench import foresee_returns
from tests.bench import foresee_sets as sets
from tests.bench.figures import Figures

PLAIN: Final = ("frequency", "markov", "popularity")
_TINY: Final = 1e-12

Array = npt.NDArray[Any]


@dataclass
class Told:
    """What one way of telling said of each case."""

    right: list[Array] = field(default_factory=list)  # bool
    among_five: list[Array] = field(default_factory=list)  # bool
    loss: list[Array] = field(default_factory=list)
    sure: list[Array] = field(default_factory=list)  # the chance given to the likeliest

    def take(self, chances: Array, happened: Ints) -> None:
        """Note some cases: float64[n, symbols], and what happened."""
        rows = np.arange(len(happened))
        order = np.argsort(-chances, axis=1, kind="stable")[:, :5]
        self.right.append(order[:, 0] == happened)
        self.among_five.append((order == happened[:, None]).any(axis=1))
        self.loss.append(-np.log(np.maximum(chances[rows, happened], _TINY)))
        self.sure.append(chances[rows, order[:, 0]])

    def figures(self) -> dict[str, float]:
        """The measures of all cases."""
        right = np.concatenate(self.right)
        return {
            "accuracy_at_1": float(right.mean()),
            "accuracy_at_5": float(np.concatenate(self.among_five).mean()),
            "log_loss": float(np.concatenate(self.loss).mean()),
            "ece": calibration_error(right.astype(float), np.concatenate(self.sure)),
        }


UNITS: Final = {
    "accuracy_at_1": "share",
    "accuracy_at_5": "share",
    "log_loss": "nats",
    "ece": "share",
}


def wanted_after(events: Events, after: int, until: int) -> Array:
    """What is asked about: the events with a symbol in one part."""
    found: Array = (events.hour > after) & (events.hour <= until) & (events.symbol != NOTHING)
    return found


def judge(
    one: sets.Set, cuts: sets.Cuts, meet: Meet | None = None
) -> tuple[dict[str, Told], Ints, Forecaster]:
    """Fit, then ask about the test part: what each said, and the customers asked about."""
    events = one.events
    forecaster = fit(events, cuts.fitting, cuts.test, timed=one.timed, meet=meet)
    wanted = wanted_after(events, cuts.test, cuts.end)
    told = {name: Told() for name in ("ours", *PLAIN)}
    rows, chances = forecaster.foretell(events, wanted, meet)
    told["ours"].take(chances, events.symbol[rows])
    for row, said in plain(events, cuts.test, wanted):
        for name, distribution in said.items():
            told[name].take(distribution[None], events.symbol[row : row + 1])
    return told, events.who[rows], forecaster


def judge_pauses(one: sets.Set, cuts: sets.Cuts) -> tuple[dict[str, Array], float]:
    """Absolute errors in hours by name, and how many pauses lie within the 80 % interval."""
    events, hours = pauses.pauses_of(one.events, one.state, one.own)
    forecaster = fit(events, cuts.fitting, cuts.test, timed=True)
    wanted = wanted_after(events, cuts.test, cuts.end)
    rows, chances = forecaster.foretell(events, wanted)
    low, middle, high = (pauses.quantile(chances, share) for share in (0.1, 0.5, 0.9))
    true = hours[rows]
    inside = (np.floor(low) <= true) & (true <= np.ceil(high))
    said = {"ours": middle, **plain_pauses(events, hours, cuts.test, rows)}
    return {name: np.abs(each - true) for name, each in said.items()}, float(inside.mean())


def measure(one: sets.Set, cuts: sets.Cuts, figures: Figures, meet: Meet | None = None) -> None:
    """All figures of one set's last part."""
    told, who, _ = judge(one, cuts, meet)
    found = {name: each.figures() for name, each in told.items()}
    best = max(PLAIN, key=lambda name: found[name]["accuracy_at_1"])
    rights = [np.concatenate(told[name].right).astype(float) for name in ("ours", best)]
    low, high = interval(rights[0] - rights[1], who)
    figures.add(f"foresee.{one.name}.cases", len(who), "cases")
    for metric in found["ours"]:
        if metric == "accuracy_at_5" and one.events.symbols <= 5:
            continue
        for name in ("ours", *PLAIN):
            figures.add(f"foresee.{one.name}.{metric}.{name}", found[name][metric], UNITS[metric])
    figures.add(f"foresee.{one.name}.accuracy_gain.low", low, "share")
    figures.add(f"foresee.{one.name}.accuracy_gain.high", high, "share")


def measure_preferred(one: sets.Set, cuts: sets.Cuts, figures: Figures) -> None:
    """All figures of a moment or a channel: what everybody does, what this one does, and chance."""
    told, who, _ = judge(one, cuts)
    symbols = one.events.symbols
    found = {name: told[name].figures() for name in ("ours", "frequency", "popularity")}
    # Of equal chances none is the likeliest: there is no calibration of it.
    found["uniform"] = {"accuracy_at_1": 1 / symbols, "log_loss": float(np.log(symbols))}
    figures.add(f"foresee.{one.name}.cases", len(who), "cases")
    for metric in ("accuracy_at_1", "log_loss", "ece"):
        for name, of in found.items():
            if metric in of:
                figures.add(f"foresee.{one.name}.{metric}.{name}", of[metric], UNITS[metric])
    rivals = ("frequency", "popularity", "uniform")
    best = max(rivals, key=lambda name: found[name]["accuracy_at_1"])
    rival = np.full(len(who), 1 / symbols)
    if best != "uniform":
        rival = np.concatenate(told[best].right).astype(float)
    low, high = interval(np.concatenate(told["ours"].right) - rival, who)
    figures.add(f"foresee.{one.name}.accuracy_gain.low", low, "share")
    figures.add(f"foresee.{one.name}.accuracy_gain.high", high, "share")


def measure_pauses(one: sets.Set, cuts: sets.Cuts, figures: Figures) -> None:
    """How far off the time to next is."""
    errors, inside = judge_pauses(one, cuts)
    for metric, of in (("pause_median_error_h", np.median), ("pause_mean_error_h", np.mean)):
        for name in ("ours", *PLAIN):
            figures.add(f"foresee.{one.name}.{metric}.{name}", float(of(errors[name])), "h")
    figures.add(f"foresee.{one.name}.pause_in_80", inside, "share")


def run(figures: Figures) -> None:
    """Every set that is at hand."""
    from tests.bench import segment_grocer  # which imports this module

    try:
        one = sets.foursquare()
        measure(one, sets.cuts_of(one.events), figures)
        measure_pauses(one, sets.cuts_of(one.events), figures)
        foresee_returns.measure(one, sets.cuts_of(one.events), figures)
        for each in sets.moments(one):
            measure_preferred(each, sets.cuts_of(each.events), figures)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
    try:
        lines = sets.grocer_lines()
        one = sets.complete_journey(lines, "product_category", "complete_journey")
        cuts = sets.cuts_of(one.events)
        measure(one, cuts, figures, segment_grocer.meet_of(one, lines, cuts))
        measure_pauses(one, cuts, figures)
        foresee_returns.measure(one, cuts, figures)
        for each in sets.moments(one):
            measure_preferred(each, sets.cuts_of(each.events), figures)
        one = sets.complete_journey(lines, "department", "complete_journey_department")
        measure(one, sets.cuts_of(one.events), figures)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
    try:
        one = sets.starbucks()
        measure(one, sets.cuts_of(one.events), figures)
        measure_pauses(one, sets.cuts_of(one.events), figures)
        foresee_returns.measure(one, sets.cuts_of(one.events), figures)
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
    made_up = sets.made_up_channels()
    measure_preferred(made_up, sets.cuts_of(made_up.events), figures)
