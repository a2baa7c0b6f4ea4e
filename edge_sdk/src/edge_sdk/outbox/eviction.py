"""Keeping the outbox within its bounds: what goes first, and how little of it stays.

Diagnostics first, then impressions, then what customers did, outcomes last; never an event of a
batch that was handed out, a consent, a link or a redemption. Of impressions every second one goes,
by the flip of a coin (see `thinning`), the oldest of those for which coins were flipped least often
before the others: so the whole time of an absence stays visible. All else goes by age. What went is
declared when the lane is sent (see `lanes`); neighbours become one row, so that a device that is
away for a year does not fill its disk with the record of what it gave up.
"""

from __future__ import annotations

import heapq
import random
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from edge_sdk.outbox import lanes, thinning
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.outbox.lanes import Limits, Mark, Segment
from edge_sdk.store.meta import counter
from edge_sdk.store.segments import GONE_PPM, JOINED, put_rest, read_segment, write_segment

_DAY_MS: Final = 86_400_000
# Bytes that are looked through in some microseconds; a turn of others takes longer.
_SMALL: Final = 8192
_KEPT: Final = frozenset({FrameKind.CONSENT, FrameKind.LINK, FrameKind.EVICTED})
_LAST: Final = (FrameKind.INTERACTION, FrameKind.OUTCOME)
_KNOWN: Final = _KEPT.union(_LAST, (FrameKind.DECISION,))
# Of lanes of ordinary events, what is in no batch yet and was not received.
_FREE: Final = f"{JOINED} WHERE l.priority = 1 AND o.first > max(coalesce(b.last, 0), l.received)"
# Age is counted in time in which something was written, at most a day for each pause: neither a
# clock that jumps nor a device that was switched off makes what it holds old.
_AGED: Final = f"""
SELECT lane, first FROM (
  SELECT lane, first, free, sum(step) OVER (ORDER BY at_ms DESC, rowid DESC) AS age FROM (
    SELECT o.lane, o.first, o.at_ms, o.rowid, (o.bytes > 0 AND l.priority = 1
      AND o.first > max(coalesce(b.last, 0), l.received)) AS free,
      min(coalesce(lead(o.at_ms) OVER (ORDER BY o.at_ms, o.rowid), o.at_ms) - o.at_ms, {_DAY_MS})
      AS step {JOINED})) WHERE free AND age > ?
"""


#: By kind (None: any that is not known), lane and epoch: sequences among which none of it is left.
Without = dict[tuple[FrameKind | None, int, bytes], tuple[int, int]]


def evict(
    connection: sqlite3.Connection,
    target: int,
    now_ms: int,
    chance: random.Random,
    without: Without,
) -> int:
    """Give up events until the outbox has at most `target` bytes, or nothing that may go is left.

    Returns how many bytes went. What was looked through in vain is remembered in `without`, which
    is to be emptied where the transaction is rolled back: an outbox that stays full is not read
    as a whole again and again.
    """
    before = counter(connection, "outbox_bytes")
    for kind in (None, *_LAST):
        _give_up_all(connection, kind, target, now_ms, without)
        if kind is None:
            _thin(connection, target, now_ms, chance)
    return before - counter(connection, "outbox_bytes")


def _give_up_all(
    connection: sqlite3.Connection,
    kind: FrameKind | None,
    target: int,
    now_ms: int,
    without: Without,
) -> None:
    """Give up what is of a kind, the oldest first, until `target` is reached."""
    places, looked = [], dict[tuple[int, bytes], tuple[int, int]]()
    for lane, epoch, first, last in connection.execute(
        f"SELECT o.lane, l.epoch, o.first, o.last {_FREE} AND o.bytes > 0 ORDER BY o.rowid"
    ).fetchall():
        low, high = without.get((kind, lane, epoch), (0, 0))
        if not low <= first <= last <= high:
            places.append((lane, first))
        low, high = looked.get((lane, epoch), (first, last))
        looked[lane, epoch] = min(low, first), max(high, last)
    _give_up(
        connection,
        places,
        target,
        now_ms,
        lambda mark: mark.kind == kind or (kind is None and mark.kind not in _KNOWN),
    )
    if counter(connection, "outbox_bytes") > target:  # not one of them was passed over
        without.update(((kind, *lane), between) for lane, between in looked.items())


