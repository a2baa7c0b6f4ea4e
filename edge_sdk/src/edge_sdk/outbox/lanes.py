"""The arithmetic of lanes: sequences without gaps, batches that never change, eviction. No I/O.

Rules
-----
1. A lane belongs to one writing process and one priority, so a redemption (priority 0) never waits
   behind impressions (priority 1). Its sequences start at 1 and each is used once.
2. Frames lie in segments, one for each group commit. A segment accounts for every sequence from
   `first` to `last`; one that has no frame (any more) was given up.
3. What was given up is declared where it was: the last sequence of each run that is missing becomes
   an EVICTED frame that names the run. The receiver can tell a declared gap from a lost event.
   Where coins were flipped (`thinning`) the frames of a batch name with their probability all
   that they were flipped for, what stayed included.
4. A batch is cut once and is the same bytes until it is acknowledged: it is determined by the
   segments and its first and last sequence, and segments of a batch that was cut are not touched.
5. A new epoch of a lane shifts the sequences that were not received, so that they start at 1
   again. Those that were received and are not safe stay where they are, in a lane that has ended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace
from itertools import groupby
from typing import Final, NamedTuple

from edge_sdk.dna.genome import NOBODY
from edge_sdk.messages import event_pb2
from edge_sdk.outbox.frames import HEADER_BYTES, Frame, FrameKind, encode_frame
from edge_sdk.values import dataclass

#: Why events were given up; stands in the EVICTED frame.
OUTBOX_FULL: Final = "OUTBOX_FULL"
ERASED: Final = "ERASED"
REJECTED: Final = "REJECTED"
NO_LONGER_HELD: Final = "NO_LONGER_HELD"
STORE_CORRUPT: Final = "STORE_CORRUPT"
DISK_FULL: Final = "DISK_FULL"
INBOX_FULL: Final = "INBOX_FULL"
TOO_OLD: Final = "TOO_OLD"
UNWRITABLE: Final = "UNWRITABLE"

_MAX_COUNT: Final = (1 << 32) - 1
_HEADER: Final = struct.Struct("<IQ16sHq")
_LENGTH_AND_KIND: Final = struct.Struct("<I24xH")
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


class Limits(NamedTuple):
    """The most that a batch holds; one event that is larger travels alone."""

    events: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Some consecutive sequences of a lane, `first` to `last`, and the frames that are left.

    `at_ms` is when the segment was written, or last given something up; `reason` says why.
    `gone_ppm` is the probability, in millionths, with which each of its impressions was given up,
    and 0 where no coin was flipped.
    """

    first: int
    last: int
    at_ms: int
    frames: bytes = field(repr=False)
    reason: str = ""
    gone_ppm: int = 0


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


def segments_of(
    frames: Sequence[bytes],
    first: int,
    at_ms: int,
    limits: Limits,
    gone_ppm: int = 0,
) -> list[Segment]:
    """Segments for encoded frames whose sequences start at `first`, each no larger than a batch."""
    segments: list[Segment] = []
    begin = 0
    size = 0
    for i, frame in enumerate(frames):
        if i > begin and (i - begin >= limits.events or size + len(frame) > limits.bytes):
            segments.append(_segment(frames[begin:i], first + begin, at_ms, gone_ppm))
            begin, size = i, 0
        size += len(frame)
    if begin < len(frames):
        segments.append(_segment(frames[begin:], first + begin, at_ms, gone_ppm))
    return segments


def _segment(frames: Sequence[bytes], first: int, at_ms: int, gone_ppm: int) -> Segment:
    last = first + len(frames) - 1
    return Segment(first, last, at_ms, b"".join(frames), gone_ppm=gone_ppm)


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
    for low, high, frame in _runs(segment, after + 1, segment.last):
        yield low, high, len(frame or _evicted((low, segment.last), (low, high), segment))


