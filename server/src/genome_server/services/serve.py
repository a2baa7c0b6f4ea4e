"""The server as a whole: all tenants of a home behind one address.

house = await House.open(home, listen="127.0.0.1:0", identity=None)
await house.start()        # house.address is where it listens
await house.drain()        # goodbye to streams, finish calls, close logs
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edge_sdk._posix import FileLock
from genome_edge.v1 import (
    decision_pb2,
    decision_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
    identify_pb2,
    identify_pb2_grpc,
    report_pb2,
    report_pb2_grpc,
    sync_pb2,
)
from genome_server.errors import Refused
from genome_server.home import Home, Tenant, no_home
from genome_server.services.auth import Authenticator, AuthInterceptor, policies
from genome_server.services.decision import DecisionService
from genome_server.services.enrolment import EnrolmentService
from genome_server.services.identify import IdentifyService
from genome_server.services.landing import Landing
from genome_server.services.live import Consumer, Live
from genome_server.services.report import ReportService
from genome_server.services.rooms import Rooms
from genome_server.services.sync import SyncService
from genome_server.services.tls import Identity, check_listen, split

#: Every service of the contract; what is served, guarded and reflected.
SERVICES: Final = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (enrolment_pb2, "EnrolmentService"),
        (report_pb2, "ReportService"),
        (sync_pb2, "SyncService"),
        (identify_pb2, "IdentifyService"),
        (decision_pb2, "DecisionService"),
    )
)
SERVICE_NAMES: Final = tuple(service.full_name for service in SERVICES)

#: A report's frames are at most 4 MiB; the rest of the message is small.
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024 + 64 * 1024
GRACE_S: Final = 10.0
_FAREWELL_S: Final = 2.0
_THREADS: Final = 16

log = logging.getLogger(__name__)


def _live_consumer(tenant: Tenant) -> Consumer:
    from genome_server.counting.consumer import Counters
    from genome_server.genomes.live import LiveConsumer
    from genome_server.services.live import WithCounters

    return WithCounters(LiveConsumer(tenant), lambda: Counters(tenant), tenant.name)


class House:
    """A running server. One process serves a home at a time."""

    def __init__(self, home: Home, listen: str, identity: Identity | None) -> None:
        check_listen(listen, identity)
        self.home = home
        self.address = listen
        self.port = 0
        self._identity = identity
        self._policies = policies(SERVICES)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="services")
        self._lock = self._take_lock()
        try:
            self.rooms = Rooms(home)
        except BaseException:
            self._lock.release()
            raise
        self._live: list[Live] = []
        self._server: Any = None
        self._guard: AuthInterceptor | None = None
        self._sync: SyncService | None = None
        self._health = health.aio.HealthServicer()

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken."""
        return self._identity is not None

    async def start(self, consumer: Callable[[Tenant], Consumer] = _live_consumer) -> None:
        """Listen, and turn what is in the logs into genomes. Raises Refused: address in use."""
        authenticator = Authenticator(self.rooms)
        self._sync = SyncService(self._pool)
        self._guard = AuthInterceptor(self._policies, authenticator, self._pool)
        self._server = grpc.aio.server(
            interceptors=[self._guard],
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                # Devices ask every minute whether the connection lives; that is no abuse.
                ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        self._add_services()
        self._listen()
        await self._server.start()
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        for room in self.rooms.values():
            live = Live(room, self._pool, _making(consumer, room.tenant))
            live.start()
            self._live.append(live)

    async def drain(self, grace_s: float = GRACE_S) -> None:
        """Refuse what is new, send devices away, finish what runs, close everything."""
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        if self._guard is not None:
            self._guard.draining = True
        if self._sync is not None:
            await self._sync.drain(_FAREWELL_S)
        if self._server is not None:
            await self._server.stop(grace_s)
        await asyncio.gather(*(live.stop() for live in self._live))
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close the tenants; part of `drain`, and all there is to do before `start`."""
        # What a thread of the pool is at goes on though nobody waits for it any more: SQLite does
        # not bear that its connection is closed meanwhile.
        self._pool.shutdown(cancel_futures=True)
        self.rooms.close()
        self._lock.release()

    def _take_lock(self) -> FileLock:
        path = self.home.root / "serve.lock"
        if not self.home.root.is_dir():
            raise no_home(self.home.root)
        lock = FileLock.try_acquire(path)
        if lock is None:
            raise Refused(f"another process serves {self.home.root} already")
        return lock

    def _add_services(self) -> None:
        pool, landing = self._pool, Landing()
        # The generated functions carry no types.
        served: list[tuple[Any, Any]] = [
            (
                enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server,
                EnrolmentService(self.rooms, pool),
            ),
            (report_pb2_grpc.add_ReportServiceServicer_to_server, ReportService(pool, landing)),
            (identify_pb2_grpc.add_IdentifyServiceServicer_to_server, IdentifyService(pool)),
            (
                decision_pb2_grpc.add_DecisionServiceServicer_to_server,
                DecisionService(pool, landing),
            ),
            (health_pb2_grpc.add_HealthServicer_to_server, self._health),
        ]
        for add, service in served:
            add(service, self._server)
        if self._sync is not None:
            self._sync.add_to(self._server)
        shown = (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(shown, self._server)

    def _listen(self) -> None:
        try:
            if self._identity is None:
                port = self._server.add_insecure_port(self.address)
            else:
                pair = (self._identity.key, self._identity.certificate)
                credentials = grpc.ssl_server_credentials([pair])
                port = self._server.add_secure_port(self.address, credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            raise Refused(f"{self.address} cannot be listened on: is it in use?")
        self.port = port
        if not self.address.startswith("unix:"):
            host, _ = split(self.address)
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _making(consumer: Callable[[Tenant], Consumer], tenant: Tenant) -> Callable[[], Consumer]:
    return lambda: consumer(tenant)
