"""Devices of simulated worlds: they run without threads, sockets and child processes.

Everything that decides is the code that runs: the store, the writer, the updater and the report
pump. Put in the place of threads, sockets and child processes are calls.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest import mock

from edge_sdk import slices
from edge_sdk.clock import Clocks, DeviceClock
from edge_sdk.config import Config
from edge_sdk.context import Context
from edge_sdk.decision import Decision
from edge_sdk.dna.genome import Row
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine import scoring
from edge_sdk.engine.policy import Scorer
from edge_sdk.errors import RefusedError, TrustError
from edge_sdk.outbox import recording, writer
from edge_sdk.outbox.entries import WRITTEN, Entry
from edge_sdk.outbox.frames import FrameKind, iter_frames
from edge_sdk.runtime.desk import Desk
from edge_sdk.runtime.room import Room
from edge_sdk.store import releases
from edge_sdk.store.database import Database
from edge_sdk.store.device import DeviceStore, Identity
from edge_sdk.store.files import Parts
from edge_sdk.store.genome_files import Files, write_content
from edge_sdk.store.genomes import GenomeView
from edge_sdk.store.open_store import OpenStore
from edge_sdk.sync import holding, installing, trust, worker
from edge_sdk.sync.pace import Backoff
from edge_sdk.sync.updater import Updater
from edge_sdk.testing import SimulatedClock, SimulatedNetwork
from genome_edge.v1 import dna_pb2, event_pb2, release_pb2, report_pb2, sync_pb2
from tests.drills.town import BEGIN_MS, Town

CONFIG: Final = Config(batch_events=3, reconnect_min_s=0, reconnect_max_s=0, group_commit_s=0)


CUSTOMERS: Final = 6


class Crash(BaseException):
    """The device is switched off here."""


class Fuse:
    """Switches a device off at one of the moments at which it writes to its disk."""

    def __init__(self) -> None:
        self.left = 0

    def tick(self) -> None:
        """One such moment. Raises Crash where it is the one."""
        if self.left > 0:
            self.left -= 1
            if not self.left:
                raise Crash


class Line:
    """A link to a town without a socket."""

    address = SimpleNamespace(text="town")
    clock = SimpleNamespace(now_ms=lambda: 0)

    def __init__(self, town: Town, network: SimulatedNetwork, device: Device) -> None:
        self._town, self._network, self._device = town, network, device

    def open_sync(self, requests: Iterator[sync_pb2.SyncRequest]) -> Line:
        """The stream that this Hello opens."""
        self._hello = next(requests).hello
        self._town.asking = self._device.name
        return self

    def __iter__(self) -> Iterator[sync_pb2.SyncResponse]:
        town, device = self._town, self._device
        return self._network.carry(town.answer(self._hello, lambda: device.taken() == town.offered))

    def cancel(self) -> None:
        """Nothing is open."""

    close = cancel

    def heed_clock(self, _: RefusedError) -> bool:
        """This server tells no device that its proof is out of time."""
        return False

    def call(self, _: object, request: report_pb2.ReportRequest, _s: float) -> Any:
        """A report. Raises RefusedError and UnreachableError."""
        return self._network.call(lambda r: self._town.log.take(self._device.name, r), request)


class Device:
    """A device without threads of its own. `true` is the true time, `ahead` its wall's error."""

    def __init__(self, path: Path, name: str, true: SimulatedClock) -> None:
        self.path, self.name = path, name
        self.true, self.ahead = true, 0
        self.booted, self.boot = true.ms, secrets.token_bytes(16)
        self.start()

    def start(self) -> None:
        """Open the store. Raises StoreError."""
        self.store = DeviceStore.open(self.path)
        self.store.clocks = Clocks(
            lambda: self.true.ms + self.ahead, lambda: self.true.ms - self.booted, self.boot
        )
        self.room = Room(CONFIG, DeviceClock(*self.store.clocks))
        self.open = OpenStore(self.store, self.room, CONFIG, lambda: None)
        self.outbox, self.writer = self.open.outbox, self.open.writer
        self.desk = Desk(self.room, cast("Any", SimpleNamespace(put=self.put, tell=id)))
        self.updater = Updater(self.store, self.outbox, CONFIG, lambda: None)

    def stop(self, *, reboot: bool = False) -> None:
        """Switched off: what is in memory is gone."""
        self.open._watch.close()
        self.room.claims.detach()
        self.store.close()
        self.writer._lock.release()
        if reboot:
            self.booted, self.boot = self.true.ms, secrets.token_bytes(16)

    def put(self, entry: Entry) -> None:
        """Something happens; it is on disk once `settled` was called."""
        self.writer.put(entry)
        self.writer.inbox.gather()
        self.writer._write_out()

    def happen(self, entry: Entry) -> None:
        """Something that counts at once: an imprint is known before it is on disk."""
        imprint, said = recording.stored(entry), entry.settled

        def settled(outcome: str) -> None:
            if imprint is not None:
                self.room.local.imprint_settled(imprint.id, written=outcome == WRITTEN)
            if said is not None:
                said(outcome)

        if imprint is not None:
            self.room.local.imprint(imprint)
        entry.settled = settled
        self.put(entry)

    def decide(
        self, customer: str | None, context: Context, slots: int
    ) -> tuple[Decision, frozenset[bytes]]:
        """Decide as a client does, and say whose rows were read for it. Raises StoreError."""
        self.open.look(self.room)
        read: set[bytes] = set()
        row = GenomeView.row

        def watched(view: GenomeView, subject: bytes) -> Row | None:
            read.add(subject)
            return row(view, subject)

        with mock.patch.object(GenomeView, "row", watched):
            visitor = self.room.customers.visitor(self.room.live, customer)
            return self.desk.decide(visitor, context, "any", slots), frozenset(read)

    def consent(self, subject: bytes, granted: bool, settled: Callable[[str], None]) -> None:
        """A customer agrees to personalisation, or withdraws: at once."""
        local, purpose = self.room.local, dna_pb2.CONSENT_PURPOSE_PERSONALISATION
        local.consent(subject, purpose, granted)

        def both(outcome: str) -> None:
            local.consent_settled(subject, purpose)
            settled(outcome)

        entry = recording.consent(purpose, granted, subject, self.room.clock.stamp())
        entry.settled = both
        self.put(entry)

    def sync(self, town: Town, network: SimulatedNetwork) -> str:
        """One sync; what was refused. Raises UnreachableError and StoreError."""
        self.updater._sync_until(cast("Any", Line(town, network, self)), math.inf)
        return self.updater.state.last_nack

    def report(self, town: Town, network: SimulatedNetwork, most: int) -> bool:
        """At most so many exchanges; whether nothing is left. Raises StoreError."""
        line = Line(town, network, self)
        pump = self.updater._pump(cast("Any", line), Backoff(0, 0))
        return any(pump.step() is None for _ in range(most))

    def taken(self) -> int:
        """The release that it decides from, or will once its rows are here."""
        roles = map(self.store._releases.role, ("active", "staged"))
        return max((release.version for release in roles if release is not None), default=0)

    def held(self) -> set[int]:
        """The events in its outbox."""
        with self.store.read() as connection:
            rows = connection.execute("SELECT frames FROM outbox").fetchall()
        return {number for (frames,) in rows for number, _ in events(bytes(frames))}

    def remembers(self, subject: bytes) -> str:
        """Where there is still something of somebody; empty: nowhere, but for the outbox."""
        mine = "SELECT 1 FROM {} WHERE subject = ?"
        queries = {table: mine.format(table) for table in ("pending", "consents", "caps")}
        queries["patches"] = mine.format("patches") + " AND row IS NOT NULL"
        queries["ring"] = "SELECT 1 FROM ring WHERE instr(records, ?)"
        with self.store.read() as connection:
            for table, query in queries.items():
                if connection.execute(query, (subject,)).fetchone():
                    return table
        files = (self.path / "genomes").iterdir()
        return next((file.name for file in files if subject in file.read_bytes()), "")


