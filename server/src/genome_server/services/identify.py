"""IdentifyService: a presence token becomes one genome for one visit."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Any

from genome_edge.v1 import dna_pb2, identify_pb2, identify_pb2_grpc
from genome_server.services import credentials
from genome_server.services.auth import Caller, caller
from genome_server.services.errors import CallRefusedError
from genome_server.services.sync_plan import rows_fit
from genome_server.store.protocol import CONSENT_PERSONALISATION

VISIT_S = 15 * 60


class IdentifyService(identify_pb2_grpc.IdentifyServiceServicer):
    """Answers for the customers that the audience's policy allows, and says nothing of others."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    async def Identify(  # noqa: N802
        self,
        request: identify_pb2.IdentifyRequest,
        context: Any,  # noqa: ARG002
    ) -> identify_pb2.IdentifyResponse:
        """Return the genome of the customer who is present."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _identify, caller(), request)


def _identify(who: Caller, request: identify_pb2.IdentifyRequest) -> identify_pb2.IdentifyResponse:
    store = who.room.store
    now_ms = time.time_ns() // 1_000_000
    subject, _ = credentials.read_presence(who.room.presence_key, request.presence_token, now_ms)
    audience = store.audience(who.audience)
    policy = audience.identify if audience is not None else "none"
    customer = store.customer(subject)
    allowed = policy == "any" or (policy == "members" and store.is_member(who.audience, subject))
    if customer is None or not allowed:
        # One answer for everybody else: whether there is such a customer is not told.
        raise CallRefusedError("NOT_IN_AUDIENCE", "this device may not ask about this customer")
    response = identify_pb2.IdentifyResponse(subject=subject, ttl_s=VISIT_S)
    record = store.genome(subject)
    if record is None or not (customer.consents or 0) & CONSENT_PERSONALISATION:
        return response
    if rows_fit(store, request.lineage):
        response.genome.CopyFrom(dna_pb2.GenomeBlock.FromString(record.row))
        response.genome.lineage.CopyFrom(request.lineage)
    return response
