"""Rows that an import sets aside, with where they stood and what is wrong with them.

One JSON object per line: file, line, column, cause, row. Coordinates and the keys of links are
left out, since they are kept nowhere; the file that was imported still has them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TextIO

from genome_server.ingest.check import RowError
from genome_server.ingest.kinds import Kind
from genome_server.ingest.readers import RawRow

#: Names under which people write coordinates.
COORDINATES = frozenset(
    {"lat", "lng", "lon", "long", "latitude", "longitude", "coordinates", "gps", "geo", "location"}
)
LEFT_OUT = "(left out)"
_SPOKEN = re.compile(rf"\b({'|'.join(COORDINATES)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Reject:
    """One row that was set aside."""

    file: str
    line: int
    column: str
    cause: str

    def __str__(self) -> str:
        column = f" {self.column}:" if self.column else ""
        return f"{self.file}:{self.line}:{column} {self.cause}"


class RejectsFile:
    """Collects rejects of one import; the file is made with the first of them (mode 0600)."""

    def __init__(self, directory: Path, kind: Kind) -> None:
        self._directory = directory
        self._kind = kind
        self._file: TextIO | None = None
        self.path: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def add(self, path: Path, raw: RawRow, error: RowError) -> Reject:
        """Set a row aside."""
        reject, said = reject_of(self._kind, path, raw, error)
        if self._file is None:
            self._file = self._open()
        self._file.write(said + "\n")
        return reject

    def _open(self) -> TextIO:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = self._directory / f"{self._kind.name}-{at}.jsonl"
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        # A file's name need not be UTF-8; its bytes become escapes, which JSON has too.
        return os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace")


def reject_of(kind: Kind, path: Path, raw: RawRow, error: RowError) -> tuple[Reject, str]:
    """What is wrong with a row: for people, and as the line of JSON that is kept of it."""
    line = line_of(raw, error)
    reject = Reject(str(path), line, error.column, error.cause)
    record = {
        "file": reject.file,
        "line": line,
        "column": error.column,
        "cause": error.cause,
        "row": _without_coordinates(kind, raw.raw),
    }
    return reject, json.dumps(record, ensure_ascii=False, default=str)


def line_of(raw: RawRow, error: RowError) -> int:
    """The line of the field that is wrong, where its format gives it one; else the row's."""
    return raw.lines.get(re.split(r"[.\[]", error.column)[0], raw.line)


def _without_coordinates(kind: Kind, raw: Any) -> Any:
    private = {name for name, schema in kind.properties.items() if schema.get("x-private")}
    if isinstance(raw, Mapping):
        kept = _redacted(raw)
        if private:
            shown = kind.properties.keys() - private
            return {k: v if k in shown else LEFT_OUT for k, v in kept.items()}
        return kept
    if private or _SPOKEN.search(str(raw)):
        return LEFT_OUT
    return raw


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: LEFT_OUT
            if str(name).lower().rpartition(".")[2] in COORDINATES
            else _redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return value
