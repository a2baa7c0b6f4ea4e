"""The parts of a simulated release: real ones, with a model that says 0.5 of everything."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.fake_release import Documents
from edge_sdk.engine.policy import CONTRACT
from genome_edge.v1 import release_pb2

# The model of a server that has learned nothing yet, as ONNX, deflated; its facts are appended.
_MODEL: Final = (
    "eNqNUctOg0AUZVpo4YKWToxpcVHDkqQ/4MakmhjZuHDHhmAZKKkMCtOHf9Mv9BscmCGCLnQWc3Nyzrlz5l7dwGZKaJ"
    "GTJYlTcvOpgg9mkSSkDDMakyO2GlCF1SZ6I04PudpzXTyAIaHxDJ3QwLNAq1hUspnCEe/VM4ARZzmhVVZQbO3JmhVl"
    "27eL3NFdQdcR80xQo2NWiV4P0BPhkUCOrO6Em/jTlD0lItYlaPvodcfz6chGvqrwc0IqPMpQoTBis1HJIF3w9//uoa"
    "vH4j1HlH8FuuWB8LSzgWUTzZtzxXj1PS5fR4o4gQPm+46UH3I/Jhj6GGswxIgGV2AJ7kCydMMaErXkor9YG865EWou"
    "r69DcN0ORrprBeopFj9GN4EzrjBqcgsDHb3MYfSbyhvqQv6+G2q7UkGxp18uv6d4"
)
_FACTS: Final = 14  # number of the field metadata_props in an ONNX ModelProto


def parts_of(documents: Documents, schema: DnaSchema) -> dict[str, bytes]:
    """Serialised parts by name."""
    messages = {
        "schema": schema.to_proto(),
        "vocabulary": documents.vocabulary.to_proto(),
        "offers": documents.offers,
        "placements": documents.placements,
        "products": documents.products,
        "places": release_pb2.PlaceTable(),
        "golden": release_pb2.GoldenVectors(),
    }
    parts = {name: one.SerializeToString(deterministic=True) for name, one in messages.items()}
    return {**parts, "model": model_for(documents.vocabulary)}


def model_for(vocabulary: Vocabulary) -> bytes:
    """A model of the contract that gives every offer the value 0.5: an ONNX file."""
    facts = {
        "contract": CONTRACT,
        "vocabulary_lineage": vocabulary.lineage.hex(),
        "vocabulary_size": str(len(vocabulary)),
        "dimension": "1",
        "trained_ms": "0",
    }
    return zlib.decompress(base64.b64decode(_MODEL)) + b"".join(_entries(facts))


def _entries(facts: Mapping[str, str]) -> Iterator[bytes]:
    """Each fact as a field of the message; none is longer than 127 bytes."""
    for key, value in facts.items():
        entry = _field(1, key.encode()) + _field(2, value.encode())
        yield _field(_FACTS, entry)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content
