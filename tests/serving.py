"""A served tenant and raw gRPC devices, for tests of the server's rooms.

The device here is written from the contract, with nothing of the SDK but the stubs:
what it signs and frames is spelled out once more.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_sdk.sync.keys import DeviceKey
from genome_edge.v1 import (
    dna_pb2,
    enrolment_pb2,
    enrolment_pb2_grpc,
    errors_pb2,
    event_pb2,
    release_pb2,
    report_pb2,
    report_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
)
from genome_server.genomes.build import build
from genome_server.home import Home, Tenant
from genome_server.log import LogReader
from genome_server.releases.publish import publish
from genome_server.services.credentials import new_bearer, new_code, secret_hash
from genome_server.services.serve import House
from genome_server.store.protocol import AudienceRow, CustomerRow, ThinRow
from genome_server.store.sqlite import SqliteStore

AGREED = 1 << dna_pb2.CONSENT_PURPOSE_PERSONALISATION
FRAME = struct.Struct("<IQ16sHq")
DNA_YAML = """\
landmark: {landmark}
default_half_life: 60d
namespaces:
  brand: 60d
  service: 60d
kinds:
  view: 0.25
  click: {{weight: 0.5, label: success}}
  buy: {{weight: 2, label: success}}
  redeem: {{weight: 2, label: success}}
"""


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def until(condition: Callable[[], Any], what: str = "", timeout: float = 10.0) -> Any:
    """The first true answer of a condition."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.01)
    return answer


def make_home(root: Path, customers: Sequence[str] = ("ann", "bob", "eve")) -> Home:
    """A home with one tenant: products, offers, placements, customers who agreed; not built."""
    home = Home(root)
    make_tenant(home, "default", customers)
    return home


def make_tenant(home: Home, name: str, customers: Sequence[str]) -> Tenant:
    """A tenant as `genome-server init` and imports leave it, with the audience `all`."""
    tenant = home.tenant(name)
    for folder in (tenant.keys_dir, tenant.parts_dir, tenant.releases_dir, tenant.models_dir):
        folder.mkdir(parents=True, exist_ok=True)
    DeviceKey.generate().save(tenant.release_key_path)
    DeviceKey.generate().save(tenant.credential_key_path)
    tenant.presence_key_path.write_bytes(secrets.token_bytes(32))
    tenant.dna_path.write_text(
        DNA_YAML.format(landmark=datetime.now(UTC).date() - timedelta(days=100))
    )
    with closing(SqliteStore.open(tenant.db_path)) as store:
        store.put_documents("product", [("soap", {"brand": "acme"}), ("bread", {"brand": "mill"})])
        store.put_documents("offer", [offer("taxi", "service:taxi"), offer("spa", "service:spa")])
        store.put_documents(
            "placement",
            [
                ("screen", {"id": "screen", "slots": 2, "explorer": "greedy"}),
                ("feed", {"id": "feed", "slots": 2, "explorer": "greedy", "shown": "view"}),
            ],
        )
        subjects = store.subjects_of("app", customers, create=True)
        store.put_customers(
            CustomerRow(subjects[name], (("brand:acme", 256),), AGREED) for name in customers
        )
        key = bytes(range(32))
        store.put_audience(AudienceRow("all", {"all": True}, lookup=True, lookup_key=key))
        store.set_members("all", subjects.values())
    return tenant


