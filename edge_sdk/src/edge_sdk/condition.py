"""What a device's condition follows from: how old its release is, its clock, and what it counts."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from edge_sdk.config import Config
from edge_sdk.decision import Tier

#: A wall clock that is wrong by more than this is worth a word.
SKEW_MS: Final = 5 * 60_000


class DeviceFacts(NamedTuple):
    """What a heartbeat says about this device that the store does not know.

    `reasons` counts decisions since the last take; `cause` is why it cannot do all that it should.
    """

    tier: str = ""
    reasons: Mapping[str, int] = MappingProxyType({})
    cause: str = ""


def tier_of(fresh_until_ms: int, now_ms: int, config: Config) -> Tier:
    """How far a release may still be trusted at `now_ms`: it degrades in steps after its time."""
    over_ms = now_ms - fresh_until_ms
    if over_ms < 0:
        return Tier.FRESH
    if over_ms < config.stale_s * 1000:
        return Tier.STALE
    if over_ms < (config.stale_s + config.restricted_s) * 1000:
        return Tier.RESTRICTED
    return Tier.HOUSE


def warnings_of(
    now_ms: int,
    *,
    fresh: tuple[int, int] | None = None,
    root: tuple[int, int] | None = None,
    heard_ms: int | None = None,
    off_ms: int | None = None,
) -> tuple[str, ...]:
    """What will go wrong where nothing is done, in sentences.

    `fresh` and `root` are the spans, from and until (0: for ever), of what is in force; something
    is said of them at a third of their life. `off_ms` is by how much the wall clock is wrong.
    """
    found = []
    if fresh is not None and _waning(fresh, now_ms):
        since = f"since {when(heard_ms)}" if heard_ms is not None else "so far"
        left_ms = fresh[1] - now_ms
        state = f"is fresh for {span(left_ms)} more" if left_ms > 0 else "is no longer fresh"
        found.append(f"the release {state}: no contact with the server {since}")
    if root is not None and root[1] and _waning(root, now_ms):
        left_ms = root[1] - now_ms
        state = f"expires in {span(left_ms)}" if left_ms > 0 else f"expired {span(left_ms)} ago"
        found.append(f"the trust root {state}: nothing new is believed after that but another root")
    if off_ms is not None and abs(off_ms) >= SKEW_MS:
        way = "behind" if off_ms > 0 else "ahead of"
        found.append(f"the clock is {span(off_ms)} {way} the server's: set it (NTP)")
    return tuple(found)


def _waning(life: tuple[int, int], now_ms: int) -> bool:
    return (life[1] - now_ms) * 3 < life[1] - life[0]


def span(ms: int) -> str:
    """A length of time in a few characters: 3 d, 5 h, 12 min, 4 s."""
    seconds = abs(ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def when(ms: int) -> str:
    """A moment as people and programs read it, in UTC."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="seconds")


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
        return {str(name): n for name, n in self._counts.copy().items()}  # some are of an Enum

    def take(self) -> dict[str, int]:
        """What was counted since the last call. For one thread."""
        now = self.all()
        before, self._taken = self._taken, now
        return {name: n - before.get(name, 0) for name, n in now.items() if n > before.get(name, 0)}
