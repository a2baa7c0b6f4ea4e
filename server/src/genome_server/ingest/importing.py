"""Several files of one kind, and what to say about them together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genome_server.documents import offer_spec, placement_spec
from genome_server.ingest.importer import FileReport, import_file
from genome_server.ingest.kinds import kind_named
from genome_server.ingest.loose_ends import Names, loose_ends
from genome_server.ingest.readers import format_of
from genome_server.value.pricing import losses, odd_ladders

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
        outcome.notes = notes_of(store)
    return outcome


def notes_of(store: Store) -> list[str]:
    """What is loose in all offers and placements that are imported, the first few."""
    documents = list(store.documents("offer"))
    offers = [offer_spec(document, taken=True) for _, document in documents]
    placements = [placement_spec(document) for _, document in store.documents("placement")]
    notes = loose_ends(offers, placements, Names.of(offers, placements, store.documents("place")))
    notes += [f"offer {name!r}: {one}" for name, doc in documents for one in losses(doc)]
    notes += odd_ladders(documents)
    if len(notes) > _SHOWN_NOTES:
        notes[_SHOWN_NOTES:] = [f"and {len(notes) - _SHOWN_NOTES} more of this kind"]
    return notes
