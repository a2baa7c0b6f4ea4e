"""`genome-server import`: files into the store and the log."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.ingest.names import KIND_NAMES

if TYPE_CHECKING:
    from genome_server.ingest.importer import FileReport

_OF_CUSTOMERS = ("signals", "browsing", "visits", "interactions")
_COUNTS = ("rows_in", "new", "changed", "unchanged", "rejected")


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(KIND_NAMES))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl", "yaml", "parquet"]),
    help="Format of the files.  [default: by extension]",
)
@click.option(
    "--create-customers",
    is_flag=True,
    help="Signals, browsing, visits, interactions: make customers that are not known, instead of "
    "setting the row aside.",
)
@common_options
def command(
    console: Console,
    kind: str,
    files: tuple[Path, ...],
    format_: str | None,
    create_customers: bool,
) -> None:
    """Import FILES of a KIND: CSV, JSON Lines, YAML or Parquet.

    KIND is products, contents, places, placements, offers, customers, loyalty,
    links, signals, browsing, visits or interactions; import them in this order,
    since rows are refused that name what is not known.

    Good rows go in; bad ones are reported by file, line, column and cause, and
    kept aside in a rejects file. Importing a file twice changes nothing. Ends
    with 1 where any row was set aside or any file was refused.

    \b
    genome-server schema products --example csv > products.csv
    genome-server import products products.csv
    """
    from genome_server.ingest.importing import import_files

    if create_customers and kind not in _OF_CUSTOMERS:
        raise click.UsageError(f"--create-customers is for {', '.join(_OF_CUSTOMERS)}")
    tenant = console.tenant()
    with closing(tenant.open_store()) as store, console.progress(f"Importing {kind}") as advance:
        outcome = import_files(
            tenant,
            store,
            kind,
            files,
            format=format_,
            create_customers=create_customers,
            progress=advance,
        )
    console.result(outcome.as_json(), lambda: _print(console, kind, outcome.reports, outcome.notes))
    if not outcome.whole:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _print(console: Console, kind: str, reports: list[FileReport], notes: list[str]) -> None:
    for report in reports:
        for reject in report.rejects:
            console.note(str(reject))
        more = report.rejected - len(report.rejects)
        if more:
            console.note(f"… and {more:,} more in {report.rejects_file}")
        if report.refused:
            console.note(f"refused: {report.refused}")
    for report in reports:
        console.print(f"{report.file}: {_sentence(report)}")
        for note in report.notes:
            console.print(f"  {note}")
        if report.rejects_file:
            console.print(f"  set aside in {report.rejects_file}")
    if len(reports) > 1:
        sums = {name: sum(getattr(report, name) for report in reports) for name in _COUNTS}
        console.print(
            f"{kind} in all: {sums['rows_in']:,} rows in = {sums['new']:,} new + "
            f"{sums['changed']:,} changed + {sums['unchanged']:,} unchanged + "
            f"{sums['rejected']:,} rejected"
        )
    for note in notes:
        console.note(f"note: {note}")


def _sentence(report: FileReport) -> str:
    return (
        f"{report.rows_in:,} rows in = {report.new:,} new + {report.changed:,} changed + "
        f"{report.unchanged:,} unchanged + {report.rejected:,} rejected"
    )
