"""The sync half of the drill `explore`: devices, a server that changes, and a line that breaks.

What runs is `sync.machine` with `sync.trust` and `sync.roles` under it, against a `SimulatedServer`
with real keys and signatures. The shell and the disk are small models that do what `streaming` and
the store do: each action of the machine takes effect by itself, in order. What can happen, in any
order: the server publishes, pauses an offer, rotates keys, or genomes change; a message arrives, at
the end of those under way, twice, or overtaken; the line is cut; the device is killed between two
actions or in the middle of writing bytes; an action fails because the disk is full; a release fails
its golden vectors before or after the swap; a disk is put back.

In every state must hold: what a device believes is of no earlier version than what it believed
before; the release in use is whole and one that the server has signed; its rows are exactly those
of one state of the server, under the cursor of that state; what is here of a content is its
beginning. And in rest a device has everything that the server has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from google.protobuf.message import Message

from edge_sdk.dna.columns import Columns, encode
from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.sync import actions, trust
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.trust import Refusal
from edge_sdk.testing import SimulatedServer
from genome_edge.v1 import release_pb2, sync_pb2
from tests.drills.explore_device import (
    NOW_MS,
    Device,
    Disk,
    Hearing,
    Stream,
    held_by,
    manifest_of,
    nonce_of,
    row_key,
    stop_list_version,
)

_PARTS: Final = ("schema", "offers")
_NAMES: Final = "ab"
_FIRST: Final = ("publish", "pause", "rows")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may happen: changes of the server in any order, and how often what goes wrong."""

    changes: tuple[str, ...] = ()
    devices: int = 1
    #: Whether the devices begin with everything, or with nothing.
    current: bool = False
    cuts: int = 0
    crashes: int = 0
    twice: int = 0
    overtaken: int = 0
    full: int = 0
    golden: int = 0
    images: int = 0
    put_back: int = 0

    def less(self, name: str) -> Allowance:
        """One less of it."""
        return replace(self, **{name: getattr(self, name) - 1})


#: Explored in this order.
ALLOWANCES: Final = {
    "sync: the line cut": Allowance(cuts=1),
    "sync: messages twice or overtaken": Allowance(("publish",), twice=1, overtaken=1),
    "sync: killed, two releases": Allowance(("publish", "publish"), crashes=1),
    "sync: keys, rows and stops, the line cut": Allowance(
        ("rotate", "rows", "pause"), current=True, cuts=1
    ),
    "sync: keys and a release, killed": Allowance(("rotate", "publish"), current=True, crashes=1),
    "sync: the disk full": Allowance(("publish", "rows"), current=True, full=2),
    "sync: golden vectors fail": Allowance(("publish", "publish"), current=True, golden=1, cuts=1),
    "sync: a disk put back": Allowance(("publish", "rows"), current=True, images=1, put_back=1),
    "sync: two devices": Allowance(("publish",), devices=2, current=True, crashes=1),
    "sync: cut and killed": Allowance(("publish", "rows"), current=True, cuts=1, crashes=1),
    "sync: two releases, keys and stops": Allowance(
        ("publish", "publish", "rotate", "pause"), current=True, cuts=1
    ),
}


@dataclass(frozen=True, slots=True)
class State:
    """The world between two steps."""

    left: Allowance
    devices: tuple[Device, ...]
    history: tuple[str, ...] = _FIRST
    image: Disk | None = None


