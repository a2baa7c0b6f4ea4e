"""Segments of lanes in the store. Functions over an open transaction."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from typing import Any, Final

from edge_sdk.outbox import lanes
from edge_sdk.outbox.lanes import Chooser, Segment
from edge_sdk.store.meta import count_loss
from edge_sdk.store.rows import CHECKED, check_row, row_crc

_COLUMNS: Final = f"{CHECKED['outbox']}, row_crc, frames"
_END: Final = (1 << 63) - 1
#: With which probability the impressions of a segment were given up: behind the reason.
GONE_PPM: Final = "CAST(substr(o.reason, instr(o.reason || '/', '/') + 1) AS INTEGER)"
#: Segments, with the lane and what of it was handed out.
JOINED: Final = (
    " FROM outbox o JOIN lanes l ON l.lane = o.lane LEFT JOIN batches b ON b.lane = o.lane"
)

# Where the segment with the sequence ?2 begins: found by the key, and not by looking at every row.
_HOLDS: Final = "coalesce((SELECT max(first) FROM outbox WHERE lane = ?1 AND first <= ?2), 0)"

_Row = tuple[Any, ...]


def write_segment(connection: sqlite3.Connection, lane: int, segment: Segment) -> None:
    """Write a segment, in place of one that starts with the same sequence."""
    head = (
        lane,
        segment.first,
        segment.last,
        segment.at_ms,
        lanes.impressions(segment.frames),
        f"{segment.reason}/{segment.gone_ppm}" if segment.gone_ppm else segment.reason,
        len(segment.frames),
        zlib.crc32(segment.frames),
    )
    connection.execute(
        "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET last = excluded.last,"
        " at_ms = excluded.at_ms, impressions = excluded.impressions, reason = excluded.reason,"
        " bytes = excluded.bytes, crc = excluded.crc, frames = excluded.frames,"
        " row_crc = excluded.row_crc",
        (*head, segment.frames, row_crc(*head)),
    )


def read_segments(
    connection: sqlite3.Connection, lane: int, first: int, last: int = _END
) -> Iterator[Segment]:
    """The segments of a lane that touch the sequences `first` to `last`, ascending.

    One is read when it is asked for: of all that piles up in an outage a batch needs a few.
    """
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM outbox"
        f" WHERE lane = ?1 AND first >= {_HOLDS} AND last >= ?2 AND first <= ?3 ORDER BY first",
        (lane, first, last),
    )
    return map(_segment, rows)


def oldest_row(connection: sqlite3.Connection, lane: int, after: int) -> int:
    """The row of the segment in which the sequence behind `after` is; 0: there is none."""
    found = connection.execute(
        "SELECT rowid FROM outbox"
        f" WHERE lane = ?1 AND first >= {_HOLDS} AND last >= ?2 ORDER BY first LIMIT 1",
        (lane, after + 1),
    ).fetchone()
    return int(found[0]) if found else 0


def read_segment(connection: sqlite3.Connection, lane: int, first: int) -> Segment:
    """The segment of a lane that starts with this sequence."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM outbox WHERE lane = ? AND first = ?", (lane, first)
    ).fetchone()
    return _segment(row)


def _segment(row: _Row) -> Segment:
    """A segment as it was written; one whose bytes are damaged has lost its events."""
    *head, head_crc, frames = row
    check_row("outbox", head, head_crc)
    _, first, last, at_ms, _, said, _, crc = head
    if zlib.crc32(frames) != crc:
        return Segment(first, last, at_ms, b"", lanes.STORE_CORRUPT)
    reason, _, ppm = said.partition("/")
    return Segment(first, last, at_ms, frames, reason, int(ppm or 0))


def give_up(
    connection: sqlite3.Connection, which: Chooser, reason: str, at_ms: int, containing: bytes
) -> None:
    """Give up frames in segments that are in no batch yet and contain these bytes."""
    for lane, first in connection.execute(
        f"SELECT o.lane, o.first {JOINED} WHERE o.first > coalesce(b.last, 0)"
        " AND instr(o.frames, ?) > 0",
        (containing,),
    ).fetchall():
        segment = read_segment(connection, lane, first)
        rest = lanes.give_up(segment, which, reason, at_ms)
        put_rest(connection, lane, segment, rest)


def put_rest(
    connection: sqlite3.Connection, lane: int, segment: Segment, rest: Segment | None
) -> None:
    """Write what is left of a segment, and count what went; None: nothing did."""
    if rest is None:
        return
    write_segment(connection, lane, rest)
    gone = lanes.count(segment.frames) - lanes.count(rest.frames)
    if gone:
        count_loss(connection, rest.reason, gone)
