"""Time that is not believed blindly.

Rules
-----
- What the server said of the time is the time. It is anchored to the boot of this machine: while
  that boot lasts, now is what the server said plus what has passed since, whatever becomes of the
  wall clock meanwhile.
- After a reboot, until the server is heard again, now is the wall clock corrected by how far the
  server's was from it, and never before a moment that has passed plus what has passed since. A
  wall clock that was set meanwhile shows when the server is heard.
- A machine that does not name its boots, and an app's own clock, know no anchor.

An event carries three clocks: the wall, the time since boot with the boot's id, and how far the
server's clock was from the wall. What depends on time here (expiry, tiers, caps, fading) uses
`DeviceClock.now_ms` and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from edge_sdk import _posix
from edge_sdk.messages import event_pb2

#: The year 9999. A clock beyond it is broken, and the calendar of this machine ends there.
LATEST_MS: Final = 253_370_764_800_000


_SINCE_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wall_ms() -> int:
    """The wall clock: milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def since_boot_ms() -> int:
    """Milliseconds since this machine was started, asleep or not; nobody can set it."""
    return time.clock_gettime_ns(_SINCE_BOOT) // 1_000_000


class Clocks(NamedTuple):
    """What a machine tells the time by: the wall clock and the time since boot, milliseconds, and
    the boot's 16 bytes (None: asked of the system). Without a time since boot nothing is anchored.
    """

    wall: Callable[[], int] = wall_ms
    since_boot: Callable[[], int] | None = since_boot_ms
    boot_id: bytes | None = None


class Anchor(NamedTuple):
    """The server's time at one moment of a boot: 16 bytes name it, milliseconds passed in it."""

    server_ms: int
    boot_id: bytes
    since_boot_ms: int

    @classmethod
    def now(cls, server_ms: int, clocks: Clocks) -> Anchor | None:
        """The server's time as it was just heard; None where nothing can hold it."""
        boot_id = clocks.boot_id or _posix.boot_id()
        if clocks.since_boot is None or not any(boot_id):
            return None
        return cls(server_ms, boot_id, clocks.since_boot())

    def pack(self) -> bytes:
        """As a store keeps it."""
        return self.boot_id + b"%d %d" % (self.server_ms, self.since_boot_ms)

    @classmethod
    def unpack(cls, kept: bytes | None) -> Anchor | None:
        """What `pack` gave; None for what is none."""
        try:
            server_ms, passed_ms = map(int, (kept or b"")[16:].split())
        except ValueError:
            return None
        return cls(server_ms, (kept or b"")[:16], passed_ms)


class DeviceClock:
    """The device's idea of the time. Thread-safe: whole references are swapped, no lock is taken.

    `wall` gives milliseconds since the Unix epoch and `since_boot` those since the boot that
    `boot_id` names; None: there is no such clock beside this wall.
    """

    def __init__(
        self,
        wall: Callable[[], int] = wall_ms,
        since_boot: Callable[[], int] | None = since_boot_ms,
        boot_id: bytes | None = None,
    ) -> None:
        self._wall = wall
        self._since_boot = since_boot
        self._boot_id = _posix.boot_id() if boot_id is None else boot_id
        self._offset_ms: int | None = None
        # A moment that has passed, and how long the boot had lasted when that was learned.
        self._floor = (0, self._passed_ms())
        self._anchor: Anchor | None = None

    def hear(self, offset_ms: int | None, floor_ms: int, anchor: Anchor | None = None) -> None:
        """Take what the store knows: server minus wall clock, a moment that has passed, and the
        time as it was last heard."""
        self._offset_ms = offset_ms
        if floor_ms != self._floor[0]:
            self._floor = (min(floor_ms, LATEST_MS), self._passed_ms())
        known = self._since_boot is not None and anchor is not None
        self._anchor = anchor if known and anchor and anchor.boot_id == self._boot_id else None

    @property
    def anchored(self) -> bool:
        """Whether the server was heard since this machine was started."""
        return self._anchor is not None

    @property
    def sure(self) -> bool:
        """Whether this is as well as the time can be known here: what is forgotten by it is not
        regretted when the server is heard. Not so between a reboot and the server's next word."""
        able = self._since_boot is not None and any(self._boot_id)
        return self.anchored or self._offset_ms is None or not able

    def now_ms(self) -> int:
        """Now, in milliseconds since the Unix epoch, by the server's clock as far as it is known;
        never before the latest moment that was seen since the server was heard."""
        return self.reading()[0]

    def reading(self) -> tuple[int, Stamp]:
        """`now_ms`, and the three clocks, each looked at once for both."""
        wall_ms = self._wall()
        if self._since_boot is not None:
            passed_ms = since_ms = self._since_boot()
        else:
            passed_ms, since_ms = 0, since_boot_ms()
        anchor, offset_ms = self._anchor, self._offset_ms
        if anchor is not None:
            now_ms = anchor.server_ms + max(0, passed_ms - anchor.since_boot_ms)
        else:
            floor_ms, at_ms = self._floor
            now_ms = max(wall_ms + (offset_ms or 0), floor_ms + passed_ms - at_ms)
        now_ms = min(max(now_ms, 0), LATEST_MS)
        if anchor is not None:
            offset_ms = now_ms - wall_ms
        return now_ms, Stamp(wall_ms, since_ms, self._boot_id, offset_ms)

    def elapsed_ms(self) -> int:
        """What lasts a while is measured by this: milliseconds since boot, which nobody can set, or
        now where that is not known."""
        return self._since_boot() if self._since_boot is not None else self.now_ms()

    def _passed_ms(self) -> int:
        return self._since_boot() if self._since_boot is not None else 0

    def off_ms(self) -> int | None:
        """Server minus wall clock now; None: the server was never heard."""
        return self.reading()[1].offset_ms

    def stamp(self) -> Stamp:
        """The three clocks now."""
        return self.reading()[1]


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
