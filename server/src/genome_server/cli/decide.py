"""`genome-server decide`: offers for a whole list."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.errors import UsageError

if TYPE_CHECKING:
    from genome_server.bulk.order import Outcome


@click.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--audience", help="Instead of a file: the members of this audience.")
@click.option(
    "--marker",
    "markers",
    multiple=True,
    help="Instead of a file: customers with this profile marker; several: with any of them.",
)
@click.option("--all", "everybody", is_flag=True, help="Instead of a file: all customers.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The result: .parquet or .csv."
)
@click.option("--placement", default="", help="Where it is shown, where a row does not say it.")
@click.option(
    "--slots",
    type=click.IntRange(1, 64),
    default=1,
    help="Slots of a decision, where a row does not say it.  [default: 1]",
)
@click.option(
    "--moment",
    multiple=True,
    metavar="FIELD=VALUE",
    help="What holds for every row that does not say it, such as channel=email or stage=after.",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="NAME=N",
    help="Show this offer, or the offers of this campaign, at most N times in all of the list.",
)
@click.option("--source", default="app", help="Whose the customer ids are.  [default: app]")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl", "yaml", "parquet"]),
    help="Format of the file.  [default: by extension]",
)
@click.option(
    "--resume", is_flag=True, help="Go on with a run that was stopped, where there is one."
)
@click.option("--dry-run", is_flag=True, help="Decide, and log nothing.")
@click.option(
    "--at",
    metavar="TIME",
    help="When the run counts as made, a time with its offset.  [default: now]",
)
@click.option(
    "--reporter",
    default="",
    metavar="AUDIENCE",
    help="Thin clients of this audience may report what follows.  [default: that of the list, or "
    "the only one]",
)
@common_options
def command(
    console: Console,
    at: str | None,
    format_: str | None,
    **said: Any,
) -> None:
    """Decide for a list, from the newest release, and write the result to --out.

    The list is a FILE of moments (see: genome-server schema moments), or a
    segment. Every decision is logged, so that what follows can be learned from;
    caps and budgets are shared by the whole list, in its order. Rows that make
    no sense are set aside and reported; the command then ends with 1.

    \b
    genome-server decide receipts.csv --placement receipt --out offers.parquet
    genome-server decide --audience members --placement newsletter \\
        --moment channel=email --budget spring=5000 --out mails.csv
    """
    from genome_server.bulk.order import Order
    from genome_server.bulk.run import decide_list

    order = Order(format=format_, at_ms=_time_ms(at), **said)
    tenant = console.tenant()
    with closing(tenant.open_store()) as store, console.progress("Deciding") as advance:
        outcome = decide_list(tenant, store, order, advance)
    console.result(outcome.as_json(), lambda: _print(console, outcome))
    if not outcome.whole:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _time_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise UsageError(f"--at {text!r} is no time with its offset: 2026-03-01T18:05:00+01:00")
    return round(at.timestamp() * 1000)


def _print(console: Console, outcome: Outcome) -> None:
    for reject in outcome.rejects:
        console.note(str(reject))
    more = outcome.rejected - len(outcome.rejects)
    if more:
        console.note(f"… and {more:,} more in {outcome.rejects_file}")
    if outcome.refused:
        console.note(f"refused: {outcome.refused}")
    for note in outcome.notes:
        console.note(f"note: {note}")
    for name, times in outcome.unknown.most_common(5):
        console.note(f"note: {name} is not known to release {outcome.release} ({times:,} times)")
    console.print(
        f"{outcome.out}: {outcome.rows_in:,} rows in = {outcome.decided:,} decided + "
        f"{outcome.rejected:,} set aside; {outcome.shown:,} offers shown, "
        f"{outcome.genomes:,} genomes used, {outcome.per_second:,.0f} rows a second"
    )
    if outcome.resumed:
        console.print(f"  {outcome.resumed:,} of them were done before")
    reasons = ", ".join(f"{name} {count:,}" for name, count in outcome.reasons.most_common())
    console.print(f"  slots: {reasons or 'none'}")
    for name, budget in outcome.budgets.items():
        console.print(
            f"  budget {name}: {budget['limit'] - budget['left']:,} of {budget['limit']:,} spent"
        )
    if outcome.rejects_file:
        console.print(f"  set aside in {outcome.rejects_file}")
    at = datetime.fromtimestamp(outcome.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    logged = "logged" if outcome.logged else "a dry run: nothing is logged"
    console.print(f"  release {outcome.release}, as of {at}; {logged}")
