"""Time that is not believed blindly.

A device's wall clock may be wrong and may be set back. So an event carries three clocks: the wall,
the time since boot with the boot's id, and how far the server's clock was from the wall when last
heard. What depends on time here (expiry, caps, fading) uses the wall corrected by that offset, and
never a moment before one that was seen already; what the server says overrules both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from edge_sdk import _posix
from genome_edge.v1 import event_pb2

#: The year 9999. A clock beyond it is broken, and the calendar of this machine ends there.
LATEST_MS: Final = 253_370_764_800_000


def wall_ms() -> int:
    """The wall clock: milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class DeviceClock:
    """The device's idea of the time. Thread-safe: whole references are swapped, no lock is taken.

    `wall` gives milliseconds since the Unix epoch; tests and replays put their own there.
    """

    def __init__(self, wall: Callable[[], int] = wall_ms) -> None:
        self._wall = wall
        self._boot_id = _posix.boot_id()
        self._offset_ms: int | None = None
        self._floor_ms = 0

    def hear(self, offset_ms: int | None, floor_ms: int) -> None:
        """Take what the store knows: server minus wall clock, and a moment that has passed."""
        self._offset_ms = offset_ms
        self._floor_ms = min(floor_ms, LATEST_MS)

    def now_ms(self) -> int:
        """Now, in milliseconds since the Unix epoch, by the server's clock as far as it is known;
        never before the latest moment that was seen since the server was heard."""
        now_ms = self._wall() + (self._offset_ms or 0)
        return min(max(now_ms, self._floor_ms, 0), LATEST_MS)

    def stamp(self) -> Stamp:
        """The three clocks now."""
        return Stamp(self._wall(), time.monotonic_ns() // 1_000_000, self._boot_id, self._offset_ms)


class Stamp(NamedTuple):
    """The three clocks at one moment: milliseconds since the Unix epoch, milliseconds since boot,
    16 bytes that name the boot, and server minus wall clock in milliseconds (None: never heard)."""

    wall_ms: int
    monotonic_ms: int
    boot_id: bytes
    offset_ms: int | None

    @property
    def server_ms(self) -> int:
        """The moment by the server's clock, as far as it was known: the time of an imprint."""
        return min(self.wall_ms + (self.offset_ms or 0), LATEST_MS)

    def to_proto(self) -> event_pb2.EventTime:
        """As an event carries it."""
        return event_pb2.EventTime(
            wall_ms=self.wall_ms,
            monotonic_ms=self.monotonic_ms,
            boot_id=self.boot_id,
            server_offset_ms=self.offset_ms or 0,
            offset_known=self.offset_ms is not None,
        )
