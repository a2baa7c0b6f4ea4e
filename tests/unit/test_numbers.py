"""The numbers that are written down are those of the contract."""

from __future__ import annotations

from edge_sdk import numbers
from genome_edge.v1 import dna_pb2, release_pb2, sync_pb2


def test_numbers_of_consents_deletes_and_placements() -> None:
    for name in ("PERSONALISATION", "LEARNING", "LOCATION"):
        assert getattr(numbers, name) == dna_pb2.ConsentPurpose.Value(f"CONSENT_PURPOSE_{name}")
    for name in ("ERASED", "LEFT_AUDIENCE", "CONSENT_WITHDRAWN"):
        assert getattr(numbers, name) == sync_pb2.Delete.Reason.Value(f"REASON_{name}")
    assert numbers.SHOWN_ON_VIEW == release_pb2.PlacementSpec.SHOWN_ON_VIEW


def test_numbers_of_caps() -> None:
    named = {name: n for name, n in vars(numbers.Cap).items() if name.isupper()}
    assert named
    for name, number in named.items():
        assert number == getattr(release_pb2.Cap, name), name
