"""The checks that a batch passes before it is logged. Free of I/O.

Only framing is looked at: lengths, kinds, sequences, count, digest, sizes. What
an event says is the business of those who read the log, so that an event of a
newer SDK is as welcome as one of an older.

Kinds that this server does not know are kept like any other. Where a device can no
longer say what an event was it sends a TOMBSTONE under the event's sequence.

Sequences of a lane start at 1 and leave no gap. The one exception is declared:
where a device had to give events up, an EVICTED frame stands in their place. It
has a sequence of its own and its body names the range that it speaks for; a gap
in the sequences of a batch, or between a batch and what is already here, is
accepted where EVICTED frames of the same batch cover all of it, and only there.
So every sequence is either in the log or declared in the log as given up.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY
from edge_sdk.outbox.frames import MAX_BODY_BYTES, FrameKind
from genome_edge.v1 import event_pb2, report_pb2

MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_BATCH_EVENTS = 5_000
# SQLite's integers are signed.
MAX_SEQUENCE = 2**63 - 1
MAX_LANE = 2**32 - 1

# As in edge_sdk.outbox.frames: length of the body, sequence, subject, kind, time in ms. Taken
# apart here without making an object of each frame, which is the price of every event.
FRAME_HEADER = struct.Struct("<IQ16sHq")
_LENGTH_SEQUENCE_KIND = struct.Struct("<IQ16xH8x")
TOMBSTONE = int(FrameKind.TOMBSTONE)
EVICTED = int(FrameKind.EVICTED)
# SQLite's integers have 63 bits without the sign: greater kinds share the last of them.
_LAST_BIT = 62
ANY_KIND = 2 ** (_LAST_BIT + 1) - 1
"""Every bit that `kind_bits` can set: what holds frames of nobody knows which kinds."""


class RefusalReason(StrEnum):
    """Why a batch is not taken; the reasons of the wire."""

    FORKED_EPOCH = "FORKED_EPOCH"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    BAD_DIGEST = "BAD_DIGEST"
    BAD_FRAME = "BAD_FRAME"
    TOO_LARGE = "TOO_LARGE"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    LOG_CHANGED = "LOG_CHANGED"


class BatchRefusedError(Exception):
    """The batch is not taken, and the log is as it was.

    `facts` are what a program needs to go on, for example `expected` for a gap.
    """

    def __init__(self, reason: RefusalReason, message: str, **facts: str | int) -> None:
        super().__init__(message)
        self.reason = reason
        self.facts = {key: str(value) for key, value in facts.items()}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of one lane as it was sent: `first` … `last` are inclusive.

    `known` is the incarnation of the log that the device knows; empty: none yet.
    """

    device: str
    epoch: bytes
    lane: int
    first: int
    last: int
    frames: bytes
    digest: bytes
    known: bytes = b""

    @classmethod
    def of(cls, device: str, request: report_pb2.ReportRequest) -> Batch:
        """Return the batch that a device reports."""
        return cls(
            device,
            request.epoch,
            request.lane,
            request.first_sequence,
            request.last_sequence,
            request.frames,
            request.digest,
            request.incarnation,
        )


class Mark(NamedTuple):
    """One frame inside a batch: its sequence, kind and the bytes that it takes up."""

    sequence: int
    kind: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """A batch whose framing holds. `kinds` are those of its frames, as `kind_bits`."""

    batch: Batch
    count: int
    kinds: int
    evicted: tuple[tuple[int, int], ...] = field(default=())

    def covers(self, low: int, high: int) -> bool:
        """Say whether every sequence from `low` to `high` is declared as given up."""
        return _covered(self.evicted, low, high)


def kind_bits(kinds: Iterable[int]) -> int:
    """Kinds of frames as bits: two sets that share a kind share a bit.

    Where they share a bit they need not share a kind: those of 62 and above have one together.
    """
    bits = 0
    for kind in kinds:
        bits |= 1 << min(kind, _LAST_BIT)
    return bits


def check_batch(batch: Batch) -> CheckedBatch:
    """Check everything about a batch that can be checked without the log.

    Raises BatchRefusedError with the reason and, for frames, the byte offset.
    """
    _check_key(batch)
    if len(batch.frames) > MAX_BATCH_BYTES:
        raise BatchRefusedError(
            RefusalReason.TOO_LARGE,
            f"a batch holds at most {MAX_BATCH_BYTES} bytes, this one has {len(batch.frames)}",
            limit=MAX_BATCH_BYTES,
        )
    if hashlib.sha256(batch.frames).digest() != batch.digest:
        raise BatchRefusedError(RefusalReason.BAD_DIGEST, "the digest is not that of the frames")
    return _check_frames(batch)


