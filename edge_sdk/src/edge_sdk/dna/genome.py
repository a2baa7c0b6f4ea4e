"""Genome rows as devices hold them, the blocks that carry them, and the view that decides.

A row is a customer's strongest markers: ascending vocabulary indices and one
8-bit code each. What a code says is the schema's quantiser:

1. a strength at the row's hour, as a small float without sign: below 8 it is the
   value itself, above that 3 bits of mantissa under 5 bits of exponent, in steps
   of 2^-10.
2. a state value (what has grown since the landmark) to half an octave. It does
   not fade, so that an imprint changes the codes of its own markers and no
   others; the row's hour is the landmark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import sub
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema
from edge_sdk.errors import FormatError
from edge_sdk.lazy import lazy
from edge_sdk.messages import dna_pb2
from edge_sdk.slices import rest
from edge_sdk.sorted_sets import numbered
from edge_sdk.values import dataclass

SUBJECT_BYTES: Final = 16
NOBODY: Final = bytes(SUBJECT_BYTES)
_MAX_INDEX: Final = (1 << 32) - 1


def quantise(strength_q24: int) -> int:
    """The 8-bit code of a strength (q24, not negative): rounded down, at most 255. Monotone."""
    value = strength_q24 >> 14
    if value < 8:
        return value
    exponent = value.bit_length() - 4
    return min(((exponent + 1) << 3) | ((value >> exponent) & 7), 255)


def dequantise(code: int) -> float:
    """The strength that a code stands for: the least that quantises to it."""
    value = code if code < 8 else (8 + (code & 7)) << ((code >> 3) - 1)
    return value / 1024


def quantise2(value_q24: int) -> int:
    """Quantiser 2's code of a state value (q24, not negative): half octaves, 0 for 0. Monotone.

    That is 1 + floor(2 · log2(value)), at most 126 for an int64.
    """
    return (value_q24 * value_q24).bit_length()


def dequantise2(code: int) -> float:
    """The strength at the landmark that a code stands for: the geometric middle of its values."""
    return math.exp2(code / 2 - 24.25) if code else 0.0


STRENGTHS: Final[dict[int, npt.NDArray[np.float64]]] = {
    1: np.array([dequantise(code) for code in range(256)]),
    2: np.array([dequantise2(code) for code in range(256)]),
}
"""By quantiser: the strength of every code at the row's hour, float64[256]."""
for _strengths in STRENGTHS.values():
    _strengths.setflags(write=False)


@dataclass(slots=True, eq=False)
class Row:
    """One customer's genome. Nobody changes one; it is not frozen, for that costs a lookup a sixth.

    `as_of_hour` counts from the landmark of its schema and is 0 under quantiser 2;
    `indices` is uint32[n], strictly ascending; `codes` is uint8[n].
    """

    subject: bytes
    consents: int
    as_of_hour: int
    indices: npt.NDArray[np.uint32]
    codes: npt.NDArray[np.uint8]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return (
            self.subject == other.subject
            and self.consents == other.consents
            and self.as_of_hour == other.as_of_hour
            and np.array_equal(self.indices, other.indices)
            and np.array_equal(self.codes, other.codes)
        )

    def __hash__(self) -> int:
        return hash((self.subject, self.as_of_hour, self.codes.tobytes()))

    def allows(self, purpose: int) -> bool:
        """Whether the customer agreed to this `ConsentPurpose`."""
        return bool(self.consents >> purpose & 1)


def block_from_rows(lineage: dna_pb2.Lineage | None, rows: Iterable[Row]) -> dna_pb2.GenomeBlock:
    """Put rows into columns, ordered by subject."""
    block = dna_pb2.GenomeBlock(lineage=lineage)
    subjects, strengths = [], []
    for row in sorted(rows, key=lambda row: row.subject):
        indices = row.indices.tolist()
        subjects.append(row.subject)
        strengths.append(row.codes.tobytes())
        block.consents.append(row.consents)
        block.as_of_hours.append(row.as_of_hour)
        block.counts.append(len(indices))
        block.index_deltas.extend(map(sub, indices, [0, *indices]))
    block.subjects = b"".join(subjects)
    block.strengths = b"".join(strengths)
    return block


