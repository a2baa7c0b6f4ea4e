"""How a device is: one immutable value, cheap to ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edge_sdk.condition import SKEW_MS, Counts, DeviceFacts, span, tier_of, warnings_of, when
from edge_sdk.decision import Tier
from edge_sdk.errors import EdgeError

__all__ = [
    "SKEW_MS", "Counts", "DeviceFacts", "State", "Status", "span", "tier_of", "warnings_of", "when",
]  # fmt: skip


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
    `fresh_until_ms` is when the release grows stale (0: there is none), `stop_list` the version of
    the stop list (0: none), `counters` the events lost or given up since the store was made, by
    reason. `warnings` are sentences about what will go wrong where nothing is done.
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
    fresh_until_ms: int = 0
    stop_list: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = (
            f"{self.state}, release {self.release or 'none'} ({self.tier}), "
            f"{self.genomes} genomes, {self.outbox} events to send"
        )
        return f"{said}: {self.cause}" if self.cause is not None else said
