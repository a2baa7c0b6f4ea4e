"""Customers as commands name them: by the id that a source has for them.

The id is in no message: what goes wrong is kept in logs that nobody erases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from genome_server.errors import Refused
from genome_server.store.rows import CONSENT_PERSONALISATION

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

source_option = click.option(
    "--source", default="app", show_default=True, help="Where the customer's id comes from."
)


def subject_named(store: Store, source: str, customer: str, who: str = "this customer") -> bytes:
    """The subject of a customer of a source. Raises Refused where there is none."""
    subject = store.subject_of(source, customer)
    if subject is None:
        raise Refused(f"{who} is not known: source {source!r} has no customer of this id")
    return subject


def agreed_to_be_shown(store: Store, subject: bytes, who: str = "this customer") -> None:
    """Raises Refused where this customer has not agreed to personalisation."""
    known = store.customer(subject)
    if known is None or not (known.consents or 0) & CONSENT_PERSONALISATION:
        raise Refused(f"{who} has not agreed to personalisation")
