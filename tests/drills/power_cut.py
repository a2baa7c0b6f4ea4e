"""The power is cut at any moment: what was acknowledged is there, and nothing is half there.

A device's store and a server's log are written to, and a store and a server's home of the first
version are upgraded, while everything that reaches the disk is recorded (`tape`). Each round then
takes a moment of the recording, makes one of the disks that a power cut at that moment can leave
(what was not synced is dropped, torn or reordered), opens it and looks: events, redemptions,
releases and genomes that were acknowledged before that moment are there, genomes are of one
generation, and nothing needs a rescue; after an upgrade that was cut, all is there that was before.
"""

from __future__ import annotations

import collections
import hashlib
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from edge_sdk.store.device import DeviceStore
from genome_edge.v1 import event_pb2
from genome_server.log import Committer, LogReader, verify_log
from genome_server.log.framing import Batch
from tests.drills import stores, upgrades
from tests.drills.findings import Findings
from tests.drills.tape import Disk, Op, Tape, recording

SHORT: Final = 60
LONG: Final = 2_000
UNIT: Final = "disks"

_EPOCH: Final = bytes(16)


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Record once, then cut in each round."""
    found, seen = Findings(), collections.Counter[str]()
    tapes = {
        "store": record_store(folder / "store", seed),
        "log": record_log(folder / "log", seed),
        "old store": upgrades.record("store", folder / "old-store"),
        "old home": upgrades.record("home", folder / "old-home"),
    }
    checks: dict[str, Callable[[Path, list[Any]], list[str]]] = {
        "store": check_store,
        "log": check_log,
        "old store": partial(upgrades.check, "store"),
        "old home": partial(upgrades.check, "home"),
    }
    found.note(", ".join(f"{name}: {len(tape[1].ops)} operations" for name, tape in tapes.items()))
    for number in range(first, first + rounds):
        rng = random.Random(f"{seed}:{number}")
        name = rng.choice(["store", "store", "store", "log", "log", "old store", "old home"])
        begin, tape = tapes[name]
        at = rng.randrange(len(tape.ops) + 1)
        target = folder / f"cut-{number}"
        marks = cut(begin, tape.ops[:at], rng, target)
        for problem in checks[name](target, marks):
            found.fail(number, f"{name} cut before operation {at}: {problem}")
        seen[name] += 1
        shutil.rmtree(target)
        found.tried += 1
        progress(number - first + 1)
    found.note(f"disks: {dict(seen)}")
    return found


def cut(begin: Path, ops: list[Op], rng: random.Random, target: Path) -> list[Any]:
    """Make the disk of a power cut behind `ops`; what had been acknowledged by then."""
    disk, marks = Disk.of(begin), []
    for op in ops:
        if op.what == "mark":
            marks.append(op.data)
        else:
            disk.play(op)
    target.mkdir()
    disk.cut(rng, target)
    return marks


# A device's store ----------------------------------------------------------------------------


def record_store(folder: Path, seed: int) -> tuple[Path, Tape]:
    """Use a store; the folder as it was before, and the tape."""
    live, begin = folder / "live", folder / "begin"
    with stores.client(live) as edge:
        edge.decide(stores.MOMENT, stores.PLACEMENT)
    shutil.copytree(live, begin)
    rng = random.Random(f"{seed}: store")
    with (
        recording(live) as tape,
        stores.client(live) as edge,
        closing(DeviceStore.open(live)) as other,
    ):
        for number in range(60):
            decision = edge.decide(stores.MOMENT, stores.PLACEMENT)
            event = edge.report(decision, "view", durable=True)
            tape.mark(("event", event))
            if rng.random() < 0.3 and edge.redeem(decision).granted:
                tape.mark(("redeemed", bytes.fromhex(decision.id)))
            if rng.random() < 0.3:
                whole = other.genome_lineage() is None or rng.random() < 0.5
                stores.put_genomes(other, number, full=whole)
                tape.mark(("genomes", number))
            if rng.random() < 0.2:
                digest = hashlib.sha256(b"%d" % number).digest()
                other.raise_highest_seen(100 + number, digest)
                tape.mark(("highest", 100 + number))
            if rng.random() < 0.1:
                other.database.truncate_log()
    return begin, tape


def check_store(folder: Path, marks: list[Any]) -> list[str]:
    """What is not as it must be in a device's store."""
    seen = stores.look(folder)
    problems = [f"trouble: {said}" for said in seen.said]
    wanted = collections.defaultdict(list)
    for what, value in marks:
        wanted[what].append(value)
    missing = set(wanted["event"]) - seen.events
    if missing:
        problems.append(f"{len(missing)} acknowledged events are gone")
    if not set(wanted["redeemed"]) <= seen.redeemed:
        problems.append("an acknowledged redemption is gone")
    if seen.release < 1:
        problems.append("the release is gone")
    if wanted["highest"] and seen.highest < max(wanted["highest"]):
        problems.append(f"highest seen is {seen.highest}, was {max(wanted['highest'])}")
    if len(seen.generations) > 1:
        problems.append(f"genomes of generations {sorted(seen.generations)} are mixed")
    if wanted["genomes"]:
        if seen.cursor < wanted["genomes"][-1]:
            problems.append(f"the genomes' cursor is {seen.cursor}")
        if seen.generations != {seen.cursor} or seen.genomes != stores.CUSTOMERS:
            problems.append(f"{seen.genomes} genomes of {seen.generations} under {seen.cursor}")
    return problems


# A server's log ------------------------------------------------------------------------------


def record_log(folder: Path, seed: int) -> tuple[Path, Tape]:
    """Write to a log from several lanes; the folder as it was before, and the tape."""
    live, begin = folder / "live", folder / "begin"
    live.mkdir(parents=True)
    begin.mkdir()
    rng = random.Random(f"{seed}: log")
    with recording(live) as tape, Committer(live / "log.sqlite") as log:
        due = dict.fromkeys(range(4), 1)
        for _ in range(80):
            lane = rng.randrange(4)
            batch = make_batch(lane, due[lane], rng.randrange(1, 40))
            due[lane] = batch.last + 1
            log.submit(batch).result(30)
            tape.mark((lane, batch.last))
    return begin, tape


def make_batch(lane: int, first: int, count: int) -> Batch:
    """Some events."""
    frames = b"".join(
        encode_frame(
            Frame(
                sequence,
                bytes(16),
                FrameKind.INTERACTION,
                sequence,
                event_pb2.Event(
                    interaction=event_pb2.Interaction(interaction_id=f"{lane}-{sequence}")
                ).SerializeToString(),
            )
        )
        for sequence in range(first, first + count)
    )
    digest = hashlib.sha256(frames).digest()
    return Batch("till", _EPOCH, lane, first, first + count - 1, frames, digest)


def check_log(folder: Path, marks: list[Any]) -> list[str]:
    """What is not as it must be in a log."""
    path = folder / "log.sqlite"
    if not path.exists():
        return ["the log is gone"] if marks else []
    with Committer(path):  # as a server that starts again
        pass
    problems = []
    verdict = verify_log(path)
    if not verdict.whole:
        problems.append(f"the log does not verify: {verdict}")
    with LogReader(path) as log:
        for lane, last in dict(marks).items():  # the last mark of each lane
            if log.through("till", _EPOCH, lane) < last:
                problems.append(f"lane {lane} ends at {log.through('till', _EPOCH, lane)}")
    return problems
