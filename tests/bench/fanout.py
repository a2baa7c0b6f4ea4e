"""Many devices on one server process: what an idle one costs, and how fast all hear of news.

The server is a process of its own. The devices are coroutines in other processes, which speak the
contract with nothing but the stubs: each has a key, a credential and a stream of its own, signed as
a device signs; some hundreds of them share a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing as mp
import os
import resource
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_sdk.sync.keys import CallSigner, DeviceKey, ServerClock
from genome_edge.v1 import release_pb2, stop_pb2, sync_pb2
from genome_server.home import Tenant
from genome_server.releases.trust import TrustDesk
from genome_server.services import credentials
from genome_server.store.protocol import DeviceRow
from genome_server.store.sqlite import SqliteStore
from tests.bench.figures import Figures
from tests.e2e.house import House
from tests.serving import make_home, now_ms, offer, publish_release

DEVICES = 10_000
LISTENERS = 2_000
BURST = 5_000
PROCESSES = 2
TO_A_CONNECTION = 250
PATIENCE_S = 120.0
FEATURES = ["assets-1", "genome-content-1", "offer-model-1", "quantiser-1", "quantiser-2"]
FEATURES += ["squarecb", "trust-roles-1"]
SYNC = "/genome_edge.v1.SyncService/Sync"


@dataclass
class Fleet:
    """Keys and credentials of devices that were enrolled straight into the store."""

    address: str
    members: list[tuple[str, bytes, bytes]] = field(default_factory=list)


def enrol(tenant: Tenant, count: int, audience: str) -> list[tuple[str, bytes, bytes]]:
    """(id, private key, credential) of new devices."""
    issuer = DeviceKey.load(tenant.credential_key_path)
    made = []
    with closing(tenant.open_store()) as store, store.transaction():
        for _ in range(count):
            private, name = Ed25519PrivateKey.generate(), f"dev-{secrets.token_hex(8)}"
            key = DeviceKey(private)
            row = DeviceRow(name, "bench", audience, key.public, created_ms=now_ms())
            store.put_device(row)
            credential = credentials.issue(issuer, tenant.name, name, key.public, row.created_ms)
            made.append((name, private.private_bytes_raw(), credential))
    return made


class Device:
    """One stream: what it has heard, and when."""

    def __init__(self, name: str, private: bytes, credential: bytes) -> None:
        self.name = name
        self.key = DeviceKey(Ed25519PrivateKey.from_private_bytes(private))
        self.credential = credential
        self.release = 0
        self.stops = 0
        self.current = asyncio.Event()
        self.heard_release = 0.0
        self.has_release = 0.0
        self.newest = 0
        self.heard_stops = 0.0

    async def run(self, channel: Any, jitter_s: float) -> None:
        """Keep a stream open for ever; come back after whatever ends it."""
        import grpc

        await asyncio.sleep(jitter_s)
        while True:
            with contextlib.suppress(grpc.RpcError):
                await self._stream(channel)
            await asyncio.sleep(0.5 + secrets.randbelow(2_000) / 1_000)

    async def _stream(self, channel: Any) -> None:
        signer = CallSigner(self.key, self.credential, ServerClock())
        call = channel.stream_stream(
            SYNC, sync_pb2.SyncRequest.SerializeToString, sync_pb2.SyncResponse.FromString
        )(metadata=signer.metadata(SYNC))
        hello = sync_pb2.Hello(
            epoch=bytes(16),
            sdk_version="bench",
            features=FEATURES,
            wants_genomes=True,
            nonce=secrets.token_bytes(16),
            active_release=self.release,
            highest_release=self.release,
            stop_list_version=self.stops,
        )
        await call.write(sync_pb2.SyncRequest(hello=hello))
        manifest = b""
        async for message in call:
            match message.WhichOneof("message"):
                case "trust":
                    self._read_timestamp(message.trust.timestamp.timestamp)
                    stops = message.trust.stop_list.stop_list
                    if stops:
                        self.stops = stop_pb2.StopList.FromString(stops).version
                        self.heard_stops = time.time()
                    beat = sync_pb2.DeviceHeartbeat(
                        active_release=self.release, tier="fresh", stop_list_version=self.stops
                    )
                    await call.write(sync_pb2.SyncRequest(heartbeat=beat))
                case "begin":
                    manifest = message.begin.manifest.manifest
                case "commit":
                    if manifest:
                        self.release = release_pb2.Manifest.FromString(manifest).version
                        self.has_release = time.time()
                        manifest = b""
                    ack = sync_pb2.Ack(nonce=message.commit.nonce)
                    await call.write(sync_pb2.SyncRequest(ack=ack))
                case "heartbeat":
                    if self.release:
                        self.current.set()

    def _read_timestamp(self, serialised: bytes) -> None:
        """The first word of a new release is the timestamp that names it."""
        named = release_pb2.Timestamp.FromString(serialised).releases
        newest = max((one.version for one in named), default=0)
        if newest > self.newest:
            self.newest, self.heard_release = newest, time.time()


def play(pipe: Connection, fleet: Fleet, spread_s: float) -> None:
    """The devices of one process; answers questions that come through the pipe."""
    asyncio.run(_play(pipe, fleet, spread_s))


async def _play(pipe: Connection, fleet: Fleet, spread_s: float) -> None:
    import grpc

    loop = asyncio.get_running_loop()
    devices = [Device(*member) for member in fleet.members]
    channels = []
    tasks = []
    for start in range(0, len(devices), TO_A_CONNECTION):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channels.append(grpc.aio.insecure_channel(fleet.address, options))
        tasks += [
            loop.create_task(device.run(channels[-1], secrets.randbelow(1_000) / 1_000 * spread_s))
            for device in devices[start : start + TO_A_CONNECTION]
        ]
    while (asked := await loop.run_in_executor(None, pipe.recv)) is not None:
        if asked == "current":
            pipe.send(sum(device.current.is_set() for device in devices))
        else:
            pipe.send([getattr(device, asked) for device in devices])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(channel.close() for channel in channels))


class Crowd:
    """Devices in processes of their own."""

    def __init__(
        self, address: str, members: Sequence[tuple[str, bytes, bytes]], spread_s: float
    ) -> None:
        context = mp.get_context("spawn")
        self.count = len(members)
        self._pipes, self._processes = [], []
        for number in range(PROCESSES):
            ours, theirs = context.Pipe()
            fleet = Fleet(address, list(members[number::PROCESSES]))
            process = context.Process(target=play, args=(theirs, fleet, spread_s), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def ask(self, what: str) -> list[Any]:
        """The answers of all processes."""
        for pipe in self._pipes:
            pipe.send(what)
        return [pipe.recv() for pipe in self._pipes]

    def wait(self, ready: Callable[[], bool], what: str, every_s: float = 0.2) -> float:
        """Seconds until something is so."""
        started = time.monotonic()
        while not ready():
            if time.monotonic() - started > PATIENCE_S:
                raise RuntimeError(f"not within {PATIENCE_S:.0f} s: {what}")
            time.sleep(every_s)
        return time.monotonic() - started

    def all_current(self) -> float:
        """Seconds until every device has everything."""
        return self.wait(lambda: sum(self.ask("current")) == self.count, "all are current")

    def last(self, what: str, since: float) -> float:
        """Seconds after which the last device heard of something that began then."""
        heard: list[float] = []

        def all_heard() -> bool:
            heard[:] = [at for answer in self.ask(what) for at in answer]
            return min(heard) > 0.0 and min(heard) >= since - 1.0

        self.wait(all_heard, what)
        return max(heard) - since

    def leave(self) -> None:
        """Hang up."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join(60)
            if process.is_alive():
                process.kill()


