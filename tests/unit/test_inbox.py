"""What waits for the disk in memory is bounded, whatever it is."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import StoreError
from edge_sdk.outbox.frames import FrameKind
from tests.unit.device_desk import FAST, Desk, drain, entry


def test_not_even_what_must_be_kept_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    desk = Desk(tmp_path / "store", replace(FAST, inbox_max_events=20))
    write = desk.store.write

    def hangs() -> Any:
        stuck.wait(30)
        return write()

    monkeypatch.setattr(desk.store, "write", hangs)
    for i in range(200):
        desk.say(f"{i}", FrameKind.CONSENT)
        assert desk.writer.waiting() <= 40
    with pytest.raises(StoreError, match="free some room"):
        desk.writer.put_durably(entry("ride"), 5)
    stuck.set()
    assert desk.writer.flush(10)
    assert len([f for f in drain(desk.outbox) if f.kind == FrameKind.CONSENT]) == 40
    assert desk.store.losses() == {"INBOX_FULL": 160}
    desk.close()
