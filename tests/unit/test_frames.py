from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import BadFrame, UsageError
from edge_sdk.outbox.frames import (
    HEADER_BYTES,
    MAX_BODY_BYTES,
    Frame,
    FrameKind,
    encode_frame,
    iter_frames,
)

frames = st.lists(
    st.builds(
        Frame,
        sequence=st.integers(0, 2**64 - 1),
        subject=st.binary(min_size=16, max_size=16),
        kind=st.integers(0, 2**16 - 1),
        time_ms=st.integers(-(2**63), 2**63 - 1),
        body=st.binary(max_size=50),
    ),
    max_size=5,
)


@given(frames)
def test_round_trip(some: list[Frame]) -> None:
    assert list(iter_frames(b"".join(encode_frame(frame) for frame in some))) == some


def test_cut_at_every_byte() -> None:
    some = [Frame(i, bytes([i]) * 16, FrameKind.OUTCOME, 7, b"body" * i) for i in range(4)]
    encoded = [encode_frame(frame) for frame in some]
    data = b"".join(encoded)
    ends = [sum(map(len, encoded[: i + 1])) for i in range(len(encoded))]
    for cut in range(len(data) + 1):
        whole = sum(1 for end in ends if end <= cut)
        read = []
        if cut in (0, *ends):
            read = list(iter_frames(data[:cut]))
        else:
            with pytest.raises(BadFrame) as caught:
                read.extend(iter_frames(data[:cut]))
            assert caught.value.offset == (ends[whole - 1] if whole else 0)
            read = list(iter_frames(data[: caught.value.offset]))
        assert read == some[:whole]


def test_a_length_beyond_the_limit_is_refused_at_once() -> None:
    good = encode_frame(Frame(1, bytes(16), 1, 0, b"x"))
    with pytest.raises(BadFrame, match="4294967295") as caught:
        list(iter_frames(good + b"\xff\xff\xff\xff" + bytes(HEADER_BYTES)))
    assert caught.value.offset == len(good)


def test_what_cannot_be_encoded() -> None:
    with pytest.raises(UsageError, match="16 bytes"):
        encode_frame(Frame(1, b"short", 1, 0, b""))
    with pytest.raises(UsageError, match="at most"):
        encode_frame(Frame(1, bytes(16), 1, 0, bytes(MAX_BODY_BYTES + 1)))
