from __future__ import annotations

import random
import tracemalloc
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.columns import (
    HEAD,
    LENGTH,
    MAGIC,
    Columns,
    encode,
    row_sum_of,
    row_sums,
    total,
    zstandard,
)
from edge_sdk.dna.content import MAX_ROWS, decode
from edge_sdk.dna.genome import Row
from edge_sdk.errors import FormatError

FIELDS = [one.name for one in fields(Columns)]
LARGEST = (1 << 32) - 1


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    largest = draw(st.sampled_from([3, 300, 70_000, LARGEST]))
    subjects = draw(st.lists(st.binary(min_size=16, max_size=16), max_size=20, unique=True))
    made = []
    for subject in subjects:
        markers = draw(st.dictionaries(st.integers(0, largest), st.integers(1, 255), max_size=12))
        made.append(
            Row(
                subject,
                draw(st.integers(0, LARGEST)),
                draw(st.sampled_from([0, 0, -5, 2**31 - 1])),
                np.array(sorted(markers), np.uint32),
                np.array([markers[index] for index in sorted(markers)], np.uint8),
            )
        )
    return made


@given(some_rows(), st.randoms(use_true_random=False))
def test_row_sums_of_columns_are_those_of_the_rows(rows: list[Row], rng: random.Random) -> None:
    sums = row_sums(Columns.of(rng.sample(rows, len(rows))))
    assert sums.dtype == np.uint64
    assert sums.tolist() == [row_sum_of(row) for row in sorted(rows, key=lambda row: row.subject)]
    assert total(sums) == sum(sums.tolist()) % 2**64


def test_a_row_sum_depends_on_everything_in_the_row() -> None:
    def summed(
        subject: bytes = b"s" * 16,
        consents: int = 2,
        hour: int = 0,
        indices: tuple[int, ...] = (1, 2, 70_000),
        codes: tuple[int, ...] = (3, 4, 5),
    ) -> int:
        return row_sum_of(
            Row(subject, consents, hour, np.array(indices, np.uint32), np.array(codes, np.uint8))
        )

    sums = {
        summed(),
        summed(subject=b"s" * 15 + b"t"),
        summed(subject=b"t" + b"s" * 15),
        summed(consents=0),
        summed(hour=1),
        summed(indices=(1, 2, 70_001)),
        summed(codes=(3, 5, 4)),
        summed(codes=(4, 3, 5)),
        summed(indices=(1, 2), codes=(3, 4)),
        summed(indices=(), codes=()),
    }
    assert len(sums) == 10


@pytest.mark.parametrize("largest", [65_535, 65_536])
def test_indices_are_as_narrow_as_they_can_be(largest: int) -> None:
    row = Row(b"a" * 16, 0, 0, np.array([1, largest], np.uint32), np.array([1, 2], np.uint8))
    assert Columns.of([row]).indices.itemsize == (2 if largest < 65_536 else 4)


@st.composite
def some_columns(draw: st.DrawFn) -> Columns:
    rows = draw(some_rows())
    known = [row.subject for row in rows]
    owner = st.sampled_from(known) | st.just(b"o" * 16) if known else st.just(b"o" * 16)
    pairs = draw(st.dictionaries(st.binary(min_size=16, max_size=16), owner, max_size=5))
    return Columns.of(rows, pairs.items())


def same(one: Columns, other: Columns) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in FIELDS]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@given(some_columns())
def test_a_content_is_read_back_as_it_was(columns: Columns) -> None:
    content = encode(columns)
    assert same(decode(content), columns)
    assert encode(decode(content)) == content


