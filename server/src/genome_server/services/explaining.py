"""Why a decision of the server's own came out as it did.

The log holds what may leave a device; replaying asks for the full form, which stays in memory for
the last decisions of each tenant. Whose decisions are erased is not explained either.
"""

from __future__ import annotations

import time

from edge_sdk.errors import EdgeError
from edge_sdk.sidecar.messages import explanation_of
from genome_edge.v1 import decision_pb2
from genome_server.services.auth import Caller
from genome_server.services.deciding import Decider, Remembered
from genome_server.services.errors import CallRefusedError
from genome_server.services.prepared import decision_key, read_decision_id


def explain(
    who: Caller, decider: Decider, request: decision_pb2.ExplainRequest
) -> decision_pb2.ExplainResponse:
    """Explain a decision of this client's audience. Blocks. Raises CallRefusedError."""
    from edge_sdk.engine.explain import explain as explained

    decision_id = read_decision_id(request.decision_id)
    kept = who.room.reader.kept(decision_key(decision_id), time.time_ns() // 1_000_000)
    ours = kept is not None and Remembered.from_bytes(kept[0]).audience == who.audience
    found = decider.full(decision_id) if ours else None
    if found is None:
        raise CallRefusedError(
            "UNKNOWN_DECISION",
            "this is none of the last decisions of this client: the server explains those that "
            "it has made since it started",
        )
    try:
        return explanation_of(explained(*found))
    except EdgeError as error:
        raise CallRefusedError("UNKNOWN_DECISION", f"it cannot be explained: {error}") from None
