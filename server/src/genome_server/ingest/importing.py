"""Several files of one kind, and what to say about them together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.engine.offers import offer_from_document, placement_from_document, rings_of
from edge_sdk.engine.zones import zone_trouble
from genome_server.ingest.importer import FileReport, import_file
from genome_server.ingest.kinds import kind_named
from genome_server.ingest.nearest import KnownIds
from genome_server.ingest.readers import format_of

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

_COUNTS = ("rows_in", "new", "changed", "unchanged", "rejected")
_SHOWN_NOTES = 10

#: `meta` key of when an import last changed a kind, in Unix milliseconds.
CHANGED_KEY = "imported_ms:"


@dataclass
class Outcome:
    """What became of all files."""

    kind: str
    reports: list[FileReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every row of every file went in."""
        return all(report.whole for report in self.reports)

    def total(self, name: str) -> int:
        """The sum of a count over all files."""
        return sum(int(getattr(report, name)) for report in self.reports)

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it; the counts add up, for each file and in all."""
        return {
            "kind": self.kind,
            **{name: self.total(name) for name in _COUNTS},
            "files": [report.as_json() for report in self.reports],
            "notes": self.notes,
        }


def import_files(
    tenant: Tenant,
    store: Store,
    kind: str,
    files: Sequence[Path],
    *,
    format: str | None = None,  # noqa: A002
    create_customers: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Import files one after the other; one that is refused does not stop the next.

    Raises UsageError where a format is not known (before anything is read) and
    SchemaFileError where dna.yaml is broken.
    """
    chosen = kind_named(kind)
    for path in files:
        format_of(path, format)
    outcome = Outcome(kind)
    for path in files:
        report = import_file(
            tenant,
            store,
            chosen,
            path,
            format=format,
            create_customers=create_customers,
            progress=progress,
        )
        outcome.reports.append(report)
        if report.new or report.changed:
            store.set_meta(CHANGED_KEY + kind, str(time.time_ns() // 1_000_000))
    if kind in ("offers", "placements"):
        outcome.notes = loose_ends(store)
    return outcome


def loose_ends(store: Store) -> list[str]:
    """Names in offers and placements that nothing answers to; files may come in any order."""
    documents = store.documents("offer")
    offers = [offer_from_document(document, taken=True) for _, document in documents]
    placements = [placement_from_document(document) for _, document in store.documents("placement")]
    known_offers = KnownIds("offer", (offer.id for offer in offers))
    known_placements = KnownIds("placement", (placement.id for placement in placements))
    known_places = KnownIds("place", {document["kind"] for _, document in store.documents("place")})
    notes = []
    for offer in offers:
        if trouble := zone_trouble(offer.targeting.zone):
            notes.append(f"offer {offer.id!r}: {trouble}")
        notes += [
            f"offer {offer.id!r}: {known_placements.unknown(name)}"
            for name in offer.targeting.placements
            if name not in known_placements
        ]
        if known_places:
            notes += [
                f"offer {offer.id!r}: no place is a {near!r}; it shows only where the app says so"
                for near in offer.targeting.near_places
                if near not in known_places and rings_of(near) is None
            ]
    notes += [
        f"placement {placement.id!r}: {known_offers.unknown(placement.house_offer)}"
        for placement in placements
        if placement.house_offer and placement.house_offer not in known_offers
    ]
    if len(notes) > _SHOWN_NOTES:
        notes[_SHOWN_NOTES:] = [f"and {len(notes) - _SHOWN_NOTES} more of this kind"]
    return notes
