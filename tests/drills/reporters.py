"""Devices that report to a log: through the SDK's own pump, without a network between them."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path

from edge_sdk.errors import RefusedError
from edge_sdk.outbox.queue import Outbox
from edge_sdk.sync.pace import Backoff
from edge_sdk.sync.reporting import ReportPump
from genome_edge.v1 import event_pb2, report_pb2
from genome_server.log import BatchRefusedError, Committer, LogReader
from genome_server.log.framing import Batch

Send = Callable[[report_pb2.ReportRequest], report_pb2.ReportResponse]


def to_log(log: Committer, device: str) -> Send:
    """What a server does with the reports of a device. Raises RefusedError."""

    def send(request: report_pb2.ReportRequest) -> report_pb2.ReportResponse:
        try:
            taken = log.submit(Batch.of(device, request)).result()
        except BatchRefusedError as error:
            raise RefusedError(error.reason, str(error), error.facts) from error
        return report_pb2.ReportResponse(
            received_through=taken.received_through,
            safe_through=taken.safe_through,
            incarnation=log.incarnation,
        )

    return send


def pump(outbox: Outbox, send: Send) -> ReportPump:
    """A pump that does not wait between attempts."""
    return ReportPump(outbox, send, Backoff(0.0, 0.0), 0.0)


def drain(outbox: Outbox, send: Send) -> list[str]:
    """Send everything; the reasons for which something was refused on the way."""
    sending = pump(outbox, send)
    refused: list[str] = []
    for _ in range(100_000):
        if sending.step() is None:
            return refused
        if isinstance(sending.cause, RefusedError):
            refused.append(sending.cause.reason)
    raise AssertionError("the outbox does not empty")


class Arrived:
    """What is in a log, and is new since the last look."""

    def __init__(self, path: Path) -> None:
        self._reader = LogReader(path)
        self._offset = 0

    def look(self) -> collections.Counter[str]:
        """Names of events by number: those of interactions, and of outcomes that have one."""
        names: collections.Counter[str] = collections.Counter()
        for batch in self._reader.batches(self._offset):
            for frame in batch.frames():
                event = event_pb2.Event.FromString(frame.body)
                names[event.interaction.interaction_id or event.outcome.event_id] += 1
                names["given up"] += event.evicted.events
            self._offset = batch.next_offset
        del names[""]
        return names

    def close(self) -> None:
        """Close the log."""
        self._reader.close()
