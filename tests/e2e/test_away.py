"""Devices that were switched off for two months, with a real server that is two months on."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk import Context, EdgeClient
from edge_sdk.decision import Tier
from tests.e2e.house import House, until

DAY_MS = 86_400_000
AT_THE_HOTEL = Context(place="hotel", activity="flight-search", channel="kiosk")
SHIFT = """
import os, time
_by_ns = int(os.environ.get("SHIFT_MS", "0")) * 1_000_000
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _by_ns / 1e9
time.time_ns = lambda: _time_ns() + _by_ns
"""


@dataclass
class Later(House):
    """A house whose server lives at another time than the devices' clocks say."""

    shift_ms: int = 0

    def environment(self) -> dict[str, str]:
        folder = self.root / "shift"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(SHIFT)
        shift = {"PYTHONPATH": str(folder), "SHIFT_MS": str(self.shift_ms)}
        return {**super().environment(), **shift}


def test_a_device_comes_back_after_two_months_without_a_visit(house: House) -> None:
    """Its release has expired, every key was replaced, its clock is ten years ahead."""
    house.start()
    store = house.enrol("kiosk")
    with EdgeClient(store, house.address) as edge:
        assert edge.wait_ready(20)
        until(lambda: edge.status.release == 1 and edge.status.connected, what="current")
        edge.flush(5)
    house.kill()
    with EdgeClient(store) as edge:
        assert edge.wait_ready(20)
        edge.decide(AT_THE_HOTEL, "lobby-screen")
        assert edge.status.outbox > 0

    later = Later(house.root, house.port, shift_ms=60 * DAY_MS - 3_650 * DAY_MS)
    try:
        for role in ("timestamp", "root", "release", "timestamp"):
            later.server("keys", "rotate", role)
        assert later.server_json("publish")["version"] == 2
        later.server("offers", "pause", "taxi-to-airport")
        later.start()
        with EdgeClient(store, later.address) as edge:
            assert edge.wait_ready(20)
            until(lambda: edge.status.release == 2, 30, "the new release")
            until(lambda: edge.status.tier is Tier.FRESH, 10, "fresh")
            until(lambda: edge.status.outbox == 0, 10, "what happened meanwhile is reported")
            until(lambda: edge.status.cause is None, 10, "all is well")
            shown = edge.decide(AT_THE_HOTEL, "lobby-screen").offer
            assert shown is None or shown.id != "taxi-to-airport"
    finally:
        later.kill()
