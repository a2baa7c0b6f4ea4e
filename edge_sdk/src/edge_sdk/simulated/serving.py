"""A simulated server on a line: in this process, or behind a real gRPC socket.

    with serve(server) as house:
        house.enrol(path)
        edge = EdgeClient(path)

Both are a `SimulatedHouse`: it enrols whoever comes, keeps the frames that are reported, once each,
and says what the server has to say over the network that a test gives. Proofs of calls are not
checked.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_sdk.errors import UnreachableError
from edge_sdk.outbox.frames import Frame, iter_frames
from edge_sdk.simulated.server import SimulatedServer
from edge_sdk.simulated.world import SimulatedNetwork
from edge_sdk.sync.keys import ServerClock
from edge_sdk.sync.transport import ENROL, REPORT, Method, parse_address
from genome_edge.v1 import enrolment_pb2, report_pb2, sync_pb2

_BEAT_S = 0.1


class SimulatedHouse:
    """A server, the line to it, and what devices said."""

    def __init__(self, server: SimulatedServer, network: SimulatedNetwork | None = None) -> None:
        self.server = server
        self.network = network or SimulatedNetwork()
        #: Where it listens, and the enrolment code; the code is good for any number of devices.
        self.address = "http://localhost:1"
        self.code = f"{server.tenant}.SIMULATED"
        #: Everything that devices said on their streams.
        self.said: list[sync_pb2.SyncRequest] = []
        #: Reported events by (epoch, lane), then by sequence.
        self.log: dict[tuple[bytes, int], dict[int, Frame]] = {}
        self._lock = threading.Lock()

    @property
    def nacks(self) -> list[str]:
        """Reasons of what devices refused."""
        return [one.nack.reason for one in self.said if one.HasField("nack")]

    @property
    def events(self) -> list[Frame]:
        """Every event in the log."""
        return [frame for lane in self.log.values() for _, frame in sorted(lane.items())]

    def link(self, clock: ServerClock | None = None) -> SimulatedLink:
        """A line to it that needs no socket, in place of a `transport.Link`."""
        return SimulatedLink(self, clock or ServerClock(0, self.server.now_ms))

    def enrol(self, path: Path | str, name: str = "simulated") -> None:
        """Make a store at `path` that belongs to a device of this server, which must listen.

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

    def on_enrol(self, request: enrolment_pb2.EnrolRequest) -> enrolment_pb2.EnrolResponse:
        """The answer to Enrol: a credential for any key."""
        tenant, device = self.server.tenant, request.public_key[:8].hex()
        credential = enrolment_pb2.Credential(
            tenant=tenant, device_id=device, public_key=request.public_key
        )
        return enrolment_pb2.EnrolResponse(
            device_id=device,
            tenant=tenant,
            audience="all",
            credential=enrolment_pb2.SignedCredential(
                credential=credential.SerializeToString()
            ).SerializeToString(),
            root=self.server.root,
            server_time_ms=self.server.now_ms(),
        )

    def on_report(self, request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        """The answer to Report: into the log with it; what is there already stays as it is."""
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

    def follow(self, hello: sync_pb2.Hello, over: threading.Event) -> Iterator[Any]:
        """A stream that stays open: everything, then what changes, with the time in between."""
        while not over.is_set():
            changes = self.server.changes
            yield from self.server.answer(hello)
            known = sync_pb2.Hello()
            known.CopyFrom(hello)
            hello = self._after(known)
            while self.server.changes == changes and not over.wait(_BEAT_S):
                yield self.server.beat(hello.nonce)

    def _after(self, hello: sync_pb2.Hello) -> sync_pb2.Hello:
        """What the device has, as far as this server knows, when it took all of it."""
        server = self.server
        hello.root_version, hello.timestamp_version = len(server.roots), len(server.timestamps)
        hello.stop_list_version, hello.active_release = len(server.stop_lists), server.offered
        del hello.held_parts[:], hello.partials[:]
        hello.held_parts.extend(server.contents)
        hello.genome_cursor = server.genome_cursor
        return hello


class SimulatedLink:
    """What a `transport.Link` is to a device, in this process."""

    def __init__(self, house: SimulatedHouse, clock: ServerClock) -> None:
        self.house = house
        self.clock = clock
        self.address = parse_address(house.address)

    def open_sync(self, requests: Iterator[sync_pb2.SyncRequest]) -> SimulatedCall:
        """A stream that ends after everything was said once."""
        return SimulatedCall(self.house, requests)

    def call(self, method: Method[Any, Any], request: Any, timeout_s: float) -> Any:  # noqa: ARG002
        """A call of Enrol or Report. Raises UnreachableError."""
        serve: dict[str, Callable[[Any], Any]] = {
            ENROL.path: self.house.on_enrol,
            REPORT.path: self.house.on_report,
        }
        return self.house.network.call(serve[method.path], request)

    def heed_clock(self, error: Exception) -> bool:  # noqa: ARG002 as a Link's
        """Nothing is ever refused for its time here."""
        return False

    def close(self) -> None:
        """Nothing is open."""


class SimulatedCall:
    """What a `transport.SyncCall` is to a device, in this process."""

    def __init__(self, house: SimulatedHouse, requests: Iterator[sync_pb2.SyncRequest]) -> None:
        self._house = house
        self._requests = requests
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[sync_pb2.SyncResponse]:
        hello = next(self._requests)
        self._house.said.append(hello)
        for message in self._house.network.carry(self._house.server.answer(hello.hello)):
            if self._cancelled.is_set():
                raise UnreachableError("the stream was ended")
            yield message

    def cancel(self) -> None:
        """End the stream; what the device still had to say is heard."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            self._house.said.extend(self._requests)


@contextlib.contextmanager
def serve(
    server: SimulatedServer, network: SimulatedNetwork | None = None, *, port: int = 0
) -> Iterator[SimulatedHouse]:
    """Serve on a port of this machine, without TLS, until the block ends."""
    from concurrent import futures

    import grpc

    from genome_edge.v1 import enrolment_pb2_grpc, report_pb2_grpc, sync_pb2_grpc

    house = SimulatedHouse(server, network)
    service = _Service(house, grpc.StatusCode.UNAVAILABLE)
    listener = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(service, listener)
    report_pb2_grpc.add_ReportServiceServicer_to_server(service, listener)
    sync_pb2_grpc.add_SyncServiceServicer_to_server(service, listener)
    house.address = f"http://localhost:{listener.add_insecure_port(f'localhost:{port}')}"
    listener.start()
    try:
        yield house
    finally:
        service.over.set()
        listener.stop(0).wait(10)


class _Service:
    """The handlers of a listening server."""

    def __init__(self, house: SimulatedHouse, unavailable: Any) -> None:
        self.over = threading.Event()
        self._house = house
        self._unavailable = unavailable

    def Enrol(self, request: Any, context: Any) -> Any:  # noqa: N802 the contract's name
        return self._call(self._house.on_enrol, request, context)

    def Report(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._call(self._house.on_report, request, context)

    def Sync(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        house, ended = self._house, threading.Event()
        context.add_callback(ended.set)
        hello = next(requests)
        house.said.append(hello)
        threading.Thread(target=self._listen, args=(requests, ended), daemon=True).start()
        try:
            for message in house.network.carry(house.follow(hello.hello, ended)):
                if self.over.is_set():
                    return
                yield message
        except UnreachableError as error:
            context.abort(self._unavailable, str(error))

    def _listen(self, requests: Iterator[Any], ended: threading.Event) -> None:
        with contextlib.suppress(Exception):  # the call ended
            for request in requests:
                self._house.said.append(request)
        ended.set()

    def _call(self, serve_it: Callable[[Any], Any], request: Any, context: Any) -> Any:
        try:
            return self._house.network.call(serve_it, request)
        except UnreachableError as error:
            return context.abort(self._unavailable, str(error))
