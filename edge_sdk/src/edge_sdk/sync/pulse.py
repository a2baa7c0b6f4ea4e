"""What a device says of itself on a stream, and when it is due."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from edge_sdk.clock import wall_ms
from edge_sdk.errors import EdgeError
from edge_sdk.status import DeviceFacts
from genome_edge.v1 import sync_pb2

if TYPE_CHECKING:
    from edge_sdk.outbox.queue import Outbox
    from edge_sdk.store.device import DeviceStore
    from edge_sdk.sync.machine import SyncMachine

# How soon after Hello the device says how it is, so that a person who looks sees it.
FIRST_S: Final = 1.0
# News is said at once, but not more often than this.
_LEAST_S: Final = 1.0
# How often the device looks whether there is news of itself.
_LOOK_S: Final = 1.0


class Due:
    """When the next heartbeat is due, in monotonic seconds. No clock and no sleep in here."""

    def __init__(self, now_s: float, every_s: float) -> None:
        self._every_s = every_s
        self._said_s = now_s
        self._due_s = now_s + min(FIRST_S, every_s)

    def wait(self, now_s: float) -> float:
        """How long there is nothing to do."""
        return max(0.0, min(self._due_s - now_s, _LOOK_S))

    def hurry(self) -> None:
        """There is news."""
        self._due_s = min(self._due_s, self._said_s + _LEAST_S)

    def beat(self, now_s: float) -> bool:
        """Whether one is due; then the next one is counted from now."""
        if now_s < self._due_s:
            return False
        self._said_s, self._due_s = now_s, now_s + self._every_s
        return True


class Pulse:
    """What a device says of itself. It outlives streams, so that nothing is counted twice or not
    at all. For one thread at a time."""

    def __init__(self, store: DeviceStore, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._facts = DeviceFacts()
        self._reasons: Counter[str] = Counter()

    def look(self) -> bool:
        """Ask the device how it is; whether its tier or its trouble is another one than before."""
        before, self._facts = self._facts, self._store.facts()
        self._reasons.update(self._facts.reasons)
        return (before.tier, before.cause) != (self._facts.tier, self._facts.cause)

    def heartbeat(self, machine: SyncMachine) -> sync_pb2.DeviceHeartbeat:
        """How the device is now."""
        self.look()
        said = sync_pb2.DeviceHeartbeat(
            tier=self._facts.tier,
            last_nack=machine.last_nack,
            cause=self._facts.cause,
            wall_ms=wall_ms(),
            root_version=machine.standing.root.version,
            stop_list_version=machine.standing.stop_list_version,
        )
        if machine.standing.timestamp is not None:
            said.timestamp_version = machine.standing.timestamp.version
        try:
            active = self._store.active_release()
            said.active_release = active.version if active is not None else 0
            said.outbox_events = self._outbox.unsent()
            said.outbox_age_ms = self._outbox.age_ms()
            said.genomes = self._store.genome_count()
            said.counters.update(self._store.losses())
        except EdgeError as error:
            said.tier, said.cause = "error", str(error)
        said.reasons.update(self._reasons)
        self._reasons.clear()
        return said
