"""A write-ahead log ends at any byte: what was committed before it is there, nothing is torn.

A device's store and a server's log are written to until their write-ahead logs are long; after each
acknowledgement the length is noted. Each round copies the files, cuts the write-ahead log at one
byte, opens them as their owners do, and compares with what had been acknowledged at that length.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from genome_server.log import Committer, LogReader, verify_log
from tests.drills import stores
from tests.drills.findings import Findings
from tests.drills.power_cut import make_batch

SHORT: Final = 400
LONG: Final = 20_050  # 20,000 different ones
UNIT: Final = "offsets"
_EPOCH: Final = bytes(16)
_GOLDEN: Final = 0.618
_FAR: Final = 7_919  # another seed begins elsewhere


class Written(NamedTuple):
    """Files while their owner still had them open, and what was acknowledged at which length."""

    folder: Path
    log: Path
    length: int
    marks: list[tuple[int, Any]]


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Half of the rounds on each; no offset of a log comes twice before each has come once."""
    found, tried = Findings(), set[tuple[str, int]]()
    written = {"store": write_store(folder / "store"), "log": write_log(folder / "log", seed)}
    found.note(", ".join(f"{name}: {one.length} bytes" for name, one in written.items()))
    for number in range(first, first + rounds):
        name = ("store", "log")[number % 2]
        one = written[name]
        at = offset(one, number // 2, seed)
        tried.add((name, at))
        target = folder / "cut"
        copy(one, target, at)
        acknowledged = [what for length, what in one.marks if length <= at]
        for problem in (check_store if name == "store" else check_log)(target, acknowledged):
            found.fail(number, f"{name} cut at {at} of {one.length}: {problem}")
        shutil.rmtree(target)
        found.tried += 1
        progress(number - first + 1)
    found.note(f"{len(tried)} different offsets")
    return found


def offset(one: Written, number: int, seed: int) -> int:
    """Where to cut: first around where frames and transactions end, where mistakes are; then
    everywhere, in steps that come to every byte once."""
    ends = {edge + by for edge, _ in one.marks for by in (-1, 0, 1)}
    edges = sorted(at for at in ends if 0 <= at <= one.length)
    if number < len(edges):
        return edges[number]
    count = one.length + 1
    step = next(n for n in itertools.count(int(count * _GOLDEN)) if math.gcd(n, count) == 1)
    return (seed * _FAR + number * step) % count


def copy(one: Written, target: Path, at: int) -> None:
    """The files with a shorter write-ahead log. What is never written to is linked."""
    target.mkdir()
    for path in one.folder.rglob("*"):
        name = target / path.relative_to(one.folder)
        if path.is_dir():
            name.mkdir(parents=True, exist_ok=True)
        elif path == one.log:
            name.write_bytes(path.read_bytes()[:at])
        elif "sqlite" in path.name or "lock" in str(path):
            if not path.name.endswith("-shm"):
                shutil.copy2(path, name)
        else:
            name.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, name)


def write_store(folder: Path) -> Written:
    """A device's store, copied while it is open."""
    live, kept = folder / "live", folder / "kept"
    marks: list[tuple[int, Any]] = []
    with stores.client(live) as edge:
        log = next(live.rglob("*-wal"))
        for _ in range(25):
            decision = edge.decide(stores.MOMENT, stores.PLACEMENT)
            event = edge.report(decision, "view", durable=True)
            marks.append((log.stat().st_size, event))
        edge.flush(0.1)
        shutil.copytree(live, kept)
    copied = kept / log.relative_to(live)
    return Written(kept, copied, copied.stat().st_size, marks)


def write_log(folder: Path, seed: int) -> Written:
    """A server's log, copied while it is open."""
    live, kept = folder / "live", folder / "kept"
    live.mkdir(parents=True)
    marks: list[tuple[int, Any]] = []
    with Committer(live / "log.sqlite") as log:
        for lane, first, count in _batches(seed):
            log.submit(make_batch(lane, first, count)).result(30)
            marks.append(((live / "log.sqlite-wal").stat().st_size, (lane, first + count - 1)))
        shutil.copytree(live, kept)
    copied = kept / "log.sqlite-wal"
    return Written(kept, copied, copied.stat().st_size, marks)


def _batches(seed: int) -> Iterator[tuple[int, int, int]]:
    rng = random.Random(f"{seed}: log")
    due = dict.fromkeys(range(4), 1)
    for _ in range(30):
        lane, count = rng.randrange(4), rng.randrange(1, 30)
        yield lane, due[lane], count
        due[lane] += count


def check_store(folder: Path, acknowledged: list[Any]) -> list[str]:
    """What is not as it must be in a device's store."""
    seen = stores.look(folder)
    problems = [f"trouble: {said}" for said in seen.said]
    missing = set(acknowledged) - seen.events
    if missing:
        problems.append(f"{len(missing)} of {len(acknowledged)} acknowledged events are gone")
    if acknowledged and seen.release < 1:
        problems.append("the release is gone")
    return problems


def check_log(folder: Path, acknowledged: list[Any]) -> list[str]:
    """What is not as it must be in a log."""
    path = folder / "log.sqlite"
    with Committer(path):  # as a server that starts again
        pass
    verdict = verify_log(path)
    problems = [] if verdict.whole else [f"the log does not verify: {verdict}"]
    with LogReader(path) as log:
        for lane, last in dict(acknowledged).items():
            if log.through("till", _EPOCH, lane) < last:
                problems.append(f"lane {lane} ends at {log.through('till', _EPOCH, lane)}")
    return problems