@pytest.mark.parametrize(("markers", "rows"), [(0, 5), (3, 70_000), (4096, 2_100), (64, 3_000)])
def test_contents_of_several_blocks(markers: int, rows: int) -> None:
    rng = np.random.default_rng(markers)
    counts = rng.integers(0, markers, rows, endpoint=True)
    counts[rows // 2 :] //= 4  # so that blocks are not of one size
    indices = [np.sort(rng.choice(5_000, count, replace=False)) for count in counts.tolist()]
    columns = Columns(
        high=np.sort(rng.integers(0, 1 << 64, rows, np.uint64)),
        low=rng.integers(0, 1 << 64, rows, np.uint64),
        consents=rng.integers(0, 1 << 32, rows).astype(np.uint32),
        as_of_hours=rng.integers(-500, 500, rows).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64),
        indices=np.concatenate(indices).astype(np.uint16),
        codes=rng.integers(0, 256, int(counts.sum())).astype(np.uint8),
        hash_high=np.sort(rng.integers(0, 1 << 64, rows, np.uint64)),
        hash_low=rng.integers(0, 1 << 64, rows, np.uint64),
    )
    shuffled = rng.permutation(rows)
    columns = replace(columns, owner_high=columns.high[shuffled], owner_low=columns.low[shuffled])
    assert same(decode(encode(columns)), columns)


def test_what_compresses_stays_small() -> None:
    rows = [row_of(number, range(64)) for number in range(2_000)]
    assert len(encode(Columns.of(rows))) < 20 * len(rows)


def row_of(number: int, indices: range) -> Row:
    subject = random.Random(number).randbytes(16)
    codes = np.full(len(indices), 50, np.uint8)
    return Row(subject, 2, 0, np.array(indices, np.uint32), codes)


WHOLE = encode(
    Columns.of(
        [row_of(number, range(number % 7, 40, 1 + number % 3)) for number in range(30)],
        [(bytes([number]) * 16, random.Random(number).randbytes(16)) for number in range(5, 40)],
    )
)


@given(st.data())
def test_a_mutated_content_is_refused_or_makes_sense(data: st.DataObject) -> None:
    mutated = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                mutated[at] ^= 1 << data.draw(st.integers(0, 7))
            case 1:
                del mutated[at : at + data.draw(st.integers(1, 40))]
            case 2:
                mutated[at:at] = data.draw(st.binary(max_size=40))
            case _:
                mutated[at : at + 8] = data.draw(st.sampled_from([b"\xff" * 8, bytes(8)]))
        if not mutated:
            break
    try:
        columns = decode(bytes(mutated))
    except FormatError:
        return
    subjects = list(zip(columns.high.tolist(), columns.low.tolist(), strict=True))
    assert subjects == sorted(set(subjects))
    assert int(columns.starts[-1]) == len(columns.indices) == len(columns.codes)
    for begin, end in pairwise(columns.starts.tolist()):
        assert (np.diff(columns.indices[begin:end].astype(np.int64)) > 0).all()


@pytest.mark.parametrize("cut", [0, 7, 40, 44, 60, 200, len(WHOLE) - 1])
def test_a_cut_content_is_refused(cut: int) -> None:
    with pytest.raises(FormatError):
        decode(WHOLE[:cut])


def test_a_content_that_goes_on_is_refused() -> None:
    with pytest.raises(FormatError, match="behind its end"):
        decode(WHOLE + b"x")


@pytest.mark.parametrize(
    "head",
    [
        (1 << 60, 0, 0, 0, 0),
        (0, 1 << 60, 0, 0, 0),
        (0, 0, 1 << 60, 0, 0),
        (0, 0, 0, 1 << 60, 0),
        (1, 5, 0, 0, 6),
        (MAX_ROWS, 1 << 28, 0, 0, 1 << 22),
    ],
)
def test_sizes_are_checked_before_room_is_made(head: tuple[int, ...]) -> None:
    tracemalloc.start()
    with pytest.raises(FormatError):
        decode(HEAD.pack(MAGIC, *head) + WHOLE[HEAD.size :])
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_stream_that_inflates_is_cut_short() -> None:
    bomb = zstandard().compress(bytes(1 << 28))
    content = HEAD.pack(MAGIC, 1, 1, 0, 0, 1) + LENGTH.pack(len(bomb)) + bomb
    tracemalloc.start()
    with pytest.raises(FormatError, match="another size"):
        decode(content)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
