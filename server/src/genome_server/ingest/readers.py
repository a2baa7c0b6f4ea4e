"""Files to rows: which reader reads a file, and what all of them give.

A reader yields one `RawRow` per row of the file, also for a row that it cannot
make sense of: that one carries an error and goes the way of all rejects, while
the rows around it are read on. It raises `ImportRefused` where the file as a
whole is not what it should be. Memory does not grow with the file (YAML apart).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from genome_server.errors import ImportRefused, UsageError
from genome_server.ingest.check import RowError
from genome_server.ingest.kinds import Kind

FORMATS: Final = ("csv", "jsonl", "yaml", "parquet")

_EXTENSIONS: Final = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True)
class RawRow:
    """A row as it was read.

    `line` is its first physical line, counted from 1 (Parquet: its row).
    `values` is what the schema describes, where `error` is None. `raw` is what
    stood there, for the rejects file. `lines` has the lines of single fields
    where the format spreads a row over several.
    """

    line: int
    values: dict[str, Any]
    raw: Any
    error: RowError | None = None
    lines: Mapping[str, int] = field(default_factory=dict)


def format_of(path: Path, given: str | None = None) -> str:
    """The format of a file: as given, or by its extension. Raises UsageError."""
    found = given or _EXTENSIONS.get(path.suffix.lower())
    if found is None:
        hint = " (one JSON object per line: --format jsonl)" if path.suffix == ".json" else ""
        raise UsageError(
            f"{path}: cannot tell the format by the name{hint}; give --format {'|'.join(FORMATS)}"
        )
    if found not in FORMATS:
        raise UsageError(f"{found!r} is no format: one of {', '.join(FORMATS)}")
    return found


def read_rows(path: Path, kind: Kind, format: str | None = None) -> Iterator[RawRow]:  # noqa: A002
    """The rows of a file of a kind.

    Raises UsageError where the format is not known, ImportRefused where the
    file cannot be read as a whole.
    """
    name = format_of(path, format)
    try:
        _check_file(path)
    except OSError as error:
        raise ImportRefused(f"{path}: {error.strerror or error}") from error
    module = importlib.import_module(f"genome_server.ingest.read_{name}")
    rows: Iterator[RawRow] = module.read(path, kind)
    return rows


def _check_file(path: Path) -> None:
    """Refuse what is no file with something in it. Raises ImportRefused, or OSError."""
    if not path.exists():
        raise ImportRefused(f"{path}: there is no such file")
    if path.is_dir():
        raise ImportRefused(f"{path}: is a directory; name the files in it")
    if not path.is_file():
        # It is read more than once, and a pipe can be read once only.
        raise ImportRefused(f"{path}: is a pipe or a device; write it to a file first")
    if path.stat().st_size == 0:
        raise ImportRefused(f"{path}: the file is empty")
    path.open("rb").close()


def without_nulls(value: Any) -> Any:
    """A value without what is null in it: null says nothing."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value if inner is not None]
    return value
