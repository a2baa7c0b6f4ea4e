"""What the genomes of devices lack: worked out from the store, before anything is sent.

All devices that ask are answered from one snapshot of the store: rows, deletions, what they come
to, and how far each device's own events are in them are those of the same state. What devices at
the same cursor are sent is worked out and written once; only the nonce, the marks and the cursor
are a device's own.

The cursor names everything that rows depend on (log, audience, lookup, lineage) and the newest
change that the device has. A cursor of anything else, or of a state that this store never had,
means: all rows again. For a device that takes cap events it also names the newest of those; after
all rows it has none, and what follows brings all that there are.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge_sdk.engine.cap_rules import CapRow
from genome_edge.v1 import dna_pb2, sync_pb2
from genome_server.genomes.rows import built_schema
from genome_server.services.contents import Content, Contents, lookups
from genome_server.services.framing import Piece
from genome_server.services.sync_pieces import (
    ROWS_PER_PUT,
    counted_of,
    deletes_of,
    merged,
    patches_of,
    puts_of,
)
from genome_server.store.journal import changed_since
from genome_server.store.protocol import (
    CONSENT_PERSONALISATION,
    AudienceRow,
    DeleteReason,
    GenomeChange,
    Mark,
    Store,
)

#: All rows are sent instead where more than this share of them changed.
FULL_SHARE = 1 / 4
#: Fewer changes than this are always sent as changes: to take all rows costs a device more, and
#: one that is late among few customers would be late again after it.
FEW = 10_000
#: Cap events in one transaction; more follow in the next one.
MOST_COUNTED = 50_000
_PAGE = 2_000
# Format, what rows depend on, newest stamp, the marks that were said to be included; in the second
# format also the newest stamp of cap events.
_CURSOR = struct.Struct("<B16sQ8s")
_COUNTING_CURSOR = struct.Struct("<B16sQ8sQ")


@dataclass(frozen=True)
class Want:
    """A device that asks: its audience, the lineage of its release (serialised), its cursor.

    `compact`: it takes contents and patches. `partials` are contents that it has the beginning of.
    `counts`: it takes cap events.
    """

    device: str
    audience: str
    lineage: bytes
    cursor: bytes
    compact: bool = False
    partials: frozenset[bytes] = frozenset()
    counts: bool = False


@dataclass(frozen=True)
class Body:
    """What every device at one cursor is sent: the Begin and the messages after it, without nonce.

    `stamp` is the state that it leads to, with `rows` rows that come to `row_sum`, and `counted`
    the newest stamp of the cap events (None: for a device that takes none); `more` of them follow.
    """

    full: bool
    begin: bytes
    pieces: tuple[Piece, ...]
    basis: bytes
    stamp: int
    rows: int
    row_sum: int
    content: Content | None = None
    counted: int | None = None
    more: bool = False

    @property
    def nothing(self) -> bool:
        """True where no row, lookup, deletion or cap event is in it."""
        return not (self.full or self.pieces)


@dataclass(frozen=True)
class GenomePlan:
    """One genome transaction with one device."""

    body: Body
    marks: Sequence[Mark]
    cursor: bytes

    @property
    def full(self) -> bool:
        """True where all rows are sent."""
        return self.body.full

    @property
    def marks_only(self) -> bool:
        """True where nothing but the included marks is new."""
        return self.body.nothing

    def commit(self) -> sync_pb2.Commit:
        """The Commit, without nonce."""
        return sync_pb2.Commit(
            genome_cursor=self.cursor,
            included=[
                sync_pb2.LaneMark(epoch=epoch, lane=lane, sequence=sequence)
                for epoch, lane, sequence in self.marks
            ],
            total_rows=self.body.rows,
            row_sum=self.body.row_sum,
        )


@dataclass(frozen=True)
class Missing:
    """A content has to be made before this device can be answered."""

    audience: AudienceRow
    basis: bytes


Answer = GenomePlan | Missing | None


def rows_fit(store: Store, lineage: dna_pb2.Lineage) -> bool:
    """Say whether the rows in the store can be read with a release of this lineage."""
    schema = built_schema(store)
    return schema is not None and (
        schema.epoch == lineage.schema_epoch
        and schema.landmark_hour == lineage.landmark_hour
        and schema.quantiser == lineage.quantiser
    )


def plan(
    store: Store, contents: Contents, incarnation: bytes, wants: Sequence[Want]
) -> list[Answer]:
    """Work out what each of these devices lacks; None where it has everything, or has to wait.

    It waits while the rows in the store are of another lineage than its release: between a build
    under a new schema and its publication, and until the device has taken that.
    """
    with store.snapshot():
        planner = _Planner(store, contents, incarnation, store.newest_stamp())
        marks = store.marks_of({want.device for want in wants})
        return [planner.answer(want, marks.get(want.device, [])) for want in wants]


class _Planner:
    """Answers from one snapshot; what was worked out for one device serves all like it."""

    def __init__(self, store: Store, contents: Contents, incarnation: bytes, newest: int) -> None:
        self._store = store
        self._contents = contents
        self._incarnation = incarnation
        self._newest = newest
        self._known: dict[object, tuple[AudienceRow, dna_pb2.Lineage, bytes] | None] = {}
        self._bodies: dict[tuple[object, ...], Body] = {}

    def answer(self, want: Want, marks: list[Mark]) -> Answer:
        """What one device lacks."""
        known = self._look_up(want.audience, want.lineage)
        if known is None:
            return None
        audience, lineage, basis = known
        after, said, counted = _read_cursor(want.cursor, basis, self._newest)
        since = counted if want.counts else None
        key = (basis, after, want.compact, since)
        if want.compact and (after < 0 or self._many(audience.name, after, key)):
            content = self._contents.find(audience.name, basis, want.partials)
            if content is None:
                return Missing(audience, basis)
            body = self._once(
                (basis, content.sha256, want.counts),
                lambda: _whole(audience, lineage, content, None if since is None else 0),
            )
            marks = content.marks.get(want.device, [])
        else:
            body = self._once(
                key, lambda: self._changes(audience, lineage, basis, after, want.compact, since)
            )
        digest = _marks_digest(marks)
        if body.nothing and digest == said:
            return None
        return GenomePlan(body, marks, _cursor(body, digest))

    def _look_up(
        self, name: str, serialised: bytes
    ) -> tuple[AudienceRow, dna_pb2.Lineage, bytes] | None:
        key = (name, serialised)
        if key not in self._known:
            audience = self._store.audience(name)
            lineage = dna_pb2.Lineage.FromString(serialised)
            if audience is None or not rows_fit(self._store, lineage):
                self._known[key] = None
            else:
                basis = _basis(self._incarnation, audience, lineage)
                self._known[key] = (audience, lineage, basis)
        return self._known[key]

    def _once(self, key: tuple[object, ...], make: Callable[[], Body]) -> Body:
        if key not in self._bodies:
            self._bodies[key] = make()
        return self._bodies[key]

    def _many(self, audience: str, after: int, key: tuple[object, ...]) -> bool:
        """Whether so much has changed that all rows cost less."""
        if key in self._bodies:
            return False
        changes = self._store.genome_change_count(audience, after)
        return changes > max(FEW, FULL_SHARE * self._store.tally(audience).rows)

    def _changes(
        self,
        audience: AudienceRow,
        lineage: dna_pb2.Lineage,
        basis: bytes,
        after: int,
        patches: bool,
        since: int | None,
    ) -> Body:
        """Rows and deletions after a stamp (-1: all rows); cap events since one (None: none)."""
        store, full, after = self._store, after < 0, max(after, 0)
        puts: dict[bytes, dna_pb2.GenomeBlock] = {}
        changed: dict[bytes, set[int]] = {}
        deletes: list[tuple[bytes, int]] = []
        for change in _pages(store.genome_changes, audience.name, after):
            if change.row is None:
                reason = change.reason or DeleteReason.LEFT_AUDIENCE
                if not full or reason is DeleteReason.ERASED:
                    deletes.append((change.subject, int(reason)))
                continue
            block = dna_pb2.GenomeBlock.FromString(change.row)
            if not all(consents & CONSENT_PERSONALISATION for consents in block.consents):
                continue
            puts[change.subject] = block
            if patches and not full and change.joined <= after:
                markers = changed_since(change.journal, after)
                if markers is not None and 2 * len(markers) <= block.counts[0]:
                    changed[change.subject] = markers
        for subject in store.crowded(audience.name, changed):
            del changed[subject]
        joined = (subject for subject, _ in _joiners(store, audience.name, after))
        cap_rows, counted = self._counted(audience.name, since, full=full)
        pieces = [
            *puts_of(
                list(merged({s: block for s, block in puts.items() if s not in changed})),
                list(patches_of({s: (puts[s], changed[s]) for s in changed})),
                list(lookups(store, audience, joined, ROWS_PER_PUT)),
            ),
            *counted_of(cap_rows),
            *deletes_of(deletes),
        ]
        tally = store.tally(audience.name)
        begin = sync_pb2.Begin(
            kind=sync_pb2.Begin.KIND_GENOMES,
            full=full,
            lineage=lineage,
            rows=len(puts),
            lookup_key=audience.lookup_key if audience.lookup else b"",
        )
        return Body(
            full,
            begin.SerializeToString(),
            tuple(pieces),
            basis,
            self._newest,
            tally.rows,
            tally.row_sum,
            counted=counted,
            more=counted is not None and not full and counted < self._newest,
        )

    def _counted(
        self, audience: str, since: int | None, *, full: bool
    ) -> tuple[list[CapRow], int | None]:
        """The cap events since a stamp, and up to which it is all; none beside all rows."""
        if since is None or full:
            return [], None if since is None else 0
        if self._store.cap_stamps().get(audience, 0) <= since:
            return [], self._newest
        return self._store.cap_changes(audience, since, MOST_COUNTED)


def _whole(
    audience: AudienceRow, lineage: dna_pb2.Lineage, content: Content, counted: int | None
) -> Body:
    """All rows, as a content."""
    begin = sync_pb2.Begin(
        kind=sync_pb2.Begin.KIND_GENOMES,
        full=True,
        lineage=lineage,
        rows=content.rows,
        lookup_key=audience.lookup_key if audience.lookup else b"",
        content=content.part,
    )
    deletes = deletes_of((subject, int(DeleteReason.ERASED)) for subject in content.erased)
    return Body(
        True,
        begin.SerializeToString(),
        tuple(deletes),
        content.basis,
        content.stamp,
        content.rows,
        content.row_sum,
        content,
        counted,
    )


def _pages(
    ask: Callable[[str, int, int], list[GenomeChange]], audience: str, after: int
) -> Iterator[GenomeChange]:
    while page := ask(audience, after, _PAGE):
        yield from page
        after = page[-1].changed


def _joiners(store: Store, audience: str, after: int) -> Iterator[tuple[bytes, int]]:
    while page := store.joined_members(audience, after, _PAGE):
        yield from page
        after = page[-1][1]


def _basis(incarnation: bytes, audience: AudienceRow, lineage: dna_pb2.Lineage) -> bytes:
    lookup = audience.lookup_key + audience.source.encode() if audience.lookup else b""
    parts = (
        incarnation,
        audience.name.encode(),
        lookup,
        lineage.vocabulary_lineage,
        f"{lineage.schema_epoch} {lineage.landmark_hour} {lineage.quantiser}".encode(),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.digest()[:16]


def _cursor(body: Body, marks: bytes) -> bytes:
    if body.counted is None:
        return _CURSOR.pack(1, body.basis, body.stamp, marks)
    return _COUNTING_CURSOR.pack(2, body.basis, body.stamp, marks, body.counted)


def _read_cursor(cursor: bytes, basis: bytes, newest: int) -> tuple[int, bytes, int]:
    """Return the stamp, the marks and the stamp of the cap events of a cursor; -1 in place of the
    first where all rows are needed."""
    counted = 0
    if len(cursor) == _COUNTING_CURSOR.size and cursor[0] == 2:
        *_, counted = _COUNTING_CURSOR.unpack(cursor)
    elif len(cursor) != _CURSOR.size or cursor[0] != 1:
        return -1, b"", 0
    _, of, stamp, marks = _CURSOR.unpack_from(cursor)
    if of != basis or max(stamp, counted) > newest:
        return -1, b"", 0
    return stamp, marks, counted


def _marks_digest(marks: Iterable[Mark]) -> bytes:
    digest = hashlib.sha256()
    for epoch, lane, sequence in marks:
        digest.update(epoch + struct.pack("<IQ", lane, sequence))
    return digest.digest()[:8]
