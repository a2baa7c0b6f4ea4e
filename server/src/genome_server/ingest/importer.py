"""One file, from first to last row: read, check, write in chunks, set the bad ones aside.

    report = import_file(tenant, store, KINDS["products"], path)
    assert report.rows_in == report.new + report.changed + report.unchanged + report.rejected

A chunk is written in one transaction, so that an import that is stopped has
written whole chunks, and starting it again finishes it. Rows that may name rows behind them
are one chunk, however many they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genome_server.errors import ImportRefused
from genome_server.ingest.canonical import canonical
from genome_server.ingest.check import RowError, check
from genome_server.ingest.kinds import Kind
from genome_server.ingest.readers import RawRow, read_rows
from genome_server.ingest.rejects import Reject, RejectsFile
from genome_server.ingest.repeats import Repeats
from genome_server.ingest.sinks import Sink, open_sink

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

_CHUNK_ROWS = 2_000
#: Kinds whose rows name each other in any order: only whole files of them can be judged.
_WHOLE = frozenset({"placements"})
#: Rejects that a report carries; the file has all of them.
REPORTED_REJECTS = 20


@dataclass
class FileReport:
    """What became of the rows of one file.

    `refused` says why reading ended where the file as a whole is broken; `notes` are sentences on
    what was made of its rows.
    """

    file: Path
    rows_in: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0
    refused: str | None = None
    rejects: list[Reject] = field(default_factory=list)
    rejects_file: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every row of the file went in."""
        return self.refused is None and self.rejected == 0

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "file": str(self.file),
            "rows_in": self.rows_in,
            "new": self.new,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "rejected": self.rejected,
            "refused": self.refused,
            "rejects": [vars(reject) for reject in self.rejects],
            "rejects_file": str(self.rejects_file) if self.rejects_file else None,
            "notes": self.notes,
        }


def import_file(
    tenant: Tenant,
    store: Store,
    kind: Kind,
    path: Path,
    *,
    format: str | None = None,  # noqa: A002
    create_customers: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> FileReport:
    """Import one file; `progress` is called with the number of rows done since the last call.

    Raises UsageError where the format is not known, SchemaFileError where
    dna.yaml is broken. What is wrong with the file or its rows is in the report.
    """
    report = FileReport(path)
    with RejectsFile(tenant.rejects_dir, kind) as rejects:
        try:
            rows = read_rows(path, kind, format)
            first = next(rows, None)
            if first is None:
                return report
            sink = open_sink(tenant, store, kind.name, path, create=create_customers)
            try:
                _Import(kind, sink, rejects, report, progress).run(first, rows)
            finally:
                report.notes += sink.close()
        except ImportRefused as error:
            report.refused = str(error)
        finally:
            report.rejects_file = rejects.path
    return report


class _Import:
    def __init__(
        self,
        kind: Kind,
        sink: Sink,
        rejects: RejectsFile,
        report: FileReport,
        progress: Callable[[int], None],
    ) -> None:
        self._kind = kind
        self._sink = sink
        self._rejects = rejects
        self._report = report
        self._progress = progress
        self._seen = Repeats(kind)
        self._chunk: list[tuple[RawRow, Any]] = []
        self._whole = kind.name in _WHOLE
        self._since = 0

    def run(self, first: RawRow, rest: Any) -> None:
        try:
            self._take(first)
            for raw in rest:
                self._take(raw)
                if self._since >= _CHUNK_ROWS and not self._whole:
                    self._write()
        finally:
            # Also where the file breaks off: what was read of it is good.
            self._write()

    def _take(self, raw: RawRow) -> None:
        self._report.rows_in += 1
        self._since += 1
        try:
            if raw.error is not None:
                raise raw.error
            check(self._kind, raw.values)
            row = canonical(self._kind, raw.values)
            if self._seen.repeats(raw.line, self._sink.key(row), row):
                self._report.unchanged += 1
            else:
                self._chunk.append((raw, self._sink.prepare(row)))
        except RowError as error:
            self._reject(raw, error)

    def _write(self) -> None:
        chunk, self._chunk = self._chunk, []
        done, self._since = self._since, 0
        if chunk:
            put, refused = self._sink.write([prepared for _, prepared in chunk])
            self._report.new += put.inserted
            self._report.changed += put.changed
            self._report.unchanged += put.unchanged
            for at, error in refused:
                self._reject(chunk[at][0], error)
        self._progress(done)

    def _reject(self, raw: RawRow, error: RowError) -> None:
        self._report.rejected += 1
        reject = self._rejects.add(self._report.file, raw, error)
        if len(self._report.rejects) < REPORTED_REJECTS:
            self._report.rejects.append(reject)
