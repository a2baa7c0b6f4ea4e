"""Genomes as columns, and what "similar" means. Free of I/O.

Theory. The genomes of n persons are rows of a sparse matrix: the strongest 64 markers of each,
with strengths as of one hour, whatever a device gets. What a marker weighs in a comparison is

    weight = log2(1 + strength) · rarity,      rarity = ln(1 + (people + 1) / (carriers + 1))

and every row is divided by its length (the root of the sum of its squares). The logarithm is that
of decisions: ten purchases say more than one, not ten times as much. Rarity makes distinctive
markers count: what everybody has says little about anybody. `people` and `carriers` count those
only who agreed to learning, for rarity is a statistic.

The *similarity* of two persons is the sum, over the markers that both have, of the product of their
weights: 1 where the genomes are the same but for a factor, 0 where no marker is shared. Each
product is what that marker contributes, so a similarity explains itself. The *distance* is the
angle between the rows, in right angles: 0 to 1, symmetric, and it keeps the triangle inequality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.schema import ONE_Q24
from genome_server.genomes.quotas import Quotas
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Matrix = Any
"""A `scipy.sparse.csr_array`, of which there are no types."""

SUBJECT: Final = np.dtype("V16")
FAINTEST: Final = 2.0**-10
"""Strengths below this are left out, as in the rows of devices."""


_BITS: Final = CONSENT_LEARNING | CONSENT_LOCATION


@dataclass(frozen=True, eq=False)
class Genomes:
    """The strongest markers of persons, as of `hour` (since the Unix epoch), in n rows.

    Row i has `markers[starts[i]:starts[i + 1]]`, int32 and ascending, and as many `strengths`,
    float32 and positive. `subjects` is V16[n], who stands for each and ascending; `consents`
    int64[n] what the row may be used for. A person whose ids agreed to different uses may have two
    rows: what may be shown, and after it what may be learnt from. `others` says in which row a
    linked subject is, `learnt` where what it did may be learnt from,
    where that is another row than the one shown. `unlocated` are those of linked subjects whose
    whereabouts nobody may know. `taken` subjects of `persons` were looked at in all.
    """

    hour: int
    subjects: npt.NDArray[np.void]
    consents: Ints
    starts: Ints
    markers: npt.NDArray[np.int32]
    strengths: npt.NDArray[np.float32]
    others: Mapping[bytes, int]
    learnt: Mapping[bytes, int] = field(default_factory=dict)
    unlocated: frozenset[bytes] = frozenset()
    taken: int = 0
    persons: int = 0

    def __len__(self) -> int:
        return len(self.subjects)

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        # The first of two is the one that may be shown.
        backwards = range(len(self) - 1, -1, -1)
        rows = {bytes(self.subjects[i]): i for i in backwards}
        return rows | dict(self.others)

    @cached_property
    def _agreed(self) -> bytes:
        # Asked event by event: several times faster than out of an array.
        return (self.consents & _BITS).astype(np.uint8).tobytes()

    def row_of(self, subject: bytes) -> int | None:
        """The row of the person that this subject is; None where there is none."""
        return self._rows.get(subject)

    def row_learnt(self, subject: bytes) -> int | None:
        """The row that may be learnt from in which what this subject did counts, or None."""
        row = self.learnt.get(subject, self._rows.get(subject))
        return row if row is not None and self._agreed[row] & CONSENT_LEARNING else None

    def located(self, subject: bytes, row: int) -> bool:
        """Whether it may be known where this subject was, who is in this row."""
        return bool(self._agreed[row] & CONSENT_LOCATION) and subject not in self.unlocated

    def row(self, i: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Markers and strengths of row i."""
        part = slice(int(self.starts[i]), int(self.starts[i + 1]))
        return self.markers[part], self.strengths[part]

    def agreed(self, purpose: int) -> Ints:
        """The rows, ascending, of those who agreed to this bit of consent."""
        return np.flatnonzero(self.consents & purpose)


