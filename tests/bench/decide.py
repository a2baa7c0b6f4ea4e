"""One decision: a client, one thread, records written; by stage where the time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from edge_sdk import Context, EdgeClient
from edge_sdk.engine.decide import decide as engine_decide
from tests.bench.figures import Figures, durations
from tests.bench.stage import PLACEMENT, subject, write_bundle

ROUNDS = 5_000
STAGED = 2_000
CUSTOMERS = 1_000
CELL = "8a2a1072b59ffff"


def moments() -> list[Context]:
    """A hundred moments: what a kiosk sees in an hour."""
    return [
        Context(cell=CELL, activity=("browse", "wait", "pay")[n % 3], channel="screen")
        for n in range(100)
    ]


def measured(
    figures: Figures,
    name: str,
    folder: Path,
    *,
    offers: int,
    elsewhere: int = 0,
    rounds: int = ROUNDS,
) -> None:
    """Median and 99th percentile of decisions on a catalogue of this shape."""
    bundle = write_bundle(
        folder / f"{name}.bundle", offers=offers, elsewhere=elsewhere, genomes=CUSTOMERS
    )
    scenes = moments()
    customers = [subject(n).hex() for n in range(CUSTOMERS)]
    with EdgeClient(folder / name, bundle=bundle) as edge:
        if not edge.wait_ready(120):
            raise RuntimeError(f"not ready: {edge.status}")

        def decide(number: int) -> object:
            return edge.decide(
                scenes[number % len(scenes)], PLACEMENT, customer=customers[number % CUSTOMERS]
            )

        assert edge.decide(scenes[0], PLACEMENT, customer=customers[0]).offer is not None
        figures.quantiles(name, durations(decide, rounds))
        if not elsewhere:
            by_stage(figures, name, edge, scenes, customers)
        if name == "decide.1000":
            variants(figures, edge, scenes, customers)
            idle(figures, decide)


def noting(ends: list[tuple[str, int]]) -> Callable[[str], None]:
    """Writes down when each stage ended."""
    return lambda stage: ends.append((stage, time.perf_counter_ns()))


def by_stage(
    figures: Figures, name: str, edge: EdgeClient, scenes: list[Context], customers: list[str]
) -> None:
    """Where the engine's time goes: the median of each stage, timed between its ends."""
    room = edge._desk.room
    release = room.live.release
    taken: dict[str, list[int]] = {}
    for number in range(STAGED):
        visitor = room.customers.visitor(room.live, customers[number % CUSTOMERS])
        ends: list[tuple[str, int]] = [("", time.perf_counter_ns())]
        engine_decide(
            release,
            scenes[number % len(scenes)],
            PLACEMENT,
            genome=visitor.genome,
            consents=visitor.consents,
            stage=noting(ends),
        )
        for (_, before), (stage, after) in pairwise(ends):
            taken.setdefault(stage, []).append(after - before)
    for stage, times in taken.items():
        figures.add(f"{name}.stage.{stage}.p50_us", sorted(times)[len(times) // 2] / 1e3, "us")


def variants(
    figures: Figures, edge: EdgeClient, scenes: list[Context], customers: list[str]
) -> None:
    """The same decision with less in it: what each part adds to the median."""
    calls: dict[str, Callable[[int], object]] = {
        "context_only": lambda n: Context(cell=CELL, activity="browse", channel="screen"),
        "no_genome": lambda n: edge.decide(scenes[n % 100], PLACEMENT),
        "genome": lambda n: edge.decide(
            scenes[n % 100], PLACEMENT, customer=customers[n % CUSTOMERS]
        ),
        "three_slots": lambda n: edge.decide(
            scenes[n % 100], PLACEMENT, 3, customer=customers[n % CUSTOMERS]
        ),
    }
    for name, call in calls.items():
        taken = sorted(durations(call, 2_000))
        figures.add(f"decide.1000.with.{name}.p50_us", taken[len(taken) // 2] / 1e3, "us")


def idle(figures: Figures, decide: Callable[[int], object]) -> None:
    """A kiosk is nearly always idle: one decision after a second of nothing, caches cold."""
    taken = []
    for number in range(20):
        time.sleep(1.0)
        started = time.perf_counter_ns()
        decide(number)
        taken.append(time.perf_counter_ns() - started)
    figures.quantiles("decide.idle_1s", taken)


def run(figures: Figures) -> None:
    """1,000 and 10,000 offers near; 1,000 near in a catalogue of 100,000."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured(figures, "decide.1000", folder, offers=1_000)
        measured(figures, "decide.10000", folder, offers=10_000, rounds=2_000)
        measured(
            figures,
            "decide.100000_near_1000",
            folder,
            offers=1_000,
            elsewhere=99_000,
            rounds=2_000,
        )
