"""What a device's genomes lack: worked out from the store, before anything is sent.

A plan is taken at one instant: its rows, deletions, total and included marks are
those of the same state of the store. No lock is held for that. The state is read,
and read again from where it ended, until nothing moved meanwhile; only where it
keeps moving a transaction holds it still for the short rest.

The cursor names everything that rows depend on (log, audience, lookup, lineage)
and the newest change that the device has. A cursor of anything else, or of a
state that this store never had, means: all rows again.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from genome_edge.v1 import dna_pb2, sync_pb2
from genome_server.genomes.rows import built_schema
from genome_server.services.room import Room
from genome_server.store.protocol import (
    CONSENT_PERSONALISATION,
    AudienceRow,
    DeleteReason,
    GenomeChange,
    Store,
)

ROWS_PER_PUT = 4_096
_PAGE = 2_000
_ATTEMPTS = 5
# Format, what rows depend on, newest stamp, the marks that were said to be included.
_CURSOR = struct.Struct("<B16sQ8s")
_CURSOR_FORMAT = 1

Mark = tuple[bytes, int, int]


@dataclass(frozen=True)
class GenomePlan:
    """One genome transaction. `lookups` are (hashes, subjects), each n × 16 bytes."""

    full: bool
    lineage: dna_pb2.Lineage
    lookup_key: bytes
    blocks: list[dna_pb2.GenomeBlock]
    lookups: list[tuple[bytes, bytes]]
    deletes: list[tuple[bytes, int]]
    cursor: bytes
    marks: list[Mark]
    total_rows: int

    @property
    def rows(self) -> int:
        """Rows that the Puts carry."""
        return sum(len(block.counts) for block in self.blocks)

    @property
    def marks_only(self) -> bool:
        """True where nothing but the included marks is new."""
        return not (self.full or self.blocks or self.lookups or self.deletes)

    def puts(self, nonce: int) -> Iterator[sync_pb2.Put]:
        """Yield the Put messages, rows and lookups side by side."""
        for i in range(max(len(self.blocks), len(self.lookups))):
            put = sync_pb2.Put(nonce=nonce)
            if i < len(self.blocks):
                put.block.CopyFrom(self.blocks[i])
            if i < len(self.lookups):
                put.lookup_hashes, put.lookup_subjects = self.lookups[i]
            yield put


def rows_fit(store: Store, lineage: dna_pb2.Lineage) -> bool:
    """Say whether the rows in the store can be read with a release of this lineage."""
    schema = built_schema(store)
    return schema is not None and (
        schema.epoch == lineage.schema_epoch
        and schema.landmark_hour == lineage.landmark_hour
        and schema.quantiser == lineage.quantiser
    )


def plan_genomes(
    room: Room, audience_name: str, device: str, lineage: dna_pb2.Lineage, cursor: bytes
) -> GenomePlan | None:
    """Work out what a device lacks; None where it has everything, or where rows are not ready.

    `lineage` is that of the release that the device has. Rows are not ready while
    those in the store are of another one: between a build under a new schema and
    its publication, and until the device has taken it.
    """
    audience = room.store.audience(audience_name)
    if audience is None:
        return None
    basis = _basis(room, audience, lineage)
    after, said = _read_cursor(cursor, basis, room.store.newest_stamp())
    state = _read(room, audience_name, device, lineage, max(after, 0))
    full = after < 0
    marks_digest = _marks_digest(state.marks)
    if not state.fits:
        return None
    if not full and not state.changes and not state.joined and marks_digest == said:
        return None
    puts: dict[bytes, dna_pb2.GenomeBlock] = {}
    deletes: list[tuple[bytes, int]] = []
    for change in state.changes.values():
        if change.row is None:
            reason = change.reason or DeleteReason.LEFT_AUDIENCE
            if not full or reason is DeleteReason.ERASED:
                deletes.append((change.subject, int(reason)))
            continue
        block = dna_pb2.GenomeBlock.FromString(change.row)
        if all(consents & CONSENT_PERSONALISATION for consents in block.consents):
            puts[change.subject] = block
    return GenomePlan(
        full=full,
        lineage=lineage,
        lookup_key=audience.lookup_key if audience.lookup else b"",
        blocks=list(_merge(puts)),
        lookups=list(_lookups(room, audience, state.joined)),
        deletes=deletes,
        cursor=_CURSOR.pack(_CURSOR_FORMAT, basis, state.stamp, marks_digest),
        marks=state.marks,
        total_rows=state.total,
    )


@dataclass
class _State:
    """What was read at one instant: the last change of each subject, who joined, the marks.

    `after` are the stamps up to which changes and joiners were read.
    """

    after: tuple[int, int]
    changes: dict[bytes, GenomeChange] = field(default_factory=dict)
    joined: list[bytes] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    stamp: int = 0
    total: int = 0
    fits: bool = False


def _read(room: Room, audience: str, device: str, lineage: dna_pb2.Lineage, after: int) -> _State:
    state = _State((after, after))
    for _ in range(_ATTEMPTS):
        if _read_on(room.store, audience, device, lineage, state):
            return state
    with room.store.transaction():
        _read_on(room.store, audience, device, lineage, state)
    return state


def _read_on(
    store: Store, audience: str, device: str, lineage: dna_pb2.Lineage, state: _State
) -> bool:
    """Read from where the last attempt ended; True where nothing moved meanwhile."""
    state.stamp = store.newest_stamp()
    state.marks = store.applied_marks(device)
    state.fits = rows_fit(store, lineage)
    changed, joined = state.after
    while changes := store.genome_changes(audience, changed, _PAGE):
        state.changes.update((change.subject, change) for change in changes)
        changed = changes[-1].changed
    while joiners := store.joined_members(audience, joined, _PAGE):
        state.joined += [subject for subject, _ in joiners]
        joined = joiners[-1][1]
    state.after = (changed, joined)
    state.total = store.audience_rows(audience)
    return store.newest_stamp() == state.stamp and store.applied_marks(device) == state.marks


def _merge(rows: dict[bytes, dna_pb2.GenomeBlock]) -> Iterator[dna_pb2.GenomeBlock]:
    """Put blocks of one row together, ordered by subject."""
    ordered = sorted(rows)
    for start in range(0, len(ordered), ROWS_PER_PUT):
        block = dna_pb2.GenomeBlock()
        strengths = []
        subjects = ordered[start : start + ROWS_PER_PUT]
        for subject in subjects:
            one = rows[subject]
            block.consents.extend(one.consents)
            block.as_of_hours.extend(one.as_of_hours)
            block.counts.extend(one.counts)
            block.index_deltas.extend(one.index_deltas)
            strengths.append(one.strengths)
        block.subjects = b"".join(subjects)
        block.strengths = b"".join(strengths)
        yield block


def _lookups(
    room: Room, audience: AudienceRow, subjects: Iterable[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Hash the customer ids of these subjects, in pieces as large as a Put's rows."""
    if not audience.lookup:
        return
    wanted = list(subjects)
    for start in range(0, len(wanted), ROWS_PER_PUT):
        hashes, owners = [], []
        for subject, source, external_id in room.store.external_ids(
            wanted[start : start + ROWS_PER_PUT]
        ):
            if source == audience.source:
                hashed = hmac.digest(audience.lookup_key, external_id.encode(), "sha256")
                hashes.append(hashed[:16])
                owners.append(subject)
        if hashes:
            yield b"".join(hashes), b"".join(owners)


def _basis(room: Room, audience: AudienceRow, lineage: dna_pb2.Lineage) -> bytes:
    lookup = audience.lookup_key + audience.source.encode() if audience.lookup else b""
    parts = (
        room.log.incarnation,
        audience.name.encode(),
        lookup,
        lineage.vocabulary_lineage,
        f"{lineage.schema_epoch} {lineage.landmark_hour} {lineage.quantiser}".encode(),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.digest()[:16]


def _read_cursor(cursor: bytes, basis: bytes, newest: int) -> tuple[int, bytes]:
    """Return the stamp and marks of a cursor; -1 where all rows are needed."""
    if len(cursor) != _CURSOR.size:
        return -1, b""
    version, of, stamp, marks = _CURSOR.unpack(cursor)
    if version != _CURSOR_FORMAT or of != basis or stamp > newest:
        return -1, b""
    return stamp, marks


def _marks_digest(marks: Iterable[Mark]) -> bytes:
    digest = hashlib.sha256()
    for epoch, lane, sequence in marks:
        digest.update(epoch + struct.pack("<IQ", lane, sequence))
    return digest.digest()[:8]
