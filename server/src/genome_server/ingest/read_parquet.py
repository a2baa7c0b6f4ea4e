"""Parquet: columns as in CSV (dots for nested fields), or nested types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genome_server.errors import ImportRefused
from genome_server.ingest.check import RowError
from genome_server.ingest.columns import Column, assemble, column_of, nearest_column
from genome_server.ingest.kinds import Kind
from genome_server.ingest.readers import RawRow, without_nulls

_BATCH_ROWS = 4_096
_TRAILER = b"PAR1"
# Text that is not UTF-8, days and times out of range, zones that nobody knows.
_UNSAYABLE = (pa.ArrowException, LookupError, OverflowError, ValueError)


def read(path: Path, kind: Kind) -> Iterator[RawRow]:
    """The rows of a Parquet file; `line` is the row. Raises ImportRefused."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        end = file.read(4)
    if start != _TRAILER:
        raise ImportRefused(f"{path}: this is no Parquet file")
    if end != _TRAILER:
        raise ImportRefused(f"{path}: the Parquet file is truncated (its end is missing)")
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(path, kind, file.schema_arrow)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for values, problem in _values(batch):
                    number += 1
                    raw = {name: _plain(value) for name, value in values.items()}
                    row = {} if problem else without_nulls(assemble(columns, list(raw.values())))
                    yield RawRow(number, row, raw, problem)
    except (pa.ArrowException, OSError) as error:
        raise ImportRefused(
            f"{path}: the Parquet file is damaged after row {number}: {str(error).splitlines()[0]}"
        ) from error


def _values(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], RowError | None]]:
    """The rows of a batch; one that holds what Python cannot say costs that row alone."""
    try:
        rows = batch.to_pylist()
    except _UNSAYABLE:
        yield from (_cells(batch, at) for at in range(batch.num_rows))
    else:
        for row in rows:
            yield row, None


def _cells(batch: pa.RecordBatch, at: int) -> tuple[dict[str, Any], RowError | None]:
    values: dict[str, Any] = {}
    problem = None
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[at].as_py()
        except _UNSAYABLE:
            values[name] = None
            problem = problem or RowError(name, f"holds no {column.type} that can be read")
    return values, problem


def _columns(path: Path, kind: Kind, schema: pa.Schema) -> list[Column]:
    columns = []
    for name in schema.names:
        if name == "__index_level_0__":
            raise ImportRefused(
                f"{path}: holds the index of a data frame; write it with index=False"
            )
        column = column_of(kind, name)
        if column is None:
            raise ImportRefused(
                f"{path}: {name!r} is no column of {kind.name}; {nearest_column(kind, name)}"
            )
        columns.append(column)
    if len(set(schema.names)) != len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise ImportRefused(f"{path}: the column {twice!r} stands twice")
    missing = set(kind.required) - {column.path[0] for column in columns}
    if missing:
        raise ImportRefused(
            f"{path}: the column {', '.join(sorted(missing))!r} is missing; "
            f"{kind.name} cannot be without it"
        )
    return columns


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    match value:
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            # Keys of databases are often decimals, with more digits than a float has.
            return int(value) if value == value.to_integral_value() else float(value)
        case float() if math.isnan(value):
            return None
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)  # what pandas makes of whole numbers with gaps
        case bytes():
            return value.decode("utf-8", errors="replace")
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() if value and all(isinstance(i, tuple) and len(i) == 2 for i in value):
            return {str(key): _plain(inner) for key, inner in value}  # a map
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value
