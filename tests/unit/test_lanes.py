"""Lanes: no sequence is lost, batches never change, what was given up is declared."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.outbox import lanes
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame, iter_frames
from edge_sdk.outbox.lanes import Limits, Segment
from genome_edge.v1 import event_pb2
from genome_server.log.framing import Batch, check_batch

SOMEBODY = b"s" * 16
KINDS = (FrameKind.DECISION, FrameKind.INTERACTION, FrameKind.OUTCOME)


def frame(sequence: int, kind: FrameKind = FrameKind.INTERACTION, size: int = 5) -> bytes:
    return encode_frame(Frame(sequence, SOMEBODY, kind, 1, b"x" * size))


@st.composite
def lane(draw: st.DrawFn) -> list[Segment]:
    """Segments of one lane from sequence 1 on, some frames of which were given up."""
    segments, first = [], 1
    for _ in range(draw(st.integers(1, 6))):
        kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
        frames = [frame(first + i, kind, draw(st.integers(0, 40))) for i, kind in enumerate(kinds)]
        segment = Segment(first, first + len(kinds) - 1, 7, b"".join(frames))
        gone = draw(st.sets(st.integers(segment.first, segment.last)))
        rest = lanes.give_up(segment, lambda mark: mark.sequence in gone, lanes.OUTBOX_FULL, 9)  # noqa: B023
        segments.append(rest or segment)
        first = segment.last + 1
    return segments


def batches(segments: list[Segment], limits: Limits) -> list[tuple[int, int, bytes]]:
    made, after = [], 0
    while (extent := lanes.cut([s for s in segments if s.last > after], after, limits)) is not None:
        made.append((*extent, lanes.assemble(segments, *extent)))
        after = extent[1]
    return made


def covered(frames: bytes) -> list[int]:
    """The sequences that frames account for, in order."""
    accounted: list[int] = []
    for one in iter_frames(frames):
        if one.kind == FrameKind.EVICTED:
            gone = event_pb2.Event.FromString(one.body).evicted
            assert gone.events == gone.last_sequence - gone.first_sequence + 1
            assert gone.reason == lanes.OUTBOX_FULL
            accounted += range(gone.first_sequence, gone.last_sequence + 1)
        else:
            accounted.append(one.sequence)
    return accounted


@given(lane(), st.integers(1, 7), st.integers(60, 300))
def test_batches_account_for_every_sequence_once(
    segments: list[Segment], events: int, size: int
) -> None:
    made = batches(segments, Limits(events, size))
    assert [s for _, _, frames in made for s in covered(frames)] == list(
        range(1, segments[-1].last + 1)
    )
    for first, last, frames in made:
        accounted = covered(frames)
        assert (accounted[0], accounted[-1]) == (first, last)
        number = len(list(iter_frames(frames)))
        assert number <= events
        assert len(frames) <= size or number == 1


@given(lane(), st.integers(1, 7))
def test_the_server_takes_every_batch(segments: list[Segment], events: int) -> None:
    for first, last, frames in batches(segments, Limits(events, 10_000)):
        digest = hashlib.sha256(frames).digest()
        checked = check_batch(Batch("device", bytes(16), 1, first, last, frames, digest))
        assert checked.count == len(list(iter_frames(frames)))


@given(lane(), st.integers(1, 7))
def test_a_batch_is_a_function_of_its_extent(segments: list[Segment], events: int) -> None:
    for first, last, frames in batches(segments, Limits(events, 10_000)):
        touching = [s for s in segments if s.last >= first and s.first <= last]
        assert lanes.assemble(touching, first, last) == frames


@given(lane(), st.data())
def test_a_shift_keeps_everything_behind_it(segments: list[Segment], data: st.DataObject) -> None:
    by = data.draw(st.integers(0, segments[-1].last - 1))
    shifted = [lanes.shift(s, by) for s in segments if s.last > by]
    assert shifted[0].first == 1
    assert all(b.first == a.last + 1 for a, b in pairwise(shifted))
    before = [f for s in segments for f in iter_frames(s.frames) if f.sequence > by]
    after = [f for s in shifted for f in iter_frames(s.frames)]
    assert [(f.sequence - by, f.kind, f.body) for f in before] == [
        (f.sequence, f.kind, f.body) for f in after
    ]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40), st.integers(1, 9))
def test_segments_are_no_larger_than_batches(sizes: list[int], events: int) -> None:
    frames = [frame(11 + i, size=size) for i, size in enumerate(sizes)]
    segments = lanes.segments_of(frames, 11, 1, Limits(events, 400))
    assert b"".join(s.frames for s in segments) == b"".join(frames)
    assert segments[0].first == 11
    assert segments[-1].last == 10 + len(sizes)
    for segment in segments:
        count = segment.last - segment.first + 1
        assert count == len(list(iter_frames(segment.frames))) <= events
        assert len(segment.frames) <= 400 or count == 1


def test_an_event_larger_than_a_batch_travels_alone() -> None:
    frames = [frame(1), frame(2, size=5_000), frame(3)]
    segments = lanes.segments_of(frames, 1, 1, Limits(10, 1_000))
    assert [extent[:2] for extent in batches(segments, Limits(10, 1_000))] == [
        (1, 1), (2, 2), (3, 3),
    ]  # fmt: skip


def test_giving_up_nothing_changes_nothing() -> None:
    segment = Segment(1, 1, 7, frame(1))
    assert lanes.give_up(segment, lambda _: False, lanes.ERASED, 9) is None


def test_numbering_changes_the_sequence_only() -> None:
    (numbered,) = iter_frames(lanes.numbered(frame(0), 77))
    assert (numbered.sequence, numbered.subject, numbered.body) == (77, SOMEBODY, b"xxxxx")


def test_impressions_are_decisions() -> None:
    frames = frame(1, FrameKind.DECISION) + frame(2) + frame(3, FrameKind.DECISION)
    assert lanes.impressions(frames) == 2


@given(lane(), st.lists(st.sampled_from([0, 500_000, 750_000]), min_size=6, max_size=6))
def test_what_stayed_when_coins_were_flipped_is_named_with_its_probability(
    segments: list[Segment], odds: list[int]
) -> None:
    thinned = [replace(s, gone_ppm=odds[i]) for i, s in enumerate(segments)]
    frames = lanes.assemble(thinned, 1, thinned[-1].last)
    named: dict[int, int] = {}
    lost = 0
    for one in iter_frames(frames):
        if one.kind == FrameKind.EVICTED:
            gone = event_pb2.Event.FromString(one.body).evicted
            lost += gone.events
            for at in range(gone.first_sequence, gone.last_sequence + 1):
                assert at not in named, "said once"
                named[at] = gone.probability_ppm
    for ppm, stretch in groupby(thinned, key=lambda s: s.gone_ppm):
        together = list(stretch)
        sequences = range(together[0].first, together[-1].last + 1)
        kept = sum(lanes.count(s.frames) for s in together)
        if ppm and kept < len(sequences):
            assert all(named[at] == ppm for at in sequences)
    assert lost == thinned[-1].last - sum(lanes.count(s.frames) for s in thinned)
    digest = hashlib.sha256(frames).digest()
    check_batch(Batch("device", bytes(16), 1, 1, thinned[-1].last, frames, digest))
