"""Rows, changes, lookups, deletions and cap events as messages of the contract, without nonce."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from edge_sdk.engine.cap_rules import COUNTED, CapRow
from genome_edge.v1 import dna_pb2, sync_pb2
from genome_server.services.framing import Piece, piece

ROWS_PER_PUT: Final = 4_096
PREFIX_BYTES: Final = 8
COUNTED_PER_PUT: Final = 1_000


def puts_of(
    blocks: list[dna_pb2.GenomeBlock],
    patches: list[sync_pb2.GenomePatch],
    pairs: list[list[tuple[bytes, bytes]]],
) -> Iterator[Piece]:
    """Put messages: rows, changes and lookups side by side."""
    for i in range(max(len(blocks), len(patches), len(pairs))):
        put = sync_pb2.Put()
        if i < len(blocks):
            put.block.CopyFrom(blocks[i])
        if i < len(patches):
            put.patch.CopyFrom(patches[i])
        if i < len(pairs):
            put.lookup_hashes = b"".join(hashed for hashed, _ in pairs[i])
            put.lookup_subjects = b"".join(subject for _, subject in pairs[i])
        yield piece("put", put)


def counted_of(rows: Sequence[CapRow]) -> Iterator[Piece]:
    """Put messages of what counts for caps."""
    for start in range(0, len(rows), COUNTED_PER_PUT):
        events = [
            sync_pb2.CapEvent(
                subject=row.subject,
                claim=row.claim,
                kind=sync_pb2.CapEvent.Kind.Name(COUNTED.index(row.kind) + 1),
                offer=row.offer,
                campaign=row.campaign,
                group=row.group,
                at_ms=row.at_ms,
            )
            for row in rows[start : start + COUNTED_PER_PUT]
        ]
        yield piece("put", sync_pb2.Put(cap_events=events))


def deletes_of(deletes: Iterable[tuple[bytes, int]]) -> Iterator[Piece]:
    """Delete messages of (subject, reason)."""
    for subject, reason in deletes:
        said = sync_pb2.Delete(subject=subject, reason=sync_pb2.Delete.Reason.Name(reason))
        yield piece("delete", said)


def merged(rows: dict[bytes, dna_pb2.GenomeBlock]) -> Iterator[dna_pb2.GenomeBlock]:
    """Put blocks of one row together, ordered by subject."""
    ordered = sorted(rows)
    for start in range(0, len(ordered), ROWS_PER_PUT):
        block = dna_pb2.GenomeBlock()
        strengths = []
        subjects = ordered[start : start + ROWS_PER_PUT]
        for subject in subjects:
            one = rows[subject]
            block.consents.extend(one.consents)
            block.as_of_hours.extend(one.as_of_hours)
            block.counts.extend(one.counts)
            block.index_deltas.extend(one.index_deltas)
            strengths.append(one.strengths)
        block.subjects = b"".join(subjects)
        block.strengths = b"".join(strengths)
        yield block


def patches_of(
    rows: dict[bytes, tuple[dna_pb2.GenomeBlock, set[int]]],
) -> Iterator[sync_pb2.GenomePatch]:
    """The changed markers of rows, ordered by subject."""
    ordered = sorted(rows)
    for start in range(0, len(ordered), ROWS_PER_PUT):
        patch = sync_pb2.GenomePatch()
        strengths = bytearray()
        subjects = ordered[start : start + ROWS_PER_PUT]
        for subject in subjects:
            block, markers = rows[subject]
            codes = dict(zip(_indices(block), block.strengths, strict=True))
            indices = sorted(markers)
            patch.consents.extend(block.consents)
            patch.counts.append(len(indices))
            patch.index_deltas.extend(b - a for a, b in pairwise([0, *indices]))
            strengths += bytes(codes.get(index, 0) for index in indices)
        patch.subject_prefixes = b"".join(subject[:PREFIX_BYTES] for subject in subjects)
        patch.strengths = bytes(strengths)
        yield patch


def _indices(block: dna_pb2.GenomeBlock) -> Iterator[int]:
    index = 0
    for delta in block.index_deltas:
        index += delta
        yield index
