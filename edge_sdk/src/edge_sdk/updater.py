"""Keep a device's store current and its outbox empty, in the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_sdk.config import Config
    from edge_sdk.errors import EdgeError
    from edge_sdk.outbox import Outbox
    from edge_sdk.store import DeviceStore
    from genome_edge.v1 import dna_pb2


@dataclass(frozen=True)
class LinkState:
    """What the updater knows about its connection; read from any thread.

    `cause` is the last failure and None once a later attempt went well; `last_contact_ms` is the
    server's time of the last message from it (0: never); `last_nack` is the reason why the last
    offered release or set of genomes was refused (empty: none was).
    """

    connected: bool = False
    last_contact_ms: int = 0
    last_nack: str = ""
    cause: EdgeError | None = None


@dataclass(frozen=True)
class Enrolled:
    """What enrolment gave: who this device is now."""

    device_id: str
    tenant: str
    audience: str


@dataclass(frozen=True)
class Identified:
    """Who a presence token stands for. `row` is None where the customer did not agree to
    personalisation; everything is to be forgotten after `ttl_s` seconds."""

    subject: bytes
    block: dna_pb2.GenomeBlock | None
    ttl_s: int


@dataclass(frozen=True)
class SyncOutcome:
    """What one `sync_once` brought: the release now active, rows now held, events sent."""

    release: int
    genomes: int
    reported: int


class Updater:
    """Keeps a store current and an outbox empty, in two daemon threads.

    `on_change` is called from a background thread after a release or genomes were committed to
    the store or the state of the connection changed; it must not block. `state` never blocks.
    """

    def __init__(
        self,
        store: DeviceStore,
        outbox: Outbox,
        config: Config,
        on_change: Callable[[], None],
    ) -> None:
        raise NotImplementedError

    @property
    def state(self) -> LinkState:
        """The connection as it is now."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the threads; returns at once. Does nothing where the store is not enrolled."""
        raise NotImplementedError

    def kick(self) -> None:
        """Send what is in the outbox now instead of at the next look; never blocks."""
        raise NotImplementedError

    def stop(self, timeout: float) -> bool:
        """Stop the threads; True where they ended within `timeout` seconds."""
        raise NotImplementedError

    def sync_once(self, timeout: float) -> SyncOutcome:
        """Bring the store up to date and send the outbox in this thread, then return.

        Raises UnreachableError, RefusedError or TrustError; what was committed stays.
        """
        raise NotImplementedError


def enrol(server: str, code: str, store: DeviceStore, name: str, config: Config) -> Enrolled:
    """Exchange a one-time code for a credential and keep it in `store`.

    Raises UsageError (address, or the store is enrolled already), RefusedError (code),
    UnreachableError.
    """
    raise NotImplementedError


def identify(
    store: DeviceStore, config: Config, token: str, lineage: dna_pb2.Lineage, timeout: float
) -> Identified | None:
    """Ask the server for the genome of a customer who is present; None: nobody it knows.

    Raises UnreachableError and RefusedError.
    """
    raise NotImplementedError