@lru_cache(maxsize=4096)
def events(frames: bytes) -> tuple[tuple[int, bytes], ...]:
    """The number and the subject of each event in frames."""
    return tuple(
        (int(event_pb2.Event.FromString(f.body).interaction.interaction_id), f.subject)
        for f in iter_frames(frames)
        if f.kind == FrameKind.INTERACTION
    )


def event(number: int, subject: bytes, settled: Callable[[str], None], *, urgent: bool) -> Entry:
    """Something that a customer did, with its imprint."""
    did = event_pb2.Interaction(
        interaction_id=str(number), kind="view", offer=f"offer-{number % 3}"
    )
    body = event_pb2.Event(interaction=did).SerializeToString()
    return Entry(
        FrameKind.INTERACTION,
        subject,
        BEGIN_MS + number,
        lambda: (body, b""),
        priority=0 if urgent else 1,
        imprint=(str(number), did.SerializeToString()) if any(subject) else None,
        settled=settled,
    )


_VERDICTS: dict[tuple[tuple[str, bytes], ...], TrustError | None] = {}


def _try_release(root: Path, manifest: release_pb2.Manifest, **_: object) -> None:
    """What the child would find out, once for each release."""
    key = tuple((part.name, part.sha256) for part in manifest.parts if not part.asset)
    if key not in _VERDICTS:
        _VERDICTS[key] = None
        try:
            installing.load(manifest, installing.read_parts(Parts(root).read, manifest))
        except TrustError as error:
            _VERDICTS[key] = error
    verdict = _VERDICTS[key]
    if verdict is not None:
        raise TrustError(str(verdict), verdict.reason)


