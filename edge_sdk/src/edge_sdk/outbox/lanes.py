"""The arithmetic of lanes: sequences without gaps, batches that never change, eviction. No I/O.

Rules
-----
1. A lane belongs to one writing process and one priority, so a redemption (priority 0) never waits
   behind impressions (priority 1). Its sequences start at 1 and each is used once.
2. Frames lie in segments, one for each group commit. A segment accounts for every sequence from
   `first` to `last`; one that has no frame (any more) was given up.
3. What was given up is declared where it was: the last sequence of each run that is missing becomes
   an EVICTED frame that names the run. The receiver can tell a declared gap from a lost event.
4. A batch is cut once and is the same bytes until it is acknowledged: it is determined by the
   segments and its first and last sequence, and segments of a batch that was cut are not touched.
5. A new epoch shifts the sequences that were not received, so that they start at 1 again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from edge_sdk.dna.genome import NOBODY
from edge_sdk.outbox.frames import HEADER_BYTES, Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2

#: Why events were given up; stands in the EVICTED frame.
OUTBOX_FULL: Final = "OUTBOX_FULL"
ERASED: Final = "ERASED"
REJECTED: Final = "REJECTED"
NO_LONGER_HELD: Final = "NO_LONGER_HELD"
STORE_CORRUPT: Final = "STORE_CORRUPT"
DISK_FULL: Final = "DISK_FULL"

_HEADER: Final = struct.Struct("<IQ16sHq")
_SEQUENCE_AT: Final = 4
_SEQUENCE: Final = struct.Struct("<Q")


class Mark(NamedTuple):
    """Where one frame lies in a segment's bytes, and what its header says."""

    sequence: int
    kind: int
    subject: bytes
    start: int
    end: int


Chooser = Callable[[Mark], bool]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a batch holds; one event that is larger travels alone."""

    events: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Some consecutive sequences of a lane, `first` to `last`, and the frames that are left.

    `at_ms` is when the segment was written, or last given something up; `reason` says why.
    """

    first: int
    last: int
    at_ms: int
    frames: bytes = field(repr=False)
    reason: str = ""


def marks(frames: bytes) -> Iterator[Mark]:
    """Where each frame lies. Only for bytes that this device wrote."""
    at, end = 0, len(frames)
    while at < end:
        length, sequence, subject, kind, _ = _HEADER.unpack_from(frames, at)
        following = at + HEADER_BYTES + length
        yield Mark(sequence, kind, subject, at, following)
        at = following


def numbered(frame: bytes, sequence: int) -> bytes:
    """The same encoded frame with this sequence."""
    copy = bytearray(frame)
    _SEQUENCE.pack_into(copy, _SEQUENCE_AT, sequence)
    return bytes(copy)


def segments_of(frames: Sequence[bytes], first: int, at_ms: int, limits: Limits) -> list[Segment]:
    """Segments for encoded frames whose sequences start at `first`, each no larger than a batch."""
    segments: list[Segment] = []
    begin = 0
    size = 0
    for i, frame in enumerate(frames):
        if i > begin and (i - begin >= limits.events or size + len(frame) > limits.bytes):
            segments.append(_segment(frames[begin:i], first + begin, at_ms))
            begin, size = i, 0
        size += len(frame)
    if begin < len(frames):
        segments.append(_segment(frames[begin:], first + begin, at_ms))
    return segments


def _segment(frames: Sequence[bytes], first: int, at_ms: int) -> Segment:
    return Segment(first, first + len(frames) - 1, at_ms, b"".join(frames))


def cut(segments: Iterable[Segment], after: int, limits: Limits) -> tuple[int, int] | None:
    """The first and last sequence of the next batch behind sequence `after`; None: nothing is left.

    `segments` ascend and the first of them holds sequence `after` + 1.
    """
    last = after
    events = size = 0
    for segment in segments:
        for low, high, length in _entries(segment, after):
            if events and (events + 1 > limits.events or size + length > limits.bytes):
                return after + 1, last
            events, size, last = events + 1, size + length, high
            assert low > after
    return (after + 1, last) if last > after else None


def _entries(segment: Segment, after: int) -> Iterator[tuple[int, int, int]]:
    """Frames and runs of gaps behind `after`: first and last sequence, and bytes when sent."""
    due = max(segment.first, after + 1)
    for mark in marks(segment.frames):
        if mark.sequence < due:
            continue
        if mark.sequence > due:
            yield due, mark.sequence - 1, len(_evicted(due, mark.sequence - 1, segment))
        yield mark.sequence, mark.sequence, mark.end - mark.start
        due = mark.sequence + 1
    if due <= segment.last:
        yield due, segment.last, len(_evicted(due, segment.last, segment))


def assemble(segments: Iterable[Segment], first: int, last: int) -> bytes:
    """The frames of a batch that was cut: what is here, and a declaration for each gap."""
    pieces: list[bytes] = []
    for segment in segments:
        due = max(segment.first, first)
        for mark in marks(segment.frames):
            if mark.sequence < due or mark.sequence > last:
                continue
            if mark.sequence > due:
                pieces.append(_evicted(due, mark.sequence - 1, segment))
            pieces.append(segment.frames[mark.start : mark.end])
            due = mark.sequence + 1
        end = min(segment.last, last)
        if due <= end:
            pieces.append(_evicted(due, end, segment))
    return b"".join(pieces)


def _evicted(first: int, last: int, segment: Segment) -> bytes:
    event = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=segment.at_ms),
        evicted=event_pb2.Evicted(
            first_sequence=first, last_sequence=last, reason=segment.reason, events=last - first + 1
        ),
    )
    body = event.SerializeToString(deterministic=True)
    return encode_frame(Frame(last, NOBODY, FrameKind.EVICTED, segment.at_ms, body))


def give_up(segment: Segment, which: Chooser, reason: str, at_ms: int) -> Segment | None:
    """The segment without the frames that `which` chooses; None where it chooses none."""
    kept: list[bytes] = []
    found = False
    for mark in marks(segment.frames):
        if which(mark):
            found = True
        else:
            kept.append(segment.frames[mark.start : mark.end])
    if not found:
        return None
    return Segment(segment.first, segment.last, at_ms, b"".join(kept), reason)


def impressions(frames: bytes) -> int:
    """How many decisions there are among the frames."""
    return sum(mark.kind == FrameKind.DECISION for mark in marks(frames))


def shift(segment: Segment, by: int) -> Segment:
    """The segment with `by` subtracted from every sequence; what falls below 1 is cut off."""
    frames = bytearray()
    for mark in marks(segment.frames):
        if mark.sequence > by:
            frames += numbered(segment.frames[mark.start : mark.end], mark.sequence - by)
    first = max(segment.first - by, 1)
    return Segment(first, segment.last - by, segment.at_ms, bytes(frames), segment.reason)
