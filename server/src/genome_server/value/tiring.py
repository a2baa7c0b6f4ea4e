"""Saturation of a tenant's offers: from the log to what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from genome_server.errors import Refused
from genome_server.ingest.nearest import KnownIds
from genome_server.models.own_examples import read_examples
from genome_server.value.saturation import Saturation, Seen, told

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store


def ask(
    tenant: Tenant,
    store: Store,
    name: str,
    within_ms: int,
    now_ms: int,
    advance: Callable[..., Any],
) -> Saturation:
    """What the log says of an offer, or of each offer of a campaign, as of `now_ms` (Unix).

    Raises Refused where there is no such offer or campaign, or none of it was shown.
    """
    documents = dict(store.documents("offer"))
    wanted = {one for one, doc in documents.items() if name in (one, doc.get("campaign"))}
    if not wanted:
        tags = {str(doc["campaign"]) for doc in documents.values() if doc.get("campaign")}
        raise Refused(KnownIds("offer or campaign", {*documents, *tags}).unknown(name))
    examples, _ = read_examples(tenant, store, now_ms, advance)
    of_row = np.array([offer in wanted for offer in examples.offers.ids], bool)
    rows = np.flatnonzero(of_row[examples.offer])
    if not len(rows):
        raise Refused(f"{name!r} was not shown yet to anybody of whom may be learned")
    seen = Seen(
        person=examples.person[rows].astype(np.int64),
        offer=examples.offer[rows].astype(np.int64),
        time_ms=examples.time_ms[rows],
        success=examples.label[rows].astype(np.float64),
        weight=examples.stands_for[rows].astype(np.float64),
    )
    return told(seen, within_ms)
