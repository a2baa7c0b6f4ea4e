"""Genomes of whole audiences as files: made once, sent to many, resumed where the line broke.

A content is all rows of an audience, and whom their lookups find, at one stamp. It is named by its
SHA-256 and lies beside a note of what it is, so that a server that starts again goes on with it;
audiences with the same rows share a file. What changed since follows as patches. It is not handed
out any more once somebody is in it whom devices have to forget, and its file goes at the next
sweep.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from edge_sdk.dna.columns import Columns, encode, halves
from genome_edge.v1 import release_pb2
from genome_server.files import write_whole
from genome_server.store.journal import read_rows
from genome_server.store.protocol import AudienceRow, Mark, Store

#: A content is handed out until this share of the rows has changed since.
FRESH: Final = 1 / 16
#: To a device that has the first part of one already.
RESUMED: Final = 1 / 4
#: Kept for this long after it was last handed out.
KEEP_S: Final = 6 * 3_600.0
_CHUNK_ROWS: Final = 20_000

_Key = tuple[bytes, bytes]


@dataclass(frozen=True)
class Content:
    """What is in a content, and what was true when it was made.

    `basis` is what its rows depend on (see `sync_plan`), `erased` whom devices must forget even
    where the server never sent them, `marks` how far each device's events are in the rows.
    """

    audience: str
    basis: bytes
    stamp: int
    sha256: bytes
    size: int
    rows: int
    row_sum: int
    erased: tuple[bytes, ...]
    marks: dict[str, list[Mark]]

    @property
    def key(self) -> _Key:
        """What it is known by: audiences may have the same bytes."""
        return self.basis, self.sha256

    @property
    def part(self) -> release_pb2.Part:
        """How Begin names it."""
        return release_pb2.Part(name="genomes", size=self.size, sha256=self.sha256)


class Contents:
    """The contents of one tenant. Thread-safe; blocks."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        # Held while files come and go: what one makes is not what another removes.
        self._disk = threading.Lock()
        self._kept: dict[_Key, Content] = {}
        self._used: dict[_Key, float] = {}
        self._load()

    def find(
        self, audience: str, basis: bytes, partials: frozenset[bytes] = frozenset()
    ) -> Content | None:
        """A content that may be handed out now: the one that a device has a part of, or the newest.

        None where one has to be made.
        """
        with self._lock:
            mine = [c for c in self._kept.values() if (c.audience, c.basis) == (audience, basis)]
        rows = self._store.tally(audience).rows
        mine.sort(key=lambda content: (content.sha256 in partials, content.stamp), reverse=True)
        for content in mine:
            share = RESUMED if content.sha256 in partials else FRESH
            changes = self._store.genome_change_count(audience, content.stamp)
            if changes <= share * rows and not self._store.anyone_gone(audience, content.stamp):
                self._used[content.key] = time.monotonic()
                return content
        return None

    def make(self, audience: AudienceRow, basis: bytes) -> Content:
        """Make the content of the audience as it is now, and keep it."""
        store = self._store
        with store.snapshot():
            stamp = store.newest_stamp()
            tally = store.tally(audience.name)
            columns = _with_lookups(store, audience, _rows(store, audience.name))
            erased = tuple(store.erased(audience.name))
            marks = store.marks_of()
        data = encode(columns)
        content = Content(
            audience=audience.name,
            basis=basis,
            stamp=stamp,
            sha256=hashlib.sha256(data).digest(),
            size=len(data),
            rows=tally.rows,
            row_sum=tally.row_sum,
            erased=erased,
            marks=marks,
        )
        with self._disk:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(self.path(content.sha256), data)
            write_whole(self._note_path(content), _note(content))
            with self._lock:
                self._kept[content.key] = content
                self._used[content.key] = time.monotonic()
        return content

    def path(self, sha256: bytes) -> Path:
        """Where a content is."""
        return self._folder / sha256.hex()

    def sweep(self) -> None:
        """Remove what is old, and what holds somebody whom devices have to forget."""
        now = time.monotonic()
        with self._lock:
            kept = list(self._kept.values())
        for content in kept:
            old = now - self._used[content.key] > KEEP_S
            if old or self._store.anyone_gone(content.audience, content.stamp):
                with self._disk:
                    self._remove(content)

    def _remove(self, content: Content) -> None:
        with self._lock:
            if self._kept.pop(content.key, None) is None:
                return
            self._used.pop(content.key, None)
            shared = any(other.sha256 == content.sha256 for other in self._kept.values())
        self._note_path(content).unlink(missing_ok=True)
        if not shared:
            self.path(content.sha256).unlink(missing_ok=True)

    def _note_path(self, content: Content) -> Path:
        return self._folder / f"{content.sha256.hex()}.{content.basis.hex()}.json"

    def _load(self) -> None:
        """Take up what a server before this one left, and remove what it did not finish."""
        if not self._folder.is_dir():
            return
        left = set(self._folder.iterdir())
        for note in self._folder.glob("*.json"):
            try:
                content = _read_note(note.read_bytes())
                with self.path(content.sha256).open("rb") as file:
                    whole = hashlib.file_digest(file, "sha256").digest() == content.sha256
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            if whole and note == self._note_path(content):
                self._kept[content.key] = content
                self._used[content.key] = time.monotonic()
                left -= {note, self.path(content.sha256)}
        for path in left:
            path.unlink(missing_ok=True)


