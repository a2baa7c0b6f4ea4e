"""The time on a device whose wall clock does what it likes."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.clock import LATEST_MS, Anchor, Clocks, DeviceClock

BOOT = bytes(range(16))
NOW = 1_700_000_000_000
YEAR = 365 * 86_400_000


@dataclass
class Machine:
    wall: int = NOW
    passed: int = 5_000
    boot: bytes = BOOT

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.passed, self.boot)

    def clock(self) -> DeviceClock:
        return DeviceClock(*self.clocks())


jumps = st.integers(-10 * YEAR, 10 * YEAR)
spans = st.integers(0, 90 * 86_400_000)


@given(st.integers(NOW - YEAR, NOW + YEAR), st.lists(st.tuples(jumps, spans), max_size=5))
def test_while_the_boot_lasts_the_wall_makes_no_difference(
    server_ms: int, story: list[tuple[int, int]]
) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.hear(server_ms - machine.wall, 0, Anchor.now(server_ms, machine.clocks()))
    assert clock.anchored
    for jump, passed in story:
        machine.wall += jump + passed
        machine.passed += passed
        server_ms += passed
        assert clock.now_ms() == server_ms
        stamp = clock.stamp()
        assert (stamp.server_ms, stamp.monotonic_ms) == (server_ms, machine.passed)
        assert clock.off_ms() == server_ms - machine.wall


@given(jumps, spans, st.integers(0, NOW + 20 * YEAR))
def test_after_a_reboot_the_wall_is_corrected_and_never_before_what_has_passed(
    offset_ms: int, passed: int, floor_ms: int
) -> None:
    machine = Machine()
    anchor = Anchor.now(NOW + offset_ms, machine.clocks())
    machine.boot, machine.passed = bytes(16)[:15] + b"x", 0
    machine.wall += passed
    clock = machine.clock()
    clock.hear(offset_ms, floor_ms, anchor)
    assert not clock.anchored
    assert clock.now_ms() == min(max(NOW + offset_ms + passed, floor_ms, 0), LATEST_MS)
    assert clock.off_ms() == offset_ms


def test_an_anchor_is_kept_and_what_is_none_is_none() -> None:
    anchor = Anchor(NOW, BOOT, 7)
    assert Anchor.unpack(anchor.pack()) == anchor
    for damaged in (None, b"", BOOT, BOOT + b"1", BOOT + b"x y"):
        assert Anchor.unpack(damaged) is None


def test_a_machine_without_names_for_its_boots_knows_no_anchor() -> None:
    machine = Machine(boot=bytes(16))
    assert Anchor.now(NOW, machine.clocks()) is None
    assert Anchor.now(NOW, Clocks(lambda: NOW, None)) is None
