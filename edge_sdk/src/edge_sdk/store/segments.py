"""Segments of lanes in the store. Functions over an open transaction."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from typing import Final

from edge_sdk.outbox import lanes
from edge_sdk.outbox.lanes import Chooser, Segment

_COLUMNS: Final = "o.first, o.last, o.at_ms, o.reason, o.crc, o.frames"
_END: Final = (1 << 63) - 1
#: Segments, with the lane and what of it was handed out.
JOINED: Final = (
    " FROM outbox o JOIN lanes l ON l.lane = o.lane LEFT JOIN batches b ON b.lane = o.lane"
)

_Row = tuple[int, int, int, str, int, bytes]


def write_segment(connection: sqlite3.Connection, lane: int, segment: Segment) -> None:
    """Write a segment, in place of one that starts with the same sequence."""
    connection.execute(
        "INSERT INTO outbox (lane, first, last, at_ms, impressions, reason, bytes, crc, frames)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last,"
        " at_ms = excluded.at_ms, impressions = excluded.impressions, reason = excluded.reason,"
        " bytes = excluded.bytes, crc = excluded.crc, frames = excluded.frames",
        (
            lane,
            segment.first,
            segment.last,
            segment.at_ms,
            lanes.impressions(segment.frames),
            segment.reason,
            len(segment.frames),
            zlib.crc32(segment.frames),
            segment.frames,
        ),
    )


def read_segments(
    connection: sqlite3.Connection, lane: int, first: int, last: int = _END
) -> list[Segment]:
    """The segments of a lane that touch the sequences `first` to `last`, ascending."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM outbox o WHERE lane = ? AND last >= ? AND first <= ?"
        " ORDER BY first",
        (lane, first, last),
    )
    return [_segment(row) for row in rows]


def read_segment(connection: sqlite3.Connection, lane: int, first: int) -> Segment:
    """The segment of a lane that starts with this sequence."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM outbox o WHERE lane = ? AND first = ?", (lane, first)
    ).fetchone()
    return _segment(row)


def _segment(row: _Row) -> Segment:
    """A segment as it was written; one whose bytes are damaged has lost its events."""
    first, last, at_ms, reason, crc, frames = row
    if zlib.crc32(frames) != crc:
        return Segment(first, last, at_ms, b"", lanes.STORE_CORRUPT)
    return Segment(first, last, at_ms, frames, reason)


def give_up(
    connection: sqlite3.Connection, which: Chooser, reason: str, at_ms: int, containing: bytes
) -> None:
    """Give up frames in segments that are in no batch yet and contain these bytes."""
    rewrite(
        connection,
        connection.execute(
            f"SELECT o.lane, o.first {JOINED} WHERE o.first > coalesce(b.last, 0)"
            " AND instr(o.frames, ?) > 0",
            (containing,),
        ).fetchall(),
        lambda segment: lanes.give_up(segment, which, reason, at_ms),
    )


def rewrite(
    connection: sqlite3.Connection,
    places: list[tuple[int, int]],
    change: Callable[[Segment], Segment | None],
) -> None:
    """Change segments at (lane, first) one by one; None leaves one as it is."""
    for lane, first in places:
        changed = change(read_segment(connection, lane, first))
        if changed is not None:
            write_segment(connection, lane, changed)
