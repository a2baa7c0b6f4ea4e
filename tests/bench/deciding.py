"""Decisions measured in a process of their own, on one core: what `tests.bench.decide` starts.

A client opened from a bundle, one thread, records written. Where two things are compared they are
measured in turns, a few of each, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from edge_sdk import Context, EdgeClient, tune_process
from edge_sdk.engine.decide import decide as engine_decide
from tests.bench.stage import PLACEMENT, subject

CUSTOMERS: Final = 1_000
CELL: Final = "8a2a1072b59ffff"
BEST: Final = 10
DIMENSION: Final = 72
_TURN: Final = 100
_WARM_UP: Final = 200
_READY_S: Final = 900.0

Decide = Callable[[int], object]
#: (name, value, unit)
Figure = tuple[str, float, str]


def moments() -> list[Context]:
    """A hundred moments: what a kiosk sees in an hour."""
    return [
        Context(cell=CELL, activity=("browse", "wait", "pay")[n % 3], channel="screen")
        for n in range(100)
    ]


class Scene:
    """An open client with what it is asked."""

    def __init__(self, edge: EdgeClient) -> None:
        self.edge = edge
        self.contexts = moments()
        self.customers = [subject(number).hex() for number in range(CUSTOMERS)]

    def decide(self, number: int, slots: int = 1) -> object:
        """The decision of this number."""
        return self.edge.decide(
            self.contexts[number % len(self.contexts)],
            PLACEMENT,
            slots,
            customer=self.customers[number % CUSTOMERS],
        )


@contextmanager
def scene(bundle: Path, *, tuned: bool) -> Iterator[Scene]:
    """A client that is ready; the process is tuned where that is asked for."""
    if tuned:
        tune_process()
    with tempfile.TemporaryDirectory() as store, EdgeClient(store, bundle=bundle) as edge:
        if not edge.wait_ready(_READY_S):
            raise RuntimeError(f"not ready: {edge.status}")
        if tuned:
            tune_process()
        yield Scene(edge)


def durations(call: Decide, begin: int, end: int) -> list[int]:
    """Nanoseconds of each of these calls; the call gets its number."""
    taken = []
    for number in range(begin, end):
        started = time.perf_counter_ns()
        call(number)
        taken.append(time.perf_counter_ns() - started)
    return taken


def quantile(taken: list[int], share: float) -> float:
    """Microseconds."""
    return sorted(taken)[int(len(taken) * share)] / 1e3


def latency(on: Scene, offers: int, rounds: int) -> Iterator[Figure]:
    """The first decision, the first for each customer, then many, in turns with the bare arithmetic
    of their scores."""
    yield "first_us", quantile(durations(on.decide, 0, 1), 0.5), "us"
    yield "new_customer.p50_us", quantile(durations(on.decide, 1, CUSTOMERS), 0.5), "us"
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((offers, DIMENSION)).astype(np.float32)
    query = rng.standard_normal(DIMENSION).astype(np.float32)

    def bare(number: int) -> object:
        return np.argpartition(vectors @ query, offers - BEST)

    durations(on.decide, 0, _WARM_UP)
    ours: list[int] = []
    theirs: list[int] = []
    for begin in range(0, rounds, _TURN):
        ours += durations(on.decide, begin, begin + _TURN)
        theirs += durations(bare, 0, _TURN)
    yield "p50_us", quantile(ours, 0.5), "us"
    yield "p99_us", quantile(ours, 0.99), "us"
    yield "matvec.p50_us", quantile(theirs, 0.5), "us"
    yield "matvec.p99_us", quantile(theirs, 0.99), "us"


def stages(on: Scene, rounds: int) -> Iterator[Figure]:
    """Where the engine's time goes: the median of each stage, timed between its ends."""
    room = on.edge._desk.room
    release = room.live.release
    taken: dict[str, list[int]] = {}
    durations(on.decide, 0, CUSTOMERS + _WARM_UP)
    for number in range(rounds):
        visitor = room.customers.visitor(room.live, on.customers[number % CUSTOMERS])
        ends: list[tuple[str, int]] = [("", time.perf_counter_ns())]
        engine_decide(
            release,
            on.contexts[number % len(on.contexts)],
            PLACEMENT,
            genome=visitor.genome,
            consents=visitor.consents,
            stage=noting(ends),
        )
        for (_, before), (stage, after) in pairwise(ends):
            taken.setdefault(stage, []).append(after - before)
    for stage, times in taken.items():
        yield f"stage.{stage}.p50_us", quantile(times, 0.5), "us"


