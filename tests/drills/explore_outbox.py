"""The outbox half of the drill `explore`: two devices, their server and their mishaps.

The outbox and the report pump of a device, and the transaction of the server's log, each over a
SQLite database in memory. What can happen, in any order: a device writes an event; hears which log
it is; calls; the server takes a call, also one that was given up, and also twice; the answer
arrives, or the device stops waiting for it (as one that is switched off); the server is backed up,
and restored; a device's disk is copied and put back later, or started as a second device beside the
first.

In every state must hold: the log has each event at most once, and an event that is not in the log
is on a device (but what only a disk held that was put back is gone with that disk). And wherever
the devices come to rest everything is in the log once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar, cast
from unittest import mock

from edge_sdk.config import Config
from edge_sdk.errors import RefusedError, UnreachableError
from edge_sdk.outbox import lanes
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame, iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store import tables
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.lane_rows import lane_row, new_lane, put_lane
from edge_sdk.store.meta import get_meta, set_meta
from edge_sdk.store.segments import write_segment
from edge_sdk.sync.pace import Backoff
from edge_sdk.sync.reporting import ReportPump
from edge_sdk.sync.transport import ErrorReason
from genome_edge.v1 import event_pb2, report_pb2
from genome_server.log import schema
from genome_server.log.framing import Batch, BatchRefusedError, check_batch
from genome_server.log.transaction import Transaction
from tests.drills.explore_databases import IN_LOG, ON_DISK, Memory, database, dump
from tests.drills.explore_outbox_states import ALLOWANCES, Allowance, Call, State

__all__ = ["ALLOWANCES", "World"]

T = TypeVar("T")

_LANE: Final = 1
_CONFIG: Final = Config(batch_events=2)
_NAMES: Final = "ab"
_DEVICE: Final = "till"


class World:
    """Carries out steps on states."""

    def __init__(self) -> None:
        self._disk = Memory()
        self._log = database()
        self._outbox = Outbox(cast("DeviceStore", self._disk), _CONFIG)

    def start(self, allowance: Allowance) -> State:
        """One device with an empty store, and an empty log."""
        disk = self._disk.connection
        tables.migrate(disk, 0)
        set_meta(disk, epoch=_name(1))
        for statement in schema._TABLES.split(";"):
            if statement.strip():
                self._log.execute(statement)
        self._log.execute("INSERT INTO meta VALUES ('incarnation', ?)", (_name(1),))
        return State((disk.serialize(),), self._log.serialize(), allowance)

    def key(self, state: State) -> bytes:
        """What tells this state from others."""
        digest = hashlib.sha256()
        for disk in (*state.disks, state.image):
            if disk is not None:
                self._disk.connection = database(disk)
                digest.update(repr(dump(self._disk.connection, ON_DISK)).encode())
        for log in (state.log, state.backup):
            if log is not None:
                self._log = database(log)
                digest.update(repr(dump(self._log, IN_LOG)).encode())
        line = sorted(state.line)
        rest = (state.left, state.waits, state.replies, line, sorted(state.doomed), state.epochs)
        digest.update(repr((rest, state.image is None, state.backup is None)).encode())
        return digest.digest()

    # Steps ------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[tuple[str, bool, State]]:
        """Everything that can happen now: what, whether it is a mishap, and the state after it."""
        left = state.left
        for device in range(len(state.disks)):
            name = _NAMES[device]
            if left.events:
                yield f"{name} writes {state.written + 1}", True, self._write(state, device)
            if state.waits[device]:
                if state.replies[device] is not None:
                    yield f"{name} hears", False, self._hear(state, device)
                if left.given_up:
                    yield f"{name} stops waiting", True, _given_up(state, device)
            else:
                told = self._told(state, device)
                if told is not None:
                    yield f"{name} is told of the log", False, told
                called = self._call(state, device)
                if called is not None:
                    yield f"{name} calls", False, called
        yield from self._calls(state)
        yield from self._disasters(state)

    def _calls(self, state: State) -> Iterator[tuple[str, bool, State]]:
        for number, call in enumerate(state.line):
            name = _NAMES[call.device]
            taken = self._take(state, number, keep=False)
            yield f"server takes {name}'s call", not call.awaited, taken
            if state.left.twice:
                yield (
                    f"server takes {name}'s call twice",
                    True,
                    self._take(state, number, keep=True),
                )

    def _disasters(self, state: State) -> Iterator[tuple[str, bool, State]]:
        left = state.left
        if left.backups:
            yield "backup", True, replace(state, backup=state.log, left=left.less("backups"))
        if left.restores and state.backup is not None:
            yield "restore", True, self._restore(state)
        if left.images:
            yield "image of a", True, replace(state, image=state.disks[0], left=left.less("images"))
        if left.put_back and state.image is not None:
            yield "a's disk put back", True, self._put_back(state)
        if left.clones and len(state.disks) == 1:
            yield (
                "a cloned",
                True,
                replace(
                    state,
                    disks=state.disks * 2,
                    waits=(*state.waits, False),
                    replies=(*state.replies, None),
                    left=left.less("clones"),
                ),
            )

    def _write(self, state: State, device: int) -> State:
        number = state.written + 1
        connection = self._on(state, device)
        body = event_pb2.Event(interaction=event_pb2.Interaction(interaction_id=str(number)))
        lane = lane_row(connection, _LANE) or new_lane(connection, _LANE)
        sequence = lane.next
        frame = Frame(sequence, bytes(16), FrameKind.INTERACTION, number, body.SerializeToString())
        put_lane(connection, lane._replace(next=sequence + 1))
        segment = lanes.Segment(sequence, sequence, number, encode_frame(frame))
        write_segment(connection, _LANE, segment)
        return replace(self._off(state, device), written=number, left=state.left.less("events"))

    def _call(self, state: State, device: int) -> State | None:
        """The state after the device has sent what it would send; None where there is nothing."""
        self._on(state, device)
        sent: list[bytes] = []

        def send(request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
            sent.append(request.SerializeToString(deterministic=True))
            raise UnreachableError("not yet")

        if self._pump(send).step() is None:
            return None
        return replace(
            self._off(state, device),
            waits=_put(state.waits, device, value=True),
            line=(*state.line, Call(device, sent[0], True)),
        )

    def _told(self, state: State, device: int) -> State | None:
        """The state after a heartbeat that says which log it is; None where that is no news."""
        self._log = database(state.log)
        incarnation = schema.incarnation(self._log)
        connection = self._on(state, device)
        if get_meta(connection, "incarnation") in (None, incarnation):
            return None
        self._outbox.heed(incarnation)
        return self._off(state, device)

    def _hear(self, state: State, device: int) -> State:
        reply = state.replies[device]
        assert reply is not None
        what, content = reply
        self._on(state, device)
        epoch = _name(state.epochs + 1)

        def send(_: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
            if what == "ok":
                return report_pb2.ReportResponse.FromString(content)
            raise RefusedError(what, "", dict(json.loads(content)))

        with mock.patch("edge_sdk.outbox.queue.os.urandom", return_value=epoch):
            self._pump(send).step()
        return replace(
            self._off(state, device),
            waits=_put(state.waits, device, value=False),
            replies=_put(state.replies, device, value=None),
            epochs=state.epochs + (what == ErrorReason.FORKED_EPOCH),
        )

    def _pump(self, send: Callable[[Any], Any]) -> ReportPump:
        return ReportPump(self._outbox, send, Backoff(0, 0), 0)

    def _take(self, state: State, number: int, *, keep: bool) -> State:
        call = state.line[number]
        rest = state.line[:number] + state.line[number + 1 :]
        left = state.left
        if keep:  # the second copy is one that nobody waits for
            rest, left = (*rest, call._replace(awaited=False)), left.less("twice")
        reply = self._append(state, report_pb2.ReportRequest.FromString(call.request))
        log = self._log.serialize()
        replies = state.replies
        if call.awaited:
            replies = _put(replies, call.device, value=reply)
        return replace(state, log=log, line=rest, left=left, replies=replies)

    def _append(self, state: State, request: report_pb2.ReportRequest) -> tuple[str, bytes]:
        safe = self._safe_through(state, request.epoch)
        self._log = database(state.log)
        incarnation = schema.incarnation(self._log)
        batch = Batch.of(_DEVICE, request)
        self._log.execute("BEGIN")
        transaction = Transaction(self._log, incarnation, 1)
        try:
            received = transaction.append(check_batch(batch))
        except BatchRefusedError as refusal:
            self._log.execute("ROLLBACK")
            return refusal.reason, json.dumps(refusal.facts).encode()
        transaction.write()
        self._log.execute("COMMIT")
        response = report_pb2.ReportResponse(
            incarnation=incarnation,
            received_through=received,
            safe_through=received if safe is None else min(safe, received),
        )
        return "ok", response.SerializeToString(deterministic=True)

    def _safe_through(self, state: State, epoch: bytes) -> int | None:
        """As far as the backup goes; None in a world without backups."""
        if state.backup is None:
            return 0 if state.left.restores else None
        self._log = database(state.backup)
        row = self._log.execute(
            "SELECT through FROM lanes WHERE epoch = ? AND lane = ?", (epoch, _LANE)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def _restore(self, state: State) -> State:
        assert state.backup is not None
        self._log = database(state.backup)
        name = _name(state.incarnations + 1)
        self._log.execute("UPDATE meta SET value = ? WHERE key = 'incarnation'", (name,))
        # Another server process: no connection of the one before lives on, nor a call on it.
        for device in range(len(state.disks)):
            state = _given_up(state, device, counted=False)
        return replace(
            state,
            line=(),
            log=self._log.serialize(),
            incarnations=state.incarnations + 1,
            left=state.left.less("restores"),
        )

    def _put_back(self, state: State) -> State:
        assert state.image is not None
        disks = _put(state.disks, 0, value=state.image)
        after = _given_up(replace(state, disks=disks), 0, counted=False)
        lost = self._held(state) - self._held(after)
        return replace(
            after, doomed=after.doomed | lost, left=state.left.less("put_back"), image=None
        )

    def _on(self, state: State, device: int) -> sqlite3.Connection:
        self._disk.connection = database(state.disks[device])
        return self._disk.connection

    def _off(self, state: State, device: int) -> State:
        disk = self._disk.connection.serialize()
        return replace(state, disks=_put(state.disks, device, value=disk))

    # What must hold -----------------------------------------------------------------------------

    def check(self, state: State) -> str:
        """What does not hold in a state; empty: all does."""
        logged = Counter(self._logged(state.log))
        twice = sorted(number for number, times in logged.items() if times > 1)
        if twice:
            return f"event {twice[0]} is in the log twice"
        written = set(range(1, state.written + 1))
        gone = written - set(logged) - self._held(state) - state.doomed
        return f"event {min(gone)} is gone" if gone else ""

    def check_rest(self, state: State) -> str:
        """What does not hold in a state in which nothing more happens by itself."""
        missing = set(range(1, state.written + 1)) - set(self._logged(state.log)) - state.doomed
        return f"at rest without event {min(missing)} in the log" if missing else ""

    def _logged(self, log: bytes) -> list[int]:
        self._log = database(log)
        return [
            number
            for (frames,) in self._log.execute("SELECT frames FROM batches")
            for number in _events(frames)
        ]

    def _held(self, state: State) -> set[int]:
        """The events that are on any disk."""
        held: set[int] = set()
        for disk in state.disks:
            self._disk.connection = database(disk)
            for (frames,) in self._disk.connection.execute("SELECT frames FROM outbox"):
                held |= set(_events(frames))
        return held


def _given_up(state: State, device: int, *, counted: bool = True) -> State:
    return replace(
        state,
        waits=_put(state.waits, device, value=False),
        replies=_put(state.replies, device, value=None),
        line=tuple(
            call._replace(awaited=False) if call.device == device else call for call in state.line
        ),
        left=state.left.less("given_up") if counted else state.left,
    )


def _put(values: tuple[T, ...], at: int, *, value: T) -> tuple[T, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _events(frames: bytes) -> list[int]:
    return [
        int(event_pb2.Event.FromString(frame.body).interaction.interaction_id)
        for frame in iter_frames(frames)
        if frame.kind == FrameKind.INTERACTION
    ]