def rows_from_block(block: dna_pb2.GenomeBlock) -> list[Row]:
    """Take a block apart. Raises `FormatError` where its columns do not fit together."""
    n = len(block.counts)
    if (
        len(block.subjects) != SUBJECT_BYTES * n
        or len(block.consents) != n
        or len(block.as_of_hours) != n
    ):
        raise FormatError("a genome block's columns differ in length")
    starts = _starts(block.counts)
    deltas = np.array(block.index_deltas, dtype=np.int64)
    codes = np.frombuffer(block.strengths, dtype=np.uint8)
    if len(deltas) != starts[-1] or len(codes) != starts[-1]:
        raise FormatError("a genome block's markers are not as many as its rows say")
    sums = np.cumsum(deltas)
    rows = []
    for i in range(n):
        rest()
        begin, end = int(starts[i]), int(starts[i + 1])
        before = int(sums[begin - 1]) if begin else 0
        indices = sums[begin:end] - before
        if end > begin and (indices[-1] > _MAX_INDEX or np.any(deltas[begin + 1 : end] == 0)):
            raise FormatError("a genome block's marker indices do not ascend")
        rows.append(
            Row(
                subject=block.subjects[SUBJECT_BYTES * i : SUBJECT_BYTES * (i + 1)],
                consents=block.consents[i],
                as_of_hour=block.as_of_hours[i],
                indices=indices.astype(np.uint32),
                codes=codes[begin:end],
            )
        )
    if any(a.subject >= b.subject for a, b in pairwise(rows)):
        raise FormatError("a genome block's subjects do not ascend")
    return rows


def _starts(counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where each row's markers begin, int64[n + 1]."""
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(np.array(counts, dtype=np.int64), out=starts[1:])
    return starts


class PendingImprint(NamedTuple):
    """An imprint that the server's row does not include yet.

    `hour` counts from the Unix epoch; `votes` are (marker index, vote in q24).
    """

    hour: int
    votes: tuple[tuple[int, int], ...]


class Genome:
    """What a decision reads of a customer: the row and the imprints that it lacks. Immutable."""

    def __init__(
        self,
        row: Row | None,
        schema: DnaSchema,
        vocabulary: Vocabulary,
        pending: Sequence[PendingImprint] = (),
    ) -> None:
        self.row = row
        self.pending = tuple(pending)
        self._schema = schema
        self._vocabulary = vocabulary
        self._cached: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]] | None = None

    @property
    def consents(self) -> int:
        """The row's consent bits; 0 without a row."""
        return self.row.consents if self.row is not None else 0

    @lazy
    def _parts(
        self,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Every vote in the genome: (position in `indices`, hour, strength then)."""
        row = self.row
        indices = [row.indices.astype(np.int64)] if row is not None else []
        hours = []
        strengths = []
        if row is not None:
            valid_at = self._schema.landmark_hour + row.as_of_hour
            hours.append(np.full(len(row.indices), valid_at, dtype=np.int64))
            strengths.append(STRENGTHS[self._schema.quantiser][row.codes])
        for imprint in self.pending:
            votes = np.array(imprint.votes, dtype=np.int64).reshape(-1, 2)
            indices.append(votes[:, 0])
            hours.append(np.full(len(votes), imprint.hour, dtype=np.int64))
            strengths.append(votes[:, 1] / ONE_Q24)
        if not indices:
            nothing = np.zeros(0, dtype=np.int64)
            return nothing, nothing, np.zeros(0)
        return np.concatenate(indices), np.concatenate(hours), np.concatenate(strengths)

    @lazy
    def _classes(
        self,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp] | None, npt.NDArray[np.float64]]:
        """Distinct indices, where each vote goes among them, and each vote's 1 / half-life."""
        raw, _, _ = self._parts
        known = self._schema.half_lives(self._vocabulary)
        hours = np.full(len(raw), float(self._schema.default_half_life_hours))
        inside = raw < len(known)
        hours[inside] = known[raw[inside]]
        rates = np.divide(1.0, hours, out=np.zeros(len(raw)), where=hours > 0)
        if not self.pending:  # a row's indices are distinct and ascending already
            return raw, None, rates
        distinct, positions = numbered(raw)
        return distinct, positions, rates

    def features(self, now_hour: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Indices int64[n], ascending, and weights float32[n] at an hour since the Unix epoch.

        A weight is log2(1 + strength), the strength faded from when it was
        valid; a clock that runs behind does not make it grow.
        """
        cached = self._cached
        if cached is not None and cached[0] == now_hour:
            return cached[1], cached[2]
        _, hours, strengths = self._parts
        distinct, positions, rates = self._classes
        age = np.maximum(now_hour - hours, 0)
        faded: npt.NDArray[np.float64] = strengths * np.exp2(-age * rates)
        if positions is not None:
            sums = np.zeros(len(distinct))
            np.add.at(sums, positions, faded)
            faded = sums
        weights = np.log2(1.0 + faded).astype(np.float32)
        self._cached = (now_hour, distinct, weights)
        return distinct, weights

    def strengths(self, now_hour: int) -> list[tuple[str, float]]:
        """Markers by name with their strength at an hour since the Unix epoch, strongest first."""
        indices, weights = self.features(now_hour)
        known = len(self._vocabulary)
        named = [
            (self._vocabulary.name(int(i)), math.exp2(float(w)) - 1.0)
            for i, w in zip(indices, weights, strict=True)
            if int(i) < known
        ]
        return sorted(named, key=lambda pair: (-pair[1], pair[0]))
