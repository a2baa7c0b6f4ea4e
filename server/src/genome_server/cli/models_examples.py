"""`genome-server models examples`: what a model of one's own is trained on."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import click

from genome_server.cli.output import Console, common_options


@click.command("examples")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@common_options
def command(console: Console, folder: Path) -> None:
    """Write what a model of your own is trained on into FOLDER.

    vocabulary.json says how markers are numbered, offers.parquet what offers are made of, and
    examples.parquet what was offered to whom and when, and how it ended: the same that `train`
    learns from, of customers who agreed to learning. Persons are numbers, not ids; keep the
    files as carefully as the log all the same.
    """
    from genome_server.models.own_examples import read_examples, write_examples

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        with console.progress("Reading the log") as advance:
            examples, _ = read_examples(tenant, store, time.time_ns() // 1_000_000, advance)
        written = write_examples(folder, store, examples)

    def render() -> None:
        console.print(
            f"{written['examples']:,} examples, {written['offers']:,} offers and "
            f"{written['markers']:,} markers are in {folder}."
        )

    console.result({"folder": str(folder), **written}, render)
