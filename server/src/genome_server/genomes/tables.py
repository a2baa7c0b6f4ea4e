"""The tables that the aggregation joins, made from the schema and by the SDK's own rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from edge_sdk.dna.imprint import mantissa
from edge_sdk.dna.schema import MAX_DOUBLINGS, ONE_Q24, DnaSchema
from genome_server.genomes import aggregate

_Ints = npt.NDArray[np.int64]

AS_IT_IS: Final = -1
"""The kind under which what stands as salience is the vote itself, whatever the money."""

_MICROS: Final = 1_000_000
_SIGN: Final = np.int64(-(1 << 63))
# Half-lives before the landmark after which nothing is left of any vote.
_FADED: Final = 62
# An hour after all that there are.
_NEVER: Final = (1 << 31) - 1
_ONE_Q8: Final = 256


def halves(keys: npt.NDArray[np.void]) -> tuple[_Ints, _Ints]:
    """Keys of 16 bytes, V16[n], as two int64 each, in the same order."""
    both = np.ascontiguousarray(keys).view(">i8").reshape(-1, 2).astype(np.int64) ^ _SIGN
    return both[:, 0], both[:, 1]


def keys(high: _Ints, low: _Ints) -> npt.NDArray[np.void]:
    """The keys of 16 bytes, V16[n], that `halves` took apart."""
    both = np.stack((high ^ _SIGN, low ^ _SIGN), axis=1).astype(">i8")
    return np.ascontiguousarray(both).view("V16").reshape(-1)


def ranks(subjects: Sequence[bytes], chosen: Sequence[int] | None = None) -> pa.Table:
    """The ranks of subjects, of 16 bytes, that are numbered by their place; or of some of them."""
    numbers = np.arange(len(subjects)) if chosen is None else np.array(chosen, np.int64)
    # As text because that sorts several times faster than raw bytes; it has the same order.
    some = np.frombuffer(b"".join(subjects), "S16")[numbers]
    order = np.argsort(some, kind="stable")
    columns = [numbers[order].astype(np.int32), np.arange(len(order), dtype=np.int32)]
    return pa.table(columns, schema=aggregate.RANKS)


def ranges(people: int, parts: int) -> list[tuple[int, int]]:
    """[low, high) of the numbers below `people`, cut into about equal parts."""
    bounds = [people * i // parts for i in range(parts + 1)]
    return list(pairwise(bounds))


def units(amount_micros: _Ints) -> _Ints:
    """Whole units of money; a negative amount (a refund) is none."""
    whole: _Ints = np.maximum(amount_micros, 0) // _MICROS
    return whole


def kinds(schema: DnaSchema) -> pa.Table:
    """What the kinds of a schema weigh, by their place in it; and `AS_IT_IS`."""
    rows = [(AS_IT_IS, _ONE_Q8, 0)]
    rows += [(i, kind.weight_q24, kind.money_weight_q24) for i, kind in enumerate(schema.kinds)]
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=aggregate.KINDS)


def growths(half_lives: Iterable[int], first: int, last: int) -> tuple[pa.Table, pa.Table]:
    """The tables `HALF_LIVES` and `GROWTHS`, for hours since the landmark from `first` to `last`.

    What never fades has one row, of growth 1, and what has faded away another.
    """
    places: list[tuple[int, int, int]] = []
    mantissas, shifts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    base = 0
    for half_life in sorted(set(half_lives)):
        if half_life:
            earliest = max(first, -_FADED * half_life)
            latest = min(last, half_life * (MAX_DOUBLINGS + 1) - 1)
            hours = np.arange(earliest, max(earliest, latest) + 1)
            doublings, phase = np.divmod(hours, half_life)
            mantissas.append(np.array(mantissa(half_life), np.int64)[phase])
            shifts.append(doublings)
        else:
            earliest, hours = _NEVER, np.zeros(1, np.int64)
            mantissas.append(np.array([ONE_Q24]))
            shifts.append(np.zeros(1, np.int64))
        places.append((half_life, earliest, base - earliest))
        base += len(hours)
    columns = [list(column) for column in zip(*places, strict=True)] or [[], [], []]
    shift = np.concatenate(shifts).astype(np.int32)
    up, down = np.maximum(shift, 0), np.maximum(-shift, 0)
    grown = [np.arange(base), np.concatenate(mantissas), up, down]
    return (
        pa.table(columns, schema=aggregate.HALF_LIVES),
        pa.table(grown, schema=aggregate.GROWTHS),
    )
