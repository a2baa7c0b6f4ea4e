"""A served device of one's own, and small clients for both of its doors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame, iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import decision_pb2_grpc, errors_pb2, event_pb2, report_pb2, report_pb2_grpc
from tests.unit.device_town import Town


class UnixConnection(HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@dataclass
class Said:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Of a refusal."""
        (detail,) = self.json["error"]["details"]
        return str(detail["reason"])


@dataclass
class Served:
    """`genome-edge serve`, running as a process of its own."""

    process: subprocess.Popen[str]
    store: Path
    http: str
    grpc: str
    token: str
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
        }

    @property
    def port(self) -> int:
        return int(self.http.rpartition(":")[2])

    def connection(self) -> HTTPConnection:
        if self.http.startswith("unix:"):
            return UnixConnection(self.http.removeprefix("unix:"))
        return HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, verb: str, path: str, body: Any = None, **headers: str | None) -> Said:
        """One request; `Name_Of=None` leaves a header out."""
        sent: dict[str, str] = dict(self.headers)
        for name, value in headers.items():
            name = name.replace("_", "-")
            sent.pop(name, None)
            if value is not None:
                sent[name] = value
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with contextlib.closing(self.connection()) as connection:
            connection.request(verb, path, content, sent)
            answer = connection.getresponse()
            return Said(answer.status, dict(answer.getheaders()), answer.read())

    def post(self, method: str, **body: Any) -> Any:
        """A call that is answered."""
        said = self.ask("POST", f"/v1/{method}", body)
        assert said.status == 200, said.body
        return said.json

    @contextlib.contextmanager
    def stubs(self) -> Iterator[tuple[Any, Any]]:
        """DecisionService and ReportService."""
        with grpc.insecure_channel(self.grpc) as channel:
            yield (
                decision_pb2_grpc.DecisionServiceStub(channel),
                report_pb2_grpc.ReportServiceStub(channel),
            )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    def end(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)

    def events(self) -> list[tuple[Frame, event_pb2.Event]]:
        """What is in the outbox and was not looked at before, taken as a server takes it."""
        store = DeviceStore.open(self.store)
        try:
            found = []
            outbox = Outbox(store)
            while (batch := outbox.next_batch()) is not None:
                frames = list(iter_frames(batch.frames))
                found += [(frame, event_pb2.Event.FromString(frame.body)) for frame in frames]
                outbox.ack(batch, batch.last_sequence, 0, b"log")
            return found
        finally:
            store.close()


@contextlib.contextmanager
def served(
    folder: Path,
    *arguments: str,
    town: Town | None = None,
    port: str = "127.0.0.1:0",
    enrolled: Path | None = None,
) -> Iterator[Served]:
    """A device that was given a town's bundle (or was enrolled), and is served until the end."""
    store, bundle = enrolled or folder / "device", folder / "town.bundle"
    folder.mkdir(parents=True, exist_ok=True)
    if town is not None:
        bundle.write_bytes(town.bundle())
    command = [sys.executable, "-m", "edge_sdk.cli", "serve", "--json", "--store", str(store)]
    command += ["--http", port, "--grpc", "127.0.0.1:0", *arguments]
    command += [] if enrolled else ["--bundle", str(bundle)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GENOME_EDGE_")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        token = Path(ready["token_file"]).read_text().strip()
        yield Served(process, store, ready["http"], ready["grpc"], token)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
        process.stdout.close()


def refusal(error: grpc.RpcError) -> tuple[str, str, dict[str, str]]:
    """Status, reason and facts of a call that was refused."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = errors_pb2.RpcStatus.FromString(value)
            assert (status.code, status.message) == (error.code().value[0], error.details())
            info = errors_pb2.ErrorInfo.FromString(status.details[0].value)
            return error.code().name, info.reason, dict(info.metadata)
    raise AssertionError(f"no details: {error}")


@dataclass
class Lane:
    """An app's own lane: numbers its events and sends them in batches."""

    epoch: bytes
    number: int = 1
    next: int = 1

    def frame(self, kind: FrameKind, subject: bytes, event: event_pb2.Event) -> bytes:
        """The next event."""
        frame = Frame(self.next, subject, kind, event.time.wall_ms, event.SerializeToString())
        self.next += 1
        return encode_frame(frame)

    def batch(self, *frames: bytes, **changed: Any) -> report_pb2.ReportRequest:
        """A batch of frames that follow one another."""
        content = b"".join(frames)
        sequences = [frame.sequence for frame in iter_frames(content)] or [1]
        request = report_pb2.ReportRequest(
            epoch=self.epoch,
            lane=self.number,
            first_sequence=sequences[0],
            last_sequence=sequences[-1],
            frames=content,
            digest=hashlib.sha256(content).digest(),
        )
        for name, value in changed.items():
            setattr(request, name, value)
        return request
