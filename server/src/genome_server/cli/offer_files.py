"""Checking offers in files, without importing them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.engine.offer_check import check_fit, check_offer
from edge_sdk.engine.offers import InvalidDocument
from genome_edge.v1 import release_pb2
from genome_server.documents import offer_spec, placement_spec
from genome_server.errors import ImportRefused
from genome_server.ingest.assets import take_assets
from genome_server.ingest.canonical import canonical
from genome_server.ingest.check import RowError
from genome_server.ingest.check import check as check_row
from genome_server.ingest.dna import problem_error, row_error
from genome_server.ingest.kinds import KINDS
from genome_server.ingest.loose_ends import Names
from genome_server.ingest.readers import RawRow, format_of, read_rows
from genome_server.ingest.rejects import Reject, line_of
from genome_server.ingest.repeats import Repeats
from genome_server.ingest.worth import beyond_offer
from genome_server.value.pricing import losses

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store


_OFFERS = KINDS["offers"]


@dataclass
class Checked:
    """What was found, over all files: `problems` and `refused` files are to be mended, `notes` are
    on what may be meant."""

    rows: int = 0
    problems: list[Reject] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[Reject] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "rows": self.rows,
            "problems": [vars(problem) for problem in self.problems],
            "refused": self.refused,
            "notes": [vars(note) for note in self.notes],
        }


def check_files(tenant: Tenant, files: Sequence[Path], format_: str | None) -> Checked:
    """Check all offers in files: by all that import and publish would refuse or note.

    A tenant that does not exist is no obstacle. Raises UsageError where a format is not known.
    """
    for path in files:
        format_of(path, format_)
    known = None
    if tenant.exists:
        with closing(tenant.open_store()) as store:
            known = known_names(store)
    checked = Checked()
    now_ms = time.time_ns() // 1_000_000
    for path in files:
        seen = Repeats(_OFFERS)
        try:
            for raw in read_rows(path, _OFFERS, format_):
                checked.rows += 1
                try:
                    read = _offer(path, raw, seen)
                except RowError as error:
                    checked.problems.append(_at(path, raw, error))
                    continue
                if read is None:
                    continue
                row, spec = read
                found = known.problems(spec, now_ms) if known else problems_of(spec, now_ms)
                checked.problems += [_at(path, raw, problem_error(one)) for one in found]
                notes = [*(known.notes(spec) if known else ()), *losses(row)]
                checked.notes += [_at(path, raw, problem_error(one)) for one in notes]
        except ImportRefused as error:
            checked.refused.append(str(error))
    return checked


def problems_of(spec: release_pb2.OfferSpec, now_ms: int) -> list[str]:
    """What is wrong with an offer whatever else is imported, each as "field: sentence"."""
    return [*beyond_offer(spec), *check_offer(spec, now_ms=now_ms)]


@dataclass(frozen=True)
class Known:
    """What is imported besides offers."""

    placements: Sequence[release_pb2.PlacementSpec]
    names: Names

    def problems(self, spec: release_pb2.OfferSpec, now_ms: int) -> list[str]:
        """Everything that keeps an offer from being shown now or later, each as "field: sentence".

        One placement that does not exist is a problem even beside others that do: it is a typo.
        Where there are no placements at all, they may come later.
        """
        found = problems_of(spec, now_ms)
        if self.placements:
            found += self.names.unknown_placements(spec)
        return found or check_fit(spec, self.placements)

    def notes(self, spec: release_pb2.OfferSpec) -> Iterator[str]:
        """What may be meant, each as "field: sentence"."""
        if not self.placements:
            yield from self.names.unknown_placements(spec)
        yield from self.names.unknown_places(spec)


def known_names(store: Store) -> Known:
    """What offers may name."""
    placements = [placement_spec(document) for _, document in store.documents("placement")]
    return Known(placements, Names.of((), placements, store.documents("place")))


def _offer(
    path: Path, raw: RawRow, seen: Repeats
) -> tuple[dict[str, Any], release_pb2.OfferSpec] | None:
    """A row and its offer; None where an earlier row of the file said the same. Raises RowError."""
    if raw.error is not None:
        raise raw.error
    check_row(_OFFERS, raw.values)
    row = canonical(_OFFERS, raw.values)
    if seen.repeats(raw.line, row["id"], row):
        return None
    assets = take_assets(row, path.parent, None)
    try:
        return row, offer_spec({**row, "assets": assets})
    except InvalidDocument as error:
        raise row_error(error) from error


def _at(path: Path, raw: RawRow, error: RowError) -> Reject:
    return Reject(str(path), line_of(raw, error), error.column, error.cause)
