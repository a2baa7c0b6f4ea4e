"""What local apps report by themselves: batches of their own lanes, on their way into this device's
outbox, each event exactly once.

Theory of operation. An app that keeps a durable queue of its own numbers its events in lanes, as a
device does towards the server (docs/wire.md), and sends them here. The device gives them sequences
of its own lanes. How far each of the app's lanes is stands in the store, and moves in the same
transaction that writes the event, so it does not matter who is killed when.

Rules
-----
- A batch is the same bytes until it is answered. The same batch again is answered as before.
- One that begins where the lane stands is taken; one that begins later is refused with
  SEQUENCE_GAP and `expected`, unless EVICTED frames in it declare what is missing.
- What overlaps what is here and is not the last batch again comes from a copy of the app's queue:
  refused with FORKED_EPOCH. The app goes on under a new epoch.
- What an app says counts at once: an interaction imprints the genome, a consent holds. What only
  devices may know of is taken out: full forms of decisions, regions finer than allowed.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from google.protobuf.message import DecodeError

from edge_sdk.clock import LATEST_MS, Stamp
from edge_sdk.context import region_of
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_rules import REDEEM
from edge_sdk.engine.cells import parse_cell
from edge_sdk.engine.record import coarse
from edge_sdk.errors import BadFrame, InvalidContext
from edge_sdk.outbox import recording
from edge_sdk.outbox.entries import DUPLICATE, WRITTEN, Entry, Ticket
from edge_sdk.outbox.frames import HEADER_BYTES, Frame, FrameKind, iter_frames
from edge_sdk.sidecar.refusals import CallRefused
from edge_sdk.store import state
from edge_sdk.store.meta import GUESTS, count_loss, drop_meta, get_meta, set_meta
from edge_sdk.store.rows import read_rows
from genome_edge.v1 import dna_pb2, event_pb2, report_pb2

if TYPE_CHECKING:
    from edge_sdk.client import EdgeClient
    from edge_sdk.runtime.desk import Desk

ID_BYTES: Final = 16
MAX_BYTES: Final = 4 << 20
MAX_EVENTS: Final = 5_000
_MAX_SEQUENCE: Final = 2**63 - 1
#: Lanes of apps that are remembered; the one that was silent longest goes first.
MAX_LANES: Final = 1_000
_WAIT_S: Final = 30.0
# What a guard says beside WRITTEN and DUPLICATE.
_GAP: Final = "SEQUENCE_GAP"
_FORKED: Final = "FORKED_EPOCH"
_DECLARED: Final = "DECLARED"
#: Why events of an app are missing; counted in `status.counters`.
GIVEN_UP: Final = "GIVEN_UP_BY_APP"
_KINDS: Final[dict[int, str]] = {
    FrameKind.INTERACTION: "interaction",
    FrameKind.DECISION: "decision",
    FrameKind.OUTCOME: "outcome",
    FrameKind.CONSENT: "consent",
    FrameKind.LINK: "link",
    FrameKind.EVICTED: "evicted",
}
_MARK: Final = struct.Struct("<QQQ32sq")


class _Mark(NamedTuple):
    """How far a lane is, the batch that moved it there, and when (Unix milliseconds)."""

    through: int
    first: int
    last: int
    digest: bytes
    at_ms: int


@dataclass(frozen=True)
class _Step:
    """One frame of a batch, what it says, and the sequence that must be behind it in the lane.

    `opens`: it is the first of its batch.
    """

    after: int
    opens: bool
    frame: Frame
    event: event_pb2.Event


class Batches:
    """Takes batches of local apps. Thread-safe, also against other processes of the store."""

    def __init__(self, edge: EdgeClient) -> None:
        self._edge = edge
        self._lock = threading.Lock()

    def take(self, request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        """Take one batch; returns when it is on disk.

        Raises CallRefused for what cannot be taken, and StoreError.
        """
        steps = _steps(request)
        key = f"{GUESTS}{request.epoch.hex()}:{request.lane}"
        desk = self._edge._current()
        store = desk.keeper.when_open(_WAIT_S).store
        with self._lock, desk.consenting:
            outcomes = _put(desk, key, request, steps)
            for step, outcome in zip(steps, outcomes, strict=True):
                if step.event.HasField("consent"):
                    _consent(desk, step, outcome)
        with store.read() as connection:
            mark = _read(connection, key)
        through = mark.through if mark is not None else 0
        _complain(outcomes, steps, through)
        return report_pb2.ReportResponse(
            incarnation=store.epoch(),
            received_through=through,
            safe_through=through,
            server_time_ms=desk.room.clock.now_ms(),
        )


def _put(
    desk: Desk, key: str, request: report_pb2.ReportRequest, steps: Sequence[_Step]
) -> list[str]:
    """Hand the events to the writer and wait; what became of each. Raises StoreError."""
    now = desk.room.clock.stamp()
    tickets = []
    for step in steps:
        entry = _entry(desk, step, f"{key}:{step.frame.sequence}", now)
        entry.guard = _Guard(key, request, step, entry.event_id, now.server_ms)
        entry.event_id = b""  # the guard looks: the lane moves on whether the event is new or not
        entry.ticket = Ticket()
        tickets.append(entry.ticket)
        if entry.consent is not None and not entry.consent[1]:
            desk.room.local.consent(
                entry.subject, *entry.consent
            )  # in force whatever the disk does
        desk.take(entry)
    deadline = time.monotonic() + _WAIT_S
    return [ticket.wait(max(0.0, deadline - time.monotonic())) for ticket in tickets]


def _consent(desk: Desk, step: _Step, outcome: str) -> None:
    """Memory follows the disk."""
    said, local = step.event.consent, desk.room.local
    if outcome == WRITTEN:
        local.consent(step.frame.subject, said.purpose, said.granted)
    local.consent_settled(step.frame.subject, said.purpose)


def _complain(outcomes: Sequence[str], steps: Sequence[_Step], through: int) -> None:
    for outcome, step in zip(outcomes, steps, strict=True):
        at = step.frame.sequence
        if outcome == _FORKED:
            message = f"sequence {at} of this epoch is here from another batch: use a new epoch"
            raise CallRefused(_FORKED, message, sequence=at)
        if outcome == _GAP:
            message = f"sequence {through + 1} is due, the batch has {at}"
            raise CallRefused(_GAP, message, expected=through + 1)


class _Guard:
    """Looks at the lane in the transaction that writes the event, and moves it."""

    def __init__(
        self,
        key: str,
        request: report_pb2.ReportRequest,
        step: _Step,
        event_id: bytes,
        now_ms: int,
    ) -> None:
        self._key = key
        self._step = step
        self._event_id = event_id
        batch = request.first_sequence, request.last_sequence, request.digest
        self._mark = _Mark(step.frame.sequence, *batch, now_ms)

    def __call__(self, connection: sqlite3.Connection) -> str:
        """WRITTEN, or why the event is not."""
        here = _read(connection, self._key)
        mark, through = self._mark, here.through if here is not None else 0
        known = here is not None and here[1:4] == mark[1:4]  # the lane is inside this batch
        if mark.through <= through:
            return DUPLICATE if known else _FORKED
        if through < self._step.after or not (known or self._step.opens):
            return _GAP  # also behind one of this batch that was refused
        if here is None:
            _make_room(connection)
        set_meta(connection, **{self._key: _MARK.pack(*mark)})
        if self._step.frame.kind in (FrameKind.EVICTED, FrameKind.TOMBSTONE):
            gone = self._step.event.evicted.events if self._step.event.HasField("evicted") else 1
            count_loss(connection, GIVEN_UP, max(gone, 1))
            return _DECLARED
        if self._event_id and not state.is_event_new(connection, self._event_id, mark.at_ms):
            return DUPLICATE
        return WRITTEN


def _read(connection: sqlite3.Connection, key: str) -> _Mark | None:
    value = get_meta(connection, key)
    return None if value is None else _Mark(*_MARK.unpack(value))


def _make_room(connection: sqlite3.Connection) -> None:
    rows = list(
        read_rows(connection, "meta", "WHERE key >= ? AND key < ?", GUESTS, f"{GUESTS}\U0010ffff")
    )
    if len(rows) >= MAX_LANES:
        oldest = min(rows, key=lambda row: _Mark(*_MARK.unpack(row[1])).at_ms)
        drop_meta(connection, oldest[0])


# Reading a batch ----------------------------------------------------------------------------------


def _steps(request: report_pb2.ReportRequest) -> list[_Step]:
    """The frames of a batch whose framing holds. Raises CallRefused."""
    _check(request)
    frames: list[tuple[int, Frame, event_pb2.Event]] = []
    offset = 0
    try:
        for frame in iter_frames(request.frames):
            frames.append((offset, frame, _event(frame, offset)))
            offset += HEADER_BYTES + len(frame.body)
    except BadFrame as error:
        raise _bad(error.why, error.offset) from None
    if not frames:
        raise _bad("a batch has at least one frame", 0)
    if len(frames) > MAX_EVENTS:
        message = f"a batch holds at most {MAX_EVENTS} events, this one has {len(frames)}"
        raise CallRefused("TOO_LARGE", message, limit=MAX_EVENTS)
    declared = [_declared(event, at) for at, _, event in frames if event.HasField("evicted")]
    steps: list[_Step] = []
    due = request.first_sequence
    for at, frame, event in frames:
        if frame.sequence < due:
            raise _bad(f"sequence {frame.sequence} where {due} is due", at)
        if _behind(declared, frame.sequence) >= due:
            raise _bad(f"the sequences from {due} are neither here nor declared", at)
        after = steps[-1].frame.sequence if steps else _behind(declared, frame.sequence)
        steps.append(_Step(after, not steps, frame, event))
        due = frame.sequence + 1
    if due - 1 != request.last_sequence:
        message = f"the frames end at {due - 1}, the request says {request.last_sequence}"
        raise CallRefused("BAD_FRAME", message, field="last_sequence")
    return steps


def _check(request: report_pb2.ReportRequest) -> None:
    if len(request.epoch) != ID_BYTES:
        raise CallRefused("INVALID_ARGUMENT", "an epoch is 16 bytes", field="epoch")
    if not 1 <= request.first_sequence <= request.last_sequence <= _MAX_SEQUENCE:
        message = "sequences start at 1 and rise"
        raise CallRefused("INVALID_ARGUMENT", message, field="first_sequence")
    if len(request.frames) > MAX_BYTES:
        message = f"a batch holds at most {MAX_BYTES} bytes, this one has {len(request.frames)}"
        raise CallRefused("TOO_LARGE", message, limit=MAX_BYTES)
    if hashlib.sha256(request.frames).digest() != request.digest:
        raise CallRefused("BAD_DIGEST", "the digest is not that of the frames")


def _event(frame: Frame, at: int) -> event_pb2.Event:
    """What a frame says: its body and its kind must agree. A kind of later is left as it is."""
    if frame.kind == FrameKind.TOMBSTONE:
        return event_pb2.Event()
    try:
        event = event_pb2.Event.FromString(frame.body)
    except DecodeError:
        raise _bad("its body cannot be read", at) from None
    expected = _KINDS.get(frame.kind)
    if expected is not None and event.WhichOneof("payload") != expected:
        raise _bad(f"its body holds no {expected}", at)
    if event.HasField("consent") and event.consent.purpose not in dna_pb2.ConsentPurpose.values():
        raise _bad("its consent names no purpose", at)
    return event


def _declared(event: event_pb2.Event, at: int) -> tuple[int, int]:
    said = event.evicted
    if not 1 <= said.first_sequence <= said.last_sequence <= _MAX_SEQUENCE:
        raise _bad("an EVICTED frame names no range", at)
    return said.first_sequence, said.last_sequence


def _behind(declared: Sequence[tuple[int, int]], sequence: int) -> int:
    """The last sequence before this one that is not declared as given up."""
    after = sequence - 1
    for low, high in sorted(declared, key=lambda one: one[1], reverse=True):
        if low <= after <= high:
            after = low - 1
    return after


def _bad(what: str, at: int) -> CallRefused:
    return CallRefused("BAD_FRAME", f"frame at byte {at}: {what}", offset=at)


# What the device makes of an event ----------------------------------------------------------------


def _entry(desk: Desk, step: _Step, name: str, now: Stamp) -> Entry:
    """The event as an event of this device, with what it changes here; `name` where it has none."""
    frame, event = step.frame, step.event
    stamp = _stamp(frame, event.time, now)
    if event.HasField("interaction"):
        said = event.interaction
        said.region = _region(said.region)
        once = bool(said.interaction_id)
        said.interaction_id = said.interaction_id or name
        return recording.interaction(said, frame.subject, stamp, once=once)
    if event.HasField("outcome"):
        return _outcome(desk, step, name, stamp)
    if event.HasField("consent"):
        consent = event.consent
        return recording.consent(consent.purpose, consent.granted, frame.subject, stamp)
    if event.HasField("decision"):
        event.decision.CopyFrom(coarse(event.decision))
        event.decision.region = _region(event.decision.region)
    event.time.CopyFrom(stamp.to_proto())
    body = event.SerializeToString()
    # A kind of later is passed on under its number.
    kind = cast("FrameKind", frame.kind)
    return Entry(kind, frame.subject, stamp.server_ms, lambda: (body, b""))


def _outcome(desk: Desk, step: _Step, name: str, stamp: Stamp) -> Entry:
    """What followed a decision; where it was made here, it counts as if it had been reported."""
    said, subject = step.event.outcome, step.frame.subject
    made = desk._find(said.decision_id.hex(), 0.0) if len(said.decision_id) == ID_BYTES else None
    if made is not None and said.slot < len(made.offers):
        said.offer = said.offer or made.offers[said.slot]
        said.placement = said.placement or made.placement
        subject = made.subject if subject == NOBODY else subject
    outcome = recording.Outcome(
        said.decision_id,
        said.slot,
        said.kind,
        said.event_id or name,
        offer=said.offer,
        placement=said.placement,
        value_micros=said.value_micros,
    )
    return recording.outcome(
        outcome,
        subject,
        stamp,
        desk._counted(made, outcome),
        urgent=said.kind == REDEEM,
        once=bool(said.event_id),
    )


def _stamp(frame: Frame, said: event_pb2.EventTime, now: Stamp) -> Stamp:
    """When it was: by the app's clock, which is this machine's, and what the device knows of it."""
    wall_ms = min(max(said.wall_ms or frame.time_ms, 0), LATEST_MS)
    offset = said.server_offset_ms if said.offset_known else now.offset_ms
    return Stamp(wall_ms, said.monotonic_ms, said.boot_id, offset)


def _region(text: str) -> str:
    """A region as coarse as one that is reported may be; nothing where it is no cell."""
    try:
        return region_of(parse_cell(text)) if text else ""
    except InvalidContext:
        return ""
