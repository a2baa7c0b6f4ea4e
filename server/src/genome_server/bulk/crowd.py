"""What the store knows of the customers of a list, many at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edge_sdk.dna.genome import NOBODY, Genome
from edge_sdk.errors import FormatError
from genome_server.genomes.rows import row_of
from genome_server.services.deciding import Customer
from genome_server.services.sync_plan import rows_fit
from genome_server.store.protocol import CONSENT_PERSONALISATION

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from genome_server.store.protocol import Store

log = logging.getLogger(__name__)


def crowd(store: Store, release: Release, subjects: Iterable[bytes]) -> dict[bytes, Customer]:
    """The customers of these subjects, those who are still known.

    Consent comes first: without it a genome is not even read.
    """
    wanted = {subject for subject in subjects if subject != NOBODY}
    consents = {one.subject: one.consents or 0 for one in store.customers(wanted)}
    found = {subject: Customer(subject, bits) for subject, bits in consents.items()}
    agreed = [s for s, bits in consents.items() if bits & CONSENT_PERSONALISATION]
    if not agreed or not rows_fit(store, release.manifest.lineage):
        return found
    for record in store.genomes(agreed):
        subject = record.subject
        try:
            genome = Genome(row_of(record), release.schema, release.vocabulary)
        except FormatError:
            log.exception("a genome cannot be read")
            continue
        found[subject] = Customer(subject, consents[subject], genome)
    return found
