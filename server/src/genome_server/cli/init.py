"""`genome-server init`: a home, a tenant, its keys."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import Console, common_options

if TYPE_CHECKING:
    from genome_server.setup import Setup


@click.command()
@common_options
def command(console: Console) -> None:
    """Make a home and a tenant, or complete one; what is there already stays as it is.

    Makes the store and the log, keys for roots, releases, timestamps, credentials
    and presence tokens (readable by you alone: back them up), dna.yaml with the DNA
    schema to edit, and the audience "all" of all customers.
    """
    from genome_server.setup import set_up

    tenant = console.tenant()
    done = set_up(tenant)
    with closing(tenant.open_store()) as store:
        first = store.release() is None
    data = {
        "home": str(console.home.root),
        "tenant": tenant.name,
        "made": done.made,
        "present": done.present,
    }
    console.result(data, lambda: _print(console, tenant.name, done, first))


def _print(console: Console, name: str, done: Setup, first: bool) -> None:
    if not done.made:
        console.print(f"Tenant {name!r} is complete; nothing to do.")
        return
    console.print(f"Tenant {name!r} in {console.home.root}:")
    for what in done.made:
        console.print(f"  made     {what}")
    for what in done.present:
        console.print(f"  present  {what}")
    if first:
        console.print("Next: genome-server import products FILE (see: genome-server schema KIND)")
