"""A device's store with something of everything in it, and what can be seen in one."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from edge_sdk import Config, Context, EdgeClient
from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.errors import EdgeError
from edge_sdk.outbox.frames import Frame, iter_frames
from edge_sdk.outbox.lanes import assemble
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.segments import read_segments
from edge_sdk.sync.installing import read_parts
from genome_edge.v1 import event_pb2

BUNDLE: Final = Path(__file__).parents[2] / "examples" / "town.bundle"
PLACEMENT: Final = "lobby-screen"
MOMENT: Final = Context(place="hotel", activity="flight-search")
CUSTOMERS: Final = 40
QUICK: Final = Config(group_commit_s=0.001)


def subject(number: int) -> bytes:
    """Some customer's."""
    return random.Random(f"subject {number}").randbytes(16)


def rows(generation: int) -> list[Row]:
    """The genomes of all customers; a generation is known by its strengths."""
    made = []
    for number in range(CUSTOMERS):
        rng = random.Random(number)
        indices = sorted(rng.sample(range(40), 12))
        codes = np.full(12, 60 + generation % 60, np.uint8)
        made.append(Row(subject(number), 0b1110, 10, np.array(indices, np.uint32), codes))
    return made


def put_genomes(
    store: DeviceStore,
    generation: int,
    *,
    full: bool,
    only: int = CUSTOMERS,
    lookup: tuple[bytes, bytes, bytes] | None = None,
) -> None:
    """Bring a generation of genomes (of the first `only` customers), as a sync does; with `lookup`
    also a key, hashes and subjects."""
    active = store.active_release()
    assert active is not None
    lineage = active.manifest.lineage
    store.commit_genomes(
        full=full,
        lineage=lineage,
        blocks=[block_from_rows(lineage, rows(generation)[:only])],
        cursor=b"%d" % generation,
        lookup_key=b"" if lookup is None else lookup[0],
        lookups=[] if lookup is None else [lookup[1:]],
    )


@dataclass
class Seen:
    """What is in a store. Each trouble that it told of is in `said`."""

    said: list[str] = field(default_factory=list)
    events: set[str] = field(default_factory=set)
    frames: int = 0
    declared: int = 0
    redeemed: set[bytes] = field(default_factory=set)
    release: int = 0
    highest: int = 0
    #: Generations among the genomes; more than one: they are mixed.
    generations: set[int] = field(default_factory=set)
    genomes: int = 0
    cursor: int = 0


def look(folder: Path) -> Seen:
    """Open a store as a client does, and take down everything that matters.

    What it raises or tells is in `said`; it never raises.
    """
    seen = Seen()
    try:
        store = DeviceStore.open(folder)
    except EdgeError as error:
        seen.said.append(f"{type(error).__name__}: {error}")
        return seen
    with closing(store):
        for step in (_look_at_events, _look_at_release, _look_at_genomes):
            try:
                step(store, seen)
            except EdgeError as error:
                seen.said.append(f"{type(error).__name__}: {error}")
        if store.incident is not None:
            seen.said.append(str(store.incident))
    return seen


def _look_at_events(store: DeviceStore, seen: Seen) -> None:
    with store.read() as connection:
        marks = connection.execute("SELECT lane, received, next FROM lanes").fetchall()
        for lane, received, due in marks:
            if received + 1 == due:
                continue
            segments = read_segments(connection, lane, received + 1)
            for frame in iter_frames(assemble(segments, received + 1, due - 1)):
                _take_down(frame, seen)
        seen.redeemed = {row[0] for row in connection.execute("SELECT decision FROM redemptions")}


def _take_down(frame: Frame, seen: Seen) -> None:
    seen.frames += 1
    event = event_pb2.Event.FromString(frame.body)
    match event.WhichOneof("payload"):
        case "outcome":
            seen.events.add(event.outcome.event_id)
        case "interaction":
            seen.events.add(event.interaction.interaction_id)
        case "decision":
            seen.events.add(event.decision.decision_id.hex())
        case "evicted":
            seen.declared += 1


def _look_at_release(store: DeviceStore, seen: Seen) -> None:
    seen.highest = store.highest_seen()
    active = store.active_release()
    if active is not None:
        read_parts(store.read_part, active.manifest)
        seen.release = active.version


def _look_at_genomes(store: DeviceStore, seen: Seen) -> None:
    view = store.genomes()
    seen.genomes = view.count
    seen.cursor = int(store.genome_cursor() or b"0")
    for row in view.rows():
        seen.generations.add(int(row.codes[0]) - 60)


def client(folder: Path) -> EdgeClient:
    """An open client on a store, with the town's release."""
    edge = EdgeClient(folder, bundle=BUNDLE, config=QUICK)
    assert edge.wait_ready(30), edge.status
    return edge