def iter_marks(frames: bytes) -> Iterator[Mark]:
    """Yield where each frame lies; raises BatchRefusedError(BAD_FRAME) where the framing breaks."""
    position, end = 0, len(frames)
    size, unpack = _LENGTH_SEQUENCE_KIND.size, _LENGTH_SEQUENCE_KIND.unpack_from
    while position < end:
        if position + size > end:
            raise _bad_frame("the header is cut off", position)
        length, sequence, kind = unpack(frames, position)
        following = position + size + length
        if following > end:
            raise _bad_frame("the body is cut off", position)
        yield Mark(sequence, kind, position, following)
        position = following


def _check_key(batch: Batch) -> None:
    if len(batch.epoch) != 16:
        raise BatchRefusedError(
            RefusalReason.INVALID_ARGUMENT, "an epoch is 16 bytes", field="epoch"
        )
    if not 0 <= batch.lane <= MAX_LANE:
        raise BatchRefusedError(RefusalReason.INVALID_ARGUMENT, "a lane is a uint32", field="lane")
    if not 1 <= batch.first <= batch.last <= MAX_SEQUENCE:
        raise BatchRefusedError(
            RefusalReason.INVALID_ARGUMENT,
            f"sequences start at 1 and rise; {batch.first} to {batch.last} is not a range",
            field="first_sequence",
        )


def _check_frames(batch: Batch) -> CheckedBatch:
    frames = batch.frames
    size, unpack = _LENGTH_SEQUENCE_KIND.size, _LENGTH_SEQUENCE_KIND.unpack_from
    start, position, end = 0, 0, len(frames)
    whole = end - size
    expected, usual = batch.first, -1
    kinds: set[int] = set()
    gaps: list[tuple[int, int]] = []
    evicted: list[tuple[int, int]] = []
    # iter_marks by hand, for speed: of most frames nothing is looked at but this one condition.
    while position <= whole:
        length, sequence, kind = unpack(frames, position)
        following = position + size + length
        if sequence != expected or kind != usual or length > MAX_BODY_BYTES:
            if following > end:
                raise _bad_frame("the body is cut off", position)
            if sequence < expected:
                raise _bad_frame(f"sequence {sequence} where {expected} is due", position)
            if sequence > expected:
                gaps.append((expected, sequence - 1))
            if length > MAX_BODY_BYTES:
                raise _bad_frame(f"its body has {length} bytes", position)
            kinds.add(kind)
            if kind == EVICTED:
                if FRAME_HEADER.unpack_from(frames, position)[2] != NOBODY:
                    raise _bad_frame("an EVICTED frame is about a subject", position)
                evicted.append(_evicted_range(frames[position + size : following], position))
            else:
                usual = kind
        expected = sequence + 1
        start, position = position, following
    if position > end:
        raise _bad_frame("the body is cut off", start)
    if position < end:
        raise _bad_frame("the header is cut off", position)
    count = expected - batch.first - sum(high - low + 1 for low, high in gaps)
    _check_extent(batch, count, expected - 1)
    for low, high in gaps:
        if not _covered(evicted, low, high):
            raise _bad_frame(f"the sequences {low} to {high} are neither here nor declared", 0)
    return CheckedBatch(batch, count, kind_bits(kinds), tuple(sorted(evicted)))


def _check_extent(batch: Batch, count: int, last: int) -> None:
    if count == 0:
        raise BatchRefusedError(RefusalReason.BAD_FRAME, "a batch has at least one frame", offset=0)
    if count > MAX_BATCH_EVENTS:
        raise BatchRefusedError(
            RefusalReason.TOO_LARGE,
            f"a batch holds at most {MAX_BATCH_EVENTS} events, this one has {count}",
            limit=MAX_BATCH_EVENTS,
        )
    if last != batch.last:
        raise BatchRefusedError(
            RefusalReason.BAD_FRAME,
            f"the frames end at sequence {last}, the request says {batch.last}",
            field="last_sequence",
        )


def _evicted_range(body: bytes, position: int) -> tuple[int, int]:
    try:
        event = event_pb2.Event.FromString(body)
    except DecodeError as error:
        raise _bad_frame("an EVICTED frame cannot be read", position) from error
    declared = event.evicted
    if not 1 <= declared.first_sequence <= declared.last_sequence <= MAX_SEQUENCE:
        raise _bad_frame("an EVICTED frame names no range", position)
    return declared.first_sequence, declared.last_sequence


def _covered(
    ranges: tuple[tuple[int, int], ...] | list[tuple[int, int]], low: int, high: int
) -> bool:
    for first, last in sorted(ranges):
        if first > low:
            return False
        if last >= low:
            low = last + 1
        if low > high:
            return True
    return low > high


def _bad_frame(what: str, position: int) -> BatchRefusedError:
    return BatchRefusedError(
        RefusalReason.BAD_FRAME, f"{what} (at byte {position})", offset=position
    )
