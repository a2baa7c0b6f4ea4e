"""`dna count`: how many interactions imprint each marker, from the log.

Read as a build reads: what has no DNA, comes twice or is nobody's is not counted. As by a build,
markers that were not met before get their index; nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.dna.markers import BUILTIN_MARKERS
from genome_server.genomes.consents import homes, told
from genome_server.genomes.distinct import Counted
from genome_server.genomes.gather import Gathering
from genome_server.genomes.workplace import failing_as_refused, work_folder
from genome_server.store.rows import CONSENT_LEARNING

if TYPE_CHECKING:
    from edge_sdk.dna.schema import DnaSchema
    from genome_server.log.reader import LogReader
    from genome_server.store.protocol import Store


def count(
    store: Store,
    log: LogReader,
    schema: DnaSchema,
    home: Path,
    progress: Callable[[int], None] | None = None,
) -> Counted:
    """Count what those did who agreed to learning, under a schema; `home` has room for the work.

    Markers that say where somebody lives count as never met. Raises Refused where there is no
    room, LandmarkExhausted, StoreError.
    """
    store.extend_vocabulary(BUILTIN_MARKERS)
    with (
        work_folder(home) as folder,
        failing_as_refused(),
        Gathering(store, schema, folder) as gathering,
    ):
        gathering.read(log, log.end(), progress)
        counted = gathering.carrying(_agreed(store, gathering))
    # The server may have met more markers meanwhile, which are not counted.
    counted.markers[[i for i in homes(store.vocabulary()) if i < len(counted.markers)]] = 0
    return counted


def _agreed(store: Store, gathering: Gathering) -> set[bytes]:
    """Those who agreed that what they do is learnt from, by what the log says last, too."""
    words = gathering.said()
    everybody = ((row.subject, row) for row in store.customers())
    strangers = ((one, None) for one in words)
    found = {one: told(row, one, words.get(one, {})) for one, row in chain(strangers, everybody)}
    return {one for one, row in found.items() if row and (row.consents or 0) & CONSENT_LEARNING}
