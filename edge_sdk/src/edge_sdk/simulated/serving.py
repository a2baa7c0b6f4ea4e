"""A simulated server behind a real gRPC socket, on a line that a test can make as bad as it likes.

    with serve(server) as house:
        house.enrol(path)
        edge = EdgeClient(path)

It enrols whoever comes, keeps the events that are reported, once each, and says what the server has
to say. Proofs of calls are not checked.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_sdk.errors import UnreachableError
from edge_sdk.outbox.frames import Frame, iter_frames
from edge_sdk.simulated.server import ASSETS, GENOMES, RELEASE, SimulatedServer
from edge_sdk.simulated.world import SimulatedNetwork
from genome_edge.v1 import enrolment_pb2, release_pb2, report_pb2, sync_pb2

_BEAT_S = 0.1
# A device loads a release in a process of its own before it answers.
_ANSWER_S = 60.0
_LOST_S = 1.0


class SimulatedHouse:
    """A server that listens, the line to it, and what devices said. `serve` makes one."""

    def __init__(self, server: SimulatedServer, network: SimulatedNetwork) -> None:
        self.server = server
        self.network = network
        #: Where it listens, and the enrolment code; the code is good for any number of devices.
        self.address = ""
        self.code = f"{server.tenant}.SIMULATED"
        #: Everything that devices said on their streams.
        self.said: list[sync_pb2.SyncRequest] = []
        #: Reported events by (epoch, lane), then by sequence.
        self.log: dict[tuple[bytes, int], dict[int, Frame]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def nacks(self) -> list[str]:
        """Reasons of what devices refused."""
        return [one.nack.reason for one in self.said if one.HasField("nack")]

    @property
    def events(self) -> list[Frame]:
        """Every event in the log."""
        return [frame for lane in self.log.values() for _, frame in sorted(lane.items())]

    def enrol(self, path: Path | str, name: str = "simulated") -> None:
        """Make a store at `path` that belongs to a device of this server.

        Raises what enrolment raises.
        """
        from edge_sdk.config import Config
        from edge_sdk.store.device import DeviceStore
        from edge_sdk.sync.enrolment import enrol

        store = DeviceStore.open(Path(path))
        try:
            enrol(self.address, self.code, store, name, Config())
        finally:
            store.close()

    # The contract's methods, by its names --------------------------------------------------------

    def Enrol(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A credential for any key."""
        return self._call(self._enrol, request, context)

    def Report(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Events into the log; what is there already stays as it is."""
        return self._call(self._report, request, context)

    def Sync(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        """Everything that the device lacks, and then what changes."""
        ended = threading.Event()
        context.add_callback(ended.set)
        hello = next(requests)
        self.said.append(hello)
        answers = _Answers(ended)
        threading.Thread(target=self._listen, args=(requests, answers), daemon=True).start()
        try:
            for message in self.network.carry(self._follow(hello.hello, answers)):
                if self._over.is_set():
                    return
                yield message
        except UnreachableError as error:
            _lose(context, error)

    def _call(self, answer: Callable[[Any], Any], request: Any, context: Any) -> Any:
        try:
            return self.network.call(answer, request)
        except UnreachableError as error:
            return _lose(context, error)

    def _enrol(self, request: enrolment_pb2.EnrolRequest) -> enrolment_pb2.EnrolResponse:
        tenant, device = self.server.tenant, request.public_key[:8].hex()
        credential = enrolment_pb2.Credential(
            tenant=tenant, device_id=device, public_key=request.public_key
        )
        signed = enrolment_pb2.SignedCredential(credential=credential.SerializeToString())
        return enrolment_pb2.EnrolResponse(
            device_id=device,
            tenant=tenant,
            audience="all",
            credential=signed.SerializeToString(),
            root=self.server.root,
            server_time_ms=self.server.now_ms(),
        )

    def _report(self, request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        with self._lock:
            lane = self.log.setdefault((request.epoch, request.lane), {})
            for frame in iter_frames(request.frames):
                lane.setdefault(frame.sequence, frame)
            through = max(lane, default=0)
        return report_pb2.ReportResponse(
            incarnation=bytes(16),
            received_through=through,
            safe_through=through,
            server_time_ms=self.server.now_ms(),
        )

    def _listen(self, requests: Iterator[Any], answers: _Answers) -> None:
        with contextlib.suppress(Exception):  # the call ended
            for request in requests:
                answers.take(request)
                self.said.append(request)
        answers.ended.set()

    def _follow(self, hello: sync_pb2.Hello, answers: _Answers) -> Iterator[Any]:
        server, refused = self.server, 0
        while not answers.ended.is_set():
            changes, offered = server.changes, server.offered
            cursor, trusted = server.genome_cursor, (len(server.roots), len(server.timestamps))
            parts = {one.sha256 for one in _manifest_of(server.releases.get(offered)).parts}
            answers.forget()
            for message in server.answer(hello, lambda: answers.took(RELEASE), refused):
                yield message
                if message.HasField("commit"):
                    answers.wait(message.commit.nonce, self._patience_s)
            hello.root_version, hello.timestamp_version = trusted
            if answers.took(RELEASE):
                hello.active_release = offered
            elif answers.refused(RELEASE):
                refused = offered
            if answers.took(RELEASE) or answers.took(ASSETS):
                hello.held_parts.extend(parts.difference(hello.held_parts))
            if answers.took(GENOMES):
                hello.genome_cursor = cursor
            while server.changes == changes and not answers.ended.wait(_BEAT_S):
                yield server.beat(hello.nonce)

    @property
    def _patience_s(self) -> float:
        """How long an answer may take; on a line that loses messages it may never come."""
        return _LOST_S if self.network.drop or self.network.reorder else _ANSWER_S


class _Answers:
    """What a device says of the transactions that it was sent last."""

    def __init__(self, ended: threading.Event) -> None:
        #: The stream is over.
        self.ended = ended
        self._said: dict[int, bool] = {}
        self._heard = threading.Condition()

    def forget(self) -> None:
        """Others are sent now."""
        self._said = {}

    def take(self, request: sync_pb2.SyncRequest) -> None:
        """An answer, or anything else that the device says."""
        for nonce, took in ((request.ack.nonce, True), (request.nack.nonce, False)):
            if nonce:
                with self._heard:
                    self._said[nonce] = took
                    self._heard.notify_all()

    def wait(self, nonce: int, timeout_s: float) -> None:
        """Wait for the answer to a transaction."""
        with self._heard:
            self._heard.wait_for(lambda: nonce in self._said or self.ended.is_set(), timeout_s)

    def took(self, nonce: int) -> bool:
        """Whether it was taken."""
        return self._said.get(nonce, False)

    def refused(self, nonce: int) -> bool:
        """Whether it was refused."""
        return not self._said.get(nonce, True)


def _manifest_of(signed: release_pb2.SignedManifest | None) -> release_pb2.Manifest:
    return release_pb2.Manifest.FromString(signed.manifest if signed is not None else b"")


def _lose(context: Any, error: UnreachableError) -> Any:
    import grpc

    return context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


@contextlib.contextmanager
def serve(
    server: SimulatedServer, network: SimulatedNetwork | None = None, *, port: int = 0
) -> Iterator[SimulatedHouse]:
    """Serve on a port of this machine, without TLS, until the block ends."""
    from concurrent import futures

    import grpc

    from genome_edge.v1 import enrolment_pb2_grpc, report_pb2_grpc, sync_pb2_grpc

    house = SimulatedHouse(server, network or SimulatedNetwork())
    listener = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(house, listener)
    report_pb2_grpc.add_ReportServiceServicer_to_server(house, listener)
    sync_pb2_grpc.add_SyncServiceServicer_to_server(house, listener)
    house.address = f"http://localhost:{listener.add_insecure_port(f'localhost:{port}')}"
    listener.start()
    try:
        yield house
    finally:
        house._over.set()
        listener.stop(0).wait(10)
