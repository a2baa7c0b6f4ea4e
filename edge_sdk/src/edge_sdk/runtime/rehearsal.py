"""A decision before the first: what the first one would have to load, build or touch is there then.

For each placement a moment like those to come is decided, for nobody and for somebody; nothing of
it is counted, recorded or kept but what any decision leaves in the caches of its release. Offers
that are near at one place only are gathered when somebody is there. What writing needs is loaded a
moment later, by `loading.prepare`: no decision waits for it.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import numpy as np

from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY, Genome, Row
from edge_sdk.engine.decide import decide
from edge_sdk.engine.release import Release
from edge_sdk.runtime.live import PERSONALISATION
from edge_sdk.runtime.room import Room
from edge_sdk.slices import rest

_PLACEMENTS: Final = 64
_MARKERS: Final = 16


def rehearse_here(room: Room) -> None:
    """Do what the first decision of the calling thread would do for the first time: numerical
    libraries allocate for each thread, and rows are looked for in a file that is mapped."""
    live = room.live
    if live.release is not None:
        room.customers.visitor(live, NOBODY.hex())
        rehearse(live.release, times=1)


def rehearse(release: Release, times: int = 2) -> None:
    """Decide for each placement as if somebody had asked."""
    context = Context()
    markers = min(_MARKERS, len(release.vocabulary))
    row = Row(
        NOBODY, PERSONALISATION, 0, np.arange(markers, dtype=np.uint32), np.ones(markers, np.uint8)
    )
    for placement in islice(release.placements, _PLACEMENTS):
        for somebody in (False, True) * times:
            genome = Genome(row, release.schema, release.vocabulary) if somebody else None
            consents = PERSONALISATION if somebody else 0
            decide(release, context, placement, genome=genome, consents=consents)
            rest()
