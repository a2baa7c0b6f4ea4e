"""`genome-server models promote`: the model that the next release takes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import Console, common_options

if TYPE_CHECKING:
    from genome_server.models.promotions import Promotions

reason_option = click.option("--reason", default="", help="Why; kept with the time.")


@click.command("promote")
@click.argument("model", metavar="ID")
@reason_option
@common_options
def command(console: Console, model: str, reason: str) -> None:
    """Let the next release take the model ID.

    Devices get it with `genome-server publish`. Which model was taken when, and why, is kept.
    """
    from genome_server.models.shelf import find_model, promote_model, promotions

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        name = find_model(tenant.models_dir, model)
        was = promotions(store).current
        record = promote_model(tenant.models_dir, store, name, reason=reason)
    say_record(console, record, was)


def say_record(console: Console, record: Promotions, was: str | None) -> None:
    """Say which model is taken now, and which was before."""
    data = {
        "model": record.current,
        "was": was,
        "before": record.before,
        "changed": record.current != was,
    }

    def render() -> None:
        if record.current == was:
            console.print(f"The next release takes model {was} already.")
            return
        instead = f" instead of {was}" if was else ""
        console.print(f"The next release takes model {record.current}{instead}.")
        console.print("To bring it to devices: genome-server publish")

    console.result(data, render)
