"""Events a second into the log, and through it into genomes; server and devices share the machine.

Each of 64 devices has one report in flight to `genome-server serve`, over a real socket, signed.
An answer means that the events are on disk (fsync), once. One report in 50 is sent twice.

- `ingest.{500,50}.*`: impressions, in batches of that size.
- `ingest.to_genome.*`: purchases by 20,000 customers of 2,000 products, eight at a time as in a
  shopping basket, in batches of 500. Devices send on when less than `AHEAD` events wait to become
  genomes: what is measured is what goes through for long. Lag: from the acknowledgement of a
  report until its events are in genomes that devices can have.
- `ingest.log.*`: the committer alone, without a socket.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2, report_pb2
from genome_server.genomes.build import build
from genome_server.genomes.rows import GENOMES, built_schema
from genome_server.home import Tenant
from genome_server.log import Batch, Committer, LogReader
from genome_server.services.credentials import issue
from genome_server.store.protocol import CustomerRow, DeviceRow
from tests.bench.figures import Figures
from tests.serving import AGREED, RawDevice, make_home, until

DEVICES = 64
SECONDS = 4.0
WARM_S = 1.0
CUSTOMERS = 20_000
PRODUCTS = 2_000
BASKET = 8
AHEAD = 30_000
_CHANNELS = 8
_AGAIN = 50
_REPORT = "/genome_edge.v1.ReportService/Report"
_ID = b"0" * 32


def _impressions() -> list[bytes]:
    """Bodies of decision records, all of one length, with a place for an id."""
    return [
        event_pb2.Event(
            time=event_pb2.EventTime(wall_ms=time.time_ns() // 1_000_000, offset_known=True),
            decision=event_pb2.DecisionRecord(decision_id=_ID[:16], placement=f"screen-{n:02}"),
        ).SerializeToString()
        for n in range(50)
    ]


def _purchases() -> list[bytes]:
    """Bodies of purchases, all of one length, with a place for an id; some products are popular."""
    rng = random.Random(1)
    return [
        event_pb2.Event(
            time=event_pb2.EventTime(wall_ms=time.time_ns() // 1_000_000, offset_known=True),
            interaction=event_pb2.Interaction(
                interaction_id=_ID.decode(),
                kind="buy",
                product=f"P-{int(rng.paretovariate(0.6)) % PRODUCTS:04}",
                amount_micros=rng.choice((2_490_000, 3_490_000)),
            ),
        ).SerializeToString()
        for _ in range(20_000)
    ]


class Frames:
    """Makes batches of events that are all different, without a loop in Python."""

    def __init__(self, kind: FrameKind, bodies: Sequence[bytes], subjects: Sequence[bytes]) -> None:
        (length,) = {len(body) for body in bodies}
        zeros = next(n for n in (32, 16) if b"0" * n in bodies[0] or bytes(n) in bodies[0])
        mark = b"0" * zeros
        at = bodies[0].index(mark)
        self._type = np.dtype(
            [
                ("length", "<u4"),
                ("sequence", "<u8"),
                ("subject", "V16"),
                ("kind", "<u2"),
                ("time", "<i8"),
                ("before", f"V{at}"),
                ("id", f"V{zeros}"),
                ("after", f"V{length - at - zeros}"),
            ]
        )
        self._bodies = np.array(bodies, dtype=f"V{length}").view(self._type.descr[5:])
        self._subjects = np.array(subjects, dtype="V16")
        self._kind, self._length, self._id = int(kind), length, zeros
        self._rng = np.random.default_rng(1)

    def batch(self, first: int, count: int) -> bytes:
        """Frames `first` to `first + count - 1`."""
        made = np.empty(count, self._type)
        made["length"], made["kind"] = self._length, self._kind
        made["sequence"] = np.arange(first, first + count)
        made["time"] = time.time_ns() // 1_000_000
        chosen = self._bodies[self._rng.integers(0, len(self._bodies), count)]
        made["before"], made["after"] = chosen["before"], chosen["after"]
        made["id"] = np.frombuffer(
            self._rng.bytes(count * self._id // 2).hex().encode(), f"V{self._id}"
        )
        baskets = self._rng.integers(0, len(self._subjects), count // BASKET + 1)
        made["subject"] = np.repeat(self._subjects[baskets], BASKET)[:count]
        return made.tobytes()


def _tenant(folder: Path) -> tuple[Tenant, list[bytes]]:
    """A built tenant with customers and products; the customers' subjects."""
    tenant = make_home(folder / "home").tenant("default")
    with closing(tenant.open_store()) as store:
        store.put_documents(
            "product",
            [
                (
                    f"P-{n:04}",
                    {
                        "brand": f"b{n % 300}",
                        "category": f"c{n % 50}",
                        "dna": [f"claim:x{n % 40}", f"scent:s{n % 30}"],
                    },
                )
                for n in range(PRODUCTS)
            ],
        )
        names = [f"customer-{n}" for n in range(CUSTOMERS)]
        subjects = list(store.subjects_of("app", names, create=True).values())
        store.put_customers(CustomerRow(s, (("age:30", 256),), AGREED) for s in subjects)
        store.set_members("all", subjects)
        Committer(tenant.log_path).close()
        with LogReader(tenant.log_path) as log:
            build(store, log, tenant.dna_path)
    return tenant, subjects


