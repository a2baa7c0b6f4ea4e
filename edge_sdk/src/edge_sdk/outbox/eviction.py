"""Keeping the outbox within its bounds: what goes first, and how little of it stays.

Impressions first, then other ordinary events, the oldest before the others; never an event of a
batch that was handed out, a consent, a link or a redemption. What went is declared when the lane
is sent (see `lanes`); runs of segments of which nothing is left become one row, so that a device
that is away for a year does not fill its disk with the record of what it gave up.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from edge_sdk.outbox import lanes
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.outbox.lanes import Mark, Segment
from edge_sdk.store.meta import counter
from edge_sdk.store.segments import JOINED, read_segment, write_segment

_KEPT_LONGEST: Final = frozenset({FrameKind.CONSENT, FrameKind.LINK})
# Of lanes of ordinary events, what is in no batch yet and was not received.
_FREE: Final = f"{JOINED} WHERE l.priority = 1 AND o.first > max(coalesce(b.last, 0), l.received)"


def evict(connection: sqlite3.Connection, target: int, now_ms: int) -> int:
    """Give up events until the outbox has at most `target` bytes, or nothing that may go is left.

    Returns how many bytes went.
    """
    before = counter(connection, "outbox_bytes")
    touched: set[int] = set()
    for which, condition in ((_is_impression, "o.impressions > 0"), (_may_go, "o.bytes > 0")):
        rows = connection.execute(
            f"SELECT o.lane, o.first {_FREE} AND {condition} ORDER BY o.rowid"
        ).fetchall()
        for lane, first in rows:
            if counter(connection, "outbox_bytes") <= target:
                break
            # One by one: all that may go must not be in memory at once.
            segment = read_segment(connection, lane, first)
            rest = lanes.give_up(segment, which, lanes.OUTBOX_FULL, now_ms)
            if rest is not None:
                write_segment(connection, lane, rest)
                touched.add(lane)
            time.sleep(0)  # a thread that decides must not wait for all of this
    for lane in touched:
        _join_empty(connection, lane)
    return before - counter(connection, "outbox_bytes")


def _is_impression(mark: Mark) -> bool:
    return mark.kind == FrameKind.DECISION


def _may_go(mark: Mark) -> bool:
    return mark.kind not in _KEPT_LONGEST


def _join_empty(connection: sqlite3.Connection, lane: int) -> None:
    """Make one row of neighbouring rows in which no frame is left."""
    rows = connection.execute(
        f"SELECT o.first, o.last, o.at_ms, o.reason {_FREE} AND o.lane = ? AND o.bytes = 0"
        " ORDER BY o.first",
        (lane,),
    ).fetchall()
    run: Segment | None = None
    for first, last, at_ms, reason in rows:
        if run is None or run.last + 1 != first or run.reason != reason:
            run = Segment(first, last, at_ms, b"", reason)
            continue
        run = Segment(run.first, last, max(run.at_ms, at_ms), b"", reason)
        connection.execute("DELETE FROM outbox WHERE lane = ? AND first = ?", (lane, first))
        write_segment(connection, lane, run)
