"""What comes out of a list: one row for each slot, as Parquet or CSV.

Parts are Parquet with the subject beside each row, for a run that goes on; the result has none.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from edge_sdk import _posix
from genome_server.errors import UsageError

FORMATS: Final = (".parquet", ".pq", ".csv")

_COLUMNS: Final = (
    ("line", pa.int64(), "Where it stands in the list, from 1."),
    ("id", pa.string(), "Your id of the row, where it has one."),
    ("source", pa.string(), "Whose id the customer's is."),
    ("customer", pa.string(), "The customer; null: nobody in particular."),
    ("decision_id", pa.string(), "What an outcome names: 32 hexadecimal characters."),
    ("placement", pa.string(), "Where it is shown; of one with arms, which was drawn."),
    ("slot", pa.int32(), "The slot, from 0."),
    ("offer", pa.string(), "The offer; null: none."),
    ("campaign", pa.string(), "Its campaign, where it has one."),
    ("reason", pa.string(), "Why the slot holds what it holds."),
    ("score", pa.float64(), "What showing it is worth, in the money of the offers."),
    ("propensity", pa.float64(), "The exact probability with which the slot got this offer."),
    ("genome_used", pa.bool_(), "Whether a genome was read."),
    ("content", pa.map_(pa.string(), pa.string()), "What is shown of it."),
)  # fmt: skip
SCHEMA: Final = pa.schema(
    [pa.field(name, kind, metadata={"description": says}) for name, kind, says in _COLUMNS]
)
_OF_PARTS: Final = SCHEMA.append(pa.field("subject", pa.binary(16)))
_KEY: Final = b"genome_edge"


class Row(NamedTuple):
    """One slot of one decision, in the order of the columns; empty text stands for null."""

    line: int
    id: str
    source: str
    customer: str
    decision_id: str
    placement: str
    slot: int
    offer: str
    campaign: str
    reason: str
    score: float
    propensity: float
    genome_used: bool
    content: dict[str, str] | None
    subject: bytes


def checked_out(path: Path) -> Path:
    """Where results go. Raises UsageError for another format, or a folder that is not there."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: results are .parquet or .csv")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    return path


def write_part(path: Path, rows: Sequence[Row], said: dict[str, Any]) -> None:
    """Write the rows of a part, with what else is to be known of it; whole or not at all."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_OF_PARTS)
    arrays = [
        pa.array(
            [None if value == "" else value for value in column]
            if field.type == pa.string()
            else [list(value.items()) if value is not None else None for value in column]
            if field.name == "content"
            else column,
            field.type,
        )
        for field, column in zip(_OF_PARTS, columns, strict=True)
    ]
    schema = _OF_PARTS.with_metadata({_KEY: json.dumps(said, sort_keys=True).encode()})
    draft = path.with_name(f".{path.name}")
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), draft, compression="zstd")
    _settle(draft, path)


def said_of(path: Path) -> dict[str, Any]:
    """What else a part says. Raises ValueError, OSError or an ArrowException for what is none."""
    said = (pq.read_schema(path).metadata or {})[_KEY]
    found: dict[str, Any] = json.loads(said)
    return found


def shown_in(path: Path) -> Iterator[tuple[bytes, str, int, str, str, str]]:
    """Of a part: (subject, decision id, slot, placement, offer, reason) of slots with an offer."""
    columns = ["subject", "decision_id", "slot", "placement", "offer", "reason"]
    table = pq.read_table(path, columns=columns)
    for row in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
        if row[4]:
            yield row


def join(parts: Iterable[Path], out: Path, said: dict[str, Any]) -> None:
    """Put parts together to the result, readable by its owner alone; it replaces what is there."""
    draft = out.with_name(f".{out.name}.draft")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    if out.suffix.lower() == ".csv":
        _join_csv(parts, draft)
    else:
        schema = SCHEMA.with_metadata({_KEY: json.dumps(said, sort_keys=True).encode()})
        with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
            for part in parts:
                table = pq.read_table(part, columns=SCHEMA.names)
                if table.num_rows:
                    writer.write_table(table.cast(SCHEMA).replace_schema_metadata(schema.metadata))
    _settle(draft, out)


def _join_csv(parts: Iterable[Path], draft: Path) -> None:
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SCHEMA.names)
        for part in parts:
            table = pq.read_table(part, columns=SCHEMA.names)
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(dict(value), ensure_ascii=False, sort_keys=True)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _settle(draft: Path, path: Path) -> None:
    """Make a draft durable under its name."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    _posix.sync_directory(path.parent)
