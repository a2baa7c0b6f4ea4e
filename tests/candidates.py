"""Who was in the running, read from an encoded record."""

from __future__ import annotations

from edge_sdk.engine.record import Record, candidate_rows
from edge_sdk.engine.release import Release
from genome_edge.v1 import event_pb2


def candidate_ids(record: event_pb2.DecisionRecord, release: Release) -> list[str]:
    """Ids of the candidates of an encoded record."""
    return [release.catalogue.ids[row] for row in candidate_rows(record).tolist()]


def ids_of(record: Record) -> list[str]:
    """Ids of the candidates of a record, by way of its encoding."""
    assert record.release is not None
    return candidate_ids(record.to_proto(), record.release)
