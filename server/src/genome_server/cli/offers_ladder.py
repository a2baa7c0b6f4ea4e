"""`genome-server offers ladder`: which depth of discount is enough, for whom."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genome_server.value.ladder import Figure
    from genome_server.value.pricing import Rung
    from genome_server.value.rungs import Answer


@click.command("ladder")
@click.argument("ladder")
@click.option("--by", metavar="NAMESPACE", help="By segment: the customers' markers, such as age.")
@click.option("--customer", help="Which rung is enough for this customer.")
@source_option
@common_options
def command(
    console: Console, ladder: str, by: str | None, customer: str | None, source: str
) -> None:
    """Say which depth of LADDER is enough: offers that are the same but for their discount.

    Of each rung: how often it succeeds and what a showing of it leaves, measured in the log and
    weighed by the chance with which it was chosen. And for whom which is enough: the moments in
    which the model prefers a rung, with what became of all rungs there.
    """
    from genome_server.value.rungs import for_customer, ladder_named, measure

    tenant = console.tenant()
    now_ms = time.time_ns() // 1_000_000
    with closing(tenant.open_store()) as store:
        if customer is not None:
            rungs = ladder_named(store, ladder)
            subject = subject_named(store, source, customer)
            agreed_to_be_shown(store, subject)
            chance, best = for_customer(tenant, store, rungs, subject, now_ms)
            told = [
                {**rung._asdict(), "chance": one, "margin": one * rung.worth}
                for rung, one in zip(rungs, chance, strict=True)
            ]
            data = {"ladder": ladder, "customer": customer, "enough": best, "rungs": told}
            console.result(data, lambda: _print_customer(console, told, best))
            return
        with console.progress("Reading the log") as advance:
            answer = measure(tenant, store, ladder, now_ms, advance, by)
    console.result(_json(answer), lambda: _print(console, answer))


def _json(answer: Answer) -> dict[str, Any]:
    found = answer.ladder
    return {
        "ladder": found.name,
        "model": answer.model,
        "moments_learned_from": answer.learned_from,
        "falling": found.falling,
        "rungs": [
            {**rung._asdict(), **asdict(figure)}
            for rung, figure in zip(found.rungs, found.measured, strict=True)
        ],
        "groups": [asdict(group) for group in found.groups],
        "segments": [asdict(segment) for segment in found.segments],
    }


def _print_customer(console: Console, told: list[dict[str, Any]], best: str) -> None:
    rows = [
        (
            one["offer"],
            f"{one['discount']:.0%}",
            f"{one['chance']:.1%}",
            f"{one['margin']:,.3f}",
            "enough" if one["offer"] == best else "",
        )
        for one in told
    ]
    console.table(("offer", "discount", "chance", "left by showing", ""), rows)


def _print(console: Console, answer: Answer) -> None:
    found = answer.ladder
    console.table(
        ("offer", "discount", "left by success", "shown", "to", "succeeds", "left by showing"),
        [
            (
                rung.offer,
                f"{rung.discount:.0%}",
                f"{rung.worth:,.2f}",
                f"{figure.showings:,}",
                f"{figure.persons:,}",
                *_measured(figure),
            )
            for rung, figure in zip(found.rungs, found.measured, strict=True)
        ],
    )
    if found.segments:
        console.print()
        console.table(
            ("segment", "customers", *_leaves(found.rungs), "leaves most"),
            [
                (
                    one.name or "(none)",
                    f"{one.persons:,}",
                    *(_measured(figure)[1] for figure in one.measured),
                    "" if one.most is None else f"{one.most}{'' if one.sure else ' (not surely)'}",
                )
                for one in found.segments
            ],
        )
    if answer.model is None:
        console.note("no model is trained yet: for whom which is enough is not known")
        return
    moments = sum(group.moments for group in found.groups)
    console.print()
    console.print(f"For whom which is enough, by model {answer.model}:")
    console.table(
        (
            "enough",
            "moments",
            "customers",
            *_leaves(found.rungs),
        ),
        [
            (
                f"{_depth(found.rungs, group.enough):.0%}",
                f"{group.moments / moments:.0%}",
                f"{group.persons:,}",
                *(_measured(figure)[1] for figure in group.measured),
            )
            for group in found.groups
        ],
    )
    if answer.learned_from:
        console.note(
            f"the model may have learned from {answer.learned_from:,} of {moments:,} moments: "
            "they flatter it"
        )
    if found.falling:
        console.note(
            f"in {found.falling:.0%} of the moments the model gives a deeper rung a smaller chance"
        )


def _leaves(rungs: Sequence[Rung]) -> list[str]:
    return [f"{rung.discount:.0%} leaves" for rung in rungs]


def _depth(rungs: Sequence[Rung], offer: str) -> float:
    return next(rung.discount for rung in rungs if rung.offer == offer)


def _measured(figure: Figure) -> tuple[str, str]:
    if figure.chance is None or figure.margin is None:
        return "too few", "too few"
    (rate, low, high), (left, least, most) = figure.chance, figure.margin
    return (
        f"{rate:.1%} ({low:.1%} to {high:.1%})",
        f"{left:,.3f} ({least:,.3f} to {most:,.3f})",
    )
