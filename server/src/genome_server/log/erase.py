"""Taking a person out of the log, and out of backups of it.

An erased event keeps its place: a TOMBSTONE with its sequence and time stands in its stead,
without subject and body, so that lanes have no gap and offsets mean what they meant. A row in
which something was erased no longer has the digest that it came with; readers know that by the
tombstone.

Who was erased stands in a list beside the log, never in a backup alone: a backup that is older
than an erasure is passed through the list before it opens. The list holds subjects, which are
random and lead to nobody once a customer is erased.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from edge_sdk.dna.genome import NOBODY, SUBJECT_BYTES
from edge_sdk.outbox.frames import FrameKind
from genome_server.errors import Refused
from genome_server.log import schema
from genome_server.log.framing import FRAME_HEADER, TOMBSTONE, kind_bits

ERASURES: Final = "erasures.jsonl"
"""Name of the list, beside the log: one JSON object a line, {"subject": hex, "at_ms": …}."""
SERVER_CAPS: Final = "caps.json"
"""Name of the file, beside the log, of what the server's own lanes say about caps, by subject."""
_ROWS_AT_ONCE: Final = 256
# Its body names the other subject.
_LINK: Final = int(FrameKind.LINK)
_TOMBSTONES: Final = kind_bits((TOMBSTONE,))


def remember_erasures(folder: Path, subjects: Iterable[bytes], at_ms: int) -> None:
    """Add to the list, durably. To be done before anything is erased."""
    lines = [json.dumps({"subject": s.hex(), "at_ms": at_ms}) + "\n" for s in subjects]
    with (folder / ERASURES).open("a", encoding="ascii") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def erasures(path: Path) -> dict[bytes, int]:
    """Subjects of a list and when they were erased; none where there is no list.

    Raises Refused for a line that is none.
    """
    if not path.exists():
        return {}
    found: dict[bytes, int] = {}
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        try:
            said = json.loads(line)
            subject = bytes.fromhex(said["subject"])
            found[subject] = max(found.get(subject, 0), int(said["at_ms"]))
        except (ValueError, KeyError, TypeError):
            raise Refused(f"{path}, line {number}, names no erased subject") from None
        if len(subject) != SUBJECT_BYTES:
            raise Refused(f"{path}, line {number}: a subject has {SUBJECT_BYTES} bytes")
    return found


def erase_from_log(path: Path, subjects: Collection[bytes]) -> int:
    """Put tombstones in the place of all events of these subjects; returns how many.

    A server may write meanwhile; events that come after it has passed are not looked for. What
    was is not left in free pages of the file. Raises FileNotFoundError where there is no log.
    """
    wanted = frozenset(subjects) - {NOBODY}
    if not path.exists():
        raise FileNotFoundError(f"no log at {path}")
    erased = 0
    # What the server remembers of its own lane is read from the log again.
    (path.parent / SERVER_CAPS).unlink(missing_ok=True)
    with closing(schema.open_for_writing(path)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        end, offset = schema.end_offset(connection), -1
        while wanted and offset < end:
            rows = connection.execute(
                "SELECT offset, frames FROM batches WHERE offset > ? ORDER BY offset LIMIT ?",
                (offset, _ROWS_AT_ONCE),
            ).fetchall()
            if not rows:
                break
            changed = [(_without(frames, wanted), at) for at, frames in rows]
            writes = [(frames, at) for (frames, count), at in changed if count]
            if writes:
                _write(connection, writes)
            erased += sum(count for (_, count), _ in changed)
            offset = rows[-1][0]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("DELETE FROM kept WHERE subject = ?", [(s,) for s in wanted])
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return erased


def _write(connection: sqlite3.Connection, rows: list[tuple[bytes, int]]) -> None:
    # A row is never rewritten by anybody else: what was read before the transaction still holds.
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(
            f"UPDATE batches SET frames = ?, kinds = kinds | {_TOMBSTONES} WHERE offset = ?", rows
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _without(frames: bytes, subjects: frozenset[bytes]) -> tuple[bytes, int]:
    """The frames with tombstones for those of the subjects, and how many there are."""
    pieces: list[bytes] = []
    position, kept_from, count = 0, 0, 0
    while position < len(frames):
        length, sequence, subject, kind, time_ms = FRAME_HEADER.unpack_from(frames, position)
        following = position + FRAME_HEADER.size + length
        about = subject in subjects
        if not about and kind == _LINK:
            about = any(one in frames[position:following] for one in subjects)
        if about and kind != TOMBSTONE:
            pieces.append(frames[kept_from:position])
            pieces.append(FRAME_HEADER.pack(0, sequence, NOBODY, TOMBSTONE, time_ms))
            kept_from = following
            count += 1
        position = following
    return (b"".join((*pieces, frames[kept_from:])), count) if count else (frames, 0)
