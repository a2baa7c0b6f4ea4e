from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.dna.genome import (
    STRENGTHS,
    Genome,
    PendingImprint,
    Row,
    block_from_rows,
    dequantise,
    dequantise2,
    quantise,
    quantise2,
    rows_from_block,
)
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, NamespaceRule
from edge_sdk.errors import FormatError
from genome_edge.v1 import dna_pb2

LINEAGE = dna_pb2.Lineage(vocabulary_lineage=bytes(16), vocabulary_size=3, schema_epoch=1)
SCHEMA = DnaSchema(1, 1000, (NamespaceRule("fact", 0),), (), 24)
VOCABULARY = Vocabulary(bytes(16), ["brand:a", "brand:b", "fact:x", "brand:c"])


def row(subject: bytes, as_of: int, markers: dict[int, int], consents: int = 2) -> Row:
    indices = sorted(markers)
    return Row(
        subject,
        consents,
        as_of,
        np.array(indices, dtype=np.uint32),
        np.array([markers[i] for i in indices], dtype=np.uint8),
    )


rows = st.lists(
    st.builds(
        row,
        st.binary(min_size=16, max_size=16),
        st.integers(-(2**31), 2**31 - 1),
        st.dictionaries(st.integers(0, 2**32 - 1), st.integers(1, 255), max_size=8),
        st.integers(0, 15),
    ),
    max_size=8,
    unique_by=lambda r: r.subject,
)


@given(rows)
def test_rows_through_a_block_and_back(some: list[Row]) -> None:
    wire = block_from_rows(LINEAGE, some).SerializeToString()
    back = rows_from_block(dna_pb2.GenomeBlock.FromString(wire))
    assert back == sorted(some, key=lambda r: r.subject)


