"""A drill that cannot fail is none: what it looks for is found in a log made to have it."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import pytest

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.log.committer import Committer
from genome_server.log.framing import Batch
from tests.drills import server_killed
from tests.drills.__main__ import DRILLS


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_says_what_it_is(name: str) -> None:
    drill = importlib.import_module(f"tests.drills.{name}")
    assert drill.__doc__
    assert callable(drill.play)


def log_of(path: Path, names: list[str]) -> Path:
    frames = b"".join(
        encode_frame(
            Frame(
                n,
                bytes(16),
                FrameKind.INTERACTION,
                1,
                event_pb2.Event(
                    interaction=event_pb2.Interaction(interaction_id=name, kind="view")
                ).SerializeToString(),
            )
        )
        for n, name in enumerate(names, start=1)
    )
    with Committer(path) as log:
        digest = hashlib.sha256(frames).digest()
        log.submit(Batch("till", bytes(16), 1, 1, len(names), frames, digest)).result(10)
    return path


def test_missing_and_repeated_events_are_seen(tmp_path: Path) -> None:
    names = [f"{lane}-{number}" for lane in "ab" for number in range(server_killed.EVENTS)]
    server_killed.check(log_of(tmp_path / "whole", names))
    with pytest.raises(AssertionError, match="missing"):
        server_killed.check(log_of(tmp_path / "short", names[1:]))
    with pytest.raises(AssertionError, match="not once"):
        server_killed.check(log_of(tmp_path / "twice", [*names, names[0]]))
