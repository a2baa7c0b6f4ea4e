"""Arms of placements as they are imported: what cannot be is told with the row that makes it so.

A file may name an arm before the arm's own row: placements are looked at together with those that
are written with them, and with those that the store has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_sdk.engine.arms import troubles
from genome_server.documents import placement_spec
from genome_server.ingest.check import RowError
from genome_server.ingest.nearest import KnownIds

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

Document = Mapping[str, Any]


def impossible(store: Store, documents: Sequence[Document]) -> dict[int, RowError]:
    """By position, why placements cannot be written; the others can, without them."""
    kept = dict(store.documents("placement"))
    found: dict[int, RowError] = {}
    while True:
        rows = {doc["id"]: at for at, doc in enumerate(documents) if at not in found}
        known = kept | {name: documents[at] for name, at in rows.items()}
        told = _told(known, rows)
        if not told:
            return found
        found |= told  # without these others may be in trouble, too


def _told(known: Mapping[str, Document], rows: Mapping[str, int]) -> dict[int, RowError]:
    ids = KnownIds("placement", known)
    found: dict[int, RowError] = {}
    for placement, arm, trouble in troubles(map(placement_spec, known.values())):
        if placement in rows:
            why = f"{arm!r} {trouble}"
            if arm not in ids:
                why = f"{ids.unknown(arm)}; it may be in the same file"
            found.setdefault(rows[placement], RowError(f"experiment.arms.{arm}", why))
        elif arm in rows:
            why = f"it is an arm of {placement!r}, and arms have none themselves"
            found.setdefault(rows[arm], RowError("experiment", why))
    return found