def test_block_columns() -> None:
    some = [row(b"b" * 16, 5, {2: 9, 300: 8}), row(b"a" * 16, -3, {7: 1}), row(b"c" * 16, 0, {})]
    block = block_from_rows(LINEAGE, some)
    assert block.lineage == LINEAGE
    assert block.subjects == b"a" * 16 + b"b" * 16 + b"c" * 16
    assert list(block.counts) == [1, 2, 0]
    assert list(block.as_of_hours) == [-3, 5, 0]
    assert list(block.index_deltas) == [7, 2, 298]
    assert block.strengths == bytes([1, 9, 8])


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.consents.append(1),
        lambda b: b.as_of_hours.pop(),
        lambda b: b.index_deltas.append(1),
        lambda b: b.counts.__setitem__(0, 2),
        lambda b: setattr(b, "strengths", b"\1"),
        lambda b: setattr(b, "subjects", b.subjects[:-1]),
        lambda b: setattr(b, "subjects", b.subjects[16:] + b.subjects[:16]),
        lambda b: b.index_deltas.__setitem__(2, 0),
        lambda b: [b.index_deltas.__setitem__(i, 2**32 - 1) for i in (1, 2)],
    ],
)
def test_a_block_whose_columns_do_not_fit_is_refused(change: object) -> None:
    block = block_from_rows(LINEAGE, [row(b"a" * 16, 1, {7: 1}), row(b"b" * 16, 5, {2: 9, 300: 8})])
    change(block)  # type: ignore[operator]
    with pytest.raises(FormatError):
        rows_from_block(block)


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_quantise_is_monotone(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert quantise(low) <= quantise(high)


@given(st.integers(0, 2**50))
def test_a_code_stands_for_no_more_than_it_encodes(strength: int) -> None:
    code = quantise(strength)
    least = dequantise(code) * ONE_Q24
    assert least <= strength
    if code < 255:
        assert strength < dequantise(code + 1) * ONE_Q24


def test_every_code_is_a_fixed_point() -> None:
    for code in range(256):
        assert quantise(int(dequantise(code) * ONE_Q24)) == code
        assert STRENGTHS[1][code] == dequantise(code)
    assert quantise(2**63 - 1) == 255


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_quantise2_is_monotone_and_counts_half_octaves(a: int, b: int) -> None:
    low, high = sorted((a, b))
    code = quantise2(low)
    assert code <= quantise2(high) <= 126
    # Squares, so that nothing is rounded: 2^((code - 1) / 2) <= low < 2^(code / 2).
    assert low == code == 0 or 2 ** (code - 1) <= low**2 < 2**code


def test_a_code_of_quantiser_2_stands_for_the_middle_of_what_it_encodes() -> None:
    for code in range(1, 127):
        middle = dequantise2(code) * ONE_Q24
        assert middle == pytest.approx(2 ** (code / 2 - 0.25))
        assert code < 4 or quantise2(int(middle)) == code
    assert dequantise2(0) == 0.0


def test_codes_of_quantiser_2_fade_from_the_landmark() -> None:
    schema = replace(SCHEMA, quantiser=2)
    grown = quantise2(8 * ONE_Q24)
    genome = Genome(row(b"a" * 16, 0, {0: grown, 2: grown}), schema, VOCABULARY)
    middle = 8 * 2**0.25
    for age, strength in ((0, middle), (72, middle / 8), (-10, middle)):
        _, weights = genome.features(SCHEMA.landmark_hour + age)
        assert weights[0] == pytest.approx(math.log2(1 + strength))
        assert weights[1] == pytest.approx(math.log2(1 + middle))


def test_features_fade() -> None:
    one = quantise(ONE_Q24)
    genome = Genome(row(b"a" * 16, 10, {0: one, 2: one}), SCHEMA, VOCABULARY)
    for age, strength in ((0, 1.0), (24, 0.5), (48, 0.25), (-100, 1.0)):
        indices, weights = genome.features(1010 + age)
        assert indices.dtype == np.int64
        assert weights.dtype == np.float32
        assert indices.tolist() == [0, 2]
        assert weights[0] == np.float32(math.log2(1 + strength))
        assert weights[1] == np.float32(1.0)
    assert [name for name, _ in genome.strengths(1010)] == ["brand:a", "fact:x"]
    assert genome.consents == 2


def test_pending_imprints_add_to_the_row() -> None:
    one = quantise(ONE_Q24)
    pending = [
        PendingImprint(1010, ((0, ONE_Q24), (3, ONE_Q24 // 2))),
        PendingImprint(1034, ((3, ONE_Q24 // 2), (0, 0))),
    ]
    genome = Genome(row(b"a" * 16, 10, {0: one, 2: one}), SCHEMA, VOCABULARY, pending)
    indices, weights = genome.features(1034)
    assert indices.tolist() == [0, 2, 3]
    wanted = [math.log2(1 + 1.0), 1.0, math.log2(1 + 0.75)]
    assert weights == pytest.approx(wanted)
    assert [name for name, _ in genome.strengths(1034)] == ["brand:a", "fact:x", "brand:c"]


def test_pending_alone_and_nothing_at_all() -> None:
    genome = Genome(None, SCHEMA, VOCABULARY, [PendingImprint(1000, ((1, ONE_Q24),))])
    assert genome.features(1000)[0].tolist() == [1]
    nothing = Genome(None, SCHEMA, VOCABULARY)
    indices, weights = nothing.features(1000)
    assert len(indices) == len(weights) == 0
    assert nothing.strengths(1000) == []
    assert nothing.consents == 0


def test_indices_beyond_the_vocabulary_are_kept_without_a_name() -> None:
    genome = Genome(row(b"a" * 16, 0, {0: 50, 99: 50}), SCHEMA, VOCABULARY)
    assert genome.features(1000)[0].tolist() == [0, 99]
    assert [name for name, _ in genome.strengths(1000)] == ["brand:a"]


def test_allows() -> None:
    some = row(b"a" * 16, 0, {}, consents=1 << 1 | 1 << 3)
    assert some.allows(dna_pb2.CONSENT_PURPOSE_PERSONALISATION)
    assert not some.allows(dna_pb2.CONSENT_PURPOSE_LEARNING)
    assert some.allows(dna_pb2.CONSENT_PURPOSE_LOCATION)
