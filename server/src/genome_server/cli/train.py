"""`genome-server train`: a model from what happened, and how good it is."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import Console, common_options
from genome_server.errors import TooLittleToLearn

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.learning.due import Due
    from genome_server.learning.evaluate import Evaluation, Figures
    from genome_server.learning.job import TrainingReport
    from genome_server.learning.warm import GoneOn


@click.command()
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Where chance begins: the same log and seed give the same model.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Without the forest that teaches, and measured on one hold-out of a fifth instead of five "
    "folds: far faster, and a little worse.",
)
@click.option(
    "--warm",
    is_flag=True,
    help="Go on from the model that was trained last, with what is new since: without "
    "the forest that teaches, and without figures by person. Now and then train from scratch.",
)
@click.option(
    "--if-due",
    is_flag=True,
    help="Only where it is due, else say why not: with the first 20 answers, with 1.5 times as "
    "many as at the last training, or with any new one after a day. For a job of every hour.",
)
@common_options
def command(console: Console, seed: int, quick: bool, warm: bool, if_due: bool) -> None:
    """Train the offer model on the log, measure it, and keep it for the next release.

    It learns from answers to offers (imported or reported) and from decisions and what
    followed them, of customers who agreed to learning. Each figure is given for
    strangers and for customers with a history of their own, and for two ways of
    holding examples back: "by person" says what to expect of people that the model has
    never seen; "random" shows how much kinder the figure gets when it has.

    The same log and seed give the same model. A training that was killed less than a
    day ago goes on where it was. `genome-server publish` takes it to devices.
    """
    if quick and warm:
        raise click.UsageError("--warm measures in a way of its own: leave out --quick")
    tenant = console.tenant()
    due = _due(console, tenant) if if_due else None
    if due is not None and not due.due:
        return
    from genome_server.learning.job import run_training
    from genome_server.learning.lessons import Teaching
    from genome_server.learning.train import Settings

    settings = Settings(seed=seed, teaching=Teaching(trees=0) if quick else Teaching())
    try:
        report = run_training(tenant, settings, quick=quick, warm=warm, progress=console.progress)
    except TooLittleToLearn as few:
        if due is None:
            raise
        _say_why(console, replace(due, due=False, why=str(few)))
        return
    console.result(report.to_json(), lambda: _print(console, report))


def _due(console: Console, tenant: Tenant) -> Due:
    """Whether a training is due; says why where it is not."""
    from genome_server.learning.due import look

    found = look(tenant, time.time_ns() // 1_000_000)
    if not found.due:
        _say_why(console, found)
    return found


def _say_why(console: Console, found: Due) -> None:
    why = found.why.removesuffix(".")
    console.result(found.to_json(), lambda: console.print(f"No training is due: {why}."))


def _print(console: Console, report: TrainingReport) -> None:
    from genome_server.learning.job import left_out

    counts, found = report.counts, report.evaluation
    share = counts.successes / counts.examples
    console.print(
        f"{counts.examples:,} examples of {counts.persons:,} persons "
        f"({counts.answers:,} answers, {counts.decisions:,} decisions), {share:.0%} successes."
    )
    console.print(left_out(counts))
    if report.resumed:
        console.print("It went on with a training that had been broken off.")
    console.print()
    if found is not None:
        _print_evaluation(console, found)
    if report.warm is not None:
        _print_warm(console, report.warm)
    console.print()
    console.print(
        f"Model {report.model_id}: {report.model_bytes / 1024:,.0f} KB, the file agrees with the "
        f"trainer to {report.parity.max_difference:.0e} on {report.parity.probes} inputs; "
        f"{sum(report.seconds.values()):.0f} s in all."
    )


def _print_warm(console: Console, warm: GoneOn) -> None:
    console.print(
        f"It went on from model {warm.base} with {warm.examples:,} examples of {warm.persons:,} "
        "persons that are new since."
    )
    console.table(
        ["new examples of a fifth of the persons", "before", "after"],
        [
            ["AUC", _auc(warm.before), _auc(warm.after)],
            ["log loss", f"{warm.before.log_loss:.4f}", f"{warm.after.log_loss:.4f}"],
            [
                "calibration error",
                f"{warm.before.calibration_error:.3f}",
                f"{warm.after.calibration_error:.3f}",
            ],
        ],
    )


def _print_evaluation(console: Console, found: Evaluation) -> None:
    person, random = found.by_person, found.random
    console.table(
        ["", "strangers", "with own history"],
        [
            ["AUC by person", _auc(person.cold), _auc(person.with_history)],
            ["AUC, random split", _auc(random.cold), _auc(random.with_history)],
            [
                "calibration error by person",
                f"{person.cold.calibration_error:.3f}",
                f"{person.with_history.calibration_error:.3f}",
            ],
        ],
    )
    folds = f"{person.folds} folds" if person.folds > 1 else "one hold-out of a fifth"
    console.print(f"Measured on {folds}; in brackets 95 % intervals over persons.")


def _auc(figures: Figures) -> str:
    if figures.auc is None or figures.auc_low is None or figures.auc_high is None:
        return "not defined"
    return f"{figures.auc:.3f} ({figures.auc_low:.3f}–{figures.auc_high:.3f})"
