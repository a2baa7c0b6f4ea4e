"""The embedded store: one SQLite file per tenant.

Put together from rooms that share one set of connections: people, reference
data, genomes and audiences, the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genome_server.store.fleet import Fleet
from genome_server.store.genomes import Genomes
from genome_server.store.reference import Reference

if TYPE_CHECKING:
    from pathlib import Path

    from genome_server.store.protocol import Store


class SqliteStore(Genomes, Reference, Fleet):
    """Everything of one tenant except the log, in one SQLite file."""


def open_store(path: Path) -> Store:
    """Open the embedded store, made or migrated to what this version needs."""
    return SqliteStore.open(path)
