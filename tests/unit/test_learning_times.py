"""Training goes by the time that genomes are built by."""

from __future__ import annotations

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.genomes.events import FUTURE_MS, time_of
from genome_server.learning.survey import read_event
from genome_server.log.reader import LoggedFrame

RECEIVED_MS = 1_770_000_000_000


def test_an_event_without_clocks_is_no_later_than_its_receipt_allows() -> None:
    body = event_pb2.Event(interaction=event_pb2.Interaction(kind="view")).SerializeToString()
    for said, counted in (
        (RECEIVED_MS - 5, RECEIVED_MS - 5),
        (RECEIVED_MS + 10 * FUTURE_MS, RECEIVED_MS + FUTURE_MS),
        (-3, 0),
    ):
        frame = LoggedFrame(
            0, "d", b"e" * 16, 1, 1, b"s" * 16, FrameKind.INTERACTION, said, RECEIVED_MS, body
        )
        event, at_ms = read_event(frame)
        assert event is not None
        assert at_ms == counted == time_of(event, frame)
