"""What a device remembers by itself: pending imprints, consents, caps, decisions, redemptions.

Functions over an open transaction; `DeviceStore` gives the transactions.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import field
from typing import Any, Final

from google.protobuf.message import DecodeError

from edge_sdk.engine.caps import CapRow
from edge_sdk.errors import BadFrame
from edge_sdk.messages import event_pb2, sync_pb2
from edge_sdk.outbox import lanes
from edge_sdk.outbox.frames import Frame, encode_frame, iter_frames
from edge_sdk.slices import rest
from edge_sdk.store.meta import get_meta, set_meta
from edge_sdk.store.rows import CHECKED, check_row, read_rows, sealed
from edge_sdk.store.segments import give_up
from edge_sdk.store.tables import AWAY, ELSEWHERE, HERE
from edge_sdk.values import dataclass

#: Before everything: see `oldest_elsewhere`.
FIRST: Final = (-1, -1)
_ELSEWHERE: Final = f"SELECT {CHECKED['caps']}, row_crc FROM caps WHERE subject = ? AND {AWAY}"
_CAPS: Final = f"INSERT INTO caps ({CHECKED['caps']}, row_crc)"


@dataclass(frozen=True, slots=True)
class StoredImprint:
    """An imprint that the server's row does not include yet: what was reported, and when."""

    id: str
    subject: bytes
    time_ms: int
    interaction: event_pb2.Interaction = field(repr=False)


def read_pending(
    connection: sqlite3.Connection, since: int = -1, without: tuple[int, int] = (-1, -1)
) -> list[StoredImprint]:
    """Pending imprints written after change `since` by other lanes than `without`, oldest first."""
    imprints = []
    since_then = "WHERE change > ? AND lane NOT IN (?, ?) ORDER BY time_ms, id"
    for id_, subject, _, _, _, time_ms, body, _ in read_rows(
        connection, "pending", since_then, since, *without
    ):
        with contextlib.suppress(DecodeError):  # a damaged one; the server has it, or will
            interaction = event_pb2.Interaction.FromString(body)
            imprints.append(StoredImprint(id_, subject, time_ms, interaction))
    return imprints


def put_consent(
    connection: sqlite3.Connection,
    subject: bytes,
    purpose: int,
    granted: bool,
    where: tuple[bytes | None, int, int],
) -> None:
    """Remember a change of consent; `where`: epoch, lane and sequence of the event that says so."""
    connection.execute(
        "INSERT OR REPLACE INTO consents VALUES (?, ?, ?, ?, ?, ?, ?)",
        sealed(subject, purpose, int(granted), *where),
    )


def read_consents(connection: sqlite3.Connection) -> list[tuple[bytes, int, bool]]:
    """(subject, purpose, granted) of every consent change that the rows do not include yet."""
    consents = read_rows(connection, "consents")
    return [(subject, purpose, bool(granted)) for subject, purpose, granted, *_ in consents]


def read_caps(
    connection: sqlite3.Connection,
    since: int = 0,
    without: tuple[int, int] = (-1, -1),
    *,
    here: bool = False,
) -> tuple[list[CapRow], int]:
    """Cap rows with an id above `since` of other lanes than `without`, and the highest id; with
    `here` those that were not counted elsewhere."""
    newest = connection.execute("SELECT max(id) FROM caps").fetchone()[0]
    # By an index that has no others: of those there may be very many.
    which = f"INDEXED BY caps_by_offer WHERE {HERE} AND" if here else "WHERE"
    rows = read_rows(connection, "caps", f"{which} id > ? ORDER BY id", since)
    return [_cap(row) for row in rows if row[-1] not in without], max(newest or 0, since)


def read_elsewhere(connection: sqlite3.Connection, subject: bytes) -> list[CapRow]:
    """What a customer did elsewhere."""
    rows = connection.execute(_ELSEWHERE, (subject,)).fetchall()
    for *row, crc in rows:
        check_row("caps", row, crc)
    return [CapRow._make((subject, *row[1:7], True)) for row in rows]


