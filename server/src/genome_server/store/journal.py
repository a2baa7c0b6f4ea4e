"""What changed in genome rows, and since when it is known: so that devices get patches.

Each row keeps a journal of its own beside it. It names the markers that changed
at each of the row's latest stamps, and the stamp since which it is whole. A
device whose cursor is not older than that, and which had the row then, needs
these markers only; every other device needs the row. A journal that has grown
too long forgets its oldest entries, so it costs no table, no sweep, and one
write that is made anyway.

    since u64 | entries: stamp u64, n u16, n × index u32

Rows are handled in chunks, as numpy columns: to diff one of 64 markers costs a
few microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.columns import Columns, halves, row_sums
from genome_edge.v1.dna_pb2 import GenomeBlock
from genome_server.store.rows import CONSENT_PERSONALISATION

MAX_JOURNAL: Final = 320
"""Bytes; a journal beyond it forgets its oldest entries."""

_SINCE: Final = struct.Struct("<Q")
_ENTRY: Final = struct.Struct("<QH")


def read_rows(blocks: Sequence[bytes]) -> Columns:
    """Take serialised GenomeBlocks of one row each apart; the rows stay in this order."""
    subjects: list[bytes] = []
    codes: list[bytes] = []
    consents: list[int] = []
    hours: list[int] = []
    counts: list[int] = []
    deltas: list[int] = []
    block = GenomeBlock()
    for content in blocks:
        block.ParseFromString(content)
        subjects.append(block.subjects)
        consents.append(block.consents[0])
        hours.append(block.as_of_hours[0])
        counts.append(block.counts[0])
        deltas += block.index_deltas
        codes.append(block.strengths)
    starts = np.zeros(len(blocks) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    sums = np.zeros(len(deltas) + 1, np.int64)
    np.cumsum(np.array(deltas, np.int64), out=sums[1:])
    high, low = halves(b"".join(subjects))
    return Columns(
        high=high,
        low=low,
        consents=np.array(consents, np.uint32),
        as_of_hours=np.array(hours, np.int32),
        starts=starts.astype(np.uint64),
        indices=(sums[1:] - np.repeat(sums[starts[:-1]], counts)).astype(np.uint32),
        codes=np.frombuffer(b"".join(codes), np.uint8),
    )


def _keys(columns: Columns) -> npt.NDArray[np.int64]:
    """(row, index) of every marker as one number, ascending."""
    starts = columns.starts.astype(np.int64)
    counts = starts[1:] - starts[:-1]
    rows = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    keys: npt.NDArray[np.int64] = (rows << 32) | columns.indices
    return keys


def changed_markers(old: Columns, new: Columns) -> list[bytes | None]:
    """For each of n rows, the indices that differ, as u32; None where only the row will do."""
    was, now = _keys(old), _keys(new)
    places = np.searchsorted(was, now)
    inside = np.minimum(places, max(len(was) - 1, 0))
    kept = was[inside] == now if len(was) else np.zeros(len(now), bool)
    same = kept.copy()
    same[kept] = old.codes[inside[kept]] == new.codes[kept]
    gone = np.ones(len(was), bool)
    gone[inside[kept]] = False
    different = np.sort(np.concatenate([now[~same], was[gone]]))
    bounds = np.searchsorted(different >> 32, np.arange(len(new.consents) + 1))
    indices = (different & 0xFFFFFFFF).astype("<u4")
    patchable = old.as_of_hours == new.as_of_hours
    return [
        indices[bounds[i] : bounds[i + 1]].tobytes() if patchable[i] else None
        for i in range(len(patchable))
    ]


def begun(stamp: int) -> bytes:
    """The journal of a row that is new at this stamp."""
    return _SINCE.pack(stamp)


def continued(journal: bytes, stamp: int, indices: bytes) -> bytes:
    """The journal after these markers (u32 each) changed at this stamp."""
    if not journal:
        return begun(stamp)
    journal += _ENTRY.pack(stamp, len(indices) // 4) + indices
    while len(journal) > MAX_JOURNAL and len(journal) > _SINCE.size:
        oldest, count = _ENTRY.unpack_from(journal, _SINCE.size)
        end = _SINCE.size + _ENTRY.size + 4 * count
        journal = _SINCE.pack(oldest) + journal[end:]
    return journal


def changed_since(journal: bytes, stamp: int) -> set[int] | None:
    """The markers that changed after a stamp; None where the journal does not go back to it."""
    if len(journal) < _SINCE.size or _SINCE.unpack_from(journal)[0] > stamp:
        return None
    found: set[int] = set()
    at = _SINCE.size
    while at < len(journal):
        when, count = _ENTRY.unpack_from(journal, at)
        at += _ENTRY.size
        if when > stamp:
            found.update(struct.unpack_from(f"<{count}I", journal, at))
        at += 4 * count
    return found


class StoredRow(NamedTuple):
    """A genome row as it is in the store, with what is kept beside it."""

    epoch: int
    row: bytes
    consents: int
    changed: int
    row_sum: int
    journal: bytes


def written(
    epoch: int,
    new: Mapping[bytes, tuple[int, bytes, int]],
    old: Mapping[bytes, StoredRow],
) -> dict[bytes, tuple[int, int, bytes]]:
    """(stamp, row sum, journal) of rows that change; `new` holds (stamp, row, consents) of each.

    A journal begins anew where no device can hold the row before: under another
    epoch or hour, and after PERSONALISATION was withdrawn.
    """
    if not new:
        return {}
    subjects = list(new)
    columns = read_rows([row for _, row, _ in new.values()])
    sums = signed(row_sums(columns))
    # A row that is new is compared with itself: its journal begins here.
    before = read_rows([old[s].row if s in old else new[s][1] for s in subjects])
    done = {}
    for i, indices in enumerate(changed_markers(before, columns)):
        subject = subjects[i]
        stamp, _, consents = new[subject]
        was = old.get(subject)
        follows = (
            was is not None
            and indices is not None
            and was.epoch == epoch
            and not consents & ~was.consents & CONSENT_PERSONALISATION
        )
        if follows and was is not None and indices is not None:
            journal = continued(was.journal, stamp, indices)
        else:
            journal = begun(stamp)
        done[subject] = (stamp, sums[i], journal)
    return done


def row_sums_of(blocks: Sequence[bytes]) -> list[int]:
    """The row sums of serialised GenomeBlocks of one row each, as SQLite keeps them: signed."""
    return signed(row_sums(read_rows(blocks)))


def signed(sums: npt.NDArray[np.uint64]) -> list[int]:
    """SQLite's integers have a sign."""
    numbers: list[int] = sums.view(np.int64).tolist()
    return numbers
