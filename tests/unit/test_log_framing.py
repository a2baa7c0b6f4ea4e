"""What a batch must be before it is logged."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.outbox.frames import HEADER_BYTES, Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.log.framing import (
    ANY_KIND,
    FRAME_HEADER,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    Batch,
    BatchRefusedError,
    RefusalReason,
    check_batch,
    iter_marks,
    kind_bits,
)


def frame(sequence: int, kind: int = FrameKind.DECISION, body: bytes = b"x") -> bytes:
    return encode_frame(Frame(sequence, bytes(16), kind, 7, body))


def evicted(sequence: int, first: int, last: int) -> bytes:
    said = event_pb2.Evicted(first_sequence=first, last_sequence=last, reason="OUTBOX_FULL")
    return frame(sequence, FrameKind.EVICTED, event_pb2.Event(evicted=said).SerializeToString())


def batch(first: int, last: int, frames: bytes, **fields: object) -> Batch:
    values: dict[str, object] = {
        "device": "d", "epoch": bytes(16), "lane": 0, "first": first, "last": last,
        "frames": frames, "digest": hashlib.sha256(frames).digest(), **fields,
    }  # fmt: skip
    return Batch(**values)  # type: ignore[arg-type]


def refusal(wanted: Batch) -> BatchRefusedError:
    with pytest.raises(BatchRefusedError) as caught:
        check_batch(wanted)
    return caught.value


def test_the_header_is_the_one_that_devices_write() -> None:
    assert FRAME_HEADER.size == HEADER_BYTES
    written = encode_frame(Frame(9, b"s" * 16, 3, -5, b"body"))
    assert FRAME_HEADER.unpack_from(written) == (4, 9, b"s" * 16, 3, -5)


def test_what_was_given_up_is_about_nobody() -> None:
    frames = bytearray(evicted(1, 1, 1))
    frames[12:28] = b"s" * 16
    refused = refusal(batch(1, 1, bytes(frames)))
    assert (refused.reason, str(refused)[:30]) == (
        RefusalReason.BAD_FRAME, "an EVICTED frame is about a su",
    )  # fmt: skip


_KIND = st.integers(0, 2**16 - 1)


@given(st.lists(_KIND, min_size=1, max_size=20), st.sets(_KIND, max_size=4))
def test_a_batch_names_the_kinds_of_its_frames(kinds: list[int], wanted: set[int]) -> None:
    told = b"".join(
        evicted(at, 1, 1) if kind == FrameKind.EVICTED else frame(at, kind)
        for at, kind in enumerate(kinds, 1)
    )
    checked = check_batch(batch(1, len(kinds), told))
    assert checked.kinds == kind_bits(kinds) & ANY_KIND
    shared = checked.kinds & kind_bits(wanted) != 0
    assert shared or not wanted.intersection(kinds)
    assert not shared or wanted.intersection(kinds) or max(*kinds, *wanted) > 61


@given(st.integers(1, 2**40), st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_a_batch_of_consecutive_frames_is_accepted(first: int, bodies: list[bytes]) -> None:
    frames = b"".join(frame(first + i, 7 + i, body) for i, body in enumerate(bodies))
    checked = check_batch(batch(first, first + len(bodies) - 1, frames))
    assert (checked.count, checked.evicted) == (len(bodies), ())
    assert [mark.sequence for mark in iter_marks(frames)] == list(range(first, first + len(bodies)))


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.data())
def test_a_cut_batch_is_refused_at_the_frame_that_is_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    parts = [frame(1 + i, body=body) for i, body in enumerate(bodies)]
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole) - 1))
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    refused = refusal(batch(1, len(bodies), whole[:cut]))
    assert refused.reason is RefusalReason.BAD_FRAME
    if cut not in (0, *ends):
        assert int(refused.facts["offset"]) == max([0, *[end for end in ends if end <= cut]])


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (batch(1, 1, b""), RefusalReason.BAD_FRAME),
        (batch(1, 2, frame(1)), RefusalReason.BAD_FRAME),
        (batch(1, 1, frame(1) + frame(2)), RefusalReason.BAD_FRAME),
        (batch(2, 2, frame(1)), RefusalReason.BAD_FRAME),
        (batch(1, 3, frame(1) + frame(3)), RefusalReason.BAD_FRAME),
        (batch(1, 2, frame(1) + frame(1)), RefusalReason.BAD_FRAME),
        (batch(1, 1, frame(1, FrameKind.EVICTED, b"\xff")), RefusalReason.BAD_FRAME),
        (batch(1, 1, evicted(1, 2, 1)), RefusalReason.BAD_FRAME),
        (batch(1, 1, frame(1), digest=bytes(32)), RefusalReason.BAD_DIGEST),
        (batch(1, 1, frame(1), epoch=b"short"), RefusalReason.INVALID_ARGUMENT),
        (batch(1, 1, frame(1), lane=2**32), RefusalReason.INVALID_ARGUMENT),
        (batch(0, 0, frame(0)), RefusalReason.INVALID_ARGUMENT),
        (batch(2, 1, frame(1)), RefusalReason.INVALID_ARGUMENT),
        (batch(2**63, 2**63, frame(2**63)), RefusalReason.INVALID_ARGUMENT),
    ],
)
def test_what_is_wrong_is_named(wanted: Batch, reason: RefusalReason) -> None:
    assert refusal(wanted).reason is reason


def test_limits() -> None:
    most = b"".join(frame(1 + i) for i in range(MAX_BATCH_EVENTS))
    assert check_batch(batch(1, MAX_BATCH_EVENTS, most)).count == MAX_BATCH_EVENTS
    more = most + frame(MAX_BATCH_EVENTS + 1)
    refused = refusal(batch(1, MAX_BATCH_EVENTS + 1, more))
    assert (refused.reason, refused.facts) == (RefusalReason.TOO_LARGE, {"limit": "5000"})
    heavy = frame(1, body=bytes(1 << 20)) * 5
    assert len(heavy) > MAX_BATCH_BYTES
    assert refusal(batch(1, 5, heavy)).reason is RefusalReason.TOO_LARGE
    giant = FRAME_HEADER.pack((1 << 20) + 1, 1, bytes(16), 1, 0) + bytes((1 << 20) + 1)
    assert refusal(batch(1, 1, giant)).reason is RefusalReason.BAD_FRAME


def test_a_hole_is_accepted_where_it_is_declared() -> None:
    in_place = frame(1) + evicted(9, 2, 9) + frame(10)
    checked = check_batch(batch(1, 10, in_place))
    assert (checked.count, checked.evicted) == (3, ((2, 9),))
    assert checked.covers(2, 9)
    assert not checked.covers(2, 10)
    assert not checked.covers(1, 9)
    two = evicted(5, 2, 5) + evicted(9, 6, 9)
    assert check_batch(batch(2, 9, two)).covers(3, 8)
    assert refusal(batch(1, 10, frame(1) + evicted(9, 3, 9) + frame(10))).reason == "BAD_FRAME"
    assert refusal(batch(1, 11, in_place[:-39] + frame(11))).reason == "BAD_FRAME"