class Server(SimulatedServer):
    """Sends parts in two chunks, all rows as a content, and to who has some the changed ones."""

    def __init__(self) -> None:
        self.kept: dict[bytes, dict[bytes, Row]] = {}
        super().__init__("town", seed=1, now_ms=lambda: NOW_MS)
        self.contents[hashlib.sha256(b"").digest()] = b""

    def happen(self, what: str, number: int) -> None:
        """One change; `number` tells it from others."""
        if what == "publish":
            offers = [{"id": f"offer-{number}", "content": {"title": "x" * 200}}]
            self.publish(offers, assets={f"asset/{number}": bytes([number]) * 99}, edit=_fewer)
        elif what == "pause":
            self.pause(f"paused-{number}")
        elif what == "rotate":
            self.rotate("release", "timestamp")
        else:
            for name in ("ann", f"guest-{number}"):
                self.put_customer(name, {"activity:browse": float(number)})
            if number > len(_FIRST):
                self.rows.pop(self.customers.pop("bob", b""), None)
            else:
                self.put_customer("bob", {"activity:wait": 1.0})
        if self.rows and self.offered:
            self.kept[self.genome_cursor] = dict(self.rows)

    def tell(self, hello: sync_pb2.Hello, refused: int) -> list[sync_pb2.SyncResponse]:
        """What a device with this Hello is told, that has refused this release on its stream."""
        return list(self.answer(hello, refused=refused))

    def chunks(self, nonce: int, sha256: bytes, start: int = 0) -> Iterator[sync_pb2.SyncResponse]:
        content = self.contents[sha256]
        size = (len(content) + 1) // 2
        while start < len(content):
            end = size if start < size else len(content)
            chunk = sync_pb2.Chunk(
                nonce=nonce, sha256=sha256, offset=start, data=content[start:end]
            )
            yield sync_pb2.SyncResponse(chunk=chunk)
            start = end

    def _genomes(self, hello: sync_pb2.Hello) -> Iterator[sync_pb2.SyncResponse]:
        cursor = self.genome_cursor
        if hello.genome_cursor == cursor:
            return
        before = self.kept.get(hello.genome_cursor)
        begin = sync_pb2.Begin(nonce=3, kind=sync_pb2.Begin.KIND_GENOMES, lineage=self.lineage)
        said: list[sync_pb2.SyncResponse] = []
        if before is None:
            content = encode(Columns.of(self.rows.values()))
            digest = hashlib.sha256(content).digest()
            self.contents[digest] = content
            begin.full, begin.rows = True, len(self.rows)
            begin.content.sha256, begin.content.size = digest, len(content)
            here = {partial.sha256: partial.size for partial in hello.partials}
            said += self.chunks(3, digest, here.get(digest, 0))
        else:
            known = {row_key(row) for row in before.values()}
            new = [row for _, row in sorted(self.rows.items()) if row_key(row) not in known]
            begin.rows = len(new)
            put = sync_pb2.Put(nonce=3, block=block_from_rows(self.lineage, new))
            said.append(sync_pb2.SyncResponse(put=put))
            for subject in sorted(before.keys() - self.rows.keys()):
                delete = sync_pb2.Delete(nonce=3, subject=subject)
                said.append(sync_pb2.SyncResponse(delete=delete))
        commit = sync_pb2.Commit(
            nonce=3, genome_cursor=cursor, total_rows=len(self.rows), row_sum=self._row_sum()
        )
        yield sync_pb2.SyncResponse(begin=begin)
        yield from said
        yield sync_pb2.SyncResponse(commit=commit)


def _fewer(manifest: release_pb2.Manifest) -> None:
    """Leave what is in two parts and the asset: it is nothing to the machine."""
    kept = [part for part in manifest.parts if part.asset or part.name in trust.REQUIRED_PARTS]
    for part in kept:
        if not part.asset and part.name not in _PARTS:
            part.size, part.sha256 = 0, hashlib.sha256(b"").digest()
    del manifest.parts[:]
    manifest.parts.extend(kept)


@cache
def _server(history: tuple[str, ...]) -> Server:
    server = Server()
    for number, what in enumerate(history, 1):
        server.happen(what, number)
    return server


