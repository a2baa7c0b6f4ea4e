"""The server is killed again and again while a device reports: every event is there exactly once.

Two clients of one device, so two writing lanes, say what customers did. The server gets SIGKILL at
moments of chance and is started again. In the end the log must hold each interaction once.
"""

from __future__ import annotations

import collections
import random
import threading
import time
from pathlib import Path

from edge_sdk import Config, EdgeClient
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.log import LogReader
from tests.e2e.house import House, until
from tests.serving import make_home, publish_release

CUSTOMERS = ["ann", "bob", "eve"]
EVENTS = 400
KILLS = 3
QUICK = Config(reconnect_min_s=0.05, reconnect_max_s=0.5, batch_events=20)


def say(edge: EdgeClient, lane: str, rng: random.Random) -> None:
    """Say what happened, in a few seconds."""
    for number in range(EVENTS):
        edge.imprint(
            rng.choice(CUSTOMERS), "view", product="soap", interaction_id=f"{lane}-{number}"
        )
        time.sleep(rng.uniform(0.0, 0.02))


def play(folder: Path, rng: random.Random) -> None:
    """One round. Raises AssertionError where an event is missing or there twice."""
    house = House(folder)
    tenant = make_home(house.home, CUSTOMERS).tenant("default")
    publish_release(tenant)
    house.start()
    try:
        store = house.enrol("till", audience="all")
        with EdgeClient(store, config=QUICK) as one, EdgeClient(store, config=QUICK) as other:
            until(lambda: one.status.genomes and other.status.genomes, what="genomes")
            talkers = [
                threading.Thread(target=say, args=(edge, lane, random.Random(rng.random())))
                for edge, lane in ((one, "a"), (other, "b"))
            ]
            for talker in talkers:
                talker.start()
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.2, 1.5))
                house.kill()
                time.sleep(rng.uniform(0.0, 0.3))
                house.start()
            for talker in talkers:
                talker.join()
            until(lambda: one.flush(1.0) + other.flush(1.0) == 0, 60, "outbox drained")
    finally:
        house.kill()
    check(tenant.log_path)


def check(log_path: Path) -> None:
    """Every interaction is in the log once."""
    with LogReader(log_path) as log:
        found = collections.Counter(
            event_pb2.Event.FromString(frame.body).interaction.interaction_id
            for frame in log.frames()
            if frame.kind == FrameKind.INTERACTION
        )
    wanted = {f"{lane}-{number}" for lane in "ab" for number in range(EVENTS)}
    missing, twice = wanted - found.keys(), [name for name, n in found.items() if n != 1]
    assert not missing, f"missing: {sorted(missing)[:5]} … {len(missing)}"
    assert not twice, f"not once: {twice[:5]} … {len(twice)}"
