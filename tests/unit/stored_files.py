"""Files of a device's store, written from rows as tests have them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_sdk.dna.columns import Columns
from edge_sdk.dna.genome import Row
from edge_sdk.store.lookup_file import write_lookup_columns
from edge_sdk.store.snapshot import write_columns
from genome_edge.v1 import dna_pb2


def write_lookup(path: Path, pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """Write (hash, subject) pairs, the last one of a hash counting; returns how many."""
    return write_lookup_columns(path, [Columns.of((), pairs).lookups])


def write_snapshot(path: Path, lineage: dna_pb2.Lineage, rows: Iterable[Row]) -> int:
    """Write rows in any order, the last one of a subject counting; returns how many."""
    held = Columns.of(rows)
    write_columns(path, lineage, held.sizes, [held])
    return len(held)
