"""Entries as the writer commits them: encoded, with what became of each."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.outbox.entries import WRITTEN, Entry
from edge_sdk.outbox.frames import FrameKind, check_frame, frame_bytes
from edge_sdk.values import dataclass


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
