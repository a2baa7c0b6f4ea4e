"""Builds of synthetic interactions: on DuckDB against pandas, in little memory, and on Spark.

From Parquet files of numbered interactions, and the DNA of their things, to every genome; each in
a process of its own, which counts from the files to the last genome. All give the same genomes:
their number and a checksum over all of them are compared.

- `build.vs_pandas.ratio`: their seconds over ours, 20 million interactions, a million customers,
  against pandas with the whole frame and one group-by. `build.vs_pandas_in_parts.ratio`: the same
  with the frame sorted and cut into small parts by hand; `build.vs_numpy.ratio`: so cut, and the
  groups made by hand in numpy, too. `build_pandas` says what else was tried.
- `build.{1,10,20,100}m.seconds`: the cost curve, the same way at each size, in parts of the same
  size; 100 million with --long only. `build.{10,100}m.linearity`: what an interaction costs there
  over what it costs at a tenth of them.
- `build.20m_2gb.seconds`: with at most 2 GB for DuckDB.
- `build.spark_20m.seconds`: two threads; where Java is (`make bench` installs Spark there).

Each figure is the best of three, all of that size in turns; with 2 GB and on Spark it is one run.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import ROOT, Figures

MILLION = 1_000_000
ROUNDS = 3
RIVALS = {"pandas": "vs_pandas", "pandas_parts": "vs_pandas_in_parts", "numpy": "vs_numpy"}


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


def best_of(engines: Sequence[str], count: int, folder: Path) -> dict[str, dict[str, Any]]:
    """In turns; of each engine the quickest run. All give the same genomes."""
    rounds: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
    for _ in range(ROUNDS):
        for engine, runs in rounds.items():
            runs.append(_run(engine, count, folder))
            _same(runs[-1], rounds[engines[0]][0])
    return {name: min(runs, key=lambda run: run["seconds"]) for name, runs in rounds.items()}


def _add(figures: Figures, millions: int, ours: dict[str, Any]) -> None:
    figures.add(f"build.{millions}m.seconds", ours["seconds"], "s")
    figures.add(f"build.{millions}m.cpu_seconds", ours["cpu"], "s")
    figures.add(f"build.{millions}m.mb", ours["mb"], "MiB")


def _twenty_millions(figures: Figures, folder: Path) -> None:
    found = best_of(["duckdb", *RIVALS], 20 * MILLION, folder)
    ours = found["duckdb"]
    _add(figures, 20, ours)
    for engine, name in RIVALS.items():
        figures.add(f"build.{name}.seconds", found[engine]["seconds"], "s")
        figures.add(f"build.{name}.mb", found[engine]["mb"], "MiB")
        figures.add(f"build.{name}.ratio", found[engine]["seconds"] / ours["seconds"], "ratio")
    little = _run("duckdb", 20 * MILLION, folder, "2GB")
    _same(little, ours)
    figures.add("build.20m_2gb.seconds", little["seconds"], "s")
    figures.add("build.20m_2gb.mb", little["mb"], "MiB")
    if importlib.util.find_spec("pyspark") and shutil.which("java"):
        print("  Spark, two threads: takes minutes ...", flush=True)
        spark = _run("spark", 20 * MILLION, folder)
        _same(spark, ours)
        figures.add("build.spark_20m.seconds", spark["seconds"], "s")
    else:
        print("  Spark needs Java 17 or later, which is not here: not measured")


def run(figures: Figures) -> None:
    """Take all figures."""
    costs: dict[int, float] = {}
    for millions in (1, 10, 20, 100) if figures.long else (1, 10, 20):
        with tempfile.TemporaryDirectory(prefix="build-bench-") as name:
            folder = Path(name)
            print(f"  {millions} million interactions ...", flush=True)
            _run("data", millions * MILLION, folder)
            if millions == 20:
                _twenty_millions(figures, folder)
                continue
            ours = best_of(["duckdb"], millions * MILLION, folder)["duckdb"]
            _add(figures, millions, ours)
            costs[millions] = ours["seconds"] / millions
            if millions // 10 in costs:
                ratio = costs[millions] / costs[millions // 10]
                figures.add(f"build.{millions}m.linearity", ratio, "ratio")
