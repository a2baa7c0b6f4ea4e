"""Durable events a second through the committer: batches of 500 and of 50 from 64 lanes."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.log.committer import Committer
from genome_server.log.framing import Batch
from tests.bench.figures import Figures

LANES = 64
EVENTS = {500: 400_000, 50: 100_000}


def batches(size: int, events: int) -> list[Batch]:
    """Ready batches, as they would come off the wire, from 64 lanes in turn."""
    body = event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=1_700_000_000_000, monotonic_ms=12_345_678),
        interaction=event_pb2.Interaction(interaction_id="0" * 32, kind="buy", product="P-1001"),
    ).SerializeToString()
    subject = secrets.token_bytes(16)
    epochs = [secrets.token_bytes(16) for _ in range(LANES)]
    made = []
    for number in range(events // size):
        lane, turn = number % LANES, number // LANES
        first = turn * size + 1
        frames = b"".join(
            encode_frame(Frame(first + i, subject, FrameKind.INTERACTION, 1_700_000_000_000, body))
            for i in range(size)
        )
        digest = hashlib.sha256(frames).digest()
        made.append(
            Batch(f"device-{lane}", epochs[lane], 1, first, first + size - 1, frames, digest)
        )
    return made


def run(figures: Figures) -> None:
    """Time from the first submission to the last commit on disk."""
    for size, events in EVENTS.items():
        ready = batches(size, events)
        with tempfile.TemporaryDirectory() as folder, Committer(Path(folder) / "log.sqlite") as log:
            waiting: deque[Future[Any]] = deque()
            started = time.perf_counter()
            for batch in ready:
                waiting.append(log.submit(batch))
                # A device has one report in flight.
                if len(waiting) >= LANES:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
            seconds = time.perf_counter() - started
        figures.add(f"ingest.{size}.events_per_s", len(ready) * size / seconds, "1/s")
