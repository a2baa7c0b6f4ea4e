"""Changes to genome rows that are held: what comes out of them, and what all sum up to then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

import numpy as np

from edge_sdk.dna.columns import Columns, row_sum_of, row_sums, total
from edge_sdk.dna.genome import Row
from edge_sdk.messages import sync_pb2
from edge_sdk.slices import rest
from edge_sdk.store.genomes import GenomeView
from edge_sdk.sync.trust import Refusal, refuse

_MASK = (1 << 64) - 1
_PREFIX = 8


def patched(view: GenomeView, patches: Iterable[sync_pb2.GenomePatch]) -> Iterator[Row]:
    """The rows that patches make of those held, whose columns fit together.

    A patch that is applied twice makes the same row. Raises TrustError DIGEST for a row that is not
    held: what is here is not what the server thinks it is.
    """
    begun = {subject[:_PREFIX]: subject for subject in view.patches}
    made: dict[bytes, Row] = {}
    for patch in patches:
        ends = list(accumulate(patch.counts))
        for at, (count, end) in enumerate(zip(patch.counts, ends, strict=True)):
            rest()
            prefix = patch.subject_prefixes[_PREFIX * at : _PREFIX * (at + 1)]
            row = made.get(prefix) or _held(view, begun, prefix)
            if row is None:
                raise refuse(Refusal.DIGEST, "markers have changed of a row that is not here")
            deltas = patch.index_deltas[end - count : end]
            codes = patch.strengths[end - count : end]
            made[prefix] = _changed(row, patch.consents[at], accumulate(deltas), codes)
    yield from made.values()


def _held(view: GenomeView, begun: dict[bytes, bytes], prefix: bytes) -> Row | None:
    subject = begun.get(prefix)
    row = view.row(subject) if subject is not None else None
    if row is None and view.snapshot is not None:
        found = view.snapshot.subject_of(prefix)
        row = view.row(found) if found is not None else None
    return row


def _changed(row: Row, consents: int, indices: Iterable[int], codes: bytes) -> Row:
    markers = dict(zip(row.indices.tolist(), row.codes.tolist(), strict=True))
    for index, code in zip(indices, codes, strict=True):
        if code:
            markers[index] = code
        else:
            markers.pop(index, None)
    ordered = sorted(markers)
    if ordered and ordered[-1] >= 1 << 32:
        raise refuse(Refusal.ROWS, f"a marker with the index {ordered[-1]}")
    return Row(
        row.subject,
        consents,
        row.as_of_hour,
        np.array(ordered, np.uint32),
        np.array([markers[index] for index in ordered], np.uint8),
    )


def sum_of(rows: Iterable[Row]) -> int:
    """The sum, modulo 2^64, of the row sums of rows with different subjects."""
    return total(row_sums(Columns.of(rows)))


def sum_after(
    view: GenomeView, before: int, rows: Iterable[Row], deletes: Iterable[tuple[bytes, int]]
) -> int:
    """The sum of all rows once these have changed; `before` is that of the view."""
    changed: dict[bytes, Row | None] = {row.subject: row for row in rows}
    changed.update((subject, None) for subject, _ in deletes)
    for subject, row in changed.items():
        rest()
        held = view.row(subject)
        before -= row_sum_of(held) if held is not None else 0
        before += row_sum_of(row) if row is not None else 0
    return before & _MASK


def check_rows(held: int, held_sum: int, total_rows: int | None, row_sum: int | None) -> None:
    """Refuse rows that are not those of the server. Raises TrustError DIGEST."""
    if total_rows is not None and held != total_rows:
        raise refuse(Refusal.DIGEST, f"{held} rows would be held; the server counts {total_rows}")
    if row_sum is not None and held_sum != row_sum:
        raise refuse(
            Refusal.DIGEST, f"the rows sum up to {held_sum:016x}; the server's to {row_sum:016x}"
        )
