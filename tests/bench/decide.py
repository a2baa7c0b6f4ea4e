"""One decision: a client, one thread, one core, records written; plain and tuned side by side.

Every measurement is a process of its own, pinned to one core; plain and tuned (`tune_process`)
processes take turns, and a figure is the median of theirs. Catalogues of a million offers are
written once and measured once each way. What idles does so on a core of its own, plain beside
tuned.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.deciding import CUSTOMERS
from tests.bench.figures import ROOT, Figures
from tests.bench.stage import write_bundle

TURNS = 3
ROUNDS = 4_000
FEWER = 2_000
IDLE_ROUNDS = 150
GAP_S = 1.0

Measure = tuple[str, dict[str, Any]]
Taken = dict[str, tuple[float, str]]


def measured(bundle: Path, *measures: Measure, tuned: bool = False, core: int = 0) -> Taken:
    """What a process of its own says about a client on this bundle."""
    plan = {"bundle": str(bundle), "tuned": tuned, "core": core, "measures": measures}
    command = [sys.executable, "-m", "tests.bench.deciding", json.dumps(plan)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name: (value, unit) for name, value, unit in map(json.loads, done.stdout.splitlines())}


def in_turns(bundle: Path, *measures: Measure, turns: int = TURNS) -> tuple[Taken, Taken]:
    """The medians of plain and of tuned processes that take turns."""
    both: tuple[list[Taken], list[Taken]] = ([], [])
    for _ in range(turns):
        for tuned, runs in enumerate(both):
            runs.append(measured(bundle, *measures, tuned=bool(tuned)))
    return median(both[0]), median(both[1])


def idling(figures: Figures, bundle: Path) -> None:
    """After a second of nothing: plain and tuned at once, each on a core of its own, and beside
    them what only wakes up, which is the machine's part of it; no two of them at the same moment.
    Medians of turns."""
    kinds = (("", "idle", False), ("tuned.", "idle", True), ("waking.", "waking", False))

    def one(at: int) -> Taken:
        _, measure, tuned = kinds[at]
        plan = {"rounds": IDLE_ROUNDS, "gap_s": GAP_S, "phase": at / len(kinds)}
        return measured(bundle, (measure, plan), tuned=tuned, core=at)

    with ThreadPoolExecutor(len(kinds)) as pool:
        turns = [list(pool.map(one, range(len(kinds)))) for _ in range(TURNS)]
    for (kind, _, _), runs in zip(kinds, zip(*turns, strict=True), strict=True):
        for figure, taken in median(list(runs)).items():
            figures.add(f"decide.{kind}idle_1s.{figure}", *taken)


def median(runs: list[Taken]) -> Taken:
    """Of each figure the median of the runs."""
    return {
        name: (statistics.median(run[name][0] for run in runs), unit)
        for name, (_, unit) in runs[0].items()
    }


def say(figures: Figures, name: str, plain: Taken, tuned: Taken, *wanted: str) -> None:
    """Take the figures of both."""
    for figure in wanted:
        figures.add(f"decide.{name}.{figure}", *plain[figure])
        figures.add(f"decide.tuned.{name}.{figure}", *tuned[figure])


def near(
    figures: Figures, folder: Path, name: str, offers: int, elsewhere: int = 0, turns: int = TURNS
) -> Path:
    """Latencies on a catalogue of this shape."""
    bundle = write_bundle(
        folder / f"{name}.bundle", offers=offers, elsewhere=elsewhere, genomes=CUSTOMERS
    )
    rounds = ROUNDS if name == "1000" else FEWER
    plain, tuned = in_turns(bundle, ("latency", {"offers": offers, "rounds": rounds}), turns=turns)
    wanted = ["p50_us", "p99_us"]
    if name == "1000":
        wanted += ["first_us", "new_customer.p50_us"]
    say(figures, name, plain, tuned, *wanted)
    if not elsewhere:
        for kind, taken in (("", plain), ("tuned.", tuned)):
            figures.add(f"decide.{kind}{name}.matvec.p50_us", *taken["matvec.p50_us"])
            ratio = taken["p50_us"][0] / taken["matvec.p50_us"][0]
            key = "vs_matvec" if name == "1000" else f"{name}.vs_matvec"
            figures.add(f"decide.{kind}{key}.ratio", ratio, "ratio")
        inside = measured(bundle, ("stages", {"rounds": FEWER}))
        for figure, value in inside.items():
            figures.add(f"decide.{name}.{figure}", *value)
    return bundle


def run(figures: Figures) -> None:
    """1,000 and 10,000 offers near; 1,000 near in catalogues of 100,000 and of 1,000,000; less and
    more in a decision; eight threads; and after a second of nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        thousand = near(figures, folder, "1000", 1_000)
        inside = measured(thousand, ("variants", {"rounds": FEWER}))
        for figure, value in inside.items():
            figures.add(f"decide.1000.{figure}", *value)
        plain, tuned = in_turns(thousand, ("threads", {"rounds": FEWER}))
        say(figures, "threads_8", plain, tuned, "decisions_per_s", "throughput_ratio")
        near(figures, folder, "10000", 10_000)
        near(figures, folder, "100000_near_1000", 1_000, 99_000)
        near(figures, folder, "1000000_near_1000", 1_000, 999_000, turns=1)
        idling(figures, thousand)
