"""What a tenant's examples show of a model: whether it is calibrated, and whether it leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from edge_sdk.dna.markers import Vocabulary, split
from edge_sdk.engine.policy import Scorer
from edge_sdk.engine.scoring import open_scorer
from genome_server.gate import checks
from genome_server.gate.checks import Calibrated, Missed, Seen
from genome_server.gate.measure import Calibration, alone, calibration_of, fall
from genome_server.gate.rules import Check, Limits
from genome_server.home import Tenant
from genome_server.learning.enough import enough
from genome_server.learning.examples import Examples
from genome_server.learning.export import learned_until
from genome_server.learning.job import Progress
from genome_server.learning.metrics import auc, auc_interval
from genome_server.learning.survey import Survey
from genome_server.learning.towers import Indices
from genome_server.models.compare import values_of
from genome_server.models.shelf import Model, reports
from genome_server.offpolicy.past import Past, PastCounts

#: Of more examples the newest are looked at.
_MOST: Final = 5_000
#: Decisions from which on what none of them had is something that devices do not know.
_DECISIONS: Final = 200
_ALL_LEARNED: Final = (
    "it may have learned nearly all examples that it could be judged by: train on all but the "
    "newest (trained_ms says up to when), or wait for new ones"
)
_NOTHING_BESIDE: Final = (
    "it says that it has not learned the newest examples, and nothing shows what can be known of "
    "them: genome-server train makes a model to hold it against"
)


def examples_checks(
    tenant: Tenant,
    model: Model,
    examples: Examples,
    found: Survey,
    past: Sequence[Past],
    counts: PastCounts,
    vocabulary: Vocabulary,
    limits: Limits,
    progress: Progress,
) -> tuple[list[Check], dict[str, Any]]:
    """The checks `calibration` and `leak`, and the figures of the report page."""
    scorer = open_scorer(model.content, vocabulary)
    newest = np.arange(len(examples))[-_MOST:]
    if not enough(examples, newest):
        return [
            checks.calibration([], limits),
            checks.leak([], None, "there are too few examples to look for one"),
        ], {}
    with progress("Asking it about examples", len(newest)) as advance:
        said = np.zeros(len(examples), np.float32)
        said[newest] = values_of(scorer, examples, newest, advance)
    learned = learned_until(model.content)
    newer = newest[examples.time_ms[newest] > learned] if learned is not None else newest[:0]
    own = model.report.get("origin", "trained") == "trained"
    measured, bins = _calibrated(model.report, examples, said, newest, newer, own)
    missed = [
        *_telling(scorer, examples, said, newest, vocabulary),
        *_unknown(scorer, examples, said, newest, vocabulary, found, past, counts),
    ]
    seen, unproven = None, ""
    if not own:
        seen, unproven = _seen(tenant, model, examples, said, newest, learned)
    told = [checks.calibration(measured, limits), checks.leak(missed, seen, unproven)]
    return told, {"calibration": bins}


def _calibrated(
    report: Mapping[str, Any],
    examples: Examples,
    said: np.ndarray[Any, Any],
    newest: Indices,
    newer: Indices,
    own: bool,
) -> tuple[list[Calibrated], list[dict[str, Any]]]:
    """How far off it is: on what it cannot have seen, on persons who were left out of training, and
    on all as a whole; and the bins of the first of these that is of the file itself."""
    all_of = _measured(examples, said, newest)
    found, bins = [], all_of.bins
    if enough(examples, newer):
        new = _measured(examples, said, newer)
        where = "newer than what it learned from"
        found.append(Calibrated(new.error, new.chance, len(newer), where))
        bins = new.bins
    left_out = _left_out(report) if own else None
    if left_out is not None:
        number, error = left_out
        # Of those persons nothing is kept but the error. Chance falls with the root of how many
        # examples there are; how much was left over of each is not known: at most everything.
        chance = all_of.chance_at_most * float(np.sqrt(len(newest) / max(number, 1)))
        where = "of persons who were left out of training"
        found.append(Calibrated(error, chance, number, where))
    if len(newer) < len(newest):
        # Of those a model knows more than it says, and rightly so: strangers come next. But on the
        # whole it should say what came true.
        where = "as a whole, some of which it may have learned from"
        error, chance = all_of.overall, all_of.overall_chance
        found.append(Calibrated(error, chance, len(newest), where, seen=True))
    return found, [one._asdict() for one in bins]


def _left_out(report: Mapping[str, Any]) -> tuple[int, float] | None:
    """Of persons whom its training left out: how many examples, and the error on them."""
    by_person = (report.get("evaluation") or {}).get("by_person")
    if by_person:
        return int(by_person["examples"]), float(by_person["with_history"]["calibration_error"])
    warm = report.get("warm")
    return (int(warm["asked"]), float(warm["after"]["calibration_error"])) if warm else None


def _measured(examples: Examples, said: np.ndarray[Any, Any], rows: Indices) -> Calibration:
    label, person = examples.label[rows], examples.person[rows]
    return calibration_of(label, said[rows], person, examples.stands_for[rows])


def _telling(
    scorer: Scorer,
    examples: Examples,
    said: np.ndarray[Any, Any],
    rows: Indices,
    vocabulary: Vocabulary,
) -> list[Missed]:
    """What is lost without each namespace that tells the answer by itself."""
    found = []
    for field in np.unique(examples.fields[np.unique(examples.index)]).tolist():
        out = examples.fields == field
        by_itself = alone(examples, rows, out)
        if by_itself is None or by_itself.auc < checks.TELLS:
            continue
        name = split(vocabulary.name(int(np.flatnonzero(out)[0])))[0]
        missed = _without(scorer, examples, said, by_itself.rows, out)
        if missed is not None:
            found.append(Missed((name,), *missed, by_itself.auc))
    return found


def _unknown(
    scorer: Scorer,
    examples: Examples,
    said: np.ndarray[Any, Any],
    rows: Indices,
    vocabulary: Vocabulary,
    found: Survey,
    past: Sequence[Past],
    counts: PastCounts,
) -> list[Missed]:
    """What is lost without all that moments of answers had, and no decision of a device ever."""
    if counts.decisions < _DECISIONS:
        return []
    strange = [vocabulary.index(name) for name in found.markers.keys() - counts.moments]
    out = np.zeros(examples.vocabulary_size, bool)
    out[[index for index in strange if index is not None]] = True
    for one in past:
        out[one.genome[0]] = False
    by_itself = alone(examples, rows, out)
    if by_itself is None or by_itself.auc < checks.TELLS_UNKNOWN:
        return []
    missed = _without(scorer, examples, said, by_itself.rows, out)
    if missed is None:
        return []
    names = {split(vocabulary.name(int(index)))[0] for index in np.flatnonzero(out)}
    return [Missed(tuple(sorted(names)), *missed, by_itself.auc, unknown=True)]


def _without(
    scorer: Scorer,
    examples: Examples,
    said: np.ndarray[Any, Any],
    rows: Indices,
    out: np.ndarray[Any, Any],
) -> tuple[float, float] | None:
    """The AUC with and without some markers, bool (V,); None where it is not defined."""
    label, weight = examples.label[rows], examples.stands_for[rows]
    before = auc(label, said[rows], weight)
    after = auc(label, values_of(scorer, examples, rows, without=out), weight)
    return None if before is None or after is None else (before, after)


def _seen(
    tenant: Tenant,
    model: Model,
    examples: Examples,
    said: np.ndarray[Any, Any],
    rows: Indices,
    learned: int | None,
) -> tuple[Seen | None, str]:
    """Whether a model from elsewhere knows what it says that it has not seen, or why nothing can be
    said of that."""
    time_ms, made_ms = examples.time_ms[rows], int(model.report.get("made_ms") or 0)
    later = rows[time_ms > made_ms] if made_ms else rows[:0]
    claimed = rows[(time_ms > learned) & (time_ms <= made_ms)] if learned is not None else rows[:0]

    def of(some: Indices) -> tuple[Any, ...]:
        weight = examples.stands_for[some]
        return examples.label[some], said[some], examples.person[some], weight

    def auc_of(some: Indices) -> float:
        label, values, _, weight = of(some)
        return auc(label, values, weight) or 0.0

    if enough(examples, later):
        if not enough(examples, claimed):
            found = auc_of(later)
            return Seen(found, found, -1.0, len(later), later=True), ""
        sides = zip(of(claimed), of(later), strict=True)
        first, second, least = fall(*sides)
        return Seen(first, second, least, len(claimed), later=True), ""
    if not enough(examples, claimed):
        return None, _ALL_LEARNED
    best = _trained(tenant)
    label, values, person, weight = of(claimed)
    interval = auc_interval(label, values, person, weight=weight)
    if best is None or interval is None:
        return None, _NOTHING_BESIDE
    reached, high = best
    found = auc_of(claimed)
    return Seen(found, reached, interval[0] - high, len(claimed), later=False), ""


def _trained(tenant: Tenant) -> tuple[float, float] | None:
    """The AUC that `train` reached last for persons whom it had not seen, and the high end of its
    interval; None where nothing was trained here."""
    for report in reports(tenant.models_dir):
        by_person = (report.get("evaluation") or {}).get("by_person")
        if by_person and by_person["with_history"]["auc"] is not None:
            figures = by_person["with_history"]
            return float(figures["auc"]), float(figures["auc_high"])
    return None
