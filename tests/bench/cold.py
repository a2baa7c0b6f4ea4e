"""From process start to the first decision, and memory, against the bare imports."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from edge_sdk import EdgeClient
from tests.bench.figures import Figures
from tests.bench.stage import PLACEMENT, subject, write_bundle

ROUNDS = 9

RESIDENT = """
def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
"""
IMPORTS = (
    RESIDENT
    + """
import numpy, onnxruntime
import json; print(json.dumps(resident()))
"""
)
FIRST = (
    RESIDENT
    + """
from edge_sdk import Context, EdgeClient
edge = EdgeClient({store!r})
assert edge.wait_ready(60)
decision = edge.decide(Context(activity="browse"), {placement!r}, customer={customer!r})
assert decision.offer is not None, decision
import json; print(json.dumps(resident()), flush=True)
import os; os._exit(0)
"""
)


def timed(script: str) -> tuple[float, float]:
    """Seconds of a fresh process, and the mebibytes that it says are resident."""
    import time

    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, json.loads(done.stdout)


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
        timed(IMPORTS), timed(first)
        pairs = [(timed(IMPORTS), timed(first)) for _ in range(ROUNDS)]
    imports = sorted(pair[0][0] for pair in pairs)[ROUNDS // 2]
    cold = sorted(pair[1][0] for pair in pairs)[ROUNDS // 2]
    figures.add("cold.imports_ms", imports * 1e3, "ms")
    figures.add("cold.first_decision_ms", cold * 1e3, "ms")
    figures.add("cold.ratio_to_imports", cold / imports, "ratio")
    figures.add("cold.rss_above_imports_mb", pairs[-1][1][1] - pairs[-1][0][1], "MiB")
