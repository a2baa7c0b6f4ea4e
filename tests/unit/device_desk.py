"""A store with a writer and an outbox, for tests."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.config import Config
from edge_sdk.outbox.entries import Entry
from edge_sdk.outbox.frames import Frame, FrameKind, iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.outbox.writer import Writer
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import event_pb2

FAST = Config(group_commit_s=0.002)
SOMEBODY = b"s" * 16


class Desk:
    """A store with a writer and an outbox."""

    def __init__(self, path: Path, config: Config = FAST) -> None:
        self.store = DeviceStore.open(path)
        self.outbox = Outbox(self.store, config)
        self.writer = Writer(self.store, self.outbox, config)

    def close(self) -> None:
        self.writer.close(5)
        self.store.close()

    def say(self, word: str, kind: FrameKind = FrameKind.INTERACTION, **more: object) -> None:
        self.writer.put(entry(word, kind, **more))

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with self.store.read() as connection:
            return connection.execute(sql).fetchall()

    def number(self, sql: str) -> int:
        ((value,),) = self.rows(sql)
        assert isinstance(value, int)
        return value


def entry(word: str, kind: FrameKind = FrameKind.INTERACTION, **more: object) -> Entry:
    event = event_pb2.Event(interaction=event_pb2.Interaction(interaction_id=word))
    if kind is FrameKind.DECISION:
        event = event_pb2.Event(decision=event_pb2.DecisionRecord(placement=word))
    body = event.SerializeToString()
    return Entry(kind, SOMEBODY, 1, lambda: (body, b""), **more)  # type: ignore[arg-type]


def word(frame: Frame) -> str:
    event = event_pb2.Event.FromString(frame.body)
    return event.interaction.interaction_id or event.decision.placement or event.evicted.reason


def drain(outbox: Outbox, take: int | None = None) -> list[Frame]:
    """Send everything to a server that takes it; the frames in order."""
    frames: list[Frame] = []
    while (take is None or take > 0) and (batch := outbox.next_batch()) is not None:
        frames += iter_frames(batch.frames)
        outbox.ack(batch, batch.last_sequence, batch.last_sequence, b"log")
        take = None if take is None else take - 1
    return frames