@contextmanager
def _served(tenant: Tenant, folder: Path) -> Iterator[str]:
    """The address of a server process for this tenant."""
    port = folder / "port"
    process = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "genome-server"),
            *("serve", "--home", str(tenant.dir.parent.parent), "--log-level", "error"),
            *("--listen", "127.0.0.1:0", "--port-file", str(port)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        until(port.exists, "the server is up", 30.0)
        yield f"127.0.0.1:{int(port.read_text())}"
    finally:
        process.terminate()
        process.wait(60)


@dataclass
class Reports:
    """What was acknowledged when, in seconds of one clock."""

    events: int = 0
    seconds: float = 0.0
    latencies_ns: list[int] = field(default_factory=list)
    answered: list[tuple[float, int]] = field(default_factory=list)


def _devices(tenant: Tenant) -> list[RawDevice]:
    from edge_sdk.sync.keys import DeviceKey

    key = DeviceKey.load(tenant.credential_key_path)
    devices = []
    with closing(tenant.open_store()) as store:
        for number in range(DEVICES):
            raw = RawDevice(None)  # its calls are made here
            raw.id = f"dev-{number}-{secrets.token_hex(4)}"
            public = raw.key.public_key().public_bytes_raw()
            store.put_device(DeviceRow(raw.id, raw.id, "all", public))
            raw.credential = issue(key, tenant.name, raw.id, public, 0)
            devices.append(raw)
    return devices


async def _report(
    address: str,
    devices: Sequence[RawDevice],
    frames: Frames,
    size: int,
    seconds: float,
    may_go_on: Callable[[], bool],
) -> Reports:
    """Let every device report for some seconds, one batch after the other."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(_CHANNELS)]
    calls = [
        channel.unary_unary(_REPORT, response_deserializer=report_pb2.ReportResponse.FromString)
        for channel in channels
    ]
    done = Reports()
    started = time.perf_counter()

    async def one(number: int, raw: RawDevice) -> None:
        call, first, reports = calls[number % _CHANNELS], 1, 0
        lane = size
        while (now := time.perf_counter()) < started + WARM_S + seconds:
            if not may_go_on():
                await asyncio.sleep(0.02)
                continue
            data = frames.batch(first, size)
            request = report_pb2.ReportRequest(
                epoch=raw.epoch,
                lane=lane,
                first_sequence=first,
                last_sequence=first + size - 1,
                frames=data,
                digest=hashlib.sha256(data).digest(),
            ).SerializeToString()
            began = time.perf_counter_ns()
            answer = await call(request, metadata=raw.metadata(_REPORT), timeout=30)
            assert answer.received_through == first + size - 1
            now = time.perf_counter()
            first, reports = first + size, reports + 1
            if now > started + WARM_S:
                done.latencies_ns.append(time.perf_counter_ns() - began)
                done.events += size
                done.seconds = now - started - WARM_S
            done.answered.append((now, size))
            if reports % _AGAIN == 0:
                again = await call(request, metadata=raw.metadata(_REPORT), timeout=30)
                assert again.received_through == first - 1

    await asyncio.gather(*(one(n, raw) for n, raw in enumerate(devices)))
    for channel in channels:
        await channel.close()
    return done


def _over_sockets(figures: Figures, size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        tenant, subjects = _tenant(Path(name))
        devices = _devices(tenant)
        frames = Frames(FrameKind.DECISION, _impressions(), subjects)
        with _served(tenant, Path(name)) as address:
            done = asyncio.run(_report(address, devices, frames, size, SECONDS, lambda: True))
    figures.add(f"ingest.{size}.events_per_s", done.events / done.seconds, "1/s")
    figures.quantiles(f"ingest.{size}.ack", done.latencies_ns, "ms")


class _Genomes:
    """How far the log is in the genomes, looked up now and then."""

    def __init__(self, tenant: Tenant) -> None:
        self.store = tenant.open_store()
        schema = built_schema(self.store)
        assert schema is not None
        self._epoch = schema.epoch
        self._log = LogReader(tenant.log_path)
        self.seen: list[tuple[float, int]] = []
        self._looked = 0.0
        self._room = True

    def close(self) -> None:
        self._log.close()
        self.store.close()

    def look(self) -> int:
        """Events that are in genomes."""
        at = self.store.consumer_offset(GENOMES, self._epoch)
        self.seen.append((time.perf_counter(), at))
        return at

    def may_go_on(self) -> bool:
        """Whether few enough events wait."""
        now = time.perf_counter()
        if now > self._looked + 0.02:
            self._looked = now
            self._room = self._log.end() - self.look() < AHEAD
        return self._room


def _to_genome(figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as name:
        tenant, subjects = _tenant(Path(name))
        devices = _devices(tenant)
        frames = Frames(FrameKind.INTERACTION, _purchases(), subjects)
        with _served(tenant, Path(name)) as address, closing(_Genomes(tenant)) as genomes:
            done = asyncio.run(
                _report(address, devices, frames, 500, 2 * SECONDS, genomes.may_go_on)
            )
            total = sum(size for _, size in done.answered)
            until(lambda: genomes.look() >= total, "all is in genomes", 60.0)
        with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as log:
            assert build(store, log, tenant.dna_path).changed == 0, "genomes differ from a build's"
    times, offsets = zip(*genomes.seen, strict=True)
    begin = int(np.searchsorted(times, done.answered[0][0] + WARM_S))
    end = int(np.searchsorted(times, done.answered[-1][0])) - 1
    rate = (offsets[end] - offsets[begin]) / (times[end] - times[begin])
    # Reports are acknowledged in the order of the log, but for those of one commit.
    behind = np.cumsum([size for _, size in done.answered])
    places = np.searchsorted(offsets, behind)
    lags = [int((times[p] - at) * 1e9) for p, (at, _) in zip(places, done.answered, strict=True)]
    figures.add("ingest.to_genome.events_per_s", rate, "1/s")
    lags.sort()
    figures.add("ingest.to_genome.lag_p99_s", lags[int(len(lags) * 0.99)] / 1e9, "s")


def _log_alone(figures: Figures, size: int, events: int) -> None:
    frames = Frames(FrameKind.DECISION, _impressions(), [bytes(16)])
    epochs = [secrets.token_bytes(16) for _ in range(DEVICES)]
    ready = []
    for number in range(events // size):
        lane, first = number % DEVICES, number // DEVICES * size + 1
        data = frames.batch(first, size)
        digest = hashlib.sha256(data).digest()
        ready.append(Batch(f"d{lane}", epochs[lane], 1, first, first + size - 1, data, digest))
    with tempfile.TemporaryDirectory() as folder, Committer(Path(folder) / "log.sqlite") as log:
        waiting: deque[Future[Any]] = deque()
        started = time.perf_counter()
        for batch in ready:
            waiting.append(log.submit(batch))
            if len(waiting) >= DEVICES:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
        seconds = time.perf_counter() - started
    figures.add(f"ingest.log.{size}.events_per_s", len(ready) * size / seconds, "1/s")


def run(figures: Figures) -> None:
    """Take all figures."""
    for size, events in ((500, 400_000), (50, 100_000)):
        _log_alone(figures, size, events)
    for size in (500, 50):
        _over_sockets(figures, size)
    _to_genome(figures)
