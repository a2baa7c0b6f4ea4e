"""`genome-server uplift`: whom showing helps, learned from who is held out."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.moment import Moment
from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named

if TYPE_CHECKING:
    from genome_server.value.moved import Moved


@click.command("uplift")
@click.argument("campaign")
@click.option("--kind", "kinds", multiple=True, help="What counts.  [default: the goal]")
@click.option(
    "--of", "measure", type=click.Choice(["customers", "amount"]), default="customers",
    show_default=True, help="How many do it, or for how much money each.",
)  # fmt: skip
@click.option(
    "--days", type=click.FloatRange(0, 366, min_open=True),
    help="For so long from the first decision on.  [default: outcome_window_hours, or 7]",
)  # fmt: skip
@click.option("--since", type=Moment(), help="When the hold-out began, or was changed last.")
@click.option("--until", type=Moment(), help="As of this time; later events do not count.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws whom is learned from.")
@click.option("--customer", help="What showing does to this customer.")
@source_option
@click.option(
    "--page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to this file."
)
@common_options
def command(
    console: Console,
    campaign: str,
    kinds: tuple[str, ...],
    measure: str,
    days: float | None,
    since: int | None,
    until: int | None,
    seed: int,
    customer: str | None,
    source: str,
    page: Path | None,
) -> None:
    """Say whom CAMPAIGN helps: a placement with a hold-out, an offer, a campaign of offers.

    Learned from who was shown something and who was held out, by their genomes as they were before,
    and judged on customers that were not learned from. Where the order that is learned is no
    better than none, nothing is said of anybody, and it ends with 1.
    """
    from genome_server.value.moved import Question, ask, expected

    question = Question(campaign, kinds, days, since or 0, until, measure, seed)
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        subject = None
        if customer is not None:
            subject = subject_named(store, source, customer)
            agreed_to_be_shown(store, subject)
        now_ms = time.time_ns() // 1_000_000
        moved = ask(tenant, store, question, now_ms, console.progress)
        data = _json(moved)
        if subject is not None and moved.sure:
            data["customer"] = {"id": customer, "expected": expected(store, moved, subject, now_ms)}
    if page is not None:
        from genome_server.pages import write_private
        from genome_server.value.telling import page_of

        write_private(page, page_of(moved))
        data["page"] = str(page)
    console.result(data, lambda: _print(console, moved, data.get("customer"), page))
    if not moved.sure:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _json(moved: Moved) -> dict[str, Any]:
    found = moved.uplift
    data: dict[str, Any] = {
        "campaign": {"kind": moved.campaign.kind, "name": moved.campaign.name},
        "kinds": list(moved.kinds),
        "of": moved.question.measure,
        "currency": moved.currency,
        "window_days": moved.window_ms / 86_400_000,
        "shown": moved.shown,
        "held_out": moved.held,
        "sure": moved.sure,
    }
    if found is None:
        return data
    data["all"] = vars(found.all)
    data["qini"] = {
        "area": found.area,
        "low": found.low,
        "high": found.high,
        "curve": found.curve.tolist(),
    }
    if moved.sure:
        name = moved.vocabulary.name
        data["fifths"] = [vars(one) for one in found.fifths]
        data["markers"] = [
            {
                "marker": name(one.marker),
                "having": vars(one.having),
                "others": vars(one.others),
                "low": one.low,
                "high": one.high,
            }
            for one in found.markers
        ]
        data["none_of"] = [name(one.marker) for one in found.markers if one.unmoved]
    return data


def _print(
    console: Console, moved: Moved, customer: dict[str, Any] | None, page: Path | None
) -> None:
    from genome_server.value import telling

    for one in telling.sentences(moved):
        console.print(one)
    if moved.uplift is not None and moved.sure:
        console.print()
        console.table(telling.FIFTHS, telling.fifths(moved, moved.uplift))
        console.print()
        console.table(telling.MARKERS, telling.markers(moved, moved.uplift))
        out = telling.left_out(moved)
        if out is not None:
            console.print()
            console.print(out)
    if customer is not None:
        value = customer["expected"]
        console.print()
        console.print(
            "This customer has no genome."
            if value is None
            else f"For this customer {telling.amount(moved, value)} is expected."
        )
    if page is not None:
        console.note(f"page: {page}")