class World:
    """Carries out steps on states."""

    def start(self, allowance: Allowance) -> State:
        """Devices that were enrolled, and have nothing else; or everything."""
        root = release_pb2.TrustRoot.FromString(_server(_FIRST).roots[0].root)
        state = State(allowance, tuple(Device(Disk(root)) for _ in range(allowance.devices)))
        while allowance.current:
            calm = [after for _, mishap, after in self.steps(state) if not mishap]
            if not calm:
                break
            state = calm[0]
        return state

    def key(self, state: State) -> bytes:
        """What tells this state from others."""
        return hashlib.sha256(repr(_plain(state)).encode()).digest()

    def steps(self, state: State) -> Iterator[tuple[str, bool, State]]:
        """Everything that can happen now: what, whether it is a mishap, and the state after it."""
        left = state.left
        for number, device in enumerate(state.devices):
            name = _NAMES[number]
            for what, mishap, after, taken in self._device(state, device):
                then = replace(state, devices=_put(state.devices, number, after))
                if taken:
                    then = replace(then, left=left.less(taken))
                yield f"{name} {what}", mishap, then
        for number, what in enumerate(left.changes):
            if what not in left.changes[:number]:
                rest = left.changes[:number] + left.changes[number + 1 :]
                history = (*state.history, what)
                yield what, True, replace(state, left=replace(left, changes=rest), history=history)
        first = state.devices[0]
        if left.images:
            yield "image of a", True, replace(state, image=first.disk, left=left.less("images"))
        if left.put_back and state.image is not None:
            after = Device(state.image, most=state.image.versions)
            devices = _put(state.devices, 0, after)
            then = replace(state, devices=devices, image=None, left=left.less("put_back"))
            yield "a's disk put back", True, then

    def _device(self, state: State, device: Device) -> Iterator[tuple[str, bool, Device, str]]:
        left, stream = state.left, device.stream
        if stream is None:
            yield "calls", False, _call(state, device), ""
            return
        if left.cuts:
            yield "is cut off", True, replace(device, stream=None), "cuts"
        if left.golden and device.disk.previous is not None and device.disk.active is not None:
            yield "goes back", True, _gone_back(device), "golden"
        if not stream.under_way:
            if stream.said != len(state.history):
                yield "is told more", False, _call(state, device, stream), ""
            return
        kind = stream.under_way[0].WhichOneof("message")
        heard = Hearing(device, stream.under_way[0], stream.under_way[1:])
        yield f"hears a {kind}", False, heard.device, ""
        if left.twice:
            again = Hearing(device, stream.under_way[0], stream.under_way)
            yield f"hears a {kind}, it is repeated", True, again.device, "twice"
        if left.overtaken and len(stream.under_way) > 1:
            late = (stream.under_way[0], *stream.under_way[2:])
            over = Hearing(device, stream.under_way[1], late)
            yield f"hears what overtook a {kind}", True, over.device, "overtaken"
        for at, action in enumerate(heard.done):
            what = type(action).__name__
            if left.crashes:
                killed = Hearing(device, stream.under_way[0], (), killed=at)
                yield f"is killed in {what}", True, killed.device, "crashes"
            if left.full and isinstance(action, actions.Attempt):
                full = Hearing(
                    device, stream.under_way[0], stream.under_way[1:], fails=(at, "DISK_FULL")
                )
                yield f"has no room for {what}", True, full.device, "full"
            if left.golden and isinstance(action, actions.InstallRelease):
                golden = Hearing(
                    device, stream.under_way[0], stream.under_way[1:], fails=(at, Refusal.GOLDEN)
                )
                after = replace(golden.device, refused=True)
                yield "finds that the release scores otherwise", True, after, "golden"

    # What must hold -----------------------------------------------------------------------------

    def check(self, state: State) -> str:
        """What does not hold in a state; empty: all does."""
        server = _server(state.history)
        for name, device in zip(_NAMES, state.devices, strict=False):
            wrong = _wrong(device, server)
            if wrong:
                return f"{name}: {wrong}"
        return ""

    def check_rest(self, state: State) -> str:
        """What does not hold in a state in which nothing more happens by itself."""
        server = _server(state.history)
        newest = (
            len(server.roots),
            len(server.timestamps),
            stop_list_version(server.stop_lists[-1]),
        )
        rows = frozenset(map(row_key, server.rows.values()))
        for name, device in zip(_NAMES, state.devices, strict=False):
            disk = device.disk
            if disk.versions[:3] != newest:
                return f"{name} rests with {disk.versions[:3]} of {newest} in force"
            if device.refused:
                continue
            if disk.version != server.offered:
                return f"{name} rests with release {disk.version} of {server.offered}"
            if disk.rows != rows or disk.cursor != server.genome_cursor:
                return f"{name} rests with other rows than the server's"
            lacking = {part.sha256 for part in manifest_of(disk.active).parts} - disk.parts
            if lacking:
                return f"{name} rests without {len(lacking)} assets"
        return ""


