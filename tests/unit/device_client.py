"""Looking into a client from outside, for tests."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from edge_sdk import Config, Context, EdgeClient
from edge_sdk.outbox.frames import iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.store import state
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import event_pb2

FAST = Config(group_commit_s=0.002, watch_s=0.02)
MOMENT = Context(place="hotel", activity="flight-search")


def store_of(edge: EdgeClient) -> DeviceStore:
    open_ = edge._keeper.open
    assert open_ is not None
    return open_.store


def decisions_in(path: Path) -> set[str]:
    """The decisions that are on disk in a store, by id."""
    with closing(DeviceStore.open(path)) as store, store.read() as connection:
        frames = state.recent_decisions(connection, 10_000)
    return {state.decision_of(frame).decision_id.hex() for frame in frames}


def events(edge: EdgeClient) -> list[event_pb2.Event]:
    """Everything that the client has reported, with nobody to take it."""
    edge.flush(0)
    found = []
    outbox = Outbox(store_of(edge))
    while (batch := outbox.next_batch()) is not None:
        found += [event_pb2.Event.FromString(f.body) for f in iter_frames(batch.frames)]
        outbox.ack(batch, batch.last_sequence, batch.last_sequence, b"log")
    return found


def kinds(edge: EdgeClient) -> list[str]:
    return [str(event.WhichOneof("payload")) for event in events(edge)]


def shown(edge: EdgeClient, placement: str, **who: Any) -> str:
    """The offer that is shown."""
    decision = edge.decide(MOMENT, placement, **who)
    assert decision.offer is not None
    return decision.offer.id
