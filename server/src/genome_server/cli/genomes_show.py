"""`genome-server genomes show`: the genome of one customer."""

from __future__ import annotations

from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named
from genome_server.errors import Refused

if TYPE_CHECKING:
    from genome_server.store.protocol import Store


@click.command("show")
@click.argument("customer")
@source_option
@common_options
def command(console: Console, customer: str, source: str) -> None:
    """Show the genome of CUSTOMER: markers by namespace, with strengths, and as of when."""
    with closing(console.tenant().open_store()) as store:
        subject = subject_named(store, source, customer)
        agreed_to_be_shown(store, subject, customer)
        facts = _facts(store, subject)

    def render() -> None:
        console.print(f"as of {facts['as_of']}")
        for namespace, markers in facts["markers"].items():
            console.print(namespace)
            for value, strength in markers.items():
                console.print(f"  {strength:8.3f}  {value}")

    console.result({"customer": customer, **facts}, render)


def _facts(store: Store, subject: bytes) -> dict[str, Any]:
    import datetime as dt

    from edge_sdk.dna.genome import Genome
    from genome_server.genomes.rows import built_schema, row_of

    record, schema = store.genome(subject), built_schema(store)
    if record is None or schema is None:
        raise Refused("there is no genome yet; make them with: genome-server build")
    genome = Genome(row_of(record), schema, store.vocabulary())
    strengths = [
        (*name.split(":", 1), strength) for name, strength in genome.strengths(record.newest_hour)
    ]
    strengths.sort(key=lambda fact: (fact[0], -fact[2], fact[1]))
    as_of = dt.datetime.fromtimestamp(record.newest_hour * 3600, tz=dt.UTC)
    return {
        "as_of": as_of.isoformat(timespec="minutes"),
        "markers": {
            namespace: {value: round(strength, 6) for _, value, strength in facts}
            for namespace, facts in groupby(strengths, key=lambda fact: fact[0])
        },
    }