def expire(connection: sqlite3.Connection, max_age_s: float, now_ms: int) -> None:
    """Give up what waited for longer than this while the device was in use."""
    most_ms = int(max_age_s * 1000)
    (span_ms,) = connection.execute("SELECT max(at_ms) - min(at_ms) FROM outbox").fetchone()
    if (span_ms or 0) <= most_ms:
        return  # nothing is older than all of it together
    old = connection.execute(_AGED, (most_ms,)).fetchall()
    _give_up(connection, old, -1, now_ms, lambda m: m.kind not in _KEPT, lanes.TOO_OLD)


def join(connection: sqlite3.Connection, limits: Limits) -> None:
    """Make one row of neighbouring rows wherever it says the same and is no larger than a batch."""
    rows = connection.execute(
        f"SELECT o.lane, o.reason, o.first, o.last, o.bytes {_FREE} ORDER BY o.lane, o.first"
    ).fetchall()
    run: list[int] = []  # the first sequences of rows that become one
    held = 0
    before = None
    for lane, reason, first, last, size in rows:
        fits = run and held + size <= limits.bytes and last - run[0] < limits.events
        if before == (lane, reason, first) and (fits or not held + size):
            run.append(first)
            held += size
        else:
            _join(connection, before, run)
            run, held = [first], size
        before = (lane, reason, last + 1)
    _join(connection, before, run)


def _join(
    connection: sqlite3.Connection, behind: tuple[int, str, int] | None, run: list[int]
) -> None:
    if behind is None or len(run) < 2:
        return
    lane = behind[0]
    pieces = [read_segment(connection, lane, first) for first in run]
    connection.executemany(
        "DELETE FROM outbox WHERE lane = ? AND first = ?", [(lane, first) for first in run[1:]]
    )
    write_segment(
        connection,
        lane,
        replace(
            pieces[0],
            last=behind[2] - 1,
            at_ms=max(piece.at_ms for piece in pieces),
            frames=b"".join(piece.frames for piece in pieces),
        ),
    )
    time.sleep(0)  # a thread that decides must not wait for all of this


def _give_up(
    connection: sqlite3.Connection,
    places: Iterable[tuple[int, int]],
    target: int,
    now_ms: int,
    which: lanes.Chooser,
    reason: str = lanes.OUTBOX_FULL,
) -> None:
    """Give up what `which` chooses, segment by segment, until `target` is reached."""
    excess = 0

    def goes(mark: Mark) -> bool:
        nonlocal excess
        if excess <= 0 or not which(mark):
            return False
        excess -= mark.end - mark.start
        return True

    for lane, first in places:
        excess = counter(connection, "outbox_bytes") - target
        if excess <= 0:
            return
        # One by one: all that may go must not be in memory at once.
        segment = read_segment(connection, lane, first)
        put_rest(connection, lane, segment, lanes.give_up(segment, goes, reason, now_ms))
        _rest(segment)


def _thin(connection: sqlite3.Connection, target: int, now_ms: int, chance: random.Random) -> None:
    """Flip coins for impressions, segment by segment, until `target` is reached."""
    heap: list[tuple[int, int, int, int]] = connection.execute(
        f"SELECT {GONE_PPM}, o.rowid, o.lane, o.first {_FREE} AND o.impressions > 0"
    ).fetchall()
    heapq.heapify(heap)
    while heap and counter(connection, "outbox_bytes") > target:
        ppm, row, lane, first = heapq.heappop(heap)
        again = thinning.HALF if ppm < thinning.MOST else thinning.CERTAIN

        def falls(mark: Mark, again: int = again) -> bool:
            return mark.kind == FrameKind.DECISION and thinning.is_gone(chance, again)

        segment = read_segment(connection, lane, first)
        # Where none is left there is nobody to stand for the others.
        ppm = thinning.combined(ppm, again) if again < thinning.CERTAIN else 0
        rest = lanes.give_up(segment, falls, lanes.OUTBOX_FULL, now_ms, ppm)
        put_rest(connection, lane, segment, rest)
        if rest is not None and lanes.impressions(rest.frames):
            heapq.heappush(heap, (ppm, row, lane, first))
        _rest(segment)


def _rest(segment: Segment) -> None:
    """Let a thread that decides go first; between small segments it has its turns with SQLite's."""
    if len(segment.frames) > _SMALL:
        time.sleep(0)
