"""`genome-server customers`: what is known of one customer, and presence tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.devices import span_ms
from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import source_option, subject_named
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
)

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

_CONSENTS = {
    "personalisation": CONSENT_PERSONALISATION,
    "learning": CONSENT_LEARNING,
    "location": CONSENT_LOCATION,
}


@click.group("customers")
def command() -> None:
    """Show a customer, and make presence tokens."""


@command.command("show")
@click.argument("customer")
@source_option
@common_options
def show(console: Console, customer: str, source: str) -> None:
    """Show a customer's consents, audiences and genome row, by the source's own id.

    The row is what devices get: a strength there is a byte, so it comes in steps, and a fact that
    weighs 1.000 may stand there with 1.189. `genomes show` has the strengths themselves.
    """
    store = console.tenant().open_store()
    try:
        facts = _facts(store, subject_named(store, source, customer))
    finally:
        store.close()

    def render() -> None:
        console.print(f"subject    {facts['subject']}")
        console.print(f"agreed to  {', '.join(facts['consents']) or 'nothing'}")
        console.print(f"audiences  {', '.join(facts['audiences']) or 'none'}")
        console.table(
            ("marker", "strength in the row (a byte)"),
            [(marker, f"{strength:.3f}") for marker, strength in facts["genome"].items()],
        )

    console.result(facts, render)


@command.command("token")
@click.argument("customer")
@source_option
@click.option(
    "--ttl",
    "ttl_ms",
    callback=span_ms,
    default="10m",
    show_default=True,
    help="How long it is valid.",
)
@common_options
def token(console: Console, customer: str, source: str, ttl_ms: int) -> None:
    """Make a presence token: what a card or a phone shows a kiosk to say who is here."""
    from genome_server.services.credentials import presence_token

    tenant = console.tenant()
    store = tenant.open_store()
    try:
        subject = subject_named(store, source, customer)
    finally:
        store.close()
    until_ms = time.time_ns() // 1_000_000 + ttl_ms
    made = presence_token(tenant.presence_key_path.read_bytes(), subject, until_ms)
    console.result({"token": made, "expires_ms": until_ms}, lambda: console.print(made))


def _facts(store: Store, subject: bytes) -> dict[str, Any]:
    from edge_sdk.dna.genome import Genome
    from genome_server.genomes.rows import built_schema, row_of

    known = store.customer(subject)
    consents = (known.consents or 0) if known is not None else 0
    record, schema = store.genome(subject), built_schema(store)
    genome: dict[str, float] = {}
    if record is not None and schema is not None:
        known_genome = Genome(row_of(record), schema, store.vocabulary())
        genome = dict(known_genome.strengths(record.newest_hour))
    return {
        "subject": subject.hex(),
        "consents": [name for name, bit in _CONSENTS.items() if consents & bit],
        "audiences": [a.name for a in store.audiences() if store.is_member(a.name, subject)],
        "genome": genome,
    }