def _write_content(root: Path, lineage: dna_pb2.Lineage, content: Path, **_: object) -> Files:
    return write_content(root / "genomes", lineage, content)


class _Still:
    """A thread or a timer that never starts; but what a thread tries is tried in place."""

    daemon = False

    def __init__(self, *_: object, **given: Any) -> None:
        self.start = self.cancel = self.join = lambda *_: None
        self.is_alive = lambda: False
        if given.get("name") == "genome-edge-trial":
            self.start = lambda *_: given["target"](*given["args"])


# A signature is as good the second time.
_holds = lru_cache(maxsize=1 << 16)(trust._holds)

_SCORERS: dict[tuple[bytes, bytes, int], Scorer] = {}


_open_one: Final = scoring.open_scorer


def _open_scorer(model: bytes, vocabulary: Vocabulary) -> Scorer:
    """A model is opened once for all worlds."""
    key = (model, vocabulary.lineage, len(vocabulary))
    if key not in _SCORERS:
        _SCORERS[key] = _open_one(model, vocabulary)
    return _SCORERS[key]


_STILL: Final = SimpleNamespace(
    Event=threading.Event,
    Lock=threading.Lock,
    RLock=threading.RLock,
    Thread=_Still,
    Timer=_Still,
)


@contextlib.contextmanager
def in_place(fuse: Fuse) -> Iterator[None]:
    """No threads and no child processes, and a fuse at every moment at which a disk is written."""
    real = Database.write

    @contextlib.contextmanager
    def write(database: Database) -> Iterator[sqlite3.Connection]:
        with real(database) as connection:
            yield connection
            fuse.tick()
        fuse.tick()

    with contextlib.ExitStack() as stack:
        for module in ("outbox.writer", "sync.streaming", "sync.updater"):
            stack.enter_context(mock.patch(f"edge_sdk.{module}.threading", _STILL))
        put = mock.patch.object
        stack.enter_context(put(slices, "_SLICE_S", math.inf))
        stack.enter_context(put(writer, "time", SimpleNamespace(sleep=id)))  # nobody else decides
        stack.enter_context(put(trust, "_holds", _holds))
        for asks in (holding, releases):
            stack.enter_context(put(asks, "sdk_version", lambda: "0"))
        stack.enter_context(put(scoring, "open_scorer", _open_scorer))
        stack.enter_context(put(worker, "try_release", _try_release))
        stack.enter_context(put(worker, "write_content", _write_content))
        stack.enter_context(put(Database, "write", write))
        stack.enter_context(put(os, "fsync", lambda _: fuse.tick()))
        yield


class History:
    """What all worlds begin with: a server that has published, and devices that know it or not."""

    def __init__(self, folder: Path, seed: int) -> None:
        clock, dice = SimulatedClock(BEGIN_MS), random.Random(f"{seed}")
        self.town = Town(clock, seed)
        for number in range(CUSTOMERS // 2):
            self.town.put_row(number, dice)
        self.new, self.synced = folder / "new", folder / "synced"
        self.root = self.town.root.SerializeToString()
        store = DeviceStore.open(self.new)
        store.set_identity(Identity("http://town", "town", "one", "all", b"credential", self.root))
        store.close()
        self.town.release(2)
        shutil.copytree(self.new, self.synced)
        device = Device(self.synced, "one", clock)
        assert not device.sync(self.town, SimulatedNetwork())
        device.stop()
