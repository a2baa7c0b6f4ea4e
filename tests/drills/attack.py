"""A bad server, or whoever sits on the line, gets nothing believed that it should not.

Each round is one variant of one named attack on a real device: its store, its threads, a real
socket. It must refuse with the reason of that attack (or, where it is only kept in the dark, say
that it grows stale), keep its last good release and decide from it, keep its stops, and take no
more memory and disk than its limits say.
"""

from __future__ import annotations

import logging
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from edge_sdk import Config, Context, EdgeClient
from edge_sdk.store.device import DeviceStore
from edge_sdk.testing import (
    SimulatedClock,
    SimulatedHouse,
    SimulatedNetwork,
    SimulatedServer,
    serve,
)
from genome_edge.v1 import sync_pb2
from tests.drills.attacks import ATTACKS, BUS, ENDLESS, HOUR_MS, TAXI, Attack, World
from tests.drills.findings import Findings

VARIANTS: Final = 20
SHORT: Final = 22
UNIT: Final = "attacks"

_CONFIG: Final = Config(
    reconnect_min_s=0.05, reconnect_max_s=0.2, heartbeat_s=0.2, watch_s=0.05, stream_silence_s=5.0
)
_TIMEOUT_S: Final = 8.0
_MEMORY: Final = 96 << 20
_DISK: Final = 4 << 20
LONG: Final = VARIANTS * len(ATTACKS)


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Play the rounds; round k is variant k // len(ATTACKS) of attack k % len(ATTACKS)."""
    findings, tried, told = Findings(), Counter[str](), Counter[str]()
    clock = SimulatedClock(time.time_ns() // 1_000_000)
    start = clock.ms
    with ExitStack() as stack:
        # A device warns of each refusal; thousands of them would hide what is found.
        logger = logging.getLogger("edge_sdk")
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        house = stack.enter_context(serve(_history(seed, clock)))
        trusted = folder / "trusted"
        _bring_up(house, trusted)
        for number in range(first, first + rounds):
            attack = ATTACKS[number % len(ATTACKS)]
            clock.ms = start
            drawn = random.Random(f"{seed}:{number}")
            world = World(_history(seed, clock), clock, drawn)
            device = folder / f"device-{number}"
            shutil.copytree(trusted, device)
            wrong = _round(house, world, attack, device)
            shutil.rmtree(device, ignore_errors=True)
            tried[attack.__name__] += 1
            told.update(house.nacks[-1:])
            if wrong:
                findings.fail(number, f"{attack.__name__}: {wrong}")
            findings.tried += 1
            progress(findings.tried)
    findings.note(", ".join(f"{name} {count}" for name, count in sorted(tried.items())))
    findings.note("last refused for " + ", ".join(f"{n} {c}" for n, c in told.most_common()))
    return findings


def _history(seed: int, clock: SimulatedClock) -> SimulatedServer:
    """The same each time: two releases, a rotation, two stop lists, some timestamps."""
    server = SimulatedServer("town", seed=seed, now_ms=clock.now_ms)
    server.publish([TAXI], life_ms=2 * HOUR_MS)
    server.pause("ghost")
    server.rotate("release")
    server.publish([TAXI, BUS], life_ms=2 * HOUR_MS)
    server.pause("bus")
    server.stamp()
    server.stamp()
    return server


def _bring_up(house: SimulatedHouse, path: Path) -> None:
    """A device that has and trusts all of it."""
    house.enrol(path)
    client = EdgeClient(path, config=_CONFIG)
    try:
        assert _until(lambda: client.status.release == 2 and len(house.nacks) == 0), client.status
        assert _until(lambda: _stops(path) == {"ghost", "bus"}), "the device takes the stop list"
    finally:
        client.close()


def _round(house: SimulatedHouse, world: World, attack: Attack, path: Path) -> str:
    """Play one; what did not hold, or nothing."""
    house.server, house.network = world.server, SimulatedNetwork()
    house.said.clear()
    memory, disk = _memory(), _disk(path)
    attack(world)
    if world.then is None:
        house.network = world.network
    client = EdgeClient(path, config=_CONFIG)
    try:
        if world.then is not None:
            versions = len(world.server.roots)
            if not _until(lambda: any(_root_version(one) == versions for one in house.said)):
                return f"the device never took root {versions}"
            world.then()
        if world.reasons and not _until(
            lambda: (
                set(house.nacks) & set(world.reasons) or (world.good and client.status.release == 3)
            )
        ):
            return f"refused for {house.nacks or 'nothing'}, not for {world.reasons}"
        if world.stale and not _until(lambda: client.status.tier == "stale"):
            return f"the device thinks that it is {client.status.tier}"
        if not world.reasons and not world.stale:
            time.sleep(1.0)
        if world.carried:
            _until(lambda: _stands_still(world))
        return _held(client, path, {2, 3} if world.good else {2}) or _bounds(
            world, path, memory, disk
        )
    finally:
        client.close()


def _held(client: EdgeClient, path: Path, releases: set[int]) -> str:
    """What is wrong with the device after an attack."""
    if not client.wait_ready(_TIMEOUT_S):
        return f"not ready: {client.status}"
    if client.status.release not in releases:
        return f"release {client.status.release} is active"
    decision = client.decide(Context(), "any")
    if decision.offer is None or decision.offer.id in ("bus", "ghost"):
        return f"it decides {decision.offer} because of {decision.reason}"
    if not _stops(path) >= {"ghost", "bus"}:
        return f"it has forgotten a stop: {_stops(path)}"
    return ""


def _bounds(world: World, path: Path, memory: int, disk: int) -> str:
    if world.carried >= ENDLESS:
        return "it listens without an end"
    if _memory() - memory > _MEMORY:
        return f"{(_memory() - memory) >> 20} MiB of memory"
    if _disk(path) - disk > _DISK:
        return f"{(_disk(path) - disk) >> 20} MiB of disk"
    return ""


def _stands_still(world: World) -> bool:
    before = world.carried
    time.sleep(0.3)
    return world.carried == before


def _root_version(message: sync_pb2.SyncRequest) -> int:
    return message.heartbeat.root_version or message.hello.root_version


def _stops(path: Path) -> frozenset[str]:
    store = DeviceStore.open(path)
    try:
        return store.standing().stopped
    finally:
        store.close()


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _disk(path: Path) -> int:
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _until(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
