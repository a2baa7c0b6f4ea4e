"""ReportService: what devices report goes to the log."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Any

from genome_edge.v1 import report_pb2, report_pb2_grpc
from genome_server.log import Batch, BatchRefusedError
from genome_server.services.auth import caller
from genome_server.services.errors import CallRefusedError
from genome_server.services.landing import Landing

#: Bytes of a batch up to which to check it costs the loop less than to hand it to another thread.
_CHECKED_AT_ONCE = 16 * 1024


class ReportService(report_pb2_grpc.ReportServiceServicer):
    """Takes batches. Device and tenant come from the credential."""

    def __init__(self, pool: Executor, landing: Landing) -> None:
        self._pool = pool
        self._landing = landing

    async def Report(  # noqa: N802
        self,
        request: report_pb2.ReportRequest,
        context: Any,  # noqa: ARG002
    ) -> report_pb2.ReportResponse:
        """Append one batch; answered when it is on disk."""
        who = caller()
        batch = Batch.of(who.name, request)
        try:
            if len(batch.frames) <= _CHECKED_AT_ONCE:
                written = who.room.log.submit(batch)
            else:
                loop = asyncio.get_running_loop()
                written = await loop.run_in_executor(self._pool, who.room.log.submit, batch)
            marks = await self._landing.bring(written)
        except BatchRefusedError as refusal:
            raise CallRefusedError(refusal.reason, str(refusal), **refusal.facts) from None
        who.room.took_report(who.name)
        return report_pb2.ReportResponse(
            incarnation=who.room.log.incarnation,
            received_through=marks.received_through,
            safe_through=marks.safe_through,
            server_time_ms=time.time_ns() // 1_000_000,
        )
