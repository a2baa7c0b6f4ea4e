"""Builds of synthetic interactions: on DuckDB against pandas, in little memory, and on Spark.

From Parquet files of numbered interactions, and the DNA of their things, to every genome; each in
a process of its own, which counts from the files to the last genome. All give the same genomes:
their number and a checksum over all of them are compared.

- `build.vs_pandas.ratio`: pandas' seconds over ours, 20 million interactions, a million customers;
  `build.vs_pandas_in_parts.ratio`: the same with the frame sorted and cut into parts by hand.
- `build.20m_2gb.seconds`: with at most 2 GB for DuckDB.
- `build.{1,10,100}m.seconds`: the cost curve; 100 million with --long only.
- `build.spark_20m.seconds`: two threads; where Spark is installed (`make test-spark` does it).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.figures import ROOT, Figures

MILLION = 1_000_000
ROUNDS = 3


def _run(engine: str, count: int, folder: Path, memory: str = "") -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.build_engines", engine, str(count), str(folder)]
    done = subprocess.run(
        [*command, memory], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> None:
    what = ("sums", "customers", "checksum")
    assert [one[name] for name in what] == [other[name] for name in what], "genomes differ"


def _against_pandas(figures: Figures, folder: Path) -> dict[str, Any]:
    """In turns; a figure is the best of each."""
    rounds: dict[str, list[dict[str, Any]]] = {"duckdb": [], "pandas": [], "pandas_parts": []}
    for _ in range(ROUNDS):
        for engine, runs in rounds.items():
            runs.append(_run(engine, 20 * MILLION, folder))
            _same(runs[-1], rounds["duckdb"][0])
    best = {name: min(runs, key=lambda run: run["seconds"]) for name, runs in rounds.items()}
    ours = best["duckdb"]
    figures.add("build.20m.seconds", ours["seconds"], "s")
    figures.add("build.20m.cpu_seconds", ours["cpu"], "s")
    figures.add("build.20m.mb", ours["mb"], "MiB")
    for name, engine in (("vs_pandas", "pandas"), ("vs_pandas_in_parts", "pandas_parts")):
        figures.add(f"build.{name}.seconds", best[engine]["seconds"], "s")
        figures.add(f"build.{name}.mb", best[engine]["mb"], "MiB")
        figures.add(f"build.{name}.ratio", best[engine]["seconds"] / ours["seconds"], "ratio")
    return ours


def run(figures: Figures) -> None:
    """Take all figures."""
    with tempfile.TemporaryDirectory(prefix="build-bench-") as name:
        folder = Path(name)
        _run("data", 20 * MILLION, folder)
        ours = _against_pandas(figures, folder)
        little = _run("duckdb", 20 * MILLION, folder, "2GB")
        _same(little, ours)
        figures.add("build.20m_2gb.seconds", little["seconds"], "s")
        figures.add("build.20m_2gb.mb", little["mb"], "MiB")
        if importlib.util.find_spec("pyspark") and shutil.which("java"):
            spark = _run("spark", 20 * MILLION, folder)
            _same(spark, ours)
            figures.add("build.spark_20m.seconds", spark["seconds"], "s")
        else:
            print("  Spark is not installed (make test-spark does it): not measured")
        for millions in (1, 10, 100) if figures.long else (1, 10):
            _run("data", millions * MILLION, folder)
            found = _run("duckdb", millions * MILLION, folder)
            figures.add(f"build.{millions}m.seconds", found["seconds"], "s")
            figures.add(f"build.{millions}m.mb", found["mb"], "MiB")
