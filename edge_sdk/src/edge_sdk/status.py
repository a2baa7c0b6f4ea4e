"""How a device is: one immutable value, cheap to ask for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edge_sdk.config import Config
from edge_sdk.decision import Tier
from edge_sdk.errors import EdgeError
from genome_edge.v1 import release_pb2


class State(StrEnum):
    """What the device can do now.

    READY: it decides from a release that has not expired. STALE: from one that has; `tier` says
    what that means. EMPTY: there is no release yet. ERROR: there is none because something is
    wrong; `cause` says what.
    """

    READY = "READY"
    STALE = "STALE"
    EMPTY = "EMPTY"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Status:
    """How a device is. `cause` is the newest trouble that is not over, whatever `state` says.

    `release` is the version decided from (0: none), `genomes` the number of rows held, `outbox`
    the events that the server has not received, `reasons` counts since the client was opened:
    decisions by the reason of slot 0, and names that were not known. `device` is empty before
    enrolment; `last_sync_ms` the server's time when it was last heard (None: never).
    """

    state: State
    tier: Tier
    cause: EdgeError | None = None
    release: int = 0
    genomes: int = 0
    outbox: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    device: str = ""
    last_sync_ms: int | None = None
    connected: bool = False

    def __str__(self) -> str:
        said = (
            f"{self.state}, release {self.release or 'none'} ({self.tier}), "
            f"{self.genomes} genomes, {self.outbox} events to send"
        )
        return f"{said}: {self.cause}" if self.cause is not None else said


@dataclass(frozen=True)
class DeviceFacts:
    """What a heartbeat says about this device. `reasons` counts decisions since the last take."""

    tier: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)


def tier_of(manifest: release_pb2.Manifest, now_ms: int, config: Config) -> Tier:
    """How far a release may still be trusted at `now_ms`: it degrades in steps after its expiry."""
    over_ms = now_ms - manifest.expires_ms
    if over_ms < 0:
        return Tier.FRESH
    if over_ms < config.stale_s * 1000:
        return Tier.STALE
    if over_ms < (config.stale_s + config.restricted_s) * 1000:
        return Tier.RESTRICTED
    return Tier.HOUSE


class Counts:
    """Counts by name. Who reads takes no lock, so that no decision ever waits for a reader."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._taken: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Count one."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1

    def all(self) -> dict[str, int]:
        """Everything counted so far."""
        return dict(self._counts)

    def take(self) -> dict[str, int]:
        """What was counted since the last call. For one thread."""
        now = dict(self._counts)
        before, self._taken = self._taken, now
        return {name: n - before.get(name, 0) for name, n in now.items() if n > before.get(name, 0)}