def _runs(segment: Segment, first: int, last: int) -> Iterator[tuple[int, int, bytes]]:
    """First and last sequence of each frame and, without bytes, of each run that is missing."""
    due, last = max(segment.first, first), min(segment.last, last)
    for mark in marks(segment.frames):
        if not due <= mark.sequence <= last:
            continue
        if mark.sequence > due:
            yield due, mark.sequence - 1, b""
        yield mark.sequence, mark.sequence, segment.frames[mark.start : mark.end]
        due = mark.sequence + 1
    if due <= last:
        yield due, last, b""


def assemble(segments: Iterable[Segment], first: int, last: int) -> bytes:
    """The frames of a batch that was cut: what is here, and a declaration for each gap."""
    pieces: list[bytes] = []
    for gone_ppm, stretch in groupby(segments, key=lambda segment: segment.gone_ppm):
        runs = [(s, *run) for s in stretch for run in _runs(s, first, last)]
        gaps = sum(not frame for *_, frame in runs)
        said_to = runs[0][1] - 1 if runs else 0
        for segment, low, high, frame in runs:
            if frame:
                pieces.append(frame)
                continue
            gaps -= 1
            said = (low, high)
            if gone_ppm:  # together they name all that coins were flipped for
                said = (said_to + 1, high if gaps else runs[-1][2])
                said_to = said[1]
            pieces.append(_evicted(said, (low, high), segment))
    return b"".join(pieces)


def _evicted(said: tuple[int, int], gap: tuple[int, int], segment: Segment) -> bytes:
    event = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=segment.at_ms),
        evicted=event_pb2.Evicted(
            first_sequence=said[0],
            last_sequence=said[1],
            reason=segment.reason,
            events=min(gap[1] - gap[0] + 1, _MAX_COUNT),
            probability_ppm=segment.gone_ppm,
        ),
    )
    body = event.SerializeToString(deterministic=True)
    return encode_frame(Frame(gap[1], NOBODY, FrameKind.EVICTED, segment.at_ms, body))


def give_up(
    segment: Segment, which: Chooser, reason: str, at_ms: int, gone_ppm: int | None = None
) -> Segment | None:
    """The segment without the frames that `which` chooses.

    None where it chooses none, unless `gone_ppm` says that coins were flipped: that they all came
    up well has to be known, too.
    """
    kept = [segment.frames[m.start : m.end] for m in marks(segment.frames) if not which(m)]
    frames = b"".join(kept)
    if len(frames) == len(segment.frames) and gone_ppm is None:
        return None
    ppm = segment.gone_ppm if gone_ppm is None else gone_ppm
    return Segment(segment.first, segment.last, at_ms, frames, reason, ppm)


def count(frames: bytes) -> int:
    """How many events there are among the frames."""
    return sum(1 for _ in marks(frames))


def impressions(frames: bytes) -> int:
    """How many decisions there are among the frames."""
    found = at = 0
    end = len(frames)
    while at < end:  # as `marks` goes, without making one: this is on the way of every commit
        length, kind = _LENGTH_AND_KIND.unpack_from(frames, at)
        found += kind == FrameKind.DECISION
        at += HEADER_BYTES + length
    return found


def shift(segment: Segment, by: int) -> Segment:
    """The segment with `by` subtracted from every sequence; what falls below 1 is cut off."""
    frames = bytearray()
    for mark in marks(segment.frames):
        if mark.sequence > by:
            frames += numbered(segment.frames[mark.start : mark.end], mark.sequence - by)
    first = max(segment.first - by, 1)
    return replace(segment, first=first, last=segment.last - by, frames=bytes(frames))


def until(segment: Segment, last: int) -> Segment | None:
    """The segment up to the sequence `last`; None: nothing of it."""
    if segment.first > last:
        return None
    end = max((m.end for m in marks(segment.frames) if m.sequence <= last), default=0)
    return replace(segment, last=min(segment.last, last), frames=segment.frames[:end])
