"""Rebuilding a store whose SQLite file is damaged, without losing what can still be read.

The damaged file is moved aside and a new one is made. Then everything is copied that the damaged
one still gives: an outbox that was cut in the middle is worth more than none. What cannot be had
any more is declared: the rescued events go on under a new epoch, with one EVICTED frame in each
lane that says STORE_CORRUPT. The release comes back from the manifests beside the parts where the
pointer is lost; genomes come back whole or with the next sync.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY
from edge_sdk.errors import BadFrame
from edge_sdk.messages import event_pb2
from edge_sdk.outbox import lanes
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame, iter_frames
from edge_sdk.store.genomes import KEYS
from edge_sdk.store.lane_rows import Lane, new_lane, put_lane
from edge_sdk.store.meta import GUESTS, set_meta
from edge_sdk.store.rows import CHECKED, holds, seal_all
from edge_sdk.store.segments import write_segment

_META: Final = (
    "highest_seen",
    "seen_digest",
    "server_offset_ms",
    "last_contact_ms",
    "clock_floor_ms",
    "root",
    "signed_timestamp",
    "signed_stop_list",
    "failed_release",
    "incarnation",
)
_SEGMENT: Final = lanes.Limits(events=500, bytes=256 * 1024)
_Row = tuple[Any, ...]
# Epoch, lane and sequence of an event.
_Place = tuple[bytes, int, int]


def rescue(damaged: Path, fresh: sqlite3.Connection, now_ms: int) -> None:
    """Copy what can be read of the SQLite file `damaged` into the new one, in its transaction."""
    tables, whole = _read(damaged)
    meta: dict[str, bytes] = dict(tables["meta"])
    keys: list[str] = [key for key in meta if key in _META or key.startswith(GUESTS)]
    if {"meta", "patches", "lookups"} <= whole:
        # What was counted elsewhere comes again only with all rows: without a cursor.
        keys += [k for k in KEYS if k in meta and (k != "genome_cursor" or "caps" in whole)]
        for table in ("patches", "lookups"):
            _insert(fresh, table, tables[table])
    if "releases" in whole:
        _insert(fresh, "releases", [_with_digest(row) for row in tables["releases"]])
    for table in ("ring", "ring_ids", "event_ids", "redemptions", "losses"):
        _insert(fresh, table, tables[table])
    _insert(fresh, "caps", [_with_claim(row) for row in tables["caps"]])
    epoch = secrets.token_bytes(16)
    set_meta(fresh, **{key: meta[key] for key in keys}, epoch=epoch)
    moved = _rescue_outbox(fresh, tables, meta.get("epoch", bytes(16)), now_ms)
    _rescue_marked(fresh, tables, moved, epoch)
    seal_all(fresh)
    # Higher than any count of changes can be: every process reads everything anew.
    fresh.execute(
        "UPDATE counters SET n = ? WHERE name IN ('release', 'genomes', 'state', 'standing')",
        (now_ms,),
    )


def _read(damaged: Path) -> tuple[dict[str, list[_Row]], set[str]]:
    """The rows of every table as far as they can be read and are as they were written, and the
    tables that were read whole."""
    tables: dict[str, list[_Row]] = {name: [] for name in CHECKED}
    whole: set[str] = set()
    # Also where SQLite quotes bytes of the damaged schema: what other files hold comes back then.
    unreadable = contextlib.suppress(sqlite3.Error, UnicodeDecodeError)
    with unreadable, contextlib.closing(_open(damaged)) as connection:
        # Not by each table's own columns: the name of one may be what is damaged.
        checked = "SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%row_crc%'"
        first = not connection.execute(checked).fetchone()[0]
        for name, rows in tables.items():
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                damage = 0
                cursor = connection.execute(f"SELECT * FROM {name}")
                columns = [column[0] for column in cursor.description]
                for row in cursor:
                    known = row if columns[-1] != "row_crc" else row[:-1]
                    if holds(name, dict(zip(columns, row, strict=True)), first):
                        rows.append(known)
                        continue
                    damage += 1
                    if name == "consents":  # whatever it said, it grants nothing
                        rows.append((*row[:2], 0, *known[3:]))
                if not damage:
                    whole.add(name)
    return tables, whole


def _open(damaged: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(damaged, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _with_digest(row: _Row) -> _Row:
    if len(row) == 3 and isinstance(row[2], bytes):  # of the first format
        return (*row, hashlib.sha256(row[2]).digest())
    return row


def _with_claim(row: _Row) -> _Row:
    if len(row) == 6:  # of an earlier format
        return (*row[:5], secrets.token_bytes(16), "", "", row[5])
    return row


def _insert(fresh: sqlite3.Connection, table: str, rows: list[_Row]) -> None:
    for row in rows:
        marks = "?, " * len(row)
        # A row of a damaged page may break what a table demands; the others are still good.
        with contextlib.suppress(sqlite3.IntegrityError):
            fresh.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks}0)", row)


def _rescue_outbox(
    fresh: sqlite3.Connection, tables: dict[str, list[_Row]], old: bytes, now_ms: int
) -> dict[_Place, tuple[int, int]]:
    """Write the rescued events under the new epoch.

    Returns where each (epoch, lane, sequence) went: its lane and sequence. What a lane that has
    ended still had to send goes before what followed on it. Of a lane that cannot be read it is
    taken that it was of the `old` epoch, as all are where none has forked.
    """
    lanes_of = _lanes_of(tables, old)
    by_lane: dict[int, list[tuple[int, bytes]]] = {}
    for row in tables["outbox"]:
        frames = row[-1]
        if len(row) == 9 and isinstance(frames, bytes) and zlib.crc32(frames) == row[7]:
            by_lane.setdefault(_int(row[0]), []).append((_int(row[1]), frames))
    by_address: dict[int, list[Lane]] = {}
    # Of those that have ended the one with the higher number did so first.
    for number in sorted(lanes_of.keys() | by_lane.keys(), key=lambda n: (n >= 0, abs(n))):
        lost = new_lane(fresh, max(number, 0))._replace(lane=number, epoch=old)
        lane = lanes_of.get(number, lost)
        by_address.setdefault(lane.address, []).append(lane)
    moved: dict[_Place, tuple[int, int]] = {}
    for address, held in by_address.items():
        encoded: list[bytes] = []
        for lane in held:
            for _, frames in sorted(by_lane.get(lane.lane, [])):
                for frame in _whole_frames(frames):
                    if frame.sequence > lane.received:
                        sequence = len(encoded) + 1
                        moved[lane.epoch, address, frame.sequence] = (address, sequence)
                        encoded.append(encode_frame(frame._replace(sequence=sequence)))
        encoded.append(_declaration(len(encoded) + 1, now_ms))
        for segment in lanes.segments_of(encoded, 1, now_ms, _SEGMENT):
            write_segment(fresh, address, segment)
        put_lane(fresh, new_lane(fresh, address)._replace(next=len(encoded) + 1))
    return moved


def _lanes_of(tables: dict[str, list[_Row]], old: bytes) -> dict[int, Lane]:
    """The lanes as far as they can be read; in the first format they were all of one epoch."""
    found = [(*row, old, row[0]) if len(row) == 5 else row for row in tables["lanes"]]
    return {row[0]: Lane(*row) for row in found if len(row) == len(Lane._fields)}


def _whole_frames(frames: bytes) -> Iterator[Frame]:
    """The frames that are whole and say something."""
    try:
        for frame in iter_frames(frames):
            if event_pb2.Event.FromString(frame.body).WhichOneof("payload") is not None:
                yield frame
    except (BadFrame, DecodeError):
        return


def _declaration(sequence: int, now_ms: int) -> bytes:
    """An event that says: something before this was lost, and nobody knows how much."""
    event = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms),
        evicted=event_pb2.Evicted(
            first_sequence=sequence, last_sequence=sequence, reason=lanes.STORE_CORRUPT
        ),
    )
    body = event.SerializeToString(deterministic=True)
    return encode_frame(Frame(sequence, NOBODY, FrameKind.EVICTED, now_ms, body))


def _rescue_marked(
    fresh: sqlite3.Connection,
    tables: dict[str, list[_Row]],
    moved: dict[_Place, tuple[int, int]],
    epoch: bytes,
) -> None:
    """Copy pending imprints and consents, each with the new place of the event that says it."""
    for table, epoch_at in (("pending", 2), ("consents", 3)):
        rows: list[_Row] = []
        for row in tables[table]:
            place = moved.get((row[epoch_at], *map(_int, row[epoch_at + 1 : epoch_at + 3])))
            if place is None:  # the server has the event already, under the old epoch
                rows.append(row)
            else:
                rows.append((*row[:epoch_at], epoch, *place, *row[epoch_at + 3 :]))
        _insert(fresh, table, rows)


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
