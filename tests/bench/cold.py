"""From process start to the first decision, and memory, against the bare imports.

Both kinds of process are started in turn on one processor, each from compiled bytecode, as an
installed package has it; the clock stops when a child says that it is done. Wall time says what a
user waits, processor time the same where the machine is shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from edge_sdk import EdgeClient
from tests.bench.figures import Figures
from tests.bench.stage import PLACEMENT, subject, write_bundle

ROUNDS = 15

# The line that stops the clock, then what is resident, in mebibytes.
SAY = """
print("done", flush=True)
for line in open("/proc/self/status"):
    if line.startswith("VmRSS"):
        print(int(line.split()[1]) / 1024, flush=True)
import os; os._exit(0)
"""
IMPORTS = "import numpy, onnxruntime" + SAY
FIRST = (
    """
from edge_sdk import Context, EdgeClient
edge = EdgeClient({store!r})
assert edge.wait_ready(60)
decision = edge.decide(Context(activity="browse"), {placement!r}, customer={customer!r})
assert decision.offer is not None and decision.genome_used, decision
assert decision.offer.content["title"]
"""
    + SAY
)


class Start(NamedTuple):
    """One process: seconds until it was done, of the processor, and mebibytes resident."""

    wall: float
    cpu: float
    resident: float


def started(script: str, environment: dict[str, str]) -> Start:
    """Run a script in a fresh process. Raises RuntimeError where it fails."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    done = child.stdout.readline()
    wall = time.perf_counter() - began
    resident = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if done != "done\n" or child.returncode:
        raise RuntimeError(f"a process failed: {done}{resident}")
    return Start(wall, used.ru_utime + used.ru_stime, json.loads(resident))


def middle(starts: list[Start]) -> Start:
    """The median of each number."""
    return Start(*(sorted(values)[len(values) // 2] for values in zip(*starts, strict=True)))


def run(figures: Figures) -> None:
    """Both processes in turn; the median of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = write_bundle(folder / "cold.bundle", offers=1_000, genomes=10_000)
        store = folder / "store"
        with EdgeClient(store, bundle=bundle) as edge:
            if not edge.wait_ready(60):
                raise RuntimeError(f"not ready: {edge.status}")
        first = FIRST.format(store=str(store), placement=PLACEMENT, customer=subject(0).hex())
        environment = dict(os.environ, PYTHONPYCACHEPREFIX=str(folder / "bytecode"))
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(processors)})
        try:
            for script in (IMPORTS, first, first):  # writes the bytecode, fills the disk's cache
                started(script, environment)
            pairs = [
                (started(IMPORTS, environment), started(first, environment)) for _ in range(ROUNDS)
            ]
        finally:
            os.sched_setaffinity(0, processors)
    imports, cold = (middle(list(side)) for side in zip(*pairs, strict=True))
    figures.add("cold.imports_ms", imports.wall * 1e3, "ms")
    figures.add("cold.first_decision_ms", cold.wall * 1e3, "ms")
    figures.add("cold.ratio_to_imports", cold.wall / imports.wall, "ratio")
    figures.add("cold.imports_cpu_ms", imports.cpu * 1e3, "ms")
    figures.add("cold.first_decision_cpu_ms", cold.cpu * 1e3, "ms")
    figures.add("cold.cpu_ratio_to_imports", cold.cpu / imports.cpu, "ratio")
    figures.add("cold.rss_above_imports_mb", cold.resident - imports.resident, "MiB")
