"""Writes the two files of genomes: from rows, from a content, and from files with patches on top.

Theory of folding. Rows of the old file that changed or went are left out, those that came are put
between, block by block, in columns: two million rows take seconds and little memory.
"""

from __future__ import annotations

import mmap
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from edge_sdk.dna.columns import Array, Columns, Sizes, halves, joined_subjects
from edge_sdk.dna.content import MAX_BYTES, Content
from edge_sdk.messages import dna_pb2
from edge_sdk.store.lookup_file import write_lookup_columns
from edge_sdk.store.snapshot import Snapshot, write_columns

if TYPE_CHECKING:
    from edge_sdk.store.genomes import GenomeView

Lookups = tuple[Array, Array, Array, Array]

# A byte of content may become so many in files, beyond these.
_GROWTH: Final = 64
_FREE_BYTES: Final = 16 << 20
_PER_SUBJECT: Final = ("high", "low", "consents", "as_of_hours")


class Files(NamedTuple):
    """A snapshot and a lookup file by name, how many rows they hold and the sum of those."""

    snapshot: str
    lookup: str
    rows: int
    row_sum: int


def write_files(
    folder: Path,
    lineage: dna_pb2.Lineage,
    sizes: Sizes,
    blocks: Iterable[Columns],
    lookups: Iterable[Lookups],
) -> Files:
    """Write a snapshot and a lookup file; the rows are read before the lookups.

    Raises what the two raise, and OSError.
    """
    name = secrets.token_hex(8)
    files = Files(f"{name}.snap", f"{name}.lookup", sizes.rows, 0)
    row_sum = write_columns(folder / files.snapshot, lineage, sizes, blocks)
    write_lookup_columns(folder / files.lookup, lookups)
    return files._replace(row_sum=row_sum)


def write_content(folder: Path, lineage: dna_pb2.Lineage, path: Path) -> Files:
    """Write the rows and lookups of the content at `path`. Raises FormatError and OSError.

    Small contents may not become large files: what is sent is under limits, what is written too.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = Content(data, max_bytes=min(MAX_BYTES, _FREE_BYTES + _GROWTH * len(data)))
    high, low = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]

    def rows() -> Iterator[Columns]:
        for block in content.rows():
            high.append(block.high)
            low.append(block.low)
            yield block

    def lookups() -> Iterator[Lookups]:
        yield from content.lookups(np.concatenate(high), np.concatenate(low))

    return write_files(folder, lineage, content.sizes, rows(), lookups())


def write_view(folder: Path, view: GenomeView) -> Files:
    """Write what a view holds, patches folded in. Raises OSError."""
    lineage = view.lineage or dna_pb2.Lineage()
    changed = Columns.of(view.changed_rows())
    snapshot = view.snapshot
    gone = sorted(view.patches)
    if snapshot is None:
        return write_files(folder, lineage, changed.sizes, [changed], [_lookups(view)])
    lost = [snapshot.markers_of(subject) for subject in gone]
    known = [markers for markers in lost if markers is not None]
    held = snapshot.sizes
    sizes = Sizes(
        held.rows - len(known) + len(changed),
        held.markers - sum(known) + len(changed.indices),
        0,
        held.wide or changed.sizes.wide,
    )
    blocks = _folded(snapshot, changed, b"".join(gone))
    return write_files(folder, lineage, sizes, blocks, [_lookups(view)])


def _folded(snapshot: Snapshot, changed: Columns, gone: bytes) -> Iterator[Columns]:
    """The rows of a snapshot without those that are gone, and those that have changed."""
    away = joined_subjects(*halves(gone))
    new = joined_subjects(changed.high, changed.low)
    taken = 0
    for block in snapshot.blocks():
        subjects = joined_subjects(block.high, block.low)
        kept = np.flatnonzero(~_among(subjects, away))
        upto = int(np.searchsorted(new, subjects[-1], "right"))
        rows = _picked(block, kept), _picked(changed, np.arange(taken, upto))
        yield _merged(*rows)
        taken = upto
    if taken < len(new):
        yield _picked(changed, np.arange(taken, len(new)))


def _among(subjects: Array, known: Array) -> Array:
    """Which subjects are among known ones, which ascend."""
    if not len(known):
        return np.zeros(len(subjects), bool)
    at = np.minimum(np.searchsorted(known, subjects), len(known) - 1)
    among: Array = known[at] == subjects
    return among


def _merged(one: Columns, other: Columns) -> Columns:
    """The rows of both, which have no subject in common."""
    if not len(other):
        return one
    both = {name: _joined(one, other, name) for name in (*_PER_SUBJECT, "indices", "codes")}
    starts = np.concatenate([one.starts, other.starts[1:] + one.starts[-1]])
    order = np.lexsort((both["low"], both["high"]))
    return _picked(Columns(**(both | {"starts": starts})), order)


def _joined(one: Columns, other: Columns, name: str) -> Array:
    return np.concatenate([getattr(one, name), getattr(other, name)])


def _picked(columns: Columns, rows: Array) -> Columns:
    """These rows of columns, in this order."""
    starts = columns.starts.astype(np.int64)
    counts = np.diff(starts)[rows]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    markers = np.repeat(starts[:-1][rows] - ends[:-1], counts) + np.arange(ends[-1])
    taken = {name: getattr(columns, name)[rows] for name in _PER_SUBJECT}
    taken |= {name: getattr(columns, name)[markers] for name in ("indices", "codes")}
    return Columns(**(taken | {"starts": ends.astype(np.uint64)}))


def _lookups(view: GenomeView) -> Lookups:
    """The lookups of a view: those of subjects that are gone left out, later ones over earlier."""
    new = Columns.of((), view.lookups.items())
    if view.lookup is None:
        return new.lookups
    columns = view.lookup.columns()
    away = joined_subjects(*halves(b"".join(sorted(view.left))))
    stale = _among(joined_subjects(*columns[2:]), away)
    stale |= _among(joined_subjects(*columns[:2]), joined_subjects(*new.lookups[:2]))
    both = [np.concatenate([a[~stale], b]) for a, b in zip(columns, new.lookups, strict=True)]
    order = np.lexsort((both[1], both[0]))
    return both[0][order], both[1][order], both[2][order], both[3][order]