def noting(ends: list[tuple[str, int]]) -> Callable[[str], None]:
    """Writes down when each stage ended."""
    return lambda stage: ends.append((stage, time.perf_counter_ns()))


def variants(on: Scene, rounds: int) -> Iterator[Figure]:
    """The same decision with less or more in it, in turns."""
    contexts = on.contexts
    calls: dict[str, Decide] = {
        "context_only": lambda n: Context(cell=CELL, activity="browse", channel="screen"),
        "no_genome": lambda n: on.edge.decide(contexts[n % len(contexts)], PLACEMENT),
        "genome": on.decide,
        "three_slots": lambda n: on.decide(n, 3),
    }
    durations(on.decide, 0, CUSTOMERS + _WARM_UP)
    taken: dict[str, list[int]] = {name: [] for name in calls}
    for begin in range(0, rounds, _TURN):
        for name, call in calls.items():
            taken[name] += durations(call, begin, begin + _TURN)
    for name, times in taken.items():
        yield f"with.{name}.p50_us", quantile(times, 0.5), "us"


def idle(on: Scene, rounds: int, gap_s: float, phase: float) -> Iterator[Figure]:
    """Decisions that arrive after `gap_s` of nothing: their times are fixed beforehand, and each
    counts from its own, so that a late waking counts, too. `phase` is the share of the gap by
    which they come after others', on the clock that all processes share: they never meet."""
    durations(on.decide, 0, CUSTOMERS + _WARM_UP)
    yield from _when_due(on.decide, rounds, gap_s, phase)


def waking(on: Scene, rounds: int, gap_s: float, phase: float) -> Iterator[Figure]:
    """What of that is the machine's: it wakes, and nothing is decided."""
    del on
    yield from _when_due(lambda number: None, rounds, gap_s, phase)


def _when_due(
    do: Callable[[int], object], rounds: int, gap_s: float, phase: float
) -> Iterator[Figure]:
    taken = []
    gap = round(gap_s * 1e9)
    due = (time.perf_counter_ns() // gap + 2) * gap + round(phase * gap)
    for number in range(rounds):
        time.sleep(max(0, due - time.perf_counter_ns()) / 1e9)
        do(number)
        taken.append(time.perf_counter_ns() - due)
        due += gap
    yield "p50_us", quantile(taken, 0.5), "us"
    yield "p99_us", quantile(taken, 0.99), "us"


def threads(on: Scene, rounds: int, many: int = 8) -> Iterator[Figure]:
    """How many decisions a second `many` threads make together, and one alone, in turns."""
    durations(on.decide, 0, CUSTOMERS + _WARM_UP)

    def together(number: int) -> float:
        work = [
            threading.Thread(
                target=durations, args=(on.decide, at * 97, at * 97 + rounds // number)
            )
            for at in range(number)
        ]
        began = time.perf_counter()
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        return rounds / (time.perf_counter() - began)

    pairs = sorted((together(many), together(1)) for _ in range(7))
    ratios = sorted(ours / alone for ours, alone in pairs)
    yield "decisions_per_s", pairs[len(pairs) // 2][0], "1/s"
    yield "throughput_ratio", ratios[len(ratios) // 2], "ratio"


def main() -> None:
    """One measurement: a line of JSON for each figure."""
    plan = json.loads(sys.argv[1])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[plan["core"] % len(cores)]})
    measures: dict[str, Callable[..., Iterator[Figure]]] = {
        "latency": latency,
        "stages": stages,
        "variants": variants,
        "idle": idle,
        "waking": waking,
        "threads": threads,
    }
    with scene(Path(plan["bundle"]), tuned=plan["tuned"]) as on:
        for name, arguments in plan["measures"]:
            for figure in measures[name](on, **arguments):
                print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