def oldest_elsewhere(
    connection: sqlite3.Connection, after: tuple[int, int], most: int
) -> tuple[list[CapRow], tuple[int, int]]:
    """What was done elsewhere, the oldest first, `most` at a time; and where to go on, by moment
    and id: before everything where that was all."""
    page = f"WHERE {AWAY} AND (at_ms, id) > (?, ?) ORDER BY at_ms, id"
    last = f"SELECT at_ms, id FROM caps {page} LIMIT 1 OFFSET ?"
    rows = []
    for row in read_rows(connection, "caps", f"{page} LIMIT {most}", *after):
        rows.append(_cap(row))
        rest()
    return rows, connection.execute(last, (*after, most - 1)).fetchone() or FIRST


def is_any_elsewhere(connection: sqlite3.Connection, after_ms: int = -1) -> bool:
    """Whether anything was done elsewhere after a moment."""
    one = f"SELECT 1 FROM caps WHERE {AWAY} AND at_ms > ? LIMIT 1"
    return connection.execute(one, (after_ms,)).fetchone() is not None


def _cap(row: list[Any]) -> CapRow:
    subject, offer, kind, at_ms, claim, campaign, group, lane = row
    once = sys.intern  # the same few names in very many rows
    said = (subject, once(offer), once(kind), at_ms, claim, once(campaign), once(group))
    return CapRow._make((*said, lane == ELSEWHERE))


def put_caps(connection: sqlite3.Connection, rows: Iterable[tuple[CapRow, int]]) -> None:
    """Keep what counts against caps, each with the lane of the event that it belongs to."""
    connection.executemany(
        f"{_CAPS} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [sealed(*row[:-1], lane) for row, lane in rows],
    )


def keep_elsewhere(
    connection: sqlite3.Connection,
    rows: Iterable[CapRow],
    gone: Collection[bytes] | Callable[[bytes], bool] = (),
) -> None:
    """Forget what was done elsewhere by those who are gone, and keep these rows, but for what is
    known by its claim. `gone` names them, or tells of anybody: then all are looked at."""
    if callable(gone):
        of = connection.execute(f"SELECT DISTINCT subject FROM caps WHERE {AWAY}")
        gone = [subject for (subject,) in of if gone(subject)]
    connection.executemany(
        f"DELETE FROM caps WHERE subject = ? AND {AWAY}", [(subject,) for subject in gone]
    )
    known = "subject = ?1 AND offer = ?2 AND kind = ?3 AND claim = ?5"
    connection.executemany(
        f"{_CAPS} SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE NOT EXISTS"
        f" (SELECT 1 FROM caps WHERE {known} AND {HERE})"
        f" AND NOT EXISTS (SELECT 1 FROM caps WHERE {known} AND {AWAY})",
        [sealed(*row[:-1], ELSEWHERE) for row in rows],
    )


def bound_caps(connection: sqlite3.Connection, latest_ms: int) -> None:
    """Put what lies ahead to `latest_ms`."""
    connection.execute("UPDATE caps SET at_ms = ?1 WHERE at_ms > ?1", (latest_ms,))


def drop_caps(connection: sqlite3.Connection, rows: Iterable[CapRow]) -> None:
    """Delete rows that can no longer block anything: those that were claimed as these were, however
    many others there are of the same moment."""
    rows = list(rows)
    for which, away in ((HERE, False), (AWAY, True)):
        connection.executemany(
            "DELETE FROM caps WHERE offer = ? AND subject = ? AND kind = ? AND claim = ?"
            f" AND (claim <> x'' OR at_ms = ?) AND {which}",
            [
                (row.offer, row.subject, row.kind, row.claim, row.at_ms)
                for row in rows
                if row.elsewhere is away
            ],
        )


def write_ring(
    connection: sqlite3.Connection, ids: Sequence[bytes], frames: Iterable[bytes], keep: int
) -> None:
    """Keep decisions in full, and forget the oldest ones beyond `keep`.

    `ids` has 16 bytes for each; the body of each encoded frame is an Event with a full
    DecisionRecord.
    """
    row = connection.execute(
        "INSERT INTO ring (decisions, records, row_crc) VALUES (?, ?, ?) RETURNING id",
        sealed(len(ids), b"".join(frames)),
    ).fetchone()
    connection.execute(
        "INSERT OR REPLACE INTO ring_ids VALUES (?, ?, ?)", sealed(row[0], b"".join(ids))
    )
    _trim_ring(connection, keep)