def pack(
    rows: Ints,
    markers: Ints,
    strengths: Floats,
    count: int,
    most: int,
    quotas: Quotas | None = None,
) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """(starts int64[count + 1], markers, strengths): the strongest `most` of each of `count` rows,
    and of a namespace as many as its quota.

    Entries come in any order. Of two for one marker the stronger counts; faint ones are left out;
    of equal strengths the smaller marker stays.
    """
    order = np.lexsort((-strengths, markers, rows))
    rows, markers, strengths = rows[order], markers[order], strengths[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (markers[1:] != markers[:-1])
    kept = np.flatnonzero(first & (strengths >= FAINTEST))
    if quotas is not None:
        kept = kept[quotas.fitting(rows[kept], markers[kept], strengths[kept])]
    sizes = np.bincount(rows[kept], minlength=count)
    if sizes.max(initial=0) > most:
        ranked = kept[np.lexsort((-strengths[kept], rows[kept]))]
        place = np.arange(len(ranked)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = np.sort(ranked[place < most])
        sizes = np.minimum(sizes, most)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    return starts, markers[kept].astype(np.int32), strengths[kept].astype(np.float32)


def strengths_at(values: Ints, half_lives: Floats, hours: int) -> Floats:
    """What state values are worth `hours` after the landmark; `half_lives` in hours, 0: never."""
    fading = np.divide(hours, half_lives, out=np.zeros(len(values)), where=half_lives > 0)
    return values / ONE_Q24 * np.exp2(-fading)


def entries(maps: Sequence[Mapping[int, int]]) -> tuple[Ints, Ints, Ints]:
    """(row, marker, value) of every entry of some mappings."""
    counts = [len(one) for one in maps]
    total = sum(counts)
    rows = np.repeat(np.arange(len(maps), dtype=np.int64), counts)
    markers = np.fromiter((i for one in maps for i in one), np.int64, total)
    values = np.fromiter((v for one in maps for v in one.values()), np.int64, total)
    return rows, markers, values


def chosen(starts: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """(starts, places of the entries) of these rows, in the order given."""
    sizes = np.diff(starts)[rows]
    begins = np.concatenate(([0], np.cumsum(sizes)))
    places = np.arange(begins[-1]) - np.repeat(begins[:-1] - starts[rows], sizes)
    return begins, places


def carriers(genomes: Genomes, rows: Ints, size: int) -> Ints:
    """How many of these rows have each marker, int64[size]."""
    among = np.zeros(len(genomes), bool)
    among[rows] = True
    return carriers_of(genomes.markers[np.repeat(among, np.diff(genomes.starts))], size)


def carriers_of(markers: npt.NDArray[np.int32], size: int) -> Ints:
    """How often each of `size` markers stands there, int64[size]."""
    return np.bincount(markers, minlength=size).astype(np.int64)


def rarity_of(people: int, carried: Ints) -> Floats:
    """What makes a marker count that so many of `people` have, float64 and positive."""
    rarity: Floats = np.log1p((people + 1.0) / (carried + 1.0))
    return rarity


def raw_weights(
    markers: npt.NDArray[np.int32], strengths: npt.NDArray[np.float32], rarity: Floats
) -> Floats:
    """The weights of entries before a row is divided by its length, float64."""
    return np.log2(1.0 + strengths.astype(np.float64)) * rarity[markers]


def weigh(
    starts: Ints,
    markers: npt.NDArray[np.int32],
    strengths: npt.NDArray[np.float32],
    rarity: Floats,
) -> npt.NDArray[np.float32]:
    """The weights of such columns: every row has length 1, or no entry."""
    raw = raw_weights(markers, strengths, rarity)
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    lengths = np.sqrt(np.bincount(rows, raw * raw, minlength=len(starts) - 1))
    return (raw / lengths[rows]).astype(np.float32)


def matrix_of(
    starts: Ints,
    markers: npt.NDArray[np.int32],
    weights: npt.NDArray[np.floating[Any]],
    size: int,
) -> Matrix:
    """The rows as a sparse matrix of `size` columns."""
    import scipy.sparse as sp

    return sp.csr_array((weights, markers, starts), shape=(len(starts) - 1, size))
