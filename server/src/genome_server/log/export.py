"""Events of the log as files: Parquet or JSON Lines, in parts, a part at a time in memory.

A part is named by the offsets that it covers and gets its name when it is whole. So an export
that was cut goes on where it ended, and one that is repeated adds what has happened since. What
is written is what the log holds: subjects, never the customers behind them; an erased event is a
TOMBSTONE.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.log.reader import LogBatch, LoggedFrame, LogReader

FORMATS: Final = ("parquet", "jsonl")
KINDS: Final = {kind.name.lower(): int(kind) for kind in FrameKind}
_EVENTS_A_PART: Final = 50_000
_INDEX: Final = "export.json"
_PART: Final = re.compile(r"events-(\d{15})-(\d{15})\.(?:parquet|jsonl)")
_NAMES: Final = {number: name for name, number in KINDS.items()}

Row = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """Which events: of these kinds (None: all), with start_ms ≤ time < end_ms (Unix ms)."""

    kinds: frozenset[int] | None = None
    start_ms: int | None = None
    end_ms: int | None = None

    def takes(self, frame: LoggedFrame) -> bool:
        """Whether an event is among them, by the time in its header."""
        return (self.start_ms is None or frame.time_ms >= self.start_ms) and (
            self.end_ms is None or frame.time_ms < self.end_ms
        )


@dataclass(frozen=True)
class Exported:
    """What one run did: events read and written, parts made, and the offset it has got to."""

    read: int
    written: int
    parts: int
    offset: int


def export(
    log: LogReader,
    folder: Path,
    choice: Choice,
    format_: str,
    progress: Callable[[int], object] | None = None,
) -> Exported:
    """Export from where the folder's last part ends to the end of the log.

    Raises Refused where the folder holds an export of another log or choice, OSError.
    """
    offset = _begin(folder, _facts(log, choice, format_))
    stop = log.end()
    read = written = parts = 0
    start, rows = offset, list[Row]()
    for batch in log.batches(offset, stop=stop):
        rows += _rows(batch, choice)
        read, offset = read + batch.count, batch.next_offset
        if progress is not None:
            progress(batch.count)
        if offset - start >= _EVENTS_A_PART or offset >= stop:
            _write(folder / f"events-{start:015}-{offset:015}.{format_}", rows)
            written, parts = written + len(rows), parts + 1
            start, rows = offset, []
    return Exported(read, written, parts, offset)


def _facts(log: LogReader, choice: Choice, format_: str) -> Row:
    return {
        "incarnation": log.incarnation.hex(),
        "format": format_,
        "kinds": None if choice.kinds is None else sorted(choice.kinds),
        "start_ms": choice.start_ms,
        "end_ms": choice.end_ms,
    }


def _begin(folder: Path, facts: Row) -> int:
    """Where to go on; 0 in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / _INDEX
    if index.exists():
        if json.loads(index.read_bytes()) != facts:
            raise Refused(
                f"{folder} holds an export of another log, or with other options; "
                "name another folder"
            )
    elif any(folder.iterdir()):
        raise Refused(f"{folder} holds other files; name another folder")
    else:
        write_whole(index, json.dumps(facts).encode())
    offset = 0
    found = [match for p in folder.iterdir() if (match := _PART.fullmatch(p.name))]
    for first, behind in sorted((int(match[1]), int(match[2])) for match in found):
        if first != offset:
            raise Refused(f"{folder} lacks the part that begins at offset {offset}")
        offset = behind
    return offset


def _rows(batch: LogBatch, choice: Choice) -> Iterator[Row]:
    for frame in batch.frames(choice.kinds):
        if choice.takes(frame):
            yield {
                "offset": frame.offset,
                "device": frame.device,
                "epoch": frame.epoch.hex(),
                "lane": frame.lane,
                "sequence": frame.sequence,
                "subject": frame.subject.hex(),
                "kind": _NAMES.get(frame.kind, str(frame.kind)),
                "time_ms": frame.time_ms,
                "received_ms": frame.received_ms,
                "event": _event(frame),
            }


def _event(frame: LoggedFrame) -> Row | None:
    """What the event says, under the names of the contract; None where it cannot be read."""
    if frame.kind == FrameKind.TOMBSTONE:
        return None
    try:
        event = event_pb2.Event.FromString(frame.body)
    except DecodeError:
        return None
    said: Row = MessageToDict(event, preserving_proto_field_name=True)
    return _in_hex(event, said)


def _in_hex(message: Message, said: Row) -> Row:
    """The same with bytes in hex: an id reads as it does in every other place."""
    for field, value in message.ListFields():
        if isinstance(value, bytes):
            said[field.name] = value.hex()
        elif isinstance(value, Message):
            _in_hex(value, said[field.name])
    return said


def _write(path: Path, rows: list[Row]) -> None:
    draft = path.with_name(f".{path.name}")
    if path.suffix == ".jsonl":
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        _write_parquet(draft, rows)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.rename(path)


def _write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.int64()
    columns = {
        "offset": number,
        "device": text,
        "epoch": text,
        "lane": number,
        "sequence": number,
        "subject": text,
        "kind": text,
        "time_ms": number,
        "received_ms": number,
        "event": text,
    }
    for row in rows:
        if row["event"] is not None:
            row["event"] = json.dumps(row["event"], ensure_ascii=False)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns.items())), path)