def _wrong(device: Device, server: Server) -> str:
    """What does not hold on one device."""
    disk = device.disk
    if any(now < most for now, most in zip(disk.versions, device.most, strict=True)):
        return f"what was {device.most} is {disk.versions}"
    if disk.active is not None:
        manifest = manifest_of(disk.active)
        signed = server.releases.get(manifest.version)
        if signed is None or signed.manifest != disk.active.manifest:
            return "the release in use is none of the server's"
        if not {part.sha256 for part in manifest.parts if not part.asset} <= disk.parts:
            return "the release in use is not whole"
    if disk.cursor:
        rows = server.kept.get(disk.cursor)
        if rows is None or disk.rows != frozenset(map(row_key, rows.values())):
            return "the rows are not those of their cursor"
        if disk.active is None or not trust.same_lineage(
            disk.lineage, manifest_of(disk.active).lineage
        ):
            return "the rows are not of the lineage of the release"
    for sha256, data in disk.partials:
        whole = server.contents.get(sha256)
        if whole is not None and not whole.startswith(data):
            return "what is here of a content is not its beginning"
    return ""


def _gone_back(device: Device) -> Device:
    """The release in use failed after the swap: the one before it, and it is not taken again."""
    disk = device.disk
    assert disk.active is not None
    digest = trust.manifest_digest(disk.active)
    disk = replace(disk, active=disk.previous, previous=None, failed=(digest, "golden"))
    most = (*device.most[:4], disk.version)
    return Device(disk, None, device.all_rows, refused=True, most=most)


def _call(state: State, device: Device, stream: Stream | None = None) -> Device:
    """Open a stream; or go on with one, whose server knows from its answers what a device has."""
    machine = SyncMachine(held_by(device))
    server = _server(state.history)
    nonces = 10 * len(state.history)
    refused = 0 if stream is None else stream.refused
    said = server.tell(machine.hello().hello, refused)
    said = [_numbered(message, nonces) for message in said]
    if stream is not None:
        machine = stream.machine
    return replace(device, stream=Stream(machine, len(state.history), tuple(said), refused))


def _numbered(message: sync_pb2.SyncResponse, nonces: int) -> sync_pb2.SyncResponse:
    """A server gives no nonce twice on a stream."""
    if nonce_of(message):
        getattr(message, message.WhichOneof("message") or "").nonce += nonces
    return message


_UNTOLD: Final = ("_limits", "limits")


def _plain(value: Any) -> Any:
    """A value as nested tuples that are equal where it is."""
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    if isinstance(value, dict):
        return sorted((key, _plain(one)) for key, one in value.items())
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value))
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (int, str, bytes)):
        return value
    names = getattr(value, "__slots__", None) or vars(value)
    return [(name, _plain(getattr(value, name))) for name in names if name not in _UNTOLD]


def _put(devices: tuple[Device, ...], at: int, device: Device) -> tuple[Device, ...]:
    return (*devices[:at], device, *devices[at + 1 :])
