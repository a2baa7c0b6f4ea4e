"""CSV with a header: RFC 4180, UTF-8, commas.

A quoted field may hold commas and line breaks. Where a quote is opened and not
closed, or closed in the wrong place, the reader would take the rows that follow
for one long field; so a record that makes no sense is given back to its first
line, that line is the reject, and reading goes on with the next.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from genome_server.errors import ImportRefused
from genome_server.ingest.check import RowError
from genome_server.ingest.columns import Column, assemble, column_of, known_columns, nearest_column
from genome_server.ingest.kinds import Kind
from genome_server.ingest.readers import RawRow
from genome_server.ingest.text import Line, read_lines

#: Physical lines that one record may take; beyond it, a quote was not closed.
MAX_RECORD_LINES = 200


def read(path: Path, kind: Kind) -> Iterator[RawRow]:
    """The rows of a CSV file. Raises ImportRefused."""
    records = _Records(path)
    header = records.next()
    if header is None:
        raise ImportRefused(f"{path}: the file is empty")
    columns = _header(path, kind, header)
    while (record := records.next(len(columns))) is not None:
        if not any(cell.strip() for cell in record.cells) and record.problem is None:
            continue  # a blank line, or one of commas alone: it says nothing
        yield _row(columns, record)


class _Record:
    """One record: its first line, its cells, or why it has none."""

    def __init__(self, line: int, cells: list[str], problem: str | None, text: str) -> None:
        self.line = line
        self.cells = cells
        self.problem = problem
        self.text = text


class _Records:
    """Records one by one, with the way back to the first line of one that makes no sense."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)
        self._waiting: deque[Line] = deque()
        self._taken: list[Line] = []

    def next(self, width: int | None = None) -> _Record | None:
        """The next record, or None at the end; one of another width that spans lines is split."""
        self._taken = []
        try:
            cells = next(csv.reader(self._feed(), strict=True), None)
            problem = None
        except csv.Error as error:
            cells, problem = [], _explain(str(error), len(self._taken))
        if not self._taken:
            return None
        spans = len(self._taken) > 1
        if spans and (problem or (width is not None and len(cells or []) != width)):
            # Keep the first line as the reject; what followed may be good rows.
            self._waiting.extendleft(reversed(self._taken[1:]))
            self._taken = self._taken[:1]
            cells, problem = [], problem or _explain("", 2)
        first = self._taken[0]
        bad = next((line.bad for line in self._taken if line.bad), None)
        text = "".join(line.text for line in self._taken).rstrip("\r\n")
        return _Record(first.number, cells or [], bad or problem, text)

    def _feed(self) -> Iterator[str]:
        while True:
            line = self._waiting.popleft() if self._waiting else next(self._lines, None)
            if line is None:
                return
            self._taken.append(line)
            if len(self._taken) > MAX_RECORD_LINES:
                raise csv.Error("unexpected end of data")
            yield line.text


def _explain(error: str, lines: int) -> str:
    if "field limit" in error and lines == 1:
        return f"a field has more than {csv.field_size_limit():,} characters"
    if lines > 1 or "end of data" in error or "field limit" in error:
        return "a quote is opened in this line and not closed where it should be"
    return f"is not CSV: {error}"


def _header(path: Path, kind: Kind, record: _Record) -> list[Column]:
    where = f"{path}:{record.line}"
    if record.problem:
        raise ImportRefused(f"{where}: the header {record.problem}")
    names = [cell.strip() for cell in record.cells]
    if not any(names):
        raise ImportRefused(f"{where}: the first line is blank; it must name the columns")
    known = [column_of(kind, name) for name in names]
    if not any(known):
        _refuse_foreign(where, kind, names)
    for position, (name, column) in enumerate(zip(names, known, strict=True), start=1):
        if not name:
            raise ImportRefused(f"{where}: column {position} has no name")
        if column is None:
            raise ImportRefused(
                f"{where}: column {position}, {name!r}, is no column of {kind.name}; "
                f"{nearest_column(kind, name)}"
            )
        if name in names[: position - 1]:
            raise ImportRefused(f"{where}: the column {name!r} stands twice")
    columns = [column for column in known if column is not None]
    missing = set(kind.required) - {column.path[0] for column in columns}
    if missing:
        raise ImportRefused(
            f"{where}: the column {', '.join(sorted(missing))!r} is missing; "
            f"{kind.name} cannot be without it"
        )
    return columns


def _refuse_foreign(where: str, kind: Kind, names: Sequence[str]) -> None:
    """None of the columns is known: say whether it is the delimiter or the header."""
    for delimiter, spoken in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        parts = delimiter.join(names).split(delimiter)
        if len(parts) > 1 and any(column_of(kind, part.strip(' "')) for part in parts):
            raise ImportRefused(
                f"{where}: the columns are separated by {spoken}; separate them by commas"
            )
    if any(column_of(kind, name.lower()) for name in names):
        return  # only the case is wrong: the nearest name says so
    raise ImportRefused(
        f"{where}: no header: none of {', '.join(map(repr, names[:5]))} is a column of "
        f"{kind.name}; {_first_columns(kind)}"
    )


def _first_columns(kind: Kind) -> str:
    return f"the first line must name the columns: {', '.join(known_columns(kind)[:6])} …"


def _row(columns: list[Column], record: _Record) -> RawRow:
    if record.problem:
        return RawRow(record.line, {}, record.text, RowError("", record.problem))
    cells = record.cells
    if len(cells) != len(columns):
        raise_at = columns[len(cells)].name if len(cells) < len(columns) else ""
        cause = f"has {len(cells)} cells where the header has {len(columns)}"
        return RawRow(record.line, {}, record.text, RowError(raise_at, cause))
    raw = {column.name: cell for column, cell in zip(columns, cells, strict=True)}
    return RawRow(record.line, assemble(columns, cells), raw)
