"""`genome-server models compare`: two models beside each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.models_list import auc, origin, when
from genome_server.cli.output import Console, common_options
from genome_server.errors import UsageError

if TYPE_CHECKING:
    from genome_server.models.compare import Compared
    from genome_server.models.earned import Earned
    from genome_server.models.paired import Figure
    from genome_server.models.shelf import Model
    from genome_server.offpolicy.estimate import Estimate

_OVERLAP = (
    ("effective decisions", "effective_decisions", ",.0f"),
    ("effective persons", "effective_persons", ",.0f"),
    ("effective answers", "effective_answers", ",.0f"),
    ("largest weight", "largest_weight", ".1f"),
    ("mean weight", "mean_weight", ".3f"),
)
_SPOKEN = {"auc": "AUC", "log_loss": "log loss", "calibration_error": "calibration error"}


@click.command("compare")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@common_options
def command(console: Console, one: str, other: str) -> None:
    """Compare models A and B: the figures of their reports, and both on your own examples.

    Taken are examples newer than anything that either has learned from. Where those are too few
    all are taken, and it is said whom that flatters. The interval (95 %) is that of B less A,
    drawn by person.

    Then the decisions of the log are done again: what would each have earned (IPS, SNIPS, DM, DR)?
    Where the log says too little of one, it says of what there is too little, and no number.
    """
    from genome_server.documents import placement_spec
    from genome_server.models.compare import compare_models
    from genome_server.models.earned import earned
    from genome_server.models.own_examples import read_decisions_too
    from genome_server.models.shelf import find_model, load_model
    from genome_server.offpolicy.again import done_again, explorers_of

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        names = [find_model(tenant.models_dir, said) for said in (one, other)]
        if names[0] == names[1]:
            raise UsageError(f"both are model {names[0]}; name two models")
        a, b = (load_model(tenant.models_dir, name) for name in names)
        with console.progress("Reading the log") as advance:
            now_ms = time.time_ns() // 1_000_000
            examples, past, counts = read_decisions_too(tenant, store, now_ms, advance)
        vocabulary = store.vocabulary()
        with console.progress("Comparing") as advance:
            found = compare_models(a, b, examples, vocabulary, advance)
        with console.progress("Doing decisions again", len(past)) as advance:
            again = done_again(tenant, store, past, counts, advance)
        explorers = explorers_of(placement_spec(one) for _, one in store.documents("placement"))
        with console.progress("Asking both models") as advance:
            told = earned(a, b, again, explorers, vocabulary, advance)
    data = {
        "models": [{"id": each.id, "report": each.report} for each in (a, b)],
        **found.to_json(),
        "off_policy": told.to_json(),
    }

    def render() -> None:
        _print(console, a, b, found)
        console.print()
        _print_earned(console, a, b, told)

    console.result(data, render)


def _print(console: Console, a: Model, b: Model, found: Compared) -> None:
    console.table(
        ("", a.id, b.id),
        [
            ("from", origin(a.report), origin(b.report)),
            ("when", when(a.report.get("made_ms")), when(b.report.get("made_ms"))),
            ("bytes", f"{len(a.content):,}", f"{len(b.content):,}"),
            ("own AUC, strangers", auc(a.report, "cold"), auc(b.report, "cold")),
            ("own AUC, history", auc(a.report, "history"), auc(b.report, "history")),
        ],
    )
    console.print()
    newer = f" after {when(found.since_ms)}" if found.since_ms else ""
    console.print(f"On {found.examples:,} examples of {found.persons:,} persons{newer}:")
    rows = [
        row
        for who, figures in found.figures.items()
        for row in _rows(who.replace("_", " "), figures)
    ]
    console.table(("", a.id, b.id, "difference (95 %)"), rows)
    for note in found.notes:
        console.print(f"Note: {note}.")


def _print_earned(console: Console, a: Model, b: Model, told: Earned) -> None:
    if told.a is None or told.b is None or told.difference is None:
        console.print(f"Nothing is known of what they would have earned: {told.why_not}.")
        return
    newer = f" after {when(told.since_ms)}" if told.since_ms else ""
    console.print(
        f"What each would have earned by decision, on {told.decisions:,} decisions of "
        f"{told.persons:,} persons{newer} (off-policy, 95 %):"
    )
    rows: list[tuple[str, ...]] = []
    for name in ("ips", "snips", "dm", "dr"):
        alone = [_estimate(one.estimates.get(name), ".4f") for one in (told.a, told.b)]
        apart = _estimate(told.difference.estimates.get(name), "+.4f")
        rows.append((name.upper(), *alone, apart))
    overlaps = [one.overlaps[0] for one in (told.a, told.b)]
    for spoken, field, form in _OVERLAP:
        rows.append((spoken, *(format(getattr(one, field), form) for one in overlaps), ""))
    console.table(("", a.id, b.id, "difference"), rows)
    for whose, one in ((f"model {a.id}", told.a), (f"model {b.id}", told.b)):
        if one.lacks:
            lacks = "; ".join(map(str, one.lacks))
            console.print(f"Nothing is concluded of {whose}: {lacks}.")
    for name in told.flattered:
        console.print(f"Note: model {name} may have learned from some of these decisions.")


def _estimate(one: Estimate | None, form: str) -> str:
    if one is None:
        return "–"
    return f"{one.value:{form}} ({one.low:{form}} to {one.high:{form}})"


def _rows(who: str, figures: Mapping[str, Figure]) -> list[tuple[Any, ...]]:
    return [
        (f"{_SPOKEN[name]}, {who}", _number(one.a), _number(one.b), _difference(one))
        for name, one in figures.items()
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _difference(one: Figure) -> str:
    if one.difference is None:
        return "–"
    return f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
