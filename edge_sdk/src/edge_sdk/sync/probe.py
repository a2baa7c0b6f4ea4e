"""Ask the server whether it knows this device, and what time it is, without taking anything."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_sdk.errors import RefusedError, UnreachableError
from edge_sdk.sync.enrolment import open_link
from edge_sdk.sync.trust import FEATURES
from edge_sdk.version import sdk_version
from genome_edge.v1 import sync_pb2

if TYPE_CHECKING:
    from edge_sdk.config import Config
    from edge_sdk.store.device import DeviceStore, Identity
    from edge_sdk.sync.keys import ServerClock
    from edge_sdk.sync.transport import Link


def probe(store: DeviceStore, config: Config, identity: Identity, clock: ServerClock) -> int:
    """Open a sync stream, wait for the greeting, leave. The server's time (Unix milliseconds).

    Raises RefusedError, UnreachableError, UsageError, StoreError.
    """
    with open_link(store, config, identity, clock) as link:
        try:
            return _greeting(link, store, config.call_timeout_s)
        except RefusedError as error:
            if not link.heed_clock(error):
                raise
        return _greeting(link, store, config.call_timeout_s)


def _greeting(link: Link, store: DeviceStore, timeout_s: float) -> int:
    leave: queue.SimpleQueue[None] = queue.SimpleQueue()

    # Read now: gRPC asks when it likes, be it after all is closed.
    active, standing = store.active_release(), store.standing()
    hello = sync_pb2.Hello(
        sdk_version=sdk_version(),
        features=FEATURES,
        # As if everything were here: nothing is to be sent for a question.
        active_release=active.version if active else 0,
        highest_release=(1 << 64) - 1,
        epoch=store.epoch(),
        wants_genomes=False,
        # The server shows people what was said last.
        root_version=standing.root.version,
        timestamp_version=standing.timestamp.version if standing.timestamp else 0,
        stop_list_version=standing.stop_list_version,
    )

    def requests() -> Iterator[sync_pb2.SyncRequest]:
        yield sync_pb2.SyncRequest(hello=hello)
        leave.get()

    call = link.open_sync(requests())
    timer = threading.Timer(timeout_s, call.cancel)
    timer.daemon = True
    timer.start()
    try:
        for message in call:
            if message.HasField("heartbeat"):
                return int(message.heartbeat.server_time_ms)
    finally:
        timer.cancel()
        leave.put(None)
        call.cancel()
    raise UnreachableError(f"{link.address.text} ended the stream without a greeting")
