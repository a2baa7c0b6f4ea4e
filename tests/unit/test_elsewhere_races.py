"""What customers did elsewhere is right whoever reads, decides and puts right at the same time."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from edge_sdk import EdgeClient
from edge_sdk.engine.caps import CapLedger, CapRow
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.elsewhere import Elsewhere
from edge_sdk.store.open_store import OpenStore
from edge_sdk.store.state import keep_elsewhere
from tests.unit.device_client import FAST
from tests.unit.device_town import Town, filled, subject, until
from tests.unit.test_elsewhere import heard
from tests.unit.test_elsewhere_read import ANNA, HOUR, Told, away, rules

HOURLY: dict[str, Any] = {"id": "taxi", "value": 9.0, "caps": [{"limit": 1, "window_hours": 1}]}


def opened(edge: EdgeClient) -> OpenStore:
    """Its store, once it is open."""
    return cast(OpenStore, until(lambda: edge._keeper.open))


def test_what_one_process_puts_right_is_right_in_the_others(tmp_path: Path) -> None:
    path = tmp_path / "store"
    town = filled(path, Town(offers=(HOURLY,)))
    with EdgeClient(path, config=FAST) as one, EdgeClient(path, config=FAST) as two:
        assert one.wait_ready(10)
        assert two.wait_ready(10)
        held = [(edge._desk.room, opened(edge)) for edge in (one, two)]
        now = held[0][0].clock.now_ms()
        heard(path, town, away(subject(1), b"1", at_ms=now + 900 * HOUR))
        for room, _ in held:
            until(partial(room.ledger.blocked, subject(1), now + 2 * HOUR))
        held[0][1].store.heard_server(now)
        for room, open_ in held:
            until(partial(getattr, room.clock, "anchored"))
            open_.keep_house(room)
        for room, _ in held:
            assert not room.ledger.blocked(subject(1), now + 2 * HOUR)


def test_who_is_read_by_another_thread_meanwhile_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stops = {"stop_after": {"dismiss": True}}
    ledger = CapLedger(rules({"id": "taxi", **stops}, {"id": "train", **stops}))
    ledger.draw_on(Told(CapRow(ANNA, "taxi", "dismiss", 5, b"1", elsewhere=True)))
    plain = CapLedger._blocking
    others: list[threading.Thread] = []

    def beside(self: CapLedger, *asked: Any) -> Any:
        found = plain(self, *asked)
        if not others:
            others.append(threading.Thread(target=ledger.blocking, args=(ANNA, 6)))
            others[0].start()
            others[0].join()
        return found

    monkeypatch.setattr(CapLedger, "_blocking", beside)
    assert ledger.blocking(ANNA, 6).offers == {"taxi"}


def test_reading_makes_no_file_and_takes_no_log_away(tmp_path: Path) -> None:
    store = DeviceStore.open(tmp_path / "store")
    with store.write() as connection:
        keep_elsewhere(connection, [away(ANNA, b"1")])
    path = store.database.path
    log = path.with_name(f"{path.name}-wal")
    size = log.stat().st_size
    path.rename(path.with_name("aside"))  # another process begins to move it aside
    assert Elsewhere(path)(ANNA) is None
    assert not path.exists()
    assert log.stat().st_size == size > 0
    store.close()
