"""One build of synthetic interactions by one engine, in a process of its own.

    python -m tests.bench.build_engines ENGINE INTERACTIONS FOLDER [MEMORY]

prints seconds of the clock and of the processor from the files to the last genome, the most memory
that the process had, how many sums there are, and a checksum over all of them that no order
changes. `data` makes the files; `duckdb`, `pandas`, `pandas_parts`, `numpy` and `spark` aggregate
them.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tests.bench.build_data import SCHEMA, Made, make

Ints = npt.NDArray[np.int64]
Genomes = tuple[Ints, Ints, Ints, Ints, Ints]
"""Customer, marker and sum of each marker; customer and newest hour of each customer."""

_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Checksum:
    """Sums over all genomes, whatever their order."""

    def __init__(self) -> None:
        self.sums = 0
        self.customers = 0
        self.value = 0

    def add(self, genomes: Genomes) -> None:
        """Take some genomes in, each customer once."""
        customer, marker, state, whose, newest = genomes
        self.sums += len(state)
        self.customers += len(whose)
        whose = whose.astype(np.int64) << 20
        for key, value in ((customer.astype(np.int64) << 20 | marker, state), (whose, newest)):
            mixed = _mixed(key.astype(np.uint64)) * (_mixed(value.astype(np.uint64)) | np.uint64(1))
            self.value = (self.value + int(mixed.sum(dtype=np.uint64))) % 2**64


def _mixed(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    for shift, factor in zip((30, 27), _MIX, strict=True):
        value = (value ^ (value >> np.uint64(shift))) * factor
    return value ^ (value >> np.uint64(31))


def on_duckdb(made: Made, folder: Path, memory: str) -> Iterator[Genomes]:
    """As a build does it."""
    from genome_server.genomes.aggregation import Aggregation

    path = folder / "sums.duckdb"
    with Aggregation(path, SCHEMA, interactions=[made.path], memory=memory) as sums:
        sums.add_dna(made.dna)
        for part in sums.summed():
            whose = np.repeat(part.who, np.diff(part.starts))
            yield whose, part.markers, part.states, part.who, part.newest
    path.unlink()


def on_pandas(made: Made, **how: bool) -> Iterator[Genomes]:
    """As `build_pandas` does it."""
    from tests.bench.build_pandas import states

    for sums, newest in states(made.path, made.dna, made.markers, SCHEMA, **how):
        customer, marker = np.divmod(sums.index.to_numpy(), made.markers)
        yield customer, marker, sums.to_numpy(), newest.index.to_numpy(), newest.to_numpy()


def on_spark(made: Made, folder: Path, memory: str) -> Iterator[Genomes]:
    """With two threads, from files to files."""
    import warnings

    from pyspark.sql import SparkSession

    from genome_server.genomes.spark import SparkSums

    warnings.simplefilter("ignore")
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", memory or "4g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(folder))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.log.level", "ERROR")
        .config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        .getOrCreate()
    )
    sums = SparkSums(session, SCHEMA)
    sums.attach("interactions", session.read.parquet(str(made.path)))
    sums.put("dna", made.dna)
    sums.settle()
    sums.states().write.parquet(str(folder / "states"))
    sums.newest().write.parquet(str(folder / "newest"))
    session.stop()
    nothing = np.empty(0, np.int64)
    for name in ("states", "newest"):
        for file in sorted((folder / name).glob("*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(2_000_000):
                found = {name: batch.column(name).to_numpy() for name in batch.schema.names}
                customer = found["who"]
                if name == "states":
                    yield customer, found["marker"], found["state"], nothing, nothing
                else:
                    yield nothing, nothing, nothing, customer, found["newest"]
        shutil.rmtree(folder / name)


def main() -> None:
    """Make the files or aggregate them; print what it took."""
    engine, count, folder, memory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    if engine == "data":
        make(folder, count)
        return
    made = Made.read(folder, count)
    begun: dict[str, Any] = {
        "duckdb": lambda: on_duckdb(made, folder, memory),
        "pandas": lambda: on_pandas(made),
        "pandas_parts": lambda: on_pandas(made, in_parts=True),
        "numpy": lambda: on_pandas(made, in_parts=True, by_sorting=True),
        "spark": lambda: on_spark(made, folder, memory),
    }
    checksum = Checksum()
    clock, used = time.perf_counter(), _cpu()
    seconds = cpu = 0.0
    for genomes in begun[engine]():
        seconds += time.perf_counter() - clock
        cpu += _cpu() - used
        checksum.add(genomes)
        clock, used = time.perf_counter(), _cpu()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu": cpu,
                "mb": most,
                "sums": checksum.sums,
                "customers": checksum.customers,
                "checksum": checksum.value,
            }
        )
    )


def _cpu() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
