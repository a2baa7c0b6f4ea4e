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
    from genome_server.models.paired import Figure
    from genome_server.models.shelf import Model

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
    """
    from genome_server.models.compare import compare_models
    from genome_server.models.own_examples import read_examples
    from genome_server.models.shelf import find_model, load_model

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        names = [find_model(tenant.models_dir, said) for said in (one, other)]
        if names[0] == names[1]:
            raise UsageError(f"both are model {names[0]}; name two models")
        a, b = (load_model(tenant.models_dir, name) for name in names)
        with console.progress("Reading the log") as advance:
            examples, _ = read_examples(tenant, store, time.time_ns() // 1_000_000, advance)
        with console.progress("Comparing") as advance:
            found = compare_models(a, b, examples, store.vocabulary(), advance)
    data = {
        "models": [{"id": each.id, "report": each.report} for each in (a, b)],
        **found.to_json(),
    }
    console.result(data, lambda: _print(console, a, b, found))


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
