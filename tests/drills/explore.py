"""Every interleaving of two devices, their server and their mishaps, at small bounds.

There are two halves, as a device has two: what it says is explored here, what it is told in
`explore_sync`. The code that is explored is the code that runs: here the outbox and the report pump
of a device, and the transaction of the server's log, each over a SQLite database in memory. What
can happen, in any order: a device writes an event; hears which log it is; calls; the server takes a
call, also one that was given up, and also twice; the answer arrives, or the device stops waiting
for it (as one that is switched off); the server is backed up, and restored; a device's disk is
copied and put back later, or started as a second device beside the first.

In every state must hold: the log has each event at most once, and an event that is not in the log
is on a device (but what only a disk held that was put back is gone with that disk). And from every
state, when nothing more goes wrong, the devices come to rest, and wherever they can come to rest
everything is in the log once.

A round is a state. The allowances of mishaps are explored one after the other, each whole, until as
many states were seen as there are rounds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast
from unittest import mock

from edge_sdk.config import Config
from edge_sdk.errors import RefusedError, UnreachableError
from edge_sdk.outbox import lanes
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame, iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store import rows, tables
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.meta import get_meta, set_meta
from edge_sdk.store.segments import write_segment
from edge_sdk.sync.pace import Backoff
from edge_sdk.sync.reporting import ReportPump
from edge_sdk.sync.transport import ErrorReason
from genome_edge.v1 import event_pb2, report_pb2
from genome_server.log import schema
from genome_server.log.framing import Batch, BatchRefusedError, check_batch
from genome_server.log.transaction import Transaction
from tests.drills import explore_sync
from tests.drills.findings import Findings

T = TypeVar("T")

SHORT: Final = 2_000
LONG: Final = 400_000
UNIT: Final = "states"

_LANE: Final = 1
_CONFIG: Final = Config(batch_events=2)
_NAMES: Final = "ab"
_DEVICE: Final = "till"


@dataclass(frozen=True, slots=True)
class Allowance:
    """How often each thing may happen."""

    events: int = 2
    twice: int = 0
    given_up: int = 0
    backups: int = 0
    restores: int = 0
    images: int = 0
    put_back: int = 0
    clones: int = 0

    def less(self, name: str) -> Allowance:
        """One less of it."""
        return replace(self, **{name: getattr(self, name) - 1})


#: Explored in this order.
ALLOWANCES: Final = {
    "calls lost and repeated": Allowance(events=3, twice=1, given_up=1),
    "a disk put back": Allowance(events=2, given_up=1, images=1, put_back=1),
    "a cloned disk": Allowance(events=2, given_up=1, clones=1),
    "a restored server": Allowance(events=2, given_up=1, backups=1, restores=1),
    "a cloned disk, three events": Allowance(events=3, clones=1),
    "calls lost twice": Allowance(events=3, twice=1, given_up=2),
    "a disk put back, calls repeated": Allowance(
        events=3, twice=1, given_up=1, images=1, put_back=1
    ),
    "a cloned disk, calls repeated": Allowance(events=3, twice=1, given_up=1, clones=1),
    "a cloned disk and a restored server": Allowance(
        events=2, given_up=1, clones=1, backups=1, restores=1
    ),
    "a server restored twice": Allowance(events=3, given_up=1, backups=2, restores=2),
}


class Call(NamedTuple):
    """A call on its way to the server. Nobody waits for the answer of one that was given up."""

    device: int
    request: bytes
    awaited: bool


@dataclass(frozen=True, slots=True)
class State:
    """The world between two steps. Databases are serialised. For each device: whether it waits for
    an answer, and the answer that is on its way."""

    disks: tuple[bytes, ...]
    log: bytes
    left: Allowance
    waits: tuple[bool, ...] = (False,)
    replies: tuple[tuple[str, bytes] | None, ...] = (None,)
    line: tuple[Call, ...] = ()
    backup: bytes | None = None
    image: bytes | None = None
    written: int = 0
    #: Names given so far: epochs of devices and incarnations of the log.
    epochs: int = 1
    incarnations: int = 1
    #: Events that may be gone: only a disk that was put back held them.
    doomed: frozenset[int] = frozenset()


def play(
    folder: Path,
    seed: int,
    rounds: int,
    progress: Callable[[int], None],
    first: int = 0,
) -> Findings:
    """Explore one allowance after the other."""
    found = Findings()
    halves = ((name, World(), allowance) for name, allowance in ALLOWANCES.items())
    others = ((n, explore_sync.World(), a) for n, a in explore_sync.ALLOWANCES.items())
    for name, world, allowance in _in_turn(halves, others):
        if found.tried >= rounds:
            break
        before = found.tried
        states, problems = explore(
            world,
            allowance,
            lambda n, before=before: progress(before + n),  # type: ignore[misc]
        )
        found.tried += states
        found.note(f"{name:<36} {states:>7} states, all of them")
        for problem in problems:
            found.fail(0, f"{name}: {problem}")
    return found


def _in_turn(*series: Iterator[Any]) -> Iterator[Any]:
    """One of each, again and again, until there is nothing left."""
    none = object()
    for ones in zip_longest(*series, fillvalue=none):
        yield from (one for one in ones if one is not none)


def explore(
    world: Any, allowance: Any, progress: Callable[[int], None] = lambda _: None
) -> tuple[int, list[str]]:
    """Explore one allowance; how many states there are, and what does not hold in them."""
    start = world.start(allowance)
    key = world.key(start)
    parents: dict[Key, tuple[Key, str]] = {}
    calm: dict[Key, set[Key]] = {}  # what can follow when nothing goes wrong
    resting: list[Key] = []
    problems: list[str] = []
    waiting = deque([(start, key)])
    seen = {key}
    while waiting and len(problems) < _ENOUGH:
        state, key = waiting.popleft()
        problem = world.check(state)
        calm[key] = set()
        for step, mishap, after in world.steps(state):
            follows = world.key(after)
            if not mishap:
                calm[key].add(follows)
            if follows not in seen:
                seen.add(follows)
                parents[follows] = (key, step)
                waiting.append((after, follows))
        if not calm[key]:
            resting.append(key)
            problem = problem or world.check_rest(state)
        if problem:
            problems.append(f"{problem}, after: {'; '.join(_path(parents, key))}")
        if len(seen) % 500 == 0:
            progress(len(seen))
    progress(len(seen))
    if not problems:
        restless = set(calm) - _leading_to(resting, calm)
        problems += [
            f"no rest from: {'; '.join(_path(parents, one))}" for one in list(restless)[:3]
        ]
    return len(seen), problems


_ENOUGH: Final = 5
Key = bytes


def _leading_to(targets: list[Key], follows: dict[Key, set[Key]]) -> set[Key]:
    """All from which one of the targets can be reached."""
    before: dict[Key, list[Key]] = {}
    for one, others in follows.items():
        for other in others:
            before.setdefault(other, []).append(one)
    reached, waiting = set(targets), list(targets)
    while waiting:
        for one in before.get(waiting.pop(), ()):
            if one not in reached:
                reached.add(one)
                waiting.append(one)
    return reached


def _path(parents: dict[Key, tuple[Key, str]], key: Key) -> list[str]:
    steps = []
    while key in parents:
        key, step = parents[key]
        steps.append(step)
    return steps[::-1]


class Memory:
    """A database in memory, in place of a device's store."""

    path = Path("nowhere")

    def __init__(self) -> None:
        self.connection = database()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        self.connection.execute("BEGIN")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise

    read = write


