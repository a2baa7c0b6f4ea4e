"""`genome-server lift`: what showing offers brings, against who is held out; what arms bring."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genome_server.cli.moment import Moment
from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.cli.share import Share

if TYPE_CHECKING:
    from genome_server.lift.job import Answer


@click.command("lift")
@click.argument("campaign")
@click.option("--kind", "kinds", multiple=True, help="What counts.  [default: the goal]")
@click.option(
    "--own-products", is_flag=True,
    help="Only what was done with products that the offers name (`products`).",
)  # fmt: skip
@click.option(
    "--days", type=click.FloatRange(0, 366, min_open=True),
    help="For so long from the first decision on.  [default: outcome_window_hours, or 7]",
)  # fmt: skip
@click.option("--since", type=Moment(), help="When the hold-out began, or was changed last.")
@click.option("--until", type=Moment(), help="As of this time; later events do not count.")
@click.option(
    "--effect", type=Share(least=0.001, most=100), default=0.1, show_default="10%",
    help="The lift for which it is told when there will be customers enough.",
)  # fmt: skip
@click.option("--by", metavar="NAMESPACE", help="By segment: markers of profiles, such as age.")
@click.option(
    "--page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to this file."
)
@click.option(
    "--arms", is_flag=True,
    help="Compare each arm of placement CAMPAIGN with the placement itself.",
)  # fmt: skip
@common_options
def command(
    console: Console,
    campaign: str,
    kinds: tuple[str, ...],
    own_products: bool,
    days: float | None,
    since: int | None,
    until: int | None,
    effect: float,
    by: str | None,
    page: Path | None,
    arms: bool,
) -> None:
    """Say what CAMPAIGN brings: a placement with a hold-out, an offer, a campaign of offers.

    Compared are customers who were shown something with those who would have been and were held
    out: what they did afterwards, whether or not a decision is named. The interval at every look
    may be looked at daily. It ends with 1 where the groups cannot be a fair draw.

    With --arms, each arm of an experiment is compared in the same way with those who stay with the
    placement that has the arms.
    """
    from genome_server.lift.job import Question, ask, ask_arms

    question = Question(campaign, kinds, days, since or 0, until, effect, by, own_products)
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        now_ms = time.time_ns() // 1_000_000
        if arms:
            answers = ask_arms(tenant, store, question, now_ms, console.progress)
        else:
            answers = [ask(tenant, store, question, now_ms, console.progress)]
    told = [answer.to_json() for answer in answers]
    data = {"experiment": answers[0].campaign.experiment, "arms": told} if arms else told[0]
    if page is not None:
        from genome_server.lift.page import page_of
        from genome_server.pages import write_private

        write_private(page, page_of(*answers))
        data["page"] = str(page)
    console.result(data, lambda: _print(console, answers, page))
    if not all(answer.verdict.fair for answer in answers):
        raise click.exceptions.Exit(EXIT_REFUSED)


def _print(console: Console, answers: list[Answer], page: Path | None) -> None:
    for number, answer in enumerate(answers):
        if number:
            console.print()
        _print_one(console, answer)
    if page is not None:
        console.note(f"page: {page}")


def _print_one(console: Console, answer: Answer) -> None:
    from genome_server.lift import telling

    console.print(telling.headline(answer))
    for one in telling.warnings(answer):
        console.print(f"\nDO NOT BELIEVE THIS: {one}.")
    console.print()
    columns = len(telling.GROUPS) if answer.money else len(telling.GROUPS) - 1
    rows = [row[:columns] for row in telling.groups(answer)]
    console.table(telling.GROUPS[:columns], rows)
    console.print()
    if answer.verdict.outcomes:
        console.table(telling.LIMITS, telling.limits(answer))
        console.print()
        for outcome in answer.verdict.outcomes:
            console.print(telling.picture(outcome))
        console.print()
    for one in telling.findings(answer):
        console.print(one)
    due = telling.dues(answer)
    if due:
        console.print()
        console.table(telling.DUES, due)
    if answer.verdict.segments is not None:
        console.print()
        rows = telling.segments(answer)
        if rows:
            console.table(telling.segments_heading(answer), rows)
        console.print(telling.of_segments(answer))
    console.print()
    for one in telling.notes(answer):
        console.print(f"Note: {one}.")
