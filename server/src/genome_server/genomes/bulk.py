"""Many rows at once: what `encode_row` says, in columns.

Integers of 64 bits hold all that happens in practice. Where they would not (strengths of
centuries ago, sums near the ceiling) the row is left to `encode_row`, which knows no limit; so
the result is the same for every input, and only its cost differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.genome import NOBODY, Row, dequantise
from edge_sdk.dna.imprint import GenomeState, encode_row, mantissa
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from genome_server.genomes.distinct import ranks, weights_of
from genome_server.genomes.quotas import quotas_of

_SMALLEST: Final = 1 << 14
_Ints = npt.NDArray[np.int64]


def encode_rows(
    states: Sequence[GenomeState],
    profiles: Sequence[Mapping[int, int]],
    schema: DnaSchema,
    vocabulary: Vocabulary,
) -> list[Row]:
    """The rows of many states and profiles (index → q24), nobody's and without consents."""
    if not states:
        return []
    newest = [s.newest_hour for s in states]
    as_of = np.array(
        [0 if hour is None else hour - schema.landmark_hour for hour in newest], dtype=np.int64
    )
    row, index, value = _columns([state.values for state in states])
    half_lives = schema.half_lives(vocabulary).astype(np.int64)[index]
    strength, unsafe = _shrink(value, as_of[row], half_lives)
    broken = np.unique(row[unsafe]).tolist()
    facts_row, facts_index, facts = _columns(profiles)
    row, index, strength, value = _merged(
        np.concatenate((row, facts_row)),
        np.concatenate((index, facts_index)),
        np.concatenate((strength, facts)),
        np.concatenate((value, facts)),
    )
    seen = np.flatnonzero(strength >= _SMALLEST)
    rank = ranks(strength[seen], index[seen], weights_of(schema.distinct, len(vocabulary)))
    quotas = quotas_of(schema, vocabulary)
    if quotas is not None:
        fitting = quotas.fitting(row[seen], index[seen], rank)
        seen, rank = seen[fitting], rank[fitting]
    kept = seen[_highest(row[seen], rank, schema.max_markers, len(states))]
    if schema.quantiser == 1:
        codes = np.searchsorted(_steps(1), strength[kept], side="right").astype(np.uint8)
    else:
        codes = np.searchsorted(_steps(2), value[kept], side="right").astype(np.uint8)
        as_of = np.zeros_like(as_of)
    ends = np.cumsum(np.bincount(row[kept], minlength=len(states))).tolist()
    markers = index[kept].astype(np.uint32)
    rows = []
    begin = 0
    for hour, end in zip(as_of.tolist(), ends, strict=True):
        rows.append(Row(NOBODY, 0, hour, markers[begin:end], codes[begin:end]))
        begin = end
    for i in broken:
        rows[i] = encode_row(states[i], profiles[i], schema, vocabulary)
    return rows


def _columns(maps: Sequence[Mapping[int, int]]) -> tuple[_Ints, _Ints, _Ints]:
    """(row, index, value) of every entry."""
    counts = [len(one) for one in maps]
    total = sum(counts)
    rows = np.repeat(np.arange(len(maps), dtype=np.int64), counts)
    indices = np.fromiter((i for one in maps for i in one), dtype=np.int64, count=total)
    values = np.fromiter((v for one in maps for v in one.values()), dtype=np.int64, count=total)
    return rows, indices, values


def _shrink(value: _Ints, hours: _Ints, half_life: _Ints) -> tuple[_Ints, _Ints]:
    """Strengths, as `shrink` has them, and the positions where 64 bits may not suffice."""
    strength = value.copy()
    unsafe = [np.empty(0, dtype=np.int64)]
    for one in np.unique(half_life).tolist():
        if one == 0:
            continue
        at = np.nonzero(half_life == one)[0]
        growth = np.array(mantissa(one), dtype=np.int64)
        doublings, rest = np.divmod(hours[at], one)
        divisor = growth[rest]
        # (value << 24 >> doublings) // divisor, in two parts that stay below 2^62.
        shift = 24 - doublings
        up, down = np.clip(shift, 0, 37), np.clip(-shift, 0, 63)
        whole, part = np.divmod(value[at] >> down, divisor)
        strength[at] = (whole << up) + ((part << up) // divisor)
        unsafe.append(at[(shift > 37) | (whole >= (np.int64(1) << (62 - up)))])
    return strength, np.concatenate(unsafe)


def _merged(
    row: _Ints, index: _Ints, strength: _Ints, value: _Ints
) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """The entries by row and index. Of equals, a state's and a profile's, the greater counts."""
    keys = row << 32 | index
    # Stable, because that sort is quick where much is in order already.
    order = np.argsort(keys, kind="stable")
    keys, strength, value = keys[order], strength[order], value[order]
    again = np.flatnonzero(keys[1:] == keys[:-1])
    for column in (strength, value):
        column[again] = np.maximum(column[again], column[again + 1])
    fresh = np.ones(len(keys), dtype=bool)
    fresh[again + 1] = False
    order = order[fresh]
    return row[order], index[order], strength[fresh], value[fresh]


def _highest(row: _Ints, rank: _Ints, most: int, rows: int) -> _Ints:
    """Positions of what stays of entries that are ordered by row; of equals the first stays."""
    counts = np.bincount(row, minlength=rows)
    full = np.flatnonzero(counts[row] > most)
    ranked = full[np.argsort(-rank[full], kind="stable")]
    # The smaller the numbers, the quicker is a stable sort.
    ranked = ranked[np.argsort(row[ranked].astype(np.min_scalar_type(rows)), kind="stable")]
    sizes = counts[counts > most]
    place = np.arange(len(ranked)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    stays = np.ones(len(row), dtype=bool)
    stays[ranked[place >= most]] = False
    return np.flatnonzero(stays)


@lru_cache(maxsize=2)
def _steps(quantiser: int) -> _Ints:
    """The least value of each code from 1 on."""
    if quantiser == 1:
        least = [int(dequantise(code) * (1 << 24)) for code in range(1, 256)]
    else:
        least = [isqrt((1 << (code - 1)) - 1) + 1 for code in range(1, 127)]
    return np.array(least, dtype=np.int64)