def memory_kb(house: House) -> float:
    """What the server holds for itself: unshared pages, in KB."""
    assert house.process is not None
    for line in Path(f"/proc/{house.process.pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Private_Dirty":
            return float(value.split()[0])
    raise RuntimeError("no Private_Dirty in smaps_rollup")


def stops_everywhere(tenant: Tenant, version: int, count: int) -> bool:
    """Whether so many devices have said that they have this stop list."""
    query = "SELECT count(*) FROM devices WHERE json_extract(status, '$.stop_list_version') = ?"
    with closing(SqliteStore.open(tenant.db_path)) as store:
        return store.number(query, [version]) >= count


def run(figures: Figures) -> None:
    """Idle streams, a release notice, a pause, and a burst."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))
        tenant = make_home(house.home).tenant("default")
        publish_release(tenant)
        house.start()
        try:
            _idle(figures, house, tenant)
            _news(figures, house, tenant)
            _burst(figures, house, tenant)
        finally:
            house.kill()


def _idle(figures: Figures, house: House, tenant: Tenant) -> None:
    few = Crowd(house.address, enrol(tenant, 100, "all"), 0.5)
    few.all_current()
    before = memory_kb(house)
    many = Crowd(house.address, enrol(tenant, DEVICES, "all"), 20.0)
    many.all_current()
    time.sleep(2)
    figures.add("sync.kb_per_stream", (memory_kb(house) - before) / DEVICES, "KB")
    many.leave()
    few.leave()


def _news(figures: Figures, house: House, tenant: Tenant) -> None:
    crowd = Crowd(house.address, enrol(tenant, LISTENERS, "all"), 3.0)
    crowd.all_current()
    with closing(tenant.open_store()) as store:
        store.put_documents("offer", [offer("tour", "service:tour")])
        publish_release(tenant)
        published = time.time()
        figures.add(f"sync.notice_{LISTENERS}_s", crowd.last("heard_release", published), "s")
        figures.add(f"sync.release_{LISTENERS}_s", crowd.last("has_release", published), "s")
        time.sleep(2)
        paused = time.time()
        version = TrustDesk(tenant, store).pause(["tour"]).version
        heard = crowd.last("heard_stops", paused)
    crowd.wait(lambda: stops_everywhere(tenant, version, LISTENERS), "the pause", 0.1)
    figures.add(f"sync.pause_{LISTENERS}.heard_s", heard, "s")
    figures.add(f"sync.pause_{LISTENERS}_s", time.time() - paused, "s")
    crowd.leave()


def _burst(figures: Figures, house: House, tenant: Tenant) -> None:
    started = time.monotonic()
    crowd = Crowd(house.address, enrol(tenant, BURST, "all"), 0.0)
    served = 0
    with contextlib.suppress(RuntimeError):
        crowd.all_current()
    served = sum(crowd.ask("current"))
    figures.add(f"sync.burst_{BURST}.lost", BURST - served, "devices")
    figures.add(f"sync.burst_{BURST}.s", time.monotonic() - started, "s")
    figures.add(f"sync.burst_{BURST}.server_mb", memory_kb(house) / 1000, "MB")
    crowd.leave()


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    run(Figures())
