"""`genome-server models rollback`: the model from before."""

from __future__ import annotations

from contextlib import closing

import click

from genome_server.cli.models_promote import reason_option, say_record
from genome_server.cli.output import Console, common_options


@click.command("rollback")
@reason_option
@common_options
def command(console: Console, reason: str) -> None:
    """Let the next release take the model from before the current one.

    A second rollback goes further back, never forward to what was rolled back from; `models
    promote` does that. Devices follow with `genome-server publish`; a release that is out is
    taken back at once with `genome-server releases rollback`.
    """
    from genome_server.models.shelf import promotions, roll_back_model

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        was = promotions(store).current
        record = roll_back_model(tenant.models_dir, store, reason=reason)
    say_record(console, record, was)
