"""The embedded store: one SQLite file per tenant.

Put together from rooms that share one set of connections: people, reference
data, genomes and audiences, what counts for caps, the fleet, releases.
"""

from __future__ import annotations

from genome_server.store.counted import Counted
from genome_server.store.fleet import Fleet
from genome_server.store.genomes import Genomes
from genome_server.store.reference import Reference
from genome_server.store.releases import Releases
from genome_server.store.sources import Sources


class SqliteStore(Genomes, Counted, Sources, Reference, Fleet, Releases):
    """Everything of one tenant except the log, in one SQLite file."""
