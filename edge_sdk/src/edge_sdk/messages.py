"""The messages of the contract, each kind loaded when the first of it is read or made.

A device that decides from a compiled release makes its first decision without any: the library
that reads messages is a tenth of what a process loads until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.lazy import later

if TYPE_CHECKING:
    from genome_edge.v1 import dna_pb2, event_pb2, release_pb2, stop_pb2, sync_pb2
else:
    dna_pb2 = later("genome_edge.v1.dna_pb2")
    event_pb2 = later("genome_edge.v1.event_pb2")
    release_pb2 = later("genome_edge.v1.release_pb2")
    stop_pb2 = later("genome_edge.v1.stop_pb2")
    sync_pb2 = later("genome_edge.v1.sync_pb2")

__all__ = ["dna_pb2", "event_pb2", "release_pb2", "stop_pb2", "sync_pb2"]
