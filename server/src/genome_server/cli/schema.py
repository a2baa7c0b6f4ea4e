"""`genome-server schema`: what the rows of an import look like."""

from __future__ import annotations

import json

import click

from genome_server.cli.output import Console, common_options
from genome_server.ingest.names import KIND_NAMES


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice((*KIND_NAMES, "moments")))
@click.option(
    "--example",
    type=click.Choice(["csv", "jsonl", "yaml"]),
    help="Print an example with every field instead; what the fields mean goes to standard error.",
)
@common_options
def command(console: Console, kind: str, example: str | None) -> None:
    """Print the JSON Schema of a KIND of row, or an example of it.

    KIND is products, contents, places, placements, offers, customers, loyalty,
    links, signals, browsing, visits, interactions or moments, which are the rows
    of the lists of genome-server decide.

    \b
    genome-server schema offers
    genome-server schema offers --example yaml > offers.yaml
    """
    from genome_server.bulk.kind import MOMENTS
    from genome_server.ingest import describe
    from genome_server.ingest.kinds import KINDS

    chosen = {**KINDS, MOMENTS.name: MOMENTS}[kind]
    if example is None:
        click.echo(json.dumps(chosen.schema, ensure_ascii=False, indent=2))
        return
    if example == "yaml":
        text = describe.example_yaml(chosen)
    else:
        # These formats have no comments, and what is printed should be importable.
        console.note(describe.comments(chosen))
        text = describe.example_csv(chosen) if example == "csv" else describe.example_jsonl(chosen)
    console.result(
        {"kind": kind, "format": example, "example": text}, lambda: click.echo(text, nl=False)
    )
