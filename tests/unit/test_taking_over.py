"""Who takes over the lanes of a process that died knows what that one wrote last."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.clock import DeviceClock
from edge_sdk.outbox import recording
from edge_sdk.runtime.room import Room
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.open_store import OpenStore
from tests.unit.device_town import filled, subject
from tests.unit.test_client_processes import FAST


class Process:
    """What a process holds of a store, without the threads that look by themselves."""

    def __init__(self, path: Path) -> None:
        self.room = Room(FAST, DeviceClock())
        self.open = OpenStore(DeviceStore.open(path), self.room, FAST, lambda: None)
        self.look()

    def look(self) -> None:
        """Take over what is on disk."""
        self.open.look(self.room)

    def imprint(self, name: str) -> None:
        """Customer 1 does something."""
        said = recording.read_interaction(
            "buy", name, product=None, dna={"scent:rose": 1.0}, facts={}, now_ms=1
        )
        entry = recording.interaction(said, subject(1), self.room.clock.stamp(), once=True)
        imprint = recording.stored(entry)
        assert imprint is not None
        self.room.local.imprint(imprint)
        entry.settled = lambda _: self.room.local.imprint_settled(imprint.id, written=True)
        self.open.writer.put_durably(entry, 5)

    def known(self) -> list[str]:
        """What it knows that customer 1 did."""
        return sorted(one.id for one in self.room.local.pending(subject(1)))


def test_what_the_one_before_wrote_last_is_known(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    dies, follows = Process(tmp_path / "store"), Process(tmp_path / "store")
    dies.imprint("first")
    follows.look()
    dies.imprint("last")
    lanes = dies.open.writer.lanes
    dies.open.writer.close(5)  # what it held is free, as after a death
    follows.imprint("own")
    assert follows.open.writer.lanes == lanes
    follows.look()
    assert follows.known() == ["first", "last", "own"]
    follows.imprint("another")
    follows.look()
    assert follows.known() == ["another", "first", "last", "own"]
    follows.open.close(5)
    dies.open.store.close()
