"""A device in the world of `explore_sync`: its disk, its stream, and what a message does to it.

The machine is the real one; the shell and the disk are small models that do what `streaming` and
the store do, one action after the other, so that a world can stop between any two.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import Final

from edge_sdk.dna.columns import row_sum_of
from edge_sdk.dna.content import decode
from edge_sdk.dna.genome import Row, rows_from_block
from edge_sdk.sync import actions, roles, trust
from edge_sdk.sync.actions import Action, Held
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.trust import Refusal
from genome_edge.v1 import dna_pb2, release_pb2, stop_pb2, sync_pb2

NOW_MS: Final = 1_780_000_000_000
RowKey = tuple[bytes, int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Disk:
    """What a device holds; messages as they came."""

    root: release_pb2.TrustRoot
    timestamp: release_pb2.SignedTimestamp | None = None
    stop_list: stop_pb2.SignedStopList | None = None
    active: release_pb2.SignedManifest | None = None
    previous: release_pb2.SignedManifest | None = None
    highest: int = 0
    seen: bytes | None = None
    failed: tuple[bytes, str] = (b"", "")
    parts: frozenset[bytes] = frozenset()
    partials: tuple[tuple[bytes, bytes], ...] = ()
    rows: frozenset[RowKey] = frozenset()
    cursor: bytes = b""
    lineage: dna_pb2.Lineage | None = None

    @property
    def version(self) -> int:
        """Of the release in use; 0: none."""
        return manifest_of(self.active).version if self.active is not None else 0

    @property
    def versions(self) -> tuple[int, ...]:
        """What may never fall: of root, timestamp, stop list, any release seen, the one in use."""
        stamp, stops = timestamp_version(self.timestamp), stop_list_version(self.stop_list)
        return (self.root.version, stamp, stops, self.highest, self.version)


@dataclass(frozen=True, slots=True)
class Stream:
    """An open stream: what is under way to the device, and after how many changes that was said.
    `refused` is the release that the device would not have; the server does not offer it again."""

    machine: SyncMachine
    said: int
    under_way: tuple[sync_pb2.SyncResponse, ...]
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """`most`: the highest versions ever held. `refused`: its golden vectors have failed here."""

    disk: Disk
    stream: Stream | None = None
    all_rows: bool = False
    refused: bool = False
    most: tuple[int, ...] = (0,) * 5


class Hearing:
    """A device hears a message, and carries out what follows from it, or begins to."""

    def __init__(
        self,
        device: Device,
        message: sync_pb2.SyncResponse,
        under_way: tuple[sync_pb2.SyncResponse, ...],
        *,
        killed: int | None = None,
        fails: tuple[int, str] | None = None,
    ) -> None:
        """`killed`: in the middle of that action; `fails`: that action, for that reason."""
        stream = device.stream
        assert stream is not None
        machine = fork(stream.machine)
        self.done: list[Action] = []
        self._disk, self._all_rows, self._refused = device.disk, device.all_rows, device.refused
        leaves = False
        todo = list(machine.receive(message, NOW_MS))
        while todo:
            action = todo.pop(0)
            at = len(self.done)
            self.done.append(action)
            if killed == at:
                if isinstance(action, actions.AppendBytes):
                    half = action.data[: len(action.data) // 2]
                    self._do(replace(action, data=half))
                self.device = self._after(device, None, all_rows=False)
                return
            leaves = leaves or isinstance(action, actions.Leave)
            if not isinstance(action, actions.Attempt):
                self._do(action)
                continue
            refusal = fails[1] if fails is not None and fails[0] == at else self._do(action)
            if refusal or ends(action):
                follow_ups = machine.settle(action.nonce, refusal)
                if follow_ups and not machine.is_open:
                    todo.clear()
                todo.extend(follow_ups)
        followed = replace(stream, machine=machine, under_way=under_way)
        kept = None if leaves else heed(followed, self.done)
        self.device = self._after(device, kept, all_rows=self._all_rows)

    def _after(self, device: Device, stream: Stream | None, *, all_rows: bool) -> Device:
        most = tuple(map(max, device.most, self._disk.versions))
        return Device(self._disk, stream, all_rows, self._refused, most)

    def _do(self, action: Action) -> str:
        """Change the disk; why that could not be, or nothing."""
        disk = self._disk
        match action:
            case actions.PutTrust(root, timestamp, stop_list):
                self._disk = replace(
                    disk,
                    root=root or disk.root,
                    timestamp=timestamp or disk.timestamp,
                    stop_list=stop_list or disk.stop_list,
                )
            case actions.RememberVersion(version, digest):
                self._disk = replace(disk, highest=max(disk.highest, version), seen=digest)
            case actions.StagePart(_, part, content):
                return self._stage(part, content)
            case actions.AppendBytes(_, sha256, offset, data):
                here = dict(disk.partials).get(sha256, b"") if offset else b""
                if len(here) != offset:
                    return Refusal.STORE
                self._disk = replace(
                    disk, partials=with_partial(disk.partials, sha256, here + data)
                )
            case actions.FinishPart(_, part):
                content = dict(disk.partials)[part.sha256]
                self._disk = replace(disk, partials=with_partial(disk.partials, part.sha256, b""))
                return self._stage(part, content)
            case actions.InstallRelease(_, signed, manifest):
                if not {part.sha256 for part in manifest.parts if not part.asset} <= disk.parts:
                    return Refusal.PARTS
                self._disk = replace(disk, active=signed, previous=disk.active)
                self._refused = False
            case actions.ApplyGenomes():
                return self._apply(action)
        return ""

    def _stage(self, part: release_pb2.Part, content: bytes) -> str:
        if hashlib.sha256(content).digest() != part.sha256:
            return Refusal.DIGEST
        self._disk = replace(self._disk, parts=self._disk.parts | {part.sha256})
        return ""

    def _apply(self, action: actions.ApplyGenomes) -> str:
        disk = self._disk
        if action.content:
            data = dict(disk.partials)[action.content]
            disk = replace(disk, partials=with_partial(disk.partials, action.content, b""))
            if hashlib.sha256(data).digest() != action.content:
                self._disk = disk
                return Refusal.DIGEST
            rows = {row.subject: row for row in decode(data).rows()}
        else:
            rows = {} if action.full else {one[0]: row_of(one) for one in disk.rows}
        for block in action.blocks:
            rows |= {row.subject: row for row in rows_from_block(block)}
        for subject, _ in action.deletes:
            rows.pop(subject, None)
        total = sum(map(row_sum_of, rows.values())) % (1 << 64)
        if len(rows) != action.total_rows or total != action.row_sum:
            self._all_rows = True
            return Refusal.DIGEST
        self._all_rows = False
        kept = frozenset(map(row_key, rows.values()))
        self._disk = replace(disk, rows=kept, cursor=action.cursor, lineage=action.lineage)
        return ""


def heed(stream: Stream, done: list[Action]) -> Stream:
    """A server that hears a Nack says no more of that, and then something else."""
    nonces = {one.message.nack.nonce for one in done if isinstance(one, actions.Send)} - {0}
    if not nonces:
        return stream
    # It was on its way already.
    late = tuple(one for one in stream.under_way if nonce_of(one) in nonces)
    return replace(stream, said=0, under_way=late, refused=stream.machine._highest)


def nonce_of(message: sync_pb2.SyncResponse) -> int:
    nonce = getattr(getattr(message, message.WhichOneof("message") or ""), "nonce", 0)
    return nonce if isinstance(nonce, int) else 0


def ends(action: Action) -> bool:
    """Whether a transaction is complete after it."""
    ends = (actions.InstallRelease, actions.AssetsArrived, actions.ApplyGenomes)
    return isinstance(action, ends)


def held_by(device: Device) -> Held:
    disk = device.disk
    active = None if disk.active is None else manifest_of(disk.active)
    stamp, stops = disk.timestamp, disk.stop_list
    return Held(
        standing=roles.Standing(
            disk.root,
            release_pb2.Timestamp.FromString(stamp.timestamp) if stamp is not None else None,
            stop_pb2.StopList.FromString(stops.stop_list) if stops is not None else None,
        ),
        epoch=bytes(16),
        sdk_version="0",
        active=active,
        active_digest=b"" if disk.active is None else trust.manifest_digest(disk.active),
        highest_release=disk.highest,
        seen_digest=disk.seen,
        failed=disk.failed,
        parts=disk.parts,
        partials={sha256: len(data) for sha256, data in disk.partials},
        genome_cursor=disk.cursor,
        genome_lineage=None if device.all_rows else disk.lineage,
    )


def fork(machine: SyncMachine) -> SyncMachine:
    """A machine that goes on from here by itself; what is never changed is shared."""
    shared = (machine._held, machine._standing, machine._limits, machine._active, machine._late)
    return copy.deepcopy(machine, {id(one): one for one in shared if one is not None})


def with_partial(
    partials: tuple[tuple[bytes, bytes], ...], sha256: bytes, data: bytes
) -> tuple[tuple[bytes, bytes], ...]:
    kept = {**dict(partials), sha256: data}
    return tuple(sorted(one for one in kept.items() if one[1]))


def row_key(row: Row) -> RowKey:
    return row.subject, row.consents, row.indices.tobytes(), row.codes.tobytes()


def row_of(kept: RowKey) -> Row:
    import numpy as np

    subject, consents, indices, codes = kept
    return Row(
        subject, consents, 0, np.frombuffer(indices, np.uint32), np.frombuffer(codes, np.uint8)
    )


def manifest_of(signed: release_pb2.SignedManifest | None) -> release_pb2.Manifest:
    return release_pb2.Manifest.FromString(signed.manifest if signed is not None else b"")


def timestamp_version(signed: release_pb2.SignedTimestamp | None) -> int:
    stated = release_pb2.Timestamp.FromString(signed.timestamp if signed is not None else b"")
    return stated.version


def stop_list_version(signed: stop_pb2.SignedStopList | None) -> int:
    stated = stop_pb2.StopList.FromString(signed.stop_list if signed is not None else b"")
    return stated.version