def _rows(store: Store, audience: str) -> Columns:
    """All rows of the audience, ascending by subject."""
    rows = store.genome_rows(audience)
    pieces = [read_rows([])]
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        pieces.append(read_rows(chunk))
    counts = np.concatenate([np.diff(one.starts.astype(np.int64)) for one in pieces])
    starts = np.zeros(len(counts) + 1, np.uint64)
    np.cumsum(counts.astype(np.uint64), out=starts[1:])
    return Columns(
        high=np.concatenate([one.high for one in pieces]),
        low=np.concatenate([one.low for one in pieces]),
        consents=np.concatenate([one.consents for one in pieces]),
        as_of_hours=np.concatenate([one.as_of_hours for one in pieces]),
        starts=starts,
        indices=np.concatenate([one.indices for one in pieces]),
        codes=np.concatenate([one.codes for one in pieces]),
    )


def _with_lookups(store: Store, audience: AudienceRow, columns: Columns) -> Columns:
    """The columns, and the keyed hashes that find all members by the app's own ids."""
    pairs = sorted(
        pair for chunk in lookups(store, audience, store.members(audience.name)) for pair in chunk
    )
    hashes = halves(b"".join(hashed for hashed, _ in pairs))
    owners = halves(b"".join(subject for _, subject in pairs))
    return Columns(
        columns.high,
        columns.low,
        columns.consents,
        columns.as_of_hours,
        columns.starts,
        columns.indices,
        columns.codes,
        *hashes,
        *owners,
    )


def lookups(
    store: Store, audience: AudienceRow, subjects: Iterator[bytes], size: int = 4_096
) -> Iterator[list[tuple[bytes, bytes]]]:
    """(keyed hash of the customer's own id, subject) of these members, in chunks of `size`."""
    if not audience.lookup:
        return
    while wanted := list(islice(subjects, size)):
        yield [
            (hmac.digest(audience.lookup_key, external_id.encode(), "sha256")[:16], subject)
            for subject, source, external_id in store.external_ids(wanted)
            if source == audience.source
        ]


def _note(content: Content) -> bytes:
    return json.dumps(
        {
            "audience": content.audience,
            "basis": content.basis.hex(),
            "stamp": content.stamp,
            "sha256": content.sha256.hex(),
            "size": content.size,
            "rows": content.rows,
            "row_sum": content.row_sum,
            "erased": [subject.hex() for subject in content.erased],
            "marks": {
                device: [[epoch.hex(), lane, sequence] for epoch, lane, sequence in marks]
                for device, marks in content.marks.items()
            },
        }
    ).encode()


def _read_note(data: bytes) -> Content:
    said = json.loads(data)
    return Content(
        audience=said["audience"],
        basis=bytes.fromhex(said["basis"]),
        stamp=said["stamp"],
        sha256=bytes.fromhex(said["sha256"]),
        size=said["size"],
        rows=said["rows"],
        row_sum=said["row_sum"],
        erased=tuple(bytes.fromhex(one) for one in said["erased"]),
        marks={
            device: [(bytes.fromhex(epoch), lane, sequence) for epoch, lane, sequence in marks]
            for device, marks in said["marks"].items()
        },
    )
