"""A small real gRPC server that speaks the contract, and misbehaves where a test asks it to.

It is written from docs/wire.md, not from either implementation: what it believes of a device and
what it sends is spelled out here once more, so that a mistake on one side does not hide the same
mistake on the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf import any_pb2

from genome_edge.v1 import (
    enrolment_pb2,
    enrolment_pb2_grpc,
    errors_pb2,
    identify_pb2,
    identify_pb2_grpc,
    release_pb2,
    report_pb2,
    report_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
)
from tests.unit.publisher import TENANT, Published, Publisher, now_ms

CODE = f"{TENANT}.ABCD-EFGH"


class Stream:
    """One sync stream seen from the server: `send`, and `read` what the device said."""

    def __init__(self, requests: Iterator[sync_pb2.SyncRequest]) -> None:
        self.said: list[sync_pb2.SyncRequest] = []
        self.out: queue.SimpleQueue[sync_pb2.SyncResponse | None] = queue.SimpleQueue()
        self._arrived = threading.Condition()
        self.over = False
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()

    def _listen(self, requests: Iterator[sync_pb2.SyncRequest]) -> None:
        with contextlib.suppress(Exception):  # the call ended; `over` says so
            for request in requests:
                with self._arrived:
                    self.said.append(request)
                    self._arrived.notify_all()
        with self._arrived:
            self.over = True
            self._arrived.notify_all()

    def wait_for(
        self, choose: Callable[[sync_pb2.SyncRequest], Any], timeout: float = 10.0
    ) -> sync_pb2.SyncRequest | None:
        """The first message that `choose` takes; None where the device left."""

        def found() -> sync_pb2.SyncRequest | None:
            return next((message for message in self.said if choose(message)), None)

        with self._arrived:
            arrived = self._arrived.wait_for(lambda: found() or self.over, timeout)
            assert arrived, "the device did not say it"
            return found()

    @property
    def hello(self) -> sync_pb2.Hello:
        """The first message."""
        first = self.wait_for(lambda message: message.HasField("hello"))
        assert first is not None
        assert self.said[0].HasField("hello"), "Hello comes first"
        return first.hello

    def send(self, **message: Any) -> None:
        """Send one message, named by its field."""
        self.out.put(sync_pb2.SyncResponse(**message))

    def beat(self) -> None:
        """Say what time it is."""
        self.send(heartbeat=sync_pb2.ServerHeartbeat(server_time_ms=now_ms()))

    def answer(self, nonce: int) -> sync_pb2.SyncRequest | None:
        """The Ack or Nack of a transaction; None where the device left."""
        return self.wait_for(
            lambda m: (
                (m.HasField("ack") and m.ack.nonce == nonce)
                or (m.HasField("nack") and m.nack.nonce == nonce)
            )
        )

    def offer(self, release: Published, nonce: int, *, chunk: int = 65_536) -> None:
        """Send a whole release, without what the device holds."""
        held = set(self.hello.held_parts)
        self.send(
            begin=sync_pb2.Begin(
                nonce=nonce, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed
            )
        )
        for part in release.manifest.parts:
            if part.sha256 not in held:
                self.send_part(part, release.parts[part.sha256], nonce, chunk=chunk)
        self.send(commit=sync_pb2.Commit(nonce=nonce))

    def send_part(
        self, part: release_pb2.Part, content: bytes, nonce: int, *, chunk: int = 65_536
    ) -> None:
        """Send one part in chunks."""
        for offset in range(0, len(content), chunk):
            data = content[offset : offset + chunk]
            message = sync_pb2.Chunk(nonce=nonce, sha256=part.sha256, offset=offset, data=data)
            self.send(chunk=message)


Script = Callable[[Stream], None]


@dataclass
class Refuse:
    """Abort a call with this ErrorInfo."""

    reason: str
    code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION
    facts: Mapping[str, str] = field(default_factory=dict)

    def abort(self, context: grpc.ServicerContext) -> None:
        """End the call."""
        info = errors_pb2.ErrorInfo(
            reason=self.reason, domain="genome-edge", metadata=dict(self.facts)
        )
        packed = any_pb2.Any(
            type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString()
        )
        status = errors_pb2.RpcStatus(
            code=self.code.value[0], message="refused", details=[packed]
        ).SerializeToString()
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(self.code, "refused")


class ContractServer:
    """The server. Change its attributes while it runs; `stop` it, `start` it again."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        self.publisher = Publisher()
        self.credential_key = Ed25519PrivateKey.generate()
        self.credentials = credentials
        self.port = port
        self.skew_ms = 0
        self.clock_checks = 0
        self.revoked = False
        self.release: Published | None = None
        self.script: Script = self.keep_current
        self.streams: list[Stream] = []
        self.identify: Callable[[identify_pb2.IdentifyRequest], Any] = lambda _: Refuse(
            "NOT_IN_AUDIENCE", grpc.StatusCode.PERMISSION_DENIED
        )
        #: Looks at each batch first; a Refuse, "lose" (taken, but never answered) or None.
        self.on_report: Callable[[report_pb2.ReportRequest], Refuse | str | None] = lambda _: None
        self.reports: list[report_pb2.ReportRequest] = []
        self.report_times: list[float] = []
        self.log: dict[tuple[bytes, int], dict[int, bytes]] = {}
        self.used_codes: dict[str, bytes] = {}
        self._server: grpc.Server | None = None
        self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{'https://localhost' if self.credentials else '127.0.0.1'}:{self.port}"

    def start(self) -> None:
        """Listen, on the port that it had before."""
        server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(_Enrolment(self), server)
        report_pb2_grpc.add_ReportServiceServicer_to_server(_Report(self), server)
        sync_pb2_grpc.add_SyncServiceServicer_to_server(_Sync(self), server)
        identify_pb2_grpc.add_IdentifyServiceServicer_to_server(_Identify(self), server)
        where = f"127.0.0.1:{self.port}"
        if self.credentials is not None:
            self.port = server.add_secure_port(where, self.credentials)
        else:
            self.port = server.add_insecure_port(where)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Cut every call and stop listening."""
        if self._server is not None:
            for stream in self.streams:
                stream.out.put(None)
            self._server.stop(0).wait(10)
            self._server = None

    def prove(self, method: str, context: grpc.ServicerContext) -> None:
        """Check the credential and proof of a call as the contract says."""
        metadata = dict(context.invocation_metadata())
        if self.revoked:
            Refuse("CREDENTIAL_REVOKED", grpc.StatusCode.PERMISSION_DENIED).abort(context)
        refusal = Refuse("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED)
        try:
            credential = metadata["genome-edge-credential-bin"]
            proof, stated = metadata["genome-edge-proof-bin"], metadata["genome-edge-time"]
            whole = enrolment_pb2.SignedCredential.FromString(credential)
            self.credential_key.public_key().verify(
                whole.signature, b"genome-edge/credential/v1\n" + whole.credential
            )
            device = enrolment_pb2.Credential.FromString(whole.credential)
            message = b"genome-edge/call/v1\n" + f"{method}\n{stated}\n".encode()
            Ed25519PublicKey.from_public_bytes(device.public_key).verify(
                proof, message + hashlib.sha256(credential).digest()
            )
        except (KeyError, InvalidSignature):
            refusal.abort(context)
        server_ms = now_ms() + self.skew_ms
        if abs(server_ms - int(stated)) > 300_000:
            self.clock_checks += 1
            Refuse(
                "CLOCK_SKEW",
                grpc.StatusCode.UNAUTHENTICATED,
                {"server_time_ms": str(server_ms)},
            ).abort(context)

    def keep_current(self, stream: Stream) -> None:
        """What a good server does: greet, offer what is newer, say that this was all, go on."""
        nonce, seen = 0, stream.hello.active_release
        stream.beat()
        while not stream.over:
            release = self.release
            if release is not None and release.manifest.version > seen:
                nonce, seen = nonce + 1, release.manifest.version
                stream.offer(release, nonce)
                stream.answer(nonce)
                continue
            stream.beat()
            with stream._arrived:
                stream._arrived.wait_for(lambda: stream.over, 0.05)

    def events(self) -> list[bytes]:
        """Every body in the log, in the order of lanes and sequences."""
        return [
            frame[38:] for _, lane in sorted(self.log.items()) for _, frame in sorted(lane.items())
        ]


class _Enrolment(enrolment_pb2_grpc.EnrolmentServiceServicer):
    def __init__(self, house: ContractServer) -> None:
        self.house = house

    def Enrol(self, request: Any, context: Any) -> Any:  # noqa: N802
        house = self.house
        Ed25519PublicKey.from_public_bytes(request.public_key).verify(
            request.proof, b"genome-edge/enrol/v1\n" + request.code.encode()
        )
        if request.code != CODE:
            Refuse("CODE_INVALID", grpc.StatusCode.PERMISSION_DENIED).abort(context)
        if house.used_codes.setdefault(request.code, request.public_key) != request.public_key:
            Refuse("CODE_USED", grpc.StatusCode.PERMISSION_DENIED).abort(context)
        credential = enrolment_pb2.Credential(
            tenant=TENANT, device_id="dev-1", public_key=request.public_key, issued_ms=now_ms()
        ).SerializeToString()
        signature = house.credential_key.sign(b"genome-edge/credential/v1\n" + credential)
        return enrolment_pb2.EnrolResponse(
            device_id="dev-1",
            tenant=TENANT,
            audience="all",
            credential=enrolment_pb2.SignedCredential(
                credential=credential, signature=signature
            ).SerializeToString(),
            root=house.publisher.root,
            server_time_ms=now_ms() + house.skew_ms,
        )


class _Report(report_pb2_grpc.ReportServiceServicer):
    def __init__(self, house: ContractServer) -> None:
        self.house = house
        self.lock = threading.Lock()

    def Report(self, request: Any, context: Any) -> Any:  # noqa: N802
        house = self.house
        house.prove("/genome_edge.v1.ReportService/Report", context)
        with self.lock:
            house.reports.append(request)
            house.report_times.append(time.monotonic())
            verdict = house.on_report(request)
            if isinstance(verdict, Refuse):
                verdict.abort(context)
            assert hashlib.sha256(request.frames).digest() == request.digest
            lane = house.log.setdefault((request.epoch, request.lane), {})
            through = max(lane, default=0)
            if request.first_sequence > through + 1:
                Refuse("SEQUENCE_GAP", facts={"expected": str(through + 1)}).abort(context)
            for sequence, frame in frames_of(request.frames):
                if lane.setdefault(sequence, frame) != frame:
                    Refuse("FORKED_EPOCH").abort(context)
            if verdict == "lose":
                context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
            through = max(lane)
        return report_pb2.ReportResponse(
            incarnation=b"i" * 16,
            received_through=through,
            safe_through=through,
            server_time_ms=now_ms() + house.skew_ms,
        )


class _Sync(sync_pb2_grpc.SyncServiceServicer):
    def __init__(self, house: ContractServer) -> None:
        self.house = house

    def Sync(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        house = self.house
        house.prove("/genome_edge.v1.SyncService/Sync", context)
        stream = Stream(request_iterator)
        house.streams.append(stream)

        def play() -> None:
            try:
                # Who is killed between its call and its Hello is met by no script.
                if stream.wait_for(lambda message: message.HasField("hello")) is not None:
                    house.script(stream)
            finally:
                stream.out.put(None)

        threading.Thread(target=play, daemon=True).start()
        while (message := stream.out.get()) is not None:
            yield message


class _Identify(identify_pb2_grpc.IdentifyServiceServicer):
    def __init__(self, house: ContractServer) -> None:
        self.house = house

    def Identify(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.house.prove("/genome_edge.v1.IdentifyService/Identify", context)
        answer = self.house.identify(request)
        if isinstance(answer, Refuse):
            answer.abort(context)
        return answer


def frames_of(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """(sequence, whole frame) of each frame."""
    at = 0
    while at < len(frames):
        length, sequence = struct.unpack_from("<IQ", frames, at)
        yield sequence, frames[at : at + 38 + length]
        at += 38 + length


def until(condition: Callable[[], Any], what: str, timeout: float = 10.0) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)
    return answer
