"""What the genomes of devices lack: worked out from the store, before anything is sent.

All devices that ask are answered from one snapshot of the store: rows, deletions, what they come
to, and how far each device's own events are in them are those of the same state. What devices at
the same cursor are sent is worked out and written once; only the nonce, the marks and the cursor
are a device's own.

The cursor names everything that rows depend on (log, audience, lookup, lineage) and the newest
change that the device has. A cursor of anything else, or of a state that this store never had,
means: all rows again. For a device that takes cap events it also names the newest of those; after
all rows it has none, and what follows brings all that there are.

While the rows in the store are of another lineage than the device's release, it gets none. But
whoever was erased, left or withdrew goes from it at once. How many rows it holds then is known from
the store, which remembers since when each row was there without a break; what they add up to is
not said. A device of which that is not known is left without rows: somebody may be among them who
is to be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edge_sdk.engine.cap_rules import CapRow
from genome_edge.v1 import dna_pb2, sync_pb2
from genome_server.genomes.rows import built_schema
from genome_server.services.contents import Content, Contents, lookups
from genome_server.services.framing import Piece
from genome_server.services.sync_cursor import Cursor, basis_of, marks_digest, read_cursor
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

    `stamp` is the state that it leads to, with `rows` rows that come to `row_sum` (None: that is
    not known), and `counted` the newest stamp of the cap events (None: for a device that takes
    none); `more` of them follow. `told`: no rows come, but who went up to this stamp goes.
    """

    full: bool
    begin: bytes
    pieces: tuple[Piece, ...]
    basis: bytes
    stamp: int
    rows: int
    row_sum: int | None
    content: Content | None = None
    counted: int | None = None
    more: bool = False
    told: int | None = None

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

    For rows it waits while those in the store are of another lineage than its release: between a
    build under a new schema and its publication, and until the device has taken that.
    """
    with store.snapshot():
        planner = _Planner(store, contents, incarnation, store.newest_stamp())
        marks = store.marks_of({want.device for want in wants})
        return [planner.answer(want, marks.get(want.device, [])) for want in wants]


class _Asked(NamedTuple):
    """Whose rows under which lineage; what they depend on, and whether they are in the store."""

    audience: AudienceRow
    lineage: dna_pb2.Lineage
    basis: bytes
    fit: bool


class _Planner:
    """Answers from one snapshot; what was worked out for one device serves all like it."""

    def __init__(self, store: Store, contents: Contents, incarnation: bytes, newest: int) -> None:
        self._store = store
        self._contents = contents
        self._incarnation = incarnation
        self._newest = newest
        self._known: dict[object, _Asked | None] = {}
        self._bodies: dict[tuple[object, ...], Body] = {}

    def answer(self, want: Want, marks: list[Mark]) -> Answer:
        """What one device lacks."""
        known = self._look_up(want.audience, want.lineage)
        if known is None:
            return None
        audience, lineage, basis, fit = known
        at = read_cursor(want.cursor, basis, self._newest)
        if not fit:
            return self._waiting(known, at, counts=want.counts)
        after, said = (-1, b"") if at is None else (at.stamp, at.marks)
        counted = 0 if at is None else at.counted or 0
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
        digest = marks_digest(marks)
        if body.nothing and digest == said:
            return None
        return GenomePlan(body, marks, _cursor(body, digest))

    def _waiting(self, asked: _Asked, at: Cursor | None, *, counts: bool) -> Answer:
        """Whom a device has to let go that gets no rows meanwhile."""
        counted = at.counted if at is not None else 0 if counts else None
        place = None if at is None else (at.stamp, at.heard)
        key = (asked.basis, "waiting", place, counted)
        body = self._once(key, lambda: self._departures(asked, at, counted))
        if body.nothing:
            return None
        # Its own events are in no row that it has: nothing new is included.
        return GenomePlan(body, [], _cursor(body, at.marks if at is not None else bytes(8)))

    def _departures(self, asked: _Asked, at: Cursor | None, counted: int | None) -> Body:
        name, stamp = asked.audience.name, 0 if at is None else at.stamp
        gone = [] if at is None else self._store.departures(name, at.heard)
        # The rows of a device of which nothing is known go; so do all that cannot be counted.
        rows = self._store.stayed(name, stamp) if gone else None
        full = at is None or (bool(gone) and rows is None)
        if full:
            gone, stamp = [(one, DeleteReason.ERASED) for one in self._store.erased(name)], 0
        begin = sync_pb2.Begin(kind=sync_pb2.Begin.KIND_GENOMES, full=full, lineage=asked.lineage)
        return Body(
            full,
            begin.SerializeToString(),
            tuple(deletes_of((subject, int(reason)) for subject, reason in gone)),
            asked.basis,
            stamp,
            rows or 0,
            0 if full else None,
            counted=0 if full and counted is not None else counted,
            told=self._newest,
        )

    def _look_up(self, name: str, serialised: bytes) -> _Asked | None:
        key = (name, serialised)
        if key not in self._known:
            audience = self._store.audience(name)
            lineage = dna_pb2.Lineage.FromString(serialised)
            if audience is None or built_schema(self._store) is None:
                self._known[key] = None
            else:
                basis = basis_of(self._incarnation, audience, lineage)
                fit = rows_fit(self._store, lineage)
                self._known[key] = _Asked(audience, lineage, basis, fit)
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


def _cursor(body: Body, marks: bytes) -> bytes:
    return Cursor(body.basis, body.stamp, marks, body.counted, body.told).pack()
