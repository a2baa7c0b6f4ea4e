"""How figures are taken, shown and kept."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "results.jsonl"


@dataclass
class Figures:
    """Collects the figures of one run; each is printed and appended to build/results.jsonl."""

    taken: dict[str, tuple[float, str]] = field(default_factory=dict)
    long: bool = False
    """Whether to take those, too, that need many minutes."""

    def add(self, name: str, value: float, unit: str) -> None:
        """Record one figure."""
        value = float(f"{value:.4g}")
        self.taken[name] = (value, unit)
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"name": name, "value": value, "unit": unit}) + "\n")
        print(f"  {name:<44} {value:>12g} {unit}", flush=True)

    def quantiles(self, name: str, nanoseconds: Sequence[int], unit: str = "us") -> None:
        """Record the median and the 99th percentile of some durations."""
        scale = {"us": 1e3, "ms": 1e6}[unit]
        ordered = sorted(nanoseconds)
        self.add(f"{name}.p50_{unit}", ordered[len(ordered) // 2] / scale, unit)
        self.add(f"{name}.p99_{unit}", ordered[int(len(ordered) * 0.99)] / scale, unit)


def durations(call: Callable[[int], object], rounds: int, warm_up: int = 200) -> list[int]:
    """Nanoseconds of each of `rounds` calls, after a warm-up; the call gets the round's number."""
    for number in range(warm_up):
        call(number)
    taken = []
    for number in range(rounds):
        started = time.perf_counter_ns()
        call(number)
        taken.append(time.perf_counter_ns() - started)
    return taken


def machine() -> str:
    """One line about where the figures were taken."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()}, Python {platform.python_version()}"