def database(content: bytes | None = None) -> sqlite3.Connection:
    """A database in memory whose pages are small: states are made of its bytes.

    A new connection for each state: one that was used before may hold on to what it read.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if content is None:
        connection.execute("PRAGMA page_size = 512")
    else:
        connection.deserialize(content)
    rows.prepare(connection)
    return connection


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

    def key(self, state: State) -> Key:
        """What tells this state from others."""
        digest = hashlib.sha256()
        for disk in (*state.disks, state.image):
            if disk is not None:
                self._disk.connection = database(disk)
                digest.update(repr(_dump(self._disk.connection, _ON_DISK)).encode())
        for log in (state.log, state.backup):
            if log is not None:
                self._log = database(log)
                digest.update(repr(_dump(self._log, _IN_LOG)).encode())
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
        row = connection.execute("SELECT next FROM lanes WHERE lane = ?", (_LANE,)).fetchone()
        sequence = 1 if row is None else int(row[0])
        frame = Frame(sequence, bytes(16), FrameKind.INTERACTION, number, body.SerializeToString())
        connection.execute(
            "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET next = next + 1",
            rows.sealed(_LANE, 1, 2, 0, 0),
        )
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

        with mock.patch("edge_sdk.outbox.queue.secrets.token_bytes", return_value=epoch):
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
        batch = Batch(
            _DEVICE,
            request.epoch,
            request.lane,
            request.first_sequence,
            request.last_sequence,
            request.frames,
            request.digest,
        )
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


_ON_DISK: Final = (
    "SELECT key, value FROM meta ORDER BY key",
    "SELECT lane, next, received, safe FROM lanes ORDER BY lane",
    "SELECT lane, first, last, frames, reason FROM outbox ORDER BY lane, first",
    "SELECT * FROM batches ORDER BY lane",
)
_IN_LOG: Final = (
    "SELECT * FROM meta ORDER BY key",
    "SELECT epoch, lane, first, last, frames FROM batches ORDER BY offset",
)


def _dump(connection: sqlite3.Connection, queries: tuple[str, ...]) -> list[Any]:
    return [connection.execute(query).fetchall() for query in queries]
