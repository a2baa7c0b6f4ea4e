"""What two million customers cost eight processes that decide from one store, beyond none.

Memory is what the processes have in their proportional share (PSS): a page that all eight have
mapped counts once. Each process looks up customers at random before it is measured.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from edge_sdk.dna.columns import Columns, Sizes
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.genome_files import Files, write_files
from edge_sdk.store.meta import set_meta
from examples.datasets import DataSetMissing
from genome_edge.v1 import dna_pb2
from tests.bench import journey
from tests.bench.figures import Figures

CUSTOMERS = 2_000_000
WORKERS = 8
LOOKUPS = 2_000
_KINDS = 50_000
_LINEAGE = dna_pb2.Lineage(vocabulary_lineage=bytes(16), schema_epoch=1, quantiser=2)


def run(figures: Figures) -> None:
    """Eight processes on an empty store, then on a full one."""
    try:
        lines = journey.read_lines()
    except DataSetMissing as missing:
        print(f"  left out: {missing}")
        return
    kinds = journey.columns_of(list(journey.customers(lines, _KINDS)))
    with tempfile.TemporaryDirectory() as name:
        none = measure(Path(name) / "none", [])
        subjects = fill(Path(name) / "full", kinds)
        full = measure(Path(name) / "full", subjects)
    figures.add("store.workers_8_mb", (full - none) / 1e6, "MB")


def fill(path: Path, kinds: Columns) -> list[bytes]:
    """Put two million customers into a store, and as many ids of an app; returns some subjects."""
    store = DeviceStore.open(path)
    rng = np.random.default_rng(9)
    high = np.sort(rng.integers(0, 1 << 64, CUSTOMERS, np.uint64))
    low = rng.integers(0, 1 << 64, CUSTOMERS, np.uint64)
    times = CUSTOMERS // len(kinds)
    blocks = (
        Columns(
            high[at : at + len(kinds)],
            low[at : at + len(kinds)],
            kinds.consents,
            kinds.as_of_hours,
            kinds.starts,
            kinds.indices,
            kinds.codes,
        )
        for at in range(0, CUSTOMERS, len(kinds))
    )
    sizes = Sizes(CUSTOMERS, times * len(kinds.indices), CUSTOMERS, wide=False)
    hashes = np.sort(rng.integers(0, 1 << 64, CUSTOMERS, np.uint64))
    lookups = (hashes, hashes, high, low)
    files = write_files(path / "genomes", _LINEAGE, sizes, blocks, [lookups])
    put(store, files)
    store.close()
    some = np.random.default_rng(3).choice(CUSTOMERS, WORKERS * LOOKUPS)
    return [int(high[at]).to_bytes(8, "big") + int(low[at]).to_bytes(8, "big") for at in some]


def put(store: DeviceStore, files: Files) -> None:
    """Make files the current ones, as a commit of all rows does."""
    from edge_sdk.store.genomes import GenomeShelf

    with store.write() as connection:
        lineage = _LINEAGE.SerializeToString()
        GenomeShelf(store.database, store.path).replace(connection, files, genome_lineage=lineage)
        set_meta(connection, lookup_key=bytes(32))


def measure(path: Path, subjects: list[bytes]) -> int:
    """Bytes that eight processes have in all, each with its share of the lookups done."""
    context = multiprocessing.get_context("spawn")
    DeviceStore.open(path).close()
    shares = [subjects[number::WORKERS] for number in range(WORKERS)]
    pipes = [context.Pipe() for _ in shares]
    workers = [
        context.Process(target=work, args=(path, share, pipe[1]))
        for share, pipe in zip(shares, pipes, strict=True)
    ]
    for worker in workers:
        worker.start()
    for mine, _ in pipes:
        mine.recv()
    total = sum(proportional(worker.pid or 0) for worker in workers)
    for mine, _ in pipes:
        mine.send(None)
    for worker in workers:
        worker.join()
    return total


def work(path: Path, subjects: list[bytes], pipe: Connection) -> None:
    """One process: looks customers up, says so, and waits until it was measured."""
    store = DeviceStore.open(path)
    view = store.genomes()
    random.Random(1).shuffle(subjects)
    if not all(view.row(subject) for subject in subjects):
        raise RuntimeError("a customer is missing")
    for number in range(len(subjects)):
        view.subject_of(f"nobody {number}")
    pipe.send(len(subjects))
    pipe.recv()
    store.close()


def proportional(pid: int) -> int:
    """The proportional set size of a process, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not say")
