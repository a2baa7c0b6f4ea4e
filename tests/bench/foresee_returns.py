"""How well it is foretold whether a customer comes within a day and a week: docs/foresee.md.

Asked of everybody who was seen by then, at moments that have nothing to do with what they do.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from genome_server.foresee import comes, returns
from genome_server.foresee.columns import Ints
from genome_server.foresee.returns import Visits
from genome_server.foresee.rivals import interval
from genome_server.learning.metrics import auc, calibration_error
from tests.bench import foresee_sets as sets
from tests.bench.figures import Figures

PLAIN: Final = ("everybody", "recency", "own_gap")
HORIZONS: Final = {"day": returns.DAY, "week": returns.WEEK}

Array = npt.NDArray[Any]


def visits_in(one: sets.Set) -> Visits:
    """What customers did themselves, by the hour."""
    who, hour = one.events.who[one.own], one.events.hour[one.own]
    _, numbers = np.unique(who, return_inverse=True)
    return Visits.of(numbers, hour, int(numbers.max()) + 1)


def judge(visits: Visits, cuts: sets.Cuts, within: int) -> tuple[dict[str, Array], Array, Ints]:
    """Chances by name, whether they came, and who: (customers at moments,) each."""
    learned = comes.fit(visits, cuts.test)
    if learned is None:
        raise ValueError("nobody came twice")
    before = comes.came_before(visits, cuts.fitting, cuts.test, within)
    gap = comes.crowd_gap(visits, cuts.test)
    told: dict[str, list[Array]] = {name: [] for name in ("ours", *PLAIN)}
    came, who = [], []
    for now in returns.moments(cuts.test, cuts.end, within):
        seen, happened = comes.came_by(visits, now, within)
        came.append(happened)
        who.append(seen)
        told["ours"].append(learned.within(visits, now, within)[seen])
        told["everybody"].append(np.full(len(seen), before.share))
        told["recency"].append(before.by_recency(now - visits.at(now)[0][seen]))
        gaps = comes.own_gaps(visits, now, gap)[seen]
        told["own_gap"].append(-np.expm1(-within / gaps))
    chances = {name: np.concatenate(of) for name, of in told.items()}
    return chances, np.concatenate(came), np.concatenate(who)


def measure(one: sets.Set, cuts: sets.Cuts, figures: Figures) -> None:
    """All figures of one set's last part, for each horizon that fits into it twice."""
    visits = visits_in(one)
    for horizon, within in HORIZONS.items():
        if cuts.end - cuts.test < 2 * within:
            continue
        told, came, who = judge(visits, cuts, within)
        prefix = f"foresee.{one.name}.within_{horizon}"
        figures.add(f"{prefix}.cases", len(came), "cases")
        figures.add(f"{prefix}.came", float(came.mean()), "share")
        losses = {name: returns.log_losses(each, came) for name, each in told.items()}
        label = came.astype(float)
        for name, chances in told.items():
            figures.add(f"{prefix}.log_loss.{name}", float(losses[name].mean()), "nats")
            figures.add(f"{prefix}.ece.{name}", calibration_error(label, chances), "share")
            figures.add(f"{prefix}.auc.{name}", auc(label, chances) or 0.5, "AUC")
        best = min(PLAIN, key=lambda name: losses[name].mean())
        low, high = interval(losses[best] - losses["ours"], who)
        figures.add(f"{prefix}.gain.low", low, "nats")
        figures.add(f"{prefix}.gain.high", high, "nats")
