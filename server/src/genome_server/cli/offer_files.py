"""Checking offers in files, without importing them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.engine.offer_check import check_fit, check_offer
from edge_sdk.engine.offers import InvalidDocument, offer_from_document, placement_from_document
from genome_edge.v1 import release_pb2
from genome_server.errors import ImportRefused
from genome_server.ingest.assets import take_assets
from genome_server.ingest.canonical import canonical
from genome_server.ingest.check import RowError
from genome_server.ingest.check import check as check_row
from genome_server.ingest.dna import problem_error, row_error
from genome_server.ingest.kinds import KINDS
from genome_server.ingest.readers import RawRow, format_of, read_rows
from genome_server.ingest.rejects import Reject

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store


@dataclass
class Checked:
    """What was found, over all files."""

    rows: int = 0
    problems: list[Reject] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "rows": self.rows,
            "problems": [vars(problem) for problem in self.problems],
            "refused": self.refused,
        }


def check_files(tenant: Tenant, files: Sequence[Path], format_: str | None) -> Checked:
    """Check all offers in files; a tenant that does not exist is no obstacle.

    Raises UsageError where a format is not known.
    """
    for path in files:
        format_of(path, format_)
    known = Known()
    if tenant.exists:
        with closing(tenant.open_store()) as store:
            known = known_names(store)
    checked = Checked()
    now_ms = time.time_ns() // 1_000_000
    for path in files:
        try:
            for raw in read_rows(path, KINDS["offers"], format_):
                checked.rows += 1
                checked.problems += [
                    Reject(str(path), raw.line, error.column, error.cause)
                    for error in _problems(path, raw, known, now_ms)
                ]
        except ImportRefused as error:
            checked.refused.append(str(error))
    return checked


@dataclass(frozen=True)
class Known:
    """What is imported besides offers; None where nothing of the kind is."""

    placements: Sequence[release_pb2.PlacementSpec] = ()
    places: Collection[str] | None = None

    def problems(self, spec: release_pb2.OfferSpec, now_ms: int) -> list[str]:
        """Everything that keeps an offer from being shown now or later; see `check_offer`."""
        names = {one.id for one in self.placements} or None
        found = check_offer(spec, places=self.places, placements=names, now_ms=now_ms)
        return found or check_fit(spec, self.placements)


def known_names(store: Store) -> Known:
    """What offers may name."""
    return Known(
        [placement_from_document(document) for _, document in store.documents("placement")],
        {document["kind"] for _, document in store.documents("place")} or None,
    )


def _problems(path: Path, raw: RawRow, known: Known, now_ms: int) -> list[RowError]:
    try:
        if raw.error is not None:
            raise raw.error
        check_row(KINDS["offers"], raw.values)
        row = canonical(KINDS["offers"], raw.values)
        assets = take_assets(row, path.parent, None)
        spec = offer_from_document({**row, "assets": assets})
    except RowError as error:
        return [error]
    except InvalidDocument as error:
        return [row_error(error)]
    return [problem_error(problem) for problem in known.problems(spec, now_ms)]