def _trim_ring(connection: sqlite3.Connection, keep: int) -> None:
    held = int(connection.execute("SELECT n FROM counters WHERE name = 'ring'").fetchone()[0])
    while held > keep:
        oldest = connection.execute("SELECT id, decisions FROM ring ORDER BY id LIMIT 1").fetchone()
        if oldest is None or held - oldest[1] < keep:
            return
        connection.execute("DELETE FROM ring WHERE id = ?", (oldest[0],))
        connection.execute("DELETE FROM ring_ids WHERE id = ?", (oldest[0],))
        held -= int(oldest[1])


def decision_of(frame: Frame) -> event_pb2.DecisionRecord:
    """The decision in a frame of the ring."""
    return event_pb2.Event.FromString(frame.body).decision


def find_decision(connection: sqlite3.Connection, decision_id: bytes) -> Frame | None:
    """The full record of a decision with its subject and time, or None."""
    # The ids of a group lie in a small row of their own: the search reads 16 bytes a decision.
    for (group,) in connection.execute(
        "SELECT id FROM ring_ids WHERE instr(ids, ?) > 0", (decision_id,)
    ).fetchall():
        for _, records in read_rows(connection, "ring", "WHERE id = ?", group):
            for frame in _records(records):
                if decision_of(frame).decision_id == decision_id:
                    return frame
    return None


def recent_decisions(connection: sqlite3.Connection, limit: int) -> list[Frame]:
    """The newest decisions, newest first, at most `limit`."""
    found: list[Frame] = []
    for _, records in read_rows(connection, "ring", "ORDER BY id DESC"):
        found += reversed(_records(records))
        if len(found) >= limit:
            break
    return found[:limit]


def _records(content: bytes) -> list[Frame]:
    """The decisions in one row of the ring."""
    frames: list[Frame] = []
    with contextlib.suppress(BadFrame, DecodeError):
        for frame in iter_frames(content):
            decision_of(frame)
            frames.append(frame)
    return frames


def drop_included(connection: sqlite3.Connection, included: Iterable[sync_pb2.LaneMark]) -> None:
    """Forget the imprints and consents that the server's rows include now."""
    through = [(mark.epoch, mark.lane, mark.sequence) for mark in included]
    for table in ("pending", "consents"):
        connection.executemany(
            f"DELETE FROM {table} WHERE epoch = ? AND lane = ? AND sequence <= ?", through
        )


def forget_subject(connection: sqlite3.Connection, subject: bytes, at_ms: int) -> None:
    """Erase a subject from everything that this device remembers by itself.

    What was not sent is given up and declared, except what is part of a batch that was handed out:
    the server may have it already, and erases it there. Files that still name it are for
    `DeviceStore.finish_erasing`.
    """
    erasing = get_meta(connection, "erasing") or b""
    set_meta(connection, erasing=erasing + subject)
    for rows in ("pending", "consents", f"caps WHERE {HERE}", f"caps WHERE {AWAY}"):
        which = "AND" if "WHERE" in rows else "WHERE"
        connection.execute(f"DELETE FROM {rows} {which} subject = ?", (subject,))
    for id_, records in connection.execute(
        "SELECT id, records FROM ring WHERE instr(records, ?) > 0", (subject,)
    ).fetchall():
        kept = [frame for frame in _records(records) if frame.subject != subject]
        connection.execute(
            "UPDATE ring SET decisions = ?, records = ? WHERE id = ?",
            (len(kept), b"".join(map(encode_frame, kept)), id_),
        )
    give_up(connection, lambda mark: mark.subject == subject, lanes.ERASED, at_ms, subject)


def is_event_new(connection: sqlite3.Connection, event_id: bytes, at_ms: int) -> bool:
    """Whether the app gives this event for the first time; remembers it."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO event_ids VALUES (?, ?, ?)", sealed(event_id, at_ms)
    )
    return cursor.rowcount == 1


def trim_ids(connection: sqlite3.Connection, keep: int) -> None:
    """Forget the oldest event ids and redemptions beyond `keep` of each."""
    for table in ("event_ids", "redemptions"):
        connection.execute(
            f"DELETE FROM {table} WHERE at_ms < (SELECT at_ms FROM {table} ORDER BY at_ms DESC"
            " LIMIT 1 OFFSET ?)",
            (keep,),
        )
