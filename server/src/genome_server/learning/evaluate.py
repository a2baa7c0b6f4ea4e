"""How well a model would do on persons that it has never seen, and how honest the figure is.

The figure that counts is the AUC *by person*: all examples of a person are held out
together, so that nobody's habits are known from training. The *random* split stands
beside it to show what such a figure looks like when persons leak into training; it is
always the more flattering of the two. Both are given for strangers (profile and moment
only) and for customers with a history of their own. An example counts for as many as it
stands for (`thinned`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genome_server.learning.examples import Examples
from genome_server.learning.metrics import auc, auc_interval, calibration_error, log_loss
from genome_server.learning.towers import Floats
from genome_server.learning.train import OnStep, Settings, predict, train
from genome_server.learning.unfinished import Unfinished

FOLDS = 5


@dataclass(frozen=True)
class Figures:
    """Figures of one way of asking; no AUC where all that was held out ended the same way."""

    auc: float | None
    auc_low: float | None
    auc_high: float | None
    calibration_error: float
    log_loss: float


@dataclass(frozen=True)
class SplitReport:
    """What one way of splitting gave: for strangers, and with the history that each had by then."""

    folds: int
    examples: int
    persons: int
    cold: Figures
    with_history: Figures


@dataclass(frozen=True)
class Evaluation:
    """The honest split and the flattering one."""

    by_person: SplitReport
    random: SplitReport

    @property
    def headline(self) -> float | None:
        """AUC by person for strangers: the strictest figure, and what the file says of itself."""
        return self.by_person.cold.auc

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


def evaluate(
    examples: Examples,
    settings: Settings | None = None,
    *,
    quick: bool = False,
    on_step: OnStep | None = None,
    left: Unfinished | None = None,
) -> Evaluation:
    """Train on parts of the examples and measure on the rest.

    Five folds for each split; with `quick` a single hold-out of a fifth. Needs five
    persons or more (ValueError). `on_step(done, total)` counts trainings' steps. Folds that are
    `left` of an evaluation that was broken off are taken as they are.
    """
    settings = settings or Settings()
    if len(np.unique(examples.person)) < FOLDS:
        raise ValueError(f"an evaluation by person needs {FOLDS} persons or more")
    held_out = 1 if quick else FOLDS
    rng = np.random.default_rng(settings.seed)
    by_person = folds_by_person(examples.person, rng)
    at_random = rng.permutation(len(examples)) % FOLDS
    runs = 2 * held_out

    def measure(fold_of: NDArray[np.int64], first_run: int) -> SplitReport:
        parts, cold, warm = [], [], []
        for fold in range(held_out):
            test = np.flatnonzero(fold_of == fold)
            run = first_run + fold
            name = f"fold-{run}"
            said = None if left is None else left.load(name)
            if said is None:
                towers = train(
                    examples,
                    np.flatnonzero(fold_of != fold),
                    replace(settings, seed=settings.seed + run),
                    _part_of(on_step, run, runs),
                    None if left is None else left.part(name),
                )
                said = {
                    "cold": predict(towers, examples, test, history=False),
                    "warm": predict(towers, examples, test, history=True),
                }
                if left is not None:
                    left.save(name, said)
            parts.append(test)
            cold.append(said["cold"])
            warm.append(said["warm"])
        rows = np.concatenate(parts)
        label, person = examples.label[rows], examples.person[rows]
        weight = None
        if (examples.stands_for[rows] != 1).any():
            weight = examples.stands_for[rows]
        return SplitReport(
            folds=held_out,
            examples=len(rows),
            persons=len(np.unique(person)),
            cold=figures_of(label, np.concatenate(cold), person, weight, settings.seed),
            with_history=figures_of(label, np.concatenate(warm), person, weight, settings.seed),
        )

    return Evaluation(by_person=measure(by_person, 0), random=measure(at_random, held_out))


def _part_of(on_step: OnStep | None, run: int, runs: int) -> OnStep | None:
    """Return what counts the steps of one training among `runs` of about equal length."""
    if on_step is None:
        return None
    return lambda done, total: on_step(run * total + done, runs * total)


def folds_by_person(person: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold of each example, (n,): persons whole, folds of about equal size.

    Persons are dealt in random order, each into the fold that has the fewest examples.
    """
    _, group = np.unique(person, return_inverse=True)
    count = np.bincount(group)
    size = [0] * FOLDS
    fold_of = np.zeros(len(count), np.int64)
    for one in rng.permutation(len(count)):
        fold = size.index(min(size))
        fold_of[one] = fold
        size[fold] += int(count[one])
    return np.asarray(fold_of[group])


def figures_of(
    label: Floats, score: Floats, person: NDArray[np.int32], weight: Floats | None, seed: int
) -> Figures:
    """Return the figures of what was said of n examples, (n,) each; no `weight`: all are alike."""
    interval = auc_interval(label, score, person, seed, weight)
    low, high = interval if interval is not None else (None, None)
    return Figures(
        auc(label, score, weight),
        low,
        high,
        calibration_error(label, score, weight),
        log_loss(label, score, weight),
    )