def offer(name: str, marker: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """An offer document."""
    content = {"title": name.title()}
    return name, {"id": name, "content": content, "dna": [marker], **fields}


def add_audience(tenant: Tenant, name: str, members: Sequence[str], identify: str = "none") -> None:
    """An audience of these customers."""
    with closing(tenant.open_store()) as store:
        row = AudienceRow(name, {"customers": list(members)}, identify, True, bytes(32))
        store.put_audience(row)
        store.set_members(name, store.subjects_of("app", members).values())


def publish_release(tenant: Tenant) -> int:
    """Build the genomes and publish a release with an untrained model; its version."""
    with closing(tenant.open_store()) as store:
        log = LogReader(tenant.log_path) if tenant.log_path.exists() else None
        build(store, log, tenant.dna_path)
        if log is not None:
            log.close()
    return publish(tenant, untrained=True).release.version


def add_code(tenant: Tenant, audience: str = "all", expires_ms: int = 60_000) -> str:
    """A one-time enrolment code."""
    code = new_code(tenant.name)
    with closing(tenant.open_store()) as store:
        store.put_code(secret_hash(code), audience, now_ms() + expires_ms)
    return code


def add_thin(tenant: Tenant, audience: str = "all") -> str:
    """A thin client's bearer token."""
    token = new_bearer(tenant.name)
    with closing(tenant.open_store()) as store:
        store.put_thin(ThinRow(f"thin-{secrets.token_hex(4)}", secret_hash(token), audience))
    return token


@contextmanager
def serving(home: Home, listen: str = "127.0.0.1:0", **start: Any) -> Iterator[House]:
    """The home, served from a thread of this process."""
    house = House(home, listen, None)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(house.start(**start), loop).result(20)
    try:
        yield house
    finally:
        asyncio.run_coroutine_threadsafe(house.drain(2.0), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def info(error: grpc.RpcError) -> errors_pb2.ErrorInfo:
    """The ErrorInfo that a refusal carries."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = errors_pb2.RpcStatus.FromString(value)
            assert status.code == error.code().value[0]
            assert status.message == error.details()
            assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
            found = errors_pb2.ErrorInfo.FromString(status.details[0].value)
            assert found.domain == "genome-edge"
            return found
    raise AssertionError(f"no details: {error}")


@dataclass
class RawDevice:
    """A device of a few lines: a key, a credential, signed calls."""

    channel: grpc.Channel
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    credential: bytes = b""
    id: str = ""
    epoch: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    skew_ms: int = 0
    enrolled_root: release_pb2.TrustRoot = field(default_factory=release_pb2.TrustRoot)

    def enrol(self, code: str, name: str = "raw") -> enrolment_pb2.EnrolResponse:
        """Exchange a code for a credential."""
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(self.channel)
        response: enrolment_pb2.EnrolResponse = stub.Enrol(
            enrolment_pb2.EnrolRequest(
                code=code,
                public_key=self.key.public_key().public_bytes_raw(),
                name=name,
                sdk_version="raw",
                proof=self.key.sign(b"genome-edge/enrol/v1\n" + code.encode()),
            ),
            timeout=10,
        )
        self.credential, self.id = response.credential, response.device_id
        self.enrolled_root = response.root
        return response

    def metadata(self, method: str) -> tuple[tuple[str, str | bytes], ...]:
        """The proof of one call made now."""
        at = str(now_ms() + self.skew_ms)
        message = f"genome-edge/call/v1\n{method}\n{at}\n".encode()
        proof = self.key.sign(message + hashlib.sha256(self.credential).digest())
        return (
            ("genome-edge-credential-bin", self.credential),
            ("genome-edge-proof-bin", proof),
            ("genome-edge-time", at),
        )

    def call(self, stub: Any, method: str, request: Any) -> Any:
        """One signed unary call; `method` is `Service/Method`."""
        rpc = getattr(stub(self.channel), method.rpartition("/")[2])
        return rpc(request, metadata=self.metadata(f"/genome_edge.v1.{method}"), timeout=10)

    def report(
        self, first: int, frames: bytes, last: int, lane: int = 0
    ) -> report_pb2.ReportResponse:
        """Report a batch."""
        request = report_pb2.ReportRequest(
            epoch=self.epoch,
            lane=lane,
            first_sequence=first,
            last_sequence=last,
            frames=frames,
            digest=hashlib.sha256(frames).digest(),
        )
        response = self.call(report_pb2_grpc.ReportServiceStub, "ReportService/Report", request)
        assert isinstance(response, report_pb2.ReportResponse)
        return response

    def sync(self, **hello: Any) -> RawStream:
        """Open a sync stream and say hello."""
        return RawStream(self, sync_pb2.Hello(epoch=self.epoch, sdk_version="raw", **hello))


class RawStream:
    """A sync stream that takes whole transactions."""

    def __init__(self, device: RawDevice, hello: sync_pb2.Hello) -> None:
        self._out: queue.Queue[sync_pb2.SyncRequest | None] = queue.Queue()
        self._out.put(sync_pb2.SyncRequest(hello=hello))
        self._call = sync_pb2_grpc.SyncServiceStub(device.channel).Sync(
            iter(self._out.get, None),
            metadata=device.metadata("/genome_edge.v1.SyncService/Sync"),
            timeout=60,
        )
        self._in: queue.Queue[sync_pb2.SyncResponse | grpc.RpcError | None] = queue.Queue()
        #: What came of roots, timestamps and stop lists, in order; it stands in no transaction.
        self.trust: list[sync_pb2.Trust] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._in.put(message)
        except grpc.RpcError as error:
            self._in.put(error)
        self._in.put(None)

    def next(self, timeout: float = 10.0) -> sync_pb2.SyncResponse | None:
        """The next message; None at the end of the stream. Raises what ended it badly."""
        message = self._in.get(timeout=timeout)
        if isinstance(message, grpc.RpcError):
            raise message
        return message

    def skip_beats(self, timeout: float = 10.0) -> sync_pb2.SyncResponse | None:
        """The next message of a transaction, or a goodbye."""
        while True:
            message = self.next(timeout)
            if message is not None and message.HasField("trust"):
                self.trust.append(message.trust)
            elif message is None or not message.HasField("heartbeat"):
                return message

    def transaction(self, nack: str = "", timeout: float = 10.0) -> list[sync_pb2.SyncResponse]:
        """The messages of the next transaction, answered."""
        messages: list[sync_pb2.SyncResponse] = []
        while not messages or not messages[-1].HasField("commit"):
            message = self.skip_beats(timeout)
            assert message is not None, "the stream ended"
            messages.append(message)
        assert messages[0].HasField("begin")
        nonce = messages[0].begin.nonce
        assert {getattr(m, str(m.WhichOneof("message"))).nonce for m in messages} == {nonce}
        if nack:
            self.say(nack=sync_pb2.Nack(nonce=nonce, reason=nack))
        else:
            self.say(ack=sync_pb2.Ack(nonce=nonce))
        return messages

    def quiet(self, seconds: float) -> bool:
        """Whether nothing but heartbeats, and what is in force, comes for a while."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self._in.get(timeout=left)
            except queue.Empty:
                return True
            if not isinstance(message, sync_pb2.SyncResponse):
                return False
            if message.WhichOneof("message") not in ("heartbeat", "trust"):
                return False
        return True

    def say(self, **message: Any) -> None:
        """Send a message."""
        self._out.put(sync_pb2.SyncRequest(**message))

    def close(self) -> None:
        """Hang up."""
        self._out.put(None)
        self._call.cancel()


def interaction(
    subject: bytes, kind: str, product: str, interaction_id: str
) -> tuple[bytes, int, bytes]:
    """(subject, frame kind, body) of an interaction that happens now."""
    event = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms(), offset_known=True),
        interaction=event_pb2.Interaction(
            interaction_id=interaction_id, kind=kind, product=product
        ),
    )
    return subject, 1, event.SerializeToString()


def frames(first: int, *events: tuple[bytes, int, bytes]) -> bytes:
    """Frames with sequences from `first` on."""
    return b"".join(
        FRAME.pack(len(body), first + i, subject, kind, now_ms()) + body
        for i, (subject, kind, body) in enumerate(events)
    )


def filler(first: int, count: int, body: bytes = b"x") -> bytes:
    """Frames of events that mean nothing."""
    return frames(first, *[(bytes(16), 2, body)] * count)
