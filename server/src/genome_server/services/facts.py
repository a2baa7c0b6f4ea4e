"""What devices say of themselves, on its way to where people look for it.

Thousands of heartbeats a minute are one write a second: the newest facts of each
device wait here, and go into the store together.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from genome_edge.v1 import sync_pb2
from genome_server.store.protocol import Store

_MAX_NAMES = 64
_MAX_WORD = 64
_MAX_TEXT = 200


class Facts:
    """The facts that wait to be written. Thread-safe; only `flush` blocks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[int, dict[str, Any]]] = {}

    def note(self, device: str, **facts: Any) -> None:
        """Remember that a device was heard of now, and facts about it."""
        now_ms = time.time_ns() // 1_000_000
        with self._lock:
            _, known = self._waiting.get(device, (0, {}))
            self._waiting[device] = (now_ms, known | facts)

    def flush(self) -> None:
        """Write what waits. Raises what the store raises; nothing is lost then."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            self._store.touch_devices(waiting)
        except BaseException:
            with self._lock:
                for device, (at_ms, facts) in waiting.items():
                    newer = self._waiting.get(device, (at_ms, {}))
                    self._waiting[device] = (newer[0], facts | newer[1])
            raise


def hello_facts(hello: sync_pb2.Hello) -> dict[str, Any]:
    """What a device says when it opens a stream."""
    return {
        "release": hello.active_release,
        "sdk": hello.sdk_version[:_MAX_WORD],
        "features": sorted(name[:_MAX_WORD] for name in hello.features[:_MAX_NAMES]),
        "root_version": hello.root_version,
        "timestamp_version": hello.timestamp_version,
        "stop_list_version": hello.stop_list_version,
        "held_back": "",
    }


def heartbeat_facts(beat: sync_pb2.DeviceHeartbeat) -> dict[str, Any]:
    """What a device says of itself, cut to what has room."""
    return {
        "release": beat.active_release,
        "tier": beat.tier[:_MAX_WORD],
        "outbox": beat.outbox_events,
        "outbox_age_ms": beat.outbox_age_ms,
        "last_nack": beat.last_nack[:_MAX_TEXT],
        "cause": beat.cause[:_MAX_TEXT],
        "genomes": beat.genomes,
        "root_version": beat.root_version,
        "timestamp_version": beat.timestamp_version,
        "stop_list_version": beat.stop_list_version,
        # Its clock against ours, the way here included; absent where it does not say.
        "clock_ahead_ms": beat.wall_ms - time.time_ns() // 1_000_000 if beat.wall_ms else None,
        "reasons": _counts(beat.reasons.items()),
        "counters": _counts(beat.counters.items()),
    }


def short(text: str) -> str:
    """A sentence, cut to what has room."""
    return text[:_MAX_TEXT]


def _counts(items: Any) -> dict[str, int]:
    return {name[:_MAX_WORD]: count for name, count in sorted(items)[:_MAX_NAMES]}
