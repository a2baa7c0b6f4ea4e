"""The writer begins a moment after the first decision; where it cannot, all else goes on."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeClient, Reason, StoreError
from edge_sdk._posix import FileLock
from tests.unit.device_client import FAST, MOMENT, decisions_in, events
from tests.unit.device_town import Town, filled, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    filled(tmp_path / "store", Town())
    return tmp_path / "store"


@pytest.fixture
def no_lanes(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No lanes can be taken while it is set."""
    broken, acquire = threading.Event(), FileLock.try_acquire

    def try_acquire(path: Path, *args: Any) -> FileLock | None:
        if broken.is_set() and path.name.startswith("lanes-"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return acquire(path, *args)

    monkeypatch.setattr(FileLock, "try_acquire", try_acquire)
    broken.set()
    yield broken
    broken.clear()


def test_what_came_first_is_written_however_soon_it_ends(path: Path) -> None:
    for _ in range(3):
        edge = EdgeClient(path)
        assert edge.wait_ready(10)
        decision = edge.decide(MOMENT, "lobby")
        edge.close()
        assert decision.id in decisions_in(path)


def test_who_cannot_write_decides_and_is_ready(
    path: Path, no_lanes: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    edge = EdgeClient(path, config=FAST)
    changed = threading.Event()
    edge.on_change(changed.set)
    edge.decide(MOMENT, "lobby")  # before the store is open
    with caplog.at_level(logging.WARNING):
        assert edge.wait_ready(10)
        assert changed.wait(10)
        assert edge.decide(MOMENT, "lobby").reason is Reason.CHOSEN
        assert until(lambda: edge.status.cause is not None)
        time.sleep(0.2)
        assert edge.status.cause is not None
    assert len([one for one in caplog.records if "lanes-0" in one.message]) == 1, "said once"
    with pytest.raises(StoreError, match="lanes-0"):
        edge.decide(MOMENT, "lobby", durable=True)
    keeper = edge._keeper
    open_ = keeper.open
    assert open_ is not None
    assert not keeper.close(1.0), "not everything was written"
    with pytest.raises(StoreError, match="was closed"), open_.store.read():
        pass
    edge.close()


def test_what_was_too_much_meanwhile_is_declared(path: Path, no_lanes: threading.Event) -> None:
    with EdgeClient(path, config=replace(FAST, inbox_max_events=100)) as edge:
        assert edge.wait_ready(10)
        for _ in range(80):
            edge.decide(MOMENT, "lobby")
        time.sleep(0.2)  # it is tried again and again
        assert edge.status.cause is not None
        no_lanes.clear()
        assert until(lambda: edge.status.cause is None)
        found = events(edge)
    gaps = [one.evicted for one in found if one.HasField("evicted")]
    assert len(found) - len(gaps) == 50
    assert sum(gap.last_sequence - gap.first_sequence + 1 for gap in gaps) == 30


def test_what_came_before_the_writer_stays_before_what_comes_after(path: Path) -> None:
    edge = EdgeClient(path, config=FAST)
    assert edge.wait_ready(10)
    keeper = edge._keeper
    assert until(lambda: keeper._writer is not None)
    keeper._writer = None  # as a moment ago
    with keeper.gate:  # the keeper's thread is elsewhere
        first = edge.decide(MOMENT, "lobby")
        assert edge.status.outbox == 1  # whoever looks brings the writer, not what was handed over
        second = edge.decide(MOMENT, "lobby")
        made = [one.decision.decision_id.hex() for one in events(edge) if one.HasField("decision")]
    assert made == [first.id, second.id]
    edge.close()
