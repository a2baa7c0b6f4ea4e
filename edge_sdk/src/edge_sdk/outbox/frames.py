"""Frames: how events stand in a report and in the log.

A frame is a clear header and an opaque body:

    length u32 | sequence u64 | subject 16 bytes | kind u16 | time i64 | body

all little-endian; `length` is that of the body. The header is all that ingest
looks at, and all that stays of an event that was erased (a tombstone).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from edge_sdk.errors import BadFrame, UsageError

_HEADER: Final = struct.Struct("<IQ16sHq")
HEADER_BYTES: Final = _HEADER.size
MAX_BODY_BYTES: Final = 1 << 20


class FrameKind(IntEnum):
    """What a frame's body holds. Kinds that a reader does not know are kept, not refused."""

    TOMBSTONE = 0
    INTERACTION = 1
    DECISION = 2
    OUTCOME = 3
    CONSENT = 4
    LINK = 5
    EVICTED = 6


class Frame(NamedTuple):
    """One event: `sequence` in its lane, 16-byte `subject`, `time_ms` since the Unix epoch."""

    sequence: int
    subject: bytes
    kind: int
    time_ms: int
    body: bytes


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame. Raises `UsageError` for a subject or body of wrong length."""
    check_frame(frame.subject, frame.body)
    return frame_bytes(frame.sequence, frame.subject, frame.kind, frame.time_ms, frame.body)


def check_frame(subject: bytes, body: bytes) -> None:
    """Raise `UsageError` for a subject or body of wrong length."""
    if len(subject) != 16:
        raise UsageError(f"a subject has 16 bytes, not {len(subject)}")
    if len(body) > MAX_BODY_BYTES:
        raise UsageError(f"an event has at most {MAX_BODY_BYTES} bytes, not {len(body)}")


def frame_bytes(sequence: int, subject: bytes, kind: int, time_ms: int, body: bytes) -> bytes:
    """The bytes of a frame that `check_frame` let through."""
    return _HEADER.pack(len(body), sequence, subject, kind, time_ms) + body


def iter_frames(data: bytes) -> Iterator[Frame]:
    """Read frames one after the other. Raises `BadFrame` at the first that is not whole."""
    offset, end = 0, len(data)
    while offset < end:
        body_at = offset + HEADER_BYTES
        if body_at > end:
            raise BadFrame(offset, f"its header has {end - offset} of {HEADER_BYTES} bytes")
        length, sequence, subject, kind, time_ms = _HEADER.unpack_from(data, offset)
        if length > MAX_BODY_BYTES:
            raise BadFrame(offset, f"its body would have {length} bytes")
        if body_at + length > end:
            raise BadFrame(offset, f"its body has {end - body_at} of {length} bytes")
        yield Frame(sequence, subject, kind, time_ms, data[body_at : body_at + length])
        offset = body_at + length
