"""What travels from the app's threads to the writer: an event and everything that goes with it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Final

from edge_sdk.engine.caps import CapRow
from edge_sdk.errors import StoreError
from edge_sdk.outbox.frames import FrameKind, check_frame, frame_bytes
from edge_sdk.values import dataclass

#: Priorities: the first goes out before everything else.
URGENT: Final = 0
ORDINARY: Final = 1
DUPLICATE: Final = "DUPLICATE"
WRITTEN: Final = ""
LOST: Final = "LOST"


class Ticket:
    """Where somebody waits for the commit of one event."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._outcome = WRITTEN
        self._error: StoreError | None = None

    def settle(self, outcome: str = WRITTEN, error: StoreError | None = None) -> None:
        """Say how it went."""
        self._outcome, self._error = outcome, error
        self._done.set()

    def done(self, timeout: float) -> bool:
        """Wait; whether it was settled in time."""
        return self._done.wait(timeout)

    def wait(self, timeout: float) -> str:
        """WRITTEN, DUPLICATE, or what a guard said. Raises StoreError; nothing was written then."""
        if not self._done.wait(timeout):
            raise StoreError(f"the store did not take the event within {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._outcome


Guard = Callable[[sqlite3.Connection], str]


@dataclass(slots=True)
class Entry:
    """One thing that happened, on its way to disk.

    `bodies` gives the serialised Event as it is reported, and its full form for the ring (empty:
    none); it is called in the writer's thread, and `encoded` is what `encoded` made of it.
    The ring finds a decision by its `decision_id` (16 bytes). `event_id` (16 bytes) removes
    repetitions. `imprint` is (id, serialised Interaction) of what the genome gains. `guard` looks
    at the open transaction and returns why the event may not happen, or WRITTEN. `settled` is
    called after the commit with the outcome, or with LOST. `gone_ppm` is the probability with which
    the event could have been given up already (see `thinning`).
    """

    kind: FrameKind
    subject: bytes
    time_ms: int
    bodies: Callable[[], tuple[bytes, bytes]]
    priority: int = ORDINARY
    decision_id: bytes = b""
    event_id: bytes = b""
    caps: tuple[CapRow, ...] = ()
    imprint: tuple[str, bytes] | None = None
    consent: tuple[int, bool] | None = None
    guard: Guard | None = None
    settled: Callable[[str], None] | None = None
    ticket: Ticket | None = None
    gone_ppm: int = 0
    encoded: tuple[bytes, bytes] | None = None


@dataclass(slots=True)
class Prepared:
    """An entry whose event is encoded: its body, and its frame for the ring (empty: none)."""

    entry: Entry
    body: bytes
    full: bytes
    outcome: str = WRITTEN
    sequence: int = 0


def encoded(entry: Entry) -> tuple[bytes, bytes]:
    """The event's body, and its frame for the ring (empty: none). Raises whatever is wrong."""
    body, full = entry.bodies()
    check_frame(entry.subject, body)
    return body, frame_of(0, entry, full) if full else b""


def frame_of(sequence: int, entry: Entry, body: bytes) -> bytes:
    """The frame of an entry with this body."""
    return frame_bytes(sequence, entry.subject, entry.kind, entry.time_ms, body)


def coins(items: Sequence[Prepared]) -> list[int]:
    """With which probability each was at risk; what is not shown goes with what came before it."""
    ppm, found = 0, []
    for item in items:
        if item.entry.kind is FrameKind.DECISION:
            ppm = item.entry.gone_ppm
        found.append(ppm)
    return found
