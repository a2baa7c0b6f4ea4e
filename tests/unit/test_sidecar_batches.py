"""Batches of local apps: each event once, whatever is repeated, cut anew, copied or damaged."""

from __future__ import annotations

import random
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk import EdgeClient
from edge_sdk.outbox.frames import FrameKind
from edge_sdk.sidecar import batches
from edge_sdk.sidecar.batches import Batches
from edge_sdk.sidecar.refusals import CallRefused
from edge_sdk.store.meta import GUESTS, all_meta, get_meta
from edge_sdk.store.rescue import rescue
from edge_sdk.store.tables import migrate
from genome_edge.v1 import event_pb2, report_pb2
from tests.e2e.sidecar_client import Lane
from tests.unit.device_client import events, store_of
from tests.unit.device_town import now_ms, subject

ANN = subject(1)


def did(name: str) -> event_pb2.Event:
    return event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms()),
        interaction=event_pb2.Interaction(kind="view", product="poems", tender=name),
    )


def said(edge: EdgeClient) -> list[str]:
    """Who was told of in the outbox."""
    return [event.interaction.tender for event in events(edge)]


def refused(door: Batches, batch: report_pb2.ReportRequest) -> tuple[str, dict[str, str]]:
    with pytest.raises(CallRefused) as caught:
        door.take(batch)
    return caught.value.reason, caught.value.facts


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.sampled_from(["next", "again", "older", "skip", "copy", "overlap"]),
        min_size=1,
        max_size=12,
    ),
)
def test_each_event_is_taken_once(edge: EdgeClient, seed: int, steps: list[str]) -> None:
    rng = random.Random(seed)
    # An epoch of its own for each example: all of them use one store.
    door, lane = Batches(edge), Lane(secrets.token_bytes(16), rng.randrange(1 << 32))
    sent: list[report_pb2.ReportRequest] = []
    expected: list[str] = []
    for step in steps:
        if step == "next":
            names = [f"{seed}-{lane.next + n}" for n in range(rng.randint(1, 4))]
            frames = [lane.frame(FrameKind.INTERACTION, ANN, did(name)) for name in names]
            sent.append(lane.batch(*frames))
            expected += names
            assert door.take(sent[-1]).received_through == lane.next - 1
        elif step == "again" and sent:
            assert door.take(sent[-1]).received_through == lane.next - 1
        elif step == "older" and len(sent) > 1:
            assert refused(door, sent[0])[0] == "FORKED_EPOCH"
        elif step == "skip":
            ahead = Lane(lane.epoch, lane.number, lane.next + rng.randint(1, 5))
            late = ahead.batch(ahead.frame(FrameKind.INTERACTION, ANN, did("too early")))
            assert refused(door, late) == (
                "SEQUENCE_GAP",
                {"expected": str(lane.next)},
            )
        elif step == "copy" and sent:
            other = Lane(lane.epoch, lane.number, sent[-1].first_sequence)
            copied = other.batch(other.frame(FrameKind.INTERACTION, ANN, did("of a copy")))
            assert refused(door, copied)[0] == "FORKED_EPOCH"
        elif step == "overlap" and sent:
            other = Lane(lane.epoch, lane.number, lane.next - 1)
            both = [other.frame(FrameKind.INTERACTION, ANN, did("over")) for _ in range(2)]
            assert refused(door, other.batch(*both))[0] == "FORKED_EPOCH"
    assert said(edge) == expected


def test_a_batch_that_was_taken_in_part_goes_on(edge: EdgeClient) -> None:
    lane = Lane(b"p" * 16)
    frames = [lane.frame(FrameKind.INTERACTION, ANN, did(str(n))) for n in range(5)]
    whole = lane.batch(*frames)
    door = Batches(edge)
    # As if the process had been killed behind the second event.
    desk, key = edge._current(), f"{GUESTS}{lane.epoch.hex()}:1"
    batches._put(desk, key, whole, batches._steps(whole)[:2])
    assert door.take(whole).received_through == 5
    assert said(edge) == list("01234")


def test_what_was_given_up_must_be_declared(edge: EdgeClient) -> None:
    lane = Lane(b"q" * 16, next=3)
    gone = event_pb2.Event(evicted=event_pb2.Evicted(first_sequence=1, last_sequence=3, events=3))
    first = lane.frame(FrameKind.EVICTED, bytes(16), gone)
    second = lane.frame(FrameKind.INTERACTION, ANN, did("a"))
    lane.next = 9
    third = lane.frame(FrameKind.INTERACTION, ANN, did("b"))
    door = Batches(edge)
    assert refused(door, lane.batch(first, second, third))[0] == "BAD_FRAME"
    assert refused(door, lane.batch(second))[0] == "SEQUENCE_GAP"
    assert door.take(lane.batch(first, second)).received_through == 4
    assert said(edge) == ["a"]
    assert edge.status.counters[batches.GIVEN_UP] == 3


def test_an_event_of_a_kind_of_later_is_passed_on(edge: EdgeClient) -> None:
    lane = Lane(b"r" * 16)
    later = lane.frame(77, ANN, event_pb2.Event(time=event_pb2.EventTime(wall_ms=5)))  # type: ignore[arg-type]
    assert Batches(edge).take(lane.batch(later)).received_through == 1
    assert len(events(edge)) == 1


def test_lanes_are_bounded(edge: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_LANES", 3)
    door = Batches(edge)
    for number in range(5):
        lane = Lane(bytes([number]) * 16)
        door.take(lane.batch(lane.frame(FrameKind.INTERACTION, ANN, did(str(number)))))
    with store_of(edge).read() as connection:
        kept = [key for key in all_meta(connection) if key.startswith(GUESTS)]
    assert len(kept) == 3
    assert f"{GUESTS}{'04' * 16}:1" in kept


def test_a_rescued_store_knows_how_far_lanes_are(edge: EdgeClient, tmp_path: Path) -> None:
    lane = Lane(b"s" * 16)
    Batches(edge).take(lane.batch(lane.frame(FrameKind.INTERACTION, ANN, did("a"))))
    key = f"{GUESTS}{lane.epoch.hex()}:1"
    with store_of(edge).read() as connection:
        before = get_meta(connection, key)
    edge.flush(0)
    with closing(sqlite3.connect(tmp_path / "fresh", isolation_level=None)) as fresh:
        fresh.execute("BEGIN")
        migrate(fresh, 0)
        rescue(tmp_path / "store" / "edge.sqlite", fresh, now_ms())
        assert get_meta(fresh, key) == before is not None
        fresh.execute("COMMIT")
